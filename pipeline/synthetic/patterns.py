"""Series of trend, season and noise: hourly, as a handful of generating processes would emit them.

A *process* fixes the shape: which trend, which seasons with which harmonics, which noise. A *path* is one series of it,
begun at a time of its own and with noise of its own. Path k is a function of (seed, k) alone, whoever draws it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain
from multiprocessing import get_context

import numpy as np
from scipy.signal import lfilter

from pipeline.core.series import Series

FREQ = "h"
START = np.datetime64("2020-01-01T00:00:00", "s")
_PERIODS = (24, 12, 168)
_PATHS_A_CHUNK = 256
_BURN_IN = 200

Rng = np.random.Generator
Component = Callable[[np.ndarray, Rng], np.ndarray]
"""From the time of each step, [length], and the path's generator to the component's values, [length]."""


def dummy_series(
    n_samples: int, n_series: int, length: int, patterns: Sequence[str], seed: int, num_processes: int = 1
) -> Iterator[Series]:
    """Yield `n_samples` series, paths of `n_series` processes in turn, the same for any `num_processes`."""
    starts = range(0, n_samples, _PATHS_A_CHUNK)
    chunks = [range(start, min(start + _PATHS_A_CHUNK, n_samples)) for start in starts]
    draw = partial(_paths, n_series=n_series, length=length, patterns=tuple(patterns), seed=seed)
    if num_processes == 1:
        yield from chain.from_iterable(map(draw, chunks))
    else:
        # A fork would inherit the threads of libraries that are loaded, and not all of them survive it.
        with ProcessPoolExecutor(num_processes, get_context("spawn")) as pool:
            yield from chain.from_iterable(pool.map(draw, chunks))


def dummy_array(n_samples: int, n_series: int, length: int, patterns: Sequence[str], seed: int) -> np.ndarray:
    """Return the same series as one array: float32, [n_samples, length]."""
    return np.stack([one.target for one in dummy_series(n_samples, n_series, length, patterns, seed)])


def _paths(chunk: range, n_series: int, length: int, patterns: tuple[str, ...], seed: int) -> list[Series]:
    return [
        Series(f"process{k % n_series}_path{k}", START, FREQ, _path(k, k % n_series, length, patterns, seed))
        for k in chunk
    ]


def _path(k: int, process: int, length: int, patterns: tuple[str, ...], seed: int) -> np.ndarray:
    process_rng = np.random.default_rng([seed, 0, process])
    # Drawn for all patterns in a fixed order, so that leaving one out changes no other.
    components = {
        "trend": _trend(process_rng, length),
        "seasonal": _seasonal(process_rng, length),
        "noise": _noise(process_rng),
    }
    level, scale = process_rng.normal(0, 20), process_rng.lognormal(1, 1)
    rng = np.random.default_rng([seed, 1, k])
    time = np.arange(length) + rng.integers(0, max(_PERIODS))
    values = np.sum([components[name](time, rng) for name in patterns], axis=0)
    return (level + scale * values).astype(np.float32)


def _trend(rng: Rng, length: int) -> Component:
    """Linear, damped (slope times (1 - d^t) / (1 - d), as in Gardner and McKenzie, 1985) or piecewise linear."""
    kind = rng.choice(["linear", "damped", "piecewise"])
    rise = rng.normal(0, 2)
    damping = 1 - rng.uniform(1, 5) / max(length, 6)
    knots = np.sort(rng.uniform(0, length, 3))
    slopes = rng.normal(0, 2, 4) / length

    def linear(time: np.ndarray, _: Rng) -> np.ndarray:
        return rise * time / length

    def damped(time: np.ndarray, _: Rng) -> np.ndarray:
        return rise * (1 - damping**time) / (1 - damping**length)

    def piecewise(time: np.ndarray, _: Rng) -> np.ndarray:
        changes = np.diff(slopes)
        return slopes[0] * time + sum(change * np.maximum(time - knot, 0) for change, knot in zip(changes, knots))

    return {"linear": linear, "damped": damped, "piecewise": piecewise}[str(kind)]


def _seasonal(rng: Rng, length: int) -> Component:
    """One or two seasons, each a Fourier series of one to five harmonics whose amplitudes fall like 1 / order."""
    fitting = [period for period in _PERIODS if 2 * period <= length] or [max(2, length // 4)]
    n_seasons = min(int(rng.integers(1, 3)), len(fitting))
    periods = [fitting[0], *rng.permutation(fitting[1:])][:n_seasons]
    waves = []
    for period in periods:
        for order in range(1, int(rng.integers(1, 6)) + 1):
            waves.append((2 * np.pi * order / period, rng.normal(0, 1) / order, rng.uniform(0, 2 * np.pi)))

    def seasonal(time: np.ndarray, _: Rng) -> np.ndarray:
        return sum(amplitude * np.sin(rate * time + phase) for rate, amplitude, phase in waves)

    return seasonal


def _noise(rng: Rng) -> Component:
    """White Gaussian, autoregressive of order one, or Student t with three to eight degrees of freedom."""
    kind = rng.choice(["white", "autoregressive", "heavy-tailed"])
    deviation = rng.uniform(0.05, 0.4)
    memory = rng.uniform(0.5, 0.95)
    degrees = rng.uniform(3, 8)

    def white(time: np.ndarray, path: Rng) -> np.ndarray:
        return deviation * path.standard_normal(len(time))

    def autoregressive(time: np.ndarray, path: Rng) -> np.ndarray:
        shocks = path.standard_normal(len(time) + _BURN_IN) * np.sqrt(1 - memory**2)
        return deviation * lfilter([1.0], [1.0, -memory], shocks)[_BURN_IN:]

    def heavy_tailed(time: np.ndarray, path: Rng) -> np.ndarray:
        return deviation * path.standard_t(degrees, len(time)) * np.sqrt((degrees - 2) / degrees)

    return {"white": white, "autoregressive": autoregressive, "heavy-tailed": heavy_tailed}[str(kind)]
