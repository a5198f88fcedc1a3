"""Conversion of tables to series, in one pass over the source.

    tables -> long rows -> formats of the columns -> numbers -> sorted by series and time -> regular grid

The format of a column of texts follows from all its values. Its tables are kept in a spool until then. If all columns
are typed, no spool is needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError, first_few, to_one_line
from pipeline.core.progress import prefetch, progress
from pipeline.core.series import UNIVARIATE, Series
from pipeline.data.column_formats import ColumnFormats, FormatEvidence, format_names, parse_values
from pipeline.data.columns import Columns
from pipeline.data.dates import TimeEvidence, TimeFormat, parse_times
from pipeline.data.frequency import UNKNOWN, align_starts, parse_freq
from pipeline.data.grid import EPOCH, SeriesChecks, build_series
from pipeline.data.numbers import NumberEvidence, NumberFormat, decide_numbers, parse_numbers
from pipeline.data.rows import ROW, SourceLocation, checked_types, distinct, is_list, is_text, refuse_rows
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
    numbered = _number_rows(shown if isinstance(tables, list) else prefetch(shown), location)
    first = next(numbered, None)
    if first is None:
        raise UserError(f"{location} has no rows")
    numbered = chain([first], numbered)
    headers: dict[bool, TimeEvidence] = {}
    if _is_nested(first, columns):
        if columns.wide or len(columns.variates) > 1 or columns.group:
            raise UserError(
                f"{location} has one row per series; for covariates, groups or several targets, write one row per "
                "value; for one target, remove data.wide"
            )
        checked = map(partial(_check_nested_rows, columns=columns, location=location), numbered)
        (stamps,) = columns.timestamps[:1]
        if stamps not in first.column_names or not is_list(first.schema.field(stamps).type):
            return ColumnFormats(), _build_nested_series(checked, columns, location, freq, remembered.timestamp, folder)
        numbered = (_explode(table, location) for table in checked)
        columns = replace(columns, item_id="item_id", timestamp="timestamp", variates=UNIVARIATE)
    elif columns.wide:
        timestamp = remembered.timestamp
        numbered = (_stack(table, columns, timestamp, headers, location) for table in numbered)
        if not set(columns.timestamps) <= set(first.column_names):
            remembered = replace(remembered, timestamp=None)  # it is that of the header
    items = _ItemIds(location)
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
    kind = "none" if formats.timestamp is None else "steps" if formats.timestamp.style == "steps" else "dates"
    if kind == "none" and not location.has_item_ids and location.unused_columns:
        location.warn_once(
            f"all rows are one series, in their order; if {first_few(location.unused_columns)} has the item ID of "
            "several series, name it with data.id_column"
        )
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


def _number_rows(tables: Iterable[pa.Table], location: SourceLocation) -> Iterator[pa.Table]:
    """Yield the tables that have rows, with the column `ROW`: numbers of the rows from 1."""
    n_rows = 0
    for table in tables:
        if len(table):
            table = checked_types(table, location)
            yield table.append_column(ROW, pa.array(np.arange(n_rows + 1, n_rows + 1 + len(table))))
            n_rows += len(table)


def _is_nested(table: pa.Table, columns: Columns) -> bool:
    names = [name for name in columns.variates.names if name in table.column_names]
    return any(is_list(table.schema.field(name).type) for name in names)


def _stack(
    table: pa.Table,
    columns: Columns,
    remembered: TimeFormat | None,
    headers: dict[bool, TimeEvidence],
    location: SourceLocation,
) -> pa.Table:
    """Return a wide table in long form, under the configured names."""
    if set(columns.timestamps) <= set(table.column_names):
        stacked = stack_series_columns(table, columns.timestamps)
        return stacked.rename_columns({"item_id": columns.item_ids[0], "target": columns.target})
    form, columns_of_ids = columns.timestamp_format, columns.item_ids
    stacked = stack_step_columns(table, columns_of_ids, form, remembered, headers, location)
    return stacked.rename_columns({"timestamp": columns.timestamps[0], "target": columns.target})


def _standardize(table: pa.Table, columns: Columns, items: _ItemIds) -> pa.Table:
    """Return a long table with the columns `code`, `ROW`, `timestamp` if there is one, and `value NAME` per variate."""
    codes = items.encode(table, columns.item_ids)
    if columns.group:
        items.add_groups(table, columns.group, codes)
    result = {"code": pa.array(codes), ROW: table[ROW]}
    stamps = [name for name in columns.timestamps if name in table.column_names]
    if stamps:
        column = _join_timestamps([table[name] for name in stamps]) if len(stamps) > 1 else table[stamps[0]]
        if getattr(column.type, "extension_name", "") == "pandas.period":
            try:
                column = pa.chunked_array([pa.array(column.to_pandas().dt.to_timestamp())])
            except ValueError as error:
                raise UserError(f"{items.location}: a period cannot be a date: {to_one_line(error)}") from error
        result["timestamp"] = column.dictionary_encode() if pa.types.is_string(column.type) else column
    for name, column in zip(format_names(columns.variates), columns.variates.names):
        result[f"value {name}"] = table[column]
    return pa.table(result)


def _join_timestamps(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    """Return the texts of several columns, joined by a space. A midnight in the first column is left out."""
    date, *others = (column.cast(pa.string()) for column in columns)
    date = pc.replace_substring_regex(date, r"[ T]00:00:00(\.0+)?$", "")
    return pc.binary_join_element_wise(date, *others, " ")


def _encode_ids(
    table: pa.Table, columns: Sequence[str], location: SourceLocation, kind: str = "item_id"
) -> tuple[list[str], np.ndarray] | None:
    """Return distinct item IDs, and the position of each row's ID among them; None if the table has none.

    Other columns of names, such as those of groups, are read in the same way.

    The values of several columns are joined by slashes. A backslash precedes a slash or backslash within a value, so
    that different values have different IDs. A missing value is empty.
    """
    parts = [table[name] for name in columns if name in table.column_names]
    if not parts:
        return None
    parts = [pc.if_else(pc.is_nan(part), None, part) if pa.types.is_floating(part.type) else part for part in parts]
    try:
        missing = np.logical_and.reduce([part.is_null().to_numpy() for part in parts])
        refuse_rows(missing, table[ROW].to_numpy(), location, f"has no {kind}")
        if len(parts) > 1:
            texts = [pc.fill_null(part.cast(pa.string()), "") for part in parts]
            texts = [pc.replace_substring_regex(text, r"[\\/]", r"\\\0") for text in texts]
            parts = [pc.binary_join_element_wise(*texts, "/")]
        names, positions = distinct(parts[0])
        return names.cast(pa.string()).to_pylist(), positions
    except pa.ArrowException as error:
        kinds = " and ".join(str(table.schema.field(name).type) for name in columns if name in table.column_names)
        raise UserError(f"{location}: the {kind} has the type {kinds}; convert it to text") from error


class _ItemIds:
    """Number the series in the order of their first rows, and record the group of each."""

    def __init__(self, location: SourceLocation) -> None:
        self.codes: dict[str, int] = {}
        """The number of each item ID, in order."""
        self.location = location
        self._group_codes: dict[str, int] = {}
        self._groups = np.empty(0, np.int32)  # of each series

    def encode(self, table: pa.Table, columns: Sequence[str]) -> np.ndarray:
        """Return the number of the series of each row: int32, [n].

        Raises:
            UserError: a row has no item ID, or one that is not a text.
        """
        found = _encode_ids(table, columns, self.location)
        if found is None:
            self.location.has_item_ids = False
            found = ["0"], np.zeros(len(table), np.int64)
        names, positions = found
        codes = [self.codes.setdefault(name, len(self.codes)) for name in names]
        return np.array(codes, np.int32)[positions]

    def add_groups(self, table: pa.Table, columns: Sequence[str], codes: np.ndarray) -> None:
        """Record the groups of the rows of a table.

        Args:
            codes: what `encode` returned, [n].

        Raises:
            UserError: a row has no group, or a series has rows of two groups.
        """
        name = "/".join(columns)
        found = _encode_ids(table, columns, self.location, name)
        assert found is not None  # `select_columns` has checked it
        numbers = [self._group_codes.setdefault(group, len(self._group_codes)) for group in found[0]]
        groups = np.array(numbers, np.int32)[found[1]]
        n_new = len(self.codes) - len(self._groups)
        self._groups = np.append(self._groups, np.full(n_new, -1, np.int32)) if n_new else self._groups
        first = np.flatnonzero(self._groups[codes] < 0)[::-1]  # of several rows of a new series, the first counts
        self._groups[codes[first]] = groups[first]
        differs = self._groups[codes] != groups
        if differs.any():
            row = int(differs.argmax())
            item_id, names = list(self.codes)[codes[row]], list(self._group_codes)
            raise UserError(
                f"{self.location}: {self.location.describe_row(table[ROW][row].as_py())}: series {item_id} has the "
                f"{name} {names[groups[row]]!r}, and {names[self._groups[codes[row]]]!r} in a row before it; give each "
                "series one group, or name another column with data.group_column"
            )

    def groups(self) -> dict[str, str]:
        """Return the name of the group of each series, none if there are no groups."""
        names = list(self._group_codes)
        return {item_id: names[group] for item_id, group in zip(self.codes, self._groups.tolist())}

    def check_names(self) -> None:
        """Warn about names that differ only by spaces."""
        trimmed = Counter(map(str.strip, self.codes))
        same = [name for name, count in trimmed.items() if count > 1]
        if same:
            self.location.warn_once(
                f"{len(same)} item IDs occur with and without spaces around them, as separate series: "
                f"{first_few(same)}; write them alike if they are the same"
            )


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


def _needs_evidence(schema: pa.Schema) -> bool:
    """Return whether a column can only be decided from all its values."""
    for name in schema.names:
        kind = schema.field(name).type
        if name == "timestamp":
            typed = pa.types.is_date(kind) or pa.types.is_timestamp(kind) and kind.tz is None
        else:
            typed = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
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
        if _needs_evidence(table.schema):
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


def _build_nested_series(
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
    number_format, time_format, tables = _decide_nested_formats(tables, columns, location, remembered, folder)
    for table in tables:
        rows = table[ROW].to_numpy()
        table_freq = configured or (table.schema.metadata or {}).get(b"freq", b"").decode()
        table_freq = table_freq or _read_freq_column(table, location)
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
    ids = pa.chunked_array(chunks)
    if pc.count_distinct(ids).as_py() < len(ids):
        repeated = next(found for found in pc.value_counts(ids).to_pylist() if found["counts"] > 1)
        raise UserError(f"{location}: two series have the item ID {repeated['values']}; rename one of them")


def _decide_nested_formats(
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
        is_typed = stamps is None or pa.types.is_timestamp(stamps) or pa.types.is_date(stamps)
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


def _read_freq_column(table: pa.Table, location: SourceLocation) -> str:
    """Return the frequency in the column `freq` of a nested table, `UNKNOWN` if there is none."""
    if "freq" not in table.column_names:
        return UNKNOWN
    freqs = table["freq"].cast(pa.string())
    different = pc.not_equal(pc.fill_null(freqs, ""), freqs[0].as_py() or "").to_numpy()
    problem = f"has a freq other than {freqs[0]}, that of the first row"
    advice = "write a separate file for each frequency"
    refuse_rows(different, table[ROW].to_numpy(), location, problem, freqs, advice)
    return freqs[0].as_py() or UNKNOWN


def _check_nested_rows(table: pa.Table, columns: Columns, location: SourceLocation) -> pa.Table:
    """Return a nested table with standard column names and item IDs, by default the positions of the rows."""
    rows = table[ROW].to_numpy()
    if not is_list(table.schema.field(columns.target).type):
        row = location.describe_row(rows[0])
        raise UserError(f"{location}: {row} has no list of values, unlike the rows before it")
    refuse_rows(table[columns.target].is_null().to_numpy(), rows, location, "has no target")
    found = _encode_ids(table, columns.item_ids, location)
    names, positions = found or ([str(number - 1) for number in rows], np.arange(len(rows)))
    metadata, standard = table.schema.metadata, {columns.timestamps[0]: "timestamp", columns.target: "target"}
    table = table.drop_columns([name for name in columns.item_ids if name in table.column_names])
    table = table.rename_columns([standard.get(name, name) for name in table.column_names])
    table = table.append_column("item_id", pa.DictionaryArray.from_arrays(positions, names))
    return table.replace_schema_metadata(metadata)


def _explode(table: pa.Table, location: SourceLocation) -> pa.Table:
    """Return the long form of a nested table with a list of timestamps per series."""
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
