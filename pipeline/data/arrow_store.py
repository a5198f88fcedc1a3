"""The Arrow store: series in a file, written as a stream and read through a memory map.

The format is a contract: Arrow IPC stream, uncompressed, columns `item_id: string`, `start: timestamp[s]` and
`target: list<float32>`, schema metadata `{"freq": ...}`, at most 1,024 items a record batch. GluonTS, `datasets`,
pyarrow and the training script of chronos-forecasting read it. An item of several variates has one row for each, in
consecutive rows, and the metadata describes them under `variates`. A store of groups has the column `group: string`
too, constant within an item. The metadata of a converted source describe its columns under `formats`.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError, to_one_line
from pipeline.core.files import atomic_write, check_stream_end, fingerprint
from pipeline.core.series import UNIVARIATE, History, Panel, Series, Variates
from pipeline.data.column_formats import ColumnFormats
from pipeline.data.dates import AFTER_LAST_SECOND, FIRST_SECOND
from pipeline.data.frequency import UNKNOWN, parse_freq

_ROWS_PER_BATCH = 1024  # GluonTS and datasets read a batch at a time
_VALUES_PER_BATCH = 1 << 24  # 64 MiB of float32
_BATCHES_IN_MEMORY = 64  # pages are released this often while a store is opened
_ITEMS_PER_RELEASE = 4096  # of a thousand values: 16 MB
_STREAM_START = b"\xff\xff\xff\xff"
_SCHEMA = pa.schema(
    [("item_id", pa.string()), ("start", pa.timestamp("s")), ("target", pa.list_(pa.field("item", pa.float32())))]
)
_GROUPED_SCHEMA = _SCHEMA.append(pa.field("group", pa.string()))


class NotAStore(Exception):
    """The file is complete, but not in the format of a store."""


@dataclass(frozen=True, eq=False, repr=False)
class Store:
    """Items of one frequency, with their values in one flat array.

    Row v of item i is `values[offsets[i] + v * lengths[i] :][: lengths[i]]`. For a store on disk, `values` is the
    memory map of the file, so that only requested values are read. Such a store is pickled as its path.
    """

    freq: str
    """Pandas alias of the step; empty if it is unknown."""
    item_ids: Sequence[str]
    """[n]."""
    starts: np.ndarray
    """datetime64[s], [n]."""
    offsets: np.ndarray
    """int64, [n]."""
    lengths: np.ndarray
    """int64, [n]."""
    values: np.ndarray
    """float32, flat; NaN for a missing value."""
    path: Path | None = None
    """The file, for a store on disk."""
    variates: Variates = UNIVARIATE
    """Names and roles of the rows of each item."""
    formats: ColumnFormats = ColumnFormats()
    """What the columns of the source are, for other tables that belong to it."""
    groups: np.ndarray | None = None
    """Number of the group of each item, from 0 in the order of their first items: int64, [n]; None without groups."""
    group_names: Sequence[str] = ()
    """[n_groups]."""

    def __len__(self) -> int:
        return len(self.lengths)

    def __repr__(self) -> str:
        return f"Store of {len(self)} series, freq {self.freq!r}, {self.path or 'in memory'}"

    def target(self, index: int) -> np.ndarray:
        """Return the values of one item's first target: float32, [length], a view."""
        start = self.offsets[index]
        return self.values[start : start + self.lengths[index]]

    def rows(self, index: int) -> np.ndarray:
        """Return all values of one item: float32, [n_variates, length], a view."""
        start, length = self.offsets[index], self.lengths[index]
        return self.values[start : start + len(self.variates) * length].reshape(len(self.variates), length)

    @property
    def time_zone(self) -> str | None:
        """UTC if timestamps had a time zone and are UTC, else None."""
        return "UTC" if self.formats.timestamp is not None and self.formats.timestamp.zone == "utc" else None

    def shared_groups(self, cross_learning: bool) -> np.ndarray | None:
        """Return the number of the group of each item, [n], or None if every item is forecast alone.

        With cross-learning, the items of a store without groups are one group.
        """
        return np.broadcast_to(np.int64(0), len(self)) if self.groups is None and cross_learning else self.groups

    def history(
        self, index: int, start: int, known_until: int, prediction_length: int, group: int | None = None
    ) -> History:
        """Return the values of an item that are known at a forecast start.

        Args:
            start: the forecast start, a step of the item.
            known_until: step before which known covariates are included.
            prediction_length: length of the horizon; future values of a panel are padded with NaN to it.
            group: number of the group of histories that see each other; None for none.
        """
        if self.variates == UNIVARIATE and group is None:
            return self.target(index)[:start]
        rows, n_known = self.rows(index), len(self.variates.known)
        future = np.full((len(rows), prediction_length), np.nan, np.float32)
        future[len(rows) - n_known :, : known_until - start] = rows[len(rows) - n_known :, start:known_until]
        return Panel(rows[:, :start], future, self.variates, group)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content of the store: 24 hex digits."""
        if self.path is not None:
            return fingerprint([self.path])
        groups = None if self.groups is None else (self.groups.tobytes(), list(self.group_names))
        arrays = (self.starts.tobytes(), self.lengths.tobytes(), self.values.tobytes())
        return fingerprint([], self.freq, list(self.item_ids), *arrays, self.variates, groups)

    def series(self) -> Iterator[Series]:
        """Yield the items as series."""
        for index, name in enumerate(self.item_ids):
            group = None if self.groups is None else self.group_names[self.groups[index]]
            values = self.target(index) if len(self.variates) == 1 else self.rows(index)
            yield Series(name, self.starts[index], self.freq, values, self.variates, group)

    def scan(self) -> Iterator[int]:
        """Yield the index of each item, for a loop that reads all values, in constant memory."""
        for index in range(len(self)):
            yield index
            if index % _ITEMS_PER_RELEASE == 0:
                self.release_pages()
        self.release_pages()

    def release_pages(self) -> None:
        """Free the memory of the values read so far; they are read from disk again when needed."""
        if isinstance(self.values.base, np.memmap):
            _release_pages(self.values.base)

    def __reduce__(self) -> tuple:
        if self.path is not None:
            return open_store, (self.path,)
        values = self.freq, list(self.item_ids), self.starts, self.offsets, self.lengths, self.values
        return Store, (*values, None, self.variates, self.formats, self.groups, self.group_names)


def store_from_arrays(targets: Iterable[np.ndarray], freq: str = "") -> Store:
    """Return a store in memory of one-dimensional arrays, whose item IDs are their positions."""
    arrays = (np.asarray(target, dtype=np.float32) for target in targets)
    epoch = np.datetime64(0, "s")
    return store_from_series(Series(str(index), epoch, freq, array) for index, array in enumerate(arrays))


def store_from_series(series: Iterable[Series], formats: ColumnFormats = ColumnFormats()) -> Store:
    """Return a store in memory of series of one frequency.

    Raises:
        UserError: the frequencies differ.
    """
    items = list(series)
    rows = [np.atleast_2d(item.target) for item in items]
    sizes = np.array([row.size for row in rows], dtype=np.int64)
    for item in items[1:]:
        _check_freq(item, items[0].freq)
    has_groups = bool(items) and items[0].group is not None
    groups, group_names = _number_groups(pa.array([item.group for item in items])) if has_groups else (None, ())
    return Store(
        freq=items[0].freq if items else "",
        item_ids=[item.item_id for item in items],
        starts=np.array([item.start for item in items], dtype="M8[s]"),
        offsets=np.cumsum(sizes) - sizes,
        lengths=np.array([row.shape[1] for row in rows], dtype=np.int64),
        values=np.concatenate([row.ravel() for row in rows]) if rows else np.empty(0, np.float32),
        variates=items[0].variates if items else UNIVARIATE,
        formats=formats,
        groups=groups,
        group_names=group_names,
    )


def write_store(
    path: str | Path,
    series: Iterable[Series],
    formats: ColumnFormats = ColumnFormats(),
    values_per_batch: int = _VALUES_PER_BATCH,
) -> None:
    """Write series to a store, in constant memory.

    Args:
        formats: what the columns of the source are.
        values_per_batch: number of values after which a record batch ends, even with fewer than 1,024 items.

    Raises:
        UserError: there is no series, the frequencies differ, or the file cannot be written.
    """
    items = iter(series)
    first = next(items, None)
    if first is None:
        raise UserError(f"no series to write to {path}")
    schema = (_SCHEMA if first.group is None else _GROUPED_SCHEMA).with_metadata(_metadata(first, formats))
    with atomic_write(path) as temporary, pa.OSFile(os.fsencode(temporary), "wb") as file:
        with pa.ipc.new_stream(file, schema) as writer:
            batch: list[Series] = []
            n_values = 0
            for item in chain([first], items):
                _check_freq(item, first.freq)
                batch.append(item)
                n_values += item.target.size
                if len(batch) == _ROWS_PER_BATCH or n_values >= values_per_batch:
                    writer.write_batch(_record_batch(batch))
                    batch, n_values = [], 0
            if batch:
                writer.write_batch(_record_batch(batch))


def _check_freq(series: Series, freq: str) -> None:
    if series.freq != freq:
        raise UserError(
            f"series {series.item_id} has frequency {series.freq!r}, the series before it {freq!r}; "
            "write a separate file for each frequency"
        )


def open_store(path: str | Path) -> Store:
    """Open a store through a memory map, after a check of everything in it but its values.

    Raises:
        NotAStore: the file is not an Arrow stream, or has another schema, compression, or nulls.
        UserError: the file cannot be read, or is truncated or corrupt.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            if file.read(len(_STREAM_START)) != _STREAM_START:
                raise NotAStore(f"{path} is not an Arrow stream")
            check_stream_end(file, path)
        return _open(path)
    except (pa.ArrowException, OSError, _Damaged) as error:
        if isinstance(error, OSError) and error.errno:  # the system's; those of pyarrow have no number
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        raise UserError(f"{path} is not a complete Arrow file ({to_one_line(error)}); create it again") from error


