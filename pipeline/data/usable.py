"""Checks for series that a model can learn from."""

import numpy as np

from pipeline.core.errors import UserError
from pipeline.data.arrow_store import Store
from pipeline.data.numbers import MIN_MAGNITUDE, find_extreme_value


def check_values(store: Store, ends: np.ndarray) -> None:
    """Refuse values that no model can scale among the first `ends` steps of each series.

    Args:
        ends: int64, [n].

    Raises:
        UserError: a series has an infinite value, or one that is too large.
    """
    for index, end in zip(store.scan(), ends):
        if (problem := find_extreme_value(store.rows(index)[:, :end])) is not None:
            raise UserError(f"{store.path or 'the array'}: series {store.item_ids[index]} {problem}")


def unusable_series(store: Store, ends: np.ndarray, min_past: int) -> dict[str, np.ndarray]:
    """Return a mask [n] of the series that cannot be trained on, for each reason.

    Args:
        ends: the number of training steps of each series, int64, [n].
        min_past: the minimum number of steps of history in a training window.
    """
    # The last training step is never in a context, so a series that changes only there teaches nothing.
    low, high = _ranges(store, ends - 1)
    short = ends < min_past + 1
    missing = np.isnan(high) & ~short
    constant = (low == high) & ~short
    tiny = (np.maximum(np.abs(low), np.abs(high)) < MIN_MAGNITUDE) & ~(short | constant)
    return {
        f"shorter than {min_past + 1} steps before the holdout": short,
        "without a known value": missing,
        "constant": constant,
        f"nowhere above {MIN_MAGNITUDE:g}": tiny,
    }


def _ranges(store: Store, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the minimum and maximum before `ends` of each item's most variable target: [n], [n].

    NaN for an item without a known value.
    """
    low, high = np.full(len(store), np.nan), np.full(len(store), np.nan)
    for index, end in zip(store.scan(), ends):
        if end > 0:
            targets = store.rows(index)[: len(store.variates.targets), :end]
            least, most = np.fmin.reduce(targets, axis=1), np.fmax.reduce(targets, axis=1)
            spread = most - least
            widest = int(np.where(np.isnan(spread), -1, spread).argmax())
            low[index], high[index] = least[widest], most[widest]
    return low, high
