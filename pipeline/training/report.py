"""What a trained checkpoint says of itself: its model card and the report of its run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.tables import markdown_table

_COLUMNS = ("candidate", "WQL", "MASE", "loss")


def training_card(info: dict[str, Any]) -> str:
    """Return the model card of a trained checkpoint, in Markdown."""
    config = info["config"]
    facts = {
        "started from": info["base_model"],
        "steps": info["steps trained"],
        "learning rate": f"{info['learning_rate']:g}",
        "batch size": config["training"]["batch_size"],
        "method": config["training"]["method"],
        "seed": config["chronos"]["seed"],
    }
    rows = [{"": key, "value": value} for key, value in facts.items()]
    return (
        "---\nlibrary_name: chronos-forecasting\npipeline_tag: time-series-forecasting\n---\n\n"
        f"# Chronos model fine-tuned from {info['base_model']}\n\n{info['verdict']}\n\n"
        f"{markdown_table(rows, ('', 'value'))}\n"
        + _candidates(info)
        + "## Use\n\n```python\nfrom chronos import BaseChronosPipeline\n\n"
        'pipeline = BaseChronosPipeline.from_pretrained("path/of/this/folder")\n```\n'
    )


def run_report(info: dict[str, Any], words: str, pictures: Sequence[str], config: Path) -> str:
    """Return the report of a training run, in Markdown.

    Args:
        info: what training_info.json holds.
        words: how long and how fast was trained, and why.
        pictures: names of PNG files beside the report: `training.png`, `forecasts.png`.
        config: file of the configuration.
    """
    captions = {
        "training.png": "Training loss, and the validation scores of all checkpoints over the base's.",
        "forecasts.png": "Forecasts of the candidate that won on validation windows, and the actual values.",
    }
    drawn = "".join(f"![{captions[name]}]({name})\n\n{captions[name]}\n\n" for name in pictures)
    rates = [entry["windows_per_second"] for entry in info["history"] if "windows_per_second" in entry]
    speed = f"{np.median(rates):,.0f} windows a second (median)." if rates else ""
    early = "" if info["steps trained"] == info["steps"] else f" It stopped after {info['steps trained']} steps."
    versions = [{"library": name, "version": version} for name, version in info["versions"].items()]
    return (
        f"# Training run from {info['base_model']}\n\n{info['verdict']}\n\n"
        f"{words[0].upper()}{words[1:]}.{early} {speed}\n\n{drawn}{_candidates(info)}"
        f"## To do it again\n\n```bash\npython scripts/train.py --config {config} --training.output_path NEW\n```\n\n"
        "in the folder that it was started in, with the same data, base and versions:\n\n"
        f"{markdown_table(versions, ('library', 'version'))}"
    )


def _candidates(info: dict[str, Any]) -> str:
    """Return the section of what was compared, nothing where nothing was."""
    if not info["candidates"]:
        return ""
    text = f"## Candidates on the validation windows\n\n{markdown_table(info['candidates'], _COLUMNS)}\n"
    if info["refit"] is None:
        return text
    seen = markdown_table([info["refit"]["scores on steps it has seen"]], _COLUMNS[1:])
    return (
        f"{text}None of them had seen the steps that it is scored on. The one that won was then trained again as it was "
        f"({info['refit']['steps']} steps), those steps among the others; what came of it is "
        f"{'saved' if info['refit']['saved'] else 'not saved'}. On the same windows, which it has seen:\n\n{seen}\n"
    )
