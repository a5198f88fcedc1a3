"""Measure how well models continue pure patterns: exact repeats, trends that stop, plateaus, random walks.

    python benchmarks/copying.py builtin:bolt-synth
    python benchmarks/copying.py MODEL... --series 100

A model is anything that `Forecaster.load` takes. Series have noise of 2% of their standard deviation. The errors are
against the pattern without noise, so that of a perfect forecast is 0. Prints Markdown tables:

- repeats, a table for seasonal naive at the true period and for each model: the mean absolute error of the median
  over the standard deviation of the pattern. Columns are the steps of the period; "day by weekday"
  has days of so many steps and weeks of seven days. Cells are empty if two periods do not fit into the context.
- other patterns: the same error, and in parentheses the mean width of the 80% interval over that of the truth. The
  standard deviation is that of the pattern in the context. A random walk has no noise, and its error is that of the
  last value, relative to it; a constant is scaled by its level.
"""

import argparse
from collections.abc import Callable

import numpy as np
from scipy.special import ndtri

from pipeline.core.tables import markdown_table
from pipeline.forecasting.forecaster import Forecaster

PERIODS = (7, 11, 12, 24, 37, 48, 96, 168)
NOISE, SEED, BATCH_SIZE = 0.02, 0, 64
INTERVAL = 2 * float(ndtri(0.9))
"""Width of the 80% interval of a normal distribution in standard deviations."""
Rng = np.random.Generator


def sines(rng: Rng, n: int, period: int) -> np.ndarray:
    """Return sines of any phase: [n, period]."""
    return np.sin(2 * np.pi * (np.arange(period) / period + rng.random((n, 1))))


def harmonics(rng: Rng, n: int, period: int) -> np.ndarray:
    """Return sums of four harmonics with normal amplitudes that fall like 1 / order: [n, period]."""
    order = np.arange(1, 5)[:, None]
    angle = 2 * np.pi * order * np.arange(period) / period
    return rng.normal(size=(n, 4)) @ (np.cos(angle) / order) + rng.normal(size=(n, 4)) @ (np.sin(angle) / order)


def rough(rng: Rng, n: int, period: int) -> np.ndarray:
    """Return a normal value for each phase: [n, period]."""
    return rng.normal(size=(n, period))


