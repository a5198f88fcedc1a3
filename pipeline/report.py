"""What people look at: score tables, pictures of forecasts, model cards."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORES = ("MASE", "WQL", "coverage_80")
_COLUMNS = ("data set", "model", *SCORES, "relative MASE", "relative WQL", "series", "windows", "seasonality")
_INK, _MUTED, _BAND = "#1f2430", "#8a8f98", "#3b6fb6"


def score_rows(scores: dict[str, dict[str, dict[str, float]]], yardstick: str) -> list[dict[str, Any]]:
    """Return one row for each data set and model, and, over several sets, one of geometric means for each model.

    Args:
        scores: by data set, then by model, what `evaluation.evaluate` gives.
        yardstick: the model that the relative columns divide by.
    """
    rows = []
    for dataset, by_model in scores.items():
        for model, values in by_model.items():
            row: dict[str, Any] = {"data set": dataset, "model": model, **values}
            for score in ("MASE", "WQL"):
                row[f"relative {score}"] = _ratio(values[score], by_model[yardstick][score])
            rows.append(row)
    if len(scores) > 1:
        for model in next(iter(scores.values())):
            own = [row for row in rows if row["model"] == model]
            row = {"data set": f"geometric mean of {len(scores)}", "model": model}
            for score in ("relative MASE", "relative WQL"):
                row[score] = float(np.exp(np.mean(np.log([one[score] for one in own]))))
            rows.append(row)
    return rows


def markdown_table(rows: Sequence[dict[str, Any]], columns: Sequence[str] = _COLUMNS) -> str:
    """Return rows as a Markdown table, its columns padded so that it reads well as plain text too."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[i]) for line in cells)) for i, column in enumerate(columns)]
    is_number = [all(_is_numeric(row.get(column)) for row in rows) for column in columns]

    def line(values: Sequence[str]) -> str:
        padded = [value.rjust(w) if right else value.ljust(w) for value, w, right in zip(values, widths, is_number)]
        return "| " + " | ".join(padded) + " |"

    rule = (
        "|"
        + "|".join("-" * (w + 1) + ":" if right else ":" + "-" * (w + 1) for w, right in zip(widths, is_number))
        + "|"
    )
    return "\n".join([line(columns), rule, *map(line, cells)]) + "\n"


