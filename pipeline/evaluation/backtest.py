"""The backtest: forecasts of any model at rolling origins, compared with the actual values. The only loop that scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Protocol

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.metrics import Forecast, WindowErrors, forecast_errors
from pipeline.core.processes import Processes
from pipeline.core.series import History, target_rows
from pipeline.data.arrow_store import Store
from pipeline.data.frequency import seasonality


class ForecastWindows(Protocol):
    """Windows to forecast, with known targets. A window of several targets has a row for each target."""

    @property
    def prediction_length(self) -> int:
        """Steps of the horizon."""

    def __len__(self) -> int:
        """Return the number of windows."""

    def histories(self, indices: Sequence[int]) -> list[History]:
        """Return everything that is known at the forecast start of each window."""

    def targets(self, indices: Sequence[int]) -> np.ndarray:
        """Return the actual values: float32, [n_windows x n_targets, prediction_length], NaN where unknown."""

    def seasons(self, indices: Sequence[int]) -> list[int]:
        """Return the season length of each window's series, in steps."""


def backtest(
    windows: ForecastWindows,
    forecast: Forecast,
    batch_size: int = 64,
    processes: Processes | None = None,
    device: str = "cpu",
) -> WindowErrors:
    """Forecast every window and return the errors, in the order of the windows.

    Batch b is forecast by process b modulo the number of processes. So the batches are the same for any number of
    processes, and with them the sampled forecasts of a token model.

    Args:
        processes: the processes that run the same backtest, each of which gets all errors; None for this one alone.
        device: the device that the processes communicate for.
    """
    batches = [range(first, min(first + batch_size, len(windows))) for first in range(0, len(windows), batch_size)]
    if processes is None:
        return WindowErrors.concatenate([_batch_errors(windows, forecast, batch) for batch in batches])
    own = range(processes.rank, len(batches), processes.count)
    parts = processes.gather([(number, _batch_errors(windows, forecast, batches[number])) for number in own], device)
    return WindowErrors.concatenate([errors for _, errors in sorted(parts, key=itemgetter(0))])


def _batch_errors(windows: ForecastWindows, forecast: Forecast, batch: range) -> WindowErrors:
    histories = windows.histories(batch)
    quantiles = forecast(histories, windows.prediction_length)
    return forecast_errors(histories, windows.targets(batch), quantiles, windows.seasons(batch))


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
    """One data set to score on, at `n_origins` rolling origins, one horizon apart, the last one horizon before the end."""

    name: str
    store: Store
    prediction_length: int
    seasonality: int
    n_origins: int = 1

    @cached_property
    def windows(self) -> list[tuple[int, int]]:
        """(series, forecast start) of every window with a known history and a known target, the longest history first.

        In this order a batch has histories of similar length, so that little of it is padding.

        Raises:
            UserError: there is no such window.
        """
        windows = []
        for series in range(len(self.store)):
            targets = self.store.rows(series)[: len(self.store.variates.targets)]
            for back in range(self.n_origins, 0, -1):
                start = targets.shape[1] - back * self.prediction_length
                if start > 0:
                    known = ~np.isnan(targets[:, :start]).all(axis=1)
                    if not np.isnan(targets[known, start : start + self.prediction_length]).all():
                        windows.append((series, start))
        if windows:
            return sorted(windows, key=lambda window: -window[1])
        if (self.store.lengths > self.prediction_length).any():
            raise UserError(
                f"{self.name}: no series has a known value in its last {self.n_origins * self.prediction_length} steps "
                "and one before them; remove rows of the future"
            )
        raise UserError(
            f"{self.name}: no series is longer than the horizon of {self.prediction_length} steps; "
            "lower evaluation.prediction_length"
        )

    def __len__(self) -> int:
        return len(self.windows)

    def histories(self, indices: Sequence[int]) -> list[History]:
        """Return everything that is known at the forecast start of each window."""
        length = self.prediction_length
        chosen = [self.windows[index] for index in indices]
        return [self.store.history(series, start, start + length, length) for series, start in chosen]

    def targets(self, indices: Sequence[int]) -> np.ndarray:
        """Return the actual values: float32, [n_windows x n_targets, prediction_length], NaN where unknown."""
        n_targets = len(self.store.variates.targets)
        chosen = [self.windows[index] for index in indices]
        rows = [self.store.rows(series)[:n_targets, start : start + self.prediction_length] for series, start in chosen]
        return np.concatenate(rows)

    def seasons(self, indices: Sequence[int]) -> list[int]:
        """Return the season length of each window's series, in steps."""
        return [self.seasonality] * len(indices)


