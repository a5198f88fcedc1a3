"""Conversion of tables to series: rows are checked, sorted and placed on a regular grid, with NaN in the gaps."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError, to_one_line
from pipeline.core.series import UNIVARIATE, Series, Variates
from pipeline.data.dates import parse_timestamps
from pipeline.data.formats import is_list_type
from pipeline.data.frequency import UNKNOWN, align_starts, infer_freq, parse_freq, period_end_hint, steps_between
from pipeline.data.numbers import MISSING, to_float32
from pipeline.data.rows import SourceLocation, distinct_values, refuse_rows, to_text

Partition = Callable[[], pa.Table]
"""Loads all rows of some series, checked, with timestamps as datetime64[s]."""

_EPOCH = np.datetime64(0, "s")
_ROWS_IN_MEMORY = 2_000_000  # 643 MB resident for a CSV of 4 million rows, 357 MB with 500_000 (docs/benchmarks.md)
_N_PARTITIONS = 128  # a partition of 256 million rows fits into memory, and few systems limit open files to less
_MAX_SERIES_FOR_FREQ = 1000  # enough for a majority vote, and fast
# A longer series with fewer than one value in 1,000 steps is taken for a mistyped year.
_MAX_SPARSE_LENGTH, _MAX_SPARSITY = 1_000_000, 1000


class NotInOrder(Exception):
    """The rows of a table are not grouped by series and sorted by time."""


def build_series(
    tables: Iterable[pa.Table],
    location: SourceLocation,
    freq: str | None = None,
    variates: Variates = UNIVARIATE,
    rows_in_memory: int = _ROWS_IN_MEMORY,
    temporary_folder: Path | None = None,
) -> Iterator[Series]:
    """Yield the series of long or nested tables with the column names of `formats.standardize_tables`.

    Long rows may have any order. Up to `rows_in_memory` of them are sorted in memory, and the series have the order of
    their first rows. More rows are first partitioned by series into files, so that memory stays bounded.

    Args:
        location: the source, for messages.
        freq: pandas alias; None infers it from the timestamps.
        variates: names of the values; categories of covariates are collected from the rows.
        temporary_folder: folder of the temporary files; None is the system's.

    Raises:
        UserError: rows are duplicates, off the grid, or not numbers; the message names the row.
    """
    if freq is not None:
        parse_freq(freq)
    tables = iter(tables)
    first = next(tables, None)
    if first is None:
        raise UserError(f"{location} has no rows")
    tables = chain([first], tables)
    if is_list_type(first.schema.field("target").type):
        if len(variates) > 1:
            raise UserError(
                f"{location} has one row per series; covariates and several targets need one row per time step"
            )
        tables = (_check_nested_rows(table, location) for table in tables)
        if "timestamp" not in first.column_names or not is_list_type(first.schema.field("timestamp").type):
            yield from _build_nested_series(tables, location, freq)
            return
        tables = (_explode(table, location) for table in tables)
    converter = _VariateConverter(variates, location)
    with tempfile.TemporaryDirectory(prefix=".series-", dir=temporary_folder) as folder:
        partitions = _partition_rows(map(converter.convert, tables), location, Path(folder), rows_in_memory)
        if freq is None:
            frames = (_sort_rows(load(), location) for load in partitions)
            freq = _infer_freq(frames, len(partitions), location)
        for load in partitions:
            yield from _build_long_series(_sort_rows(load(), location), location, freq, converter.variates())


def stream_series(
    tables: Iterable[pa.Table], location: SourceLocation, freq: str | None = None, variates: Variates = UNIVARIATE
) -> Iterator[Series]:
    """Yield the series of a long table whose rows are in order, by series and then time, while it is read.

    The caller must refuse duplicate item IDs: if rows of a series follow those of another, the table is not in order.

    Args:
        location, freq, variates: as in `build_series`; the frequency is inferred from the first 1,000 series.

    Raises:
        NotInOrder: the rows are not in order, or they depend on later ones: timestamps as strings, or categories.
        UserError: as in `build_series`.
    """
    tables = iter(tables)
    first = next(tables, None)
    if first is None or len(variates) > 1 or not _can_stream(first.schema):
        raise NotInOrder
    converter = _VariateConverter(variates, location)
    frames = (
        _to_frame(_parse_timestamp_column(rows, location), refuse_disorder=True)
        for rows in _split_between_series(map(converter.convert, chain([first], tables)))
    )
    buffered: list[pd.DataFrame] = []
    if freq is None:
        n_series = n_rows = 0
        while (
            n_series < _MAX_SERIES_FOR_FREQ and n_rows < _ROWS_IN_MEMORY and (frame := next(frames, None)) is not None
        ):
            buffered.append(frame)
            n_series, n_rows = n_series + len(frame.attrs["names"]), n_rows + len(frame)
        freq = _infer_freq(buffered, 1, location)
    else:
        parse_freq(freq)
    for frame in chain(buffered, frames):
        yield from _build_long_series(frame, location, freq)


def _can_stream(schema: pa.Schema) -> bool:
    if "item_id" not in schema.names or "timestamp" not in schema.names or is_list_type(schema.field("target").type):
        return False
    kind = schema.field("timestamp").type
    return pa.types.is_timestamp(kind) and kind.tz is None


def _split_between_series(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Regroup the rows of tables so that no table ends within a series.

    Raises:
        NotInOrder: the tables differ in their columns, whose types then depend on all tables.
    """
    buffered: list[pa.Table] = []
    for table in tables:
        if buffered and table.schema != buffered[-1].schema:
            raise NotInOrder
        names = table["item_id"].combine_chunks()
        changes = pc.not_equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False)
        if buffered and names[0] != buffered[-1]["item_id"][-1]:
            yield pa.concat_tables(buffered)
            buffered = []
        if changes.any():
            last = int(np.flatnonzero(changes)[-1]) + 1
            yield pa.concat_tables([*buffered, table[:last]])
            buffered, table = [], table[last:]
        buffered.append(table)
    yield pa.concat_tables(buffered)


