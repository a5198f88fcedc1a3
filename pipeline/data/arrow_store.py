"""The Arrow store: series in a file, written as a stream and read through a memory map.

The format is a contract: Arrow IPC stream, uncompressed, columns `item_id: string`, `start: timestamp[s]` and
`target: list<float32>`, schema metadata `{"freq": ...}`, at most 1,024 items a record batch. GluonTS, `datasets`,
pyarrow and the training script of chronos-forecasting read it. An item of several variates has one row for each, in
consecutive rows, and the metadata describes them under `variates`. The metadata of a converted source describe its
columns under `formats`.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.core.errors import UserError, to_one_line
from pipeline.core.files import atomic_write, check_stream_end, fingerprint
from pipeline.core.series import UNIVARIATE, History, Panel, Series, Variates
from pipeline.data.column_formats import ColumnFormats

_ROWS_PER_BATCH = 1024  # GluonTS and datasets read a batch at a time
_VALUES_PER_BATCH = 1 << 24  # 64 MiB of float32
_BATCHES_IN_MEMORY = 64  # pages are released this often while a store is opened
_STREAM_START = b"\xff\xff\xff\xff"
_SCHEMA = pa.schema(
    [("item_id", pa.string()), ("start", pa.timestamp("s")), ("target", pa.list_(pa.field("item", pa.float32())))]
)


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

    def history(self, index: int, start: int, known_until: int, prediction_length: int) -> History:
        """Return the values of an item that are known at a forecast start.

        Args:
            start: the forecast start, a step of the item.
            known_until: step before which known covariates are included.
            prediction_length: length of the horizon; future values of a panel are padded with NaN to it.
        """
        if self.variates == UNIVARIATE:
            return self.target(index)[:start]
        rows, n_known = self.rows(index), len(self.variates.known)
        future = np.full((len(rows), prediction_length), np.nan, np.float32)
        future[len(rows) - n_known :, : known_until - start] = rows[len(rows) - n_known :, start:known_until]
        return Panel(rows[:, :start], future, self.variates)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content of the store: 24 hex digits."""
        if self.path is not None:
            return fingerprint([self.path])
        return fingerprint([], self.freq, list(self.item_ids), self.lengths.tobytes(), self.values.tobytes())

    def release_pages(self) -> None:
        """Free the memory of the values read so far; they are read from disk again when needed."""
        if isinstance(self.values.base, np.memmap):
            _release_pages(self.values.base)

    def __reduce__(self) -> tuple:
        if self.path is not None:
            return open_store, (self.path,)
        values = self.freq, list(self.item_ids), self.starts, self.offsets, self.lengths, self.values
        return Store, (*values, None, self.variates, self.formats)


