"""Time and memory of the conversion of a table to an Arrow store, compared with a bare sort by DuckDB.

    python3 -m venv VENV && VENV/bin/pip install duckdb pyarrow
    python benchmarks/reading.py --duckdb-python VENV/bin/python
    python benchmarks/reading.py --duckdb-python VENV/bin/python --rows 20000000 --cases "sorted parquet"
    python benchmarks/reading.py --wide

The tables have hourly series of equal length, in order or with shuffled rows. DuckDB reads the columns, sorts the rows
by item ID and timestamp, and returns Arrow batches. It checks nothing and writes nothing. With --wide, this pipeline
converts tables with one column per series and with one column per date, at two sizes. Each run is a process of its own,
timed after its imports, and has an empty cache. The programs take turns. The table has medians over rounds, ratios
within rounds, and the peak resident memory in GB.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

CASES = [f"{order} {kind}" for kind in ("csv", "parquet") for order in ("sorted", "shuffled")]
_WIDE_SHAPES = {"series": (1_000, 20_000), "dates": (20, 100_000)}  # rows and columns of the larger of both sizes
_ROWS_PER_WRITE = 1_000_000
_MEASURE = """
print("SECONDS", time.perf_counter() - begin)
print("VALUES", n_values)
print("GB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)
"""
OURS = f"""
import resource, sys, time
from pipeline.data.columns import Columns
from pipeline.data.source import open_source
path, is_wide, cache_dir = sys.argv[1:]
begin = time.perf_counter()
n_values = open_source(path, cache_dir, Columns(wide=is_wide == "True")).lengths.sum()
{_MEASURE}"""
DUCKDB = f"""
import resource, sys, time
import duckdb, pyarrow
duckdb.execute("SET enable_progress_bar = false")  # it would be printed among the measurements
begin = time.perf_counter()
table = duckdb.sql(f"SELECT item_id, timestamp, target FROM '{{sys.argv[1]}}' ORDER BY item_id, timestamp")
n_values = sum(len(batch) for batch in table.to_arrow_reader())
{_MEASURE}"""


def main() -> None:
    """Write the tables, run the programs in turn, and print the results."""
    from pipeline.core.tables import markdown_table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--series", type=int, default=8_000)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--wide", action="store_true", help="convert wide tables instead")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--duckdb-python", help="Python interpreter of an environment with DuckDB")
    parser.add_argument("--only", choices=("ours", "DuckDB"), help="run a single program")
    parser.add_argument("--folder", type=Path, help="folder that keeps the tables for further runs")
    arguments = parser.parse_args()
    has_duckdb = arguments.duckdb_python and not arguments.wide
    programs = [arguments.only] if arguments.only else ["ours", "DuckDB"] if has_duckdb else ["ours"]
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name, path, n_values in _write_wide(folder) if arguments.wide else _write_long(folder, arguments):
            runs = [{program: _run(program, path, arguments) for program in programs} for _ in range(arguments.rounds)]
            assert all(run["VALUES"] == n_values for programs_run in runs for run in programs_run.values())
            rows.append({"table": name, **_summarize(runs, programs)})
            print(rows[-1], file=sys.stderr, flush=True)
    print(markdown_table(rows, list(rows[0])))


def _summarize(runs: list[dict[str, dict[str, float]]], programs: list[str]) -> dict[str, float]:
    row = {f"{program} s": statistics.median(run[program]["SECONDS"] for run in runs) for program in programs}
    if len(programs) > 1:
        row["ratio"] = statistics.median(run["ours"]["SECONDS"] / run["DuckDB"]["SECONDS"] for run in runs)
    return row | {f"{program} GB": statistics.median(run[program]["GB"] for run in runs) for program in programs}


def _run(program: str, path: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Run a program in a process of its own, and return the printed measurements by name."""
    with tempfile.TemporaryDirectory(dir=path.parent) as cache_dir:
        command = [sys.executable, "-c", OURS, path, arguments.wide, cache_dir]
        if program == "DuckDB":
            command = [arguments.duckdb_python, "-c", DUCKDB, path]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return {name: float(number) for name, number in map(str.split, done.stdout.splitlines()[-3:])}


def _write_long(folder: Path, arguments: argparse.Namespace) -> Iterator[tuple[str, Path, int]]:
    """Write the long tables; yield the name, path and number of values of each."""
    length = arguments.rows // arguments.series
    for case in arguments.cases:
        order, kind = case.split()
        path = folder / f"{order}-{arguments.series}x{length}.{kind}"
        _write_once(path, _long_tables, arguments.series, length, order == "shuffled")
        yield case, path, arguments.series * length


def _write_wide(folder: Path) -> Iterator[tuple[str, Path, int]]:
    """Write the wide tables at half and full size; yield the name, path and number of values of each."""
    for columns, (n_rows, max_columns) in _WIDE_SHAPES.items():
        for n_columns in (max_columns // 2, max_columns):
            path = folder / f"{columns}-{n_rows}x{n_columns}.csv"
            _write_once(path, _wide_tables, columns, n_rows, n_columns)
            yield f"{n_columns:,} {columns} x {n_rows:,} rows", path, n_rows * n_columns


def _write_once(path: Path, make_tables: Callable[..., Iterator[pa.Table]], *options: Any) -> None:
    """Write a file unless it exists, in another process, since on Linux a child's peak memory includes its parent's."""
    if not path.exists():
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            pool.submit(_write, path, make_tables, *options).result()


def _write(path: Path, make_tables: Callable[..., Iterator[pa.Table]], *options: Any) -> None:
    temporary, tables = path.with_suffix(".tmp"), make_tables(*options)
    first = next(tables)
    if path.suffix == ".parquet":
        with pa.parquet.ParquetWriter(temporary, first.schema) as writer:
            for table in chain([first], tables):
                writer.write_table(table)
    else:
        write_options = pa.csv.WriteOptions(include_header=False, quoting_style="none")
        with open(temporary, "wb") as file:
            file.write(",".join(first.column_names).encode() + b"\n")
            for table in chain([first], tables):
                pa.csv.write_csv(table, file, write_options)
    temporary.rename(path)


def _long_tables(n_series: int, length: int, is_shuffled: bool) -> Iterator[pa.Table]:
    rows = np.arange(n_series * length)
    if is_shuffled:
        np.random.default_rng(0).shuffle(rows)
    names = _item_ids(n_series)
    for first in range(0, len(rows), _ROWS_PER_WRITE):
        series, steps = np.divmod(rows[first : first + _ROWS_PER_WRITE], length)
        columns = {"item_id": names.take(pa.array(series)), "timestamp": _hours(steps), "target": _values(len(steps))}
        yield pa.table(columns)


def _wide_tables(columns: str, n_rows: int, n_columns: int) -> Iterator[pa.Table]:
    if columns == "series":
        names, first = _item_ids(n_columns).to_pylist(), {"timestamp": _hours(np.arange(n_rows))}
    else:
        names, first = np.datetime_as_string(_hours(np.arange(n_columns))).tolist(), {"item_id": _item_ids(n_rows)}
    values = _values(n_columns * n_rows).reshape(n_columns, n_rows)
    yield pa.table(first | dict(zip(names, values)))


def _item_ids(n_series: int) -> pa.Array:
    return pa.array([f"item_{number:05d}" for number in range(1, n_series + 1)])


def _hours(steps: np.ndarray) -> np.ndarray:
    return np.datetime64("2010-01-01", "s") + steps * np.timedelta64(3600, "s")


def _values(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(100, 20, n).round(2)


if __name__ == "__main__":
    main()
