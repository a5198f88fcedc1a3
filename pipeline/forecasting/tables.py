"""Forecasts of the items of a store: as long tables in the format of stock `predict_df`, or as one array."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.core.errors import UserError, first_few
from pipeline.core.series import History, target_rows
from pipeline.data.arrow_store import Store
from pipeline.data.frequency import UNKNOWN, timestamps
from pipeline.forecasting.batching import check_finite, forecast_batches, split_batches
from pipeline.forecasting.request import Request

if TYPE_CHECKING:
    from pipeline.forecasting.forecaster import Forecaster

_VALUES_PER_PART = 1 << 23
"""Maximum number of forecast values of a part: 32 MiB of float32."""
logger = logging.getLogger(__name__)


def forecast_store(forecaster: Forecaster, store: Store, request: Request) -> Iterator[pa.Table]:
    """Forecast every item of a store, in its order, and yield a long table for each part.

    Columns: item ID and timestamp under the names of the request, `target_name`, `predictions` and one named after each
    level, as in `BaseChronosPipeline.predict_df`. If the frequency is unknown, timestamps are numbers of steps.
    The caller checks the request with `check_request`.
    """
    for items in split_parts(store, request):
        yield forecast_part(forecaster, store, items, request)


def split_parts(store: Store, request: Request) -> list[range]:
    """Return the items of each part: consecutive, with a bounded number of forecast values."""
    values_per_item = request.prediction_length * (len(request.levels) + 1)
    size = max(1, min(request.max_part_size, _VALUES_PER_PART // values_per_item))
    return [range(first, min(first + size, len(store))) for first in range(0, len(store), size)]


def forecast_part(forecaster: Forecaster, store: Store, items: range, request: Request) -> pa.Table:
    """Forecast consecutive items of a store. Items of similar length share a batch, which keeps padding short.

    Raises:
        UserError: a single item does not fit into memory, or the model forecasts NaN.
    """
    length, indices = request.prediction_length, np.arange(items.start, items.stop)
    width = min(request.context_length or forecaster.context_length, forecaster.context_length)
    by_length = indices[np.argsort(np.minimum(store.lengths[indices], width), kind="stable")]
    quantiles = np.empty((len(indices), len(store.variates.targets), length, len(request.levels)), np.float32)
    point = np.empty((len(indices), len(store.variates.targets), length), np.float32)
    for batch in forecast_batches(
        partial(request.histories, store),
        partial(_forecast, forecaster, request),
        split_batches(by_length, request.batch_size),
    ):
        check_finite(batch.histories, batch.output[1], [store.item_ids[int(index)] for index in batch.indices])
        rows = np.asarray(batch.indices) - items.start
        for values, forecast in zip((quantiles, point), batch.output):
            values[rows] = forecast.reshape(len(rows), *values.shape[1:])
    store.release_pages()
    empty = [store.item_ids[int(index)] for index in indices if np.isnan(point[index - items.start]).all()]
    if empty:
        logger.warning("%d series have no known value and are forecast as missing: %s", len(empty), first_few(empty))
    return _long_table(store, indices, quantiles, point, request)


def _forecast(forecaster: Forecaster, request: Request, histories: Sequence[History]) -> tuple[np.ndarray, np.ndarray]:
    """Return quantiles [n, prediction_length, n_levels] and point forecasts [n, prediction_length]."""
    quantiles, point = forecaster.quantiles(histories, request.prediction_length, request.levels)
    if request.non_negative:
        for row, values in enumerate(target_rows(histories)):
            if not (values < 0).any():
                quantiles[row], point[row] = np.maximum(quantiles[row], 0), np.maximum(point[row], 0)
    return quantiles, point


def forecast_array(forecaster: Forecaster, store: Store, request: Request) -> np.ndarray:
    """Forecast every item of a store as one array: float32, [n_items x n_targets, prediction_length, n_levels]."""
    batches = forecast_batches(
        partial(request.histories, store),
        lambda histories: _forecast(forecaster, request, histories)[0],
        split_batches(range(len(store)), request.batch_size),
    )
    return np.concatenate([batch.output for batch in batches])


def predictions_table(predictions: np.ndarray, levels: Sequence[float]) -> pa.Table:
    """Return an array of quantiles as a long table, in which item IDs and timestamps are positions.

    Args:
        predictions: [batch, prediction_length, n_levels].

    Raises:
        UserError: the array has another number of levels, or the levels lack the median, which is the point forecast.
    """
    if 0.5 not in levels:
        raise UserError(f"inference.quantiles {levels} lack the level 0.5, which is the point forecast; add it")
    if predictions.ndim != 3 or predictions.shape[2] != len(levels):
        raise UserError(
            f"predictions must have the shape [batch, prediction_length, {len(levels)}], got {list(predictions.shape)}"
        )
    n, prediction_length, _ = predictions.shape
    columns = {
        "item_id": [str(row) for row in range(n) for _ in range(prediction_length)],
        "timestamp": np.tile(np.arange(prediction_length), n),
        "target_name": ["target"] * (n * prediction_length),
        "predictions": predictions[:, :, levels.index(0.5)].ravel(),
        **{str(level): predictions[:, :, position].ravel() for position, level in enumerate(levels)},
    }
    return pa.table(columns)


def _long_table(
    store: Store, indices: np.ndarray, quantiles: np.ndarray, point: np.ndarray, request: Request
) -> pa.Table:
    """Return forecasts as a table with a row for each item, target and step.

    Args:
        indices: items of the store, [n].
        quantiles: [n, n_targets, prediction_length, n_levels].
        point: [n, n_targets, prediction_length].
    """
    n, n_targets, prediction_length = point.shape
    steps = store.lengths[indices, None] + np.arange(prediction_length)
    stamps = timestamps(store.starts[indices], store.freq, steps)
    stamps = np.repeat(stamps[:, None], n_targets, axis=1).ravel()
    zone = store.formats.timestamp.zone if store.formats.timestamp else "none"
    times = pa.array(stamps, pa.timestamp("s", "UTC" if zone == "utc" else None))
    if store.freq == UNKNOWN:
        times = times.cast(pa.int64())
    item_ids = pa.array([store.item_ids[int(index)] for index in indices], pa.string())
    target_names = pa.array(list(request.target_names or store.variates.targets))
    target_of_row = np.tile(np.arange(n_targets).repeat(prediction_length), n)
    columns: dict[str, Any] = {
        request.id_name: item_ids.take(pa.array(np.repeat(np.arange(n), n_targets * prediction_length))),
        request.timestamp_name: times,
        "target_name": target_names.take(pa.array(target_of_row)),
        "predictions": point.ravel(),
    }
    for position, level in enumerate(request.levels):
        columns[str(level)] = quantiles[..., position].ravel()
    return pa.table(columns)
