"""What people look at: score tables, pictures of forecasts, model cards."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.files import whole_file

if TYPE_CHECKING:
    from pipeline.arrow_store import Store

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


def plot_forecasts(
    path: str | Path, store: Store, medians: np.ndarray, low: np.ndarray, high: np.ndarray, names: Sequence[str]
) -> None:
    """Draw the end of some series' history, the median forecast and the 80% band to a PNG.

    Args:
        medians, low, high: [n_panels, prediction_length], of the store's first n_panels series.
        names: title of each panel.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_panels, prediction_length = medians.shape
    n_columns = 1 if n_panels == 1 else 2
    n_rows = -(-n_panels // n_columns)
    figure = Figure(figsize=(6.4 * n_columns, 2.6 * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for panel, axis in enumerate(axes):
        if panel >= n_panels:
            axis.remove()
            continue
        history = store.target(panel)[-4 * prediction_length :]
        ahead = np.arange(prediction_length) + 1
        axis.plot(np.arange(1 - len(history), 1), history, color=_INK, linewidth=1.1, label="history")
        axis.fill_between(ahead, low[panel], high[panel], color=_BAND, alpha=0.22, linewidth=0, label="80% band")
        axis.plot(ahead, medians[panel], color=_BAND, linewidth=1.6, label="median forecast")
        axis.axvline(0.5, color=_MUTED, linewidth=0.8, linestyle=":")
        axis.set_title(names[panel], loc="left", fontsize=10, color=_INK)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=_MUTED)
        axis.margins(x=0.01)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=9, frameon=False, ncols=3, loc="outside upper right")
    figure.supxlabel("steps from the forecast start", fontsize=9, color=_MUTED)
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
