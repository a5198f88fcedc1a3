"""Priors: random processes that series are drawn from. A prior draws n series at once, each with its own parameters.

Args of every prior:
    draws: one stream of random numbers per row.
    lengths: length of each row, int64 [n, 1].
    width: steps to draw, at least the greatest length.
    keyword arguments: ranges that the parameters are drawn from, set in config/bank.yaml.

A prior returns values [n, width]; values after a row's length have no meaning. Numbers inside a prior were set by hand,
so that its series look like those that it names. Two large priors have their own files: energy.py and kernel_synth.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.signal import lfilter

from pipeline.synthetic.components import (
    autoregress,
    draw_seasons,
    draw_segments,
    draw_shapes,
    draw_slow_changes,
    draw_trends,
    elapsed_fraction,
    interpolate_shapes,
    phase,
    standardize,
)
from pipeline.synthetic.draws import Draws
from pipeline.synthetic.energy import energy
from pipeline.synthetic.kernel_synth import draw_composites
from pipeline.synthetic.ranges import Count, Period, Positive, Range, Share

_MAX_SHIFT = 10_000
"""Steps by which a season may be shifted: more than most of the seasons, so that series begin at any phase."""
_WEATHER_DAYS = 256
"""Days after which the weather of `templates` repeats."""
_BURN_IN = 200
"""Steps that the filters of `sarima` run before the first value, so that the start is nearly stationary."""


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
    """Draw the sum or product of a trend, two seasons and autoregressive noise.

    y = 1 + T + S + e, or exp((T + S + e) / 2). S is the sum of a short and a long season, each a random shape whose
    amplitude may change slowly. After ForecastPFN (Dooley et al., 2023) and the decomposition of Cleveland et al.
    (1990).
    """
    time = np.arange(width)
    short, long = draw_seasons(draws, lengths, period)
    season = np.zeros((len(draws), width), np.float32)
    for steps, strength in ((short, 1.0), (long, draws.choice(np.array([0.0, 0.5, 1.0])))):
        position = phase(time, steps, draws.uniform(0, _MAX_SHIFT))
        change = np.where(draws.chance(0.3), 0.4, 0.0) * draw_slow_changes(draws, lengths, width, (1, 5))
        season += strength * (1 + change) * interpolate_shapes(draw_shapes(draws), position)
    e = draws.log_uniform(*noise) * autoregress(draws.white(width), draws.uniform(*memory))
    size = draws.log_uniform(*amplitude)
    total = draws.log_uniform(*slope) * draw_trends(draws, lengths, width) + size * season + size * e
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
    """Draw weeks of days with a repeated shape and unequal levels: load, traffic, hourly sales.

    y = (1 + a S_k(phase))^v f_d m_t (1 + e), the form of the multiplicative load models of Taylor (2003):

    - S_k is the shape of day type k, work day or weekend, repeated exactly. It is smooth, peaked (exp S) or clipped at
      zero (max(S, 0), like solar power).
    - f_d is the factor of day d of the week, m_t a slow change of level, e autoregressive noise.
    - In some series the level and the exponent v follow an AR(1) over days, as the weather does.
    """
    time = np.arange(width)
    short, long = draw_seasons(draws, lengths, period)
    shift = draws.uniform(0, _MAX_SHIFT)
    position = phase(time, short, shift)
    week = np.maximum(np.round(long / short), 1)
    day = np.floor((time + np.floor(shift)) / short)
    day_of_week = np.mod(day, week) / week
    work, rest = draw_shapes(draws), draw_shapes(draws)
    similarity = draws.uniform(0, 1)
    rest = similarity * work + (1 - similarity) * rest
    kind = draws.integers(0, 3)
    sharpness = draws.uniform(0.3, 1.2)
    size = draws.log_uniform(0.05, 0.5)
    floor = draws.uniform(-0.7, 0.7)

    def transform(shapes: np.ndarray) -> np.ndarray:
        smooth = 1 + size * shapes
        peaked = np.exp(sharpness * shapes)
        clipped = np.maximum(shapes - floor, 0)
        return np.select([kind <= 1, kind == 2], [smooth, peaked], clipped).astype(np.float32)

    is_rest = (day_of_week >= 1 - 2 / 7) & draws.chance(0.6)
    values = np.where(
        is_rest, interpolate_shapes(transform(rest), position), interpolate_shapes(transform(work), position)
    )
    day_index = day.astype(np.int64) % _WEATHER_DAYS

    def draw_daily(low: float, high: float) -> np.ndarray:
        # An AR(1) over days in 40% of the series, zero in the others.
        weather = autoregress(draws.normal(_WEATHER_DAYS), draws.uniform(0, 0.95))
        return draws.log_uniform(low, high) * draws.chance(0.4) * np.take_along_axis(weather, day_index, axis=1)

    values = values.clip(0) ** np.exp(draw_daily(0.02, 0.3).clip(-1, 1))
    factors = 1 + np.where(draws.chance(0.5), 0.15, 0.0) * draws.normal(32)
    values *= np.take_along_axis(factors, np.floor(day_of_week * 31).astype(np.int64), axis=1)
    values = np.where(is_rest, values * draws.uniform(*weekend), values)
    level = draws.log_uniform(*drift) * draw_slow_changes(draws, lengths, width, (1, 20))
    level = level + draw_daily(0.005, 0.2)
    e = draws.log_uniform(*noise) * autoregress(draws.white(width), draws.uniform(*memory))
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
    """Draw daily or monthly business on the real calendar, with the effects of X-13 and Prophet.

    Daily series have weekday factors, weekends that may be closed, holidays, paydays and a yearly shape. Monthly series
    have the working days of the month, a factor for December and a yearly shape. See Findley et al. (1998) for X-13 and
    Taylor and Letham (2018) for Prophet.
    """
    is_monthly = draws.chance(np.where(lengths <= 250, 0.7, 0.1))
    start = draws.integers(0, 365 * 20)  # days since 1970-01-01
    yearly_shape, size = draw_shapes(draws, (1.0, 2.5)), draws.log_uniform(*yearly)
    years = lengths / np.where(is_monthly, 12, 365)
    growth = draws.log_uniform(0.02, 0.3) * np.minimum(years, 8) * draw_trends(draws, lengths, width)
    daily = _draw_business_days(draws, start + np.arange(width), holidays, size, yearly_shape)
    monthly = _draw_business_months(draws, start // 30 + np.arange(width), size, yearly_shape)
    e = draws.log_uniform(*noise) * autoregress(draws.white(width), draws.uniform(0, 0.8))
    return np.where(is_monthly, monthly, daily) * np.exp(growth.clip(-4, 4) + e)


def _draw_business_days(
    draws: Draws, days: np.ndarray, holidays: Count, size: np.ndarray, yearly_shape: np.ndarray
) -> np.ndarray:
    """Return the calendar's factor of each day [n, width], given in days since 1970-01-01."""
    month = days.astype("M8[D]").astype("M8[M]")
    day_of_month = days - month.astype("M8[D]").astype(np.int64)
    days_left_in_month = (month + 1).astype("M8[D]").astype(np.int64) - 1 - days
    day_of_year = (days - month.astype("M8[Y]").astype("M8[D]").astype(np.int64)).clip(max=365)
    weekday = (days + 3) % 7  # 1970-01-01 was a Thursday
    weekday_factors = 1 + draws.log_uniform(0.02, 0.5) * draws.normal(7)
    weekday_factors[:, 5:] *= np.where(draws.chance(0.25), 0.0, draws.uniform(0.5, 1.5))
    factors = np.take_along_axis(np.maximum(weekday_factors, 0), weekday, axis=1)
    factors = factors * np.take_along_axis(_draw_holidays(draws, holidays), day_of_year, axis=1)
    payday = np.where(draws.chance(0.3), draws.uniform(0.1, 0.8), 0.0)
    factors = factors * (1 + payday * ((days_left_in_month < 2) | (day_of_month < 1)))
    return factors * np.exp(size * interpolate_shapes(yearly_shape, (day_of_year / 366).astype(np.float32)))


