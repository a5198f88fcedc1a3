"""Scores of quantile forecasts, as the Chronos paper defines them, and the seasonal naive baseline.

Shapes: a batch of n windows with horizon h and q quantile levels. NaN in a target means unknown: that step counts nowhere.
NaN in a forecast means that the model broke down: where the target is known, it is infinitely far off.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from pipeline.core.series import History, target_rows

WQL_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
INTERVALS = (80, 60, 40, 20)
"""Per cent that the central intervals between two of the levels hold, the widest first."""
SCORES = ("WQL", "MASE", "WAPE", "RMSSE", *(f"coverage_{interval}" for interval in INTERVALS))
_UNKNOWN = -1

Forecast = Callable[[Sequence[History], int], np.ndarray]
"""From histories of n targets and a prediction_length to quantiles at `WQL_LEVELS`, [n, prediction_length, 9]."""


@dataclass(frozen=True)
class WindowErrors:
    """How far each step of n windows with horizon h was off; windows of several batches or processes are simply joined."""

    pinball: np.ndarray
    """Twice the pinball loss, mean over levels, [n, h]; NaN where the target is unknown."""
    error: np.ndarray
    """Target less median, [n, h]; NaN where the target is unknown."""
    magnitude: np.ndarray
    """|target|, [n, h]; NaN where it is unknown."""
    n_covering: np.ndarray
    """How many of the nested `INTERVALS` hold the target: int8, [n, h]; -1 where it is unknown."""
    n_levels_above: np.ndarray
    """How many quantiles are not below the target: int8, [n, h]; -1 where it is unknown."""
    scale: np.ndarray
    """In-sample mean of |y[t] - y[t - m]|, [n]; NaN or 0 where there is none."""
    squared_scale: np.ndarray
    """In-sample mean of (y[t] - y[t - m])^2, [n]; NaN or 0 where there is none."""

    @staticmethod
    def concatenate(parts: Sequence["WindowErrors"]) -> "WindowErrors":
        """Join the windows of several batches."""
        return WindowErrors(*(np.concatenate(columns) for columns in zip(*(part._columns() for part in parts))))

    def __len__(self) -> int:
        return len(self.scale)

    def at_step(self, step: int) -> "WindowErrors":
        """Return one step of every window."""
        return WindowErrors(*(column[:, [step]] if column.ndim == 2 else column for column in self._columns()))

    def scores(self) -> dict[str, float]:
        """Return the `SCORES` of all windows together; NaN where no window defines one."""
        return {name: float(value[0]) for name, value in self.scores_by(np.zeros(len(self), np.int64), 1).items()}

    def scores_by(self, group: np.ndarray, n_groups: int) -> dict[str, np.ndarray]:
        """Return the `SCORES` of each group of windows, [n_groups]; NaN where no window of a group defines one.

        WQL is the sum of twice the pinball losses over the sum of |y|, mean over the levels 0.1 to 0.9. MASE is the mean
        over windows of the mean absolute error of the median over `scale` (both: Ansari et al., Chronos: Learning the
        Language of Time Series, 2024, appendix D). WAPE is the sum of absolute errors over the sum of |y|. RMSSE is the mean
        over windows of the root of the mean squared error over `squared_scale` (Makridakis et al., M5 accuracy competition,
        2022, with the seasonal difference in place of the last one). A coverage is the share of steps that an interval
        holds.

        Args:
            group: of each window, int64, [n].
        """

        def summed(values: np.ndarray) -> np.ndarray:
            return np.bincount(group, values, minlength=n_groups)

        def mean(values: np.ndarray) -> np.ndarray:
            defined = ~np.isnan(values)
            return summed(np.where(defined, values, 0.0)) / summed(defined)

        with np.errstate(divide="ignore", invalid="ignore"):
            magnitude, known = summed(np.nansum(self.magnitude, axis=1)), summed((self.n_covering >= 0).sum(axis=1))
            magnitude = np.where(magnitude > 0, magnitude, np.nan)
            scores = {
                "WQL": summed(np.nansum(self.pinball, axis=1)) / magnitude,
                "MASE": mean(self.scaled_error()),
                "WAPE": summed(np.nansum(np.abs(self.error), axis=1)) / magnitude,
                "RMSSE": mean(np.sqrt(_mean_known(self.error**2) / _positive(self.squared_scale))),
            }
            for position, interval in enumerate(INTERVALS):
                scores[f"coverage_{interval}"] = summed((self.n_covering > position).sum(axis=1)) / known
        return scores

    def scaled_error(self) -> np.ndarray:
        """Return the MASE of each window, [n]; NaN where it is not defined."""
        return _mean_known(np.abs(self.error)) / _positive(self.scale)

    def share_at_most(self) -> np.ndarray:
        """Return the share of targets at or below the quantile of each of `WQL_LEVELS`, [9]."""
        n_known = (self.n_levels_above >= 0).sum()
        n_at_most = np.array([(self.n_levels_above >= len(WQL_LEVELS) - k).sum() for k in range(len(WQL_LEVELS))])
        return n_at_most / n_known if n_known else np.full(len(WQL_LEVELS), np.nan)

    def _columns(self) -> tuple[np.ndarray, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))


def window_errors(target: np.ndarray, quantiles: np.ndarray, scale: np.ndarray) -> WindowErrors:
    """Score one batch of forecasts at the levels of `WQL_LEVELS`.

    Args:
        target: [n, h].
        quantiles: [n, h, 9], rising; NaN where there is no forecast.
        scale: what `seasonal_error` gives for each window's history, [n, 2].
    """
    levels = np.asarray(WQL_LEVELS)
    target, quantiles = target.astype(np.float64), np.where(np.isnan(quantiles), np.inf, quantiles).astype(np.float64)
    unknown = np.isnan(target)
    error = target[:, :, None] - quantiles
    pinball = 2 * np.maximum(levels * error, (levels - 1) * error)
    around = [(error[:, :, k] >= 0) & (error[:, :, -1 - k] <= 0) for k in range(len(INTERVALS))]
    return WindowErrors(
        pinball=pinball.mean(axis=2),
        error=error[:, :, WQL_LEVELS.index(0.5)],
        magnitude=np.abs(target),
        n_covering=np.where(unknown, _UNKNOWN, np.sum(around, axis=0)).astype(np.int8),
        n_levels_above=np.where(unknown, _UNKNOWN, (error <= 0).sum(axis=2)).astype(np.int8),
        scale=scale[:, 0],
        squared_scale=scale[:, 1],
    )


def forecast_errors(
    histories: Sequence[History], target: np.ndarray, quantiles: np.ndarray, seasons: Sequence[int]
) -> WindowErrors:
    """Score one batch of forecasts from the histories that they were made from.

    A target without a known value in its history counts nowhere: nobody can forecast it.

    Args:
        histories: of n targets together.
        target: [n, h].
        quantiles: at `WQL_LEVELS`, [n, h, 9].
        seasons: steps of each history's season.
    """
    rows = target_rows(histories)
    of_rows = np.repeat(seasons, len(rows) // len(histories))
    unknown = np.array([np.isnan(row).all() for row in rows])
    scale = np.array([seasonal_error(row, season) for row, season in zip(rows, of_rows.tolist())])
    return window_errors(np.where(unknown[:, None], np.nan, target), quantiles, scale)


def _mean_known(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1)


def _positive(scale: np.ndarray) -> np.ndarray:
    return np.where(scale > 0, scale, np.nan)


def seasonal_error(history: np.ndarray, seasonality: int) -> tuple[float, float]:
    """Return the means of |y[t] - y[t - m]| and of its square over one history, [length]; NaN where no pair is known."""
    differences = np.abs(history[seasonality:].astype(np.float64) - history[:-seasonality])
    known = differences[~np.isnan(differences)]
    return (float(known.mean()), float(np.square(known).mean())) if len(known) else (float("nan"), float("nan"))


def seasonal_naive(history: np.ndarray, prediction_length: int, seasonality: int) -> np.ndarray:
    """Repeat the last season of one series, [length] to [prediction_length].

    Each step takes the last known value at its place in the season; a place that was never known takes the series' last
    known value, and zero where nothing is known.
    """
    known = history[~np.isnan(history)]
    padding = np.full(-len(history) % seasonality, np.nan)
    seasons = np.concatenate([padding, history]).reshape(-1, seasonality)
    last = np.full(seasonality, known[-1] if len(known) else 0.0)
    for season in seasons:
        last = np.where(np.isnan(season), last, season)
    return np.resize(last, prediction_length)
