"""The backtest: forecasts of any model at rolling origins, compared with the actual values. No other loop scores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Protocol

import numpy as np

from pipeline.core.batches import split_batches
from pipeline.core.errors import UserError
from pipeline.core.metrics import ForecastFunction, WindowErrors, forecast_errors
from pipeline.core.processes import Processes
from pipeline.core.series import History
from pipeline.data.arrow_store import Store
from pipeline.data.frequency import seasonality
from pipeline.forecasting.batching import forecast_in_batches
from pipeline.windows.origins import can_be_scored, forecast_starts, groups_of_windows

KeepForecasts = Callable[[range, np.ndarray], None]
"""Function that gets the windows of each batch and their forecasts at `WQL_LEVELS`, [n, h, 9], in order."""
_BATCHES_PER_ROUND = 16
"""Batches of each process after which the processes exchange them: rarely, and with little of them in memory."""
logger = logging.getLogger(__name__)


class ForecastWindows(Protocol):
    """Windows to forecast, with known targets. A window of several targets has a row for each target."""

    @property
    def prediction_length(self) -> int:
        """Steps of the horizon."""

    @property
    def groups(self) -> np.ndarray | None:
        """Number of the group of each window, with equal numbers next to each other: [n]; None without groups."""

    def __len__(self) -> int:
        """Return the number of windows."""

    def histories(self, indices: Sequence[int]) -> list[History]:
        """Return everything that is known at the forecast start of each window."""

    def targets(self, indices: Sequence[int]) -> np.ndarray:
        """Return the actual values: float32, [n_windows x n_targets, prediction_length], NaN if unknown."""

    def seasons(self, indices: Sequence[int]) -> list[int]:
        """Return the season length of each window's series, in steps."""


def backtest(
    windows: ForecastWindows,
    forecast: ForecastFunction,
    batch_size: int = 64,
    processes: Processes | None = None,
    device: str = "cpu",
    keep: KeepForecasts | None = None,
) -> WindowErrors:
    """Forecast every window and return the errors, in the order of the windows.

    Process r of n forecasts the batches r, r + n, r + 2n, ... So the batches are the same for any number of processes,
    and with them the sampled forecasts of a token model.

    Args:
        processes: the processes that run this backtest together, each of which gets all errors; None for a single one.
        device: the device through which the processes communicate.
        keep: called on every process with the forecasts of all of them, which are not kept in memory.
    """
    batches = split_batches(range(len(windows)), batch_size, windows.groups)
    rank, count = (0, 1) if processes is None else (processes.rank, processes.count)
    errors: list[WindowErrors] = []
    for first in range(0, len(batches), count * _BATCHES_PER_ROUND):
        numbers = range(first, min(first + count * _BATCHES_PER_ROUND, len(batches)))[rank::count]
        forecasts = forecast_in_batches(
            windows.histories,
            lambda histories: forecast(histories, windows.prediction_length),
            [batches[number] for number in numbers],
        )
        parts = [
            (
                number,
                forecast_errors(b.histories, windows.targets(b.indices), b.output, windows.seasons(b.indices)),
                None if keep is None else b.output.astype(np.float32),
            )
            for number, b in zip(numbers, forecasts)
        ]
        if processes is not None:
            parts = processes.gather(parts, device)
        for number, batch_errors, quantiles in sorted(parts, key=itemgetter(0)):
            errors.append(batch_errors)
            if keep is not None and quantiles is not None:
                keep(batches[number], quantiles)
    return WindowErrors.concatenate(errors)


@dataclass(frozen=True)
class ArrayWindows:
    """Windows given as arrays, of series without a season."""

    context: np.ndarray
    """float32, [n, context_length]."""
    target: np.ndarray
    """float32, [n, prediction_length]."""

    @property
    def prediction_length(self) -> int:
        """Steps of the horizon."""
        return self.target.shape[1]

    @property
    def groups(self) -> None:
        """None: each window is forecast alone."""

    def __len__(self) -> int:
        return len(self.target)

    def histories(self, indices: Sequence[int]) -> list[History]:
        """Return the context of each window."""
        return list(self.context[np.asarray(indices)])

    def targets(self, indices: Sequence[int]) -> np.ndarray:
        """Return the actual values: [n_windows, prediction_length]."""
        return self.target[np.asarray(indices)]

    def seasons(self, indices: Sequence[int]) -> list[int]:
        """Return a season of one step for each window."""
        return [1] * len(indices)


