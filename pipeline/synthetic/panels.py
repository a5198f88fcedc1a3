"""Synthetic panels: targets that share a factor, and covariates that may act on the targets.

All panels of a call have the same number of rows. The structure is drawn for each panel. A row is related or a driver:

- Targets and some past covariates are related. They load on the factor of the panel, each with its own lag. The factor
  is a series of the bank or a random walk. If it is a random walk and the rows without it are stationary, the rows are
  co-integrated (Engle and Granger, 1987).
- The other covariates are drivers: series of the bank, autoregressive noise, categories, promotions or holidays. A
  driver may act on the targets, through a response and possibly with a delay. Responses are linear, a threshold, a
  step, V-shaped, saturating, or a level for each category. A driver that is known ahead may act some steps early.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from pipeline.core.series import KNOWN, PAST, TARGET
from pipeline.synthetic.bank import Bank
from pipeline.synthetic.components import autoregress, draw_events
from pipeline.synthetic.draws import Draws, hash_words
from pipeline.synthetic.ranges import Share

_MAX_LAG = 64
"""Maximum lag of a factor or a driver in steps: for hours, more than two days."""
_MAX_LEAD = 8
"""Maximum number of steps between the effect of a known driver and a later value of it."""
_MAX_CATEGORIES = 8
_NUMBER, _CATEGORY, _PROMOTION, _HOLIDAY = range(4)
_DRIVER_WEIGHTS = np.array([5, 2, 2, 1])
"""Weights of the kinds of drivers, in this order, set by hand."""
_LINEAR, _THRESHOLD, _STEP, _COMFORT, _SATURATING = range(5)
_RESPONSE_WEIGHTS = np.array([4, 2, 1, 2, 1])


@dataclass(frozen=True)
class PanelBank:
    """A bank that is sampled both as single series and as panels."""

    bank: Bank


class Panels(NamedTuple):
    """Synthetic panels; the rows of a panel are targets, past covariates and known covariates, in this order."""

    values: np.ndarray
    """float32, [n, n_variates, width]; NaN if missing. A category is an integer. Values after a panel's length are
    undefined."""
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
    explained: Share = (0.2, 0.99),
    acting: float = 0.8,
) -> Panels:
    """Draw one panel for each key.

    A panel depends on its key, its length, the width and `n_variates`, not on the other panels. The bank's observation
    effects are applied to targets and to covariates that are numbers.

    Args:
        keys: uint64, [n].
        lengths: steps of each panel, integers [n].
        width: columns of the result, at least the greatest length.
        shared: range of the fraction of a related row's variance that the factor gives; a third of the panels has none.
        explained: range of the fraction of a target's variance that drivers give, if any acts. Large ones are drawn
            more often: a model learns from strong covariates first (docs/experiments/architectures.md).
        acting: probability that a driver acts.
    """
    draws = Draws(keys)
    rows = Draws(hash_words(draws.fork().keys[:, None], np.arange(n_variates)).ravel())
    shape, row_lengths = (len(keys), n_variates), np.repeat(lengths.astype(np.int64), n_variates)[:, None]
    # Steps that are drawn before the series for lags, and after it for leads.
    past, ahead = min(_MAX_LAG, width // 2), min(_MAX_LEAD, width // 8)
    full_width = width + past + ahead

    roles = _draw_roles(draws, n_variates)
    role = roles.reshape(-1, 1)
    is_driver = (role == KNOWN) | ((role == PAST) & rows.chance(0.6))
    kind = np.where(is_driver, rows.choice(np.arange(4), _DRIVER_WEIGHTS), _NUMBER)
    own, factor, share = _draw_series(
        bank, draws, rows, is_driver, kind, row_lengths + past + ahead, full_width, shared
    )

    drivers = np.flatnonzero(is_driver)
    series, n_categories = np.empty_like(own), np.zeros_like(role)
    responses = np.zeros_like(own)
    stream = rows.fork()
    series[drivers], n_categories[drivers], responses[drivers] = _draw_drivers(
        Draws(stream.keys[drivers]), own[drivers], kind[drivers]
    )
    acts = is_driver & rows.chance(acting)
    # In half of the panels all drivers act without delay, which is easier to learn.
    acts_later = np.repeat(draws.chance(0.5), n_variates, axis=0)
    lag = _draw_lags(rows, past)
    lag = np.where((role == KNOWN) & rows.chance(0.15), -np.floor(rows.uniform(0, ahead + 1)), lag) * acts_later
    acting_rows = np.flatnonzero(acts)
    lagged = np.zeros((len(rows), width), np.float32)
    lagged[acting_rows] = _standardize(
        _shift(responses[acting_rows], lag[acting_rows], past)[:, :width], row_lengths[acting_rows]
    )
    weights = (rows.normal(n_variates) * (role == TARGET)).reshape(*shape, n_variates) * acts.reshape(*shape)[:, None]
    weights /= np.maximum(np.sqrt(np.square(weights).sum(axis=2, keepdims=True)), 1e-9)
    effect = np.matmul(weights.astype(np.float32), lagged.reshape(*shape, width)).reshape(-1, width)
    effect_share = explained[0] + (explained[1] - explained[0]) * draws.uniform() ** 0.4
    effect_share = np.repeat(effect_share, n_variates, axis=0) * np.any(weights, axis=2).reshape(-1, 1)
    size = np.repeat(draws.chance(0.25) * draws.log_uniform(0.2, 1), n_variates, axis=0)

    values = series[:, past : past + width]
    others, lag, sign = np.flatnonzero(~is_driver), _draw_lags(rows, past), np.where(rows.chance(0.85), 1, -1)
    related = np.sqrt(1 - share[others]) * own[others, past : past + width]
    related += (sign * np.sqrt(share))[others] * _shift(factor[others // n_variates], lag[others], past)[:, :width]
    related = np.sqrt(1 - effect_share[others]) * related + np.sqrt(effect_share[others]) * effect[others]
    values[others] = np.where(size[others] > 0, np.exp((size[others] * related).clip(-8, 8)), related)

    observed = np.flatnonzero(n_categories[:, 0] == 0)
    values[observed] = bank.observe(Draws(rows.fork().keys[observed]), values[observed], row_lengths[observed])
    return Panels(values.reshape(*shape, width), roles, n_categories.reshape(shape), acts.reshape(shape))


def _draw_roles(draws: Draws, n_variates: int) -> np.ndarray:
    """Draw the role of each row; all rows are targets, one is, or a random number of them: int64, [n, n_variates]."""
    kind = draws.choice(np.arange(3), np.array([1, 7, 2]))
    several = 1 + np.floor(draws.uniform() * n_variates)
    n_targets = np.select([kind == 0, kind == 1], [np.full(several.shape, n_variates), np.ones_like(several)], several)
    n_covariates = n_variates - n_targets
    n_known = np.where(draws.chance(0.5), n_covariates, np.floor(draws.uniform() * (n_covariates + 1)))
    position = np.arange(n_variates)
    return np.where(position < n_targets, TARGET, np.where(position >= n_variates - n_known, KNOWN, PAST))


def _draw_series(
    bank: Bank,
    draws: Draws,
    rows: Draws,
    is_driver: np.ndarray,
    kind: np.ndarray,
    lengths: np.ndarray,
    width: int,
    shared: Share,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a series for each row, a factor for each panel, and the share of the variance that is the factor's.

    Args:
        draws, rows: random numbers of the panels and of their rows.
        is_driver, kind: bool and int64, [n_rows, 1].
        lengths: steps of each row, [n_rows, 1].
        width: columns of the series.

    Returns:
        Standardized series of the bank or noise, float32 [n_rows, width]; those of the bank or random walks, float32
        [n, width]; and [n_rows, 1].
    """
    n_variates = len(rows) // len(draws)
    is_related, is_walk = draws.chance(2 / 3), draws.chance(1 / 3)
    share = np.repeat(is_related * draws.uniform(*shared), n_variates, axis=0)
    is_stationary = np.repeat(draws.chance(np.where(is_walk, 0.6, 0.2)), n_variates, axis=0)
    is_noise = np.where(is_driver, rows.chance(0.5), is_stationary)
    # Rows and factors are drawn in one call of the bank, which is faster than two; the factors come last.
    streams = np.concatenate([rows.fork().keys, draws.fork().keys])
    from_bank = np.concatenate([~is_noise & (kind == _NUMBER), is_related & ~is_walk])
    steps = np.concatenate([lengths, lengths[::n_variates]])
    series = np.zeros((len(streams), width), np.float32)
    chosen = np.flatnonzero(from_bank)
    series[chosen] = replace(bank, probabilities={}).draw(streams[chosen], steps[chosen, 0], width)
    noise = np.flatnonzero(is_noise & (kind == _NUMBER))
    persistence = rows.uniform(0, 0.95)[noise]
    series[noise] = autoregress(Draws(streams[noise]).white(width), persistence)
    walks = len(rows) + np.flatnonzero(is_related & is_walk)
    series[walks] = np.cumsum(Draws(streams[walks]).white(width), axis=1)
    own, factor = np.split(_standardize(series, steps), [len(rows)])
    return own, factor, share


