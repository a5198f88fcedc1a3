"""Conversion of tables to series, in one pass over the source.

    tables -> long rows -> formats of the columns -> numbers -> sorted by series and time -> regular grid

The format of a column of texts follows from all its values. Its tables are kept in a spool until then. If all columns
are typed, no spool is needed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError
from pipeline.core.progress import prefetch, progress
from pipeline.core.series import UNIVARIATE, Series
from pipeline.data.column_formats import ColumnFormats, FormatEvidence, format_names, parse_values
from pipeline.data.columns import Columns
from pipeline.data.dates import TimeEvidence, TimeFormat, parse_times
from pipeline.data.grid import Kind, build_series
from pipeline.data.item_ids import SeriesNumbers
from pipeline.data.nested import build_nested_series, check_nested_rows, explode, is_nested, read_freq_column
from pipeline.data.rows import ROW, SourceLocation, checked_types, is_list
from pipeline.data.sorting import Rows, RowSorter
from pipeline.data.spool import Spool
from pipeline.data.wide import stack_series_columns, stack_step_columns


def convert(
    tables: Iterable[pa.Table],
    columns: Columns,
    location: SourceLocation,
    freq: str | None = None,
    remembered: ColumnFormats = ColumnFormats(),
    folder: Path | None = None,
) -> tuple[ColumnFormats, Iterator[Series]]:
    """Return the formats of the columns of tables, and their series.

    A long table has a row for each time step, a wide table a column for each series or time step, and a nested table a
    row for each series. Long and wide rows may have any order.

    Args:
        freq: pandas alias; None infers it from the timestamps.
        remembered: formats of the model or history that the tables belong to.
        folder: folder of temporary files; None is that of the system.

    Raises:
        UserError: a column is missing or ambiguous, or a row is invalid; the message names the row.
    """
    shown = _show_progress(tables, location)
    numbered = _number_rows(shown if isinstance(tables, list) else prefetch(shown), columns, location)
    first = next(numbered, None)
    if first is None:
        raise UserError(f"{location} has no rows")
    numbered = chain([first], numbered)
    headers: dict[bool, TimeEvidence] = {}
    if is_nested(first, columns.variates):
        if columns.wide or len(columns.variates) > 1 or columns.group:
            raise UserError(
                f"{location} has one row per series; for covariates, groups or several targets, write one row per "
                "value; for one target, remove data.wide"
            )
        checked = map(partial(check_nested_rows, columns=columns, location=location), numbered)
        stamps = columns.timestamps[0]
        if stamps not in first.column_names or not is_list(first.schema.field(stamps).type):
            return ColumnFormats(), build_nested_series(checked, columns, location, freq, remembered.timestamp, folder)
        freq = freq or read_freq_column(first, location) or None
        numbered = explode(checked, location)
        columns = replace(columns, item_id="item_id", timestamp="timestamp", variates=UNIVARIATE)
    elif columns.wide:
        timestamp = remembered.timestamp
        numbered = (_stack(table, columns, timestamp, headers, location) for table in numbered)
        if not set(columns.timestamps) <= set(first.column_names):
            remembered = replace(remembered, timestamp=None)  # it is that of the header
    items = SeriesNumbers(location)
    long: Iterator[pa.Table] = (_standardize(table, columns, items) for table in numbered)
    formats, long = _decide_formats(long, columns, location, remembered, folder)
    names = format_names(columns.variates)
    categories: dict[str, dict[str, int]] = {name: {} for name in names}
    sorter = RowSorter(len(names), folder)
    for table in long:
        sorter.add(_parse_rows(table, formats, categories, columns, location))
    items.check_names()
    for header in headers.values():
        formats = replace(formats, timestamp=header.decide())
    known = {name: tuple(positions) for name, positions in categories.items() if positions}
    is_single = len(columns.variates) == len(columns.variates.targets) == 1
    variates = UNIVARIATE if is_single else replace(columns.variates, categories=known)
    location.is_utc = formats.timestamp is not None and formats.timestamp.zone == "utc"
    kind: Kind = "none" if formats.timestamp is None else "steps" if formats.timestamp.style == "steps" else "dates"
    kind = "columns" if kind == "steps" and headers else kind
    series = build_series(sorter, list(items.codes), columns, location, freq, kind, variates, remembered.freq)
    groups = items.groups()
    return formats, (replace(item, group=groups[item.item_id]) for item in series) if columns.group else series


def _show_progress(tables: Iterable[pa.Table], location: SourceLocation) -> Generator[pa.Table, None, None]:
    """Yield tables, and show a bar with the rows read and the time left if it takes longer than two seconds."""
    n_rows = percent = 0
    with progress(None, 100, "%", f"reading {location}", delay=2) as bar:
        for table in tables:
            n_rows += len(table)
            bar.set_postfix_str(f"{n_rows:,} rows", refresh=False)
            bar.update(int(100 * location.fraction_read) - percent)
            percent = int(100 * location.fraction_read)
            yield table
        bar.update(100 - percent)


def _number_rows(tables: Iterable[pa.Table], columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    """Yield the tables that have rows, with the column `ROW`: numbers of the rows from 1. Empty rows are dropped."""
    n_rows = n_empty = 0
    for table in tables:
        if len(table):
            table = checked_types(table, location)
            numbers = np.arange(n_rows + 1, n_rows + 1 + len(table))
            n_rows += len(table)
            if (is_empty := _find_empty_rows(table, columns)) is not None:
                n_empty += int(is_empty.sum())
                table, numbers = table.filter(pa.array(~is_empty)), numbers[~is_empty]
            if len(table):
                yield table.append_column(ROW, pa.array(numbers))
    if n_empty:
        location.warn_once(f"{n_empty} empty rows are dropped, which have no value in any column that is read")


def _find_empty_rows(table: pa.Table, columns: Columns) -> np.ndarray | None:
    """Return which rows have no value in any column: bool, [n]; None if there are no item IDs and timestamps, so that
    such a row is a missing step, or if all rows have them."""
    keys = {*columns.item_ids, *columns.timestamps} & set(table.column_names)
    if not keys or not all(table[name].null_count for name in keys):
        return None
    return np.logical_and.reduce([column.is_null(nan_is_null=True).to_numpy() for column in table.columns])


def _stack(
    table: pa.Table,
    columns: Columns,
    remembered: TimeFormat | None,
    headers: dict[bool, TimeEvidence],
    location: SourceLocation,
) -> pa.Table:
    """Return a wide table in long form, under the configured names."""
    if set(columns.timestamps) <= set(table.column_names):
        stacked = stack_series_columns(table, columns.timestamps, location)
        return stacked.rename_columns({"item_id": columns.item_ids[0], "target": columns.target})
    stacked = stack_step_columns(table, columns.item_ids, columns.timestamp_format, remembered, headers, location)
    return stacked.rename_columns({"timestamp": columns.timestamps[0], "target": columns.target})


def _standardize(table: pa.Table, columns: Columns, items: SeriesNumbers) -> pa.Table:
    """Return a long table with the columns `code`, `ROW`, `timestamp` if there is one, and `value NAME` per variate."""
    codes = items.encode(table, columns.item_ids)
    if columns.group:
        items.add_groups(table, columns.group, codes)
    result = {"code": pa.array(codes), ROW: table[ROW]}
    stamps = [name for name in columns.timestamps if name in table.column_names]
    if stamps:
        column = _join_timestamps([table[name] for name in stamps]) if len(stamps) > 1 else table[stamps[0]]
        result["timestamp"] = column.dictionary_encode() if pa.types.is_string(column.type) else column
    for name, column in zip(format_names(columns.variates), columns.variates.names):
        result[f"value {name}"] = table[column]
    return pa.table(result)


def _join_timestamps(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    """Return the texts of several columns, joined by a space. A midnight in the first column is left out."""
    date, *others = (column.cast(pa.string()) for column in columns)
    date = pc.replace_substring_regex(date, r"[ T]00:00:00(\.0+)?$", "")
    return pc.binary_join_element_wise(date, *others, " ")


def _decide_formats(
    tables: Iterator[pa.Table],
    columns: Columns,
    location: SourceLocation,
    remembered: ColumnFormats,
    folder: Path | None,
) -> tuple[ColumnFormats, Iterator[pa.Table]]:
    """Return the formats of the columns, and the tables."""
    evidence = FormatEvidence(columns.variates, location, columns.timestamp_format, columns.missing_values, remembered)
    first = next(tables)
    evidence.add(first)
    if location.has_types and not _needs_evidence(first.schema):
        return evidence.decide(columns.decimal), _require_types(chain([first], tables), location)
    spool = Spool(folder)
    spool.append(first)
    for table in tables:
        evidence.add(table)
        spool.append(table)
    return evidence.decide(columns.decimal), prefetch(spool.drain())


def _needs_evidence(schema: pa.Schema, allow_null: bool = False) -> bool:
    """Return whether a column can only be decided from all its values.

    Args:
        allow_null: whether a column of values may be of the type null, which fits any format.
    """
    for name in schema.names:
        kind = schema.field(name).type
        if name == "timestamp":
            typed = pa.types.is_date(kind) or pa.types.is_timestamp(kind) and kind.tz is None
        else:
            typed = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
            typed = typed or allow_null and pa.types.is_null(kind)
        if not typed:
            return True
    return False


def _require_types(tables: Iterator[pa.Table], location: SourceLocation) -> Iterator[pa.Table]:
    """Yield tables of typed columns."""
    has_timestamps: bool | None = None
    for table in tables:
        row = location.describe_row(table[ROW][0].as_py())
        if has_timestamps not in (None, "timestamp" in table.column_names):
            raise UserError(f"{location}: only some files have a timestamp column, see {row}; write it in all or none")
        if _needs_evidence(table.schema, allow_null=True):
            raise UserError(f"{location}: {row} has other column types than the rows before it; write the same types")
        has_timestamps = "timestamp" in table.column_names
        yield table


def _parse_rows(
    table: pa.Table,
    formats: ColumnFormats,
    categories: dict[str, dict[str, int]],
    columns: Columns,
    location: SourceLocation,
) -> Rows:
    """Return the rows of a long table as numbers."""
    numbers = table[ROW].to_numpy()
    stamps = numbers
    if formats.timestamp is not None:
        if "timestamp" not in table.column_names:
            raise UserError(
                f"{location}: {location.describe_row(int(numbers[0]))} has no timestamp column; add it to all files"
            )
        stamps = parse_times(table["timestamp"], formats.timestamp, numbers, location).astype(np.int64)
    values = np.empty((len(numbers), len(formats.values)))
    for position, (name, value_format) in enumerate(formats.values.items()):
        column = table[f"value {name}"]
        parsed = parse_values(column, value_format, categories[name], numbers, location, name, columns.missing_values)
        values[:, position] = parsed
    return Rows(table["code"].to_numpy(), stamps, numbers, values)
