"""Training windows as pure functions of (seed, i), and the fixed windows of validation, gathered a whole batch at a time.

Window i's source, series, end point and dropped values all come from a counter-based hash of (seed, i): any number of
loader workers or processes sees the same windows, and a resumed run needs to read none of those it skips.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from pipeline.core.series import UNIVARIATE, History, Variates
from pipeline.data.arrow_store import Store, store_from_arrays
from pipeline.data.frequency import seasonality
from pipeline.synthetic.bank import Bank
from pipeline.synthetic.draws import Draws, keys_of, mix, uniform, word
from pipeline.synthetic.mixup import Mixup
from pipeline.windows.splits import Split, pool_of

_ATTEMPTS = 1000
_SERIES_AND_START = np.array([1, 2], np.uint64)
_EXTREME = 100.0
_WHOLE = 1 / 3
_BATCHES = 2  # of the words of a batch, that of its contexts' length


class Source(Protocol):
    """What training windows are drawn from."""

    n_series: int
    """Series that windows are drawn from; 0 where they are made as they are needed."""
    n_steps: int
    """Steps that an epoch covers; 0 where there is no end of them."""
    variates: Variates
    """What the rows of a window are."""

    def draw(
        self, keys: np.ndarray, batches: np.ndarray, context_length: int, prediction_length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return one window for each key: context [n, context_length], target [n, prediction_length], float32.

        A window of several variates has a row for each, one after the other.

        Args:
            keys: uint64, [n].
            batches: uint64, [n]; windows of one batch of training have the same.
        """

    def include_holdout(self) -> "Source":
        """Return the same source with the held-out steps among those that windows are drawn from."""


