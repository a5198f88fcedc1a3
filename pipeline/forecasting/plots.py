"""Pictures of forecasts beside the actual values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core.errors import visible
from pipeline.core.files import atomic_write
from pipeline.data.frequency import UNKNOWN, timestamps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pipeline.data.arrow_store import Store
    from pipeline.forecasting.forecaster import Forecaster
    from pipeline.forecasting.request import Request

_INK, _MUTED, _BAND, _BASE, _ANOMALY = "#1f2430", "#8a8f98", "#3b6fb6", "#d9822b", "#c8372d"
MAX_PANELS = 6
"""Maximum number of series in a picture: as many panels as fit on a screen."""
_MAX_TITLE = 70
"""Characters of a title that fit over a panel."""
_HORIZONS_OF_HISTORY, _MIN_HISTORY = 2, 24
"""Horizons of history in a panel, and the minimum in steps: they show the season, and the forecast stays readable."""
LEVELS_DRAWN = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class DrawnForecast:
    """One series with its forecast, for one panel."""

    name: str
    history: np.ndarray
    """The last steps before the forecast start."""
    median: np.ndarray
    """[prediction_length]."""
    low: np.ndarray
    """The lower end of the band, [prediction_length]."""
    high: np.ndarray
    """The upper end of the band, [prediction_length]."""
    target: np.ndarray | None = None
    """The actual values, [prediction_length]; None if they are unknown."""
    base: np.ndarray | None = None
    """The median of the model before fine-tuning, [prediction_length]; None leaves it out."""
    dates: np.ndarray | None = None
    """Timestamps of history and horizon, datetime64[s]; None counts steps from the forecast start."""
    band: str = "80% band"
    """Name of the band in the legend."""
    anomalies: np.ndarray | None = None
    """Whether each actual value is flagged, [prediction_length]; None without flags."""


def drawn_forecast(
    store: Store, index: int, start: int, quantiles: np.ndarray, target: np.ndarray | None = None
) -> DrawnForecast:
    """Return the panel of an item's first target: the end of its history, the forecast and, if there are any, dates.

    Args:
        start: the forecast start, a step of the item.
        quantiles: the median between the two ends of the band, [3, prediction_length].
        target: the actual values, [prediction_length].
    """
    low, median, high = quantiles
    first = max(0, start - max(_MIN_HISTORY, _HORIZONS_OF_HISTORY * len(median)))
    dates = None
    if store.freq != UNKNOWN and not np.isnat(store.starts[index]):
        steps = np.arange(first, start + len(median))
        dates = timestamps(store.starts[index : index + 1], store.freq, steps[None])[0]
    history = store.target(index)[first:start]
    return DrawnForecast(store.item_ids[index], history, median, low, high, target, dates=dates)


def drawn_forecasts(forecaster: Forecaster, store: Store, request: Request) -> list[DrawnForecast]:
    """Forecast the first target of the first six items of a store, and return their panels."""
    shown = range(min(MAX_PANELS, len(store)))
    batches = [np.asarray(shown)] if request.groups(store) is None else request.batches(store)
    forecaster = forecaster.with_context_length(request.context_length)
    panels: dict[int, np.ndarray] = {}
    for items in batches:
        if np.isin(items, shown).any():
            histories = request.histories(store, items)
            quantiles, _ = forecaster.quantiles(histories, request.prediction_length, LEVELS_DRAWN)
            panels |= dict(zip(items.tolist(), quantiles[:: len(store.variates.targets)].transpose(0, 2, 1)))
    return [drawn_forecast(store, index, int(store.lengths[index]), panels[index]) for index in shown]


def beside_base(tuned: Sequence[DrawnForecast], base: Sequence[DrawnForecast]) -> list[DrawnForecast]:
    """Return the panels of a fine-tuned model with the medians of its base, which forecast the same steps."""
    return [replace(after, base=before.median) for after, before in zip(tuned, base)]


def forecast_figure(forecasts: Sequence[DrawnForecast]) -> Figure:
    """Draw a panel for each series: history, actual values, the base's median, the median, its band and anomalies."""
    from matplotlib import rc_context

    with rc_context({"text.parse_math": False}):  # a name may contain a dollar sign
        return _forecast_figure(forecasts)