def _draw_lags(rows: Draws, maximum: int) -> np.ndarray:
    """Draw lags in steps, 0 with probability 0.6: float64, [n, 1]."""
    return np.where(rows.chance(0.4), np.floor(rows.log_uniform(1, maximum + 1)), 0)


def _draw_drivers(rows: Draws, own: np.ndarray, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw drivers, the number of categories of each (0 for numbers), and the responses of the targets.

    Args:
        own: standardized, [n, width]: the covariates that are numbers.

    Returns:
        float32 [n, width], int64 [n, 1], float32 [n, width]
    """
    values, responses, n_categories = own.copy(), np.empty_like(own), np.zeros((len(rows), 1), np.int64)
    bend, form = rows.uniform(-1, 1), rows.choice(np.arange(5), _RESPONSE_WEIGHTS)
    streams = rows.fork()
    numbers, events = np.flatnonzero(kind == _NUMBER), np.flatnonzero(kind != _NUMBER)
    responses[numbers] = _respond(own[numbers], bend[numbers], form[numbers])
    values[events], n_categories[events], responses[events] = _draw_events(
        Draws(streams.keys[events]), own.shape[1], kind[events]
    )
    return values, n_categories, responses


def _respond(number: np.ndarray, bend: np.ndarray, form: np.ndarray) -> np.ndarray:
    """Return the responses to numbers [n, width], each of a form [n, 1] with a threshold [n, 1]."""
    return np.select(
        [form == _LINEAR, form == _THRESHOLD, form == _STEP, form == _COMFORT],
        [number, np.maximum(number - bend, 0), number > bend, np.abs(number - bend)],
        np.tanh(2 * number),
    )


def _draw_events(rows: Draws, width: int, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw categories, promotions and holidays: what `_draw_drivers` returns."""
    column = np.arange(width)
    # A new category or promotion begins at random steps; `drawn` is a normal number for each.
    n_steps = rows.integers(1, 14)
    rate = rows.log_uniform(0.005, 0.5)
    is_start = draw_events(rows, np.where(kind == _PROMOTION, np.minimum(rate, 0.3 / n_steps), rate), width)
    start = np.maximum.accumulate(np.where(is_start, column, 0), axis=1)
    drawn = np.take_along_axis(rows.white(width), start, axis=1)
    n_categories = rows.integers(2, _MAX_CATEGORIES)
    cycle = (column + rows.integers(0, 1000)) // rows.integers(1, 48) % n_categories
    category = np.where(rows.chance(0.3), cycle, np.floor(ndtr(drawn) * n_categories)).clip(max=n_categories - 1)
    promotion = (column - start < n_steps) * np.where(rows.chance(0.6), 1, 0.3 + np.abs(drawn))
    holiday = (column + rows.integers(0, 1000)) % np.floor(rows.log_uniform(7, 400)) < rows.integers(1, 3)
    levels = np.take_along_axis(rows.normal(_MAX_CATEGORIES), category.astype(np.int64), axis=1)
    kinds = [kind == _CATEGORY, kind == _PROMOTION]
    values = np.select(kinds, [category, promotion], holiday).astype(np.float32)
    responses = np.select(kinds, [levels, promotion], holiday).astype(np.float32)
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
