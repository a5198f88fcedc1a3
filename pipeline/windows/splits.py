"""Where training, validation and testing end in each series, and which series there is something to learn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.data.arrow_store import Store
from pipeline.data.usable import check_values, unusable_series
from pipeline.synthetic.mixup import Pool


@dataclass(frozen=True)
class Split:
    """Where training and validation end in each series of a store."""

    store: Store
    train_ends: np.ndarray
    """int64, [n]: training uses the steps before it."""
    ends: np.ndarray
    """int64, [n]: validation uses the steps from `train_ends` to it; what lies behind is for testing."""
    usable: np.ndarray
    """Indices of the series that training windows are drawn from."""
    unusable: dict[str, list[int]]
    """Indices of the others, by the reason in words."""
    min_past: int
    """Steps of history that a training window has at least."""

    def include_holdout(self) -> Split:
        """Return the same series with the held-out steps left to training.

        Raises:
            UserError: a series holds an infinite value, or one too large, among them.
        """
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

    No more is held out than `max_windows` windows take that are spread evenly over the series: the newest steps teach most.
    The last `test_length` steps are left out before. A series is unusable for training where what remains is shorter than
    `min_past` and one step, or all its targets are constant, missing or too small throughout.

    Raises:
        UserError: a series holds an infinite value, or one too large.
    """
    ends = np.maximum(store.lengths - test_length, 0)
    wanted = np.maximum((validation_split * ends).astype(np.int64), prediction_length)
    if max_windows is not None:
        wanted = np.minimum(wanted, -(-max_windows // len(store)) * prediction_length)
    held_out = np.minimum(wanted, ends // 2) if validation_split > 0 else np.zeros_like(ends)
    return _split_at(store, ends - held_out, ends, min_past)


def _split_at(store: Store, train_ends: np.ndarray, ends: np.ndarray, min_past: int) -> Split:
    check_values(store, ends)
    masks = unusable_series(store, train_ends, min_past)
    return Split(
        store=store,
        train_ends=train_ends,
        ends=ends,
        usable=np.flatnonzero(~np.logical_or.reduce(list(masks.values()))),
        unusable={reason: np.flatnonzero(mask).tolist() for reason, mask in masks.items() if mask.any()},
        min_past=min_past,
    )


def pool_of(split: Split) -> Pool:
    """Return the training steps of the usable series, for TSMixup."""
    return Pool.of(split.store, split.usable, split.train_ends[split.usable])
