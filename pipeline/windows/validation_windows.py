"""Validation windows: the holdout of every series, in windows that are the same for all candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from pipeline.core.batches import split_batches
from pipeline.core.series import History
from pipeline.data.arrow_store import store_from_arrays
from pipeline.data.frequency import seasonality
from pipeline.synthetic.draws import hash_words, make_keys
from pipeline.windows.gather import Batch, learnable_windows, store_windows, trim_padding
from pipeline.windows.origins import can_be_scored, groups_of_windows
from pipeline.windows.splits import Split
from pipeline.windows.synthetic_samplers import SyntheticSampler
from pipeline.windows.training_windows import TrainingWindows


class ValidationWindows:
    """The holdout of every series, split into horizons, each with the history before it."""

    def __init__(
        self,
        splits: Sequence[Split],
        *,
        context_length: int,
        prediction_length: int,
        max_windows: int,
        batch_size: int = 64,
        cross_learning: bool = False,
    ) -> None:
        """Choose the windows.

        Args:
            max_windows: maximum number of windows, in equal shares for the data sets. A data set with more windows
                keeps evenly spaced ones, or evenly spaced batches of groups.
            batch_size: windows that are forecast in one pass. Sampled forecasts and those of groups depend on it, so it
                is the same on every machine.
            cross_learning: whether the windows of a batch see each other if the series have no groups.
        """
        self.splits = list(splits)
        self.variates = self.splits[0].store.variates
        self.context_length = context_length
        self.prediction_length = prediction_length
        self.batch_size = batch_size
        max_per_dataset = max(1, max_windows // len(self.splits))
        chosen, keys, has_groups = [], [], False
        for dataset in range(len(self.splits)):
            windows = np.array(list(self._holdout_windows(dataset)), np.int64).reshape(-1, 4)
            groups = self._number_groups(dataset, windows, cross_learning)
            if groups is None:
                rows = _evenly_spaced(np.arange(len(windows)), max_per_dataset)
                groups = np.arange(len(windows))
            else:
                has_groups, order = True, np.argsort(groups, kind="stable")
                batches = split_batches(order, batch_size, groups[order])
                kept = _evenly_spaced(np.arange(len(batches)), max(1, max_per_dataset // batch_size))
                rows = np.concatenate([batches[number] for number in kept]) if batches else order
            chosen.append(windows[rows])
            keys.append(np.stack([windows[rows, 0], groups[rows]]))
        self.windows = np.concatenate(chosen)
        """int64, [n, 4]: data set, series, forecast start, end of the series' holdout."""
        self.groups = np.unique(np.concatenate(keys, axis=1), axis=1, return_inverse=True)[1] if has_groups else None
        """Number of the group of each window, with equal numbers next to each other: int64, [n]; None without groups.
        Windows of the same group start as many horizons before the end of the holdout."""

    def __len__(self) -> int:
        return len(self.windows)

    def _holdout_windows(self, dataset: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield the rows of `windows` for one data set.

        Windows are aligned to the end of the holdout. A holdout that is shorter than the horizon is one window.
        Some target of a window must have a known value both before its start and in its horizon.
        """
        split, length = self.splits[dataset], self.prediction_length
        for series, train_end, end in zip(split.store.scan(), split.train_ends.tolist(), split.ends.tolist()):
            targets = split.store.rows(series)[: len(split.store.variates.targets)]
            first = max(end - max(1, (end - train_end) // length) * length, train_end)
            for start in range(first, end, length):
                if can_be_scored(targets, start, min(end, start + length)):
                    yield dataset, series, start, end

    def _number_groups(self, dataset: int, windows: np.ndarray, cross_learning: bool) -> np.ndarray | None:
        """Return the numbers of the groups of windows of one data set, None without groups."""
        groups = self.splits[dataset].store.shared_groups(cross_learning)
        if groups is None:
            return None
        _, series, starts, ends = windows.T
        return groups_of_windows(groups[series], ends - starts, self.prediction_length)

    def histories(self, indices: Sequence[int]) -> list[History]:
        """Return the whole history before the forecast start of each window, not limited to `context_length`."""
        length, rows = self.prediction_length, np.asarray(indices, np.int64)
        groups = [None] * len(rows) if self.groups is None else self.groups[rows].tolist()
        return [
            self.splits[dataset].store.history(series, start, min(end, start + length), length, group)
            for (dataset, series, start, end), group in zip(self.windows[rows].tolist(), groups)
        ]

    def targets(self, indices: Sequence[int]) -> np.ndarray:
        """Return the actual values of windows: float32, [n_windows x n_targets, prediction_length]."""
        n_variates, n_targets = len(self.variates), len(self.variates.targets)
        target = self.batch(indices)[1].reshape(-1, n_variates, self.prediction_length)[:, :n_targets]
        return target.reshape(-1, self.prediction_length)

    def learnable(self, indices: Sequence[int]) -> list[int]:
        """Return the windows that training could have drawn, see `learnable_windows`; others have an unbounded loss."""
        context, target = self.batch(indices)
        shape = len(indices), len(self.variates), -1
        is_learnable = learnable_windows(context.reshape(shape), target.reshape(shape), len(self.variates.targets))
        return [indices[position] for position in np.flatnonzero(is_learnable).tolist()]

    def row_keys(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the data set and the series of each row of errors: int64, [n_windows x n_targets] each."""
        n_targets = len(self.variates.targets)
        return self.windows[:, 0].repeat(n_targets), self.windows[:, 1].repeat(n_targets)

    def seasons(self, indices: Sequence[int]) -> list[int]:
        """Return the season length of each window's series, in steps."""
        datasets = self.windows[np.asarray(indices, np.int64), 0]
        return [seasonality(self.splits[dataset].store.freq) for dataset in datasets]

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the windows with the given indices, in the form of `TrainingWindows.batch`.

        Returns:
            Context [n x n_variates, at most context_length] and target [n x n_variates, prediction_length], float32.
        """
        chosen = self.windows[np.asarray(indices, np.int64)]
        n_variates = len(self.variates)
        context = np.empty((len(chosen), n_variates, self.context_length), np.float32)
        target = np.empty((len(chosen), n_variates, self.prediction_length), np.float32)
        for dataset in np.unique(chosen[:, 0]):
            rows = np.flatnonzero(chosen[:, 0] == dataset)
            _, series, starts, ends = chosen[rows].T
            store = self.splits[dataset].store
            past, future = store_windows(store, series, starts, ends, self.context_length, self.prediction_length)
            context[rows] = past.reshape(len(rows), n_variates, -1)
            target[rows] = future.reshape(len(rows), n_variates, -1)
        return trim_padding(context.reshape(-1, self.context_length)), target.reshape(-1, self.prediction_length)

    def grouped_batch(self, indices: Sequence[int]) -> Batch:
        """Return `batch`, and the number of the group of each window."""
        groups = None if self.groups is None else self.groups[np.asarray(indices, np.int64)]
        return Batch(*self.batch(indices), groups)


def synthetic_holdout(
    sampler: SyntheticSampler, n_series: int, *, context_length: int, prediction_length: int, seed: int
) -> Split:
    """Return synthetic series that are not among the training windows, each with its last horizon held out.

    Panels are not among them.

    Each series is divided by the mean absolute value of its context, so that sums of their errors have one unit.
    """
    holdout_seed = int(hash_words(make_keys(seed, np.zeros(1)), 0)[0])
    windows = TrainingWindows(
        [SyntheticSampler(sampler.bank, sampler.min_past)],
        [1.0],
        context_length=context_length,
        prediction_length=prediction_length,
        drop_prob=0.0,
        seed=holdout_seed,
    )
    context, target = windows.batch(range(n_series))
    scale = np.nanmean(np.abs(context), axis=1)
    begins = np.argmax(~np.isnan(context), axis=1)
    series = [np.concatenate([context[i, begin:], target[i]]) / scale[i] for i, begin in enumerate(begins)]
    # Hourly, for its season of 24 steps, and without dates: the bank draws neither.
    store = replace(store_from_arrays(series, "h"), starts=np.full(n_series, "NaT", "M8[s]"))
    return Split(store, store.lengths - prediction_length, store.lengths, np.arange(n_series), {}, sampler.min_past)


def _evenly_spaced(rows: np.ndarray, max_rows: int) -> np.ndarray:
    """Return all rows, or if there are more, `max_rows` evenly spaced ones with the first and the last."""
    if len(rows) <= max_rows:
        return rows
    return rows[np.linspace(0, len(rows) - 1, max_rows).round().astype(np.int64)]
