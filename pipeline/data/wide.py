"""Conversion of wide tables, with one column per series or per time step, to long tables, with one row per value."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError
from pipeline.data.dates import DAY_PATTERNS, PERIOD_PATTERN, parse_timestamps
from pipeline.data.rows import SourceLocation

_DATES = [re.compile(form) for form in (rf"(?=(.*\d){{4}})\d[\d\s./:TZ+-]*|{PERIOD_PATTERN}", *DAY_PATTERNS)]


def date_columns(names: list[str]) -> list[str]:
    """Return the columns named by a date, from a year to a time in seconds."""
    return [name for name in names if any(date.fullmatch(name) for date in _DATES)]


def stack_series_columns(
    table: pa.Table, rows: pa.Array, item_id: str, timestamp: str, target: str
) -> tuple[pa.Table, pa.ChunkedArray]:
    """Return a table with one column per series in long form, and the row number of each value; nulls are left out.

    Args:
        rows: number of each row of the table in its source.
        item_id, timestamp, target: names of the columns of the result.
    """
    stamps, numbers = table[timestamp], pa.chunked_array([rows])
    series = [name for name in table.column_names if name != timestamp]
    value_type = _common_type(table, series)
    stacked, stacked_rows = [], []
    for name in series:
        values = table[name].cast(value_type)
        known = values.is_valid()
        columns = {
            item_id: pa.array([name] * pc.sum(known).as_py(), pa.string()),
            timestamp: stamps.filter(known),
            target: values.filter(known),
        }
        stacked.append(pa.table(columns))
        stacked_rows += numbers.filter(known).chunks
    return pa.concat_tables(stacked), pa.chunked_array(stacked_rows)


def stack_date_columns(
    table: pa.Table, rows: pa.Array, item_id: str, timestamp: str, target: str, location: SourceLocation
) -> tuple[pa.Table, pa.Array]:
    """Return a table with one row per series and one column per time step in long form, series by series.

    Arguments and results are those of `stack_series_columns`.

    Raises:
        UserError: a column name is not a valid date or is ambiguous, or two names are the same date.
    """
    steps = date_columns(table.column_names)
    header = SourceLocation(f"{location}, dates of its header")
    stamps = parse_timestamps(pa.chunked_array([steps]), np.arange(len(steps)) + 1, header)
    first = np.unique(stamps, return_index=True)[1]
    if len(first) < len(steps):
        second = next(index for index in range(len(steps)) if index not in first)
        before = int(np.flatnonzero(stamps == stamps[second])[0])
        raise UserError(
            f"{location}: its columns {steps[before]!r} and {steps[second]!r} have the same date; keep one of them"
        )
    shape, value_type = (len(steps), len(table)), _common_type(table, steps)
    values = pa.concat_arrays([table[name].cast(value_type).combine_chunks() for name in steps])
    values = values.take(pa.array(np.arange(len(values)).reshape(shape).T.ravel()))
    table_rows = pa.array(np.arange(len(table)).repeat(len(steps)))
    known = values.is_valid()
    columns = {item_id: table[item_id].take(table_rows), timestamp: np.tile(stamps, len(table)), target: values}
    return pa.table(columns).filter(known), rows.take(table_rows.filter(known))


def _common_type(table: pa.Table, names: list[str]) -> pa.DataType:
    """Return the type that columns are cast to before they are stacked: float64 if all are numbers, else string."""
    types = [table.schema.field(name).type for name in names]
    return pa.float64() if all(map(_is_number, types)) else pa.string()


def _is_number(column_type: pa.DataType) -> bool:
    checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    return any(check(column_type) for check in checks)
