"""Forecasts in batches: the one loop that forecast files, `predict`, the backtest and fev share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from pipeline.core.errors import UserError, first_few
from pipeline.core.series import History, target_rows

Indices = TypeVar("Indices", range, np.ndarray)
Output = TypeVar("Output")


@dataclass(frozen=True)
class Batch(Generic[Indices, Output]):
    """One batch with its forecasts."""

    indices: Indices
    """Items or windows of the batch, [n]."""
    histories: list[History]
    """Histories that the forecasts start from, the same number for each item or window."""
    output: Output
    """The return value of the forecast function."""


def forecast_in_batches(
    histories: Callable[[Indices], list[History]],
    forecast: Callable[[list[History]], Output],
    batches: Iterable[Indices],
) -> Iterator[Batch[Indices, Output]]:
    """Forecast one batch after the other, so that only the histories of one batch are in memory.

    Args:
        histories: returns the histories of a batch.
        forecast: forecasts the histories of a batch.
        batches: indices of the items or windows of each batch.
    """
    for indices in batches:
        rows = histories(indices)
        yield Batch(indices, rows, forecast(rows))


def check_finite(histories: Sequence[History], point: np.ndarray, names: Sequence[str]) -> None:
    """Refuse forecasts that are NaN although the history has a known value: the weights of the model are broken.

    Args:
        point: point forecasts of all targets, [n_targets, prediction_length].
        names: names of the histories.

    Raises:
        UserError: there are such forecasts; the message names the first few.
    """
    rows = target_rows(histories)
    known = np.array([not np.isnan(row).all() for row in rows])
    broken = np.flatnonzero(known & np.isnan(point).any(axis=1)) // (len(rows) // len(histories))
    if len(broken):
        broken_names = [names[index] for index in dict.fromkeys(broken.tolist())]
        raise UserError(f"the model forecasts NaN for {first_few(broken_names)}: its weights are broken; retrain it")
