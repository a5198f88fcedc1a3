"""TSMixup: series that are weighted sums of stretches of several real ones (Ansari et al., 2024, algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.arrow_store import Store
from pipeline.synthetic.draws import Draws, keys_of, word


@dataclass(frozen=True)
class Pool:
    """Series of a store that stretches are taken from, the longest first."""

    store: Store
    offsets: np.ndarray
    """int64, [m]: where each series begins in the store's values."""
    lengths: np.ndarray
    """int64, [m], falling: how many steps of it may be used."""

    @classmethod
    def of(cls, store: Store, series: np.ndarray, ends: np.ndarray) -> Pool:
        """Take the steps before `ends` [m] of the series [m]."""
        order = np.argsort(-ends, kind="stable")
        return cls(store, store.offsets[series][order], ends[order])


@dataclass(frozen=True)
class Mixup:
    """Sums of between one and `max_series` stretches, each over its mean absolute value, with Dirichlet weights."""

    pools: Sequence[Pool]
    weights: Sequence[float]
    """Share of the stretches taken from each pool."""
    max_series: int = 3
    alpha: float = 1.5
    """Concentration of the Dirichlet distribution of the weights of a sum."""
    min_length: int = 128
    max_length: int = 2048

    def longest(self) -> int:
        """Return the greatest length that a stretch can have."""
        return min(self.max_length, max(int(pool.lengths[0]) for pool in self.pools))

    def series(self, n_series: int, length: int, seed: int) -> np.ndarray:
        """Return sums of one length, the k-th a function of (seed, k) alone: float32, [n_series, length]."""
        return self.draw(keys_of(seed, np.arange(n_series)), np.full(n_series, length), length)

    def draw_lengths(self, keys: np.ndarray) -> np.ndarray:
        """Return lengths uniform from `min_length` to `max_length`, neither beyond the longest series: int64, [n]."""
        longest = self.longest()
        return Draws(word(keys, 0)).integers(min(self.min_length, longest), longest)[:, 0]

    def draw(self, keys: np.ndarray, lengths: np.ndarray, width: int) -> np.ndarray:
        """Return one sum for each key, of `lengths` [n] steps, then 0: float32, [n, width]; NaN where a term is missing.

        A stretch of l steps comes from a series drawn uniformly from those of at least l steps, in a pool drawn by weight
        from those that have one. A stretch of zeros is added as it is.
        """
        draws = Draws(keys)
        number = draws.integers(1, self.max_series)
        share = draws.gamma(self.alpha, self.max_series)
        share[np.arange(self.max_series) >= number] = 0
        share /= share.sum(axis=1, keepdims=True)
        long_enough = np.stack([np.searchsorted(-pool.lengths, -lengths, side="right") for pool in self.pools], axis=1)
        bounds = (np.asarray(self.weights) * (long_enough > 0)).cumsum(axis=1)
        values = [np.asarray(pool.store.values) for pool in self.pools]
        mixed = np.zeros((len(keys), width), np.float32)
        for term in range(self.max_series):
            chosen = (draws.uniform(0, 1 - 1e-12) * bounds[:, -1:] >= bounds).sum(axis=1)
            which, where = draws.uniform()[:, 0], draws.uniform()[:, 0]
            used = np.flatnonzero(share[:, term] > 0)
            stretches = np.zeros((len(used), width), np.float32)
            for row, i in enumerate(used):
                pool, length = self.pools[chosen[i]], lengths[i]
                one = int(which[i] * long_enough[i, chosen[i]])
                begin = pool.offsets[one] + int(where[i] * (pool.lengths[one] - length + 1))
                stretches[row, :length] = values[chosen[i]][begin : begin + length]
            mixed[used] += share[used, term : term + 1] / _mean_size(stretches, lengths[used, None]) * stretches
        return mixed


def _mean_size(stretches: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the mean absolute value over the known steps of each row, 1 where it is 0: float32, [n, 1]."""
    size = np.abs(stretches)
    missing = np.isnan(size)
    if missing.any():
        size[missing] = 0
        lengths = np.maximum(lengths - missing.sum(axis=1, keepdims=True), 1)
    mean = size.sum(axis=1, keepdims=True, dtype=np.float64) / lengths
    return np.where(mean > 0, mean, 1).astype(np.float32)
