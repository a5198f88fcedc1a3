"""Energy series that follow the weather: demand, solar power, wind power, and the price of the residual demand.

The weather of a day is correlated with that of the day before. Levels therefore persist for days, and some days are
more pronounced than others. Neither a season nor noise with a memory of a few steps gives this structure.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from pipeline.synthetic.components import autoregress, draw_shapes, interpolate_shapes, phase, standardize
from pipeline.synthetic.draws import Draws
from pipeline.synthetic.ranges import Positive, Share

_DAYS_PER_YEAR = 365.25
_MAX_SHIFT_DAYS = 7 * 365
"""Series start within seven years, so that each weekday meets each season of the year."""
_STEPS_PER_DAY = np.array([24, 48, 96, 144, 288])
_RESOLUTION_WEIGHTS = np.array([6, 3, 1, 0.5, 0.5])
"""Weights of the steps per day, set by hand: hourly and half-hourly data are the most common."""


def energy(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    weather: Share = (0.4, 0.95),
    noise: Positive = (0.002, 0.05),
    convexity: Positive = (0.2, 1.2),
) -> np.ndarray:
    """Draw demand, solar power, wind power or prices; `weather` is the day-to-day memory, `noise` that of demand.

    Solar power is the height of the sun above the horizon times the light that the clouds let through. Wind power is
    v^3 / (v^3 + b^3), with log v an AR(1) over days plus one over steps. The price is sinh(k r) / k plus a constant:
    k is the `convexity`, r the demand less sun and wind in standard deviations. It is steep at both ends and can be
    negative.
    """
    steps = draws.choice(_STEPS_PER_DAY, _RESOLUTION_WEIGHTS)
    # A series shows at least two days, like the seasons of other priors. Shorter series are hourly.
    steps = np.where(2 * steps <= lengths, steps, _STEPS_PER_DAY[0])
    time = np.arange(width) + np.floor(draws.uniform(0, _MAX_SHIFT_DAYS) * steps)
    memory = draws.uniform(*weather)
    clouds, fronts = (_draw_daily_weather(draws, time / steps, memory) for _ in range(2))
    summer = -np.cos(2 * np.pi * time / (steps * _DAYS_PER_YEAR))
    time_of_day = phase(time, steps, np.zeros_like(steps))
    sun = -np.cos(2 * np.pi * time_of_day)

    passing_clouds = draws.log_uniform(0.05, 1) * _draw_noise(draws, width, (0.5, 0.98))
    light = 1 - draws.uniform(0.1, 0.9) * expit(2 * clouds + passing_clouds)
    solar = np.maximum(sun - draws.uniform(-0.4, 0.4) + 0.3 * summer, 0) * light
    gusts = draws.uniform(0.2, 0.6) * autoregress(draws.white(width), np.exp(-3 / steps))
    cubed_speed = np.exp(3 * (0.3 * fronts + gusts))
    wind = cubed_speed / (cubed_speed + draws.log_uniform(0.5, 4))
    temperature = draws.uniform(0, 2) * summer + fronts + draws.uniform(0, 1) * light * sun
    demand = _draw_demand(draws, np.floor(time / steps).astype(np.int64), time_of_day, temperature)
    demand = demand * np.exp(draws.log_uniform(*noise) * _draw_noise(draws, width, (0.5, 0.98)))

    residual = standardize(demand) - draws.uniform(0, 1) * standardize(solar) - draws.uniform(0, 1) * standardize(wind)
    residual = (residual + draws.uniform(0.05, 0.5) * _draw_noise(draws, width, (0.5, 0.97))).clip(-6, 6)
    curvature = draws.log_uniform(*convexity)
    price = draws.uniform(0.5, 4) + np.sinh(curvature * residual) / curvature
    kind = draws.choice(np.arange(4), np.array([4, 1.5, 1, 3]))
    return np.select([kind == 0, kind == 1, kind == 2], [demand, solar, wind], price)


def _draw_demand(draws: Draws, day: np.ndarray, time_of_day: np.ndarray, temperature: np.ndarray) -> np.ndarray:
    """Return a daily profile of work or rest days times 1 + h max(-a - T, 0) + c max(T - a, 0): [n, width].

    T is the temperature; heating h and cooling c are those of Engle et al. (1986). Rest days are holidays and, in some
    series, weekends.

    Args:
        day: number of the day of each step, int64 [n, width].
        time_of_day: 0 to 1, [n, width].
        temperature: in standard deviations, [n, width].
    """
    holiday = np.take_along_axis(draws.uniform(width=_count_days(day)) < 0.03, day - day[:, :1], axis=1)
    is_rest = ((day % 7 >= 5) & draws.chance(0.7)) | holiday
    work, other, similarity = draw_shapes(draws), draw_shapes(draws), draws.uniform()
    rest = similarity * work + (1 - similarity) * other
    size = draws.log_uniform(0.03, 0.4)
    rest_profile = draws.uniform(0.7, 1.05) + size * interpolate_shapes(rest, time_of_day)
    profile = np.where(is_rest, rest_profile, 1 + size * interpolate_shapes(work, time_of_day))
    heating, cooling = (draws.chance(0.6) * draws.log_uniform(0.01, 0.3) for _ in range(2))
    comfort = draws.uniform(-0.5, 1.5)
    response = heating * np.maximum(-comfort - temperature, 0) + cooling * np.maximum(temperature - comfort, 0)
    return profile.clip(0.05) * (1 + response)


def _draw_daily_weather(draws: Draws, days: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """Draw an AR(1) over days, interpolated between midnights, at times [n, width] in days."""
    position = days - np.floor(days[:, :1])
    midnight = position.astype(np.int64)
    table = autoregress(draws.normal(_count_days(days)).astype(np.float32), memory)
    left, right = (np.take_along_axis(table, midnight + offset, axis=1) for offset in (0, 1))
    return left + (position - midnight) * (right - left)


def _count_days(steps: np.ndarray) -> int:
    """Return an upper bound of the days that the steps [n, width] touch."""
    return int(steps.shape[1] // _STEPS_PER_DAY.min() + 3)


def _draw_noise(draws: Draws, width: int, memory: Share) -> np.ndarray:
    return autoregress(draws.white(width), draws.uniform(*memory))
