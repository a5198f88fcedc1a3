"""Known covariates at the steps to forecast, from a separate table."""

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from pipeline.config import Config, source_name
from pipeline.core.errors import UserError, first_few
from pipeline.core.series import Variates
from pipeline.data.arrow_store import Store
from pipeline.data.frequency import UNKNOWN, steps_between, timestamps
from pipeline.data.source import columns_from_config, open_configured

logger = logging.getLogger(__name__)
_UNKNOWN_CATEGORY = -1.0  # as `encode_categories` expects it


class FutureCovariates:
    """The known covariates of each item of a store, at the `prediction_length` steps after its end."""

    def __init__(self, table: Store, store: Store, prediction_length: int, location: str) -> None:
        """Align a table of known covariates with a store.

        Args:
            table: the known covariates; it may contain the past too.
            location: name of the table, for messages.

        Raises:
            UserError: an item has no rows, or lacks a value at one of the steps.
        """
        assert table.variates.names == store.variates.known
        self.categories = {name: set(values) for name, values in table.variates.categories.items()}
        self._table, self._prediction_length = table, prediction_length
        self._recoded = [
            _recode_categories(position, table, store.variates.categories, location)
            for position in range(len(table.variates))
        ]
        table_indices = {name: index for index, name in enumerate(table.item_ids)}
        self._table_indices = np.empty(len(store), np.int64)
        self._begins = np.empty(len(store), np.int64)
        for index, item_id in enumerate(store.item_ids):
            if item_id not in table_indices:
                raise UserError(
                    f"{location} has no row of series {item_id}; add its known covariates at the steps to forecast"
                )
            self._table_indices[index] = table_indices[item_id]
            self._begins[index] = _find_begin(table, table_indices[item_id], store, index, prediction_length, location)
            self._check_complete(store, index, location)

    def values(self, index: int) -> np.ndarray:
        """Return the known covariates of one item: float32, [n_known, prediction_length]."""
        rows = self._rows(index)
        for row, recoded in zip(rows, self._recoded):
            if recoded is not None:
                row[:] = recoded[row.astype(np.int64)]
        return rows

    def fingerprint(self) -> str:
        """Return a hash of the table."""
        return self._table.fingerprint

    def _rows(self, index: int) -> np.ndarray:
        """Return the rows of one item with the category positions of the table, NaN for a missing value."""
        rows, begin = self._table.rows(int(self._table_indices[index])), int(self._begins[index])
        horizon = np.full((len(rows), self._prediction_length), np.nan, np.float32)
        if begin >= 0:
            given = rows[:, begin : begin + self._prediction_length]
            horizon[:, : given.shape[1]] = given
        return horizon

    def _check_complete(self, store: Store, index: int, location: str) -> None:
        missing = np.isnan(self._rows(index))
        if not missing.any():
            return
        step = int(missing.any(axis=0).argmax())
        names = [name for name, row in zip(self._table.variates.names, missing) if row[step]]
        time = f"step {step + 1}"
        if store.freq != UNKNOWN:
            steps_after_start = np.array([[store.lengths[index] + step]])
            time = str(timestamps(store.starts[index : index + 1], store.freq, steps_after_start)[0, 0])
        blanks = [name for name in names if name in store.variates.categories]
        advice = f"; if a blank {blanks[0]} means none, write a word such as none in both tables" if blanks else ""
        raise UserError(
            f"{location}: series {store.item_ids[index]} has no {' and no '.join(names)} at {time}; a forecast of "
            f"{self._prediction_length} steps needs known covariates at every step{advice}"
        )


def open_future(
    config: Config, store: Store, prediction_length: int, future_df: pd.DataFrame | None = None
) -> FutureCovariates | None:
    """Open the table of known covariates, or return None if the series have no known covariates.

    Args:
        future_df: the table; None opens inference.future_path.

    Raises:
        UserError: the table is missing or invalid, or does not cover the steps to forecast.
    """
    known = store.variates.known
    table = config.inference.future_path if future_df is None else future_df
    if not known:
        if table is not None:
            raise UserError("inference.future_path: name its columns with data.known_covariates")
        return None
    if table is None:
        raise UserError(
            f"inference.future_path: give a table of {', '.join(known)} at the steps to forecast, or name these "
            "columns with data.past_covariates"
        )
    columns = replace(columns_from_config(config), variates=Variates((), (), known), group=(), fill_missing=None)
    opened = open_configured(config, table, store.freq or None, store.formats, columns)
    location = "the table of the future" if future_df is not None else source_name(table)
    time, history_time = opened.formats.timestamp, store.formats.timestamp
    if history_time is not None and history_time.style == "steps" and (time is None or time.style != "steps"):
        kind = "no timestamps" if time is None else "dates"
        raise UserError(f"{location} has {kind}, but the history has step numbers; write step numbers")
    return FutureCovariates(opened, store, prediction_length, location)


def _find_begin(table: Store, table_index: int, store: Store, index: int, prediction_length: int, location: str) -> int:
    """Return the step of an item of the table that follows the item's last step in the store."""
    length = int(store.lengths[index])
    if store.freq == UNKNOWN and store.formats.timestamp is None:
        n_rows = int(table.lengths[table_index])
        if n_rows > prediction_length:
            raise UserError(
                f"{location} has no timestamps and {n_rows} rows of series {store.item_ids[index]}; give those of the "
                f"{prediction_length} steps to forecast alone"
            )
        return 0
    # Steps are counted from the earlier start, since the table may contain the past too.
    start, table_start = store.starts[index], table.starts[table_index]
    step = int(steps_between(min(start, table_start), np.array([max(start, table_start)]), store.freq)[0])
    if step < 0:
        raise UserError(
            f"{location}: series {store.item_ids[index]} starts at {table_start}, which is not a step of its history "
            f"of frequency {store.freq!r}; fix its timestamps"
        )
    return length - step if start <= table_start else length + step


def _recode_categories(
    position: int, table: Store, history: Mapping[str, tuple[str, ...]], location: str
) -> np.ndarray | None:
    """Return the position among the history's categories of each category of a covariate, None for numbers."""
    name, given = table.variates.names[position], table.variates.categories
    if (name in given) != (name in history):
        if all(np.isnan(table.rows(index)[position]).all() for index in range(len(table))):
            return None  # `_check_complete` names the missing value
        types = "text, but numbers in the history" if name in given else "numbers, but text in the history"
        raise UserError(f"{location}: the covariate {name} is {types}; write it in the same way in both")
    if name not in given:
        return None
    if unknown := [category for category in given[name] if category not in history[name]]:
        logger.warning(
            "%s: the history has no %s %s; the model takes it for an unknown category",
            *(location, name, first_few([repr(category) for category in unknown])),
        )
    positions = {category: float(position) for position, category in enumerate(history[name])}
    return np.array([positions.get(category, _UNKNOWN_CATEGORY) for category in given[name]], np.float32)
