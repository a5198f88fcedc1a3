"""Samplers: each draws training windows of one kind of series, as functions of keys. Here: real series and sums."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from pipeline.config import MixupConfig
from pipeline.core.files import fingerprint
from pipeline.core.series import TARGET, UNIVARIATE, Variates
from pipeline.data.arrow_store import Store
from pipeline.synthetic.draws import uniform
from pipeline.synthetic.mixup import Mixup
from pipeline.windows.gather import last_windows, store_windows
from pipeline.windows.splits import Split, training_pool

_SERIES_AND_START = np.array([1, 2], np.uint64)
"""Counters of a key's hash for the series and the forecast start; `TrainingWindows` uses counter 0."""


class Sampler(Protocol):
    """A source of training windows."""

    n_series: int
    """Number of series that windows are drawn from; 0 if they are synthetic."""
    n_steps: int
    """Number of steps that an epoch covers; 0 if the series are synthetic, so that there are no epochs."""
    variates: Variates
    """Names of the rows of a window."""

    @property
    def fingerprint(self) -> str:
        """Hash of the data and the settings."""

    @property
    def stores(self) -> list[Store]:
        """The stores that windows are drawn from."""

    def draw(
        self, keys: np.ndarray, batch_keys: np.ndarray, context_length: int, prediction_length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw one window for each key; a window of several variates has one row per variate.

        Args:
            keys: uint64, [n].
            batch_keys: uint64, [n]; windows of the same training batch have the same batch key.

        Returns:
            Context [n x n_variates, context_length] and target [n x n_variates, prediction_length], float32.
        """

    def include_holdout(self) -> Sampler:
        """Return a sampler that also draws windows from the holdout."""


class Together(NamedTuple):
    """Windows that may depend on each other, in the lengths of `Sampler.draw`."""

    context: np.ndarray
    target: np.ndarray
    groups: np.ndarray
    """Number of each window's group among those of its sampler in its batch, -1 for a series that is alone: [n]."""
    roles: np.ndarray
    """TARGET, PAST or KNOWN for each window: int64, [n]."""


class TogetherSampler(ABC):
    """A source of training windows that depend on each other."""

    @abstractmethod
    def draw_together(
        self, keys: np.ndarray, batch_keys: np.ndarray, slots: np.ndarray, context_length: int, prediction_length: int
    ) -> Together:
        """Draw one window for each slot of a batch.

        Args:
            keys, batch_keys: as in `Sampler.draw`.
            slots: position of each window among those of this sampler in its batch, int64, [n].
        """


class SeriesSampler:
    """Windows of real series: draw a series by its length, and a forecast start uniformly from the series.

    A series that is r times as long as the mean has the weight r + exp(-r). Long series are drawn in proportion to
    their length, and short ones at least once per round. GluonTS's `ExpectedNumInstanceSampler` draws with the same
    frequencies, and Chronos was trained with it.
    """

    def __init__(self, split: Split) -> None:
        assert len(split.usable)
        self.split, self.variates = split, split.store.variates
        self.n_series = len(split.usable)
        lengths = split.train_ends[split.usable]
        self.n_steps = int(lengths.sum())
        relative = lengths / lengths.mean()
        self._bounds = np.cumsum(relative + np.exp(-relative))
        self._bounds /= self._bounds[-1]

    @property
    def fingerprint(self) -> str:
        """Hash of the store."""
        return self.split.store.fingerprint

    @property
    def stores(self) -> list[Store]:
        """The store, in a list."""
        return [self.split.store]

    def draw(
        self, keys: np.ndarray, batch_keys: np.ndarray, context_length: int, prediction_length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw one window for each key, as `Sampler.draw` does."""
        split = self.split
        series_position, start_position = uniform(keys[:, None], _SERIES_AND_START).T
        series = split.usable[np.searchsorted(self._bounds, series_position, side="right")]
        ends = split.train_ends[series]
        starts = split.min_past + (start_position * (ends - split.min_past)).astype(np.int64)
        return store_windows(split.store, series, starts, ends, context_length, prediction_length)

    def include_holdout(self) -> SeriesSampler:
        """Return a sampler of the same store whose training steps include the holdout; more series may be usable."""
        return type(self)(self.split.include_holdout())


class GroupSampler(SeriesSampler, TogetherSampler):
    """Windows of groups of real series, drawn together: all start as many steps before the end of their series.

    So no window contains the target of another, as in a forecast. A series is drawn about as often as by
    `SeriesSampler`: its group with the mean weight of its members.
    """

    def __init__(self, split: Split) -> None:
        super().__init__(split)
        assert split.store.groups is not None
        groups = split.store.groups[split.usable]
        order = np.argsort(groups, kind="stable")
        self._members = split.usable[order]
        self._begins = np.flatnonzero(np.diff(groups[order], prepend=-1))
        self._sizes = np.diff(self._begins, append=len(order))
        weights = np.add.reduceat(np.diff(self._bounds, prepend=0.0)[order], self._begins) / self._sizes
        self._group_bounds = np.cumsum(weights) / weights.sum()
        ends, train_ends = split.ends[self._members], split.train_ends[self._members]
        self._nearest = np.minimum.reduceat(ends - train_ends, self._begins) + 1
        self._farthest = np.maximum.reduceat(ends - split.min_past, self._begins)

    def draw_together(
        self, keys: np.ndarray, batch_keys: np.ndarray, slots: np.ndarray, context_length: int, prediction_length: int
    ) -> Together:
        """Draw one window for each slot of a batch: group after group, each from a random member on.

        A series that is too short at the group's start is drawn alone.
        """
        batches, batch = np.unique(batch_keys, return_inverse=True)
        counters = np.arange(3 * (int(slots.max()) + 1), dtype=np.uint64)
        choice, rotation, position = np.moveaxis(uniform(batches[:, None], counters).reshape(len(batches), -1, 3), 2, 0)
        groups = np.searchsorted(self._group_bounds, choice, side="right").clip(max=len(self._sizes) - 1)
        first_slots = np.cumsum(self._sizes[groups], axis=1) - self._sizes[groups]
        draw = (first_slots[batch] <= slots[:, None]).sum(axis=1) - 1
        group, first = groups[batch, draw], first_slots[batch, draw]
        shift = (rotation[batch, draw] * self._sizes[group]).astype(np.int64)
        series = self._members[self._begins[group] + (shift + slots - first) % self._sizes[group]]
        ends, nearest, farthest = self.split.train_ends[series], self._nearest[group], self._farthest[group]
        distance = nearest + (position[batch, draw] * (farthest - nearest + 1)).astype(np.int64)
        starts = self.split.ends[series] - distance
        min_past = self.split.min_past
        is_alone = starts < min_past  # one that starts in the holdout has no target, and is drawn again
        own_position = uniform(keys, int(_SERIES_AND_START[1]))
        starts = np.where(is_alone, min_past + (own_position * (ends - min_past)).astype(np.int64), starts)
        windows = store_windows(self.split.store, series, starts, ends, context_length, prediction_length)
        return Together(*windows, np.where(is_alone, -1, draw), np.full(len(keys), TARGET))


class MixupSampler:
    """Windows of TSMixup: each is the end of a weighted sum of segments of real series."""

    variates = UNIVARIATE

    def __init__(self, splits: Sequence[Split], mixup: Mixup) -> None:
        self.splits, self.mixup = list(splits), mixup
        self.n_series = sum(len(split.usable) for split in splits)
        self.n_steps = sum(int(split.train_ends[split.usable].sum()) for split in splits)

    @property
    def fingerprint(self) -> str:
        """Hash of the stores and the settings of TSMixup."""
        settings = [getattr(self.mixup, field.name) for field in dataclasses.fields(MixupConfig)]
        return fingerprint([], self.mixup.weights, settings, [store.fingerprint for store in self.stores])

    @property
    def stores(self) -> list[Store]:
        """The stores that are mixed."""
        return [split.store for split in self.splits]

    def draw(
        self, keys: np.ndarray, batch_keys: np.ndarray, context_length: int, prediction_length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw one window for each key, as `Sampler.draw` does."""
        width = context_length + prediction_length
        lengths = np.minimum(self.mixup.draw_lengths(keys), width)
        values = self.mixup.draw(keys, lengths, width)
        return last_windows(values, lengths, self.splits[0].min_past, context_length, prediction_length)

    def include_holdout(self) -> MixupSampler:
        """Return a sampler of sums of the same series, with the holdout among their segments."""
        splits = [split.include_holdout() for split in self.splits]
        mixup = dataclasses.replace(self.mixup, pools=[training_pool(split) for split in splits])
        return MixupSampler(splits, mixup)
