"""Priors of stochastic processes: SARIMA, stochastic volatility, diffusions, heavy tails, fractal noise.

priors.py describes the arguments and the result of a prior.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from pipeline.synthetic.components import (
    MAX_SHIFT,
    autoregress,
    draw_seasons,
    draw_shapes,
    draw_trends,
    elapsed_fraction,
    interpolate_shapes,
    phase,
    standardize,
)
from pipeline.synthetic.draws import Draws
from pipeline.synthetic.ranges import Period, Positive, Range, Share

_BURN_IN = 200
"""Steps that the filters of `sarima` run before the first value. A root of 0.97 then keeps 0.2% of the start."""


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
    position = phase(time, np.round(short), draws.uniform(0, MAX_SHIFT))
    # The season before the first step decays at the rate of the seasonal root.
    season_size = draws.uniform(0.3, 3) * has_season * seasonal_root ** (time // np.round(short))
    values = standardize(values) + season_size * interpolate_shapes(draw_shapes(draws), position)
    return values + draws.uniform(0, 4) * draws.chance(0.5) * draw_trends(draws, lengths, width)


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
    position = phase(time, short, draws.uniform(0, MAX_SHIFT))
    log_deviation = draws.uniform(*strength) * autoregress(draws.white(width), draws.uniform(*memory))
    season_size = draws.chance(0.4) * draws.uniform(0.2, 1.0)
    log_deviation = log_deviation + season_size * interpolate_shapes(draw_shapes(draws), position)
    e = autoregress(draws.white(width), draws.uniform(0, 0.7))
    level = draws.uniform(*amplitude) * draws.chance(0.5) * interpolate_shapes(draw_shapes(draws), position)
    return level + np.exp(log_deviation) * e


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
    mean = season_size * interpolate_shapes(draw_shapes(draws), phase(time, short, draws.uniform(0, MAX_SHIFT)))
    x = autoregress(draws.white(width), np.exp(-1 / draws.log_uniform(*relaxation)))
    return mean + x + draws.chance(0.3) * 2 * draw_trends(draws, lengths, width)


def brownian(
    draws: Draws,
    lengths: np.ndarray,
    width: int,
    *,
    drift: Range = (-0.5, 1.0),
    deviation: Positive = (0.1, 1.5),
    season: Range = (0.0, 1.0),
) -> np.ndarray:
    """Draw geometric Brownian motion, log y = m t + s (W_t + a S), or ordinary, y = 1 + m t + s (W_t + a S).

    See Samuelson (1965). `drift` m and `deviation` s are per series length: t runs from 0 to 1. Half of the series have
    no drift, and two thirds have no season S of size a.
    """
    short, _ = draw_seasons(draws, lengths, (2, 336))
    shape = interpolate_shapes(draw_shapes(draws), phase(np.arange(width), short, draws.uniform(0, MAX_SHIFT)))
    path = np.cumsum(draws.white(width), axis=1, dtype=np.float64) / np.sqrt(lengths)
    path = draws.log_uniform(*deviation) * (path + draws.chance(1 / 3) * draws.uniform(*season) * shape)
    path += draws.chance(0.5) * draws.uniform(*drift) * elapsed_fraction(lengths, width)
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
    season = interpolate_shapes(draw_shapes(draws), phase(time, short, draws.uniform(0, MAX_SHIFT)))
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
