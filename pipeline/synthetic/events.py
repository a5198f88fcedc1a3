"""Priors of events: changes of regime, ramps and plateaus, states, intermittent demand, waves of growth, spikes.

priors.py describes the arguments and the result of a prior.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter
from scipy.special import ndtr

from pipeline.synthetic.components import (
    MAX_SHIFT,
    autoregress,
    draw_events,
    draw_seasons,
    draw_segments,
    draw_shapes,
    draw_slow_changes,
    elapsed_fraction,
    interpolate_shapes,
    phase,
)
from pipeline.synthetic.draws import Draws
from pipeline.synthetic.ranges import Count, Period, Positive, Range, Share

_MAX_RATE = 1e6  # of a Poisson distribution, as in effects.counts


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
    season = interpolate_shapes(draw_shapes(draws), phase(time, short, draws.uniform(0, MAX_SHIFT)))
    e = autoregress(draws.white(width), draws.uniform(0, 0.8))
    values = levels[rows, segment] + np.cumsum(slopes[rows, segment], axis=1) / lengths + deviations[rows, segment] * e
    return values + draws.uniform(0.2, 2) * draws.chance(0.6) * season


def ramps(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    changes: Count = (1, 3),
    end: Range = (0.05, 1.3),
    duration: Positive = (0.0005, 2.0),
    season: Positive = (0.05, 2.0),
    noise: Positive = (0.003, 0.5),
) -> np.ndarray:
    """Draw levels that change and then hold: trends that stop, bend or saturate, and shifts of level that stay.

    y = T + S + e, or exp(T + S + e), so that amplitudes stop growing as well. T is the sum of ramps from 0 to a normal
    number. A ramp ends at the share `end` of the series and takes `duration`, also a share of the series. It is linear,
    an S curve, or 1 - exp(-4 x), which comes to rest slowly. Ramps with an end above 1 continue after the series.
    """
    time = np.arange(width)
    path = np.zeros((len(draws), width), np.float32)
    number = draws.integers(int(changes[0]), int(changes[1]))
    for change in range(int(changes[1])):
        span = np.maximum(draws.log_uniform(*duration) * lengths, 1)
        x = np.maximum((time - draws.uniform(*end) * lengths) / span + 1, 0).astype(np.float32)
        inside = np.minimum(x, 1)
        kind, size = draws.integers(0, 3), (draws.normal() * (change < number)).astype(np.float32)
        path += size * np.select([kind <= 1, kind == 2], [inside, inside**2 * (3 - 2 * inside)], 1 - np.exp(-4 * x))
    short, _ = draw_seasons(draws, lengths, (2, 336))
    shape = interpolate_shapes(draw_shapes(draws), phase(time, short, draws.uniform(0, MAX_SHIFT)))
    e = draws.log_uniform(*noise) * autoregress(draws.white(width), draws.uniform(0, 0.9) * draws.chance(0.6))
    total = path + draws.chance(0.5) * draws.log_uniform(*season) * shape + e
    return np.where(draws.chance(0.6), total, np.exp(total.clip(-10, 10)))


def states(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    changes: Positive = (2.0, 400.0),
    noise: Positive = (0.001, 0.3),
) -> np.ndarray:
    """Draw values that rarely change, at random times: nearly constant series, states of machines, list prices.

    A change moves to a random one of two to five states, adds a normal or a whole number, is a blip of one step, or
    switches between two values. `changes` is the mean number per series. Most series have no noise.
    """
    column = np.arange(width)
    is_change = draw_events(draws, np.minimum(draws.log_uniform(*changes) / lengths, 0.5), width)
    z = draws.white(width)
    last_change = np.maximum.accumulate(np.where(is_change, column, 0), axis=1)
    state = (
        np.floor(ndtr(np.take_along_axis(z, last_change, axis=1)) * draws.integers(2, 5)).astype(np.int64).clip(max=4)
    )
    levels = np.where(draws.chance(0.5), np.arange(5.0), draws.normal(5))
    steps = np.where(draws.chance(0.5), z, np.round(1.5 * z)) * is_change
    blips = is_change * (1 + draws.uniform(0, 1) * np.abs(z))
    kind = draws.integers(0, 3)
    switched = np.cumsum(is_change, axis=1) % 2
    values = np.select(
        [kind == 0, kind == 1, kind == 2],
        [np.take_along_axis(levels, state, axis=1), np.cumsum(steps, axis=1), blips],
        switched,
    )
    return values + draws.chance(0.4) * draws.log_uniform(*noise) * draws.white(width)


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
    season = interpolate_shapes(draw_shapes(draws), phase(time, short, draws.uniform(0, MAX_SHIFT)))
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
        values[row] = (rng.random(width, np.float32) < p[row]) * (
            min_size[row] + rng.poisson(np.minimum(rate, _MAX_RATE))
        )

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
    season = interpolate_shapes(draw_shapes(draws), phase(np.arange(width), short, draws.uniform(0, MAX_SHIFT)))
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
    shift = draws.uniform(0, MAX_SHIFT)
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
