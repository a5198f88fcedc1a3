"""Scores of any forecaster on the last windows of real series, beside seasonal naive."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.arrow_store import Store
from pipeline.errors import UserError
from pipeline.frequency import seasonality
from pipeline.metrics import WQL_LEVELS, WindowErrors, seasonal_error, seasonal_naive, window_errors
from pipeline.series import History, target_rows
from pipeline.windows import history_at

SEASONAL_NAIVE = "seasonal naive"
logger = logging.getLogger(__name__)

Forecast = Callable[[Sequence[History], int], np.ndarray]
"""From histories of n targets and a prediction_length to quantiles at `WQL_LEVELS`, [n, prediction_length, 9]."""


@dataclass(frozen=True)
class Task:
    """One data set to score on: at each of `windows` rolling origins, one horizon apart, the last at the very end."""

    name: str
    store: Store
    prediction_length: int
    seasonality: int
    windows: int = 1

    def cuts(self) -> list[tuple[int, int]]:
        """Return (series, forecast start) of every window with a known history and a known target.

        Raises:
            UserError: there is none.
        """
        cuts = []
        for series in range(len(self.store)):
            targets = self.store.rows(series)[: len(self.store.variates.targets)]
            for back in range(self.windows, 0, -1):
                start = targets.shape[1] - back * self.prediction_length
                if start > 0:
                    known = ~np.isnan(targets[:, :start]).all(axis=1)
                    if not np.isnan(targets[known, start : start + self.prediction_length]).all():
                        cuts.append((series, start))
        if not cuts:
            raise UserError(
                f"{self.name}: no series is longer than the horizon of {self.prediction_length} steps; "
                "give a shorter evaluation.prediction_length"
            )
        return cuts


def task_of(name: str, store: Store, prediction_length: int, season: int | None, windows: int) -> Task:
    """Make a task; the season follows from the store's frequency where it is not given."""
    return Task(name, store, prediction_length, season or seasonality(store.freq), windows)


def evaluate(task: Task, forecast: Forecast, batch_size: int = 64) -> dict[str, float]:
    """Score a forecaster on a task.

    Returns:
        `MASE`, `WQL`, `coverage_80`, `series`, `windows` and `seasonality`.
    """
    parts = list(_batch_errors(task, forecast, batch_size))
    cuts = task.cuts()
    n_series = len({series for series, _ in cuts})
    left_out = len(task.store) - n_series
    if left_out:
        logger.info("%s: %d of %d series have no window that can be scored", task.name, left_out, len(task.store))
    counts = {"series": n_series, "windows": len(cuts), "seasonality": task.seasonality}
    return {**WindowErrors.joined(parts).scores(), **counts}


def _batch_errors(task: Task, forecast: Forecast, batch_size: int) -> Iterator[WindowErrors]:
    # Longest history first, so that a batch holds histories of like length.
    cuts = sorted(task.cuts(), key=lambda cut: -cut[1])
    for first in range(0, len(cuts), batch_size):
        batch = cuts[first : first + batch_size]
        length, n_targets = task.prediction_length, len(task.store.variates.targets)
        histories = [history_at(task.store, series, start, start + length, length) for series, start in batch]
        target = np.concatenate(
            [task.store.rows(series)[:n_targets, start : start + length] for series, start in batch]
        )
        rows = target_rows(histories)
        unknown = np.array([np.isnan(row).all() for row in rows])
        scale = np.array([seasonal_error(row, task.seasonality) for row in rows])
        yield window_errors(np.where(unknown[:, None], np.nan, target), forecast(histories, length), scale)


def naive_forecast(season: int) -> Forecast:
    """Return the seasonal naive forecaster: the last season repeated, the same at every level."""

    def forecast(histories: Sequence[History], prediction_length: int) -> np.ndarray:
        points = np.stack([seasonal_naive(row, prediction_length, season) for row in target_rows(histories)])
        return np.repeat(points[:, :, None], len(WQL_LEVELS), axis=2)

    return forecast
