"""What priors are built of: periods, shapes that repeat, slow changes, noise with memory.

Arrays of steps are [n, width], one row a series; parameters are columns [n, 1]. A row's own length may be less than the
width: what lies behind it is cut off later. No row depends on the others, not by rounding either.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from pipeline.synthetic.draws import Draws
from pipeline.synthetic.ranges import Count, Period, Range

_RESOLUTION = 512

# Steps in a short and in a long season, and how often: what calendars make of the usual frequencies.
_CALENDAR = np.array(
    [
        (24, 168, 5),  # hourly: day and week
        (48, 336, 3),  # half-hourly
        (96, 672, 2),  # quarter-hourly
        (144, 1008, 1),  # every ten minutes
        (288, 2016, 1),  # every five minutes
        (60, 1440, 0.5),  # every minute: hour and day
        (12, 84, 0.5),  # two-hourly
        (6, 42, 0.5),  # four-hourly
        (4, 28, 0.5),  # six-hourly
        (7, 365.25, 4),  # daily: week and year
        (7, 30.4375, 1),  # daily: week and month
        (5, 261, 1),  # working days
        (4.348, 52.18, 0.5),  # weekly: month and year
        (52.18, 104.36, 2),  # weekly: year
        (12, 120, 5),  # monthly: year and decade
        (4, 40, 3),  # quarterly
        (3, 12, 0.5),  # monthly: quarter and year
        (6, 12, 0.5),  # monthly: half a year and year
    ]
)


def elapsed(lengths: np.ndarray, width: int) -> np.ndarray:
    """Return the share of a row's length that has passed at each step, at most 1: float64, [n, width]."""
    return np.minimum(np.arange(width) / lengths, 1.0)


def seasons(draws: Draws, lengths: np.ndarray, period: Period, arbitrary: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Draw a short and a long season: of a calendar, or whole numbers of steps with probability `arbitrary`.

    The short one lies in `period` and shows at least twice in the series where its length allows it; long ones that show
    less than once are rarer.
    """
    low = np.minimum(period[0], np.maximum(lengths // 2, 2))
    most = np.maximum(np.minimum(period[1], lengths / 2), low)
    share = np.where((_CALENDAR[:, 0] >= low) & (_CALENDAR[:, 0] <= most), _CALENDAR[:, 2], 0.0)
    share = np.where(_CALENDAR[:, 1] <= lengths, share, 0.3 * share)
    bounds = share.cumsum(axis=1)
    row = (draws.uniform() * bounds[:, -1:] >= bounds).sum(axis=1).clip(max=len(_CALENDAR) - 1)
    whole = np.floor(low * (most / low) ** draws.uniform())
    own = draws.chance(arbitrary) | (bounds[:, -1:] == 0)
    multiple = draws.integers(2, 12)
    short = np.where(own, whole, _CALENDAR[row, 0:1])
    return short, np.where(own, whole * multiple, _CALENDAR[row, 1:2])


def phase(time: np.ndarray, period: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return the place within the period, 0 to 1: float32, [n, length]. `shift` is in steps."""
    # Whole steps are added before the division, so that a whole period repeats to the last bit.
    place = np.mod(time + np.floor(shift), period) / period
    return place.astype(np.float32)


def shape(draws: Draws, roughness: Range = (0.5, 2.5)) -> np.ndarray:
    """Draw shapes of one period, of mean 0 and variance 1, at 512 places: float32, [n, 512].

    A Gaussian series on the circle whose amplitudes fall like 1 / frequency^b, b drawn from `roughness`.
    """
    orders = np.arange(1, 25)
    decay = orders ** -draws.uniform(*roughness)
    spectrum = np.zeros((len(draws), _RESOLUTION // 2 + 1), np.complex128)
    spectrum[:, 1:25] = (draws.normal(24) + 1j * draws.normal(24)) * decay
    return standardised(np.fft.irfft(spectrum, _RESOLUTION))


def wave(shapes: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Read shapes [n, 512] at places 0 to 1 [n, length], linearly between their points."""
    position = place * np.float32(_RESOLUTION)
    index = position.astype(np.int32)
    part = position - index
    wrapped = np.concatenate([shapes, shapes[:, :1], shapes[:, 1:2]], axis=1)
    index += (np.arange(len(shapes), dtype=np.int32) * wrapped.shape[1])[:, None]
    flat = wrapped.ravel()
    below = flat[index]
    return below + part * (flat[index + 1] - below)


def slow(draws: Draws, lengths: np.ndarray, width: int, turns: Count = (1, 8)) -> np.ndarray:
    """Draw a slow change of about unit variance: a line between random points, `turns` of them a series: [n, length]."""
    most = int(turns[1])
    points = draws.normal(most + 2)
    number = draws.integers(int(turns[0]), most)
    position = np.arange(width) * (number / lengths)
    index = np.minimum(position.astype(np.int32), most)
    part = (position - index).astype(np.float32).clip(max=1)
    below = np.take_along_axis(points, index, axis=1)
    return (below + part * (np.take_along_axis(points, index + 1, axis=1) - below)).astype(np.float32)


def trend(draws: Draws, lengths: np.ndarray, width: int) -> np.ndarray:
    """Draw a trend that rises by about one over the series: linear, damped, or broken at up to three places: [n, length].

    Damped: (1 - d^t) / (1 - d^length) (Gardner and McKenzie, 1985).
    """
    share = elapsed(lengths, width)
    kind = draws.integers(0, 2)
    bend = draws.uniform(1, 5)
    damped = (1 - np.exp(-bend * share)) / (1 - np.exp(-bend))
    broken = share.copy()
    for _ in range(3):
        broken += draws.normal() * 1.5 * np.maximum(share - draws.uniform(), 0)
    return (draws.normal() * np.select([kind == 0, kind == 1], [share, damped], broken)).astype(np.float32)


def autoregressive(noise: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """Return x_t = m x_(t-1) + sqrt(1 - m^2) e_t of unit variance from white noise: float32, [n, length]."""
    out = np.empty_like(noise)
    shocks = noise * np.sqrt(1 - memory**2).astype(np.float32)
    shocks[:, 0] = noise[:, 0]
    for row, m in enumerate(memory[:, 0].astype(np.float32)):
        out[row] = lfilter(_ONE, np.array([1, -m], np.float32), shocks[row])
    return out


def standardised(values: np.ndarray) -> np.ndarray:
    """Return rows less their mean, over their standard deviation: float32. A constant row becomes 0."""
    centred = values - values.mean(axis=-1, keepdims=True)
    deviation = centred.std(axis=-1, keepdims=True)
    return (centred / np.where(deviation > 0, deviation, 1)).astype(np.float32)


def segments(draws: Draws, lengths: np.ndarray, width: int, number: Count) -> np.ndarray:
    """Cut every series at random places: the number of cuts before each step, int64, [n, length].

    A series is cut between `number[0]` and `number[1]` times.
    """
    most = int(number[1])
    places = draws.uniform(0, 1, most) * (lengths - 1)
    places[np.arange(most) >= draws.integers(int(number[0]), most)] = np.inf
    time, segment = np.arange(width), np.zeros((len(draws), width), np.int64)
    for place in range(most):
        segment += time >= places[:, place : place + 1]
    return segment


_ONE = np.ones(1, np.float32)
