"""Read damaged files of every format, and print the ones that are neither read nor refused.

python tools/attack/mutations.py 20000                    this number of damaged files of each format
python tools/attack/mutations.py 20000 arrow parquet      only the formats whose names begin so

A damaged file differs from a valid one in one to three bytes, in a number or a piece of up to 64 bytes, or lacks its
end. A reader may read it, or refuse it in one line with its name.
"""

import bz2
import datetime as dt
import gzip
import io
import json
import random
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from common import run

from pipeline.core.errors import UserError
from pipeline.core.series import Series, Variates
from pipeline.data.arrow_store import NotAStore, open_store, write_store
from pipeline.data.column_formats import ColumnFormats, LabelFormat
from pipeline.data.columns import Columns
from pipeline.data.dates import TimeFormat
from pipeline.data.numbers import NumberFormat
from pipeline.data.readers import read_tables
from pipeline.data.rows import SourceLocation

_ROWS = [(f"item{n // 20}", dt.datetime(2024, 1, 1 + n % 20), n / 2 if n % 7 else None) for n in range(60)]
SHEET = "xl/worksheets/sheet1.xml"
"""The sheet in a workbook."""


class Sample(NamedTuple):
    """A valid file."""

    suffix: str
    content: bytes
    """The bytes that are damaged."""
    wrap: Callable[[bytes], bytes] = bytes
    """Returns the file with this content."""
    is_slow: bool = False
    """Whether another process reads it."""


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Return a damaged copy of the bytes of a file."""
    damaged = bytearray(content)
    place, kind = rng.randrange(len(damaged)), rng.random()
    if kind < 0.6:
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    elif kind < 0.75:
        size, value = rng.choice([4, 8]), rng.choice([-1, 0, 1, 255, 1 << 20, (1 << 31) - 1, -(1 << 31)])
        damaged[place : place + size] = value.to_bytes(size, "little", signed=True)
    elif kind < 0.87:
        del damaged[place:]
    else:
        start, size = rng.randrange(len(damaged)), rng.randint(1, 64)
        damaged[place : place + size] = damaged[start : start + size]
    return bytes(damaged)


def samples() -> dict[str, Sample]:
    """Return a small valid file of every format."""
    import pyarrow.feather
    import pyarrow.parquet as pq

    ids, stamps, values = map(list, zip(*_ROWS))
    long = pa.table({"item_id": ids, "timestamp": stamps, "target": values})
    coded = long.set_column(0, "item_id", long["item_id"].dictionary_encode())
    lists = pa.array([values[:20], values[20:40], values[40:]], pa.list_(pa.float64()))
    nested = pa.table({"item_id": ["a", "b", "c"], "start": stamps[:3], "target": lists})
    csv = "item_id,timestamp,target\n" + "".join(f"{name},{stamp},{value}\n" for name, stamp, value in _ROWS)
    objects = [json.dumps({"item_id": name, "timestamp": str(stamp), "target": value}) for name, stamp, value in _ROWS]
    series = "".join(f"{name}:2024-01-01 00-00-00:{','.join(map(str, range(20)))},?\n" for name in "abc")
    header = "@attribute series_name string\n@attribute start date\n@frequency daily\n@data\n"
    sheet = workbook([("item_id", "timestamp", "target"), *_ROWS])
    return {
        "csv": Sample(".csv", csv.encode()),
        "csv utf-16": Sample(".csv", csv.encode("utf-16")),
        "csv.gz": Sample(".csv.gz", gzip.compress(csv.encode(), mtime=0)),
        "csv.bz2": Sample(".csv.bz2", bz2.compress(csv.encode())),
        "csv.zst": Sample(".csv.zst", pa.compress(csv.encode(), "zstd", asbytes=True)),
        "csv.zip": Sample(".zip", archive({"s.csv": csv.encode()})),
        "json lines": Sample(".jsonl", "\n".join(objects).encode()),
        "json array": Sample(".json", f"[{', '.join(objects)}]".encode()),
        "tsf": Sample(".tsf", (header + series).encode()),
        "parquet": Sample(".parquet", written(pq.write_table, long)),
        "parquet nested": Sample(".parquet", written(pq.write_table, nested, compression="zstd")),
        "parquet plain": Sample(".parquet", written(pq.write_table, long, use_dictionary=False, compression="none")),
        "arrow stream": Sample(".arrow", ipc(pa.ipc.new_stream, long)),
        "arrow stream lz4": Sample(".arrow", ipc(pa.ipc.new_stream, long, "lz4")),
        "arrow stream nested": Sample(".arrow", ipc(pa.ipc.new_stream, nested)),
        "arrow stream dictionary": Sample(".arrow", ipc(pa.ipc.new_stream, coded)),
        "arrow file": Sample(".arrow", ipc(pa.ipc.new_file, long)),
        "arrow file zstd": Sample(".arrow", ipc(pa.ipc.new_file, long, "zstd")),
        "arrow file nested": Sample(".arrow", ipc(pa.ipc.new_file, nested)),
        "arrow file dictionary": Sample(".arrow", ipc(pa.ipc.new_file, coded)),
        "store": Sample(".arrow", _store(Variates())),
        "store of variates": Sample(".arrow", _store(Variates(("a",), ("b",), ("c",), {"b": ("x", "y")}))),
        "feather": Sample(".feather", written(pyarrow.feather.write_feather, long)),
        "feather 1": Sample(".feather", written(pyarrow.feather.write_feather, long, version=1), is_slow=True),
        "xlsx": Sample(".xlsx", archive(sheet), is_slow=True),
        "xlsx sheet": Sample(
            ".xlsx",
            sheet[SHEET],
            lambda content: archive(sheet | {SHEET: content}),
            is_slow=True,
        ),
    }


def written(write: Callable[..., Any], table: pa.Table, **options: Any) -> bytes:
    """Return the file that a function of pyarrow writes."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Feather 1 is deprecated
        write(table, stream, **options)
    return stream.getvalue()


