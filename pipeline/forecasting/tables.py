"""Forecasts of the items of a store: as long tables in the format of stock `predict_df`, or as one array."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.core.batches import split_batches
from pipeline.core.errors import UserError, first_few
from pipeline.core.series import History, Panel
from pipeline.data.arrow_store import Store
from pipeline.data.frequency import UNKNOWN, timestamps
from pipeline.forecasting.batching import check_finite, forecast_in_batches
from pipeline.forecasting.request import Request

if TYPE_CHECKING:
    from pipeline.forecasting.forecaster import Forecaster

_VALUES_PER_PART = 1 << 23
"""Maximum number of forecast values of a part: 32 MiB of float32."""
_PATCH = 16
"""Steps of a patch of the published Bolt and Chronos-2 models, which pad histories to whole patches anyway."""
logger = logging.getLogger(__name__)


def forecast_store(forecaster: Forecaster, store: Store, request: Request) -> Iterator[pa.Table]:
    """Forecast every item of a store, in its order or group by group, and yield a long table for each part.

    Columns: item ID and timestamp under the names of the request, `target_name`, `predictions` and one named after each
    level, as in `BaseChronosPipeline.predict_df`. If the frequency is unknown, timestamps are numbers of steps.
    The caller checks the request with `check_request`.
    """
    for items in split_parts(store, request):
        yield forecast_part(forecaster, store, items, request)


def split_parts(store: Store, request: Request) -> list[range] | list[np.ndarray]:
    """Return the items of each part: consecutive ones, or whole batches of groups, with a bounded number of values."""
    values_per_item = request.steps_per_target * (len(request.levels) + 1)
    size = max(1, min(request.max_part_size, _VALUES_PER_PART // values_per_item))
    if request.groups(store) is None:
        return [range(first, min(first + size, len(store))) for first in range(0, len(store), size)]
    return [np.concatenate(part) for part in split_batches(request.batches(store), max(1, size // request.batch_size))]


def forecast_part(forecaster: Forecaster, store: Store, items: range | np.ndarray, request: Request) -> pa.Table:
    """Forecast a part of the items of a store.

    Items share a batch if they have the same number of patches, unless the forecasts depend on the batch. Sums over
    padding of another width would round differently.

    Raises:
        UserError: a single item does not fit into memory, or the model forecasts NaN.
    """
    length, indices, groups = request.prediction_length, np.asarray(items), request.groups(store)
    forecaster = forecaster.with_context_length(request.context_length)
    if groups is None:
        lengths = np.minimum(store.lengths[indices], forecaster.context_length)
        batches, patch = _equal_batches(lengths, request.batch_size), _PATCH
    else:
        batches, patch = split_batches(np.arange(len(indices)), request.batch_size, groups[indices]), 1
    quantiles = np.empty((len(indices), len(store.variates.targets), length, len(request.levels)), np.float32)
    point = np.empty((len(indices), len(store.variates.targets), length), np.float32)
    for batch in forecast_in_batches(
        lambda rows: [
            _padded(history, patch, forecaster.context_length) for history in request.histories(store, indices[rows])
        ],
        lambda histories: forecaster.quantiles(histories, length, request.levels),
        batches,
    ):
        check_finite(
            batch.histories, batch.output[1], [store.item_ids[index] for index in indices[batch.indices].tolist()]
        )
        for values, forecast in zip((quantiles, point), batch.output):
            values[batch.indices] = forecast.reshape(len(batch.indices), *values.shape[1:])
    store.release_pages()
    empty = [store.item_ids[index] for index, row in zip(indices.tolist(), point) if np.isnan(row).all()]
    if empty:
        logger.warning("%d series have no known value and are forecast as missing: %s", len(empty), first_few(empty))
    levels = {str(level): quantiles[..., position] for position, level in enumerate(request.levels)}
    return long_table(store, indices, store.lengths[indices], {"predictions": point, **levels}, request)


def _equal_batches(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Return batches of positions of histories that have the same number of patches, of nearly equal sizes.

    Args:
        lengths: of the histories, int64, [n].
    """
    n_patches = -(-lengths // _PATCH)
    order = np.argsort(n_patches, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(n_patches[order])) + 1)
    return [batch for group in groups for batch in np.array_split(group, -(-len(group) // batch_size))]


def _padded(history: History, patch: int, context_length: int) -> History:
    """Return a history of whole patches of `patch` steps, missing values in front; one of a whole context as it is."""
    rows = history.past if isinstance(history, Panel) else history
    if rows.shape[-1] >= context_length:
        return history
    padding = [(0, 0)] * (rows.ndim - 1) + [(-rows.shape[-1] % patch, 0)]
    rows = np.pad(rows, padding, constant_values=np.nan)
    return history._replace(past=rows) if isinstance(history, Panel) else rows


def forecast_array(forecaster: Forecaster, store: Store, request: Request) -> np.ndarray:
    """Forecast every item of a store as one array: float32, [n_items x n_targets, prediction_length, n_levels]."""
    batches, forecaster = request.batches(store), forecaster.with_context_length(request.context_length)
    forecasts = forecast_in_batches(
        partial(request.histories, store),
        lambda histories: forecaster.quantiles(histories, request.prediction_length, request.levels)[0],
        batches,
    )
    quantiles = np.concatenate([batch.output for batch in forecasts])
    if request.groups(store) is None:
        return quantiles
    order = np.argsort(np.concatenate(batches))
    return quantiles.reshape(len(store), -1, *quantiles.shape[1:])[order].reshape(quantiles.shape)


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


def long_table(
    store: Store, indices: np.ndarray, starts: np.ndarray, values: Mapping[str, np.ndarray], request: Request
) -> pa.Table:
    """Return values of consecutive steps as a table with a row for each item, target and step.

    Args:
        indices: items of the store, [n].
        starts: the first step of each, [n].
        values: columns by name, [n, n_targets, prediction_length] each.
    """
    n, n_targets, prediction_length = len(indices), len(store.variates.targets), request.prediction_length
    steps = starts[:, None] + np.arange(prediction_length)
    stamps = timestamps(store.starts[indices], store.freq, steps)
    stamps = np.repeat(stamps[:, None], n_targets, axis=1).ravel()
    times = pa.array(stamps, pa.timestamp("s", store.time_zone))
    if store.freq == UNKNOWN:
        times = times.cast(pa.int64())
    item_ids = pa.array([store.item_ids[int(index)] for index in indices], pa.string())
    target_names = pa.array(list(request.target_names or store.variates.targets))
    target_of_row = np.tile(np.arange(n_targets).repeat(prediction_length), n)
    columns: dict[str, Any] = {
        request.id_name: item_ids.take(pa.array(np.repeat(np.arange(n), n_targets * prediction_length))),
        request.timestamp_name: times,
        "target_name": target_names.take(pa.array(target_of_row)),
    }
    return pa.table(columns | {name: column.ravel() for name, column in values.items()})
