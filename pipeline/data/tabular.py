"""Tables of any shape made into series: sorted, on a regular grid, with gaps as NaN, and refused by row where wrong."""

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

from pipeline.core.errors import UserError, one_line
from pipeline.core.series import UNIVARIATE, Series, Variates
from pipeline.data.dates import seconds_of
from pipeline.data.formats import is_list
from pipeline.data.frequency import UNKNOWN, ends_only, infer_freq, on_own_grid, parse_freq, steps_between
from pipeline.data.numbers import MISSING, float32_of
from pipeline.data.rows import SourceLocation, distinct_of, refuse_rows, text_of

Part = Callable[[], pa.Table]
"""Gives the rows of some series, checked, with timestamps as datetime64[s]."""

_EPOCH = np.datetime64(0, "s")
_ROWS_IN_MEMORY = 2_000_000
_N_BUCKETS = 128
_SERIES_FOR_FREQ = 1000


def series_of_tables(
    tables: Iterable[pa.Table],
    where: SourceLocation,
    freq: str | None = None,
    variates: Variates = UNIVARIATE,
    rows_in_memory: int = _ROWS_IN_MEMORY,
    room: Path | None = None,
) -> Iterator[Series]:
    """Yield the series of long or nested tables, as `formats.named_tables` names their columns.

    Long rows may come in any order. Up to `rows_in_memory` of them are sorted in memory, and the series come in the order
    of their first row; beyond that the rows are first parted by series into files, and memory stays bounded.

    Args:
        where: the source, for messages.
        freq: pandas alias; None infers it from the timestamps.
        variates: of items of several variates, what they are; the categories of covariates that are texts are found here.
        room: folder that the files are made in, and removed from; None is the system's own for such.

    Raises:
        UserError: rows that are duplicates, off the grid, or hold no number; each message names the row.
    """
    if freq is not None:
        parse_freq(freq)
    tables = iter(tables)
    first = next(tables, None)
    if first is None:
        raise UserError(f"{where} holds no rows")
    tables = chain([first], tables)
    if is_list(first.schema.field("target").type):
        if len(variates) > 1:
            raise UserError(
                f"{where} has a row a series; covariates and several targets are read from a row a time step"
            )
        tables = (_named(table, where) for table in tables)
        if "timestamp" not in first.column_names or not is_list(first.schema.field("timestamp").type):
            yield from _series_of_nested(tables, where, freq)
            return
        tables = (_exploded(table, where) for table in tables)
    encoder = _Encoder(variates, where)
    with tempfile.TemporaryDirectory(prefix=".series-", dir=room) as folder:
        parts = _parts(map(encoder.encoded, tables), where, Path(folder), rows_in_memory)
        if freq is None:
            freq = _infer((_frame(part(), where) for part in parts), len(parts), where)
        for part in parts:
            yield from _series_of_frame(_frame(part(), where), where, freq, encoder.variates())


def series_in_order(
    tables: Iterable[pa.Table], where: SourceLocation, freq: str | None = None, variates: Variates = UNIVARIATE
) -> Iterator[Series]:
    """Yield the series of a long table whose rows come series by series, each in the order of time, as they are read.

    A name that comes again belongs to a table that is not in order; to find it is for the caller.

    Args:
        where, freq, variates: as of `series_of_tables`; the frequency is inferred from the first thousand series.

    Raises:
        NotInOrder: the rows come otherwise, or what they mean follows from all of them: texts for timestamps, categories.
        UserError: as `series_of_tables`.
    """
    tables = iter(tables)
    first = next(tables, None)
    if first is None or len(variates) > 1 or not _can_stream(first.schema):
        raise NotInOrder
    encoder = _Encoder(variates, where)
    frames = (
        _frame(_with_stamps(rows, where), where, in_order=True)
        for rows in _whole_series(map(encoder.encoded, chain([first], tables)))
    )
    held: list[pd.DataFrame] = []
    if freq is None:
        n_series = n_rows = 0
        while n_series < _SERIES_FOR_FREQ and n_rows < _ROWS_IN_MEMORY and (frame := next(frames, None)) is not None:
            held.append(frame)
            n_series, n_rows = n_series + len(frame.attrs["names"]), n_rows + len(frame)
        freq = _infer(held, 1, where)
    else:
        parse_freq(freq)
    for frame in chain(held, frames):
        yield from _series_of_frame(frame, where, freq)


class NotInOrder(Exception):
    """The rows of a table do not come series by series, each in the order of time."""


