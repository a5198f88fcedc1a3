"""Anomaly flags: the last steps of each series, compared with forecasts from the steps before them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.config import Config
from pipeline.core.batches import split_batches
from pipeline.core.errors import UserError, first_few
from pipeline.core.metrics import WQL_LEVELS
from pipeline.core.series import History
from pipeline.data.arrow_store import Store
from pipeline.forecasting.batching import check_finite, forecast_in_batches
from pipeline.forecasting.plots import MAX_PANELS, DrawnForecast, drawn_forecast
from pipeline.forecasting.request import (
    Request,
    check_categories,
    check_groups,
    check_variates,
    column_names,
    warn_about_levels,
)
from pipeline.forecasting.tables import long_table
from pipeline.windows.origins import forecast_starts, groups_of_windows

if TYPE_CHECKING:
    from pipeline.forecasting.forecaster import Forecaster

MAX_SCORE = 1e6
"""The score of a value outside an interval without width, as that of a constant series, and the limit of all scores."""
_COLUMNS = ("actual", "predictions", "lower", "upper", "score", "is_anomaly")
Items = Sequence[int] | np.ndarray
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FlagRequest(Request):
    """Settings of the flags of a store. `levels` are the two ends of the interval, with the median between them."""

    n_windows: int = 1
    """Maximum number of horizons at the end of each series that are compared."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if taken := {*_COLUMNS} & {self.id_name, self.timestamp_name}:
            raise UserError(f"the table of flags has two columns {taken.pop()!r}; rename the column of your series")

    @property
    def steps_per_target(self) -> int:
        """Maximum number of rows of a target in the table."""
        return self.n_windows * self.prediction_length


def make_flag_request(config: Config, forecaster: Forecaster, store: Store, prediction_length: int) -> FlagRequest:
    """Return the flag request of a configuration for a store, checked against the model.

    Raises:
        UserError: no series is longer than the horizon, or the model does not take a variate or category of the data.
    """
    if forecaster.has_single_level:
        raise UserError(
            f"the model has the quantile level {forecaster.trained_levels} only, so no interval tells anomalies; "
            "train one with more levels (training.quantiles)"
        )
    check_variates(forecaster, store)
    check_groups(forecaster.family, store, config.inference.cross_learning, config.inference.batch_size)
    check_categories(forecaster, store, None)
    short = np.flatnonzero(store.lengths <= prediction_length)
    if len(short) == len(store):
        raise UserError(
            f"inference.prediction_length: no series is longer than the horizon of {prediction_length} steps, so none "
            "can be compared with a forecast; set a shorter horizon"
        )
    if len(short):
        names = first_few([store.item_ids[index] for index in short[:10].tolist()])
        logger.warning("%d series are not longer than the horizon, and are not flagged: %s", len(short), names)
    request = Request.from_config(config.inference, prediction_length)
    kept = {field.name: getattr(request, field.name) for field in fields(Request)}
    outside = round((1 - config.inference.flag_level) / 2, 12)
    kept |= {"levels": (outside, 0.5, 1 - outside), **column_names(config, store)}
    warn_about_levels(forecaster, kept["levels"])
    return FlagRequest(**kept, n_windows=config.inference.flag_windows)


