"""Training windows as pure functions of (seed, i), and the fixed windows of validation, gathered a whole batch at a time.

Window i's data set, series, end point and dropped values all come from a counter-based hash of (seed, i): any number of
loader workers or processes sees the same windows, and a resumed run needs to read none of those it skips.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.arrow_store import Store
from pipeline.errors import UserError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ATTEMPTS = 1000
_EXTREME = 100.0


@dataclass(frozen=True)
class Split:
    """Where training and validation end in each series of a store."""

    store: Store
    train_ends: np.ndarray
    """int64, [n]: training uses the steps before it."""
    ends: np.ndarray
    """int64, [n]: validation uses the steps from `train_ends` to it; what lies behind is for testing."""
    usable: np.ndarray
    """Indices of the series that training windows are drawn from."""
    unusable: dict[str, list[int]]
    """Indices of the others, by the reason in words."""


def split_store(
    store: Store, validation_split: float, prediction_length: int, min_past: int, test_length: int = 0
) -> Split:
    """Hold out the end of every series: `validation_split` of its steps, at least one horizon, at most half the series.

    The last `test_length` steps are left out before. A series is unusable for training where what remains is shorter than
    `min_past` and one step, or is constant or missing throughout.

    Raises:
        UserError: a series holds an infinite value.
    """
    ends = np.maximum(store.lengths - test_length, 0)
    wanted = np.maximum((validation_split * ends).astype(np.int64), prediction_length)
    held_out = np.minimum(wanted, ends // 2) if validation_split > 0 else np.zeros_like(ends)
    train_ends = ends - held_out
    # The last training step is never in a context: a series that changes only there teaches nothing.
    low, high = _ranges(store, train_ends - 1)
    infinite = np.isinf(low) | np.isinf(high)
    if infinite.any():
        raise UserError(
            f"{store.path or 'the array'}: series {store.item_ids[int(infinite.argmax())]} holds an infinite value; "
            "write a missing one as NaN"
        )
    short = train_ends < min_past + 1
    missing = np.isnan(high) & ~short
    constant = (low == high) & ~short
    unusable = {
        f"shorter than {min_past + 1} steps before what is held out": short,
        "without a known value": missing,
        "constant": constant,
    }
    return Split(
        store=store,
        train_ends=train_ends,
        ends=ends,
        usable=np.flatnonzero(~(short | missing | constant)),
        unusable={reason: np.flatnonzero(which).tolist() for reason, which in unusable.items() if which.any()},
    )


class TrainingWindows:
    """An endless, random-access sequence of training windows over weighted stores.

    A window is a forecast start drawn uniformly from a series drawn uniformly from a store drawn by weight. Its context is
    up to `context_length` steps before the start, NaN on the left where the series is shorter; its target the
    `prediction_length` steps from it, NaN on the right where training steps end. A window is drawn again where its context
    is constant or unknown throughout, where no target step is known, or where a target lies more than 100 standard
    deviations of the context from its mean: no scaled loss can learn from it.
    """

    def __init__(
        self,
        splits: Sequence[Split],
        weights: Sequence[float],
        *,
        context_length: int,
        prediction_length: int,
        min_past: int,
        drop_prob: float,
        seed: int,
    ) -> None:
        assert len(splits) == len(weights) and all(len(split.usable) for split in splits)
        self.splits = list(splits)
        self.bounds = np.cumsum(np.asarray(weights, np.float64) / sum(weights))
        self.context_length = context_length
        self.prediction_length = prediction_length
        self.min_past = min_past
        self.drop_prob = drop_prob
        self.key = _mix(np.array([seed], np.uint64) ^ _GOLDEN)[0]

    def windows_per_epoch(self) -> int:
        """Return how many windows it takes for their horizons to cover every training step once on average."""
        n_steps = sum(int(split.train_ends[split.usable].sum()) for split in self.splits)
        return -(-n_steps // self.prediction_length)

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return windows as float32 context [n, at most context_length] and target [n, prediction_length].

        Columns of the context that are padding in every window are left out.
        """
        index = np.asarray(indices, np.uint64)
        context = np.full((len(index), self.context_length), np.nan, np.float32)
        target = np.full((len(index), self.prediction_length), np.nan, np.float32)
        pending = np.arange(len(index))
        for attempt in range(_ATTEMPTS):
            first = _mix(self.key ^ index[pending])
            # Drawn anew within its store, so that stores keep their weights.
            chosen = np.searchsorted(self.bounds, _uniform(first, 0), side="right").clip(max=len(self.splits) - 1)
            context[pending], target[pending] = self._draw(_mix(first ^ np.uint64(attempt)), chosen)
            pending = pending[~_learnable(context[pending], target[pending])]
            if not len(pending):
                break
        target[pending] = np.nan
        return _trimmed(context), target

    def _draw(self, keys: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        context = np.empty((len(keys), self.context_length), np.float32)
        target = np.empty((len(keys), self.prediction_length), np.float32)
        for which in np.unique(chosen):
            rows, split = np.flatnonzero(chosen == which), self.splits[which]
            series = split.usable[(_uniform(keys[rows], 1) * len(split.usable)).astype(np.int64)]
            ends = split.train_ends[series]
            starts = self.min_past + (_uniform(keys[rows], 2) * (ends - self.min_past)).astype(np.int64)
            origin = split.store.offsets[series]
            context[rows] = _gather(
                split.store.values, origin, starts - self.context_length, starts, self.context_length
            )
            target[rows] = _gather(split.store.values, origin, starts, ends, self.prediction_length)
        if self.drop_prob > 0:
            self._drop(keys, context, target)
        return context, target

    def _drop(self, keys: np.ndarray, context: np.ndarray, target: np.ndarray) -> None:
        share = self.drop_prob * _uniform(keys, 3)[:, None]
        width = self.context_length + self.prediction_length
        steps = np.arange(4, 4 + width, dtype=np.uint64)
        dropped = _uniform(keys[:, None], steps[None, :]) < share
        context[dropped[:, : self.context_length]] = np.nan
        target[dropped[:, self.context_length :]] = np.nan


class ValidationWindows:
    """The held-out steps of every series cut into horizons, with the history before each: the same for every candidate."""

    def __init__(
        self, splits: Sequence[Split], *, context_length: int, prediction_length: int, max_windows: int
    ) -> None:
        self.splits = list(splits)
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
        for series, (start, end) in enumerate(zip(split.train_ends, split.ends)):
            # Aligned to the end of the series; where less than a horizon is held out, that is the one window.
            first = end - max(1, (end - start) // self.prediction_length) * self.prediction_length
            for begin in range(max(first, start), end, self.prediction_length):
                history, target = split.store.target(series)[:begin], split.store.target(series)[begin:end]
                if not np.isnan(history).all() and not np.isnan(target[: self.prediction_length]).all():
                    yield which, series, begin, end

    def history(self, index: int) -> np.ndarray:
        """Return everything known before one window's forecast start: float32, [length]."""
        which, series, start, _ = self.windows[index]
        return self.splits[which].store.target(series)[:start]

    def freq(self, index: int) -> str:
        """Return the frequency of one window's series."""
        return self.splits[self.windows[index, 0]].store.freq

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return windows as float32 context [n, at most context_length] and target [n, prediction_length]."""
        chosen = self.windows[np.asarray(indices, np.int64)]
        context = np.empty((len(chosen), self.context_length), np.float32)
        target = np.empty((len(chosen), self.prediction_length), np.float32)
        for which in np.unique(chosen[:, 0]):
            rows, store = np.flatnonzero(chosen[:, 0] == which), self.splits[which].store
            _, series, starts, ends = chosen[rows].T
            origin = store.offsets[series]
            context[rows] = _gather(store.values, origin, starts - self.context_length, starts, self.context_length)
            target[rows] = _gather(store.values, origin, starts, ends, self.prediction_length)
        return _trimmed(context), target


def _gather(values: np.ndarray, origin: np.ndarray, begin: np.ndarray, end: np.ndarray, width: int) -> np.ndarray:
    """Return steps `begin` to `begin + width` of each series, [n, width]; NaN before its first step and from `end` on."""
    step = begin[:, None] + np.arange(width)
    outside = (step < 0) | (step >= end[:, None])
    gathered = values[origin[:, None] + np.where(outside, 0, step)]
    gathered[outside] = np.nan
    return gathered


def _learnable(context: np.ndarray, target: np.ndarray) -> np.ndarray:
    known = ~np.isnan(context)
    count = np.maximum(known.sum(axis=1), 1)
    filled = np.where(known, context, 0.0).astype(np.float64)
    mean = filled.sum(axis=1) / count
    deviation = np.sqrt((np.where(known, filled - mean[:, None], 0.0) ** 2).sum(axis=1) / count)
    low = np.where(known, context, np.inf).min(axis=1)
    high = np.where(known, context, -np.inf).max(axis=1)
    distance = np.abs(np.where(np.isnan(target), mean[:, None], target) - mean[:, None]).max(axis=1)
    return (low < high) & ~np.isnan(target).all(axis=1) & (distance <= _EXTREME * deviation)


def _trimmed(context: np.ndarray) -> np.ndarray:
    known = ~np.isnan(context).all(axis=0)
    return context[:, known.argmax() if known.any() else -1 :]


def _ranges(store: Store, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and greatest known value of each series before `ends`, NaN where there is none: [n], [n]."""
    low, high = np.full(len(store), np.nan), np.full(len(store), np.nan)
    for index, end in enumerate(ends):
        if end > 0:
            values = store.target(index)[:end]
            low[index], high[index] = np.fmin.reduce(values), np.fmax.reduce(values)
    return low, high


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele et al., 2014): a bijection of 64-bit words that passes for random."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _uniform(keys: np.ndarray, draw: int | np.ndarray) -> np.ndarray:
    """Return the numbers in [0, 1) that belong to `keys` and the number of the draw."""
    with np.errstate(over="ignore"):
        words = _mix(keys + (np.asarray(draw, np.uint64) + np.uint64(1)) * _GOLDEN)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
