"""Scores of quantile forecasts, as the Chronos paper defines them, and the seasonal naive yardstick.

Shapes: a batch of n windows with horizon h and q quantile levels. NaN in a target means unknown: that step counts nowhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WQL_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class WindowErrors:
    """What each window adds to the scores; windows of several batches or processes are simply joined."""

    pinball: np.ndarray
    """Sum over steps and mean over levels of twice the pinball loss, [n]."""
    absolute_target: np.ndarray
    """Sum of |y| over known steps, [n]."""
    scaled_error: np.ndarray
    """Mean absolute error of the median over the in-sample seasonal naive error, [n]; NaN where either is undefined."""
    covered: np.ndarray
    """Number of known steps inside the 80% interval, [n]."""
    known: np.ndarray
    """Number of known steps, [n]."""

    @staticmethod
    def joined(parts: Sequence["WindowErrors"]) -> "WindowErrors":
        """Join the windows of several batches."""
        return WindowErrors(*(np.concatenate(columns) for columns in zip(*(part.columns() for part in parts))))

    def columns(self) -> tuple[np.ndarray, ...]:
        """Return the five arrays in the order of the fields."""
        return self.pinball, self.absolute_target, self.scaled_error, self.covered, self.known

    def scores(self) -> dict[str, float]:
        """Return `WQL`, `MASE` and `coverage_80`; NaN where no window defines one.

        WQL is the sum of twice the pinball losses over the sum of |y|, mean over the levels 0.1 to 0.9. MASE is the mean
        over windows. (Ansari et al., Chronos: Learning the Language of Time Series, 2024, appendix D.)
        """
        scale, known = self.absolute_target.sum(), self.known.sum()
        defined = np.isfinite(self.scaled_error)
        return {
            "MASE": float(self.scaled_error[defined].mean()) if defined.any() else float("nan"),
            "WQL": float(self.pinball.sum() / scale) if scale > 0 else float("nan"),
            "coverage_80": float(self.covered.sum() / known) if known else float("nan"),
        }


def window_errors(target: np.ndarray, quantiles: np.ndarray, scale: np.ndarray) -> WindowErrors:
    """Score one batch of forecasts at the levels of `WQL_LEVELS`.

    Args:
        target: [n, h].
        quantiles: [n, h, 9].
        scale: in-sample seasonal naive error of each window's series, [n].
    """
    levels = np.asarray(WQL_LEVELS)
    target, quantiles = target.astype(np.float64), quantiles.astype(np.float64)
    is_known = ~np.isnan(target)
    error = target[:, :, None] - quantiles
    pinball = 2 * np.maximum(levels * error, (levels - 1) * error)
    known = is_known.sum(axis=1)
    absolute_error = np.where(is_known, np.abs(error[:, :, WQL_LEVELS.index(0.5)]), 0.0).sum(axis=1)
    covered = (target >= quantiles[:, :, 0]) & (target <= quantiles[:, :, -1])
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled_error = absolute_error / known / np.where(scale > 0, scale, np.nan)
    return WindowErrors(
        pinball=np.where(is_known[:, :, None], pinball, 0.0).mean(axis=2).sum(axis=1),
        absolute_target=np.where(is_known, np.abs(target), 0.0).sum(axis=1),
        scaled_error=scaled_error,
        covered=(covered & is_known).sum(axis=1),
        known=known,
    )


def seasonal_error(history: np.ndarray, seasonality: int) -> float:
    """Return the mean of |y[t] - y[t - m]| over one series' history, [length]; NaN where no pair is known."""
    differences = np.abs(history[seasonality:].astype(np.float64) - history[:-seasonality])
    known = differences[~np.isnan(differences)]
    return float(known.mean()) if len(known) else float("nan")


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
