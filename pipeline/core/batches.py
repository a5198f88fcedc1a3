"""Batches of consecutive indices, which keep groups whole."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np

Indices = TypeVar("Indices", range, np.ndarray, list)


def split_batches(indices: Indices, batch_size: int, groups: np.ndarray | None = None) -> list[Indices]:
    """Return consecutive batches of `batch_size` indices; the last one may be smaller.

    With groups, a batch has as many whole groups as fit. A group of more than `batch_size` indices is cut into batches
    from its first index on.

    Sampled forecasts and those of groups depend on the batch, so the same indices must always give the same batches.

    Args:
        groups: number of the group of each index, with equal numbers next to each other, [n]; None without groups.
    """
    bounds: Sequence[int] = range(0, len(indices), batch_size) if groups is None else _group_bounds(groups, batch_size)
    return [indices[begin:end] for begin, end in pairwise([*bounds, len(indices)])]


def _group_bounds(groups: np.ndarray, batch_size: int) -> list[int]:
    """Return the beginnings of batches of whole groups."""
    bounds = [0] if len(groups) else []
    changes = (np.flatnonzero(np.diff(groups)) + 1).tolist()
    for begin, end in pairwise([*bounds, *changes, len(groups)]):
        if end - bounds[-1] > batch_size:
            bounds += [begin] if begin > bounds[-1] else []
            bounds += range(begin + batch_size, end, batch_size)
    return bounds