class _Damaged(ValueError):
    """The content of a store is not as `write_store` writes it."""


def _open(path: Path) -> Store:
    mapped = np.memmap(path, np.uint8, mode="r")
    item_ids: list[pa.Array] = []
    groups: list[pa.Array] = []
    starts: Any = []
    offsets: Any = []
    lengths: Any = []
    stream = pa.BufferReader(pa.py_buffer(mapped))
    reader = pa.ipc.open_stream(stream)
    has_groups = reader.schema.equals(_GROUPED_SCHEMA)
    if not (has_groups or reader.schema.equals(_SCHEMA)) or b"freq" not in (reader.schema.metadata or {}):
        raise NotAStore(f"{path} has another schema: {reader.schema}")
    for number, batch in enumerate(reader):
        batch.validate()
        batch.column("item_id").validate(full=True)
        batch_offsets, batch_lengths = _locate_rows(batch, mapped, path)
        item_ids.append(batch.column("item_id"))
        if has_groups:
            batch.column("group").validate(full=True)
            groups.append(batch.column("group"))
        starts.append(batch.column("start").to_numpy(zero_copy_only=False).copy())
        offsets.append(batch_offsets)
        lengths.append(batch_lengths)
        if number % _BATCHES_IN_MEMORY == 0:
            _release_pages(mapped)
    if stream.tell() != len(mapped):
        raise _Damaged("it has an end-of-stream mark before its end")
    freq, variates, formats = _read_metadata(reader.schema.metadata)
    names = pa.chunked_array(item_ids, type=pa.string())
    # Each list is freed before the next is concatenated: for a million series, these are the largest arrays of a run.
    starts = np.concatenate(starts) if starts else np.empty(0, "M8[s]")
    offsets = np.concatenate(offsets) if offsets else np.empty(0, np.int64)
    lengths = np.concatenate(lengths) if lengths else np.empty(0, np.int64)
    row_groups, group_names = _number_groups(pa.chunked_array(groups, pa.string())) if has_groups else (None, ())
    _check_items(names, starts, offsets, lengths, row_groups, len(variates))
    first = slice(None, None, len(variates))
    _release_pages(mapped)
    return Store(
        freq=freq,
        item_ids=_ItemIds(names, len(variates)),
        starts=starts[first],
        offsets=offsets[first],
        lengths=lengths[first],
        values=np.asarray(mapped[: len(mapped) // 4 * 4].view(np.float32)),  # is sliced faster than a memmap
        path=path,
        variates=variates,
        formats=formats,
        groups=None if row_groups is None else row_groups[first],
        group_names=group_names,
    )


def _number_groups(names: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Return the number of each row's group, in the order of their first rows, and the names of the groups."""
    encoded = (names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names).dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def _locate_rows(batch: pa.RecordBatch, mapped: np.memmap, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the offset in the mapped file, in values, and the length of each row of a batch: int64, [n], [n]."""
    target = batch.column("target")
    if any(column.null_count for column in (*batch.columns, target.values)):
        raise NotAStore(f"{path} contains nulls")
    bounds = target.offsets.to_numpy().astype(np.int64)
    lengths = np.diff(bounds)
    if len(bounds) and (bounds[0] < 0 or bounds[-1] > len(target.values) or (lengths < 0).any()):
        raise _Damaged("a row is outside the values")
    origin = mapped.ctypes.data
    address = target.values.buffers()[1].address if len(target.values) else origin
    if not origin <= address < origin + len(mapped) or (address - origin) % 4:  # decompressed values are outside
        raise NotAStore(f"{path} is compressed")
    return (address - origin) // 4 + target.values.offset + bounds[:-1], lengths


def _check_items(
    names: pa.ChunkedArray,
    starts: np.ndarray,
    offsets: np.ndarray,
    lengths: np.ndarray,
    groups: np.ndarray | None,
    rows_per_item: int,
) -> None:
    """Check the rows of all items: [n_items * rows_per_item]."""
    n_items = len(names) // rows_per_item
    if pc.count_distinct(names).as_py() != n_items or n_items * rows_per_item != len(names):
        raise _Damaged("two of its series have the same item ID, or a series lacks a row")
    if len(starts) and not ((starts >= FIRST_SECOND) & (starts < AFTER_LAST_SECOND)).all():
        raise _Damaged("a series starts outside the years 1678 to 2261")
    if rows_per_item > 1:
        codes = names.combine_chunks().dictionary_encode().indices.to_numpy()
        position = np.arange(len(names)) % rows_per_item
        first = np.arange(len(names)) - position
        is_same = (codes == codes[first]) & (lengths == lengths[first]) & (starts == starts[first])
        is_same &= groups is None or groups == groups[first]
        if not (is_same & (offsets == offsets[first] + position * lengths)).all():
            raise _Damaged("the rows of a series are not consecutive")


def _release_pages(mapped: np.memmap) -> None:
    """Free the memory of the pages read so far; they are read from disk again when needed."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


class _ItemIds(Sequence[str]):
    """Item IDs, read from the memory map when needed."""

    def __init__(self, names: pa.ChunkedArray, rows_per_item: int) -> None:
        self._names, self._rows_per_item = names, rows_per_item

    def __len__(self) -> int:
        return len(self._names) // self._rows_per_item

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            rows = np.arange(len(self))[index] * self._rows_per_item
            return self._names.take(pa.array(rows)).to_pylist()
        return self._names[range(len(self))[int(index)] * self._rows_per_item].as_py()


def _metadata(series: Series, formats: ColumnFormats) -> dict[str, str]:
    metadata = {"freq": series.freq}
    if series.variates != UNIVARIATE:
        metadata["variates"] = json.dumps(dataclasses.asdict(series.variates))
    if formats != ColumnFormats():
        metadata["formats"] = json.dumps(formats.to_dict())
    return metadata


def _read_metadata(metadata: dict[bytes, bytes]) -> tuple[str, Variates, ColumnFormats]:
    """Return the frequency, the variates and the formats of a store."""
    try:
        freq = metadata[b"freq"].decode()
        if freq != UNKNOWN:
            parse_freq(freq)
        formats = ColumnFormats.from_dict(json.loads(metadata.get(b"formats", b"{}")))
        fields = json.loads(metadata.get(b"variates", b"{}"))
        roles = {role: tuple(fields.get(role, ())) for role in ("targets", "past", "known")} if fields else {}
        categories = {name: tuple(values) for name, values in fields.get("categories", {}).items()}
        variates = Variates(**roles, categories=categories)
        texts = [*variates.names, *categories, *(value for values in categories.values() for value in values)]
        is_valid = all(isinstance(text, str) for text in texts) and set(categories) <= set(variates.covariates)
        if not is_valid or not 0 < len(set(variates.names)) == len(variates):
            raise ValueError(f"invalid variates {fields}")
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise _Damaged(f"its metadata are damaged: {error}") from error
    return freq, variates, formats


def _record_batch(series: list[Series]) -> pa.RecordBatch:
    rows = [row for item in series for row in np.atleast_2d(item.target)]
    n_rows = len(series[0].variates)
    bounds = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    values = np.concatenate(rows).astype(np.float32, copy=False)
    starts = np.array([item.start for item in series], dtype="M8[s]").repeat(n_rows)
    columns = [
        pa.array([item.item_id for item in series for _ in range(n_rows)], pa.string()),
        pa.array(starts),
        pa.ListArray.from_arrays(pa.array(bounds), pa.array(values)),
    ]
    if series[0].group is None:
        return pa.record_batch(columns, schema=_SCHEMA)
    groups = pa.array([item.group for item in series for _ in range(n_rows)], pa.string())
    return pa.record_batch([*columns, groups], schema=_GROUPED_SCHEMA)
