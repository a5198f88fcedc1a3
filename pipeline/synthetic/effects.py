"""Effects of observation, such as outliers, rounding and missing values, that act on series of any prior.

An effect takes a stream of random numbers, values [n, width] and the length of each row [n, 1], and changes every row.
The bank draws the rows that it acts on. Keyword arguments are ranges of parameters, set in config/bank.yaml.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.synthetic.draws import Draws
from pipeline.synthetic.ranges import Count, Positive, PositiveShare, Range


def skew(draws: Draws, values: np.ndarray, lengths: np.ndarray, *, strength: Positive = (0.3, 1.5)) -> np.ndarray:
    """Make values log-normal: exp(s z), with z the standardized series. Many amounts are log-normal."""
    mean, deviation = _moments(values, lengths)
    return np.exp((draws.uniform(*strength) * (values - mean) / deviation).clip(-8, 8))


def level(draws: Draws, values: np.ndarray, lengths: np.ndarray, *, height: Positive = (0.5, 50.0)) -> np.ndarray:
    """Move the mean to `height` standard deviations: most real series are positive, and many are far from zero."""
    mean, deviation = _moments(values, lengths)
    sign = np.where(draws.chance(0.05), -1, 1)
    return values - mean + sign * draws.log_uniform(*height) * deviation


def outliers(
    draws: Draws,
    values: np.ndarray,
    lengths: np.ndarray,
    *,
    share: PositiveShare = (0.001, 0.02),
    size: Positive = (3.0, 15.0),
) -> np.ndarray:
    """Move a share of the values by normal noise of `size` standard deviations: measurement errors, one-off events."""
    _, deviation = _moments(values, lengths)
    moved = np.zeros(values.shape, np.float32)
    probability, height = draws.log_uniform(*share)[:, 0], draws.log_uniform(*size)[:, 0]

    def draw(row: int, rng: np.random.Generator) -> None:
        steps = np.flatnonzero(rng.random(values.shape[1], np.float32) < probability[row])
        moved[row, steps] = height[row] * rng.standard_normal(len(steps))

    draws.each_row(draw)
    return values + moved * deviation


def censoring(draws: Draws, values: np.ndarray, lengths: np.ndarray, *, bound: Range = (0.0, 2.0)) -> np.ndarray:
    """Clip values `bound` standard deviations above or below the mean, as limited capacity or stock does."""
    mean, deviation = _moments(values, lengths)
    distance, above = draws.uniform(*bound), draws.chance(0.5)
    return np.where(
        above, np.minimum(values, mean + distance * deviation), np.maximum(values, mean - distance * deviation)
    )


def positive(draws: Draws, values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Clip values at zero in the series that are positive at more than half of their steps."""
    mostly = (_is_inside(values, lengths) & (values > 0)).sum(axis=1, keepdims=True) > lengths / 2
    return np.where(mostly, np.maximum(values, 0), values)


def counts(
    draws: Draws,
    values: np.ndarray,
    lengths: np.ndarray,
    *,
    mean: Positive = (0.3, 300.0),
    contrast: Positive = (0.2, 2.0),
) -> np.ndarray:
    """Draw Poisson counts whose rate is `mean` times 1 + c z, but at least 0, with z the standardized series.

    The `contrast` c is the standard deviation of the rate over the mean. Events that are counted, such as sales, calls
    or accidents, vary at least as much as Poisson numbers.
    """
    center, deviation = _moments(values, lengths)
    relative = 1 + draws.log_uniform(*contrast) * (values - center) / deviation
    rate = (draws.log_uniform(*mean) * relative).clip(0, 1e6)
    counted = np.empty(values.shape, np.float32)

    def draw(row: int, rng: np.random.Generator) -> None:
        counted[row] = rng.poisson(rate[row])

    draws.each_row(draw)
    return counted


def rounding(draws: Draws, values: np.ndarray, lengths: np.ndarray, *, resolution: Positive = (0.7, 100)) -> np.ndarray:
    """Round to a grid of `resolution` steps per standard deviation: counts, prices, coarse meters."""
    _, deviation = _moments(values, lengths)
    grid = deviation / draws.log_uniform(*resolution)
    return np.round(values / grid) * grid


def unit(draws: Draws, values: np.ndarray, lengths: np.ndarray, *, scale: Positive = (0.01, 1e5)) -> np.ndarray:
    """Multiply by a scale: series have any unit."""
    return values * draws.log_uniform(*scale)


def missing(
    draws: Draws,
    values: np.ndarray,
    lengths: np.ndarray,
    *,
    share: PositiveShare = (0.01, 0.3),
    stretches: Count = (1, 6),
) -> np.ndarray:
    """Set a share of the values to NaN: in half of the series in up to `stretches` gaps, in the others step by step."""
    missing_share, number = draws.log_uniform(*share), draws.integers(int(stretches[0]), int(stretches[1]))
    gaps = np.zeros(values.shape, bool)
    time = np.arange(values.shape[1])
    for gap in range(int(stretches[1])):
        begin = draws.uniform() * lengths
        gaps |= (time >= begin) & (time < begin + lengths * missing_share / np.maximum(number, 1)) & (gap < number)
    single = np.zeros(values.shape, bool)

    def draw(row: int, rng: np.random.Generator) -> None:
        single[row] = rng.random(values.shape[1], np.float32) < missing_share[row]

    draws.each_row(draw)
    return np.where(np.where(draws.chance(0.5), gaps, single), np.nan, values)


def _is_inside(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return np.arange(values.shape[1]) < lengths


def _moments(values: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each row within its length, the second 1 where it is 0: [n, 1], [n, 1]."""
    inside = _is_inside(values, lengths)
    mean = values.sum(axis=1, where=inside, keepdims=True, dtype=np.float64) / lengths
    variance = np.square(values - mean).sum(axis=1, where=inside, keepdims=True) / lengths
    return mean, np.where(variance > 0, np.sqrt(variance), 1.0)


Effect = Callable[..., np.ndarray]
EFFECTS: dict[str, Effect] = {
    effect.__name__: effect for effect in (skew, level, outliers, censoring, positive, counts, rounding, unit, missing)
}
"""Every effect by its name, in the order in which the bank applies them."""