def ipc(new_writer: Callable[..., Any], table: pa.Table, compression: str | None = None, n_rows: int = 25) -> bytes:
    """Return a table as an Arrow stream or file of batches of a number of rows."""
    stream = io.BytesIO()
    with new_writer(stream, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=n_rows)
    return stream.getvalue()


def _store(variates: Variates) -> bytes:
    values = np.arange(20 * len(variates), dtype=np.float32).reshape(len(variates), 20) % 2
    series = (Series(name, np.datetime64(0, "s"), "D", values.squeeze(), variates) for name in ("a", "b", "c"))
    formats = ColumnFormats(TimeFormat("iso"), {"b": LabelFormat("category"), "target": NumberFormat(".")}, "D")
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder, "s.arrow"), series, formats, values_per_batch=50)
        return Path(folder, "s.arrow").read_bytes()


def archive(members: dict[str, bytes]) -> bytes:
    """Return a ZIP archive of files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def workbook(rows: Iterable[Sequence[Any]]) -> dict[str, bytes]:
    """Return the files in a workbook with one sheet."""
    import openpyxl

    book, stream = openpyxl.Workbook(), io.BytesIO()
    for row in rows:
        book.active.append(row)
    book.save(stream)
    with zipfile.ZipFile(stream) as file:
        return {name: file.read(name) for name in file.namelist()}


def _damage(sample: Sample, is_store: bool, rng: random.Random, folder: Path) -> None:
    """Write a damaged file, and read all its values."""
    path = folder / f"damaged{sample.suffix}"
    path.write_bytes(sample.wrap(mutate(sample.content, rng)))
    try:
        _read_store(path) if is_store else _read_table(path)
    except NotAStore as error:
        raise UserError("another reader takes it") from error
    except UserError as error:
        assert path.name in str(error), f"no name in: {error}"
        raise


def _read_table(path: Path) -> None:
    for table in read_tables(str(path), Columns(), SourceLocation(path)):
        table.take(pa.array(range(len(table)))).combine_chunks().validate(full=True)


def _read_store(path: Path) -> None:
    store = open_store(path)
    for index in range(len(store)):
        shape = (len(store.variates), store.lengths[index])
        assert store.rows(index).shape == shape and store.item_ids[index] is not None
        np.isnan(store.rows(index)).any()
    str(store.starts), store.formats.describe(store.variates)


def main() -> int:
    """Damage files of the formats of the command line, and return the exit code."""
    chosen = samples()
    attacks = {name: partial(_damage, sample, name.startswith("store")) for name, sample in chosen.items()}
    return run(__doc__, attacks, [name for name, sample in chosen.items() if sample.is_slow])


if __name__ == "__main__":
    sys.exit(main())
