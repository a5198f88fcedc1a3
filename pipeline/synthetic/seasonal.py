"""Priors of repeated shapes: seasons, templates of days, exact repeats, the calendar of business, waveforms.

priors.py describes the arguments and the result of a prior.
"""

from __future__ import annotations

import numpy as np

from pipeline.synthetic.components import (
    MAX_SHIFT,
    autoregress,
    draw_events,
    draw_seasons,
    draw_segments,
    draw_shapes,
    draw_slow_changes,
    draw_trends,
    interpolate_shapes,
    phase,
    standardize,
)
from pipeline.synthetic.draws import Draws
from pipeline.synthetic.ranges import Count, Period, Positive, Share

_WEATHER_DAYS = 256
"""Days after which the daily levels of `templates` repeat. More days cost more random numbers per series."""
_WEEK_DAYS = 16
"""Maximum number of days in a week of `repeats`."""


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
        position = phase(time, steps, draws.uniform(0, MAX_SHIFT))
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
    - In some series 3% of the days are holidays, which are rest days.
    """
    time = np.arange(width)
    short, long = draw_seasons(draws, lengths, period)
    shift = draws.uniform(0, MAX_SHIFT)
    position = phase(time, short, shift)
    week = np.maximum(np.round(long / short), 1)
    day = np.floor((time + np.floor(shift)) / short).astype(np.int32)
    day_of_week = np.mod(day, week.astype(np.int32)) / week.astype(np.float32)
    work, rest = _draw_day_shapes(draws)
    holidays = draw_events(draws, 0.03 * draws.chance(0.4), _WEATHER_DAYS)
    is_rest = (day_of_week >= 1 - 2 / 7) & draws.chance(0.6)
    is_rest = is_rest | np.take_along_axis(holidays, day % _WEATHER_DAYS, axis=1)
    values = np.where(is_rest, interpolate_shapes(rest, position), interpolate_shapes(work, position))
    values = values.clip(0) ** np.exp(_draw_daily_levels(draws, day, (0.02, 0.3)).clip(-1, 1))
    factors = (1 + np.where(draws.chance(0.5), 0.15, 0.0) * draws.normal(32)).astype(np.float32)
    values *= np.take_along_axis(factors, (day_of_week * 31).astype(np.int32), axis=1)
    values = np.where(is_rest, values * draws.uniform(*weekend).astype(np.float32), values)
    level = draws.log_uniform(*drift).astype(np.float32) * draw_slow_changes(draws, lengths, width, (1, 20))
    level = level + _draw_daily_levels(draws, day, (0.005, 0.2))
    e = draws.log_uniform(*noise).astype(np.float32) * autoregress(draws.white(width), draws.uniform(*memory))
    return values * np.exp(np.minimum(level, 3)) * (1 + e)


def _draw_day_shapes(draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Draw the shapes of a work day and of a rest day, both smooth, peaked or clipped at zero: float32, [n, 512]."""
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

    return transform(work), transform(rest)


def _draw_daily_levels(draws: Draws, day: np.ndarray, deviation: Positive) -> np.ndarray:
    """Draw an AR(1) over days in 40% of the series, zero in the others: [n, width], for the day of each step."""
    levels = autoregress(draws.white(_WEATHER_DAYS), draws.uniform(0, 0.95))
    scale = draws.log_uniform(*deviation) * draws.chance(0.4)
    return scale.astype(np.float32) * np.take_along_axis(levels, day % _WEATHER_DAYS, axis=1)