class _VariateConverter:
    """Convert the variates of tables to float32: numbers by value, categories by position."""

    def __init__(self, variates: Variates, location: SourceLocation) -> None:
        self._variates = variates
        self._location = location
        self._is_categorical: dict[str, bool | None] = {}
        self._positions: dict[str, dict[str, int]] = {}

    def convert(self, table: pa.Table) -> pa.Table:
        """Return a long table with its variates as float32, and refuse invalid values and missing item IDs.

        The first table with a known value of a covariate decides whether it is categorical.
        """
        rows = table["row"].to_numpy()
        if "item_id" in table.column_names:
            refuse_rows(table["item_id"].is_null().to_numpy(), rows, self._location, "has no item_id")
        for column_name, name in zip(self._variates.columns, self._variates.names):
            position = table.column_names.index(column_name)
            column = table.column(position)
            if name in self._variates.covariates and self._is_categorical.get(name) is None:
                self._is_categorical[name] = _is_categorical(column)
            if self._is_categorical.get(name):
                values = self._encode(name, column)
            else:
                label = "target" if name in self._variates.targets[:1] else name
                values = to_float32(column, rows, self._location, label)
            table = table.set_column(position, column_name, pa.array(values))
        return table

    def variates(self) -> Variates:
        """Return the variates with the categories collected so far; a single target has the default name."""
        if len(self._variates) == len(self._variates.targets) == 1:
            return UNIVARIATE
        return replace(self._variates, categories={name: tuple(known) for name, known in self._positions.items()})

    def _encode(self, name: str, column: pa.ChunkedArray) -> np.ndarray:
        positions = self._positions.setdefault(name, {})
        encoded = to_text(column).combine_chunks().dictionary_encode()
        codes = [positions.setdefault(category, len(positions)) for category in encoded.dictionary.to_pylist()]
        return np.array([*codes, np.nan], np.float32)[encoded.indices.fill_null(len(codes)).to_numpy()]


def _is_categorical(column: pa.ChunkedArray) -> bool | None:
    """Return whether a column contains categories rather than numbers, None if it has no known value.

    Strings are numbers if at least 10 distinct values, and 90% of them, are numbers: the others are errors then, and
    are refused by row. Fewer numbers may be names of categories, such as sizes.
    """
    kind = column.type
    if column.null_count == len(column):
        return None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        known = column.drop_null().to_pandas().str.strip()
        known = known[~known.str.lower().isin(MISSING)]
        distinct = pd.to_numeric(known.drop_duplicates(), errors="coerce")
        n_numbers = int(distinct.notna().sum())
        return None if known.empty else n_numbers < len(distinct) and n_numbers < max(10, 0.9 * len(distinct))
    return pa.types.is_boolean(kind) or pa.types.is_dictionary(kind)


