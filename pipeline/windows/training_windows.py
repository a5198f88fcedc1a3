"""Training windows: window i is a pure function of (seed, i), and whole batches are drawn at once.

The sampler, the series, the forecast start and the dropped values of window i come from a counter-based hash of
(seed, i). So any number of loader workers and processes sees the same windows, and a resumed run skips windows without
reading them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np

from pipeline.core.series import TARGET
from pipeline.data.arrow_store import Store
from pipeline.synthetic.draws import hash_words, make_keys, mix, uniform
from pipeline.windows.gather import Batch, learnable_windows, trim_padding
from pipeline.windows.samplers import Sampler, Together, TogetherSampler
from pipeline.windows.synthetic_samplers import PanelSampler

_MAX_DRAWS = 1000
"""Maximum number of draws of a window. Set by hand: more draws find rarer usable windows, fewer end an empty search
sooner."""
_DROP_COUNTER, _GROUP_COUNTER = 1 << 48, 1 << 49
"""Counters of a key's hash for the dropped values and, from the second on, for the groups of each sampler, far above
the counters that samplers use."""


class TrainingWindows:
    """An endless sequence of training windows of weighted samplers, with random access.

    The context of a window is up to `context_length` steps before the forecast start, padded with NaN on the left. Its
    target is the `prediction_length` steps from the start, padded with NaN on the right after the last training step.

    A window that no scaled loss can learn from is drawn again, see `learnable_windows`. After 1,000 draws its target is
    masked.

    A window of several variates has one row per variate, in consecutive rows. The target of a covariate is its future.

    Series of a group are drawn together into one batch. A window that is drawn again is of a series alone.
    """

    def __init__(
        self,
        samplers: Sequence[Sampler],
        weights: Sequence[float],
        *,
        context_length: int,
        prediction_length: int,
        drop_prob: float,
        seed: int,
        batch_size: int = 1,
    ) -> None:
        """Combine samplers.

        Args:
            weights: weight of each sampler, relative to the others.
            drop_prob: largest share of steps whose target columns are set to NaN, in context and horizon. Each window
                draws its share uniformly between 0 and this.
            batch_size: windows of an optimizer step, over all processes.
        """
        assert len(samplers) == len(weights)
        self.samplers = list(samplers)
        self.variates = self.samplers[0].variates
        assert all(sampler.variates == self.variates for sampler in self.samplers)
        self._bounds = np.cumsum(np.asarray(weights, np.float64) / sum(weights))
        self.context_length = context_length
        self.prediction_length = prediction_length
        self.drop_prob = drop_prob
        self.seed = seed
        self.batch_size = batch_size

    @property
    def shares(self) -> np.ndarray:
        """Share of the windows that each sampler draws, float64, [n_samplers]."""
        return np.diff(self._bounds, prepend=0.0)

    def stores(self) -> list[Store]:
        """Return the stores that windows are drawn from, without synthetic banks."""
        return [store for sampler in self.samplers for store in sampler.stores]

    def windows_per_epoch(self) -> int | None:
        """Return the number of windows whose horizons cover every training step once on average.

        Windows of synthetic series cover no training step. None if all series are synthetic.
        """
        real_share = sum(share for share, sampler in zip(self.shares, self.samplers) if sampler.n_steps)
        # The small term keeps a rounding error of the shares from adding a window.
        return math.ceil(self._n_steps() / (self.prediction_length * real_share) - 1e-6) if real_share else None

    def include_holdout(self) -> TrainingWindows | None:
        """Return windows that also come from the holdout; None if nothing is held out."""
        with_holdout = copy.copy(self)
        with_holdout.samplers = [sampler.include_holdout() for sampler in self.samplers]
        return with_holdout if with_holdout._n_steps() > self._n_steps() else None

    def _n_steps(self) -> int:
        return sum(sampler.n_steps for sampler in self.samplers)

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the windows with the given indices.

        Returns:
            Context [n x n_variates, at most context_length] and target [n x n_variates, prediction_length], float32.
            Columns of the context that are padding in all windows are removed.
        """
        return self.grouped_batch(indices)[:2]

    def grouped_batch(self, indices: Sequence[int]) -> Batch:
        """Return the windows with the given indices, their groups and their roles.

        Columns of the context that are padding in all windows are removed, as are those at the end of all targets if
        windows are rows of panels, whose horizons differ.
        """
        numbers = np.asarray(indices)
        window_keys = make_keys(self.seed, numbers)
        batch_keys = make_keys(self.seed, numbers // self.batch_size)
        # A window is drawn again by the same sampler, so that samplers keep their weights.
        chosen = self._choose_samplers(window_keys)
        draws_together = any(isinstance(each, TogetherSampler) for each in self.samplers)
        slots = self._slots(numbers, chosen) if draws_together else None
        has_panels = any(isinstance(each, PanelSampler) for each in self.samplers)
        n_targets = len(self.variates.targets)
        pending = np.arange(len(window_keys))
        for attempt in range(_MAX_DRAWS):
            keys = mix(window_keys[pending] ^ np.uint64(attempt))
            drawn = self._draw(keys, batch_keys[pending], chosen[pending], slots if attempt == 0 else None)
            if attempt == 0:
                context, target, groups, roles = drawn
                n_steps = trim_padding(target[:, 0, ::-1]).shape[1] if has_panels else target.shape[2]
                target = target[:, :, :n_steps]
            else:
                context[pending], groups[pending], roles[pending] = drawn.context, drawn.groups, drawn.roles
                target[pending] = drawn.target[:, :, : target.shape[2]]
            is_final = learnable_windows(drawn.context, drawn.target, n_targets) | (drawn.roles != TARGET)
            pending = pending[~is_final]
            if not len(pending):
                break
        else:
            target[pending, :n_targets] = np.nan
        first_group = (numbers // self.batch_size * len(self.samplers) + chosen) * self.batch_size
        groups = np.where(groups < 0, -1 - np.arange(len(groups)), first_group + groups)
        context, target = trim_padding(context.reshape(-1, self.context_length)), target.reshape(-1, target.shape[2])
        return Batch(context, target, None if slots is None else groups, roles if has_panels else None)

    def _slots(self, numbers: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Return the position of each window among those of its sampler in its batch: int64, [n]."""
        batches, batch = np.unique(numbers // self.batch_size, return_inverse=True)
        positions = np.arange(self.batch_size)
        all_keys = make_keys(self.seed, (batches[:, None] * self.batch_size + positions).ravel())
        all_chosen = self._choose_samplers(all_keys).reshape(len(batches), -1)
        is_before = positions < (numbers % self.batch_size)[:, None]
        return np.asarray((is_before & (all_chosen[batch] == chosen[:, None])).sum(axis=1))

    def _choose_samplers(self, window_keys: np.ndarray) -> np.ndarray:
        """Return the position of each window's sampler: int64, [n]."""
        if len(self.samplers) == 1:
            return np.zeros(len(window_keys), np.int64)
        return np.searchsorted(self._bounds, uniform(window_keys, 0), side="right").clip(max=len(self.samplers) - 1)

    def _draw(self, keys: np.ndarray, batch_keys: np.ndarray, chosen: np.ndarray, slots: np.ndarray | None) -> Together:
        """Draw one window of the chosen sampler for each key, and drop values.

        Args:
            slots: what `_slots` returned; None draws each series alone.

        Returns:
            Context [n, n_variates, context_length], target [n, n_variates, prediction_length], groups and roles [n].
        """
        n_variates, lengths = len(self.variates), (self.context_length, self.prediction_length)
        groups, roles = np.full(len(keys), -1), np.full(len(keys), TARGET)
        context, target = (np.empty((len(keys), n_variates, length), np.float32) for length in lengths)
        for position, sampler in enumerate(self.samplers):
            rows = np.flatnonzero(chosen == position)
            if not len(rows):
                continue
            sampler_keys, own_batch_keys = keys[rows], batch_keys[rows]
            if isinstance(sampler, TogetherSampler):
                own_batch_keys = hash_words(own_batch_keys, _GROUP_COUNTER + position)
            if slots is not None and isinstance(sampler, TogetherSampler):
                drawn = sampler.draw_together(sampler_keys, own_batch_keys, slots[rows], *lengths)
                past, future, groups[rows], roles[rows] = drawn
            else:
                past, future = sampler.draw(sampler_keys, own_batch_keys, *lengths)
            past, future = past.reshape(-1, n_variates, lengths[0]), future.reshape(-1, n_variates, lengths[1])
            if len(rows) == len(keys):
                context, target = past, future  # not copied
            else:
                context[rows], target[rows] = past, future
        if self.drop_prob > 0:
            self._drop_values(keys, context, target)
        return Together(context, target, groups, roles)

    def _drop_values(self, keys: np.ndarray, context: np.ndarray, target: np.ndarray) -> None:
        """Set a random share of the steps of each window to NaN, the same steps in all targets, in place."""
        keys, n_targets = hash_words(keys, _DROP_COUNTER), len(self.variates.targets)
        steps = np.arange(1, 1 + self.context_length + self.prediction_length, dtype=np.uint64)
        dropped = uniform(keys[:, None], steps) < self.drop_prob * uniform(keys, 0)[:, None]
        past, future = dropped[:, None, : self.context_length], dropped[:, None, self.context_length :]
        context[:, :n_targets] = np.where(past, np.nan, context[:, :n_targets])
        target[:, :n_targets] = np.where(future, np.nan, target[:, :n_targets])