def anomaly_scores(actual: np.ndarray, lower: np.ndarray, median: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Return |actual - median| over the distance of the median from the end of the interval on the same side.

    The score is 0 at the median, 1 at an end of the interval, and at most `MAX_SCORE`; NaN if a value is unknown.
    """
    actual, lower, median, upper = (values.astype(np.float64) for values in (actual, lower, median, upper))
    distance = np.abs(actual - median)
    half_width = np.where(actual < median, median - lower, upper - median)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.minimum(np.where(distance == 0, 0.0, distance / half_width), MAX_SCORE)


def flag_part(forecaster: Forecaster, store: Store, items: Items, request: FlagRequest) -> pa.Table:
    """Flag anomalies in some items of a store.

    Columns: item ID and timestamp under the names of the request, `target_name`, the `actual` value, `predictions` (the
    median), `lower` and `upper`, the `score` of `anomaly_scores`, and `is_anomaly`, whether the score is above 1.
    An unknown value has no score and is no anomaly.

    Raises:
        UserError: a single item does not fit into memory, or the model forecasts NaN.
    """
    windows, actual, quantiles = _compare(forecaster, store, items, request)
    lower, median, upper = np.moveaxis(quantiles, -1, 0)
    scores = anomaly_scores(actual, lower, median, upper)
    columns = dict(zip(_COLUMNS, (actual, median, lower, upper, scores, scores > 1)))
    return long_table(store, windows[:, 0], windows[:, 1], columns, request)


def drawn_flags(forecaster: Forecaster, store: Store, request: FlagRequest) -> list[DrawnForecast]:
    """Return a panel with the flags of the first target for each of the first six items that are flagged."""
    shown = np.flatnonzero(store.lengths > request.prediction_length)[:MAX_PANELS]
    band, panels = f"{100 * (request.levels[2] - request.levels[0]):.4g}% band", {}
    for items in [shown] if request.groups(store) is None else request.batches(store):
        if not np.isin(items, shown).any():
            continue
        windows, actual, quantiles = _compare(forecaster, store, items, request)
        for index in np.intersect1d(items, shown).tolist():
            rows = windows[:, 0] == index
            bounds, target = quantiles[rows, 0].reshape(-1, 3).T, actual[rows, 0].ravel()
            panel = drawn_forecast(store, index, int(windows[rows][0, 1]), bounds, target)
            panels[index] = replace(panel, band=band, anomalies=anomaly_scores(target, *bounds) > 1)
    return [panels[index] for index in shown.tolist()]


def _compare(
    forecaster: Forecaster, store: Store, items: Items, request: FlagRequest
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forecast the last horizons of some items from the steps before each.

    Returns:
        item and forecast start of each window, int64, [n, 2]; the actual values, [n, n_targets, prediction_length]; and
        the quantiles at the levels of the request, [n, n_targets, prediction_length, 3].
    """
    length, n_targets = request.prediction_length, len(store.variates.targets)
    starts = [(item, forecast_starts(int(store.lengths[item]), length, request.n_windows)) for item in items]
    windows = np.array([(item, start) for item, begins in starts for start in begins], np.int64).reshape(-1, 2)
    actual = np.empty((len(windows), n_targets, length), np.float32)
    quantiles = np.empty((*actual.shape, len(request.levels)), np.float32)
    groups = _group_numbers(store, windows, request)
    order = np.argsort(windows[:, 1] if groups is None else groups, kind="stable")

    def history(row: int) -> History:
        item, start = windows[row].tolist()
        return store.history(item, start, start + length, length, None if groups is None else int(groups[row]))

    for batch in forecast_in_batches(
        lambda rows: list(map(history, rows)),
        partial(_forecast_interval, forecaster.with_context_length(request.context_length), request),
        split_batches(order, request.batch_size, None if groups is None else groups[order]),
    ):
        names = [store.item_ids[item] for item in windows[batch.indices, 0].tolist()]
        check_finite(batch.histories, batch.output[..., 1], names)
        quantiles[batch.indices] = batch.output.reshape(len(batch.indices), n_targets, length, -1)
    for row, (item, start) in enumerate(windows.tolist()):
        actual[row] = store.rows(item)[:n_targets, start : start + length]
    store.release_pages()
    return windows, actual, quantiles


def _group_numbers(store: Store, windows: np.ndarray, request: FlagRequest) -> np.ndarray | None:
    """Return the number of the group of each window, [n], within which windows see each other; None for none."""
    groups, (items, starts) = request.groups(store), windows.T
    if groups is None:
        return None
    return groups_of_windows(groups[items], store.lengths[items] - starts, request.prediction_length)


def _forecast_interval(forecaster: Forecaster, request: FlagRequest, histories: Sequence[History]) -> np.ndarray:
    """Return quantiles at the levels of the request, [n, prediction_length, 3].

    The samples of a token model are too few for the ends of a wide interval, which follow from the deciles as those of
    other models do.
    """
    if forecaster.trained_levels is not None:
        return forecaster.quantiles(histories, request.prediction_length, request.levels)[0]
    from pipeline.forecasting.forecaster import interpolate_levels

    deciles = forecaster.predict_quantiles(histories, request.prediction_length)
    return interpolate_levels(deciles, np.array(WQL_LEVELS), np.array(request.levels))
