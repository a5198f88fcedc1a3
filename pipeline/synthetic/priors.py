"""Priors: ways in which series come about. Each draws n series at once, every one with parameters of its own.

A prior takes a stream of random numbers, one a row, the length of each row, int64 [n, 1], and how many steps to make, at
least the greatest length; it returns values [n, width], those behind a row's length without meaning. Its keyword arguments
are ranges that parameters are drawn from: config/bank.yaml sets them. Two are large: energy.py and kernel_synth.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.signal import lfilter

from pipeline.synthetic.components import (
    autoregressive,
    elapsed,
    phase,
    seasons,
    segments,
    shape,
    slow,
    standardised,
    trend,
    wave,
)
from pipeline.synthetic.draws import Draws
from pipeline.synthetic.energy import energy
from pipeline.synthetic.kernel_synth import composite_draws
from pipeline.synthetic.ranges import Count, Period, Positive, Range, Share

_LONGEST_SHIFT = 10_000
_DAYS = 256


def trend_seasonal(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    period: Period = (2, 730),
    slope: Positive = (0.05, 8.0),
    amplitude: Positive = (0.1, 1.0),
    noise: Positive = (0.005, 0.5),
    memory: Share = (0.0, 0.9),
) -> np.ndarray:
    """Trend, two seasons and noise with memory, added or multiplied.

    y = 1 + T + S + e, or exp(T + S + e), where S is a sum of a short and a long season, each a random shape whose
    amplitude changes slowly. After ForecastPFN (Dooley et al., 2023) and the decomposition of Cleveland et al. (1990).
    """
    time = np.arange(width)
    short, long = seasons(draws, lengths, period)
    season = np.zeros((len(draws), width), np.float32)
    for length_of_season, strength in ((short, 1.0), (long, draws.choice(np.array([0.0, 0.5, 1.0])))):
        place = phase(time, length_of_season, draws.uniform(0, _LONGEST_SHIFT))
        change = np.where(draws.chance(0.3), 0.4, 0.0) * slow(draws, lengths, width, (1, 5))
        season += strength * (1 + change) * wave(shape(draws), place)
    e = draws.log_uniform(*noise) * autoregressive(draws.white(width), draws.uniform(*memory))
    size = draws.log_uniform(*amplitude)
    total = draws.log_uniform(*slope) * trend(draws, lengths, width) + size * season + size * e
    return np.where(draws.chance(0.5), 1 + total, np.exp(0.5 * total.clip(-10, 10)))


def templates(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    period: Period = (3, 288),
    weekend: Positive = (0.3, 1.2),
    noise: Positive = (0.001, 0.15),
    drift: Positive = (0.005, 0.4),
    memory: Share = (0.3, 0.98),
) -> np.ndarray:
    """Days of one shape in weeks of unequal days: load, traffic, sales by the hour.

    y = (1 + a S_k(phase))^v f_d m_t (1 + e): S_k is the shape of day type k, work day or weekend, repeated exactly; f_d the
    factor of day d of the week, m_t a slow change of level, e noise with memory. Shapes are smooth, peaked (exp S), or
    cut at nought (max(S, 0), as solar power is). The form of the multiplicative load models of Taylor (2003). Some have
    days that are higher than others, or more pronounced (v), for some days on end, as the weather makes them.
    """
    time = np.arange(width)
    short, long = seasons(draws, lengths, period)
    shift = draws.uniform(0, _LONGEST_SHIFT)
    place = phase(time, short, shift)
    week = np.maximum(np.round(long / short), 1)
    day = np.floor((time + np.floor(shift)) / short)
    day_of_week = np.mod(day, week) / week
    work, rest = shape(draws), shape(draws)
    likeness = draws.uniform(0, 1)
    rest = likeness * work + (1 - likeness) * rest
    kind = draws.integers(0, 3)
    sharpness = draws.uniform(0.3, 1.2)
    size = draws.log_uniform(0.05, 0.5)
    floor = draws.uniform(-0.7, 0.7)

    def formed(table: np.ndarray) -> np.ndarray:
        smooth = 1 + size * table
        peaked = np.exp(sharpness * table)
        cut = np.maximum(table - floor, 0)
        return np.select([kind <= 1, kind == 2], [smooth, peaked], cut).astype(np.float32)

    rests = (day_of_week >= 1 - 2 / 7) & draws.chance(0.6)
    values = np.where(rests, wave(formed(rest), place), wave(formed(work), place))
    of_day = day.astype(np.int64) % _DAYS

    def by_day(low: float, high: float) -> np.ndarray:
        weather = autoregressive(draws.normal(_DAYS), draws.uniform(0, 0.95))
        return draws.log_uniform(low, high) * draws.chance(0.4) * np.take_along_axis(weather, of_day, axis=1)

    values = values.clip(0) ** np.exp(by_day(0.02, 0.3).clip(-1, 1))
    factors = 1 + np.where(draws.chance(0.5), 0.15, 0.0) * draws.normal(32)
    values *= np.take_along_axis(factors, np.floor(day_of_week * 31).astype(np.int64), axis=1)
    values = np.where(rests, values * draws.uniform(*weekend), values)
    level = draws.log_uniform(*drift) * slow(draws, lengths, width, (1, 20))
    level = level + by_day(0.005, 0.2)
    e = draws.log_uniform(*noise) * autoregressive(draws.white(width), draws.uniform(*memory))
    return values * np.exp(np.minimum(level, 3)) * (1 + e)


def calendar(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    holidays: Count = (0, 12),
    yearly: Positive = (0.02, 0.5),
    noise: Positive = (0.01, 0.3),
) -> np.ndarray:
    """Business by the day or by the month, on the real calendar.

    Days: factors of the weekdays, weekends that may be closed, days of the year that are always holidays
    with a swell before them, month ends, a yearly shape. Months: as many working days as the month has, December, a
    yearly shape. The effects are those of X-13 (Findley et al., 1998) and of Prophet (Taylor and Letham, 2018).
    """
    n = len(draws)
    by_month = draws.chance(np.where(lengths <= 250, 0.7, 0.1))
    start = draws.integers(0, 365 * 20)
    days = start + np.arange(width)
    yearly_shape, size = shape(draws, (1.0, 2.5)), draws.log_uniform(*yearly)
    years = lengths / np.where(by_month, 12, 365)
    growth = draws.log_uniform(0.02, 0.3) * np.minimum(years, 8) * trend(draws, lengths, width)

    month = days.astype("M8[D]").astype("M8[M]")
    month_start = month.astype("M8[D]").astype(np.int64)
    of_month = days - month_start
    left_of_month = (month + 1).astype("M8[D]").astype(np.int64) - 1 - days
    of_year = (days - month.astype("M8[Y]").astype("M8[D]").astype(np.int64)).clip(max=365)
    weekday = (days + 3) % 7
    factors = 1 + draws.log_uniform(0.02, 0.5) * draws.normal(7)
    factors[:, 5:] *= np.where(draws.chance(0.25), 0.0, draws.uniform(0.5, 1.5))
    daily = np.take_along_axis(np.maximum(factors, 0), weekday, axis=1)
    table = np.ones((n, 366))
    rows = np.arange(n)[:, None]
    for number in range(int(holidays[1])):
        on = number < draws.integers(int(holidays[0]), int(holidays[1]))
        date, swell, run_up = draws.integers(0, 365), draws.uniform(-0.2, 0.8), draws.integers(1, 14)
        before = np.arange(14)
        table[rows, (date - before) % 366] *= np.where(on & (before < run_up), 1 + swell * (1 - before / run_up), 1.0)
        table[rows, date] *= np.where(on, draws.choice(np.array([0.0, 0.1, 0.3, 1.0, 2.0])), 1.0)
    daily = daily * np.take_along_axis(table, of_year, axis=1)
    pay = np.where(draws.chance(0.3), draws.uniform(0.1, 0.8), 0.0)
    daily = daily * (1 + pay * ((left_of_month < 2) | (of_month < 1)))
    daily = daily * np.exp(size * wave(yearly_shape, (of_year / 366).astype(np.float32)))

    months = start // 30 + np.arange(width)
    first = months.astype("M8[M]").astype("M8[D]")
    next_first = (months + 1).astype("M8[M]").astype("M8[D]")
    working = np.busday_count(first, next_first)
    monthly = (working / 21) ** draws.uniform(0, 1.5)
    monthly = monthly * np.exp(size * wave(yearly_shape, ((months % 12) / 12).astype(np.float32)))
    monthly = monthly * np.where(months % 12 == 11, draws.choice(np.array([1.0, 1.0, 1.3, 1.8, 0.7])), 1.0)

    e = draws.log_uniform(*noise) * autoregressive(draws.white(width), draws.uniform(0, 0.8))
    return np.where(by_month, monthly, daily) * np.exp(growth.clip(-4, 4) + e)


def sarima(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    period: Period = (2, 336),
    root: Share = (0.1, 0.97),
    seasonal: Share = (0.2, 0.98),
) -> np.ndarray:
    """SARIMA(3, d, 1)(1, D, 1) (Box and Jenkins, 1970), its roots drawn inside the region of stability.

    One real and one complex pair of autoregressive roots of modulus below one, a moving average root, the same once at the
    lag of the season; differences d and D of nought or one are summed up; a drift may be added.
    """
    time = np.arange(width)
    short, _ = seasons(draws, lengths, period)
    lag = np.round(short).astype(np.int64)[:, 0]
    real = draws.uniform(*root) * np.where(draws.chance(0.8), 1, -1) * draws.chance(0.7)
    modulus, angle = draws.uniform(*root) * draws.chance(0.4), draws.uniform(0, np.pi)
    average = draws.uniform(-0.9, 0.9) * draws.chance(0.6)
    summed = (draws.chance(0.4))[:, 0]
    with_season = draws.chance(0.8)
    seasonal_sum = (draws.chance(0.4) & with_season)[:, 0]
    seasonal_root = np.where(seasonal_sum[:, None], 1.0, draws.uniform(*seasonal) * with_season)
    # Under a seasonal sum the moving average keeps the season from wandering (the airline model).
    seasonal_average = np.where(
        seasonal_sum[:, None], draws.uniform(-0.95, -0.3), draws.uniform(-0.6, 0.3) * with_season
    )
    shocks = draws.white(width + _BURN_IN)
    values = np.empty((len(draws), width), np.float32)
    for row in range(len(draws)):
        pair = np.array([1, -2 * modulus[row, 0] * np.cos(angle[row, 0]), modulus[row, 0] ** 2])
        x = lfilter([1, average[row, 0]], np.convolve(pair, [1, -real[row, 0]]), shocks[row])[_BURN_IN:]
        s = lag[row]
        cycles = np.concatenate([x, np.zeros(-width % s)]).reshape(-1, s)
        x = lfilter([1, seasonal_average[row, 0]], [1, -seasonal_root[row, 0]], cycles, axis=0).ravel()[:width]
        values[row] = np.cumsum(x - x.mean()) if summed[row] else x
    place = phase(time, np.round(short), draws.uniform(0, _LONGEST_SHIFT))
    # The season that was there before the first step fades as the seasonal root says.
    begun = draws.uniform(0.3, 3) * with_season * seasonal_root ** (time // np.round(short)) * wave(shape(draws), place)
    return standardised(values) + begun + draws.uniform(0, 4) * draws.chance(0.5) * trend(draws, lengths, width)


def regimes(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    changes: Count = (1, 8),
    jump: Positive = (0.5, 5.0),
    noise: Positive = (0.02, 1.0),
) -> np.ndarray:
    """Levels, slopes and variances that change at once (Hamilton, 1989, with the states drawn before).

    Each stretch between `changes` has a level, which may be one of two that return, a slope and a noise of its own; a
    season may run through all.
    """
    time = np.arange(width)
    segment = segments(draws, lengths, width, changes)
    most = int(changes[1]) + 1
    rows = np.arange(len(draws))[:, None]
    wandering = draws.normal(most).cumsum(axis=1)
    returning = draws.normal(2)[rows, np.arange(most) % 2]
    levels = np.where(draws.chance(0.4), returning, wandering) * draws.log_uniform(*jump)
    slopes = draws.normal(most) * np.where(draws.chance(0.3), 3.0, 0.0)
    deviations = draws.log_uniform(*noise) * np.exp(np.where(draws.chance(0.4), 1.0, 0.0) * draws.normal(most))
    short, _ = seasons(draws, lengths, (3, 336))
    season = wave(shape(draws), phase(time, short, draws.uniform(0, _LONGEST_SHIFT)))
    e = autoregressive(draws.white(width), draws.uniform(0, 0.8))
    values = levels[rows, segment] + np.cumsum(slopes[rows, segment], axis=1) / lengths + deviations[rows, segment] * e
    return values + draws.uniform(0.2, 2) * draws.chance(0.6) * season


def volatility(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    memory: Share = (0.9, 0.995),
    strength: Positive = (0.3, 1.2),
    amplitude: Range = (0.0, 3.0),
) -> np.ndarray:
    """Variance that changes: y = a S + s_t e_t, log s_t an AR(1) with a season of its own (Taylor, 1986).

    Half of them are around a season, the others around nothing.
    """
    time = np.arange(width)
    short, _ = seasons(draws, lengths, (3, 336))
    place = phase(time, short, draws.uniform(0, _LONGEST_SHIFT))
    log_deviation = draws.uniform(*strength) * autoregressive(draws.white(width), draws.uniform(*memory))
    log_deviation = log_deviation + draws.chance(0.4) * draws.uniform(0.2, 1.0) * wave(shape(draws), place)
    e = autoregressive(draws.white(width), draws.uniform(0, 0.7))
    level = draws.uniform(*amplitude) * draws.chance(0.5) * wave(shape(draws), place)
    return level + np.exp(log_deviation) * e


def intermittent(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    demand: Positive = (0.03, 1.0),
    size: Positive = (1.0, 30.0),
    period: Period = (4, 168),
) -> np.ndarray:
    """Counts with many noughts: demand occurs with probability p_t, then has a size (Croston, 1972).

    log p_t has a slow change and may have a season; sizes are 1 plus a Poisson or, with the variance of a gamma, a negative
    binomial number, and where p is near 1 the series is one of plain counts.
    """
    time = np.arange(width)
    short, _ = seasons(draws, lengths, period)
    season = wave(shape(draws), phase(time, short, draws.uniform(0, _LONGEST_SHIFT)))
    log_rate = draws.chance(0.5) * draws.uniform(0.2, 0.8) * season + 0.3 * draws.uniform() * slow(
        draws, lengths, width
    )
    p = draws.log_uniform(*demand) * np.exp(log_rate)
    mean = draws.log_uniform(*size) * np.exp(log_rate)
    spread = np.where(draws.chance(0.5), draws.log_uniform(0.5, 5), np.inf)[:, 0]
    least = draws.integers(0, 1)[:, 0]
    values = np.empty((len(draws), width), np.float32)

    def draw(row: int, rng: np.random.Generator) -> None:
        rate = mean[row]
        if np.isfinite(spread[row]):
            rate = rate * rng.standard_gamma(spread[row], width) / spread[row]
        values[row] = (rng.random(width, np.float32) < p[row]) * (least[row] + rng.poisson(rate))

    draws.each_row(draw)
    return values


def growth(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    waves: Count = (1, 3),
    steepness: Positive = (3.0, 30.0),
    noise: Positive = (0.002, 0.1),
) -> np.ndarray:
    """Growth that saturates: sums of logistic 1 / (1 + exp(-z)) and Gompertz exp(-exp(-z)) curves (Gompertz, 1825).

    z = r (t / length - t_0). A third are the new cases of such a course, its derivative, and a third grow exponentially.
    """
    share = elapsed(lengths, width)
    total = np.zeros((len(draws), width))
    cases = np.zeros_like(total)
    number = draws.integers(int(waves[0]), int(waves[1]))
    gompertz = draws.chance(0.4)
    for index in range(int(waves[1])):
        z = draws.log_uniform(*steepness) * (share - draws.uniform(-0.2, 1.2))
        size = draws.log_uniform(0.2, 2) * (index < number)
        curve = np.where(gompertz, np.exp(-np.exp(-z.clip(-30, 30))), 1 / (1 + np.exp(-z.clip(-30, 30))))
        total += size * curve
        cases += size * curve * (1 - curve) * 4
    exponential = np.exp(draws.uniform(-1, 4) * share)
    kind = draws.integers(0, 2)
    values = np.select([kind == 0, kind == 1], [total, cases], exponential) + draws.log_uniform(0.005, 0.5)
    short, _ = seasons(draws, lengths, (3, 60))
    season = wave(shape(draws), phase(np.arange(width), short, draws.uniform(0, _LONGEST_SHIFT)))
    e = draws.log_uniform(*noise) * autoregressive(draws.white(width), draws.uniform(0, 0.95))
    return values * np.exp(e + draws.chance(0.4) * draws.uniform(0.02, 0.2) * season)


def spikes(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    rate: Positive = (0.002, 0.05),
    size: Positive = (1.0, 10.0),
    decay: Share = (0.0, 0.9),
    period: Period = (4, 336),
) -> np.ndarray:
    """Spikes that fade, at random times or in step: shot noise (Campbell, 1909) on a quiet series.

    y = S + e + sum over spikes of h d^(t - t_i), heights h Pareto distributed, up, down or both; half come once a period.
    """
    time = np.arange(width)
    short, _ = seasons(draws, lengths, period)
    shift = draws.uniform(0, _LONGEST_SHIFT)
    season = wave(shape(draws), phase(time, short, shift)) * draws.uniform(0, 1) * draws.chance(0.6)
    height = draws.log_uniform(*size)
    sign = draws.choice(np.array([1.0, 1.0, -1.0]))
    chance = np.where(
        draws.chance(0.5),
        draws.log_uniform(*rate),
        np.where(np.mod(np.floor(time + shift), np.round(short)) == 0, 0.95, 0),
    )
    memory = draws.uniform(*decay)[:, 0]
    values = np.empty((len(draws), width), np.float32)

    def draw(row: int, rng: np.random.Generator) -> None:
        impulses = (rng.random(width) < chance[row]) * (1 + 0.2 * rng.pareto(3, width))
        values[row] = lfilter([1.0], [1.0, -memory[row]], impulses)

    draws.each_row(draw)
    e = draws.log_uniform(0.02, 0.4) * autoregressive(draws.white(width), draws.uniform(0, 0.9))
    return season + e + sign * height * values


def ornstein_uhlenbeck(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    relaxation: Positive = (2.0, 300.0),
    season: Range = (0.0, 2.0),
) -> np.ndarray:
    """A value drawn back to a mean: dx = (m_t - x) dt / tau + s dW (Uhlenbeck and Ornstein, 1930), exactly in steps.

    The mean may have a season or a trend; tau is `relaxation`, in steps.
    """
    time = np.arange(width)
    short, _ = seasons(draws, lengths, (3, 336))
    mean = (
        draws.uniform(*season)
        * draws.chance(0.5)
        * wave(shape(draws), phase(time, short, draws.uniform(0, _LONGEST_SHIFT)))
    )
    x = autoregressive(draws.white(width), np.exp(-1 / draws.log_uniform(*relaxation)))
    return mean + x + draws.chance(0.3) * 2 * trend(draws, lengths, width)


def brownian(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    drift: Range = (-0.5, 1.0),
    deviation: Positive = (0.1, 1.5),
) -> np.ndarray:
    """Geometric and plain Brownian motion: log y = m t + s W_t (Samuelson, 1965), or y = m t + s W_t.

    `drift` and `deviation` are those of the logarithm over the whole series.
    """
    shocks = draws.white(width)
    path = draws.log_uniform(*deviation) * np.cumsum(shocks, axis=1, dtype=np.float64) / np.sqrt(lengths)
    path += draws.uniform(*drift) * elapsed(lengths, width)
    return np.where(draws.chance(0.6), np.exp(path.clip(-20, 20)), 1 + path)


def heavy_tails(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    degrees: Positive = (1.5, 6.0),
    memory: Share = (0.0, 0.95),
    amplitude: Range = (0.0, 3.0),
) -> np.ndarray:
    """Autoregression with Student t shocks of few degrees of freedom, alone or on a season: y = a S + x."""
    time = np.arange(width)
    nu = draws.log_uniform(*degrees)[:, 0]
    shocks = np.empty((len(draws), width), np.float32)

    def draw(row: int, rng: np.random.Generator) -> None:
        shocks[row] = rng.standard_t(nu[row], width).clip(-50, 50)

    draws.each_row(draw)
    short, _ = seasons(draws, lengths, (3, 336))
    season = wave(shape(draws), phase(time, short, draws.uniform(0, _LONGEST_SHIFT)))
    x = autoregressive(shocks, draws.uniform(*memory))
    return draws.uniform(*amplitude) * draws.chance(0.6) * season + x


def fractal(draws: Draws, lengths: np.ndarray, width: int, *, exponent: Range = (0.3, 2.5)) -> np.ndarray:
    """Noise whose spectrum falls like 1 / f^b, rough on every scale (Timmer and Koenig, 1995)."""
    size = 1 << (2 * width - 1).bit_length()
    noise = draws.white(size + 2)
    amplitude = np.zeros((len(draws), size // 2 + 1))
    amplitude[:, 1:] = np.arange(1, size // 2 + 1) ** (-0.5 * draws.uniform(*exponent))
    spectrum = (noise[:, : size // 2 + 1] + 1j * noise[:, size // 2 + 1 :]) * amplitude
    return standardised(np.fft.irfft(spectrum, size)[:, :width])


def waveforms(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    period: Period = (3, 500),
    noise: Positive = (0.001, 0.3),
) -> np.ndarray:
    """Square, saw-tooth, triangle, pulse and sine waves of machines and signals, with noise.

    The period may change slowly (a chirp), and the wave may be switched on and off.
    """
    time = np.arange(width)
    short, _ = seasons(draws, lengths, period, arbitrary=0.6)
    chirp = draws.chance(0.2) * draws.uniform(-0.3, 0.3)
    place = phase(time * (1 + chirp * time / lengths), short, draws.uniform(0, _LONGEST_SHIFT))
    duty = draws.uniform(0.1, 0.9)
    kind = draws.integers(0, 4)
    square = (place < duty).astype(np.float32)
    saw = place
    triangle = np.where(place < duty, place / duty, (1 - place) / (1 - duty))
    pulse = np.exp(-0.5 * ((place - 0.5) / (0.02 + 0.1 * duty)) ** 2)
    sine = np.sin(np.float32(2 * np.pi) * place)
    values = np.select([kind == 0, kind == 1, kind == 2, kind == 3], [square, saw, triangle, pulse], sine)
    switched = np.where(draws.chance(0.2), segments(draws, lengths, width, (1, 6)) % 2, 1)
    e = autoregressive(draws.white(width), draws.uniform(0, 0.5))
    return values * switched + draws.log_uniform(*noise) * e


def kernel_synth(draws: Draws, lengths: np.ndarray, width: int) -> np.ndarray:
    """Gaussian processes with random sums and products of up to five kernels (Ansari et al., 2024): see kernel_synth.py.

    A row is the beginning of a draw whose length is the next power of two.
    """
    values = np.zeros((len(draws), width), np.float32)
    keys = draws.fork().keys
    grids = 1 << np.ceil(np.log2(np.maximum(lengths[:, 0], 2))).astype(np.int64)
    for grid in np.unique(grids):
        rows = np.flatnonzero(grids == grid)
        shown = min(int(grid), width)
        values[rows, :shown] = composite_draws(Draws(keys[rows]), int(grid), 5)[:, :shown]
    return values


_BURN_IN = 200

Prior = Callable[..., np.ndarray]
PRIORS: dict[str, Prior] = {
    prior.__name__: prior
    for prior in (
        trend_seasonal,
        templates,
        energy,
        calendar,
        sarima,
        regimes,
        volatility,
        intermittent,
        growth,
        spikes,
        ornstein_uhlenbeck,
        brownian,
        heavy_tails,
        fractal,
        waveforms,
        kernel_synth,
    )
}
"""Every prior by its name."""
