"""Dummy series: hourly sums of trend, season and noise, drawn from a few generating processes.

A process fixes the trend, the seasons with their harmonics, and the distribution of the noise. A path is one series of
a process, with its own start time and noise. Path k depends on (seed, k) only.

With the pattern `promotion`, a series has a covariate that is 1 during promotions, which raise the target. It is known
ahead.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain

import numpy as np
from scipy.signal import lfilter

from pipeline.core.errors import UserError
from pipeline.core.processes import WorkerPool
from pipeline.core.series import Series, Variates

FREQ = "h"
START = np.datetime64("2020-01-01T00:00:00", "s")
_PERIODS = (24, 12, 168)
"""Seasons of hourly series, in steps: day, half a day, week."""
_PATHS_PER_CHUNK = 256
"""Paths that a worker draws at a time: enough that passing tasks and results takes little of the time."""
_BURN_IN = 200
"""Steps before the first value of autoregressive noise. Memory is at most 0.95, and 0.95^200 is below 1e-4."""

PROMOTION = "promotion"
_PROMOTED = Variates(known=(PROMOTION,))
_PROMOTION_STEPS = (6, 25)
"""Shortest promotion in steps, and the steps that no promotion reaches."""
_PROMOTION_RATE = 1 / 72
"""Probability that a promotion begins at a step."""

Rng = np.random.Generator
Component = Callable[[np.ndarray, Rng], np.ndarray]
"""Function from the time of each step [length] and the generator of the path to values [length]."""


def dummy_series(
    n_samples: int, n_series: int, length: int, patterns: Sequence[str], seed: int, num_processes: int = 1
) -> Iterator[Series]:
    """Yield `n_samples` paths of `n_series` processes in turn; the series do not depend on `num_processes`."""
    starts = range(0, n_samples, _PATHS_PER_CHUNK)
    chunks = [range(start, min(start + _PATHS_PER_CHUNK, n_samples)) for start in starts]
    draw = partial(_paths, n_series=n_series, length=length, patterns=tuple(patterns), seed=seed)
    num_processes = min(num_processes, len(chunks))
    if num_processes == 1:
        yield from chain.from_iterable(map(draw, chunks))
    else:
        with WorkerPool(num_processes) as pool:
            yield from chain.from_iterable(pool.map(draw, chunks))


def dummy_array(n_samples: int, n_series: int, length: int, patterns: Sequence[str], seed: int) -> np.ndarray:
    """Return the series of `dummy_series` as an array: float32, [n_samples, length].

    Raises:
        UserError: the series have a covariate, for which an array has no place.
    """
    if PROMOTION in patterns:
        raise UserError(
            "training.dummy_data.patterns: an array has no covariates; leave out promotion, or write the series with "
            "generate_data.py"
        )
    return np.stack([series.target for series in dummy_series(n_samples, n_series, length, patterns, seed)])


def promotions(k: int, begin: int, end: int, seed: int) -> np.ndarray:
    """Return the covariate of path k from step `begin` up to `end`, which may be after the series: [end - begin]."""
    rng = np.random.default_rng([seed, 2, k])
    # Numbers are drawn step by step, so that a longer series begins with the promotions of a shorter one.
    starts, length = rng.random((end, 2)).T
    n_steps = _PROMOTION_STEPS[0] + np.floor(length * (_PROMOTION_STEPS[1] - _PROMOTION_STEPS[0]))
    last = np.maximum.accumulate(np.where(starts < _PROMOTION_RATE, np.arange(end) + n_steps, 0))
    return (np.arange(end) < last)[begin:].astype(np.float32)


def path_id(k: int, n_series: int) -> str:
    """Return the item ID of path k of `n_series` processes."""
    return f"process{k % n_series}_path{k}"


def _paths(chunk: range, n_series: int, length: int, patterns: tuple[str, ...], seed: int) -> list[Series]:
    series = []
    for k in chunk:
        values, variates = _path(k, k % n_series, length, patterns, seed), Variates()
        if PROMOTION in patterns:
            values, variates = np.stack([values, promotions(k, 0, length, seed)]), _PROMOTED
        series.append(Series(path_id(k, n_series), START, FREQ, values, variates))
    return series


def _path(k: int, process: int, length: int, patterns: tuple[str, ...], seed: int) -> np.ndarray:
    process_rng = np.random.default_rng([seed, 0, process])
    # All patterns are drawn, in a fixed order, so that leaving one out does not change the others.
    components = {
        "trend": _trend(process_rng, length),
        "seasonal": _seasonal(process_rng, length),
        "noise": _noise(process_rng),
    }
    level, scale, lift = process_rng.normal(0, 20), process_rng.lognormal(1, 1), process_rng.uniform(0.5, 2)
    components[PROMOTION] = lambda time, _: lift * promotions(k, 0, len(time), seed)
    rng = np.random.default_rng([seed, 1, k])
    time = np.arange(length) + rng.integers(0, max(_PERIODS))
    values = np.sum([components[name](time, rng) for name in patterns], axis=0)
    return (level + scale * values).astype(np.float32)


def _trend(rng: Rng, length: int) -> Component:
    """Draw a trend: linear, damped ((1 - d^t) / (1 - d^length); Gardner and McKenzie, 1985) or piecewise linear."""
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
    """Draw one or two seasons: Fourier series of one to five harmonics whose amplitudes fall like 1 / order."""
    fitting_periods = [period for period in _PERIODS if 2 * period <= length] or [max(2, length // 4)]
    n_seasons = min(int(rng.integers(1, 3)), len(fitting_periods))
    periods = [fitting_periods[0], *rng.permutation(fitting_periods[1:])][:n_seasons]
    waves = []
    for period in periods:
        for order in range(1, int(rng.integers(1, 6)) + 1):
            waves.append((2 * np.pi * order / period, rng.normal(0, 1) / order, rng.uniform(0, 2 * np.pi)))

    def seasonal(time: np.ndarray, _: Rng) -> np.ndarray:
        return sum(amplitude * np.sin(rate * time + phase) for rate, amplitude, phase in waves)

    return seasonal


def _noise(rng: Rng) -> Component:
    """Draw a kind of noise: white Gaussian, AR(1), or Student t with three to eight degrees of freedom."""
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
