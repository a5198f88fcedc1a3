"""Pictures of forecasts beside the actual values."""

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

    from pipeline.data.arrow_store import Store
    from pipeline.forecasting.forecaster import Forecaster
    from pipeline.forecasting.request import Request

_INK, _MUTED, _BAND = "#1f2430", "#8a8f98", "#3b6fb6"
_MAX_PANELS = 6
"""Maximum number of series in a picture: as many panels as fit on a screen."""
_HORIZONS_OF_HISTORY = 4
"""Horizons of history in a panel: enough to see the season, and the forecast stays readable."""


@dataclass(frozen=True)
class DrawnForecast:
    """One series with its forecast, for one panel."""

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
    """The actual values, [prediction_length]; None if they are unknown."""


def drawn_forecasts(forecaster: Forecaster, store: Store, request: Request) -> list[DrawnForecast]:
    """Forecast the first target of the first six items of a store, and return their panels."""
    shown = range(min(_MAX_PANELS, len(store)))
    histories = request.histories(store, shown)
    quantiles, _ = forecaster.quantiles(histories, request.prediction_length, (0.1, 0.5, 0.9))
    first_targets = quantiles[:: len(store.variates.targets)].transpose(0, 2, 1)
    return [
        DrawnForecast(store.item_ids[index], store.target(index), median=median, low=low, high=high)
        for index, (low, median, high) in zip(shown, first_targets)
    ]


def forecast_figure(forecasts: Sequence[DrawnForecast]) -> Figure:
    """Draw the end of each history, the median forecast, the 80% band, and the actual values."""
    from matplotlib import rc_context

    with rc_context({"text.parse_math": False}):  # a name may contain a dollar sign
        return _forecast_figure(forecasts)


def _forecast_figure(forecasts: Sequence[DrawnForecast]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_columns = 1 if len(forecasts) == 1 else 2
    n_rows = -(-len(forecasts) // n_columns)
    figure = Figure(figsize=(6.4 * n_columns, 2.6 * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axis in axes[len(forecasts) :]:
        axis.remove()
    for axis, forecast in zip(axes, forecasts):
        history = forecast.history[-_HORIZONS_OF_HISTORY * len(forecast.median) :]
        steps = np.arange(len(forecast.median)) + 1
        draw_line(axis, np.arange(1 - len(history), 1), history, color=_INK, linewidth=1.1, label="history")
        draw_band(axis, steps, forecast.low, forecast.high, color=_BAND, label="80% band")
        if forecast.target is not None:
            draw_line(axis, steps, forecast.target, color=_MUTED, linewidth=1.1, label="actual")
        draw_line(axis, steps, forecast.median, color=_BAND, linewidth=1.6, label="median forecast")
        axis.axvline(0.5, color=_MUTED, linewidth=0.8, linestyle=":")
        axis.set_title(forecast.name, loc="left", fontsize=10, color=_INK)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=_MUTED)
        axis.margins(x=0.01)
        axis.locator_params(axis="x", integer=True)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=9, frameon=False, ncols=4, loc="outside upper right")
    figure.supxlabel("steps from the forecast start", fontsize=9, color=_MUTED)
    return figure


def draw_line(axis: Axes, steps: np.ndarray, values: np.ndarray, **style: Any) -> None:
    """Draw a line through values that may be missing; a value without a known neighbor is a point."""
    known = np.isfinite(np.concatenate([[np.nan], values, [np.nan]]))
    isolated = known[1:-1] & ~known[:-2] & ~known[2:]
    axis.plot(steps, values, **style)
    if isolated.any():
        axis.plot(steps[isolated], values[isolated], "o", color=style["color"], markersize=3)


def draw_band(axis: Axes, steps: np.ndarray, low: np.ndarray, high: np.ndarray, **style: Any) -> None:
    """Shade the area between two bounds, and half a step on each side, so that a single step is visible."""
    edges = np.concatenate([[steps[0] - 0.5], steps, [steps[-1] + 0.5]])
    lower, upper = (np.pad(bound, 1, mode="edge") for bound in (low, high))
    axis.fill_between(edges, lower, upper, alpha=0.22, linewidth=0, **style)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure to a PNG file."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
