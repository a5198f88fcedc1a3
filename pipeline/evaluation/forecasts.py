"""The file of all forecasts that were scored: written in constant memory while models are scored, read for pictures."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.files import atomic_write
from pipeline.core.metrics import WQL_LEVELS
from pipeline.data.frequency import UNKNOWN, timestamps
from pipeline.evaluation.backtest import Task

_ROWS_PER_GROUP = 1 << 17
"""Rows in memory before they are written: about 8 MB."""
_LEVELS = [str(level) for level in WQL_LEVELS]


def stamps_at(task: Task, series: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the timestamps of steps of some series: datetime64[s], or the steps as int64 if there are no timestamps.

    Args:
        series: [n].
        steps: [n, n_steps].
    """
    stamps = timestamps(task.store.starts[series], task.store.freq, steps)
    return stamps.astype(np.int64) if task.store.freq == UNKNOWN else stamps


class ForecastWriter:
    """Writes forecasts as rows of `data set, item_id, target_name, origin, timestamp, actual, model, 0.1, ..., 0.9`.

    `origin` is the timestamp of the last step before the forecast. If no task has timestamps, both columns count the
    steps from the first value of a series. They have the time zone UTC if all tasks have one.
    """

    def __init__(self, path: Path, tasks: Sequence[Task]) -> None:
        zones = {task.store.time_zone for task in tasks}
        stamp = pa.timestamp("s", zones.pop() if len(zones) == 1 else None)
        stamp = pa.int64() if all(task.store.freq == UNKNOWN for task in tasks) else stamp
        texts = {name: pa.string() for name in ("data set", "item_id", "target_name")}
        numbers = dict.fromkeys(_LEVELS, pa.float32())
        columns = {
            **texts,
            "origin": stamp,
            "timestamp": stamp,
            "actual": pa.float32(),
            "model": pa.string(),
            **numbers,
        }
        self._schema = pa.schema(list(columns.items()))
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._waiting: list[pa.Table] = []

    def write(self, task: Task, model: str, indices: range, quantiles: np.ndarray) -> None:
        """Add the forecasts of windows of a task.

        Args:
            indices: the windows, [n].
            quantiles: at `WQL_LEVELS`, [n x n_targets, prediction_length, 9].
        """
        names, store, horizon = task.store.variates.targets, task.store, task.prediction_length
        series, starts = np.array([task.windows[index] for index in indices]).T
        stamps = stamps_at(task, series, starts[:, None] + np.arange(-1, horizon))
        row = np.repeat(np.arange(len(quantiles)), horizon)
        window = row // len(names)
        item_ids = pa.array([store.item_ids[int(index)] for index in series], pa.string())
        columns = {
            "data set": pa.array([task.name]).take(pa.array(np.zeros(len(row), np.int64))),
            "item_id": item_ids.take(pa.array(window)),
            "target_name": pa.array(names).take(pa.array(row % len(names))),
            "origin": stamps[window, 0],
            "timestamp": np.repeat(stamps[:, 1:], len(names), axis=0).ravel(),
            "actual": task.targets(indices).ravel(),
            "model": pa.array([model]).take(pa.array(np.zeros(len(row), np.int64))),
            **{level: quantiles[:, :, position].ravel() for position, level in enumerate(_LEVELS)},
        }
        arrays = [pa.array(values).cast(field.type) for values, field in zip(columns.values(), self._schema)]
        self._waiting.append(pa.table(arrays, schema=self._schema))
        if sum(len(table) for table in self._waiting) >= _ROWS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        """Write the waiting rows, and close the file."""
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_table(pa.concat_tables(self._waiting))
            self._waiting = []


@contextmanager
def write_forecasts(path: Path, tasks: Sequence[Task]) -> Iterator[ForecastWriter]:
    """Yield a writer of a file, which is complete at the end of the block, or as before if the block raises.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_write(path) as temporary:
        writer = ForecastWriter(temporary, tasks)
        try:
            yield writer
        finally:
            writer.close()


def read_forecasts(path: Path, task: Task, model: str, series: Collection[int]) -> np.ndarray:
    """Return the 0.1-quantile, the median and the 0.9-quantile of all windows of some series of a task.

    Returns:
        float32, [n, 3, prediction_length]; the rows are those of the series in an `Evaluation`, in the same order.
    """
    item_ids = [task.store.item_ids[index] for index in series]
    filters = [("data set", "==", task.name), ("model", "==", model), ("item_id", "in", item_ids)]
    table = pq.read_table(path, columns=["0.1", "0.5", "0.9"], filters=filters)
    return np.stack([column.to_numpy().reshape(-1, task.prediction_length) for column in table.columns], axis=1)