def _partition_rows(
    tables: Iterator[pa.Table], location: SourceLocation, folder: Path, rows_in_memory: int
) -> list[Partition]:
    """Return all rows as one partition in memory, or as several in files if there are more than `rows_in_memory`."""
    buffered: list[pa.Table] = []
    for table in tables:
        buffered.append(table)
        if sum(map(len, buffered)) > rows_in_memory and "item_id" in table.column_names:
            return _partition_on_disk(chain(buffered, tables), location, folder)
    try:
        rows = pa.concat_tables(buffered, promote_options="permissive")
    except pa.ArrowException as error:
        raise UserError(
            f"{location}: the types of the columns differ between its files: {to_one_line(error)}"
        ) from error
    if "item_id" in rows.column_names:  # null in the rows of a table without the column
        refuse_rows(rows["item_id"].is_null().to_numpy(), rows["row"].to_numpy(), location, "has no item_id")
    parsed = _parse_timestamp_column(rows, location)
    return [lambda: parsed]


def _partition_on_disk(tables: Iterator[pa.Table], location: SourceLocation, folder: Path) -> list[Partition]:
    """Write rows to files by a hash of their item ID, and parse the distinct timestamps of all files together."""
    writers: list[pa.ipc.RecordBatchStreamWriter] = []
    first_rows: dict[object, int] = {}  # of each distinct timestamp
    for table in tables:
        if not writers:
            schema = table.schema
            writers = [pa.ipc.new_stream(str(folder / str(number)), schema) for number in range(_N_PARTITIONS)]
        if not table.schema.equals(schema):
            raise UserError(
                f"{location}: the types of the columns differ between its files: {table.schema} after {schema}"
            )
        if "timestamp" in table.column_names:
            distinct, positions = distinct_values(table["timestamp"])
            for stamp, row in zip(distinct.to_pandas(), table["row"].to_numpy()[positions]):
                first_rows.setdefault(stamp, row)
        names = table["item_id"].to_numpy()
        numbers = pd.util.hash_array(names, categorize=True) % _N_PARTITIONS
        order = np.argsort(numbers, kind="stable")
        bounds = np.searchsorted(numbers[order], np.arange(_N_PARTITIONS + 1))
        ordered = table.take(pa.array(order))
        for number, writer in enumerate(writers):
            writer.write_table(ordered.slice(bounds[number], bounds[number + 1] - bounds[number]))
    for writer in writers:
        writer.close()
    parsed = _parse_distinct(first_rows, location) if first_rows else None
    return [partial(_read_partition, folder / str(number), parsed) for number in range(_N_PARTITIONS)]


def _parse_distinct(first_rows: dict[object, int], location: SourceLocation) -> pd.Series:
    """Return the distinct timestamps of a source, which decide on its format and time zone together.

    Args:
        first_rows: the first row of each timestamp, for messages.

    Returns:
        datetime64[s], with the timestamps of the source as the index.
    """
    distinct = pa.chunked_array([pa.array(list(first_rows), from_pandas=True)])
    stamps = parse_timestamps(distinct, np.array(list(first_rows.values())), location)
    return pd.Series(stamps, index=pd.Index(list(first_rows)))


def _read_partition(path: Path, parsed: pd.Series | None) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        rows = pa.ipc.open_stream(source).read_all()
    if parsed is None:
        return rows
    stamps = parsed.to_numpy()[parsed.index.get_indexer(rows["timestamp"].to_pandas())].astype("M8[s]")
    return rows.set_column(rows.column_names.index("timestamp"), "timestamp", pa.array(stamps))


def _parse_timestamp_column(rows: pa.Table, location: SourceLocation) -> pa.Table:
    if "timestamp" not in rows.column_names:
        return rows
    stamps = pa.array(parse_timestamps(rows["timestamp"], rows["row"].to_numpy(), location))
    return rows.set_column(rows.column_names.index("timestamp"), "timestamp", stamps)


