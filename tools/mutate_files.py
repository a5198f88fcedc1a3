"""Read damaged files of every format, and print the ones that are neither read nor refused.

python tools/mutate_files.py 20000                    this number of damaged files per format
python tools/mutate_files.py 20000 arrow parquet      only these formats

A damaged file differs from a valid one in one to three bytes, in a number or a piece of up to 64 bytes, or lacks its
end. A reader may read it or raise UserError. Any other error and any crash is a finding, and the exit code is 1.
"""

import argparse
import bz2
import datetime as dt
import gzip
import io
import json
import random
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.core.errors import UserError, to_one_line
from pipeline.data.columns import Columns
from pipeline.data.readers import read_tables
from pipeline.data.rows import SourceLocation

_ROWS = [(f"item{n // 20}", dt.datetime(2024, 1, 1 + n % 20), n / 2 if n % 7 else None) for n in range(60)]
_SLOW = 20  # times fewer files of the formats that another process reads


class Sample(NamedTuple):
    """A valid file."""

    suffix: str
    content: bytes
    """The bytes that are damaged."""
    wrap: Callable[[bytes], bytes] = bytes
    """Returns the file with this content."""
    is_slow: bool = False


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
    sheet = _workbook("xl/worksheets/sheet1.xml")
    return {
        "csv": Sample(".csv", csv.encode()),
        "csv utf-16": Sample(".csv", csv.encode("utf-16")),
        "csv.gz": Sample(".csv.gz", gzip.compress(csv.encode())),
        "csv.bz2": Sample(".csv.bz2", bz2.compress(csv.encode())),
        "csv.zst": Sample(".csv.zst", pa.compress(csv.encode(), "zstd", asbytes=True)),
        "csv.zip": Sample(".zip", _archive({"s.csv": csv.encode()})),
        "json lines": Sample(".jsonl", "\n".join(objects).encode()),
        "json array": Sample(".json", f"[{', '.join(objects)}]".encode()),
        "tsf": Sample(".tsf", (header + series).encode()),
        "parquet": Sample(".parquet", _written(pq.write_table, long)),
        "parquet nested": Sample(".parquet", _written(pq.write_table, nested, compression="zstd")),
        "parquet plain": Sample(".parquet", _written(pq.write_table, long, use_dictionary=False, compression="none")),
        "arrow stream": Sample(".arrow", _ipc(pa.ipc.new_stream, long)),
        "arrow stream lz4": Sample(".arrow", _ipc(pa.ipc.new_stream, long, "lz4")),
        "arrow stream nested": Sample(".arrow", _ipc(pa.ipc.new_stream, nested)),
        "arrow stream dictionary": Sample(".arrow", _ipc(pa.ipc.new_stream, coded)),
        "arrow file": Sample(".arrow", _ipc(pa.ipc.new_file, long)),
        "arrow file zstd": Sample(".arrow", _ipc(pa.ipc.new_file, long, "zstd")),
        "arrow file nested": Sample(".arrow", _ipc(pa.ipc.new_file, nested)),
        "arrow file dictionary": Sample(".arrow", _ipc(pa.ipc.new_file, coded)),
        "feather": Sample(".feather", _written(pyarrow.feather.write_feather, long)),
        "feather 1": Sample(".feather", _written(pyarrow.feather.write_feather, long, version=1), is_slow=True),
        "xlsx": Sample(".xlsx", _archive(sheet), is_slow=True),
        "xlsx sheet": Sample(
            ".xlsx",
            sheet["xl/worksheets/sheet1.xml"],
            lambda content: _archive(sheet | {"xl/worksheets/sheet1.xml": content}),
            is_slow=True,
        ),
    }


def _written(write: Callable[..., Any], table: pa.Table, **options: Any) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Feather 1 is deprecated
        write(table, stream, **options)
    return stream.getvalue()


def _ipc(new_writer: Callable[..., Any], table: pa.Table, compression: str | None = None) -> bytes:
    stream = io.BytesIO()
    with new_writer(stream, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=25)
    return stream.getvalue()


def _archive(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _workbook(sheet: str) -> dict[str, bytes]:
    """Return the files in a workbook."""
    import openpyxl

    book, stream = openpyxl.Workbook(), io.BytesIO()
    for row in (("item_id", "timestamp", "target"), *_ROWS):
        book.active.append(row)
    book.save(stream)
    with zipfile.ZipFile(stream) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert sheet in members
    return members


def read_damaged(first: int, count: int, formats: list[str], seed: int, folder: Path) -> tuple[Counter, list[str]]:
    """Read damaged files, and return how many were read or refused, and the findings.

    If a file crashes the interpreter, it is left in the folder.

    Args:
        first: number of the first file over all formats; those before it are left out.
        count: number of files per format.
    """
    results: Counter = Counter()
    findings, number = [], -1
    for name in formats:
        sample = samples()[name]
        for index in range(count // _SLOW if sample.is_slow else count):
            number += 1
            if number < first:
                continue
            rng = random.Random(f"{name} {seed} {index}")
            path = folder / f"{number}{sample.suffix}"
            path.write_bytes(sample.wrap(mutate(sample.content, rng)))
            try:
                for table in read_tables(str(path), Columns(), SourceLocation(path)):
                    table.take(pa.array(range(len(table)))).combine_chunks().validate(full=True)
                results["read"] += 1
            except UserError as error:
                results["refused"] += 1
                if "\n" in str(error) or path.name not in str(error):
                    findings.append(f"{name} {index}: not one line with the file's name: {error}")
            except Exception as error:
                findings.append(f"{name} {index}: {type(error).__name__}: {to_one_line(error)}")
            path.unlink()
    return results, findings


def main() -> int:
    """Read the damaged files in another process, in a new one after a crash, and print the findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, help="number of damaged files per format")
    parser.add_argument("formats", nargs="*", help=f"default: {', '.join(samples())}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", nargs=2, metavar=("FIRST", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    formats = arguments.formats or list(samples())
    if arguments.worker:
        first, folder = int(arguments.worker[0]), Path(arguments.worker[1])
        results, findings = read_damaged(first, arguments.count, formats, arguments.seed, folder)
        print(json.dumps([results, findings]))
        return 0
    results, findings, first = Counter(), [], 0
    while True:
        with tempfile.TemporaryDirectory() as name:
            command = [sys.executable, __file__, str(arguments.count), *formats, "--seed", str(arguments.seed)]
            worker = subprocess.run([*command, "--worker", str(first), name], stdout=subprocess.PIPE, text=True)
            left = next(Path(name).iterdir(), None)
            if worker.returncode == 0:
                more_results, more_findings = json.loads(worker.stdout)
                results, findings = results + Counter(more_results), findings + more_findings
                break
            if left is None:
                findings.append(f"exit code {worker.returncode} after the last file")
                break
            first = int(left.name.partition(".")[0]) + 1
            kept = left.rename(Path(tempfile.gettempdir(), f"crash-{left.name}"))
            findings.append(f"exit code {worker.returncode}: {kept}")
    print(*findings, sep="\n", end="\n" if findings else "")
    print(f"{results['read']:,} files were read, {results['refused']:,} refused, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
