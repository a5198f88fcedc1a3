"""Effects: what observing does to a series, whatever prior it is of.

An effect takes a stream of random numbers, values [n, width] and the length of each row [n, 1], and changes every row.
The bank gives it the rows that it acts on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.synthetic.draws import Draws
from pipeline.synthetic.ranges import Count, Positive, Range


def skew(draws: Draws, values: np.ndarray, lengths: np.ndarray, *, strength: Positive = (0.3, 1.5)) -> np.ndarray:
    """Make values log-normal: exp(s z), z the standardised series; most amounts of people and money are."""
    mean, deviation = _moments(values, lengths)
    return np.exp((draws.uniform(*strength) * (values - mean) / deviation).clip(-8, 8))


def level(draws: Draws, values: np.ndarray, lengths: np.ndarray, *, height: Positive = (0.5, 50.0)) -> np.ndarray:
    """Add a level of `height` standard deviations: most series are positive, many lie far from nought."""
    mean, deviation = _moments(values, lengths)
    sign = np.where(draws.chance(0.05), -1, 1)
    return values - mean + sign * draws.log_uniform(*height) * deviation


def outliers(
    draws: Draws,
    values: np.ndarray,
    lengths: np.ndarray,
    *,
    share: Positive = (0.001, 0.02),
    size: Positive = (3.0, 15.0),
) -> np.ndarray:
    """Move single values by `size` standard deviations: errors of measurement, one-off events."""
    _, deviation = _moments(values, lengths)
    moved = np.zeros(values.shape, np.float32)
    likely, height = draws.log_uniform(*share)[:, 0], draws.log_uniform(*size)[:, 0]

    def draw(row: int, rng: np.random.Generator) -> None:
        where = np.flatnonzero(rng.random(values.shape[1], np.float32) < likely[row])
        moved[row, where] = height[row] * rng.standard_normal(len(where))

    draws.each_row(draw)
    return values + moved * deviation


def censoring(draws: Draws, values: np.ndarray, lengths: np.ndarray, *, bound: Range = (0.0, 2.0)) -> np.ndarray:
    """Cut values off `bound` standard deviations above or below the mean: capacity, stock, a counter's end."""
    mean, deviation = _moments(values, lengths)
    distance, above = draws.uniform(*bound), draws.chance(0.5)
    return np.where(
        above, np.minimum(values, mean + distance * deviation), np.maximum(values, mean - distance * deviation)
    )


def positive(draws: Draws, values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Cut values off at nought, where at least half of the steps are above."""
    mostly = (_inside(values, lengths) & (values > 0)).sum(axis=1, keepdims=True) > lengths / 2
    return np.where(mostly, np.maximum(values, 0), values)


def rounding(draws: Draws, values: np.ndarray, lengths: np.ndarray, *, resolution: Positive = (0.7, 100)) -> np.ndarray:
    """Round to a grid of `resolution` steps in a standard deviation: counts, prices, coarse meters."""
    _, deviation = _moments(values, lengths)
    grid = deviation / draws.log_uniform(*resolution)
    return np.round(values / grid) * grid


def unit(draws: Draws, values: np.ndarray, lengths: np.ndarray, *, scale: Positive = (0.01, 1e5)) -> np.ndarray:
    """Multiply by a scale: series come in any unit."""
    return values * draws.log_uniform(*scale)


def missing(
    draws: Draws,
    values: np.ndarray,
    lengths: np.ndarray,
    *,
    share: Positive = (0.01, 0.3),
    stretches: Count = (1, 6),
) -> np.ndarray:
    """Lose values, half of the time in up to `stretches` pieces and half of the time one by one: they become NaN."""
    lost_share, number = draws.log_uniform(*share), draws.integers(int(stretches[0]), int(stretches[1]))
    lost = np.zeros(values.shape, bool)
    time = np.arange(values.shape[1])
    for piece in range(int(stretches[1])):
        begin = draws.uniform() * lengths
        lost |= (time >= begin) & (time < begin + lengths * lost_share / number) & (piece < number)
    single = np.zeros(values.shape, bool)

    def draw(row: int, rng: np.random.Generator) -> None:
        single[row] = rng.random(values.shape[1], np.float32) < lost_share[row]

    draws.each_row(draw)
    return np.where(np.where(draws.chance(0.5), lost, single), np.nan, values)


def _inside(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return np.arange(values.shape[1]) < lengths


def _moments(values: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each row within its length, the second 1 where it is 0: [n, 1], [n, 1]."""
    inside = _inside(values, lengths)
    mean = values.sum(axis=1, where=inside, keepdims=True, dtype=np.float64) / lengths
    variance = np.square(values - mean).sum(axis=1, where=inside, keepdims=True) / lengths
    return mean, np.where(variance > 0, np.sqrt(variance), 1.0)


Effect = Callable[..., np.ndarray]
EFFECTS: dict[str, Effect] = {
    effect.__name__: effect for effect in (skew, level, outliers, censoring, positive, rounding, unit, missing)
}
"""Every effect by its name, in the order in which they act."""
