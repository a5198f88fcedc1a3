"""Nested tables, with a row for each series and its values in a list, as series or as long tables."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError, first_few
from pipeline.core.series import UNIVARIATE, Series, Variates
from pipeline.data.columns import Columns
from pipeline.data.dates import TimeEvidence, TimeFormat, parse_times
from pipeline.data.frequency import UNKNOWN, align_starts, parse_freq
from pipeline.data.grid import EPOCH, SeriesChecks
from pipeline.data.item_ids import encode_ids, refuse_repeated_ids
from pipeline.data.numbers import NumberEvidence, NumberFormat, decide_numbers, parse_numbers
from pipeline.data.rows import ROW, SourceLocation, is_list, is_text, refuse_rows
from pipeline.data.spool import Spool


def is_nested(table: pa.Table, variates: Variates) -> bool:
    """Return whether a table has lists of values, so that each row is a series."""
    names = [name for name in variates.names if name in table.column_names]
    return any(is_list(table.schema.field(name).type) for name in names)


def check_nested_rows(table: pa.Table, columns: Columns, location: SourceLocation) -> pa.Table:
    """Return a nested table with standard column names and item IDs, by default the positions of the rows."""
    rows = table[ROW].to_numpy()
    if len(columns.timestamps) > 1:
        raise UserError(
            f"{location} has one row per series, which takes one column of timestamps, not "
            f"{' and '.join(columns.timestamps)}; join them, and set data.timestamp_column"
        )
    if not is_list(table.schema.field(columns.target).type):
        row = location.describe_row(rows[0])
        raise UserError(f"{location}: {row} has no list of values, unlike the rows before it")
    refuse_rows(table[columns.target].is_null().to_numpy(), rows, location, "has no target")
    found = encode_ids(table, columns.item_ids, location)
    names, positions = found or ([str(number - 1) for number in rows], np.arange(len(rows)))
    metadata, standard = table.schema.metadata, {columns.timestamps[0]: "timestamp", columns.target: "target"}
    named = columns.timestamps[0] if columns.timestamps != Columns().timestamps else "start"
    if named != "start" and {named, "start"} <= set(table.column_names):
        table = table.drop_columns("start")  # the named column has the starts
    table = table.drop_columns([name for name in columns.item_ids if name in table.column_names])
    table = table.rename_columns([standard.get(name, name) for name in table.column_names])
    table = table.append_column("item_id", pa.DictionaryArray.from_arrays(positions, names))
    return table.replace_schema_metadata(metadata)


def explode(tables: Iterator[pa.Table], location: SourceLocation) -> Iterator[pa.Table]:
    """Yield the long form of nested tables with a list of timestamps per series."""
    empty: list[str] = []
    freq: str | None = None
    for table in tables:
        table_freq = read_freq_column(table, location)
        if freq not in (None, table_freq):
            row = location.describe_row(int(table[ROW][0].as_py()))
            raise UserError(
                f"{location}: {row} has the freq {table_freq!r}, and the rows before it have {freq!r}; write a "
                "separate file for each frequency"
            )
        freq = table_freq
        is_empty = pc.equal(pc.list_value_length(table["target"]), 0)
        empty += table["item_id"].filter(is_empty).cast(pa.string()).to_pylist()
        yield _explode(table, location)
    if empty:
        location.warn_once(f"{len(empty)} series have no time steps and are left out: {first_few(empty)}")


def _explode(table: pa.Table, location: SourceLocation) -> pa.Table:
    rows = table[ROW].to_numpy()
    if "timestamp" not in table.column_names or not is_list(table.schema.field("timestamp").type):
        raise UserError(
            f"{location}: {location.describe_row(rows[0])} has no list of timestamps, unlike the rows before it"
        )
    lengths = pc.list_value_length(table["target"])
    different = pc.not_equal(lengths, pc.fill_null(pc.list_value_length(table["timestamp"]), -1))
    refuse_rows(different.to_numpy(), rows, location, "has different numbers of timestamps and values")
    columns = {name: pc.list_flatten(table[name]) for name in ("timestamp", "target")}
    parents = pa.array(np.repeat(np.arange(len(table)), lengths.to_numpy()))
    return pa.table({**columns, **{name: table[name].take(parents) for name in ("item_id", ROW)}})


def build_nested_series(
    tables: Iterator[pa.Table],
    columns: Columns,
    location: SourceLocation,
    configured: str | None,
    remembered: TimeFormat | None,
    folder: Path | None,
) -> Iterator[Series]:
    """Yield the series of nested tables, each with a start or without timestamps."""
    checks = SeriesChecks(columns, UNIVARIATE, location)
    chunks: list[pa.Array] = []  # of item IDs; a million take about 20 MB
    first, freq = None, UNKNOWN
    number_format, time_format, tables = _decide_formats(tables, columns, location, remembered, folder)
    for table in tables:
        rows = table[ROW].to_numpy()
        table_freq = configured or (table.schema.metadata or {}).get(b"freq", b"").decode()
        table_freq = table_freq or read_freq_column(table, location)
        if table_freq != UNKNOWN:
            try:
                parse_freq(table_freq)
            except UserError as error:
                raise UserError(f"{location}: {error}") from error
        if first is None:
            first = freq = table_freq
        elif table_freq != first:
            raise UserError(
                f"{location}: {location.describe_row(int(rows[0]))} has the frequency {table_freq!r}, and the rows "
                f"before it have {first!r}; write a separate file for each frequency, or set data.freq"
            )
        start_column = _start_column(table)
        starts = np.full(len(table), EPOCH)
        if start_column is not None and freq == UNKNOWN:
            location.warn_once(
                f"the column {start_column} is ignored, because the rows have no frequency; set data.freq"
            )
        elif start_column is not None and time_format.style == "steps":
            raise UserError(
                f"{location}: the column {start_column} has step numbers, which have no frequency such as {freq!r}; "
                f"write dates, or remove the column {start_column}"
            )
        elif start_column is not None:
            freq, starts = align_starts(parse_times(table[start_column], time_format, rows, location), freq)
        lengths = pc.list_value_length(table["target"]).to_numpy()
        value_rows, values = np.repeat(rows, lengths), pc.list_flatten(table["target"])
        parsed = parse_numbers(values, number_format, value_rows, location, "target", columns.missing_values)
        ends, names = np.cumsum(lengths), table["item_id"].cast(pa.string()).to_pylist()
        chunks.append(pa.array(names, pa.string()))
        checks.check_values(names, parsed[:, None], ends - lengths, ends)
        single = parsed.astype(np.float32)[None]
        for name, start, end, length in zip(names, starts, ends.tolist(), lengths.tolist()):
            yield Series(name, start, freq, checks.fill_missing(single[:, end - length : end]))
    checks.report(freq)
    refuse_repeated_ids(chunks, location)


def _decide_formats(
    tables: Iterator[pa.Table],
    columns: Columns,
    location: SourceLocation,
    remembered: TimeFormat | None,
    folder: Path | None,
) -> tuple[NumberFormat, TimeFormat, Iterator[pa.Table]]:
    """Return the formats of the targets and of the starts, and the tables; only texts need a spool."""
    numbers = NumberEvidence("target", columns.missing_values)
    times = TimeEvidence(location, columns.timestamp_format, remembered)
    spool = Spool(folder)
    table: pa.Table | None = None
    for table in tables:
        start = _start_column(table)
        stamps = None if start is None else table.schema.field(start).type
        # With a time zone, all starts say whether they are midnights.
        is_typed = stamps is None or pa.types.is_date(stamps) or (pa.types.is_timestamp(stamps) and stamps.tz is None)
        if location.has_types and is_typed and not is_text(table.schema.field("target").type.value_type):
            if start is not None:
                times.add(table[start], table[ROW].to_numpy())
            return NumberFormat(), times.decide(), chain([table], tables)
        rows = table[ROW].to_numpy()
        numbers.add(pc.list_flatten(table["target"]), np.repeat(rows, pc.list_value_length(table["target"]).to_numpy()))
        if start is not None:
            times.add(table[start], rows)
        spool.append(table)
    return decide_numbers({"target": numbers}, columns.decimal, {}, location)["target"], times.decide(), spool.drain()


def _start_column(table: pa.Table) -> str | None:
    """Return the column of the starts of nested series, None if there is none."""
    return next((name for name in ("start", "timestamp") if name in table.column_names), None)


def read_freq_column(table: pa.Table, location: SourceLocation) -> str:
    """Return the frequency in the column `freq` of a nested table, `UNKNOWN` if there is none."""
    if "freq" not in table.column_names:
        return UNKNOWN
    freqs = table["freq"].cast(pa.string())
    different = pc.not_equal(pc.fill_null(freqs, ""), freqs[0].as_py() or "").to_numpy()
    problem = f"has a freq other than {freqs[0]}, that of the first row"
    advice = "write a separate file for each frequency"
    refuse_rows(different, table[ROW].to_numpy(), location, problem, freqs, advice)
    return freqs[0].as_py() or UNKNOWN