def make_task(name: str, store: Store, prediction_length: int, season: int | None, n_origins: int) -> Task:
    """Return a task; None for the season takes it from the store's frequency."""
    return Task(name, store, prediction_length, season or seasonality(store.freq), n_origins)


@dataclass(frozen=True)
class Evaluation:
    """The errors of one model on a task. A window of several targets has a row for each target."""

    errors: WindowErrors
    series: np.ndarray
    """Index of the series of each row, int64, [n]."""
    starts: np.ndarray
    """Forecast start of each row, int64, [n]."""
    seasonality: int

    def scores(self) -> dict[str, float]:
        """Return the scores of the task, with the number of `series` and `windows` and the `seasonality`."""
        n_windows = np.unique(np.stack([self.series, self.starts]), axis=1).shape[1]
        counts = {"series": len(np.unique(self.series)), "windows": n_windows, "seasonality": self.seasonality}
        return {**self.errors.scores(), **counts}

    def by_series(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the indices of the series that have scores, [n_series], and their scores."""
        found, group = np.unique(self.series, return_inverse=True)
        return found, self.errors.scores_by(group, len(found))

    def by_step(self) -> list[dict[str, float]]:
        """Return the scores of each step of the horizon."""
        return [self.errors.at_step(step).scores() for step in range(self.errors.pinball.shape[1])]


def evaluate(
    task: Task, forecast: Forecast, batch_size: int = 64, processes: Processes | None = None, device: str = "cpu"
) -> Evaluation:
    """Run the backtest of a model on a task. The arguments are those of `backtest`."""
    errors = backtest(task, forecast, batch_size, processes, device)
    series, starts = np.array(task.windows, np.int64).repeat(len(task.store.variates.targets), axis=0).T
    return Evaluation(errors, series, starts, task.seasonality)


@dataclass(frozen=True)
class Example:
    """One window with its forecast, to be looked at."""

    task: str
    item_id: str
    which: str
    """best, median or worst of the task's windows, by MASE."""
    scaled_error: float
    """Its MASE."""
    history: np.ndarray
    """The end of it, [at most four horizons]."""
    target: np.ndarray
    """[prediction_length]."""
    quantiles: np.ndarray
    """At `WQL_LEVELS`, [prediction_length, 9]."""


def examples(task: Task, evaluation: Evaluation, forecast: Forecast, batch_size: int = 64) -> list[Example]:
    """Return the best, the median and the worst forecast of those evaluated; fewer where there are fewer windows.

    Args:
        batch_size: that of the evaluation.
    """
    errors, n_targets = evaluation.errors.scaled_error(), len(task.store.variates.targets)
    order = np.flatnonzero(np.isfinite(errors))
    order = order[np.argsort(errors[order], kind="stable")]
    if not len(order):
        return []
    places = {"best": 0, "worst": len(order) - 1, "median": len(order) // 2}
    chosen = {which: int(order[places[which]]) for which in ("best", "median", "worst")[: len(order)]}
    found = []
    for which, row in chosen.items():
        # In the batch that it was scored in: the samples of a token model follow from that too.
        number, at = divmod(row, batch_size * n_targets)
        batch = range(number * batch_size, min((number + 1) * batch_size, len(task)))
        histories, target = task.histories(batch), task.targets(batch)
        quantiles = forecast(histories, task.prediction_length)[at]
        name, end = task.store.item_ids[int(evaluation.series[row])], target_rows(histories)[at][-4 * len(quantiles) :]
        found.append(Example(task.name, name, which, float(errors[row]), end, target[at], quantiles))
    return found