def spikes(rng: Rng, n: int, period: int) -> np.ndarray:
    """Return zeros with spikes of unequal heights at a tenth of the phases, at least one: [n, period]."""
    is_spike = rng.permuted(np.arange(period) < max(1, period // 10) + np.zeros((n, 1)), axis=1)
    return is_spike * rng.uniform(1, 3, (n, period))


def steps(rng: Rng, n: int, period: int) -> np.ndarray:
    """Return four normal levels that change at random phases: [n, period]."""
    changes = np.sort(rng.random((n, 1, 3)) * period, axis=2)
    segment = (np.arange(period)[:, None] >= changes).sum(axis=2)
    return np.take_along_axis(rng.normal(size=(n, 4)), segment, axis=1)


def day_by_weekday(rng: Rng, n: int, period: int) -> np.ndarray:
    """Return a week of seven days of one smooth shape at unequal levels: [n, 7 x period]."""
    day = 2 + harmonics(rng, n, period) / 2
    return (rng.uniform(0.3, 1.5, (n, 7, 1)) * day[:, None]).reshape(n, -1)


SHAPES = (sines, harmonics, rough, spikes, steps, day_by_weekday)


def trend(n_steps: int, gone: int, after: float) -> Callable[[Rng, int, int, int], np.ndarray]:
    """Return a pattern that is flat, rises for `n_steps` until `gone` steps before the end, then has a slope `after`.

    The slope is relative to that of the rise.
    """

    def pattern(rng: Rng, n: int, context: int, horizon: int) -> np.ndarray:
        time = np.arange(context + horizon) - (context - gone)
        path = time.clip(-n_steps, 0) + after * time.clip(0)
        return rng.choice([-1, 1], (n, 1)) * path / n_steps

    return pattern


def shift(gone: int) -> Callable[[Rng, int, int, int], np.ndarray]:
    """Return a pattern whose level changes `gone` steps before the end of the context."""
    return trend(1, gone, 0.0)


def random_walk(rng: Rng, n: int, context: int, horizon: int) -> np.ndarray:
    """Return random walks without drift: [n, context + horizon]."""
    return rng.normal(size=(n, context + horizon)).cumsum(axis=1)


def constant(rng: Rng, n: int, context: int, horizon: int) -> np.ndarray:
    """Return ones: [n, context + horizon]."""
    return np.ones((n, context + horizon))


PATTERNS = {
    "trend of 1,000 steps, stopped 24 ago": trend(1000, 24, 0.0),
    "trend of 96 steps, stopped 24 ago": trend(96, 24, 0.0),
    "trend of 96 steps, turned 24 ago": trend(96, 24, -0.5),
    "trend of 96 steps, still rising": trend(96, 0, 1.0),
    "level shift 12 ago": shift(12),
    "level shift 48 ago": shift(48),
    "level shift 200 ago": shift(200),
    "random walk": random_walk,
    "constant": constant,
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--horizon", type=int, default=48)
    parser.add_argument("--series", type=int, default=40, help="series of each cell")
    arguments = parser.parse_args()
    sizes = arguments.series, arguments.context, arguments.horizon
    forecasters = {model: Forecaster.load(model) for model in arguments.models}
    print(f"{arguments.series} series a cell, context {arguments.context}, horizon {arguments.horizon}\n")
    for name, forecaster in {"seasonal naive": None, **forecasters}.items():
        rows = [
            {name: shape.__name__.replace("_", " "), **_repeat_errors(shape, forecaster, *sizes)} for shape in SHAPES
        ]
        print(markdown_table(rows, (name, *map(str, PERIODS))))
    rows = []
    for name, pattern in PATTERNS.items():
        cells = {model: _pattern_error(pattern, forecaster, *sizes) for model, forecaster in forecasters.items()}
        rows.append({"pattern": name, "last value": _pattern_error(pattern, None, *sizes), **cells})
    print(markdown_table(rows, tuple(rows[0])))


def _repeat_errors(
    shape: Callable[[Rng, int, int], np.ndarray], forecaster: Forecaster | None, n: int, context: int, horizon: int
) -> dict[str, str]:
    """Return the error of a shape for each period that fits into the context twice."""
    errors = {}
    for period in PERIODS:
        rng = np.random.default_rng([SEED, period])
        cycle = shape(rng, n, period)
        if 2 * cycle.shape[1] <= context:
            cycle = (cycle - cycle.mean(axis=1, keepdims=True)) / cycle.std(axis=1, keepdims=True)
            clean = np.take(cycle, np.arange(context + horizon), axis=1, mode="wrap")
            noisy = clean[:, :context] + NOISE * rng.normal(size=(n, context))
            if forecaster is None:
                lag = cycle.shape[1]
                median = np.take(noisy[:, -lag:], np.arange(horizon), axis=1, mode="wrap")
            else:
                median = _forecast(forecaster, noisy, horizon)[:, :, 1]
            errors[str(period)] = f"{np.abs(median - clean[:, context:]).mean():.3f}"
    return errors


def _pattern_error(
    pattern: Callable[[Rng, int, int, int], np.ndarray],
    forecaster: Forecaster | None,
    n: int,
    context: int,
    horizon: int,
) -> str:
    """Return the error of a pattern, and the width of the interval of a model."""
    rng = np.random.default_rng(SEED)
    clean = pattern(rng, n, context, horizon)
    past, future = clean[:, :context], clean[:, context:]
    is_walk = pattern is random_walk
    scale = np.abs(future - past[:, -1:]).mean() if is_walk else past.std(axis=1, keepdims=True)
    if pattern is constant:
        scale = past[:, -1:]
    noise = np.zeros((n, 1)) if is_walk or pattern is constant else NOISE * scale
    noisy = past + noise * rng.normal(size=past.shape)
    if forecaster is None:
        return f"{(np.abs(noisy[:, -1:] - future) / scale).mean():.3f}"
    low, median, high = np.moveaxis(_forecast(forecaster, noisy, horizon), 2, 0)
    error = f"{(np.abs(median - future) / scale).mean():.3f}"
    if pattern is constant:
        return error
    deviation = np.sqrt(np.arange(1, horizon + 1)) if is_walk else noise
    return f"{error} ({((high - low).mean(axis=0) / (INTERVAL * deviation)).mean():.1f})"


def _forecast(forecaster: Forecaster, contexts: np.ndarray, horizon: int) -> np.ndarray:
    """Return the 10%, 50% and 90% quantiles: [n, horizon, 3]."""
    rows = list(contexts.astype(np.float32))
    batches = [rows[begin : begin + BATCH_SIZE] for begin in range(0, len(rows), BATCH_SIZE)]
    return np.concatenate([forecaster.quantiles(batch, horizon, (0.1, 0.5, 0.9))[0] for batch in batches])


if __name__ == "__main__":
    main()
