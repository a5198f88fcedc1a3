"""Requests: horizon, quantile levels and known covariates of the forecasts of a store, checked against the model."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.config import Config, InferenceConfig, listed
from pipeline.core.batches import split_batches
from pipeline.core.checks import check_memory
from pipeline.core.errors import UserError, first_few
from pipeline.core.metrics import WQL_LEVELS
from pipeline.core.series import History, Panel
from pipeline.data.arrow_store import Store, store_from_arrays
from pipeline.data.frequency import UNKNOWN, timestamps
from pipeline.data.future import FutureCovariates, open_future
from pipeline.data.numbers import array_to_float32

if TYPE_CHECKING:
    from pipeline.forecasting.forecaster import Forecaster

_MAX_CHECKED_SERIES = 10_000
"""Maximum number of series that are checked for an early end, so that opening a large store stays fast."""
_LAST_DATE = np.datetime64("9999-12-31T23:59:59", "s")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """Settings of the forecasts of a store."""

    prediction_length: int
    """Steps of the horizon."""
    levels: Sequence[float]
    """Quantile levels, each between 0 and 1."""
    context_length: int | None = None
    """Maximum number of history steps that the model sees; None for all."""
    batch_size: int = 64
    """Items a forward pass."""
    target_names: Sequence[str] | None = None
    """Names of the targets in the table; None for the names in the store."""
    id_name: str = "item_id"
    """Name of the column of item IDs in the table."""
    timestamp_name: str = "timestamp"
    """Name of the column of timestamps in the table."""
    future: FutureCovariates | None = None
    """Known covariates at the steps to forecast."""
    cross_learning: bool = False
    """Whether the items of a batch see each other if the store has no groups."""
    max_part_size: int = 4096
    """Maximum number of items that are forecast between two writes; an interrupted forecast loses no more."""

    def __post_init__(self) -> None:
        if self.prediction_length < 1:
            raise UserError(f"prediction_length must be at least 1, got {self.prediction_length}")
        taken = {"target_name", "predictions", *map(str, self.levels)} & {self.id_name, self.timestamp_name}
        if taken or self.id_name == self.timestamp_name:
            name = next(iter(taken), self.id_name)
            raise UserError(f"the table of forecasts has two columns {name!r}; rename the column of your series")

    @property
    def steps_per_target(self) -> int:
        """Maximum number of rows of a target in the table."""
        return self.prediction_length

    @staticmethod
    def from_config(inference: InferenceConfig, prediction_length: int) -> Request:
        """Return the request of a configuration, without covariates."""
        return Request(
            prediction_length,
            inference.quantiles,
            inference.context_length,
            inference.batch_size,
            cross_learning=inference.cross_learning,
        )

    def groups(self, store: Store) -> np.ndarray | None:
        """Return the number of the group of each item, [n], within which items see each other; None for none."""
        return store.shared_groups(self.cross_learning)

    def batches(self, store: Store) -> list[np.ndarray]:
        """Return the items of each batch: in their order, or group by group in the order of the first items."""
        groups = self.groups(store)
        order = np.arange(len(store)) if groups is None else np.argsort(groups, kind="stable")
        return split_batches(order, self.batch_size, None if groups is None else groups[order])

    def histories(self, store: Store, indices: Iterable[int]) -> list[History]:
        """Return the values from which the forecast of each item of a store starts, which the forecaster shortens."""
        groups = self.groups(store)
        return [self._history(store, int(index), None if groups is None else int(groups[index])) for index in indices]

    def _history(self, store: Store, index: int, group: int | None) -> History:
        rows = store.rows(index)
        if len(store.variates) == 1 and group is None:
            return rows[0]
        future = np.full((len(rows), self.prediction_length), np.nan, np.float32)
        if self.future is not None:
            future[-len(store.variates.known) :] = self.future.values(index)
        return Panel(rows, future, store.variates, group)


def make_request(
    config: Config, forecaster: Forecaster, store: Store, prediction_length: int, future_df: pd.DataFrame | None = None
) -> Request:
    """Return the request of a configuration for a store, checked against the model.

    Args:
        future_df: known covariates at the steps to forecast; None takes them from inference.future_path.

    Raises:
        UserError: the table of known covariates is wrong, or the model does not take a variate or category of the data.
    """
    check_variates(forecaster, store)
    future = open_future(config, store, prediction_length, future_df)
    check_categories(forecaster, store, future)
    request = Request.from_config(config.inference, prediction_length)
    request = replace(request, future=future, **column_names(config, store))
    check_request(forecaster, store, request)
    return request


def column_names(config: Config, store: Store) -> dict[str, Any]:
    """Return the names of targets and columns in a table of forecasts, as fields of `Request`."""
    named, targets = config.data.variates().targets, store.variates.targets
    return {
        # A store may have been converted under another name of its only target.
        "target_names": named if len(named) == len(store.variates) == 1 else targets,
        "id_name": "/".join(listed(config.data.id_column)),
        "timestamp_name": " ".join(listed(config.data.timestamp_column)),
    }


def check_request(forecaster: Forecaster, store: Store, request: Request) -> None:
    """Refuse groups that the model does not take, and horizons that are too long for the memory or the calendar.

    Forecasts beyond the training of the model are warned about.

    Raises:
        UserError: as described.
    """
    n_values = request.prediction_length * len(store.variates.targets) * (len(request.levels) + len(WQL_LEVELS))
    need = f"a forecast of {request.prediction_length} steps at {len(request.levels)} levels"
    check_memory("inference.prediction_length", n_values * np.dtype(np.float32).itemsize, need)
    check_groups(forecaster.family, store, request.cross_learning, request.batch_size)
    _warn_about_early_ends(store, request.prediction_length)
    _warn_about_constant_series(store)
    longest = int(store.lengths.max(initial=0))
    if request.prediction_length > longest:
        logger.warning(
            "the horizon of %d steps is longer than every series (the longest has %d steps)",
            request.prediction_length,
            longest,
        )
    if request.prediction_length > forecaster.horizon:
        logger.info(
            "the horizon of %d steps exceeds the model's %d, so later steps are forecast from earlier forecasts",
            request.prediction_length,
            forecaster.horizon,
        )
    warn_about_levels(forecaster, request.levels)


def check_variates(forecaster: Forecaster, store: Store) -> None:
    """Refuse covariates and several targets for a model that does not take them.

    Raises:
        UserError: there are such variates.
    """
    if len(store.variates) > 1 and forecaster.family != "chronos-2":
        raise UserError(
            f"data: {', '.join(store.variates.names[1:])} beside {store.variates.targets[0]}: only Chronos-2 takes "
            f"covariates and several targets, and this is a {forecaster.family} model; name one column in data.target"
        )


def check_groups(family: str | None, store: Store, cross_learning: bool, batch_size: int) -> None:
    """Refuse groups and cross-learning for a model that forecasts each series alone; warn about groups that are cut.

    Raises:
        UserError: the model is not Chronos-2.
    """
    if store.shared_groups(cross_learning) is not None and family != "chronos-2":
        key = "inference.cross_learning" if store.groups is None else "data.group_column"
        raise UserError(f"{key}: only Chronos-2 forecasts series together, and this is a {family} model; leave it out")
    if store.groups is not None:
        is_large = np.bincount(store.groups) > batch_size
        if is_large.any():
            logger.warning(
                "%d groups have more than %d series, the batch size, and are cut into batches: %s",
                np.count_nonzero(is_large),
                batch_size,
                first_few([store.group_names[group] for group in np.flatnonzero(is_large).tolist()]),
            )


def warn_about_levels(forecaster: Forecaster, levels: Sequence[float]) -> None:
    """Warn about quantile levels that the model was not trained for."""
    extrapolated = forecaster.extrapolated_levels(levels)
    if extrapolated and forecaster.has_single_level:
        logger.warning(
            "the model has the level %s only, so its forecast is the same at every level", forecaster.trained_levels
        )
    elif extrapolated:
        logger.warning(
            "quantile levels %s are outside the trained levels, so they are extrapolated by a normal distribution",
            ", ".join(map(str, extrapolated)),
        )


def _warn_about_early_ends(store: Store, prediction_length: int) -> None:
    """Warn about series that end more than the horizon before the latest series.

    Raises:
        UserError: a forecast ends after the year 9999.
    """
    if store.freq == UNKNOWN:
        return
    starts, lengths = store.starts[:_MAX_CHECKED_SERIES], store.lengths[:_MAX_CHECKED_SERIES]
    last_steps = timestamps(starts, store.freq, lengths[:, None] + [[-1, prediction_length - 1]])  # known, forecast
    if last_steps.max() > _LAST_DATE:
        raise UserError(
            f"inference.prediction_length: {prediction_length} steps end after the year 9999, the last one that files "
            "of forecasts can contain; set a shorter horizon"
        )
    ended = last_steps[:, 1] < last_steps[:, 0].max()
    if ended.any():
        index = int(ended.argmax())
        logger.warning(
            "%d series end so early that all their forecasts are in the past, such as %s, which ends at %s; remove "
            "series that are no longer observed",
            np.count_nonzero(ended),
            store.item_ids[index],
            last_steps[index, 0],
        )


def _warn_about_constant_series(store: Store) -> None:
    """Warn about series whose forecast has no interval."""
    constant = []
    for index in range(min(len(store), _MAX_CHECKED_SERIES)):
        values = store.target(index)
        known = values[~np.isnan(values)]
        if len(known) and (known == known[0]).all():
            constant.append(store.item_ids[index])
    if constant:
        logger.warning(
            "%d series have a single value, or the same one at every step; it is their forecast, and its interval has "
            "no width: %s",
            len(constant),
            first_few(constant),
        )


def check_categories(forecaster: Forecaster, store: Store, future: FutureCovariates | None) -> None:
    """Refuse categories of covariates that the model was not trained with, and warn about missing covariates.

    A model that was trained elsewhere, or without covariates, takes any.

    Raises:
        UserError: there is such a category.
    """
    trained = forecaster.trained_variates
    missing = [name for role in ("past", "known") for name in trained.get(role, ()) if name not in store.variates.names]
    if missing:
        logger.warning("the model was trained with the covariates %s, which the data lack", first_few(missing))
    for name, categories in trained.get("categories", {}).items():
        given = set(store.variates.categories.get(name, ()))
        if future is not None:
            given |= future.categories.get(name, set())
        unseen = sorted(given - set(categories))
        if unseen:
            raise UserError(
                f"the covariate {name} has the categories {first_few(unseen)}, which the model was not trained with. "
                f"It knows {first_few(categories)}. Use these names, or retrain the model"
            )


def array_store(context: np.ndarray) -> Store:
    """Return an array of series, [batch, length] or [length], as a store in memory.

    Raises:
        UserError: the context is not such an array.
    """
    if isinstance(context, pd.DataFrame):
        raise UserError("predict takes an array or a store; use predict_df for a DataFrame")
    if isinstance(context, (str, Path)):
        raise UserError(f"{context} is a path; open it with open_source of pipeline.data.source, and pass the store")
    try:
        context = np.asanyarray(context)
    except ValueError as error:
        raise UserError("the series have unequal lengths; pad them with NaN on the left, or pass a store") from error
    if context.ndim not in (1, 2) or not context.size:
        raise UserError(f"context must have the shape [batch, length] and values, got {list(context.shape)}")
    return store_from_arrays(array_to_float32(np.atleast_2d(context), "context"))