def _draw_holidays(draws: Draws, number: Count) -> np.ndarray:
    """Draw the factor of each day of the year: `number` holidays, each with a rise or fall before it: [n, 366]."""
    factors = np.ones((len(draws), 366))
    rows = np.arange(len(draws))[:, None]
    days_before = np.arange(14)
    for holiday in range(int(number[1])):
        is_drawn = holiday < draws.integers(int(number[0]), int(number[1]))
        date, rise, run_up = draws.integers(0, 365), draws.uniform(-0.2, 0.8), draws.integers(1, 14)
        on_run_up = is_drawn & (days_before < run_up)
        factors[rows, (date - days_before) % 366] *= np.where(on_run_up, 1 + rise * (1 - days_before / run_up), 1.0)
        factors[rows, date] *= np.where(is_drawn, draws.choice(np.array([0.0, 0.1, 0.3, 1.0, 2.0])), 1.0)
    return factors


def _draw_business_months(draws: Draws, months: np.ndarray, size: np.ndarray, yearly_shape: np.ndarray) -> np.ndarray:
    """Return the calendar's factor of each month [n, width], given in months since January 1970."""
    first_day = months.astype("M8[M]").astype("M8[D]")
    next_first_day = (months + 1).astype("M8[M]").astype("M8[D]")
    # 21 is the mean number of working days of a month, to the next whole number.
    factors = (np.busday_count(first_day, next_first_day) / 21) ** draws.uniform(0, 1.5)
    factors = factors * np.exp(size * interpolate_shapes(yearly_shape, ((months % 12) / 12).astype(np.float32)))
    return factors * np.where(months % 12 == 11, draws.choice(np.array([1.0, 1.0, 1.3, 1.8, 0.7])), 1.0)