def repeats(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    period: Period = (2, 2048),
    noise: Positive = (0.001, 0.2),
    drift: Positive = (0.05, 2.0),
) -> np.ndarray:
    """Draw exact repeats of a period of any values: rough, sparse or stepwise shapes, days in weeks of unequal days.

    y = g_d (A_p + b_t (B_p - A_p)) + T + e, at phase p of day d. A and B are tables of one value for each step of the
    period. Their values are autocorrelated noise z, exp(z), z clipped from below, zero but for rare spikes, or levels
    that last for some steps.

    - Plain repeats (half of the series) have b = 0 and g = 1.
    - Drifting shapes have a slow path b of size `drift`.
    - Weeks have a factor g and a shape, A or B, for each day of the week; some have holidays, which have shape B.

    A third of the series has no noise, and most have no trend T.
    """
    short, long = draw_seasons(draws, lengths, period, arbitrary=0.5)
    days = np.round(long / short)
    kind = draws.choice(np.arange(3), np.array([5, 2, 3]))
    is_week = (kind == 2) & (days <= _WEEK_DAYS)
    is_long = ~is_week & (np.round(long) <= lengths // 2) & (np.round(long) <= period[1]) & draws.chance(0.3)
    steps = np.round(np.where(is_long, long, short)).astype(np.int32)
    time = np.arange(width, dtype=np.int32) + draws.integers(0, MAX_SHIFT).astype(np.int32)
    day = (time / steps).astype(np.int32)  # the same as the slower division of integers
    position = time - day * steps

    weekday = day % np.minimum(days, _WEEK_DAYS).astype(np.int32)
    is_rest = draws.uniform(width=_WEEK_DAYS) < draws.chance(0.7) * draws.uniform(0.1, 0.5)
    holidays = draw_events(draws, 0.03 * draws.chance(0.3), _WEATHER_DAYS)
    has_shape_b = np.take_along_axis(is_rest, weekday, 1) | np.take_along_axis(holidays, day % _WEATHER_DAYS, 1)
    factors = 1 + draws.chance(0.7) * draws.uniform(0.1, 0.6) * draws.normal(_WEEK_DAYS)
    path = draws.log_uniform(*drift) * draw_slow_changes(draws, lengths, width, (1, 4))
    b = np.where(is_week, has_shape_b, np.where(kind == 1, path, 0)).astype(np.float32)

    table = _draw_tables(draws, steps, width)
    table += np.where(is_week, draws.uniform(0, 3), 0).astype(np.float32)
    a_value = np.take_along_axis(table, position, axis=1)
    values = a_value + b * (np.take_along_axis(table, position + steps, axis=1) - a_value)
    values *= np.where(is_week, np.take_along_axis(factors, weekday, axis=1), 1).astype(np.float32)
    e = draws.chance(2 / 3) * draws.log_uniform(*noise) * draws.white(width)
    trend = draws.chance(0.25) * draws.log_uniform(0.1, 3) * draw_trends(draws, lengths, width)
    return standardize(values) + trend + e


def _draw_tables(draws: Draws, steps: np.ndarray, width: int) -> np.ndarray:
    """Draw two tables of `steps` values for each row, one after the other, of the kinds of `repeats`: float32."""
    n_columns = max(width, 4)  # at least two tables of the shortest period
    column = np.arange(n_columns, dtype=np.int32)
    z = autoregress(draws.white(n_columns), draws.chance(0.6) * draws.uniform(0, 0.98))
    kind = draws.choice(np.arange(5), np.array([3, 1, 1, 1.5, 2]))
    is_event = draw_events(draws, np.maximum(draws.log_uniform(0.0005, 0.5), 1 / steps), n_columns)
    # Each table has an event, and levels change at least once.
    is_event |= (column % steps == 0) | ((kind == 4) & (column % steps == 1 + np.floor(draws.uniform() * (steps - 1))))
    held = np.take_along_axis(z, np.maximum.accumulate(np.where(is_event, column, 0), axis=1), axis=1)
    clipped = np.maximum(z - draws.uniform(-0.7, 0.7), 0)
    kinds = [kind == 0, kind == 1, kind == 2, kind == 3]
    return np.select(kinds, [z, np.exp(z), clipped, is_event * (0.5 + np.abs(z))], held).astype(np.float32)


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
    position = phase(time * (1 + chirp * time / lengths), short, draws.uniform(0, MAX_SHIFT))
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
