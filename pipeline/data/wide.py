"""Tables with a column a series, or a column a time step, as tables with a row a value."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError
from pipeline.data.dates import NAMED_DAYS, PERIOD, seconds_of
from pipeline.data.rows import SourceLocation

_DATES = [re.compile(form) for form in (rf"(?=(.*\d){{4}})\d[\d\s./:TZ+-]*|{PERIOD}", *NAMED_DAYS)]


def dated(names: list[str]) -> list[str]:
    """Return the columns that are named by a date, from a year to seconds."""
    return [name for name in names if any(date.fullmatch(name) for date in _DATES)]


def of_columns(
    table: pa.Table, rows: pa.Array, item_id: str, timestamp: str, target: str
) -> tuple[pa.Table, pa.ChunkedArray]:
    """Return the values of a column a series, and the row of each; what is empty is left out.

    Args:
        rows: the row of the file that each row of the table is.
        item_id, timestamp, target: what the columns are named that come of it.
    """
    stamps, numbers = table[timestamp], pa.chunked_array([rows])
    series = [name for name in table.column_names if name != timestamp]
    kind = _kind(table, series)
    parts, of_parts = [], []
    for name in series:
        values = table[name].cast(kind)
        known = values.is_valid()
        columns = {
            item_id: pa.array([name] * pc.sum(known).as_py(), pa.string()),
            timestamp: stamps.filter(known),
            target: values.filter(known),
        }
        parts.append(pa.table(columns))
        of_parts += numbers.filter(known).chunks
    return pa.concat_tables(parts), pa.chunked_array(of_parts)


def of_rows(
    table: pa.Table, rows: pa.Array, item_id: str, timestamp: str, target: str, where: SourceLocation
) -> tuple[pa.Table, pa.Array]:
    """Return the values of a row a series and a column a time step, series by series; as `of_columns` else.

    Raises:
        UserError: a name that looks like a date is none, or may mean two, or two mean the same.
    """
    steps = dated(table.column_names)
    stamps = seconds_of(
        pa.chunked_array([steps]), np.arange(len(steps)) + 1, SourceLocation(f"{where}, dates of its header")
    )
    first = np.unique(stamps, return_index=True)[1]
    if len(first) < len(steps):
        twice = next(at for at in range(len(steps)) if at not in first)
        before = int(np.flatnonzero(stamps == stamps[twice])[0])
        raise UserError(
            f"{where}: its columns {steps[before]!r} and {steps[twice]!r} are of one time; keep one of them"
        )
    shape, kind = (len(steps), len(table)), _kind(table, steps)
    values = pa.concat_arrays([table[name].cast(kind).combine_chunks() for name in steps])
    values = values.take(pa.array(np.arange(len(values)).reshape(shape).T.ravel()))
    of_row = pa.array(np.arange(len(table)).repeat(len(steps)))
    known = values.is_valid()
    columns = {item_id: table[item_id].take(of_row), timestamp: np.tile(stamps, len(table)), target: values}
    return pa.table(columns).filter(known), rows.take(of_row.filter(known))


def _kind(table: pa.Table, names: list[str]) -> pa.DataType:
    """Return what some columns can be cast to together: numbers where all are, else texts."""
    kinds = [table.schema.field(name).type for name in names]
    return pa.float64() if all(map(_is_number, kinds)) else pa.string()


def _is_number(kind: pa.DataType) -> bool:
    return (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    )