def sarima(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    period: Period = (2, 336),
    root: Share = (0.1, 0.97),
    seasonal: Share = (0.2, 0.98),
) -> np.ndarray:
    """Draw from SARIMA(3, d, 1)(1, D, 1) models (Box and Jenkins, 1970) with stable roots.

    The autoregressive roots are one real root and one complex pair with modulus below one. The seasonal lag has one
    autoregressive and one moving average root. The orders of differencing d and D are 0 or 1. A trend may be added.
    """
    time = np.arange(width)
    short, _ = draw_seasons(draws, lengths, period)
    lag = np.round(short).astype(np.int64)[:, 0]
    real = draws.uniform(*root) * np.where(draws.chance(0.8), 1, -1) * draws.chance(0.7)
    modulus, angle = draws.uniform(*root) * draws.chance(0.4), draws.uniform(0, np.pi)
    moving_average = draws.uniform(-0.9, 0.9) * draws.chance(0.6)
    is_integrated = draws.chance(0.4)[:, 0]
    has_season = draws.chance(0.8)
    is_seasonally_integrated = (draws.chance(0.4) & has_season)[:, 0]
    seasonal_root = np.where(is_seasonally_integrated[:, None], 1.0, draws.uniform(*seasonal) * has_season)
    # With seasonal integration, a negative moving average root keeps the season stable (the airline model).
    seasonal_moving_average = np.where(
        is_seasonally_integrated[:, None], draws.uniform(-0.95, -0.3), draws.uniform(-0.6, 0.3) * has_season
    )
    shocks = draws.white(width + _BURN_IN)
    values = np.empty((len(draws), width), np.float32)
    for row in range(len(draws)):
        pair = np.array([1, -2 * modulus[row, 0] * np.cos(angle[row, 0]), modulus[row, 0] ** 2])
        poles = np.convolve(pair, [1, -real[row, 0]])
        x = lfilter([1, moving_average[row, 0]], poles, shocks[row])[_BURN_IN:]
        # One row per season: the seasonal filter then runs down the columns.
        cycles = np.concatenate([x, np.zeros(-width % lag[row])]).reshape(-1, lag[row])
        x = lfilter([1, seasonal_moving_average[row, 0]], [1, -seasonal_root[row, 0]], cycles, axis=0).ravel()[:width]
        values[row] = np.cumsum(x - x.mean()) if is_integrated[row] else x
    position = phase(time, np.round(short), draws.uniform(0, _MAX_SHIFT))
    # The season before the first step decays at the rate of the seasonal root.
    season_size = draws.uniform(0.3, 3) * has_season * seasonal_root ** (time // np.round(short))
    values = standardize(values) + season_size * interpolate_shapes(draw_shapes(draws), position)
    return values + draws.uniform(0, 4) * draws.chance(0.5) * draw_trends(draws, lengths, width)


def regimes(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    changes: Count = (1, 8),
    jump: Positive = (0.5, 5.0),
    noise: Positive = (0.02, 1.0),
) -> np.ndarray:
    """Draw levels, slopes and variances that change abruptly (Hamilton, 1989, but with the number of changes drawn).

    Each segment between two `changes` has a level, a slope and a noise. Levels are a random walk, or alternate between
    two values. A season may cover all segments.
    """
    time = np.arange(width)
    segment = draw_segments(draws, lengths, width, changes)
    max_segments = int(changes[1]) + 1
    rows = np.arange(len(draws))[:, None]
    walking = draws.normal(max_segments).cumsum(axis=1)
    alternating = draws.normal(2)[rows, np.arange(max_segments) % 2]
    levels = np.where(draws.chance(0.4), alternating, walking) * draws.log_uniform(*jump)
    slopes = draws.normal(max_segments) * np.where(draws.chance(0.3), 3.0, 0.0)
    deviations = draws.log_uniform(*noise) * np.exp(np.where(draws.chance(0.4), 1.0, 0.0) * draws.normal(max_segments))
    short, _ = draw_seasons(draws, lengths, (3, 336))
    season = interpolate_shapes(draw_shapes(draws), phase(time, short, draws.uniform(0, _MAX_SHIFT)))
    e = autoregress(draws.white(width), draws.uniform(0, 0.8))
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
    """Draw stochastic volatility: y = a S + s_t e_t, with log s_t an AR(1) plus a season (Taylor, 1986).

    The season S is present in half of the series.
    """
    time = np.arange(width)
    short, _ = draw_seasons(draws, lengths, (3, 336))
    position = phase(time, short, draws.uniform(0, _MAX_SHIFT))
    log_deviation = draws.uniform(*strength) * autoregress(draws.white(width), draws.uniform(*memory))
    season_size = draws.chance(0.4) * draws.uniform(0.2, 1.0)
    log_deviation = log_deviation + season_size * interpolate_shapes(draw_shapes(draws), position)
    e = autoregress(draws.white(width), draws.uniform(0, 0.7))
    level = draws.uniform(*amplitude) * draws.chance(0.5) * interpolate_shapes(draw_shapes(draws), position)
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
    """Draw counts with many zeros: demand occurs with probability p_t, then has a size (Croston, 1972).

    log p_t has a slow change and may have a season. Sizes are Poisson or negative binomial numbers, plus 1 in half of
    the series. If p is near 1, the series is one of ordinary counts.
    """
    time = np.arange(width)
    short, _ = draw_seasons(draws, lengths, period)
    season = interpolate_shapes(draw_shapes(draws), phase(time, short, draws.uniform(0, _MAX_SHIFT)))
    log_rate = draws.chance(0.5) * draws.uniform(0.2, 0.8) * season
    log_rate = log_rate + 0.3 * draws.uniform() * draw_slow_changes(draws, lengths, width)
    p = draws.log_uniform(*demand) * np.exp(log_rate)
    mean = draws.log_uniform(*size) * np.exp(log_rate)
    spread = np.where(draws.chance(0.5), draws.log_uniform(0.5, 5), np.inf)[:, 0]
    min_size = draws.integers(0, 1)[:, 0]
    values = np.empty((len(draws), width), np.float32)

    def draw(row: int, rng: np.random.Generator) -> None:
        rate = mean[row]
        if np.isfinite(spread[row]):
            rate = rate * rng.standard_gamma(spread[row], width) / spread[row]
        values[row] = (rng.random(width, np.float32) < p[row]) * (min_size[row] + rng.poisson(rate))

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
    """Draw growth: a third saturates, a third are new cases per step, and a third is exponential.

    Saturating growth is a sum of logistic 1 / (1 + exp(-z)) or Gompertz exp(-exp(-z)) curves (Gompertz, 1825), with
    z = r (t / length - t_0). New cases are bell curves c (1 - c) of such curves c.
    """
    fraction = elapsed_fraction(lengths, width)
    total = np.zeros((len(draws), width))
    cases = np.zeros_like(total)
    number = draws.integers(int(waves[0]), int(waves[1]))
    gompertz = draws.chance(0.4)
    for index in range(int(waves[1])):
        z = draws.log_uniform(*steepness) * (fraction - draws.uniform(-0.2, 1.2))
        size = draws.log_uniform(0.2, 2) * (index < number)
        curve = np.where(gompertz, np.exp(-np.exp(-z.clip(-30, 30))), 1 / (1 + np.exp(-z.clip(-30, 30))))
        total += size * curve
        cases += size * curve * (1 - curve) * 4
    exponential = np.exp(draws.uniform(-1, 4) * fraction)
    kind = draws.integers(0, 2)
    values = np.select([kind == 0, kind == 1], [total, cases], exponential) + draws.log_uniform(0.005, 0.5)
    short, _ = draw_seasons(draws, lengths, (3, 60))
    season = interpolate_shapes(draw_shapes(draws), phase(np.arange(width), short, draws.uniform(0, _MAX_SHIFT)))
    e = draws.log_uniform(*noise) * autoregress(draws.white(width), draws.uniform(0, 0.95))
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
    """Draw decaying spikes on a quiet series: shot noise (Campbell, 1909), at random times or once per period.

    y = S + e + h sum over spikes i of x_i d^(t - t_i). Sizes x_i are 1 plus 0.2 times a Pareto number. Two thirds of
    the series have spikes upward, the others downward.
    """
    time = np.arange(width)
    short, _ = draw_seasons(draws, lengths, period)
    shift = draws.uniform(0, _MAX_SHIFT)
    season = interpolate_shapes(draw_shapes(draws), phase(time, short, shift)) * draws.uniform(0, 1) * draws.chance(0.6)
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
    e = draws.log_uniform(0.02, 0.4) * autoregress(draws.white(width), draws.uniform(0, 0.9))
    return season + e + sign * height * values


def ornstein_uhlenbeck(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    relaxation: Positive = (2.0, 300.0),
    season: Range = (0.0, 2.0),
) -> np.ndarray:
    """Draw mean-reverting series: dx = (m_t - x) dt / tau + s dW (Uhlenbeck and Ornstein, 1930), discretized exactly.

    The mean m may have a season or a trend; tau is `relaxation`, in steps.
    """
    time = np.arange(width)
    short, _ = draw_seasons(draws, lengths, (3, 336))
    season_size = draws.uniform(*season) * draws.chance(0.5)
    mean = season_size * interpolate_shapes(draw_shapes(draws), phase(time, short, draws.uniform(0, _MAX_SHIFT)))
    x = autoregress(draws.white(width), np.exp(-1 / draws.log_uniform(*relaxation)))
    return mean + x + draws.chance(0.3) * 2 * draw_trends(draws, lengths, width)


def brownian(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    drift: Range = (-0.5, 1.0),
    deviation: Positive = (0.1, 1.5),
) -> np.ndarray:
    """Draw geometric Brownian motion, log y = m t + s W_t (Samuelson, 1965), or ordinary, y = 1 + m t + s W_t.

    `drift` m and `deviation` s are per series length: t runs from 0 to 1.
    """
    shocks = draws.white(width)
    path = draws.log_uniform(*deviation) * np.cumsum(shocks, axis=1, dtype=np.float64) / np.sqrt(lengths)
    path += draws.uniform(*drift) * elapsed_fraction(lengths, width)
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
    """Draw AR(1) series with Student t shocks of few degrees of freedom, with or without a season: y = a S + x."""
    time = np.arange(width)
    nu = draws.log_uniform(*degrees)[:, 0]
    shocks = np.empty((len(draws), width), np.float32)

    def draw(row: int, rng: np.random.Generator) -> None:
        shocks[row] = rng.standard_t(nu[row], width).clip(-50, 50)

    draws.each_row(draw)
    short, _ = draw_seasons(draws, lengths, (3, 336))
    season = interpolate_shapes(draw_shapes(draws), phase(time, short, draws.uniform(0, _MAX_SHIFT)))
    x = autoregress(shocks, draws.uniform(*memory))
    return draws.uniform(*amplitude) * draws.chance(0.6) * season + x


def fractal(draws: Draws, lengths: np.ndarray, width: int, *, exponent: Range = (0.3, 2.5)) -> np.ndarray:
    """Draw Gaussian noise whose power spectrum falls like 1 / f^b (Timmer and Koenig, 1995)."""
    size = 1 << (2 * width - 1).bit_length()
    noise = draws.white(size + 2)
    amplitude = np.zeros((len(draws), size // 2 + 1))
    amplitude[:, 1:] = np.arange(1, size // 2 + 1) ** (-0.5 * draws.uniform(*exponent))
    spectrum = (noise[:, : size // 2 + 1] + 1j * noise[:, size // 2 + 1 :]) * amplitude
    return standardize(np.fft.irfft(spectrum, size)[:, :width])


def waveforms(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    period: Period = (3, 500),
    noise: Positive = (0.001, 0.3),
) -> np.ndarray:
    """Draw square, sawtooth, triangle, pulse and sine waves with noise, like those of machines and signals.

    The period may change slowly (a chirp), and the wave may be switched on and off.
    """
    time = np.arange(width)
    short, _ = draw_seasons(draws, lengths, period, arbitrary=0.6)
    chirp = draws.chance(0.2) * draws.uniform(-0.3, 0.3)
    position = phase(time * (1 + chirp * time / lengths), short, draws.uniform(0, _MAX_SHIFT))
    duty = draws.uniform(0.1, 0.9)
    kind = draws.integers(0, 4)
    square = (position < duty).astype(np.float32)
    saw = position
    triangle = np.where(position < duty, position / duty, (1 - position) / (1 - duty))
    pulse = np.exp(-0.5 * ((position - 0.5) / (0.02 + 0.1 * duty)) ** 2)
    sine = np.sin(np.float32(2 * np.pi) * position)
    values = np.select([kind == 0, kind == 1, kind == 2, kind == 3], [square, saw, triangle, pulse], sine)
    switched = np.where(draws.chance(0.2), draw_segments(draws, lengths, width, (1, 6)) % 2, 1)
    e = autoregress(draws.white(width), draws.uniform(0, 0.5))
    return values * switched + draws.log_uniform(*noise) * e


def kernel_synth(draws: Draws, lengths: np.ndarray, width: int) -> np.ndarray:
    """Draw Gaussian processes with sums and products of up to five kernels (Ansari et al., 2024): see kernel_synth.py.

    A row is the beginning of a draw whose length is the next power of two, so that few grids have to be factorized.
    """
    values = np.zeros((len(draws), width), np.float32)
    keys = draws.fork().keys
    grids = 1 << np.ceil(np.log2(np.maximum(lengths[:, 0], 2))).astype(np.int64)
    for grid in np.unique(grids):
        rows = np.flatnonzero(grids == grid)
        n_steps = min(int(grid), width)
        values[rows, :n_steps] = draw_composites(Draws(keys[rows]), int(grid), 5)[:, :n_steps]
    return values


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