class SeriesSampler:
    """Windows of real series: a forecast start drawn uniformly from a series drawn by its length.

    The weight of a series r times as long as the mean is r + exp(-r): long ones come by their length, short ones no less
    than once a round, as GluonTS's `ExpectedNumInstanceSampler` draws them, which Chronos was trained with.
    """

    def __init__(self, split: Split, min_past: int) -> None:
        assert len(split.usable)
        self.split, self.min_past, self.variates = split, min_past, split.store.variates
        self.n_series = len(split.usable)
        lengths = split.train_ends[split.usable]
        self.n_steps = int(lengths.sum())
        relative = lengths / lengths.mean()
        self._bounds = np.cumsum(relative + np.exp(-relative))
        self._bounds /= self._bounds[-1]

    def draw(
        self, keys: np.ndarray, batches: np.ndarray, context_length: int, prediction_length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return one window for each key: context [n, context_length], target [n, prediction_length], float32."""
        split = self.split
        which, where = uniform(keys[:, None], _SERIES_AND_START).T
        series = split.usable[np.searchsorted(self._bounds, which, side="right")]
        ends = split.train_ends[series]
        starts = self.min_past + (where * (ends - self.min_past)).astype(np.int64)
        return _cut(split.store, series, starts, ends, context_length, prediction_length)

    def include_holdout(self) -> "SeriesSampler":
        """Return the same series with the held-out steps among those that windows are drawn from."""
        return SeriesSampler(self.split.include_holdout(), self.min_past)


class MixupSampler:
    """Windows of TSMixup: each the end of a sum of stretches of series."""

    variates = UNIVARIATE

    def __init__(self, splits: Sequence[Split], mixup: Mixup, min_past: int) -> None:
        self.splits, self.mixup, self.min_past = list(splits), mixup, min_past
        self.n_series = sum(len(split.usable) for split in splits)
        self.n_steps = sum(int(split.train_ends[split.usable].sum()) for split in splits)

    def draw(
        self, keys: np.ndarray, batches: np.ndarray, context_length: int, prediction_length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return one window for each key: context [n, context_length], target [n, prediction_length], float32."""
        lengths = np.minimum(self.mixup.draw_lengths(keys), context_length + prediction_length)
        values = self.mixup.draw(keys, lengths, context_length + prediction_length)
        return _last_windows(values, lengths, self.min_past, context_length, prediction_length)

    def include_holdout(self) -> "MixupSampler":
        """Return sums of stretches of the same series with the held-out steps among them."""
        splits = [split.include_holdout() for split in self.splits]
        return MixupSampler(splits, replace(self.mixup, pools=[pool_of(split) for split in splits]), self.min_past)


class SyntheticSampler:
    """Windows of series made as they are needed, each the end of a series of its own.

    A third of the batches have whole contexts, the others contexts of a length that is log-uniform from `min_past` to that:
    of one length throughout, so that no padding is computed.
    """

    n_series = n_steps = 0
    variates = UNIVARIATE

    def __init__(self, bank: Bank, min_past: int) -> None:
        self.bank, self.min_past = bank, min_past

    def draw(
        self, keys: np.ndarray, batches: np.ndarray, context_length: int, prediction_length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return one window for each key: context [n, context_length], target [n, prediction_length], float32."""
        of_batch = Draws(word(batches, _BATCHES))
        least = min(self.min_past, context_length)
        short = of_batch.log_uniform(least, context_length + 1).astype(np.int64)
        history = np.where(of_batch.chance(_WHOLE), context_length, short.clip(least, context_length))[:, 0]
        lengths = history + prediction_length
        full = context_length + prediction_length
        values = np.empty((len(keys), full), np.float32)
        # Steps behind a row's length are made for nothing, so short rows are made apart.
        brief = lengths <= full // 4
        for rows, width in ((np.flatnonzero(brief), full // 4), (np.flatnonzero(~brief), full)):
            if len(rows):
                values[rows, :width] = self.bank.draw(keys[rows], lengths[rows], width)
        return _last_windows(values, lengths, self.min_past, context_length, prediction_length)

    def include_holdout(self) -> "SyntheticSampler":
        """Return the source itself: of series made as they are needed nothing is held out."""
        return self


class TrainingWindows:
    """An endless, random-access sequence of training windows of weighted sources.

    The context of a window is up to `context_length` steps before the forecast start, NaN on the left where there are
    fewer; its target the `prediction_length` steps from it, NaN on the right where training steps end. A window is drawn
    again where its context is constant or unknown throughout, where no target step is known, or where a target lies more
    than 100 standard deviations of the context from its mean: no scaled loss can learn from it. Of several targets one
    that is none of this is enough.

    A window of several variates is as many rows, one after the other; the future of covariates stands among the targets.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        weights: Sequence[float],
        *,
        context_length: int,
        prediction_length: int,
        drop_prob: float,
        seed: int,
        batch_size: int = 1,
    ) -> None:
        assert len(sources) == len(weights)
        self.sources = list(sources)
        self.variates = self.sources[0].variates
        assert all(source.variates == self.variates for source in self.sources)
        self.bounds = np.cumsum(np.asarray(weights, np.float64) / sum(weights))
        self.context_length = context_length
        self.prediction_length = prediction_length
        self.drop_prob = drop_prob
        self.seed = seed
        self.batch_size = batch_size
        """Windows of a step of training, those of all processes."""

    def windows_per_epoch(self) -> int | None:
        """Return how many windows it takes for their horizons to cover every training step once on average.

        Those of series that are made as they are needed cover none; None where all are, for there is no end of them.
        """
        shares = np.diff(self.bounds, prepend=0.0)
        share = sum(share for share, source in zip(shares, self.sources) if source.n_steps)
        return math.ceil(self._n_steps() / (self.prediction_length * share) - 1e-6) if share else None

    def include_holdout(self) -> "TrainingWindows | None":
        """Return such windows with the held-out steps among them, None where nothing is held out of the sources."""
        everything = copy.copy(self)
        everything.sources = [source.include_holdout() for source in self.sources]
        return everything if everything._n_steps() > self._n_steps() else None

    def _n_steps(self) -> int:
        return sum(source.n_steps for source in self.sources)

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return windows as float32 context [n, at most context_length] and target [n, prediction_length].

        Columns of the context that are padding in every window are left out.
        """
        first = keys_of(self.seed, np.asarray(indices))
        batches = keys_of(self.seed, np.asarray(indices) // self.batch_size)
        n_targets = len(self.variates.targets)
        # Drawn anew within its source, so that sources keep their weights.
        chosen = np.zeros(len(first), np.int64)
        if len(self.sources) > 1:
            chosen = np.searchsorted(self.bounds, uniform(first, 0), side="right").clip(max=len(self.sources) - 1)
        pending = np.arange(len(first))
        for attempt in range(_ATTEMPTS):
            keys = mix(first[pending] ^ np.uint64(attempt))
            past, future = self._drawn(keys, batches[pending], chosen[pending])
            if self.drop_prob > 0:
                self._drop(keys, past, future)
            if attempt == 0:
                context, target = past, future
            else:
                context[pending], target[pending] = past, future
            learnable = _learnable(
                past[:, :n_targets].reshape(-1, self.context_length),
                future[:, :n_targets].reshape(-1, self.prediction_length),
            )
            pending = pending[~learnable.reshape(-1, n_targets).any(axis=1)]
            if not len(pending):
                break
        else:
            target[pending, :n_targets] = np.nan
        return _trimmed(context.reshape(-1, self.context_length)), target.reshape(-1, self.prediction_length)

    def _drawn(self, keys: np.ndarray, batches: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return one window of the chosen source for each key: [n, n_variates, length] of context and of target."""
        shape, lengths = (-1, len(self.variates)), (self.context_length, self.prediction_length)
        if len(self.sources) == 1:
            past, future = self.sources[0].draw(keys, batches, *lengths)
            return past.reshape(*shape, lengths[0]), future.reshape(*shape, lengths[1])
        context, target = (np.empty((len(keys), shape[1], length), np.float32) for length in lengths)
        for which, source in enumerate(self.sources):
            at = np.flatnonzero(chosen == which)
            if len(at):
                past, future = source.draw(keys[at], batches[at], *lengths)
                context[at], target[at] = past.reshape(*shape, lengths[0]), future.reshape(*shape, lengths[1])
        return context, target

    def _drop(self, keys: np.ndarray, context: np.ndarray, target: np.ndarray) -> None:
        """Leave out values of the targets, at the same steps in all of them."""
        keys, n_targets = word(keys, 1 << 48), len(self.variates.targets)
        width = self.context_length + self.prediction_length
        steps = np.arange(1, 1 + width, dtype=np.uint64)
        dropped = uniform(keys[:, None], steps) < self.drop_prob * uniform(keys, 0)[:, None]
        past, future = dropped[:, None, : self.context_length], dropped[:, None, self.context_length :]
        context[:, :n_targets] = np.where(past, np.nan, context[:, :n_targets])
        target[:, :n_targets] = np.where(future, np.nan, target[:, :n_targets])


def held_out(
    source: SyntheticSampler, n_series: int, *, context_length: int, prediction_length: int, seed: int
) -> Split:
    """Return series that no training window shows, whose last horizon is for validation.

    They are scaled to a mean absolute value of one, so that a sum of their errors is not one of their units.
    """
    key = int(word(keys_of(seed, np.zeros(1)), 0)[0])
    windows = TrainingWindows(
        [source], [1.0], context_length=context_length, prediction_length=prediction_length, drop_prob=0.0, seed=key
    )
    context, target = windows.batch(range(n_series))
    scale = np.nanmean(np.abs(context), axis=1)
    begins = np.argmax(~np.isnan(context), axis=1)
    series = [np.concatenate([context[i, begin:], target[i]]) / scale[i] for i, begin in enumerate(begins)]
    store = store_from_arrays(series, "h")
    return Split(store, store.lengths - prediction_length, store.lengths, np.arange(n_series), {}, source.min_past)


class ValidationWindows:
    """The held-out steps of every series cut into horizons, with the history before each: the same for every candidate."""

    def __init__(
        self, splits: Sequence[Split], *, context_length: int, prediction_length: int, max_windows: int
    ) -> None:
        self.splits = list(splits)
        self.variates = self.splits[0].store.variates
        self.context_length = context_length
        self.prediction_length = prediction_length
        share = max(1, max_windows // len(self.splits))
        self.windows = np.concatenate(
            [
                _spread(np.array(list(self._windows_of(which)), np.int64).reshape(-1, 4), share)
                for which in range(len(splits))
            ]
        )
        """int64, [n, 4]: data set, series, forecast start, end of the known target."""

    def __len__(self) -> int:
        return len(self.windows)

    def _windows_of(self, which: int) -> Iterator[tuple[int, int, int, int]]:
        split = self.splits[which]
        for series, (start, end) in enumerate(zip(split.train_ends.tolist(), split.ends.tolist())):
            # Aligned to the end of the series; where less than a horizon is held out, that is the one window.
            first = end - max(1, (end - start) // self.prediction_length) * self.prediction_length
            for begin in range(max(first, start), end, self.prediction_length):
                targets = split.store.rows(series)[: len(split.store.variates.targets)]
                # One start is scored of the targets of an item that are known there, none where there is no such target.
                known = ~np.isnan(targets[:, :begin]).all(axis=1)
                if not np.isnan(targets[known, begin : min(end, begin + self.prediction_length)]).all():
                    yield which, series, begin, end

    def histories(self, indices: Sequence[int]) -> list[History]:
        """Return everything that is known at the forecast start of each window, however short training windows are."""
        length = self.prediction_length
        chosen = self.windows[np.asarray(indices, np.int64)].tolist()
        return [
            self.splits[which].store.history(series, start, min(end, start + length), length)
            for which, series, start, end in chosen
        ]

    def targets(self, indices: Sequence[int]) -> np.ndarray:
        """Return what is to be forecast in windows: float32, [n_windows x n_targets, prediction_length]."""
        n_rows, n_targets = len(self.variates), len(self.variates.targets)
        target = self.batch(indices)[1].reshape(-1, n_rows, self.prediction_length)[:, :n_targets]
        return target.reshape(-1, self.prediction_length)

    def learnable(self, indices: Sequence[int]) -> list[int]:
        """Return those windows that training could have drawn: a constant context, say, makes a loss of any size."""
        context, target = self.batch(indices)
        n_rows, n_targets = len(self.variates), len(self.variates.targets)
        rows = [part.reshape(len(indices), n_rows, -1)[:, :n_targets] for part in (context, target)]
        of_rows = _learnable(*(part.reshape(-1, part.shape[2]) for part in rows))
        chosen = np.flatnonzero(of_rows.reshape(len(indices), n_targets).any(axis=1))
        return [indices[place] for place in chosen.tolist()]

    def name(self, index: int) -> str:
        """Return the item_id of one window's series."""
        which, series, _, _ = self.windows[index]
        return self.splits[which].store.item_ids[int(series)]

    def seasons(self, indices: Sequence[int]) -> list[int]:
        """Return the season length of each window's series, in steps."""
        return [seasonality(self.splits[which].store.freq) for which in self.windows[np.asarray(indices, np.int64), 0]]

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return windows as float32 context [n, at most context_length] and target [n, prediction_length].

        A window of several variates is as many rows, as in `TrainingWindows`.
        """
        chosen = self.windows[np.asarray(indices, np.int64)]
        n_rows = len(self.variates)
        context = np.empty((len(chosen), n_rows, self.context_length), np.float32)
        target = np.empty((len(chosen), n_rows, self.prediction_length), np.float32)
        for which in np.unique(chosen[:, 0]):
            rows, store = np.flatnonzero(chosen[:, 0] == which), self.splits[which].store
            _, series, starts, ends = chosen[rows].T
            past, future = _cut(store, series, starts, ends, self.context_length, self.prediction_length)
            context[rows], target[rows] = past.reshape(len(rows), n_rows, -1), future.reshape(len(rows), n_rows, -1)
        return _trimmed(context.reshape(-1, self.context_length)), target.reshape(-1, self.prediction_length)


def _cut(
    store: Store,
    series: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    context_length: int,
    prediction_length: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows of items at their forecast starts, a row a variate; steps from `ends` on are NaN."""
    n_rows = len(store.variates)
    origin = (store.offsets[series][:, None] + store.lengths[series][:, None] * np.arange(n_rows)).ravel()
    return _windows(store.values, origin, starts.repeat(n_rows), ends.repeat(n_rows), context_length, prediction_length)


def _last_windows(
    values: np.ndarray, lengths: np.ndarray, min_past: int, context_length: int, prediction_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the last window of each row [n, width] of `lengths` [n] steps, its history at least `min_past`."""
    starts = np.maximum(lengths - prediction_length, np.minimum(min_past, lengths - 1))
    origin = np.arange(len(values)) * values.shape[1]
    return _windows(values.ravel(), origin, starts, lengths, context_length, prediction_length)


def _windows(
    values: np.ndarray,
    origin: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    context_length: int,
    prediction_length: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the context before `starts` and the target from it, each counted from `origin`, NaN where there is none."""
    whole = np.full((len(starts), context_length + prediction_length), np.nan, np.float32)
    pasts, aheads = np.minimum(starts, context_length), np.minimum(ends - starts, prediction_length)
    # A copy a row is faster than one gather of all, which first makes as many indices as there are values.
    rows = zip((origin + starts).tolist(), pasts.tolist(), aheads.tolist())
    for row, (start, past, ahead) in enumerate(rows):
        whole[row, context_length - past : context_length + ahead] = values[start - past : start + ahead]
    return whole[:, :context_length], whole[:, context_length:]


def _learnable(context: np.ndarray, target: np.ndarray) -> np.ndarray:
    low, high = (reduce(context, axis=1).astype(np.float64) for reduce in (np.fmin.reduce, np.fmax.reduce))
    least, most = (reduce(target, axis=1).astype(np.float64) for reduce in (np.fmin.reduce, np.fmax.reduce))
    learnable = (low < high) & ~np.isnan(most)
    # n values deviate by at least their range / sqrt(2 n), so that only targets far outside it need a closer look.
    far = np.maximum(most - high, low - least) > (_EXTREME / math.sqrt(2 * context.shape[1]) - 1) * (high - low)
    for row in np.flatnonzero(learnable & far):
        known = context[row, ~np.isnan(context[row])].astype(np.float64)
        distance = max(most[row] - known.mean(), known.mean() - least[row])
        learnable[row] = distance <= _EXTREME * known.std()
    return learnable


def _trimmed(context: np.ndarray) -> np.ndarray:
    if not np.isnan(context[:, 0]).all():
        return context
    known = ~np.isnan(context).all(axis=0)
    return context[:, known.argmax() if known.any() else -1 :]


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]
