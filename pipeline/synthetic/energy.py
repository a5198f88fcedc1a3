"""Series by the hour that the weather moves: demand, sun, wind, and the price of what the two leave over.

A day's weather is near the day before's, so that levels last for days, and some days are more pronounced than others; no
season and no noise from step to step makes that.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from pipeline.synthetic.components import autoregressive, phase, shape, standardised, wave
from pipeline.synthetic.draws import Draws
from pipeline.synthetic.ranges import Positive, Share

_YEAR = 365.25
_LONGEST_SHIFT = 7 * 365
_STEPS_A_DAY = np.array([24, 48, 96, 144, 288])
_HOW_OFTEN = np.array([6, 3, 1, 0.5, 0.5])


def energy(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    weather: Share = (0.4, 0.95),
    noise: Positive = (0.002, 0.05),
    convexity: Positive = (0.2, 1.2),
) -> np.ndarray:
    """Demand, solar power, wind power, or a price; `weather` is the memory of its days, `noise` that of demand.

    Solar power is the sun's height above the horizon times what the clouds let through; wind power v^3 / (v^3 + b^3), log v
    an AR(1) over days and one over steps. The price of the demand that is left less sun and wind, r, in standard deviations,
    is sinh(k r) / k, k the `convexity`: steep at both ends, and at times below nought.
    """
    steps = draws.choice(_STEPS_A_DAY, _HOW_OFTEN)
    # A day shows at least twice, as seasons do elsewhere: what is shorter is by the hour.
    steps = np.where(2 * steps <= lengths, steps, _STEPS_A_DAY[0])
    time = np.arange(width) + np.floor(draws.uniform(0, _LONGEST_SHIFT) * steps)
    memory = draws.uniform(*weather)
    clouds, fronts = (_over_days(draws, time / steps, memory) for _ in range(2))
    summer = -np.cos(2 * np.pi * time / (steps * _YEAR))
    of_day = phase(time, steps, np.zeros_like(steps))
    sun = -np.cos(2 * np.pi * of_day)

    passing = draws.log_uniform(0.05, 1) * _over_steps(draws, width, (0.5, 0.98))
    light = 1 - draws.uniform(0.1, 0.9) * expit(2 * clouds + passing)
    solar = np.maximum(sun - draws.uniform(-0.4, 0.4) + 0.3 * summer, 0) * light
    gusts = draws.uniform(0.2, 0.6) * autoregressive(draws.white(width), np.exp(-3 / steps))
    cubed = np.exp(3 * (0.3 * fronts + gusts))
    wind = cubed / (cubed + draws.log_uniform(0.5, 4))
    temperature = draws.uniform(0, 2) * summer + fronts + draws.uniform(0, 1) * light * sun
    demand = _demand(draws, np.floor(time / steps).astype(np.int64), of_day, temperature)
    demand = demand * np.exp(draws.log_uniform(*noise) * _over_steps(draws, width, (0.5, 0.98)))

    left = standardised(demand) - draws.uniform(0, 1) * standardised(solar) - draws.uniform(0, 1) * standardised(wind)
    left = (left + draws.uniform(0.05, 0.5) * _over_steps(draws, width, (0.5, 0.97))).clip(-6, 6)
    bend = draws.log_uniform(*convexity)
    price = draws.uniform(0.5, 4) + np.sinh(bend * left) / bend
    kind = draws.choice(np.arange(4), np.array([4, 1.5, 1, 3]))
    return np.select([kind == 0, kind == 1, kind == 2], [demand, solar, wind], price)


def _demand(draws: Draws, day: np.ndarray, of_day: np.ndarray, temperature: np.ndarray) -> np.ndarray:
    """Return a shape of the day, or another one at rest, times 1 + h max(-a - T, 0) + c max(T - a, 0).

    Heating h and cooling c as Engle et al. (1986) have them; rest is on weekends, which some know, and on holidays.
    """
    holiday = np.take_along_axis(draws.uniform(width=_days(day)) < 0.03, day - day[:, :1], axis=1)
    at_rest = ((day % 7 >= 5) & draws.chance(0.7)) | holiday
    work, other, likeness = shape(draws), shape(draws), draws.uniform()
    rest = likeness * work + (1 - likeness) * other
    size = draws.log_uniform(0.03, 0.4)
    of_hour = np.where(at_rest, draws.uniform(0.7, 1.05) + size * wave(rest, of_day), 1 + size * wave(work, of_day))
    heating, cooling = (draws.chance(0.6) * draws.log_uniform(0.01, 0.3) for _ in range(2))
    comfort = draws.uniform(-0.5, 1.5)
    felt = heating * np.maximum(-comfort - temperature, 0) + cooling * np.maximum(temperature - comfort, 0)
    return of_hour.clip(0.05) * (1 + felt)


def _over_days(draws: Draws, day: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """Read an AR(1) over days linearly between midnights."""
    place = day - np.floor(day[:, :1])
    before = place.astype(np.int64)
    table = autoregressive(draws.normal(_days(day)).astype(np.float32), memory)
    below, above = (np.take_along_axis(table, before + one, axis=1) for one in (0, 1))
    return below + (place - before) * (above - below)


def _days(steps: np.ndarray) -> int:
    """Return more days than so many steps can touch."""
    return int(steps.shape[1] // _STEPS_A_DAY.min() + 3)


def _over_steps(draws: Draws, width: int, memory: Share) -> np.ndarray:
    return autoregressive(draws.white(width), draws.uniform(*memory))
