"""Metrics of quantile forecasts as the Chronos paper defines them, and the seasonal naive forecast.

Shapes: n windows with horizon h. A NaN in a target is unknown, and its step is left out of all metrics. A NaN in a
forecast is a failure of the model: if the target is known, its error is infinite.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from pipeline.core.series import History, target_rows

WQL_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Quantile levels of the WQL, those of the Chronos paper."""
INTERVALS = (80, 60, 40, 20)
"""Nominal coverage, in percent, of the central intervals between two of the levels; the widest first."""
SCORES = ("WQL", "MASE", "WAPE", "RMSSE", *(f"coverage_{interval}" for interval in INTERVALS))
_UNKNOWN = -1

ForecastFunction = Callable[[Sequence[History], int], np.ndarray]
"""Function of the histories of n targets and a prediction_length to quantiles at `WQL_LEVELS`, [n, h, 9]."""


@dataclass(frozen=True)
class WindowErrors:
    """The errors of each step of n windows with horizon h. `concatenate` joins those of batches or processes."""

    pinball: np.ndarray
    """Twice the pinball loss, mean over the levels, [n, h]; NaN if the target is unknown."""
    error: np.ndarray
    """Target minus median, [n, h]; NaN if the target is unknown."""
    magnitude: np.ndarray
    """|target|, [n, h]; NaN if the target is unknown."""
    n_covering: np.ndarray
    """Number of the nested `INTERVALS` that contain the target: int8, [n, h]; -1 if it is unknown."""
    n_levels_above: np.ndarray
    """Number of quantiles at or above the target: int8, [n, h]; -1 if it is unknown."""
    scale: np.ndarray
    """In-sample mean of |y[t] - y[t - m]|, [n]; NaN or 0 if it is not defined."""
    squared_scale: np.ndarray
    """In-sample mean of (y[t] - y[t - m])^2, [n]; NaN or 0 if it is not defined."""

    @staticmethod
    def concatenate(parts: Sequence["WindowErrors"]) -> "WindowErrors":
        """Concatenate the windows of several batches."""
        return WindowErrors(*(np.concatenate(arrays) for arrays in zip(*(part._arrays() for part in parts))))

    def __len__(self) -> int:
        return len(self.scale)

    def at_step(self, step: int) -> "WindowErrors":
        """Return the errors of one step of every window, with a horizon of 1."""
        return WindowErrors(*(array[:, [step]] if array.ndim == 2 else array for array in self._arrays()))

    def scores(self) -> dict[str, float]:
        """Return the `SCORES` over all windows; NaN if no window defines a score."""
        return {name: float(value[0]) for name, value in self.scores_by(np.zeros(len(self), np.int64), 1).items()}

    def scores_by(self, group: np.ndarray, n_groups: int) -> dict[str, np.ndarray]:
        """Return the `SCORES` of each group of windows, [n_groups]; NaN if no window of the group defines a score.

        - WQL: the sum of twice the pinball losses over the sum of |y|, mean over the levels 0.1 to 0.9.
        - MASE: the mean over windows of the mean absolute error of the median over `scale`. Both metrics: Ansari et
          al., Chronos: Learning the Language of Time Series, 2024, appendix D.
        - WAPE: the sum of absolute errors over the sum of |y|.
        - RMSSE: the mean over windows of the root of the mean squared error over `squared_scale` (Makridakis et al.,
          M5 accuracy competition, 2022, with the seasonal difference in place of the last one).
        - coverage_80, ...: the share of known steps whose target is in the interval.

        Args:
            group: index of each window's group, int64, [n].
        """

        def group_sum(values: np.ndarray) -> np.ndarray:
            return np.bincount(group, values, minlength=n_groups)

        def group_mean(values: np.ndarray) -> np.ndarray:
            defined = ~np.isnan(values)
            return group_sum(np.where(defined, values, 0.0)) / group_sum(defined)

        with np.errstate(divide="ignore", invalid="ignore"):
            magnitude = group_sum(np.nansum(self.magnitude, axis=1))
            magnitude = np.where(magnitude > 0, magnitude, np.nan)
            n_known = group_sum((self.n_covering >= 0).sum(axis=1))
            scores = {
                "WQL": group_sum(np.nansum(self.pinball, axis=1)) / magnitude,
                "MASE": group_mean(self.mase_by_window()),
                "WAPE": group_sum(np.nansum(np.abs(self.error), axis=1)) / magnitude,
                "RMSSE": group_mean(np.sqrt(_mean_known(self.error**2) / _positive_or_nan(self.squared_scale))),
            }
            for position, interval in enumerate(INTERVALS):
                scores[f"coverage_{interval}"] = group_sum((self.n_covering > position).sum(axis=1)) / n_known
        return scores

    def mase_by_window(self) -> np.ndarray:
        """Return the MASE of each window, [n]; NaN if it is not defined."""
        return _mean_known(np.abs(self.error)) / _positive_or_nan(self.scale)

    def calibration(self) -> np.ndarray:
        """Return the share of known targets at or below the quantile of each of `WQL_LEVELS`, [9]; NaN without any."""
        n_levels = len(WQL_LEVELS)
        n_known = (self.n_levels_above >= 0).sum()
        # Quantiles rise, so a target with j quantiles at or above it is at or below the j highest ones.
        n_at_or_below = np.array([(self.n_levels_above >= n_levels - k).sum() for k in range(n_levels)])
        return n_at_or_below / n_known if n_known else np.full(n_levels, np.nan)

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))


