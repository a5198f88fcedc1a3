"""The files of a finished run: the checkpoint, training_info.json, the report and the model card."""

from __future__ import annotations

import importlib.metadata
import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from pipeline.core.files import write_json
from pipeline.core.tables import escape_markdown, markdown_table
from pipeline.data.arrow_store import Store
from pipeline.data.column_formats import ColumnFormats, common_formats
from pipeline.data.frequency import timestamps
from pipeline.evaluation.comparison import Comparison
from pipeline.forecasting.plots import forecast_figure, save_figure
from pipeline.models.checkpoint import TRAINING_INFO
from pipeline.training.result import TrainingResult
from pipeline.windows.seen import seen_steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LIBRARIES = ("torch", "transformers", "accelerate", "chronos-forecasting", "peft", "numpy")
_COLUMNS = ("candidate", "WQL", "MASE", "loss")
_CAPTIONS = {
    "training.png": "Training loss, and the validation scores during training relative to the base's.",
    "forecasts.png": "Forecasts of validation windows by the selected model and, if it is another, the base.",
}
_INK, _MUTED, _BLUE = "#1f2430", "#8a8f98", "#3b6fb6"


def write_files(result: TrainingResult, folder: Path, final_folder: Path) -> None:
    """Write the checkpoint and everything that is saved beside it.

    Args:
        folder: an existing folder to write to.
        final_folder: where the files are moved afterwards, which the report names.
    """
    from pipeline.models.adapt import save_adapter

    result.model.save_pretrained(folder)
    if result.adapter is not None:
        save_adapter(result.adapter, folder / "adapter")
    info = build_training_info(result)
    pictures = {}
    if result.history:
        pictures["training.png"] = curve_figure(result.history)
    if result.drawn:
        pictures["forecasts.png"] = forecast_figure(result.drawn)
    for name, figure in pictures.items():
        save_figure(figure, folder / name)
    texts = {
        "report.md": run_report(info, result.run.recipe.description, list(pictures), final_folder / "config.yaml"),
        "config.yaml": yaml.safe_dump(info["config"], sort_keys=False),
        "README.md": model_card(info),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    write_json(folder / TRAINING_INFO, info)


def build_training_info(result: TrainingResult) -> dict[str, Any]:
    """Return the content of training_info.json."""
    run, config = result.run, result.run.effective_config
    # These two were asked for once, and done.
    config = replace(config, training=replace(config.training, overwrite=False, push_to_hub=None))
    return {
        "verdict": result.verdict,
        "base_model": run.base.name,
        "steps": run.recipe.steps,
        "learning_rate": run.recipe.learning_rate,
        "candidates": [candidate.row() for candidate in result.selection.candidates] if result.selection else [],
        "comparison": result.comparison and asdict(result.comparison),
        "refit": result.refit and result.refit.row(),
        "flip": result.flip,
        "forgetting": asdict(result.forgetting) if isinstance(result.forgetting, Comparison) else None,
        "history": result.history,
        "identity": result.identity,
        "horizon": run.windows.prediction_length,
        "data": [describe_store(store) for store in run.windows.stores()],
        "seen": seen_steps(run.windows.stores(), result.identity["test_length"], run.seen_by_base),
        "validation windows seen by the base": run.seen_validation,
        "variates": asdict(run.windows.variates),
        "formats": _formats(run.windows.stores()).to_dict(),
        "config": config.as_dict(),
        "versions": {library: importlib.metadata.version(library) for library in _LIBRARIES},
    }


def _formats(stores: Sequence[Store]) -> ColumnFormats:
    """Return the formats of the columns and the frequency that all stores share."""
    freqs = {store.freq for store in stores}
    return replace(common_formats([store.formats for store in stores]), freq=freqs.pop() if len(freqs) == 1 else None)


def describe_store(store: Store) -> dict[str, Any]:
    """Return the number of series, the frequency, the first and the last timestamp, and whether they are in memory."""
    ends = timestamps(store.starts, store.freq, np.maximum(store.lengths - 1, 0)[:, None])[:, 0]
    return {
        "series": len(store),
        "freq": store.freq,
        "from": str(store.starts.min()),
        "to": str(ends.max()),
        "in memory": store.path is None,
    }


def model_card(info: dict[str, Any]) -> str:
    """Return the model card of a trained checkpoint, in Markdown.

    Args:
        info: the content of training_info.json.
    """
    config = info["config"]
    facts = {
        "base model": info["base_model"],
        "steps": info["steps"],
        "learning rate": f"{info['learning_rate']:g}",
        "batch size": config["training"]["batch_size"],
        "method": config["training"]["method"],
        "seed": config["chronos"]["seed"],
        "forecasts averaged with flip": "yes" if info["flip"] else "no",
    }
    rows = [{"": key, "value": value} for key, value in facts.items()]
    return (
        "---\nlibrary_name: chronos-forecasting\npipeline_tag: time-series-forecasting\n---\n\n"
        f"# Chronos model fine-tuned from {escape_markdown(info['base_model'])}\n\n{info['verdict']}\n\n"
        f"{markdown_table(rows, ('', 'value'))}\n"
        + _candidates(info)
        + "## Use\n\n```python\nfrom chronos import BaseChronosPipeline\n\n"
        'pipeline = BaseChronosPipeline.from_pretrained("path/of/this/folder")\n```\n'
    )


def run_report(info: dict[str, Any], recipe: str, pictures: Sequence[str], config: Path) -> str:
    """Return the report of a training run, in Markdown.

    Args:
        info: the content of training_info.json.
        recipe: a sentence on the steps and the learning rate.
        pictures: names of PNG files beside the report: `training.png`, `forecasts.png`.
        config: file of the configuration.
    """
    drawn = "".join(f"![{_CAPTIONS[name]}]({name})\n\n{_CAPTIONS[name]}\n\n" for name in pictures)
    rates = [entry["windows_per_second"] for entry in info["history"] if "windows_per_second" in entry]
    speed = f"{np.median(rates):,.0f} windows a second (median)." if rates else ""
    versions = [{"library": name, "version": version} for name, version in info["versions"].items()]
    return (
        f"# Training run from {escape_markdown(info['base_model'])}\n\n{info['verdict']}\n\n"
        f"{recipe[0].upper()}{recipe[1:]}. {speed}\n\n{drawn}{_candidates(info)}"
        f"## Repeat the run\n\n{_repetition(info, config)}"
        "Run it in the folder in which the run was started, with the same data, base and versions:\n\n"
        f"{markdown_table(versions, ('library', 'version'))}"
    )


def _repetition(info: dict[str, Any], config: Path) -> str:
    """Return the code that repeats a run, in Markdown."""
    if any(store["in memory"] for store in info["data"]):
        return f'```python\npipeline.fine_tune(data, config="{config}", output_path="NEW")\n```\n\n'
    return f"```bash\nchronos-native train --config {shlex.quote(str(config))} --output NEW\n```\n\n"


def _candidates(info: dict[str, Any]) -> str:
    """Return the section on the candidates; empty if nothing was held out."""
    if not info["candidates"]:
        return ""
    text = (
        f"## Candidates on the validation windows\n\n{markdown_table(info['candidates'], _COLUMNS)}\n"
        f"{_seen_sentence(*info.get('validation windows seen by the base', (0, 0)))}\n"
    )
    if info["refit"] is None:
        return text + "\n"
    seen = markdown_table([info["refit"]["scores on seen windows"]], _COLUMNS[1:])
    return (
        f"{text}The base was then trained again on all data for {info['refit']['steps']} steps. The retrained model is "
        f"{'saved' if info['refit']['saved'] else 'not saved, since it scores worse'}. Its scores on the same windows, "
        f"which it has seen:\n\n{seen}\n"
    )


def _seen_sentence(n_seen: int, n_windows: int) -> str:
    """Return whether the candidates had been trained on the steps that they are scored on."""
    if not n_seen:
        return "No candidate had seen the steps that it is scored on."
    return (
        f"The base had been trained on {n_seen} of {n_windows} of these windows, which favours it. Compare the two by "
        "`chronos-native evaluate` on test steps that neither has seen."
    )


def curve_figure(history: Sequence[dict[str, Any]]) -> Figure:
    """Draw the training loss, and the validation scores relative to the base's, by step.

    Args:
        history: the entries that the Trainer logged.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.4), layout="constrained")
    loss, score = figure.subplots(1, 2)
    trained = [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]
    loss.plot(*zip(*trained) if trained else ((), ()), color=_INK, linewidth=1.2)
    loss.set_title("training loss", loc="left", fontsize=10, color=_INK)
    scored = [entry for entry in history if "eval_wql" in entry]
    for key, label, color in (("eval_loss", "loss", _INK), ("eval_wql", "WQL", _BLUE), ("eval_mase", "MASE", _MUTED)):
        base = scored[0][key] if scored else 1.0
        relative = [entry[key] / base if base > 0 else float("nan") for entry in scored]
        score.plot([entry["step"] for entry in scored], relative, color=color, label=label, marker=".")
    score.axhline(1.0, color=_MUTED, linewidth=0.8, linestyle=":")
    score.set_title("validation score relative to the base's", loc="left", fontsize=10, color=_INK)
    score.legend(fontsize=9, frameon=False)
    for axis in (loss, score):
        axis.set_xlabel("step", fontsize=9, color=_MUTED)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=_MUTED)
    return figure
