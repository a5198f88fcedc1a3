"""Building blocks of the priors: seasons, repeated shapes, slow changes, autoregressive noise.

Arrays over time are [n, width] with one row per series; parameters are columns [n, 1]. A row may be shorter than the
width; the values after its length are cut off later. No row depends on the others, not even in rounding.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from pipeline.synthetic.draws import Draws
from pipeline.synthetic.ranges import Count, Period, Range

MAX_SHIFT = 10_000
"""Maximum shift of a season in steps: longer than most of the seasons, so that series begin at any phase."""
_SHAPE_POINTS = 512
"""Points of a shape. 512 points resolve all _HARMONICS with 21 points per cycle of the fastest."""
_HARMONICS = 24
"""Frequencies in a shape. With 24, an hourly day can have a feature as short as one hour."""
_LONG_SEASON_PENALTY = 0.3
"""Weight of a calendar whose long season does not fit into the series: such series are kept, but rarer."""

# Short season, long season and weight of the calendars that common frequencies have, in steps. The weights are set by
# hand: hourly, daily and monthly data get the largest.
_CALENDARS = np.array(
    [
        (24, 168, 5),  # hourly: day and week
        (48, 336, 3),  # half-hourly: day and week
        (96, 672, 2),  # quarter-hourly: day and week
        (144, 1008, 1),  # every ten minutes: day and week
        (288, 2016, 1),  # every five minutes: day and week
        (60, 1440, 0.5),  # every minute: hour and day
        (12, 84, 0.5),  # two-hourly: day and week
        (6, 42, 0.5),  # four-hourly: day and week
        (4, 28, 0.5),  # six-hourly: day and week
        (7, 365.25, 4),  # daily: week and year
        (7, 30.4375, 1),  # daily: week and month
        (5, 261, 1),  # working days: week and year
        (4.348, 52.18, 0.5),  # weekly: month and year
        (52.18, 104.36, 2),  # weekly: year and two years
        (12, 120, 5),  # monthly: year and decade
        (4, 40, 3),  # quarterly: year and decade
        (3, 12, 0.5),  # monthly: quarter and year
        (6, 12, 0.5),  # monthly: half-year and year
    ]
)


def elapsed_fraction(lengths: np.ndarray, width: int) -> np.ndarray:
    """Return step / length for each step, at most 1: float32, [n, width]."""
    return np.minimum(np.arange(width, dtype=np.float32) / lengths.astype(np.float32), np.float32(1))


def draw_seasons(
    draws: Draws, lengths: np.ndarray, period: Period, arbitrary: float = 0.3
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a short and a long season: those of a calendar, or whole numbers of steps with probability `arbitrary`.

    The short season is in `period` and fits into the series at least twice, if the length allows. Long seasons that do
    not fit into the series once are rarer.

    Returns:
        Steps of the short and of the long season: float64, [n, 1], [n, 1].
    """
    low = np.minimum(period[0], np.maximum(lengths // 2, 2))
    high = np.maximum(np.minimum(period[1], lengths / 2), low)
    in_range = (_CALENDARS[:, 0] >= low) & (_CALENDARS[:, 0] <= high)
    weight = np.where(in_range, _CALENDARS[:, 2], 0.0)
    weight = np.where(_CALENDARS[:, 1] <= lengths, weight, _LONG_SEASON_PENALTY * weight)
    bounds = weight.cumsum(axis=1)
    calendar = (draws.uniform() * bounds[:, -1:] >= bounds).sum(axis=1).clip(max=len(_CALENDARS) - 1)
    whole = np.floor(low * (high / low) ** draws.uniform())
    is_arbitrary = draws.chance(arbitrary) | (bounds[:, -1:] == 0)
    multiple = draws.integers(2, 12)
    short = np.where(is_arbitrary, whole, _CALENDARS[calendar, 0:1])
    return short, np.where(is_arbitrary, whole * multiple, _CALENDARS[calendar, 1:2])


def phase(time: np.ndarray, period: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return the position within the period, 0 to 1, of times shifted by `shift` steps: float32, [n, length]."""
    # Whole steps are added before the division, so that a season of whole steps repeats bit for bit. Division and floor
    # are faster than np.mod, whose time grows with the number of periods.
    position = time + np.floor(shift)
    position = (position - np.floor(position / period) * period) / period
    return position.astype(np.float32)


def draw_shapes(draws: Draws, roughness: Range = (0.5, 2.5)) -> np.ndarray:
    """Draw shapes of one period with mean 0 and variance 1, at 512 points: float32, [n, 512].

    A shape is a periodic Gaussian process. Its amplitudes fall like 1 / frequency^b, with b drawn from `roughness`.
    """
    orders = np.arange(1, _HARMONICS + 1)
    decay = orders ** -draws.uniform(*roughness)
    spectrum = np.zeros((len(draws), _SHAPE_POINTS // 2 + 1), np.complex128)
    spectrum[:, 1 : _HARMONICS + 1] = (draws.normal(_HARMONICS) + 1j * draws.normal(_HARMONICS)) * decay
    return standardize(np.fft.irfft(spectrum, _SHAPE_POINTS))


def interpolate_shapes(shapes: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """Evaluate shapes [n, 512] at phases 0 to 1 [n, length] by linear interpolation: float32, [n, length]."""
    position = phases * np.float32(_SHAPE_POINTS)
    index = position.astype(np.intp)  # `take` is twice as slow with other integers
    fraction = position - index.astype(np.float32)
    # A phase that rounds to 1 reads the point after the last one, and its right neighbor.
    wrapped = np.concatenate([shapes, shapes[:, :1], shapes[:, 1:2]], axis=1)
    index += (np.arange(len(shapes)) * wrapped.shape[1])[:, None]
    left = wrapped.take(index)
    return left + fraction * (wrapped.take(index + 1) - left)


def draw_slow_changes(draws: Draws, lengths: np.ndarray, width: int, turns: Count = (1, 8)) -> np.ndarray:
    """Draw piecewise linear paths between `turns` standard normal points per series: float32, [n, width]."""
    max_turns = int(turns[1])
    points = draws.normal(max_turns + 2).astype(np.float32)
    number = draws.integers(int(turns[0]), max_turns)
    position = np.arange(width, dtype=np.float32) * (number / lengths).astype(np.float32)
    index = np.minimum(position.astype(np.int32), max_turns)
    fraction = (position - index.astype(np.float32)).clip(max=1)
    left = np.take_along_axis(points, index, axis=1)
    return left + fraction * (np.take_along_axis(points, index + 1, axis=1) - left)


def draw_trends(draws: Draws, lengths: np.ndarray, width: int) -> np.ndarray:
    """Draw linear, damped or piecewise linear trends that change by about one over the series: float32, [n, width].

    A damped trend is (1 - d^t) / (1 - d^length) (Gardner and McKenzie, 1985). A piecewise linear one has three knots.
    """
    fraction = elapsed_fraction(lengths, width)
    kind = draws.integers(0, 2)
    damping = draws.uniform(1, 5).astype(np.float32)
    damped = (1 - np.exp(-damping * fraction)) / (1 - np.exp(-damping))
    piecewise = fraction.copy()
    for _ in range(3):
        slope, knot = 1.5 * draws.normal(), draws.uniform()
        piecewise += slope.astype(np.float32) * np.maximum(fraction - knot.astype(np.float32), 0)
    size = draws.normal().astype(np.float32)
    return size * np.select([kind == 0, kind == 1], [fraction, damped], piecewise)


def autoregress(noise: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """Return the AR(1) process x_t = m x_(t-1) + sqrt(1 - m^2) e_t with variance 1.

    Args:
        noise: the shocks e, white with variance 1, float32 [n, length].
        memory: the coefficient m of each row, [n, 1].

    Returns:
        float32, [n, length].
    """
    out = np.empty_like(noise)
    shocks = noise * np.sqrt(1 - memory**2).astype(np.float32)
    shocks[:, 0] = noise[:, 0]
    numerator = np.ones(1, np.float32)
    for row, m in enumerate(memory[:, 0].astype(np.float32)):
        out[row] = lfilter(numerator, np.array([1, -m], np.float32), shocks[row])
    return out


def draw_events(draws: Draws, probability: np.ndarray, width: int) -> np.ndarray:
    """Draw True with the probability [n, 1] of each row, independently at each step: bool, [n, width]."""
    numbers = np.empty((len(draws), width), np.float32)
    draws.each_row(lambda row, rng: rng.random(out=numbers[row], dtype=np.float32))
    return numbers < probability.astype(np.float32)


def standardize(values: np.ndarray) -> np.ndarray:
    """Scale rows to mean 0 and standard deviation 1; a constant row becomes 0: float32, same shape."""
    centered = values - values.mean(axis=-1, keepdims=True)
    deviation = centered.std(axis=-1, keepdims=True)
    return (centered / np.where(deviation > 0, deviation, 1)).astype(np.float32)


def draw_segments(draws: Draws, lengths: np.ndarray, width: int, changes: Count) -> np.ndarray:
    """Split every series at `changes` random steps; return the segment number of each step: int64, [n, width]."""
    max_changes = int(changes[1])
    positions = draws.uniform(0, 1, max_changes) * (lengths - 1)
    positions[np.arange(max_changes) >= draws.integers(int(changes[0]), max_changes)] = np.inf
    time, segment = np.arange(width), np.zeros((len(draws), width), np.int64)
    for change in range(max_changes):
        segment += time >= positions[:, change : change + 1]
    return segment