def _sort_rows(rows: pa.Table, location: SourceLocation) -> pd.DataFrame:
    """Return rows as a frame as `_to_frame` does, sorted by series and time.

    Raises:
        UserError: a series has a timestamp twice.
    """
    frame = _to_frame(rows)
    if "stamp" not in frame:
        return frame.sort_values("code", kind="stable", ignore_index=True)
    if _is_in_order(frame):
        return frame
    frame = frame.sort_values(["code", "stamp"], kind="stable", ignore_index=True)
    duplicate = (frame["code"].diff().eq(0) & frame["stamp"].diff().eq(pd.Timedelta(0))).to_numpy()
    if duplicate.any():
        index = int(duplicate.argmax())
        advice = "name the column of the item ID with data.id_column"
        if "item_id" in rows.column_names:
            advice = "keep one of the two, or name all columns of the item ID with data.id_column '[a, b]'"
        first, second = (location.describe_row(frame["row"][position]) for position in (index - 1, index))
        raise UserError(
            f"{location}: series {frame.attrs['names'][frame['code'][index]]} has timestamp {frame['stamp'][index]} "
            f"twice, in {first} and {second}; {advice}"
        )
    return frame


def _to_frame(rows: pa.Table, refuse_disorder: bool = False) -> pd.DataFrame:
    """Return rows as a frame of `code`, `stamp`, `row` and variates; `.attrs["names"]` are the item IDs by code.

    Raises:
        NotInOrder: the rows are not sorted by series and time, and `refuse_disorder` is set.
    """
    names: list[str] = ["0"]
    codes = np.zeros(len(rows), np.int64)
    if "item_id" in rows.column_names:
        encoded = rows["item_id"].combine_chunks().dictionary_encode()
        codes, names = encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()
    values = [name for name in rows.column_names if name not in ("item_id", "timestamp", "start")]
    frame = pd.DataFrame({"code": codes, **{name: rows[name].to_numpy() for name in values}})
    frame.attrs["names"] = names
    if "timestamp" in rows.column_names:
        frame["stamp"] = rows["timestamp"].to_numpy()
    if refuse_disorder and not _is_in_order(frame):
        raise NotInOrder
    return frame


def _is_in_order(frame: pd.DataFrame) -> bool:
    stamps, code_steps = frame["stamp"].to_numpy(), np.diff(frame["code"].to_numpy())
    return bool(((code_steps > 0) | ((code_steps == 0) & (stamps[1:] > stamps[:-1]))).all())