def _forecast_figure(forecasts: Sequence[DrawnForecast]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_columns = 1 if len(forecasts) == 1 else 2
    n_rows = -(-len(forecasts) // n_columns)
    figure = Figure(figsize=(6.4 * n_columns, 2.8 * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axis in axes[len(forecasts) :]:
        axis.remove()
    for axis, forecast in zip(axes, forecasts):
        _draw_panel(axis, forecast)
        name = visible(forecast.name)
        name = name if len(name) <= _MAX_TITLE else f"{name[:_MAX_TITLE]}…"
        axis.set_title(name, loc="left", fontsize=10, color=_INK)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=_MUTED)
        axis.margins(x=0.01)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=9, frameon=False, ncols=5, loc="outside upper right")
    if any(forecast.dates is None for forecast in forecasts):
        figure.supxlabel("steps from the forecast start", fontsize=9, color=_MUTED)
    return figure


def _draw_panel(axis: Axes, forecast: DrawnForecast) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    n_past = len(forecast.history)
    if forecast.dates is None:
        x = np.arange(1.0 - n_past, len(forecast.median) + 1)
        axis.locator_params(axis="x", integer=True)
    else:
        x = date2num(forecast.dates)
        locator = AutoDateLocator(minticks=3, maxticks=7)
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axis.xaxis.get_offset_text().set(fontsize=8, color=_MUTED)
    half_step = (x[-1] - x[-2]) / 2 if len(x) > 1 else 0.5
    past, future = x[:n_past], x[n_past:]
    draw_line(axis, past, forecast.history, color=_MUTED, linewidth=1.1, label="history")
    draw_band(axis, future, forecast.low, forecast.high, half_step, color=_BAND, label=forecast.band)
    if forecast.target is not None:
        draw_line(axis, future, forecast.target, color=_INK, linewidth=1.1, label="actual")
    if forecast.base is not None:
        draw_line(axis, future, forecast.base, color=_BASE, linewidth=1.4, label="base median")
    label = "median forecast" if forecast.base is None else "fine-tuned median"
    draw_line(axis, future, forecast.median, color=_BAND, linewidth=1.6, label=label)
    if forecast.anomalies is not None and forecast.target is not None:
        flagged = future[forecast.anomalies], forecast.target[forecast.anomalies]
        axis.plot(*flagged, "o", color=_ANOMALY, markersize=4, label="anomaly", zorder=3)
    axis.axvline(future[0] - half_step, color=_MUTED, linewidth=0.8, linestyle=":")


def draw_line(axis: Axes, steps: np.ndarray, values: np.ndarray, **style: Any) -> None:
    """Draw a line through values that may be missing; a value without a known neighbor is a point."""
    known = np.isfinite(np.concatenate([[np.nan], values, [np.nan]]))
    isolated = known[1:-1] & ~known[:-2] & ~known[2:]
    axis.plot(steps, values, **style)
    if isolated.any():
        axis.plot(steps[isolated], values[isolated], "o", color=style["color"], markersize=3)


def draw_band(
    axis: Axes, steps: np.ndarray, low: np.ndarray, high: np.ndarray, half_step: float = 0.5, **style: Any
) -> None:
    """Shade the area between two bounds, and half a step on each side, so that a single step is visible."""
    edges = np.concatenate([[steps[0] - half_step], steps, [steps[-1] + half_step]])
    lower, upper = (np.pad(bound, 1, mode="edge") for bound in (low, high))
    axis.fill_between(edges, lower, upper, alpha=0.22, linewidth=0, **style)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure to a PNG file."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
