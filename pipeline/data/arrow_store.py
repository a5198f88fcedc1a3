"""The Arrow store: series on disk, written as a stream, read through a memory map.

The form is a contract: Arrow IPC stream format, uncompressed, columns `item_id: string`, `start: timestamp[s]`,
`target: list<float32>`, schema metadata `{"freq": ...}`, at most 1,024 items a record batch. GluonTS, `datasets`, pyarrow
and chronos-forecasting's own training script all read it. An item of several variates has a row for each, one after the
other, and the metadata says under `variates` what they are.
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

from pipeline.core.errors import UserError, one_line
from pipeline.core.files import atomic_write, check_stream_end, fingerprint
from pipeline.core.series import UNIVARIATE, History, Panel, Series, Variates

ROWS_PER_BATCH = 1024
_VALUES_PER_BATCH = 1 << 24
_BATCHES_IN_MEMORY = 64
_SCHEMA = pa.schema(
    [("item_id", pa.string()), ("start", pa.timestamp("s")), ("target", pa.list_(pa.field("item", pa.float32())))]
)


class NotAStore(Exception):
    """The file is whole, but not in the form of a store."""


@dataclass(frozen=True, eq=False, repr=False)
class Store:
    """A set of items of one frequency, their values in one flat array.

    Row v of item i is `values[offsets[i] + v * lengths[i] :][: lengths[i]]`. For a store on disk `values` is the
    memory-mapped file itself, so what is read is what is asked for, and a pickled store is a path.
    """

    freq: str
    """Pandas alias of the step; empty where it is unknown."""
    item_ids: Sequence[str]
    """[n]."""
    starts: np.ndarray
    """datetime64[s], [n]."""
    offsets: np.ndarray
    """int64, [n]."""
    lengths: np.ndarray
    """int64, [n]."""
    values: np.ndarray
    """float32, flat; NaN where a value is missing."""
    path: Path | None = None
    """The file, for a store on disk."""
    variates: Variates = UNIVARIATE
    """What the rows of every item are."""

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
        """Return everything that is known of an item at a forecast start.

        Args:
            start: the forecast start, a step of the item.
            known_until: known covariates are given up to this step.
            prediction_length: steps of the horizon, over which a panel's future covariates are padded with NaN.
        """
        if self.variates == UNIVARIATE:
            return self.target(index)[:start]
        rows, n_known = self.rows(index), len(self.variates.known)
        future = np.full((len(rows), prediction_length), np.nan, np.float32)
        future[len(rows) - n_known :, : known_until - start] = rows[len(rows) - n_known :, start:known_until]
        return Panel(rows[:, :start], future, self.variates)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that the store holds: 24 hex digits."""
        if self.path is not None:
            return fingerprint([self.path])
        return fingerprint([], self.freq, list(self.item_ids), self.lengths.tobytes(), self.values.tobytes())

    def release_pages(self) -> None:
        """Give back the memory of what was read from disk so far; it is read again when it is asked for."""
        if isinstance(self.values.base, np.memmap):
            _release_pages(self.values.base)

    def __reduce__(self) -> tuple:
        if self.path is not None:
            return open_store, (self.path,)
        values = self.freq, list(self.item_ids), self.starts, self.offsets, self.lengths, self.values
        return Store, (*values, None, self.variates)


def store_from_arrays(targets: Iterable[np.ndarray], freq: str = "") -> Store:
    """Hold one-dimensional arrays as a store in memory; they are named by their position."""
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


def write_store(path: str | Path, series: Iterable[Series]) -> None:
    """Write series to a store, in constant memory.

    Raises:
        UserError: there is no series, their frequencies differ, or the file cannot be written.
    """
    with atomic_write(path) as temporary:
        writer: Any = None
        freq: str | None = None
        batch: list[Series] = []
        n_values = 0
        with pa.OSFile(str(temporary), "wb") as file:
            for one in series:
                if freq is None:
                    freq = one.freq
                    writer = pa.ipc.new_stream(file, _SCHEMA.with_metadata(_metadata(one)))
                elif one.freq != freq:
                    raise UserError(
                        f"series {one.item_id} has frequency {one.freq!r} where the ones before it have {freq!r}; "
                        "give each frequency a file of its own"
                    )
                batch.append(one)
                n_values += one.target.size
                if len(batch) == ROWS_PER_BATCH or n_values >= _VALUES_PER_BATCH:
                    writer.write_batch(_record_batch(batch))
                    batch, n_values = [], 0
            if writer is None:
                raise UserError(f"there is no series to write to {path}")
            if batch:
                writer.write_batch(_record_batch(batch))
            writer.close()


