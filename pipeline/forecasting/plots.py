"""Pictures in PNG: forecasts beside the actual values, and the course of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _MUTED, _BAND = "#1f2430", "#8a8f98", "#3b6fb6"


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
    """The actual values, where they are known: [prediction_length]."""


def forecast_figure(forecasts: Sequence[DrawnForecast]) -> Figure:
    """Draw the end of each history, the median forecast, the 80% band, and the actual values."""
    from matplotlib import rc_context

    with rc_context({"text.parse_math": False}):  # a name may hold a dollar sign
        return _drawn(forecasts)


def _drawn(forecasts: Sequence[DrawnForecast]) -> Figure:
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
        draw_line(axis, np.arange(1 - len(history), 1), history, color=_INK, linewidth=1.1, label="history")
        draw_band(axis, ahead, one.low, one.high, color=_BAND, label="80% band")
        if one.target is not None:
            draw_line(axis, ahead, one.target, color=_MUTED, linewidth=1.1, label="actual")
        draw_line(axis, ahead, one.median, color=_BAND, linewidth=1.6, label="median forecast")
        axis.axvline(0.5, color=_MUTED, linewidth=0.8, linestyle=":")
        axis.set_title(one.name, loc="left", fontsize=10, color=_INK)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=_MUTED)
        axis.margins(x=0.01)
        axis.locator_params(axis="x", integer=True)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=9, frameon=False, ncols=4, loc="outside upper right")
    figure.supxlabel("steps from the forecast start", fontsize=9, color=_MUTED)
    return figure


def draw_line(axis: Axes, steps: np.ndarray, values: np.ndarray, **style: Any) -> None:
    """Draw a line through values that may be missing; one that has no neighbour is a point."""
    known = np.isfinite(np.concatenate([[np.nan], values, [np.nan]]))
    lonely = known[1:-1] & ~known[:-2] & ~known[2:]
    axis.plot(steps, values, **style)
    if lonely.any():
        axis.plot(steps[lonely], values[lonely], "o", color=style["color"], markersize=3)


def draw_band(axis: Axes, steps: np.ndarray, low: np.ndarray, high: np.ndarray, **style: Any) -> None:
    """Shade what lies between two bounds, half a step to each side."""
    edges = np.concatenate([[steps[0] - 0.5], steps, [steps[-1] + 0.5]])
    lower, upper = (np.pad(bound, 1, mode="edge") for bound in (low, high))
    axis.fill_between(edges, lower, upper, alpha=0.22, linewidth=0, **style)


def curve_figure(history: Sequence[dict[str, Any]]) -> Figure:
    """Draw training loss, and the validation scores over the base's, by step.

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
    for key, label, color in (("eval_loss", "loss", _INK), ("eval_wql", "WQL", _BAND), ("eval_mase", "MASE", _MUTED)):
        first = scored[0][key] if scored else 1.0
        steps = [entry["step"] for entry in scored]
        score.plot(
            steps,
            [entry[key] / first if first > 0 else float("nan") for entry in scored],
            color=color,
            label=label,
            marker=".",
        )
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
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
