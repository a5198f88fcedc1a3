"""Keyed random numbers: the numbers of a row depend on its key only, so any process can draw any row in any order.

Parameters, a few per row, come from a counter-based hash of all keys at once. Noise, one value per step, comes from
NumPy's Philox generator (Salmon et al., 2011) with a key per row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy.special import gammaincinv, ndtri

# Published constants of SplitMix64 (Steele et al., 2014): the increment 2^64 / golden ratio, and the finalizer.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)

_NUMBERS_PER_HASH = 96
"""Numbers per row that one hash call makes. A prior needs about 50 per row, so one call is usually enough."""
_FIRST_STREAM = 1 << 62
"""Smallest counter of a stream. No row draws 2^62 single numbers, so counters of streams and numbers never meet."""


def mix(x: np.ndarray) -> np.ndarray:
    """Apply the SplitMix64 finalizer (Steele et al., 2014), a bijection of 64-bit words whose output looks random."""
    x = x ^ (x >> _SHIFTS[0])
    x *= _FACTORS[0]
    x ^= x >> _SHIFTS[1]
    x *= _FACTORS[1]
    x ^= x >> _SHIFTS[2]
    return x


def hash_words(keys: np.ndarray, counter: int | np.ndarray) -> np.ndarray:
    """Return the 64-bit words of `keys` at a counter, both broadcast: uint64."""
    return mix(keys + (np.asarray(counter, np.uint64).reshape(-1) + np.uint64(1)) * _GOLDEN)


def uniform(keys: np.ndarray, counter: int | np.ndarray) -> np.ndarray:
    """Return the numbers in [0, 1) of `keys` at a counter, both broadcast: float64."""
    return (hash_words(keys, counter) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def make_keys(seed: int, indices: np.ndarray) -> np.ndarray:
    """Return one key per index; different seeds give different keys: uint64, [n]."""
    return mix(_hash_seed(seed) ^ np.asarray(indices, np.uint64))


@lru_cache
def _hash_seed(seed: int) -> np.ndarray:
    return mix(np.array([seed], np.uint64) ^ _GOLDEN)


class Draws:
    """A stream of random numbers for each of n rows.

    The result for a row depends on the row's key and on the earlier calls, not on the other rows. Single numbers are
    columns [n, 1], to broadcast against [n, length].
    """

    def __init__(self, keys: np.ndarray) -> None:
        self.keys = np.asarray(keys, np.uint64)
        self._counter = 0
        self._numbers = np.empty((len(self.keys), 0))

    def __len__(self) -> int:
        return len(self.keys)

    def fork(self) -> Draws:
        """Return a new stream for each row, independent of the numbers that earlier forks drew."""
        return Draws(hash_words(self.keys, self._next_stream()))

    def uniform(self, low: float = 0.0, high: float = 1.0, width: int = 1) -> np.ndarray:
        """Draw uniform numbers in [low, high): float64, [n, width]."""
        begin, self._counter = self._counter, self._counter + width
        while self._counter > self._numbers.shape[1]:
            counters = np.arange(self._numbers.shape[1], self._numbers.shape[1] + _NUMBERS_PER_HASH, dtype=np.uint64)
            self._numbers = np.concatenate([self._numbers, uniform(self.keys[:, None], counters)], axis=1)
        return low + (high - low) * self._numbers[:, begin : self._counter]

    def log_uniform(self, low: float, high: float, width: int = 1) -> np.ndarray:
        """Draw numbers whose logarithm is uniform between log `low` and log `high`: float64, [n, width]."""
        return np.exp(self.uniform(np.log(low), np.log(high), width))

    def integers(self, low: int, high: int) -> np.ndarray:
        """Draw uniform integers from low to high, both included: int64, [n, 1]."""
        return np.floor(self.uniform(low, high + 1)).astype(np.int64)

    def normal(self, width: int = 1) -> np.ndarray:
        """Draw standard normal numbers: float64, [n, width]. `white` is faster for many numbers per row."""
        return ndtri(self.uniform(2.0**-54, 1.0, width))

    def gamma(self, shape: float, width: int = 1) -> np.ndarray:
        """Draw gamma numbers with the given shape and scale 1: float64, [n, width]."""
        return gammaincinv(shape, self.uniform(0.0, 1.0, width))

    def chance(self, probability: float | np.ndarray) -> np.ndarray:
        """Draw True with the given probability: bool, [n, 1]."""
        return self.uniform() < probability

    def choice(self, options: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Draw one of the options [m] or [m, k], with probabilities proportional to `weights`: [n, 1] or [n, k]."""
        share = np.ones(len(options)) if weights is None else np.asarray(weights, np.float64)
        bounds = np.cumsum(share / share.sum())
        chosen = np.searchsorted(bounds, self.uniform(), side="right").clip(max=len(options) - 1)
        return options[chosen] if options.ndim == 1 else options[chosen[:, 0]]

    def white(self, length: int) -> np.ndarray:
        """Draw standard normal noise: float32, [n, length]."""
        noise = np.empty((len(self), length), np.float32)
        self.each_row(lambda row, rng: rng.standard_normal(out=noise[row], dtype=np.float32))
        return noise

    def each_row(self, draw: Callable[[int, np.random.Generator], object]) -> None:
        """Call `draw(row, generator)` for each row, with a generator on the row's stream."""
        stream = self._next_stream()
        bits = np.random.Philox(key=0)
        rng, state = np.random.Generator(bits), bits.state
        # Setting the state takes a third of the time of making a generator, and every row needs noise.
        for row, key in enumerate(self.keys):
            state["state"]["key"][:] = key, stream
            state["state"]["counter"][:] = 0
            bits.state = state
            draw(row, rng)

    def _next_stream(self) -> int:
        # Each stream uses up one counter, so that no two calls share random numbers.
        self._counter += 1
        return _FIRST_STREAM + self._counter