def _can_stream(schema: pa.Schema) -> bool:
    if "item_id" not in schema.names or "timestamp" not in schema.names or is_list(schema.field("target").type):
        return False
    kind = schema.field("timestamp").type
    return pa.types.is_timestamp(kind) and kind.tz is None


def _whole_series(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cut tables anew, where a series begins.

    Raises:
        NotInOrder: they differ in their columns, so that what those mean is for all of them together to say.
    """
    held: list[pa.Table] = []
    for table in tables:
        if held and table.schema != held[-1].schema:
            raise NotInOrder
        names = table["item_id"].combine_chunks()
        changes = pc.not_equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False)
        if held and names[0] != held[-1]["item_id"][-1]:
            yield pa.concat_tables(held)
            held = []
        if changes.any():
            last = int(np.flatnonzero(changes)[-1]) + 1
            yield pa.concat_tables([*held, table[:last]])
            held, table = [], table[last:]
        held.append(table)
    yield pa.concat_tables(held)


class _Encoder:
    """Makes the variates of tables float32: numbers as they are, texts as the position of their category."""

    def __init__(self, variates: Variates, where: SourceLocation) -> None:
        self._variates = variates
        self._where = where
        self._is_text: dict[str, bool | None] = {}
        self._positions: dict[str, dict[str, int]] = {}

    def encoded(self, table: pa.Table) -> pa.Table:
        """Return a long table with the variates as float32, every value and name checked.

        Whether a covariate is a number follows from the first table in which it is known.
        """
        row = table["row"].to_numpy()
        if "item_id" in table.column_names:
            refuse_rows(table["item_id"].is_null().to_numpy(), row, self._where, "has no item_id")
        for called, name in zip(self._variates.columns, self._variates.names):
            position = table.column_names.index(called)
            column = table.column(position)
            if name in self._variates.covariates and self._is_text.get(name) is None:
                self._is_text[name] = _holds_text(column)
            if self._is_text.get(name):
                values = self._categories(name, column)
            else:
                values = float32_of(column, row, self._where, "target" if name in self._variates.targets[:1] else name)
            table = table.set_column(position, called, pa.array(values))
        return table

    def variates(self) -> Variates:
        """Return the variates with the categories found so far; a target alone goes by no name."""
        if len(self._variates) == len(self._variates.targets) == 1:
            return UNIVARIATE
        return replace(self._variates, categories={name: tuple(found) for name, found in self._positions.items()})

    def _categories(self, name: str, column: pa.ChunkedArray) -> np.ndarray:
        positions = self._positions.setdefault(name, {})
        encoded = text_of(column).combine_chunks().dictionary_encode()
        codes = [positions.setdefault(category, len(positions)) for category in encoded.dictionary.to_pylist()]
        return np.array([*codes, np.nan], np.float32)[encoded.indices.fill_null(len(codes)).to_numpy()]


def _holds_text(column: pa.ChunkedArray) -> bool | None:
    """Return whether a column holds categories rather than numbers, None where nothing in it is known."""
    kind = column.type
    if column.null_count == len(column):
        return None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        known = column.drop_null().to_pandas().str.strip()
        known = known[~known.str.lower().isin(MISSING)]
        distinct = pd.to_numeric(known.drop_duplicates(), errors="coerce")
        n_numbers = int(distinct.notna().sum())
        # Of many numbers and little else each that is none is a mistake, to be refused by its row.
        return None if known.empty else n_numbers < len(distinct) and n_numbers < max(10, 0.9 * len(distinct))
    return pa.types.is_boolean(kind) or pa.types.is_dictionary(kind)


def _parts(tables: Iterator[pa.Table], where: SourceLocation, folder: Path, rows_in_memory: int) -> list[Part]:
    """Return all rows, those of one series together: one part in memory, or files that the series are dealt to."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) > rows_in_memory and "item_id" in table.column_names:
            return _dealt(chain(held, tables), where, folder)
    try:
        rows = pa.concat_tables(held, promote_options="permissive")
    except pa.ArrowException as error:
        raise UserError(f"{where}: its parts have columns of differing types: {one_line(error)}") from error
    if "item_id" in rows.column_names:  # a part without the column has none
        refuse_rows(rows["item_id"].is_null().to_numpy(), rows["row"].to_numpy(), where, "has no item_id")
    stamped = _with_stamps(rows, where)
    return [lambda: stamped]


def _dealt(tables: Iterator[pa.Table], where: SourceLocation, folder: Path) -> list[Part]:
    writers: list[pa.ipc.RecordBatchStreamWriter] = []
    first_rows: dict[object, int] = {}
    for table in tables:
        if not writers:
            schema = table.schema
            writers = [pa.ipc.new_stream(str(folder / str(bucket)), schema) for bucket in range(_N_BUCKETS)]
        if not table.schema.equals(schema):
            raise UserError(f"{where}: its parts have columns of differing types: {table.schema} after {schema}")
        if "timestamp" in table.column_names:
            distinct, at = distinct_of(table["timestamp"])
            for stamp, row in zip(distinct.to_pandas(), table["row"].to_numpy()[at]):
                first_rows.setdefault(stamp, row)
        names = table["item_id"].to_numpy()
        buckets = pd.util.hash_array(names, categorize=True) % _N_BUCKETS
        order = np.argsort(buckets, kind="stable")
        bounds = np.searchsorted(buckets[order], np.arange(_N_BUCKETS + 1))
        by_bucket = table.take(pa.array(order))
        for bucket, writer in enumerate(writers):
            writer.write_table(by_bucket.slice(bounds[bucket], bounds[bucket + 1] - bounds[bucket]))
    for writer in writers:
        writer.close()
    calendar = _calendar(first_rows, where) if first_rows else None
    return [partial(_read_part, folder / str(bucket), calendar) for bucket in range(_N_BUCKETS)]


def _calendar(first_rows: dict[object, int], where: SourceLocation) -> pd.Series:
    """Return what each distinct timestamp means, told from all of them: zone, order of day and month."""
    distinct = pa.chunked_array([pa.array(list(first_rows), from_pandas=True)])
    return pd.Series(seconds_of(distinct, np.array(list(first_rows.values())), where), index=pd.Index(list(first_rows)))


def _read_part(path: Path, calendar: pd.Series | None) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        rows = pa.ipc.open_stream(source).read_all()
    if calendar is None:
        return rows
    stamps = calendar.to_numpy()[calendar.index.get_indexer(rows["timestamp"].to_pandas())].astype("M8[s]")
    return rows.set_column(rows.column_names.index("timestamp"), "timestamp", pa.array(stamps))


def _with_stamps(rows: pa.Table, where: SourceLocation) -> pa.Table:
    if "timestamp" not in rows.column_names:
        return rows
    stamps = pa.array(seconds_of(rows["timestamp"], rows["row"].to_numpy(), where))
    return rows.set_column(rows.column_names.index("timestamp"), "timestamp", stamps)


def _frame(rows: pa.Table, where: SourceLocation, in_order: bool = False) -> pd.DataFrame:
    """Return `code, stamp, row` and variates, sorted by series and time; `.attrs["names"]` are the series' names by code.

    Raises:
        NotInOrder: they ought to be `in_order`, and are not.
    """
    names: list[str] = ["0"]
    codes = np.zeros(len(rows), np.int64)
    if "item_id" in rows.column_names:
        encoded = rows["item_id"].combine_chunks().dictionary_encode()
        codes, names = encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()
    values = [name for name in rows.column_names if name not in ("item_id", "timestamp", "start")]
    frame = pd.DataFrame({"code": codes, **{name: rows[name].to_numpy() for name in values}})
    frame.attrs["names"] = names
    if "timestamp" not in rows.column_names:
        return frame.sort_values("code", kind="stable", ignore_index=True)
    frame["stamp"] = stamps = rows["timestamp"].to_numpy()
    next_series = np.diff(codes)
    if ((next_series > 0) | ((next_series == 0) & (stamps[1:] > stamps[:-1]))).all():
        return frame
    if in_order:
        raise NotInOrder
    frame = frame.sort_values(["code", "stamp"], kind="stable", ignore_index=True)
    twice = (frame["code"].diff().eq(0) & frame["stamp"].diff().eq(pd.Timedelta(0))).to_numpy()
    if twice.any():
        at = int(twice.argmax())
        named = "item_id" in rows.column_names
        mend = "name the series' column with data.id_column"
        if named:
            mend = "keep one of the two, or name all columns that tell series apart, with data.id_column '[a, b]'"
        raise UserError(
            f"{where}: series {names[frame['code'][at]]} has timestamp {frame['stamp'][at]} twice, "
            f"in {where.row(frame['row'][at - 1])} and {where.row(frame['row'][at])}; {mend}"
        )
    return frame


def _infer(frames: Iterable[pd.DataFrame], n_frames: int, where: SourceLocation) -> str:
    """Return the frequency that all frames have a say in, each with as many series."""
    groups: list[np.ndarray] = []
    for frame in frames:
        if "stamp" not in frame:
            return UNKNOWN
        said = frame.loc[frame["code"] < max(1, _SERIES_FOR_FREQ // n_frames)].groupby("code", sort=False)["stamp"]
        groups += [group.to_numpy().astype("M8[s]") for _, group in said]
    freq = infer_freq(groups)
    if freq is None:
        raise UserError(f"{where}: no series has three timestamps to tell the frequency from; give it with data.freq")
    return freq


def _series_of_frame(
    frame: pd.DataFrame, where: SourceLocation, freq: str, variates: Variates = UNIVARIATE
) -> Iterator[Series]:
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
        at = int((steps < 0).argmax())
        raise UserError(
            f"{where}: {where.row(frame['row'][at])}, series {names[codes[at]]}: timestamp {stamps[at]} is no whole number of "
            f"steps of {freq!r} after {stamps[begins[begins <= at][-1]]}; give the right frequency with data.freq{ends_only(freq)} "
            "or mend the row; where steps are of no one length, write a value for each hour, say, or day"
        )
    for begin, end, start in zip(begins.tolist(), ends.tolist(), stamps[begins]):
        name = names[codes[begin]]
        target = _on_grid(targets[..., begin:end], steps[begin:end], name, where)
        yield Series(name, start, freq, target, variates)


def _on_grid(target: np.ndarray, steps: np.ndarray, name: str, where: SourceLocation) -> np.ndarray:
    length = int(steps[-1]) + 1
    if length == len(steps):
        return target
    if length > 1_000_000 and length > 1000 * len(steps):
        raise UserError(f"{where}: series {name} has {len(steps)} values over {length} steps; is a timestamp mistyped?")
    full = np.full((*target.shape[:-1], length), np.nan, np.float32)
    full[..., steps] = target
    return full


def _series_of_nested(tables: Iterator[pa.Table], where: SourceLocation, freq: str | None) -> Iterator[Series]:
    for table in tables:
        row = table["row"].to_numpy()
        freq = freq or (table.schema.metadata or {}).get(b"freq", b"").decode() or _said_freq(table, where) or UNKNOWN
        start = next((name for name in ("start", "timestamp") if name in table.column_names), None)
        starts = np.full(len(table), _EPOCH)
        if start is not None:
            freq, starts = on_own_grid(seconds_of(table[start], row, where), freq)
        lengths = pc.list_value_length(table["target"]).to_numpy()
        targets = float32_of(pc.list_flatten(table["target"]), np.repeat(row, lengths), where)
        bounds = np.cumsum(lengths)
        for name, begun, end, length in zip(text_of(table["item_id"]).to_pylist(), starts, bounds, lengths):
            yield Series(name, begun, freq, targets[end - length : end])


def _said_freq(table: pa.Table, where: SourceLocation) -> str:
    """Return the frequency that every row of a nested table names, none where they name none."""
    if "freq" not in table.column_names:
        return UNKNOWN
    said = text_of(table["freq"])
    differing = pc.fill_null(pc.not_equal(said, said[0]), said[0].is_valid).to_numpy()
    refuse_rows(
        differing, table["row"].to_numpy(), where, f"has another freq than the first, {said[0]}; part them", said
    )
    return said[0].as_py() or UNKNOWN


def _named(table: pa.Table, where: SourceLocation) -> pa.Table:
    """Return a nested table whose every row has a target and a name, its position where it came without."""
    row = table["row"].to_numpy()
    refuse_rows(table["target"].is_null().to_numpy(), row, where, "has no target")
    if "item_id" in table.column_names:
        refuse_rows(table["item_id"].is_null().to_numpy(), row, where, "has no item_id")
        return table
    return table.append_column("item_id", pa.array([str(number - 1) for number in row]))


def _exploded(table: pa.Table, where: SourceLocation) -> pa.Table:
    """Return the long form of a nested table whose every series has a list of timestamps."""
    row = table["row"].to_numpy()
    if not is_list(table.schema.field("timestamp").type):
        raise UserError(f"{where}: {where.row(row[0])} has no list of timestamps, as the rows before it have")
    lengths = pc.list_value_length(table["target"])
    differing = pc.not_equal(lengths, pc.fill_null(pc.list_value_length(table["timestamp"]), -1))
    refuse_rows(differing.to_numpy(), row, where, "has not as many timestamps as values")
    columns = {name: pc.list_flatten(table[name]) for name in ("timestamp", "target")}
    of_row = pa.array(np.repeat(np.arange(len(table)), lengths.to_numpy()))
    return pa.table({**columns, **{name: table[name].take(of_row) for name in ("item_id", "row")}})
