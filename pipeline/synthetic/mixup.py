"""TSMixup: weighted sums of segments of several real series (Ansari et al., 2024, algorithm 1)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.arrow_store import Store
from pipeline.synthetic.draws import Draws, hash_words, make_keys

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pool:
    """Series of a store that segments are taken from, the longest first."""

    store: Store
    offsets: np.ndarray
    """Position of the first value of each series in the values of the store: int64, [m]."""
    lengths: np.ndarray
    """Number of steps of each series that may be used, in decreasing order: int64, [m]."""

    @classmethod
    def of(cls, store: Store, series: np.ndarray, ends: np.ndarray) -> Pool:
        """Make a pool of the steps before `ends` [m] of the series with indices `series` [m]."""
        order = np.argsort(-ends, kind="stable")
        return cls(store, store.offsets[series][order], ends[order])


@dataclass(frozen=True)
class Mixup:
    """Sums of one to `max_series` segments with Dirichlet weights, each segment divided by its mean absolute value."""

    pools: Sequence[Pool]
    weights: Sequence[float]
    """Share of the segments taken from each pool, relative to the other weights."""
    max_series: int = 3
    """Maximum number of segments in a sum."""
    alpha: float = 1.5
    """Concentration of the Dirichlet distribution of the weights in a sum; 1.5 is that of the paper."""
    min_length: int = 128
    """Minimum length of a sum, in steps."""
    max_length: int = 2048
    """Maximum length of a sum, in steps."""

    def warn_about_short_series(self) -> None:
        """Warn about series that are shorter than every sum, so that no sum has a segment of them."""
        shortest = min(self.min_length, self.longest())
        lengths = np.concatenate([pool.lengths for pool in self.pools])
        if n_short := int((lengths < shortest).sum()):
            logger.warning(
                "%d of %d series are shorter than the minimum length of a mixture, %d steps, and are not mixed; lower "
                "synthetic.mixup.min_length",
                n_short,
                len(lengths),
                shortest,
            )

    def longest(self) -> int:
        """Return the greatest length of a segment, in steps."""
        return min(self.max_length, max(int(pool.lengths[0]) for pool in self.pools))

    def series(self, n_series: int, length: int, seed: int) -> np.ndarray:
        """Draw sums of one length; the k-th depends on (seed, k) only: float32, [n_series, length]."""
        return self.draw(make_keys(seed, np.arange(n_series)), np.full(n_series, length), length)

    def draw_lengths(self, keys: np.ndarray) -> np.ndarray:
        """Draw lengths uniform from `min_length` to `max_length`, both limited by the longest series: int64, [n]."""
        longest = self.longest()
        return Draws(hash_words(keys, 0)).integers(min(self.min_length, longest), longest)[:, 0]

    def draw(self, keys: np.ndarray, lengths: np.ndarray, width: int) -> np.ndarray:
        """Draw one sum for each key.

        A segment of l steps comes from a series drawn uniformly from those of a pool with at least l steps. The pool is
        drawn by weight from the pools with such a series. A segment of zeros is added unscaled.

        Args:
            keys: uint64, [n].
            lengths: steps of each sum, integers [n].
            width: columns of the result, at least the greatest length.

        Returns:
            float32, [n, width]; NaN if a term is missing, 0 after a row's length.
        """
        draws = Draws(keys)
        number = draws.integers(1, self.max_series)
        share = draws.gamma(self.alpha, self.max_series)
        share[np.arange(self.max_series) >= number] = 0
        total = share.sum(axis=1, keepdims=True)
        share[:, :1] += total == 0  # all underflow if alpha is small, and one series has nearly the whole weight
        share /= share.sum(axis=1, keepdims=True)
        # Number of series in each pool that are long enough: [n, pools]. The pools are sorted by decreasing length.
        n_eligible = np.stack([np.searchsorted(-pool.lengths, -lengths, side="right") for pool in self.pools], axis=1)
        bounds = (np.asarray(self.weights) * (n_eligible > 0)).cumsum(axis=1)
        values = [np.asarray(pool.store.values) for pool in self.pools]
        mixed = np.zeros((len(keys), width), np.float32)
        for term in range(self.max_series):
            pools = (draws.uniform(0, 1 - 1e-12) * bounds[:, -1:] >= bounds).sum(axis=1)
            series_position, begin_position = draws.uniform()[:, 0], draws.uniform()[:, 0]
            used = np.flatnonzero(share[:, term] > 0)
            segments = np.zeros((len(used), width), np.float32)
            for row, i in enumerate(used):
                pool, length = self.pools[pools[i]], lengths[i]
                series = int(series_position[i] * n_eligible[i, pools[i]])
                begin = pool.offsets[series] + int(begin_position[i] * (pool.lengths[series] - length + 1))
                segments[row, :length] = values[pools[i]][begin : begin + length]
            mixed[used] += share[used, term : term + 1] / _mean_size(segments, lengths[used, None]) * segments
        return mixed


def _mean_size(segments: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the mean absolute value of the known steps of each row, or 1 if it is 0: float32, [n, 1]."""
    size = np.abs(segments)
    missing = np.isnan(size)
    if missing.any():
        size[missing] = 0
        lengths = np.maximum(lengths - missing.sum(axis=1, keepdims=True), 1)
    mean = size.sum(axis=1, keepdims=True, dtype=np.float64) / lengths
    return np.where(mean > 0, mean, 1).astype(np.float32)
