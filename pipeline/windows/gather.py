"""Copy windows out of flat arrays of series, trim their padding, and find those that a model can learn from."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pipeline.data.arrow_store import Store

MAX_DEVIATIONS = 100.0
"""Maximum distance of a target from the mean of its context, in standard deviations of the context.

Set by hand: a lower limit excludes real peaks, a higher one lets a single window outweigh a whole batch in a scaled
loss.
"""


class Batch(NamedTuple):
    """Windows in rows, one row per variate."""

    context: np.ndarray
    """Up to the forecast start, float32, [n_rows, at most context_length]; NaN is missing."""
    target: np.ndarray
    """From the forecast start on, float32, [n_rows, at most prediction_length]; that of a covariate is its future."""
    groups: np.ndarray | None = None
    """Number of the group of each window, int64, [n_windows]; None if each window is forecast alone."""
    roles: np.ndarray | None = None
    """TARGET, PAST or KNOWN for each window if windows are rows of panels, int64, [n_windows]; else None."""


def store_windows(
    store: Store,
    series: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    context_length: int,
    prediction_length: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows of items of a store, one row per variate.

    Args:
        series: positions of the items in the store, [n].
        starts: forecast starts, [n].
        ends: steps from which targets are unknown, [n].

    Returns:
        Context [n x n_variates, context_length] and target [n x n_variates, prediction_length], float32; NaN is
        missing.
    """
    n_variates = len(store.variates)
    origins = (store.offsets[series][:, None] + store.lengths[series][:, None] * np.arange(n_variates)).ravel()
    starts, ends = starts.repeat(n_variates), ends.repeat(n_variates)
    return copy_windows(store.values, origins, starts, ends, context_length, prediction_length)


def last_windows(
    values: np.ndarray, lengths: np.ndarray, min_past: int, context_length: int, prediction_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the last window of each series; a series that is too short has a shorter horizon, not a shorter history.

    Args:
        values: one series per row, float32, [n, width].
        lengths: steps of each series, [n].
        min_past: minimum number of steps before the forecast start.

    Returns:
        Context [n, context_length] and target [n, prediction_length], float32, NaN if missing.
    """
    starts = np.maximum(lengths - prediction_length, np.minimum(min_past, lengths - 1))
    origins = np.arange(len(values)) * values.shape[1]
    return copy_windows(values.ravel(), origins, starts, lengths, context_length, prediction_length)


def copy_windows(
    values: np.ndarray,
    origins: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    context_length: int,
    prediction_length: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows of series in a flat array.

    Args:
        values: float32, flat.
        origins: positions in `values` of the first step of each window's series, [n].
        starts: forecast starts, in steps from the origin, [n].
        ends: steps from which targets are unknown, counted in the same way, [n].

    Returns:
        Context [n, context_length] and target [n, prediction_length], float32, NaN if missing.
    """
    windows = np.full((len(starts), context_length + prediction_length), np.nan, np.float32)
    n_past, n_future = np.minimum(starts, context_length), np.minimum(ends - starts, prediction_length)
    # One copy per row is faster than a single fancy-indexed gather, which first builds an index for each value.
    n_future = np.maximum(n_future, -n_past)  # an end before the context leaves no known step
    rows = zip((origins + starts).tolist(), n_past.tolist(), n_future.tolist())
    for row, (start, past, future) in enumerate(rows):
        windows[row, context_length - past : context_length + future] = values[start - past : start + future]
    return windows[:, :context_length], windows[:, context_length:]


def trim_padding(context: np.ndarray) -> np.ndarray:
    """Remove the leading columns of a context, [n, length], that are NaN in all rows; keep at least one column."""
    if not np.isnan(context[:, 0]).all():
        return context
    known = ~np.isnan(context).all(axis=0)
    return context[:, known.argmax() if known.any() else -1 :]


def learnable_windows(context: np.ndarray, target: np.ndarray, n_targets: int) -> np.ndarray:
    """Return whether a model can learn from each window, bool, [n].

    It can if at least one of the targets has all three: a context with two different values, a known target step, and
    no target step more than `MAX_DEVIATIONS` standard deviations of the context from its mean.

    Args:
        context: float32, [n, n_variates, context_length].
        target: float32, [n, n_variates, prediction_length].
        n_targets: number of the variates, from the first, that are forecast.
    """
    contexts = context[:, :n_targets].reshape(-1, context.shape[2])
    targets = target[:, :n_targets].reshape(-1, target.shape[2])
    learnable = _learnable_rows(contexts, targets).reshape(-1, n_targets)
    return np.asarray(learnable.any(axis=1))


def _learnable_rows(context: np.ndarray, target: np.ndarray) -> np.ndarray:
    low, high = (reduce(context, axis=1).astype(np.float64) for reduce in (np.fmin.reduce, np.fmax.reduce))
    lowest, highest = (reduce(target, axis=1).astype(np.float64) for reduce in (np.fmin.reduce, np.fmax.reduce))
    learnable = (low < high) & ~np.isnan(highest)
    # The standard deviation of n values is at least their range / sqrt(2 n). So only targets farther than a multiple of
    # the range need the exact standard deviation, which is slow.
    limit = (MAX_DEVIATIONS / math.sqrt(2 * context.shape[1]) - 1) * (high - low)
    is_far = np.maximum(highest - high, low - lowest) > limit
    for row in np.flatnonzero(learnable & is_far):
        known = context[row, ~np.isnan(context[row])].astype(np.float64)
        distance = max(highest[row] - known.mean(), known.mean() - lowest[row])
        learnable[row] = distance <= MAX_DEVIATIONS * known.std()
    return learnable