def write_scores(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write scores.csv, in full precision, and scores.md to a folder."""
    with whole_file(folder / "scores.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    with whole_file(folder / "scores.md") as temporary:
        temporary.write_text(markdown_table(rows), encoding="utf-8")


@dataclass(frozen=True)
class DrawnForecast:
    """One series with its forecast, as a panel shows it."""

    name: str
    history: np.ndarray
    """Steps before the forecast start."""
    median: np.ndarray
    """[prediction_length]."""
    low: np.ndarray
    """The 0.1-quantile, [prediction_length]."""
    high: np.ndarray
    """The 0.9-quantile, [prediction_length]."""
    target: np.ndarray | None = None
    """What came, where it is known: [prediction_length]."""


def forecast_figure(forecasts: Sequence[DrawnForecast]) -> Figure:
    """Draw the end of each history, the median forecast, the 80% band, and what came."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_columns = 1 if len(forecasts) == 1 else 2
    n_rows = -(-len(forecasts) // n_columns)
    figure = Figure(figsize=(6.4 * n_columns, 2.6 * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axis in axes[len(forecasts) :]:
        axis.remove()
    for axis, one in zip(axes, forecasts):
        history = one.history[-4 * len(one.median) :]
        ahead = np.arange(len(one.median)) + 1
        axis.plot(np.arange(1 - len(history), 1), history, color=_INK, linewidth=1.1, label="history")
        axis.fill_between(ahead, one.low, one.high, color=_BAND, alpha=0.22, linewidth=0, label="80% band")
        if one.target is not None:
            axis.plot(ahead, one.target, color=_MUTED, linewidth=1.1, label="what came")
        axis.plot(ahead, one.median, color=_BAND, linewidth=1.6, label="median forecast")
        axis.axvline(0.5, color=_MUTED, linewidth=0.8, linestyle=":")
        axis.set_title(one.name, loc="left", fontsize=10, color=_INK)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=_MUTED)
        axis.margins(x=0.01)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=9, frameon=False, ncols=4, loc="outside upper right")
    figure.supxlabel("steps from the forecast start", fontsize=9, color=_MUTED)
    return figure


def curve_figure(history: Sequence[dict[str, Any]]) -> Figure:
    """Draw training loss, and validation WQL and MASE over the base's, by step.

    Args:
        history: what the Trainer logged, entry by entry.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.4), layout="constrained")
    loss, score = figure.subplots(1, 2)
    trained = [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]
    loss.plot(*zip(*trained) if trained else ((), ()), color=_INK, linewidth=1.2)
    loss.set_title("training loss", loc="left", fontsize=10, color=_INK)
    scored = [entry for entry in history if "eval_wql" in entry]
    for key, label, color in (("eval_wql", "WQL", _BAND), ("eval_mase", "MASE", _MUTED)):
        first = scored[0][key] if scored else 1.0
        steps = [entry["step"] for entry in scored]
        score.plot(steps, [_ratio(entry[key], first) for entry in scored], color=color, label=label, marker=".")
    score.axhline(1.0, color=_MUTED, linewidth=0.8, linestyle=":")
    score.set_title("validation score over the base's", loc="left", fontsize=10, color=_INK)
    score.legend(fontsize=9, frameon=False)
    for axis in (loss, score):
        axis.set_xlabel("step", fontsize=9, color=_MUTED)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=_MUTED)
    return figure


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure to a PNG file."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def training_card(info: dict[str, Any]) -> str:
    """Return the model card of a trained checkpoint, in Markdown."""
    candidates = markdown_table(info["candidates"], ("candidate", "WQL", "MASE", "loss")) if info["candidates"] else ""
    config = info["config"]
    facts = {
        "started from": info["base_model"],
        "steps": info["steps"],
        "learning rate": info["learning_rate"],
        "batch size": config["training"]["batch_size"],
        "method": config["training"]["method"],
        "seed": config["chronos"]["seed"],
    }
    rows = [{"": key, "value": value} for key, value in facts.items()]
    return (
        "---\nlibrary_name: chronos-forecasting\npipeline_tag: time-series-forecasting\n---\n\n"
        f"# Chronos model fine-tuned from {info['base_model']}\n\n{info['verdict']}\n\n"
        f"{markdown_table(rows, ('', 'value'))}\n"
        + (f"## Candidates on the validation windows\n\n{candidates}\n" if candidates else "")
        + "## Use\n\n```python\nfrom chronos import BaseChronosPipeline\n\n"
        'pipeline = BaseChronosPipeline.from_pretrained("path/of/this/folder")\n```\n'
    )


def run_report(info: dict[str, Any], words: str, pictures: Sequence[str]) -> str:
    """Return the report of a training run, in Markdown.

    Args:
        info: what training_info.json holds.
        words: how long and how fast was trained, and why.
        pictures: names of PNG files beside the report: `training.png`, `forecasts.png`.
    """
    captions = {
        "training.png": "Training loss, and the validation scores of all checkpoints over the base's.",
        "forecasts.png": "Forecasts of the saved model on validation windows, and what came.",
    }
    drawn = "".join(f"![{captions[name]}]({name})\n\n{captions[name]}\n\n" for name in pictures)
    rates = [entry["windows_per_second"] for entry in info["history"] if "windows_per_second" in entry]
    speed = f"{np.median(rates):,.0f} windows a second (median)." if rates else ""
    versions = [{"library": name, "version": version} for name, version in info["versions"].items()]
    candidates = markdown_table(info["candidates"], ("candidate", "WQL", "MASE", "loss")) if info["candidates"] else ""
    return (
        f"# Training run from {info['base_model']}\n\n{info['verdict']}\n\n{words[0].upper()}{words[1:]}. {speed}\n\n{drawn}"
        + (f"## Candidates on the validation windows\n\n{candidates}\n" if candidates else "")
        + "## To do it again\n\n```bash\npython scripts/train.py --config config.yaml --training.output_path NEW\n```\n\n"
        + f"with the same data, base and versions:\n\n{markdown_table(versions, ('library', 'version'))}"
    )


def _ratio(value: float, by: float) -> float:
    return value / by if by > 0 else float("nan")


def _is_numeric(value: object) -> bool:
    return value is None or isinstance(value, (int, float))


def _cell(value: object) -> str:
    if value is None:
        return ""
    return (
        f"{value:.4f}"
        if isinstance(value, float) and not value.is_integer()
        else f"{value:g}" if isinstance(value, float) else str(value)
    )
