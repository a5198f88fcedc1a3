"""Known covariates at the steps to forecast: a table of their own, fitted to the series it belongs to."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from pipeline.config import Config
from pipeline.core.errors import UserError
from pipeline.core.series import Variates
from pipeline.data.arrow_store import Store
from pipeline.data.frequency import UNKNOWN, steps_between, timestamps
from pipeline.data.source import columns_of, open_source

_UNKNOWN_CATEGORY = -1.0


class Future:
    """The known covariates of every item of a store at the `prediction_length` steps after its end."""

    def __init__(self, table: Store, store: Store, prediction_length: int, where: str) -> None:
        """Fit a table of known covariates to a store.

        Raises:
            UserError: an item has no rows, or misses a value at one of the steps.
        """
        assert table.variates.names == store.variates.known
        self.categories = {name: set(values) for name, values in table.variates.categories.items()}
        self._table, self._prediction_length = table, prediction_length
        self._recoded = [
            _recoding(name, table.variates.categories, store.variates.categories, where)
            for name in table.variates.names
        ]
        places = {name: index for index, name in enumerate(table.item_ids)}
        self._places = np.empty(len(store), np.int64)
        self._begins = np.empty(len(store), np.int64)
        for index, item_id in enumerate(store.item_ids):
            if item_id not in places:
                raise UserError(
                    f"{where} has no row of series {item_id}, whose forecast needs known covariates; add its rows"
                )
            self._places[index] = place = places[item_id]
            length, begin = int(store.lengths[index]), 0
            if store.freq != UNKNOWN:
                # Counted from whichever of the two starts first, so that the table may hold the past too.
                starts = store.starts[index], table.starts[place]
                step = int(steps_between(min(starts), np.array([max(starts)]), store.freq)[0])
                if step < 0:
                    raise UserError(
                        f"{where}: series {item_id} starts at {starts[1]}, off the grid of its history; mend its timestamps"
                    )
                begin = length - step if starts[0] <= starts[1] else length + step
            self._begins[index] = begin
            unknown = np.isnan(self._rows(index))
            if unknown.any():
                missing = int(unknown.any(axis=0).argmax())
                names = [name for name, row in zip(table.variates.names, unknown) if row[missing]]
                at = f"step {missing + 1}"
                if store.freq != UNKNOWN:
                    at = str(
                        timestamps(store.starts[index : index + 1], store.freq, np.array([[length + missing]]))[0, 0]
                    )
                raise UserError(
                    f"{where}: series {item_id} has no {' and no '.join(names)} at {at}; "
                    f"a forecast of {prediction_length} steps needs them at every one"
                )

    def of(self, index: int) -> np.ndarray:
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
        rows, begin = self._table.rows(int(self._places[index])), int(self._begins[index])
        cut = np.full((len(rows), self._prediction_length), np.nan, np.float32)
        if begin >= 0:
            found = rows[:, begin : begin + self._prediction_length]
            cut[:, : found.shape[1]] = found
        return cut


def open_future(
    config: Config, store: Store, prediction_length: int, future_df: pd.DataFrame | None = None
) -> Future | None:
    """Open the table of known covariates, inference.future_path where none is given; None where the series have none.

    Raises:
        UserError: it is missing, wrong, or does not cover the steps to forecast.
    """
    known = store.variates.known
    table = config.inference.future_path if future_df is None else future_df
    if not known:
        if table is not None:
            raise UserError(
                "inference.future_path, or future_df: no data.known_covariates are named that it could hold"
            )
        return None
    if table is None:
        raise UserError(
            f"inference.future_path, or future_df: give a table of {', '.join(known)} at the steps to forecast, or name them as "
            "data.past_covariates"
        )
    columns = replace(columns_of(config), variates=Variates((), (), known))
    opened = open_source(table, config.cache_path(), columns, store.freq or None)
    return Future(opened, store, prediction_length, table if isinstance(table, str) else "the DataFrame of the future")


def _recoding(
    name: str, theirs: Mapping[str, tuple[str, ...]], ours: Mapping[str, tuple[str, ...]], where: str
) -> np.ndarray | None:
    """Return for each category of the table its position among the history's, None for a number."""
    if (name in theirs) != (name in ours):
        kinds = "texts and its history numbers" if name in theirs else "numbers and its history texts"
        raise UserError(f"{where}: the covariate {name} holds {kinds}; write both alike")
    if name not in theirs:
        return None
    positions = {category: float(position) for position, category in enumerate(ours[name])}
    return np.array([positions.get(category, _UNKNOWN_CATEGORY) for category in theirs[name]], np.float32)
