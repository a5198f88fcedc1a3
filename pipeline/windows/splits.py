"""The split of each series into training, validation and test steps, and the series that can be trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.data.arrow_store import Store
from pipeline.data.usable import check_values, unusable_series
from pipeline.synthetic.mixup import Pool


@dataclass(frozen=True)
class Split:
    """The ends of training and validation in each series of a store."""

    store: Store
    train_ends: np.ndarray
    """int64, [n]: training uses the steps before it."""
    ends: np.ndarray
    """int64, [n]: the holdout is the steps from `train_ends` to it. Later steps are for testing."""
    usable: np.ndarray
    """Positions in the store of the series that training windows are drawn from, int64, [m]."""
    unusable: dict[str, list[int]]
    """Positions of the other series, by the reason, which completes the sentence "the series are ..."."""
    min_past: int
    """Minimum number of steps of history in a training window."""

    def include_holdout(self) -> Split:
        """Return a split of the same series in which the holdout is training steps."""
        return _split_at(self.store, self.ends, self.ends, self.min_past)


def split_store(
    store: Store,
    validation_split: float,
    prediction_length: int,
    min_past: int,
    test_length: int = 0,
    max_windows: int | None = None,
) -> Split:
    """Hold out the end of every series: `validation_split` of its steps, at least one horizon, at most half the series.

    All series of a group hold out as many steps as the one with the fewest, so that their windows can start together.

    A series cannot be trained on if its training steps are fewer than `min_past` + 1, or if all its targets are
    constant, missing or too small.

    Args:
        test_length: number of last steps of every series that are set aside for testing. The holdout is the steps just
            before them.
        max_windows: number of validation windows that are scored. The holdout is limited to their number per series,
            because the newest steps teach most (docs/experiments/training-windows.md).

    Raises:
        UserError: a series has an infinite value, or one that is too large.
    """
    ends = np.maximum(store.lengths - test_length, 0)
    check_values(store, ends)
    wanted = np.maximum((validation_split * ends).astype(np.int64), prediction_length)
    if max_windows is not None:
        wanted = np.minimum(wanted, -(-max_windows // len(store)) * prediction_length)
    if store.groups is not None:
        fewest = np.full(len(store.group_names), np.iinfo(np.int64).max)
        np.minimum.at(fewest, store.groups, wanted)
        wanted = fewest[store.groups]
    n_held_out = np.minimum(wanted, ends // 2) if validation_split > 0 else np.zeros_like(ends)
    return _split_at(store, ends - n_held_out, ends, min_past)


def _split_at(store: Store, train_ends: np.ndarray, ends: np.ndarray, min_past: int) -> Split:
    masks = unusable_series(store, train_ends, min_past)
    return Split(
        store=store,
        train_ends=train_ends,
        ends=ends,
        usable=np.flatnonzero(~np.logical_or.reduce(list(masks.values()))),
        unusable={reason: np.flatnonzero(mask).tolist() for reason, mask in masks.items() if mask.any()},
        min_past=min_past,
    )


def training_pool(split: Split) -> Pool:
    """Return the training steps of the usable series, as a pool for TSMixup."""
    return Pool.of(split.store, split.usable, split.train_ends[split.usable])