def open_store(path: str | Path) -> Store:
    """Open a store through a memory map.

    Raises:
        NotAStore: the file is no Arrow stream, or one of another schema, compressed, or with nulls.
        UserError: the file is cut short or broken.
    """
    path = Path(path)
    with open(path, "rb") as file:
        head = file.read(4)
    if head != b"\xff\xff\xff\xff":
        raise NotAStore(f"{path} is no Arrow stream")
    check_stream_end(path)
    mapped = np.memmap(path, np.uint8, mode="r")
    origin, n_floats = mapped.ctypes.data, len(mapped) // 4
    item_ids: list[pa.Array] = []
    starts: Any = []
    offsets: Any = []
    lengths: Any = []
    try:
        reader = pa.ipc.open_stream(pa.py_buffer(mapped))
        if not reader.schema.equals(_SCHEMA) or b"freq" not in (reader.schema.metadata or {}):
            raise NotAStore(f"{path} has another schema: {reader.schema}")
        for number, batch in enumerate(reader):
            target = batch.column("target")
            if any(column.null_count for column in (*batch.columns, target.values)):
                raise NotAStore(f"{path} holds nulls")
            bounds = target.offsets.to_numpy().astype(np.int64)
            address = target.values.buffers()[1].address if len(target.values) else origin
            if not origin <= address < origin + len(mapped):
                raise NotAStore(f"{path} is compressed")
            item_ids.append(batch.column("item_id"))
            starts.append(batch.column("start").to_numpy(zero_copy_only=False).copy())
            offsets.append((address - origin) // 4 + target.values.offset + bounds[:-1])
            lengths.append(np.diff(bounds))
            if number % _BATCHES_IN_MEMORY == 0:
                _release_pages(mapped)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is no whole Arrow file ({one_line(error)}); make the file anew") from error
    _release_pages(mapped)
    variates = _variates(reader.schema.metadata)
    # The rows of an item lie one behind the other, so that the first one's place is the item's.
    first = slice(None, None, len(variates))
    # One after the other, since of a million series these are the largest arrays of a run.
    starts = np.concatenate(starts)[first] if starts else np.empty(0, "M8[s]")
    offsets = np.concatenate(offsets)[first] if offsets else np.empty(0, np.int64)
    lengths = np.concatenate(lengths)[first] if lengths else np.empty(0, np.int64)
    return Store(
        freq=reader.schema.metadata[b"freq"].decode(),
        item_ids=_ItemIds(item_ids, len(variates)),
        starts=starts,
        offsets=offsets,
        lengths=lengths,
        values=np.asarray(mapped[: 4 * n_floats].view(np.float32)),  # slices faster than the map itself
        path=path,
        variates=variates,
    )


def _release_pages(mapped: np.memmap) -> None:
    """Give back the memory of the pages that were read; they are read again when they are asked for."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


class _ItemIds(Sequence[str]):
    """Names read from the memory map when they are asked for."""

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


def _metadata(series: Series) -> dict[str, str]:
    if series.variates == UNIVARIATE:
        return {"freq": series.freq}
    return {"freq": series.freq, "variates": json.dumps(dataclasses.asdict(series.variates))}


def _variates(metadata: dict[bytes, bytes]) -> Variates:
    if b"variates" not in metadata:
        return UNIVARIATE
    read = json.loads(metadata[b"variates"])
    categories = {name: tuple(values) for name, values in read.pop("categories").items()}
    return Variates(**{role: tuple(names) for role, names in read.items()}, categories=categories)


def _record_batch(series: list[Series]) -> pa.RecordBatch:
    rows = [row for one in series for row in np.atleast_2d(one.target)]
    n_rows = len(series[0].variates)
    bounds = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    values = np.concatenate(rows).astype(np.float32, copy=False)
    starts = np.array([one.start for one in series], dtype="M8[s]").repeat(n_rows)
    return pa.record_batch(
        [
            pa.array([one.item_id for one in series for _ in range(n_rows)], pa.string()),
            pa.array(starts),
            pa.ListArray.from_arrays(pa.array(bounds), pa.array(values)),
        ],
        schema=_SCHEMA,
    )
