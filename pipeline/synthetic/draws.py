"""Random numbers that are pure functions of a key: any process may draw any row, in any order, and gets the same.

Parameters, a few a row, come from a counter-based hash of all keys at once; noise, one a step, from NumPy's Philox
generator (Salmon et al., 2011) keyed by row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy.special import gammaincinv, ndtri

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
_AT_ONCE = 96
_STREAMS = 1 << 62


def mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele et al., 2014): a bijection of 64-bit words that passes for random."""
    x = x ^ (x >> _SHIFTS[0])
    x *= _FACTORS[0]
    x ^= x >> _SHIFTS[1]
    x *= _FACTORS[1]
    x ^= x >> _SHIFTS[2]
    return x


def word(keys: np.ndarray, draw: int | np.ndarray) -> np.ndarray:
    """Return the 64-bit words that belong to `keys` and the number of the draw."""
    return mix(keys + (np.asarray(draw, np.uint64).reshape(-1) + np.uint64(1)) * _GOLDEN)


def uniform(keys: np.ndarray, draw: int | np.ndarray) -> np.ndarray:
    """Return the numbers in [0, 1) that belong to `keys` and the number of the draw."""
    return (word(keys, draw) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def keys_of(seed: int, indices: np.ndarray) -> np.ndarray:
    """Return one key for each index, uint64 [n]; other seeds give others."""
    return mix(_start(seed) ^ np.asarray(indices, np.uint64))


@lru_cache
def _start(seed: int) -> np.ndarray:
    return mix(np.array([seed], np.uint64) ^ _GOLDEN)


class Draws:
    """A stream of random numbers for each of n rows.

    What a call returns for a row depends on the row's key and on the calls before it, not on the other rows. One number a
    row comes as a column [n, 1], to be broadcast against [n, length].
    """

    def __init__(self, keys: np.ndarray) -> None:
        self.keys = np.asarray(keys, np.uint64)
        self._taken = 0
        self._made = np.empty((len(self.keys), 0))

    def __len__(self) -> int:
        return len(self.keys)

    def fork(self) -> Draws:
        """Return another stream for each row, which does not depend on what earlier forks drew."""
        return Draws(word(self.keys, self._next_stream()))

    def uniform(self, low: float = 0.0, high: float = 1.0, width: int = 1) -> np.ndarray:
        """Return numbers uniform in [low, high): [n, width]."""
        begin, self._taken = self._taken, self._taken + width
        while self._taken > self._made.shape[1]:
            # Made many at a time: priors take some fifty numbers a row, one by one.
            more = np.arange(self._made.shape[1], self._made.shape[1] + _AT_ONCE, dtype=np.uint64)
            self._made = np.concatenate([self._made, uniform(self.keys[:, None], more)], axis=1)
        return low + (high - low) * self._made[:, begin : self._taken]

    def log_uniform(self, low: float, high: float, width: int = 1) -> np.ndarray:
        """Return numbers whose logarithm is uniform between those of `low` and `high`: [n, width]."""
        return np.exp(self.uniform(np.log(low), np.log(high), width))

    def integers(self, low: int, high: int) -> np.ndarray:
        """Return integers uniform in low, ..., high: int64, [n, 1]."""
        return np.floor(self.uniform(low, high + 1)).astype(np.int64)

    def normal(self, width: int = 1) -> np.ndarray:
        """Return standard normal numbers: [n, width]. `white` is faster where there are many a row."""
        return ndtri(self.uniform(2.0**-54, 1.0, width))

    def gamma(self, shape: float, width: int = 1) -> np.ndarray:
        """Return numbers of the gamma distribution of that shape and scale 1: [n, width]."""
        return gammaincinv(shape, self.uniform(0.0, 1.0, width))

    def chance(self, probability: float | np.ndarray) -> np.ndarray:
        """Return True with that probability: bool, [n, 1]."""
        return self.uniform() < probability

    def choice(self, options: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Return one of the options [m] or [m, k], by weight where given: [n, 1] or [n, k]."""
        share = np.ones(len(options)) if weights is None else np.asarray(weights, np.float64)
        bounds = np.cumsum(share / share.sum())
        chosen = np.searchsorted(bounds, self.uniform(), side="right").clip(max=len(options) - 1)
        return options[chosen] if options.ndim == 1 else options[chosen[:, 0]]

    def white(self, length: int) -> np.ndarray:
        """Return standard normal noise: float32, [n, length]."""
        noise = np.empty((len(self), length), np.float32)
        self.each_row(lambda row, rng: rng.standard_normal(out=noise[row], dtype=np.float32))
        return noise

    def each_row(self, use: Callable[[int, np.random.Generator], object]) -> None:
        """Call `use` with the number of each row and a generator that is set to the row's own stream."""
        stream = self._next_stream()
        bits = np.random.Philox(key=0)
        rng, state = np.random.Generator(bits), bits.state
        # Setting the state costs a third of making a generator, and noise is made for every row.
        for row, key in enumerate(self.keys):
            state["state"]["key"][:] = key, stream
            state["state"]["counter"][:] = 0
            bits.state = state
            use(row, rng)

    def _next_stream(self) -> int:
        # Numbered apart from the single numbers, and by them, so that no two calls share one.
        self._taken += 1
        return _STREAMS + self._taken