def _infer_freq(frames: Iterable[pd.DataFrame], n_frames: int, location: SourceLocation) -> str:
    """Return the frequency of frames from equally many series of each, or `UNKNOWN` if they have no timestamps.

    Raises:
        UserError: no series has three timestamps.
    """
    groups: list[np.ndarray] = []
    max_series = max(1, _MAX_SERIES_FOR_FREQ // n_frames)
    for frame in frames:
        if "stamp" not in frame:
            return UNKNOWN
        stamps = frame.loc[frame["code"] < max_series].groupby("code", sort=False)["stamp"]
        groups += [group.to_numpy().astype("M8[s]") for _, group in stamps]
    freq = infer_freq(groups)
    if freq is None:
        raise UserError(f"{location}: no series has three timestamps to infer the frequency from; set data.freq")
    return freq


def _build_long_series(
    frame: pd.DataFrame, location: SourceLocation, freq: str, variates: Variates = UNIVARIATE
) -> Iterator[Series]:
    """Yield the series of a sorted frame.

    Raises:
        UserError: a timestamp is not on the grid of its series; the message names the row.
    """
    names, targets = frame.attrs["names"], frame["target"].to_numpy()
    if len(variates) > 1:
        targets = np.stack([frame[column].to_numpy() for column in variates.columns])
    stamps = frame["stamp"].to_numpy().astype("M8[s]") if "stamp" in frame else None
    codes = frame["code"].to_numpy()
    begins = np.flatnonzero(np.diff(codes, prepend=-1))
    ends = np.append(begins[1:], len(codes))
    if stamps is None or freq == UNKNOWN:
        for begin, end in zip(begins.tolist(), ends.tolist()):
            yield Series(names[codes[begin]], _EPOCH, freq, targets[..., begin:end], variates)
        return
    steps = steps_between(np.repeat(stamps[begins], ends - begins), stamps, freq)
    if (steps < 0).any():
        index = int((steps < 0).argmax())
        start = stamps[begins[begins <= index][-1]]
        raise UserError(
            f"{location}: {location.describe_row(frame['row'][index])}, series {names[codes[index]]}: timestamp "
            f"{stamps[index]} is not on the grid of {freq!r} that starts at {start}; set data.freq to another frequency"
            f"{period_end_hint(freq)}, fix the row, or aggregate irregular rows, such as to hourly values"
        )
    for begin, end, start in zip(begins.tolist(), ends.tolist(), stamps[begins]):
        name = names[codes[begin]]
        target = _fill_gaps(targets[..., begin:end], steps[begin:end], name, location)
        yield Series(name, start, freq, target, variates)


def _fill_gaps(target: np.ndarray, steps: np.ndarray, name: str, location: SourceLocation) -> np.ndarray:
    """Return the values of a series on its grid, NaN at missing steps: float32, [..., length].

    Args:
        target: [..., n].
        steps: ascending int64, [n].
    """
    length = int(steps[-1]) + 1
    if length == len(steps):
        return target
    if length > _MAX_SPARSE_LENGTH and length > _MAX_SPARSITY * len(steps):
        raise UserError(
            f"{location}: series {name} has {len(steps)} values in {length} steps; check for a mistyped timestamp"
        )
    full = np.full((*target.shape[:-1], length), np.nan, np.float32)
    full[..., steps] = target
    return full


def _build_nested_series(tables: Iterator[pa.Table], location: SourceLocation, freq: str | None) -> Iterator[Series]:
    """Yield the series of nested tables, each with a start or without timestamps."""
    for table in tables:
        rows = table["row"].to_numpy()
        freq = freq or (table.schema.metadata or {}).get(b"freq", b"").decode()
        freq = freq or _read_freq_column(table, location) or UNKNOWN
        start = next((name for name in ("start", "timestamp") if name in table.column_names), None)
        starts = np.full(len(table), _EPOCH)
        if start is not None:
            freq, starts = align_starts(parse_timestamps(table[start], rows, location), freq)
        lengths = pc.list_value_length(table["target"]).to_numpy()
        targets = to_float32(pc.list_flatten(table["target"]), np.repeat(rows, lengths), location)
        ends = np.cumsum(lengths)
        for name, begin, end, length in zip(to_text(table["item_id"]).to_pylist(), starts, ends, lengths):
            yield Series(name, begin, freq, targets[end - length : end])


def _read_freq_column(table: pa.Table, location: SourceLocation) -> str:
    """Return the one frequency in the column `freq` of a nested table, `UNKNOWN` if there is none.

    Raises:
        UserError: a row has another frequency than the first.
    """
    if "freq" not in table.column_names:
        return UNKNOWN
    freqs = to_text(table["freq"])
    different = pc.fill_null(pc.not_equal(freqs, freqs[0]), freqs[0].is_valid).to_numpy()
    problem = f"has a freq other than {freqs[0]}, that of the first row"
    advice = "write a separate file for each frequency"
    refuse_rows(different, table["row"].to_numpy(), location, problem, freqs, advice)
    return freqs[0].as_py() or UNKNOWN


def _check_nested_rows(table: pa.Table, location: SourceLocation) -> pa.Table:
    """Return a nested table with a column of item IDs, by default the positions of the rows.

    Raises:
        UserError: a row has no target or item ID.
    """
    rows = table["row"].to_numpy()
    refuse_rows(table["target"].is_null().to_numpy(), rows, location, "has no target")
    if "item_id" in table.column_names:
        refuse_rows(table["item_id"].is_null().to_numpy(), rows, location, "has no item_id")
        return table
    return table.append_column("item_id", pa.array([str(number - 1) for number in rows]))


def _explode(table: pa.Table, location: SourceLocation) -> pa.Table:
    """Return the long form of a nested table with a list of timestamps per series.

    Raises:
        UserError: a row has no list of timestamps, or one of another length than its target.
    """
    rows = table["row"].to_numpy()
    if not is_list_type(table.schema.field("timestamp").type):
        raise UserError(
            f"{location}: {location.describe_row(rows[0])} has no list of timestamps, unlike the rows before it"
        )
    lengths = pc.list_value_length(table["target"])
    different = pc.not_equal(lengths, pc.fill_null(pc.list_value_length(table["timestamp"]), -1))
    refuse_rows(different.to_numpy(), rows, location, "has different numbers of timestamps and values")
    columns = {name: pc.list_flatten(table[name]) for name in ("timestamp", "target")}
    parents = pa.array(np.repeat(np.arange(len(table)), lengths.to_numpy()))
    return pa.table({**columns, **{name: table[name].take(parents) for name in ("item_id", "row")}})