def window_errors(target: np.ndarray, quantiles: np.ndarray, scale: np.ndarray) -> WindowErrors:
    """Return the errors of a batch of forecasts.

    Args:
        target: [n, h].
        quantiles: at `WQL_LEVELS`, [n, h, 9], rising; NaN if the model failed.
        scale: the result of `seasonal_error` for each window's history, [n, 2].
    """
    levels = np.asarray(WQL_LEVELS)
    target, quantiles = target.astype(np.float64), np.where(np.isnan(quantiles), np.inf, quantiles).astype(np.float64)
    unknown = np.isnan(target)
    error = target[:, :, None] - quantiles
    pinball = 2 * np.maximum(levels * error, (levels - 1) * error)
    is_covered = [(error[:, :, k] >= 0) & (error[:, :, -1 - k] <= 0) for k in range(len(INTERVALS))]
    return WindowErrors(
        pinball=pinball.mean(axis=2),
        error=error[:, :, WQL_LEVELS.index(0.5)],
        magnitude=np.abs(target),
        n_covering=np.where(unknown, _UNKNOWN, np.sum(is_covered, axis=0)).astype(np.int8),
        n_levels_above=np.where(unknown, _UNKNOWN, (error <= 0).sum(axis=2)).astype(np.int8),
        scale=scale[:, 0],
        squared_scale=scale[:, 1],
    )


def forecast_errors(
    histories: Sequence[History], target: np.ndarray, quantiles: np.ndarray, seasons: Sequence[int]
) -> WindowErrors:
    """Return the errors of a batch of forecasts, with scales from the histories that were forecast from.

    A target without a known value in its history is left out: no model can forecast it.

    Args:
        histories: the histories of n targets in total.
        target: [n, h].
        quantiles: at `WQL_LEVELS`, [n, h, 9].
        seasons: season length of each history, in steps.
    """
    rows = target_rows(histories)
    row_seasons = np.repeat(seasons, len(rows) // len(histories))
    unknown = np.array([np.isnan(row).all() for row in rows])
    scale = np.array([seasonal_error(row, season) for row, season in zip(rows, row_seasons.tolist())])
    return window_errors(np.where(unknown[:, None], np.nan, target), quantiles, scale)


def _mean_known(values: np.ndarray) -> np.ndarray:
    """Return the mean of the known values of each row, [n]; NaN if there is none."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1)


def _positive_or_nan(scale: np.ndarray) -> np.ndarray:
    return np.where(scale > 0, scale, np.nan)


def seasonal_error(history: np.ndarray, seasonality: int) -> tuple[float, float]:
    """Return the means of |y[t] - y[t - m]| and of its square over a history, [length]; NaN if no pair is known."""
    differences = np.abs(history[seasonality:].astype(np.float64) - history[:-seasonality])
    known = differences[~np.isnan(differences)]
    return (float(known.mean()), float(np.square(known).mean())) if len(known) else (float("nan"), float("nan"))


def seasonal_naive(history: np.ndarray, prediction_length: int, seasonality: int) -> np.ndarray:
    """Return the seasonal naive forecast of a series, [prediction_length]: its last season, repeated.

    Each step takes the last known value at its position in the season. If that position was never known, it takes the
    last known value of the series, or zero if nothing is known.

    Args:
        history: [length].
    """
    known = history[~np.isnan(history)]
    padding = np.full(-len(history) % seasonality, np.nan)
    seasons = np.concatenate([padding, history]).reshape(-1, seasonality)
    last = np.full(seasonality, known[-1] if len(known) else 0.0)
    for season in seasons:
        last = np.where(np.isnan(season), last, season)
    return np.resize(last, prediction_length)