@dataclass(frozen=True)
class Task:
    """One data set with rolling forecast origins, one horizon apart; the last one is a horizon before a series' end."""

    name: str
    store: Store
    prediction_length: int
    """Steps of the horizon."""
    seasonality: int
    """Season length in steps."""
    n_origins: int = 1
    """Number of origins of each series."""
    cross_learning: bool = False
    """Whether the windows of a batch and origin see each other if the store has no groups."""

    @cached_property
    def windows(self) -> list[tuple[int, int]]:
        """Series and forecast start of every window with a known value in its history and its target.

        The longest history comes first: then a batch has histories of similar length, which keeps padding short.
        Windows of groups come in the order of the groups.

        Raises:
            UserError: there is no such window.
        """
        windows = []
        for series in self.store.scan():
            targets = self.store.rows(series)[: len(self.store.variates.targets)]
            for start in forecast_starts(targets.shape[1], self.prediction_length, self.n_origins):
                if can_be_scored(targets, start, start + self.prediction_length):
                    windows.append((series, start))
        if windows:
            groups = self._number_groups(windows)
            order = np.argsort([-start for _, start in windows] if groups is None else groups, kind="stable")
            return [windows[index] for index in order]
        if (self.store.lengths > self.prediction_length).any():
            raise UserError(
                f"{self.name}: no series has a known value in its last {self.n_origins * self.prediction_length} steps "
                "and another one before them; remove rows of the future"
            )
        raise UserError(
            f"{self.name}: no series is longer than the horizon of {self.prediction_length} steps; "
            "lower evaluation.prediction_length"
        )

    @cached_property
    def groups(self) -> np.ndarray | None:
        """Number of the group of each window, [n]; None without groups.

        Only windows that start as many horizons before the end of their series are of the same group.
        """
        return self._number_groups(self.windows)

    def _number_groups(self, windows: Sequence[tuple[int, int]]) -> np.ndarray | None:
        groups, (series, starts) = self.store.shared_groups(self.cross_learning), np.array(windows).T
        if groups is None:
            return None
        return groups_of_windows(groups[series], self.store.lengths[series] - starts, self.prediction_length)

    def __len__(self) -> int:
        return len(self.windows)

    def histories(self, indices: Sequence[int]) -> list[History]:
        """Return everything that is known at the forecast start of each window."""
        length, rows = self.prediction_length, np.asarray(indices, np.int64)
        groups = [None] * len(rows) if self.groups is None else self.groups[rows].tolist()
        return [
            self.store.history(series, start, start + length, length, group)
            for (series, start), group in zip([self.windows[row] for row in rows], groups)
        ]

    def targets(self, indices: Sequence[int]) -> np.ndarray:
        """Return the actual values: float32, [n_windows x n_targets, prediction_length], NaN if unknown."""
        n_targets = len(self.store.variates.targets)
        windows = [self.windows[index] for index in indices]
        length = self.prediction_length
        return np.concatenate(
            [self.store.rows(series)[:n_targets, start : start + length] for series, start in windows]
        )

    def seasons(self, indices: Sequence[int]) -> list[int]:
        """Return the season length of each window's series, in steps."""
        return [self.seasonality] * len(indices)


def make_task(
    name: str,
    store: Store,
    prediction_length: int,
    season: int | None,
    n_origins: int,
    cross_learning: bool = False,
) -> Task:
    """Return a task. The season length follows from the frequency if `season` is None."""
    return Task(name, store, prediction_length, season or seasonality(store.freq), n_origins, cross_learning)


def warn_about_windows(task: Task) -> None:
    """Warn about windows that cannot be scored."""
    n_windows = len(task.store) * task.n_origins
    if len(task) < n_windows:
        logger.warning(
            "%s: %d of %d windows cannot be scored, since the series are too short or have no known value there",
            *(task.name, n_windows - len(task), n_windows),
        )


@dataclass(frozen=True)
class Evaluation:
    """The errors of one model on a task. A window of several targets has a row for each target."""

    errors: WindowErrors
    series: np.ndarray
    """Series of each row, an index of the store: int64, [n]."""
    starts: np.ndarray
    """Forecast start of each row: int64, [n]."""
    seasonality: int
    """Season length in steps."""

    def scores(self) -> dict[str, float]:
        """Return the scores of the task, the number of `series` and `windows`, and the `seasonality`."""
        n_windows = np.unique(np.stack([self.series, self.starts]), axis=1).shape[1]
        counts = {"series": len(np.unique(self.series)), "windows": n_windows, "seasonality": self.seasonality}
        return {**self.errors.scores(), **counts}

    def count_windows_with_wql(self) -> int:
        """Return the number of windows of the series whose WQL is defined."""
        series, scores = self.by_series()
        is_scored = np.isin(self.by_window()[0], series[~np.isnan(scores["WQL"])])
        return int(is_scored.sum())

    def by_series(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the series, [n_series], and their scores by name, [n_series] each."""
        series, group = np.unique(self.series, return_inverse=True)
        return series, self.errors.scores_by(group, len(series))

    def by_window(self) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Return the series and the forecast start of each window, and the scores by name, [n_windows] each."""
        windows, group = np.unique(np.stack([self.series, self.starts]), axis=1, return_inverse=True)
        return *windows, self.errors.scores_by(group.ravel(), windows.shape[1])

    def by_step(self) -> list[dict[str, float]]:
        """Return the scores of each step of the horizon."""
        return [self.errors.at_step(step).scores() for step in range(self.errors.pinball.shape[1])]


def evaluate_task(
    task: Task,
    forecast: ForecastFunction,
    batch_size: int = 64,
    processes: Processes | None = None,
    device: str = "cpu",
    keep: KeepForecasts | None = None,
) -> Evaluation:
    """Run the backtest of a model on a task, with the arguments of `backtest`."""
    errors = backtest(task, forecast, batch_size, processes, device, keep)
    series, starts = np.array(task.windows, np.int64).repeat(len(task.store.variates.targets), axis=0).T
    return Evaluation(errors, series, starts, task.seasonality)
