"""Encoding of categorical covariates as numbers, as in the training of Chronos-2."""

import numpy as np

from pipeline.core.series import Variates

# Pseudo-observations of the overall mean in each category's mean, as in `chronos.chronos2.preprocess`.
_SMOOTHING = 1.0


def encode_categories(past: np.ndarray, future: np.ndarray, variates: Variates) -> tuple[np.ndarray, np.ndarray]:
    """Replace categories by numbers, for each item from its own past alone.

    With one target, a category becomes the smoothed mean of the target at its steps, (m + sum) / (1 + count). The sum
    and the count are over its steps with a known target, and m is the mean over all such steps (Micci-Barreca, 2001;
    the same as `chronos.chronos2.preprocess`). With several targets, a category becomes its position in alphabetical
    order. A missing category is a category like any other. Steps before the first known value of any row are padding
    and stay NaN.

    Args:
        past: [n, n_variates, length]; a category is its position in `variates.categories`.
        future: [n, n_variates, prediction_length]; a category that the past does not have is -1.

    Returns:
        `past` and `future` with numbers for categories, of the same shapes.
    """
    if not variates.categories:
        return past, future
    past, future = past.copy(), future.copy()
    padding = np.logical_and.accumulate(np.isnan(past).all(axis=1), axis=1)  # [n, length]
    for name, categories in variates.categories.items():
        row = variates.names.index(name)
        n_slots = len(categories) + 2  # one for a missing category, one for an unknown one
        past_slots, future_slots = _slots(past[:, row], len(categories)), _slots(future[:, row], len(categories))
        if len(variates.targets) == 1:
            table = smoothed_means(past_slots, past[:, 0], n_slots)
        else:
            alphabetical = np.argsort(np.argsort(np.array(categories)))
            table = np.tile([*alphabetical, len(categories), np.nan], (len(past), 1))
        past[:, row] = np.where(padding, np.nan, np.take_along_axis(table, past_slots, axis=1))
        if name in variates.known:
            future[:, row] = np.take_along_axis(table, future_slots, axis=1)
    return past, future


def _slots(codes: np.ndarray, n_categories: int) -> np.ndarray:
    """Return the column of each code in a table of categories, then missing (NaN), then unknown (-1)."""
    filled = np.where(np.isnan(codes), n_categories, codes).astype(np.int64)
    return np.where(filled < 0, n_categories + 1, filled)


def smoothed_means(slots: np.ndarray, target: np.ndarray, n_slots: int) -> np.ndarray:
    """Return the smoothed mean of the target [n, length] at the steps of each slot, see `encode_categories`.

    Args:
        slots: int64, [n, length], below `n_slots`.

    Returns:
        [n, n_slots].
    """
    n = len(slots)
    known = np.isfinite(target)
    values, weights = np.where(known, target, 0.0).ravel(), known.ravel().astype(np.float64)
    flat = (slots + n_slots * np.arange(n)[:, None]).ravel()
    sums = np.bincount(flat, values, minlength=n * n_slots).reshape(n, n_slots)
    counts = np.bincount(flat, weights, minlength=n * n_slots).reshape(n, n_slots)
    mean = sums.sum(axis=1, keepdims=True) / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return (_SMOOTHING * mean + sums) / (_SMOOTHING + counts)
