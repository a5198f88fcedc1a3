"""The Arrow store: series on disk, written as a stream, read through a memory map.

The form is a contract: Arrow IPC stream format, uncompressed, columns `item_id: string`, `start: timestamp[s]`,
`target: list<float32>`, schema metadata `{"freq": ...}`, at most 1,024 rows a record batch. GluonTS, `datasets`, pyarrow and
chronos-forecasting's own training script all read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import UserError
from pipeline.files import check_stream_end, whole_file
from pipeline.series import Series

ROWS_PER_BATCH = 1024
_VALUES_PER_BATCH = 1 << 24
_SCHEMA = pa.schema(
    [("item_id", pa.string()), ("start", pa.timestamp("s")), ("target", pa.list_(pa.field("item", pa.float32())))]
)


class NotAStore(Exception):
    """The file is whole, but not in the form of a store."""


@dataclass(frozen=True, eq=False)
class Store:
    """A set of series of one frequency, their values in one flat array.

    Series i is `values[offsets[i] : offsets[i] + lengths[i]]`. For a store on disk `values` is the memory-mapped file
    itself, so what is read is what is asked for, and a pickled store is a path.
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

    def __len__(self) -> int:
        return len(self.lengths)

    def target(self, index: int) -> np.ndarray:
        """Return the values of one series: float32, [length], a view."""
        start = self.offsets[index]
        return self.values[start : start + self.lengths[index]]

    def __reduce__(self) -> tuple:
        if self.path is not None:
            return open_store, (self.path,)
        return Store, (self.freq, list(self.item_ids), self.starts, self.offsets, self.lengths, self.values)


def store_of_arrays(targets: Iterable[np.ndarray], freq: str = "") -> Store:
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
    with whole_file(path) as temporary:
        writer: Any = None
        freq: str | None = None
        batch: list[Series] = []
        n_values = 0
        with pa.OSFile(str(temporary), "wb") as file:
            for one in series:
                if freq is None:
                    freq = one.freq
                    writer = pa.ipc.new_stream(file, _SCHEMA.with_metadata({"freq": freq}))
                elif one.freq != freq:
                    raise UserError(
                        f"series {one.item_id} has frequency {one.freq!r} where the ones before it have {freq!r}; "
                        "give each frequency a file of its own"
                    )
                batch.append(one)
                n_values += len(one.target)
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
    source = pa.memory_map(str(path))
    origin = source.read_buffer().address
    source.seek(0)
    item_ids, starts, offsets, lengths = [], [], [], []
    try:
        reader = pa.ipc.open_stream(source)
        if not reader.schema.equals(_SCHEMA) or b"freq" not in (reader.schema.metadata or {}):
            raise NotAStore(f"{path} has another schema: {reader.schema}")
        for batch in reader:
            target = batch.column("target")
            if any(column.null_count for column in (*batch.columns, target.values)):
                raise NotAStore(f"{path} holds nulls")
            bounds = target.offsets.to_numpy().astype(np.int64)
            address = target.values.buffers()[1].address if len(target.values) else origin
            if not origin <= address < origin + path.stat().st_size:
                raise NotAStore(f"{path} is compressed")
            item_ids.append(batch.column("item_id"))
            starts.append(batch.column("start").to_numpy(zero_copy_only=False))
            offsets.append((address - origin) // 4 + target.values.offset + bounds[:-1])
            lengths.append(np.diff(bounds))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is no whole Arrow file ({_one_line(error)}); make the file anew") from error
    n_floats = path.stat().st_size // 4
    return Store(
        freq=reader.schema.metadata[b"freq"].decode(),
        item_ids=_ItemIds(item_ids),
        starts=np.concatenate(starts) if starts else np.empty(0, "M8[s]"),
        offsets=np.concatenate(offsets) if offsets else np.empty(0, np.int64),
        lengths=np.concatenate(lengths) if lengths else np.empty(0, np.int64),
        values=np.memmap(path, dtype=np.float32, mode="r", shape=(n_floats,)),
        path=path,
    )


class _ItemIds(Sequence[str]):
    """Names read from the memory map when they are asked for."""

    def __init__(self, chunks: list[pa.Array]) -> None:
        self._names = pa.chunked_array(chunks, type=pa.string())

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._names[index].to_pylist()
        return self._names[int(index)].as_py()


def _record_batch(series: list[Series]) -> pa.RecordBatch:
    lengths = [len(one.target) for one in series]
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    values = np.concatenate([one.target for one in series]).astype(np.float32, copy=False)
    starts = np.array([one.start for one in series], dtype="M8[s]")
    return pa.record_batch(
        [
            pa.array([one.item_id for one in series], pa.string()),
            pa.array(starts),
            pa.ListArray.from_arrays(pa.array(bounds), pa.array(values)),
        ],
        schema=_SCHEMA,
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