def store_from_arrays(targets: Iterable[np.ndarray], freq: str = "") -> Store:
    """Return a store in memory of one-dimensional arrays, whose item IDs are their positions."""
    arrays = [np.asarray(target, dtype=np.float32) for target in targets]
    lengths = np.array([len(array) for array in arrays], dtype=np.int64)
    return Store(
        freq=freq,
        item_ids=[str(i) for i in range(len(arrays))],
        starts=np.zeros(len(arrays), dtype="M8[s]"),
        offsets=np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(arrays) else lengths,
        lengths=lengths,
        values=np.concatenate(arrays) if arrays else np.empty(0, np.float32),
    )


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
    return Store(
        freq=items[0].freq if items else "",
        item_ids=[item.item_id for item in items],
        starts=np.array([item.start for item in items], dtype="M8[s]"),
        offsets=np.cumsum(sizes) - sizes,
        lengths=np.array([row.shape[1] for row in rows], dtype=np.int64),
        values=np.concatenate([row.ravel() for row in rows]) if rows else np.empty(0, np.float32),
        variates=items[0].variates if items else UNIVARIATE,
        formats=formats,
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
    with atomic_write(path) as temporary:
        writer: Any = None
        freq: str | None = None
        batch: list[Series] = []
        n_values = 0
        with pa.OSFile(str(temporary), "wb") as file:
            for item in series:
                if freq is None:
                    freq = item.freq
                    writer = pa.ipc.new_stream(file, _SCHEMA.with_metadata(_metadata(item, formats)))
                _check_freq(item, freq)
                batch.append(item)
                n_values += item.target.size
                if len(batch) == _ROWS_PER_BATCH or n_values >= values_per_batch:
                    writer.write_batch(_record_batch(batch))
                    batch, n_values = [], 0
            if writer is None:
                raise UserError(f"no series to write to {path}")
            if batch:
                writer.write_batch(_record_batch(batch))
            writer.close()


def _check_freq(series: Series, freq: str) -> None:
    if series.freq != freq:
        raise UserError(
            f"series {series.item_id} has frequency {series.freq!r}, the series before it {freq!r}; "
            "write a separate file for each frequency"
        )


def open_store(path: str | Path) -> Store:
    """Open a store through a memory map.

    Raises:
        NotAStore: the file is not an Arrow stream, or has another schema, compression, or nulls.
        UserError: the file is truncated or corrupt.
    """
    path = Path(path)
    with open(path, "rb") as file:
        if file.read(len(_STREAM_START)) != _STREAM_START:
            raise NotAStore(f"{path} is not an Arrow stream")
    check_stream_end(path)
    mapped = np.memmap(path, np.uint8, mode="r")
    item_ids: list[pa.Array] = []
    starts: Any = []
    offsets: Any = []
    lengths: Any = []
    try:
        reader = pa.ipc.open_stream(pa.py_buffer(mapped))
        if not reader.schema.equals(_SCHEMA) or b"freq" not in (reader.schema.metadata or {}):
            raise NotAStore(f"{path} has another schema: {reader.schema}")
        for number, batch in enumerate(reader):
            batch_offsets, batch_lengths = _locate_rows(batch, mapped, path)
            item_ids.append(batch.column("item_id"))
            starts.append(batch.column("start").to_numpy(zero_copy_only=False).copy())
            offsets.append(batch_offsets)
            lengths.append(batch_lengths)
            if number % _BATCHES_IN_MEMORY == 0:
                _release_pages(mapped)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a complete Arrow file ({to_one_line(error)}); create it again") from error
    _release_pages(mapped)
    variates = _variates(reader.schema.metadata)
    # The rows of an item are consecutive, so the position of the first row is that of the item.
    first = slice(None, None, len(variates))
    # Each list is freed before the next is concatenated: for a million series, these are the largest arrays of a run.
    starts = np.concatenate(starts)[first] if starts else np.empty(0, "M8[s]")
    offsets = np.concatenate(offsets)[first] if offsets else np.empty(0, np.int64)
    lengths = np.concatenate(lengths)[first] if lengths else np.empty(0, np.int64)
    return Store(
        freq=reader.schema.metadata[b"freq"].decode(),
        item_ids=_ItemIds(item_ids, len(variates)),
        starts=starts,
        offsets=offsets,
        lengths=lengths,
        values=np.asarray(
            mapped[: len(mapped) // 4 * 4].view(np.float32)
        ),  # a plain array is sliced faster than a memmap
        path=path,
        variates=variates,
        formats=_formats(reader.schema.metadata),
    )


def _locate_rows(batch: pa.RecordBatch, mapped: np.memmap, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the offset in the mapped file, in values, and the length of each row of a record batch: int64, [n], [n].

    Raises:
        NotAStore: the batch has nulls or is compressed.
    """
    target = batch.column("target")
    if any(column.null_count for column in (*batch.columns, target.values)):
        raise NotAStore(f"{path} contains nulls")
    bounds = target.offsets.to_numpy().astype(np.int64)
    origin = mapped.ctypes.data
    address = target.values.buffers()[1].address if len(target.values) else origin
    if not origin <= address < origin + len(mapped):  # decompressed values are outside the map
        raise NotAStore(f"{path} is compressed")
    return (address - origin) // 4 + target.values.offset + bounds[:-1], np.diff(bounds)


def _release_pages(mapped: np.memmap) -> None:
    """Free the memory of the pages read so far; they are read from disk again when needed."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


class _ItemIds(Sequence[str]):
    """Item IDs, read from the memory map when needed."""

    def __init__(self, chunks: list[pa.Array], rows_per_item: int) -> None:
        self._names = pa.chunked_array(chunks, type=pa.string())
        self._rows_per_item = rows_per_item

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


def _formats(metadata: dict[bytes, bytes]) -> ColumnFormats:
    fields = metadata.get(b"formats")
    return ColumnFormats.from_dict(json.loads(fields)) if fields else ColumnFormats()


def _variates(metadata: dict[bytes, bytes]) -> Variates:
    if b"variates" not in metadata:
        return UNIVARIATE
    fields = json.loads(metadata[b"variates"])
    categories = {name: tuple(values) for name, values in fields.pop("categories").items()}
    return Variates(**{role: tuple(names) for role, names in fields.items()}, categories=categories)


def _record_batch(series: list[Series]) -> pa.RecordBatch:
    rows = [row for item in series for row in np.atleast_2d(item.target)]
    n_rows = len(series[0].variates)
    bounds = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    values = np.concatenate(rows).astype(np.float32, copy=False)
    starts = np.array([item.start for item in series], dtype="M8[s]").repeat(n_rows)
    return pa.record_batch(
        [
            pa.array([item.item_id for item in series for _ in range(n_rows)], pa.string()),
            pa.array(starts),
            pa.ListArray.from_arrays(pa.array(bounds), pa.array(values)),
        ],
        schema=_SCHEMA,
    )
