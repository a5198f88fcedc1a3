"""Examples of forecasts: the best, the median and the worst window of a task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.core.metrics import ForecastFunction
from pipeline.core.series import target_rows
from pipeline.evaluation.backtest import Evaluation, Task
from pipeline.forecasting.batching import split_batches

_HORIZONS_OF_HISTORY = 4
"""Horizons of history in an example: enough to see the season, and the forecast stays readable."""


@dataclass(frozen=True)
class Example:
    """One target of one window with its forecast."""

    task: str
    """Name of the task."""
    item_id: str
    label: str
    """best, median or worst, by MASE among the windows of the task."""
    mase: float
    history: np.ndarray
    """Last steps of the history, [at most four horizons]."""
    target: np.ndarray
    """Actual values, [prediction_length]."""
    quantiles: np.ndarray
    """Forecast at `WQL_LEVELS`, [prediction_length, 9]."""


def select_examples(
    task: Task, evaluation: Evaluation, forecast: ForecastFunction, batch_size: int = 64
) -> list[Example]:
    """Return the best, the median and the worst forecast of an evaluation; fewer if it has fewer windows.

    Args:
        forecast: the function that was evaluated.
        batch_size: the batch size of the evaluation.
    """
    errors, n_targets = evaluation.errors.mase_by_window(), len(task.store.variates.targets)
    defined = np.flatnonzero(np.isfinite(errors))
    order = defined[np.argsort(errors[defined], kind="stable")]
    if not len(order):
        return []
    positions = {"best": 0, "median": len(order) // 2, "worst": len(order) - 1}
    labels = ("best", "median", "worst")[: len(order)]
    batches = split_batches(range(len(task)), batch_size)
    examples = []
    for label in labels:
        row = int(order[positions[label]])
        # Forecast in the batch of the evaluation, since the samples of a token model depend on it.
        number, row_in_batch = divmod(row, batch_size * n_targets)
        histories, target = task.histories(batches[number]), task.targets(batches[number])[row_in_batch]
        quantiles = forecast(histories, task.prediction_length)[row_in_batch]
        history = target_rows(histories)[row_in_batch][-_HORIZONS_OF_HISTORY * len(quantiles) :]
        item_id = task.store.item_ids[int(evaluation.series[row])]
        examples.append(Example(task.name, item_id, label, float(errors[row]), history, target, quantiles))
    return examples
