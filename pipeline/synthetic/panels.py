"""Synthetic panels: targets that share factors, and covariates that act on them or do not.

A panel has the same number of rows for every key, and its own structure. Every row begins with a series of the bank:

- Targets, and some covariates that are known up to the present only, are related: they load on a factor of the panel,
  a series of the bank or a random walk, each with its own lag. If the factor is a random walk and the rest of the rows
  is stationary, the rows are co-integrated (Engle and Granger, 1987).
- The other covariates are drivers: series of the bank, weather-like noise, categories, promotions or holidays. A driver
  acts on the targets through a response (linear, a threshold, heating and cooling, saturation, a level for each
  category) with a delay, or does not act at all. A driver that is known ahead may also act some steps early.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from pipeline.synthetic.bank import Bank
from pipeline.synthetic.components import autoregress, draw_events
from pipeline.synthetic.draws import Draws, hash_words
from pipeline.synthetic.ranges import Share

TARGET, PAST, KNOWN = range(3)
"""Roles of rows: forecast, covariate up to the present, covariate known in the horizon too."""
_MAX_LAG = 64
"""Maximum lag of a factor or a driver in steps: more than two days of hours."""
_MAX_LEAD = 8
"""Maximum number of steps that a driver that is known ahead acts before its time."""
_MAX_CATEGORIES = 8
_NUMBER, _CATEGORY, _PROMOTION, _HOLIDAY = range(4)
_DRIVER_WEIGHTS = np.array([5, 2, 2, 1])
"""Weights of the kinds of drivers, set by hand: most covariates of public data sets are numbers."""
_LINEAR, _THRESHOLD, _STEP, _COMFORT, _SATURATING = range(5)
_RESPONSE_WEIGHTS = np.array([4, 2, 1, 2, 1])


class Panels(NamedTuple):
    """Synthetic panels; the rows of a panel are targets, past covariates and known covariates, in this order."""

    values: np.ndarray
    """float32, [n, n_variates, width]; NaN if missing. A category is its position. Values after a panel's length have
    no meaning."""
    roles: np.ndarray
    """TARGET, PAST or KNOWN: int64, [n, n_variates]."""
    n_categories: np.ndarray
    """Number of categories of a row, 0 if it is a number: int64, [n, n_variates]."""
    acts: np.ndarray
    """Whether a covariate acts on the targets: bool, [n, n_variates]."""


def draw_panels(
    bank: Bank,
    keys: np.ndarray,
    lengths: np.ndarray,
    width: int,
    n_variates: int,
    *,
    shared: Share = (0.0, 0.98),
    explained: Share = (0.1, 0.95),
    acting: float = 0.7,
) -> Panels:
    """Draw one panel for each key.

    A panel depends on its key, its length, the width and `n_variates`, not on the other panels. The bank's effects act
    on targets and numbers.

    Args:
        keys: uint64, [n].
        lengths: steps of each panel, integers [n].
        width: columns of the result, at least the greatest length.
        shared: range of the share of the variance of related rows that is the factor's; a third of the panels has none.
        explained: range of the share of the variance of the targets that is due to acting drivers, if there are any.
        acting: probability that a driver acts.
    """
    draws = Draws(keys)
    rows = Draws(hash_words(draws.fork().keys[:, None], np.arange(n_variates)).ravel())
    shape, row_lengths = (len(keys), n_variates), np.repeat(lengths.astype(np.int64), n_variates)[:, None]
    # Steps before and after the series, for lags and leads.
    past, ahead = min(_MAX_LAG, width // 2), min(_MAX_LEAD, width // 8)
    full_width, row_steps = width + past + ahead, row_lengths + past + ahead
    sources = replace(bank, probabilities={})
    # The last series are the factors of the panels; one call of the bank is faster than two.
    series_keys = np.concatenate([rows.fork().keys, draws.fork().keys])
    series_steps = np.concatenate([row_steps, row_steps[::n_variates]])
    series = _standardize(sources.draw(series_keys, series_steps[:, 0], full_width), series_steps)
    own, factor = np.split(series, [len(rows)])

    roles = _draw_roles(draws, n_variates)
    role = roles.reshape(-1, 1)
    is_driver = (role == KNOWN) | ((role == PAST) & rows.chance(0.6))
    related = _relate(draws, rows, factor, own, shared, past)[:, past : past + width]
    drivers, n_categories, responses = _draw_drivers(rows, own)

    acts = is_driver & rows.chance(acting)
    lag = np.where(rows.chance(0.4), np.floor(rows.log_uniform(1, past + 1)), 0)
    lag = np.where((role == KNOWN) & rows.chance(0.15), -np.floor(rows.uniform(0, ahead + 1)), lag)
    lagged = _standardize(_shift(responses, lag, past)[:, :width], row_lengths)
    weights = (rows.normal(n_variates) * (role == TARGET)).reshape(*shape, n_variates) * acts.reshape(*shape)[:, None]
    weights /= np.maximum(np.sqrt(np.square(weights).sum(axis=2, keepdims=True)), 1e-9)
    effect = np.matmul(weights.astype(np.float32), lagged.reshape(*shape, width)).reshape(-1, width)
    share = np.repeat(draws.uniform(*explained), n_variates, axis=0) * np.any(weights, axis=2).reshape(-1, 1)
    values = np.sqrt(1 - share) * related + np.sqrt(share) * effect
    size = np.repeat(draws.chance(0.25) * draws.log_uniform(0.2, 1), n_variates, axis=0)
    values = np.where(size > 0, np.exp((size * values).clip(-8, 8)), values)

    values = np.where(is_driver, drivers[:, past : past + width], values).astype(np.float32)
    n_categories = np.where(is_driver, n_categories, 0)
    observed = np.flatnonzero(n_categories[:, 0] == 0)
    values[observed] = bank.observe(Draws(rows.fork().keys[observed]), values[observed], row_lengths[observed])
    return Panels(values.reshape(*shape, width), roles, n_categories.reshape(shape), acts.reshape(shape))


def _draw_roles(draws: Draws, n_variates: int) -> np.ndarray:
    """Draw panels of targets only, of one target, and of several with covariates: int64, [n, n_variates]."""
    kind = draws.choice(np.arange(3), np.array([3, 5, 2]))
    several = 1 + np.floor(draws.uniform() * n_variates)
    n_targets = np.select([kind == 0, kind == 1], [np.full(several.shape, n_variates), np.ones_like(several)], several)
    n_known = np.floor(draws.uniform() * (n_variates - n_targets + 1))
    position = np.arange(n_variates)
    return np.where(position < n_targets, TARGET, np.where(position >= n_variates - n_known, KNOWN, PAST))


def _relate(draws: Draws, rows: Draws, factor: np.ndarray, own: np.ndarray, shared: Share, past: int) -> np.ndarray:
    """Return sums of a lagged factor of the panel and a series of the row, of variance 1: [n x n_variates, width].

    Args:
        draws, rows: random numbers of the panels and of their rows.
        factor: standardized, [n, width]; a third becomes a random walk.
        own: standardized, [n x n_variates, width]; some become autoregressive noise.
        past: maximum lag.
    """
    n_variates = len(rows) // len(draws)
    walk = np.cumsum(draws.white(factor.shape[1]), axis=1)
    is_walk = draws.chance(1 / 3)
    factor = np.where(is_walk, _standardize(walk, np.full((len(draws), 1), walk.shape[1])), factor)
    is_stationary = np.repeat(draws.chance(np.where(is_walk, 0.6, 0.2)), n_variates, axis=0)
    own = np.where(is_stationary, autoregress(rows.white(own.shape[1]), rows.uniform(0, 0.95)), own)
    lag = np.where(rows.chance(0.4), np.floor(rows.log_uniform(1, past + 1)), 0)
    share = np.repeat(draws.chance(2 / 3) * draws.uniform(*shared), n_variates, axis=0)
    sign = np.where(rows.chance(0.85), 1, -1)
    lagged = _shift(np.repeat(factor, n_variates, axis=0), lag, past)
    values = np.sqrt(1 - share) * own
    values[:, past : past + lagged.shape[1]] += sign * np.sqrt(share) * lagged
    return values


def _draw_drivers(rows: Draws, own: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw covariates, their numbers of categories (0 for numbers) and the responses of the targets to them.

    Returns:
        float32 [n, width], int64 [n, 1], float32 [n, width]
    """
    column = np.arange(own.shape[1])
    kind = rows.choice(np.arange(4), _DRIVER_WEIGHTS)
    weather = autoregress(rows.white(own.shape[1]), rows.uniform(0, 0.99))
    number = np.where(rows.chance(0.5), weather, own)

    # A new category or promotion begins at random steps; `drawn` is a normal number for each.
    n_steps = rows.integers(1, 14)
    rate = rows.log_uniform(0.005, 0.5)
    is_start = draw_events(rows, np.where(kind == _PROMOTION, np.minimum(rate, 0.3 / n_steps), rate), own.shape[1])
    start = np.maximum.accumulate(np.where(is_start, column, 0), axis=1)
    drawn = np.take_along_axis(rows.white(own.shape[1]), start, axis=1)
    n_categories = rows.integers(2, _MAX_CATEGORIES)
    cycle = (column + rows.integers(0, 1000)) // rows.integers(1, 48) % n_categories
    category = np.where(rows.chance(0.3), cycle, np.floor(ndtr(drawn) * n_categories)).clip(max=n_categories - 1)
    promotion = (column - start < n_steps) * np.where(rows.chance(0.6), 1, 0.3 + np.abs(drawn))
    holiday = (column + rows.integers(0, 1000)) % np.floor(rows.log_uniform(7, 400)) < rows.integers(1, 3)

    bend = rows.uniform(-1, 1)
    form = rows.choice(np.arange(5), _RESPONSE_WEIGHTS)
    response = np.select(
        [form == _LINEAR, form == _THRESHOLD, form == _STEP, form == _COMFORT],
        [number, np.maximum(number - bend, 0), number > bend, np.abs(number - bend)],
        np.tanh(2 * number),
    )
    levels = np.take_along_axis(rows.normal(_MAX_CATEGORIES), category.astype(np.int64), axis=1)
    kinds = [kind == _NUMBER, kind == _CATEGORY, kind == _PROMOTION]
    values = np.select(kinds, [number, category, promotion], holiday).astype(np.float32)
    responses = np.select(kinds, [response, levels, promotion], holiday).astype(np.float32)
    return values, np.where(kind == _CATEGORY, n_categories, 0), responses


def _shift(values: np.ndarray, lag: np.ndarray, past: int) -> np.ndarray:
    """Return the values `lag` steps [n, 1] before each step from `past` on; a lag may be negative at the end."""
    index = np.arange(past, values.shape[1]) - lag.astype(np.int64)
    return np.take_along_axis(values, index.clip(max=values.shape[1] - 1), axis=1)


def _standardize(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Scale rows [n, width] to mean 0 and standard deviation 1 within their lengths [n, 1]; 0 if constant: float32."""
    inside = np.arange(values.shape[1]) < lengths
    mean = values.mean(axis=1, keepdims=True, where=inside, dtype=np.float64)
    centered = np.where(inside, values - mean, 0)
    deviation = np.sqrt(np.square(centered).sum(axis=1, keepdims=True) / lengths)
    return (centered / np.where(deviation > 1e-9 * np.abs(mean), deviation, 1)).astype(np.float32)
