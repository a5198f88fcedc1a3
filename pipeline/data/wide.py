"""Conversion of wide tables, with one column per series or per time step, to long tables, with one row per value."""

import re

import numpy as np
import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.data.date_styles import DAY_PATTERNS, PERIOD_PATTERN, read_texts
from pipeline.data.dates import TimeEvidence, TimeFormat, parse_times
from pipeline.data.numbers import NUMBER_TYPES, neutral_text, to_float64
from pipeline.data.rows import ROW, SourceLocation, is_text

_DATES = [re.compile(form) for form in (rf"(?=(.*\d){{4}})\d[\d\s./:TZ+-]*|{PERIOD_PATTERN}", *DAY_PATTERNS)]
_NUMBERED = re.compile(r"([A-Za-z]{0,8}[ _-]?)0*(\d+)")
_YEAR_PREFIXES = ("", "x", "y", "yr", "year", "fy")
"""Letters before the years of a header; after others, numbers between 1700 and 2199 are steps, such as d_1941 in M5."""
_MIN_NUMBERED = 3  # fewer numbered names may be attributes, such as address1 and address2


def step_columns(names: list[str], timestamp_format: str | None = None) -> list[str]:
    """Return the columns named by a date, or if there are none, those with the same prefix and a number, such as d_1.

    Args:
        names: the columns.
        timestamp_format: data.timestamp_format, which the names of dates may have.

    Raises:
        UserError: the columns with numbers have several prefixes.
    """
    return _date_columns(names, timestamp_format) or _numbered_columns(names)


def _date_columns(names: list[str], timestamp_format: str | None) -> list[str]:
    if timestamp_format is not None and "%" in timestamp_format:
        times = read_texts(pa.array(names, pa.string()), f"format:{timestamp_format}")
        if dates := [names[position] for position in np.flatnonzero(~np.isnat(times.local))]:
            return dates
    return [name for name in names if any(date.fullmatch(name) for date in _DATES)]


def _numbered_columns(names: list[str]) -> list[str]:
    by_prefix: dict[str, list[str]] = {}
    for name in names:
        if match := _NUMBERED.fullmatch(name):
            by_prefix.setdefault(match[1], []).append(name)
    found = [group for group in by_prefix.values() if len(group) >= _MIN_NUMBERED]
    if len(found) > 1:
        first, second = found[0][0], found[1][0]
        raise UserError(
            f"data.wide: columns such as {first!r} and {second!r} are numbered; keep only those of the steps, or set "
            "data.timestamp_format, such as '%b-%y', if they are dates"
        )
    return found[0] if found else []


def stack_series_columns(table: pa.Table, timestamps: tuple[str, ...], location: SourceLocation) -> pa.Table:
    """Return the long form of a table with one column per series: one row per cell, series by series.

    Args:
        table: the columns of the series, those of the timestamps, and `ROW`.
        timestamps: the columns of the timestamps.

    Returns:
        The columns `item_id`, those of the timestamps, `target` and `ROW`.
    """
    series = [name for name in table.column_names if name not in (*timestamps, ROW)]
    names = pa.DictionaryArray.from_arrays(np.repeat(np.arange(len(series)), len(table)), pa.array(series, pa.string()))
    repeated = pa.concat_tables([table.select([*timestamps, ROW])] * len(series)).combine_chunks()
    return repeated.append_column("item_id", names).append_column("target", _concat_columns(table, series, location))


def stack_step_columns(
    table: pa.Table,
    item_ids: tuple[str, ...],
    timestamp_format: str | None,
    remembered: TimeFormat | None,
    headers: dict[bool, TimeEvidence],
    location: SourceLocation,
) -> pa.Table:
    """Return the long form of a table with one row per series and one column per time step.

    Blank cells after the last value of a row are missing values if the columns are named by dates, as in the long form
    of the table. Numbered columns count the steps of each series, so a series ends with its last value.

    Args:
        table: the columns of the steps, those of the item ID, and `ROW`.
        timestamp_format, remembered: as in `FormatEvidence`, for the dates of the header.
        headers: evidence of the headers of all files, by whether their columns are numbered; that of this one is added.

    Returns:
        The columns of the item ID, `timestamp` (a step as seconds after 1970), `target` and `ROW`.

    Raises:
        UserError: a column name is not a valid date or is ambiguous, two names are the same date, or a file before it
            has dates and this one numbers, or the other way round.
    """
    steps = [name for name in table.column_names if name not in (*item_ids, ROW)]
    numbered = [_NUMBERED.fullmatch(name) for name in steps]
    is_numbered = all(numbered) and not _date_columns(steps[:1], timestamp_format)
    names = pa.chunked_array([pa.array([match[2] for match in numbered if match] if is_numbered else steps)])
    is_year = all(match[1].strip(" _-").lower() in _YEAR_PREFIXES for match in numbered if match)
    timestamp_format = timestamp_format or ("steps" if is_numbered and not is_year else None)
    header, numbers = SourceLocation(f"{location}, dates of its header"), np.arange(len(steps)) + 1
    evidence = headers.setdefault(timestamp_format == "steps", TimeEvidence(header, timestamp_format, remembered))
    if len(headers) > 1:
        row = location.describe_row(table[ROW][0].as_py())
        raise UserError(f"{location}: some files have numbered columns and others dates, see {row}; write one form")
    evidence.add(names, numbers)
    time_format = evidence.decide()
    stamps = parse_times(names, time_format, numbers, header)
    order = np.argsort(stamps, kind="stable")
    if (repeated := np.flatnonzero(stamps[order][1:] == stamps[order][:-1])).size:
        first, second = (steps[int(index)] for index in order[repeated[0] : repeated[0] + 2])
        raise UserError(f"{location}: its columns {first!r} and {second!r} have the same date; keep one of them")
    values = _concat_columns(table, steps, location)
    stacked = pa.concat_tables([table.select([*item_ids, ROW])] * len(steps)).combine_chunks()
    stacked = stacked.append_column("timestamp", pa.array(stamps.repeat(len(table)))).append_column("target", values)
    if time_format.style != "steps":
        return stacked
    # Blank cells are most of the padding; other forms of missing values are removed with the series.
    known = values.is_valid().to_numpy(zero_copy_only=False).reshape(len(steps), len(table))
    is_kept = np.logical_or.accumulate(known[::-1], axis=0)[::-1]
    is_kept[0] = True  # a series without a value is reported later
    return stacked.filter(pa.array(is_kept.ravel()))


def _concat_columns(table: pa.Table, names: list[str], location: SourceLocation) -> pa.Array:
    """Return the values of columns, one after the other, as texts if one has texts; null for an empty text.

    Raises:
        UserError: a column has neither numbers nor texts.
    """
    columns = []
    for name in names:
        column = table[name]
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not is_text(kind) and not any(check(kind) for check in NUMBER_TYPES):
            raise UserError(f"{location}: the column {name} has the type {kind}, not numbers; convert or remove it")
        columns.append(column.cast(kind))
    if any(is_text(column.type) for column in columns):
        columns = [column if is_text(column.type) else _neutral_texts(column) for column in columns]
        return pa.concat_arrays([column.cast(pa.string()).combine_chunks() for column in columns])
    return pa.concat_arrays([to_float64(column).combine_chunks() for column in columns])


def _neutral_texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    column = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
    return pa.chunked_array([pa.array(map(neutral_text, column.to_pylist()), pa.string())])
