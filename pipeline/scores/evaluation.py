"""Scores of any forecaster on the last windows of real series."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter

import numpy as np

from pipeline.data.arrow_store import Store
from pipeline.data.frequency import seasonality
from pipeline.errors import UserError
from pipeline.processes import Processes
from pipeline.scores.metrics import Forecast, WindowErrors, forecast_errors
from pipeline.series import History, target_rows
from pipeline.training_data.windows import history_at


@dataclass(frozen=True)
class Task:
    """One data set to score on: at each of `windows` rolling origins, one horizon apart, the last at the very end."""

    name: str
    store: Store
    prediction_length: int
    seasonality: int
    windows: int = 1

    @cached_property
    def cuts(self) -> list[tuple[int, int]]:
        """(series, forecast start) of every window with a known history and a known target.

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
            if (self.store.lengths > self.prediction_length).any():
                raise UserError(
                    f"{self.name}: no series has a known value among its last {self.windows * self.prediction_length} steps "
                    "and one before them; leave out rows that are yet to come"
                )
            raise UserError(
                f"{self.name}: no series is longer than the horizon of {self.prediction_length} steps; "
                "give a shorter evaluation.prediction_length"
            )
        return cuts


def task_of(name: str, store: Store, prediction_length: int, season: int | None, windows: int) -> Task:
    """Make a task; the season follows from the store's frequency where it is not given."""
    return Task(name, store, prediction_length, season or seasonality(store.freq), windows)


@dataclass(frozen=True)
class Evaluation:
    """How far a forecaster was off in every window of a task; of several targets a window has a row for each."""

    errors: WindowErrors
    series: np.ndarray
    """Index of the series of each row, int64, [n]."""
    starts: np.ndarray
    """Forecast start of each row, int64, [n]."""
    seasonality: int

    def scores(self) -> dict[str, float]:
        """Return the scores of the task, and of how many `series` and `windows` and of what `seasonality` they are."""
        windows = np.unique(np.stack([self.series, self.starts]), axis=1).shape[1]
        counts = {"series": len(np.unique(self.series)), "windows": windows, "seasonality": self.seasonality}
        return {**self.errors.scores(), **counts}

    def by_series(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the indices of the series that have scores, [n_series], and their scores."""
        found, group = np.unique(self.series, return_inverse=True)
        return found, self.errors.scores_by(group, len(found))

    def by_step(self) -> list[dict[str, float]]:
        """Return the scores of each step of the horizon."""
        return [self.errors.of_step(step).scores() for step in range(self.errors.pinball.shape[1])]


def evaluate(
    task: Task, forecast: Forecast, batch_size: int = 64, processes: Processes | None = None, device: str = "cpu"
) -> Evaluation:
    """Forecast every window of a task, and compare with the actual values.

    Args:
        processes: those that all evaluate the same task: each forecasts some of the batches, and all get the whole. None
            where this one is alone with it.
        device: what the processes gather by.
    """
    # Longest history first, so that a batch holds histories of like length.
    cuts, n_targets = sorted(task.cuts, key=lambda cut: -cut[1]), len(task.store.variates.targets)
    batches = [cuts[first : first + batch_size] for first in range(0, len(cuts), batch_size)]
    if processes is None:
        parts = [_errors(task, forecast, batch) for batch in batches]
    else:
        own = range(processes.rank, len(batches), processes.count)
        of_all = processes.gathered([(number, _errors(task, forecast, batches[number])) for number in own], device)
        parts = [part for _, part in sorted(of_all, key=itemgetter(0))]
    series, starts = np.array(cuts, np.int64).repeat(n_targets, axis=0).T
    return Evaluation(WindowErrors.joined(parts), series, starts, task.seasonality)


def _errors(task: Task, forecast: Forecast, cuts: Sequence[tuple[int, int]]) -> WindowErrors:
    histories, target = windows_at(task, cuts)
    quantiles = forecast(histories, task.prediction_length)
    return forecast_errors(histories, target, quantiles, [task.seasonality] * len(histories))


def windows_at(task: Task, cuts: Sequence[tuple[int, int]]) -> tuple[list[History], np.ndarray]:
    """Return the history of each of some (series, forecast start), and the actual values: [n targets, prediction_length]."""
    length, n_targets = task.prediction_length, len(task.store.variates.targets)
    histories = [history_at(task.store, series, start, start + length, length) for series, start in cuts]
    rows = [task.store.rows(series)[:n_targets, start : start + length] for series, start in cuts]
    return histories, np.concatenate(rows)


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
    cuts = list(zip(evaluation.series[::n_targets].tolist(), evaluation.starts[::n_targets].tolist()))
    found = []
    for which, row in chosen.items():
        # In the batch that it was scored in: the samples of a token model follow from that too.
        batch, at = divmod(row, batch_size * n_targets)
        histories, target = windows_at(task, cuts[batch * batch_size : (batch + 1) * batch_size])
        quantiles = forecast(histories, task.prediction_length)[at]
        name, end = task.store.item_ids[int(evaluation.series[row])], target_rows(histories)[at][-4 * len(quantiles) :]
        found.append(Example(task.name, name, which, float(errors[row]), end, target[at], quantiles))
    return found
