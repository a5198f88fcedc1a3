"""Categorical covariates as numbers, the way Chronos-2 was trained on them."""

import numpy as np

from pipeline.core.series import Variates

_SMOOTHING = 1.0


def encoded(past: np.ndarray, future: np.ndarray, variates: Variates) -> tuple[np.ndarray, np.ndarray]:
    """Replace categories by numbers, of every item from its own past alone.

    With one target a category becomes the mean target of its steps, drawn to the mean m of all steps: (m + sum) / (1 +
    count) over the steps where the target is known (Micci-Barreca, 2001; `chronos.chronos2.preprocess` does the same). With
    several it becomes its position in the alphabet. A missing category is a category of its own. Steps before the first
    known value of any row are padding and stay NaN.

    Args:
        past: [n, n_variates, length], categories by their position in `variates.categories`; one that is not in it, as only
            a future can have, by -1.
        future: [n, n_variates, prediction_length].

    Returns:
        the same, of the same shapes.
    """
    if not variates.categories:
        return past, future
    past, future = past.copy(), future.copy()
    padding = np.logical_and.accumulate(np.isnan(past).all(axis=1), axis=1)  # [n, length]
    for name, categories in variates.categories.items():
        row = variates.names.index(name)
        n_slots = len(categories) + 2  # one for a missing category, one for an unknown one
        codes, later = _slots(past[:, row], len(categories)), _slots(future[:, row], len(categories))
        if len(variates.targets) == 1:
            table = _means(codes, past[:, 0], n_slots)
        else:
            alphabetical = np.argsort(np.argsort(np.array(categories)))
            table = np.tile([*alphabetical, len(categories), np.nan], (len(past), 1))
        past[:, row] = np.where(padding, np.nan, np.take_along_axis(table, codes, axis=1))
        if name in variates.known:
            future[:, row] = np.take_along_axis(table, later, axis=1)
    return past, future


def _slots(codes: np.ndarray, n_categories: int) -> np.ndarray:
    filled = np.where(np.isnan(codes), n_categories, codes).astype(np.int64)
    return np.where(filled < 0, n_categories + 1, filled)


def _means(codes: np.ndarray, target: np.ndarray, n_slots: int) -> np.ndarray:
    """Return the smoothed mean target of each slot: [n, n_slots]."""
    n = len(codes)
    known = np.isfinite(target)
    values, weights = np.where(known, target, 0.0).ravel(), known.ravel().astype(np.float64)
    flat = (codes + n_slots * np.arange(n)[:, None]).ravel()
    sums = np.bincount(flat, values, minlength=n * n_slots).reshape(n, n_slots)
    counts = np.bincount(flat, weights, minlength=n * n_slots).reshape(n, n_slots)
    mean = sums.sum(axis=1, keepdims=True) / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return (_SMOOTHING * mean + sums) / (_SMOOTHING + counts)
