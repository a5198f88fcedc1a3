"""Files of every format, read as a stream of Arrow tables with the columns named as this package names them.

A table is *long* (a row a time step: `item_id, timestamp, target`) or *nested* (a row a series: `item_id, start,
target` with a list of values). Either carries `row`, the position in the source, by which error messages name a row of one
of its files. Further variates of a long table are named as `Variates.columns` says.
"""

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError, first_few, one_line
from pipeline.core.files import check_stream_end, read_json
from pipeline.data import wide
from pipeline.data.columns import Columns, select_columns
from pipeline.data.csv_files import read_csv
from pipeline.data.excel import read_excel
from pipeline.data.rows import SourceLocation

_CSV, _JSON = (".csv", ".tsv", ".txt"), (".jsonl", ".json", ".ndjson")
_PARQUET, _ARROW = (".parquet", ".pq"), (".arrow", ".feather", ".ipc")
_EXCEL = (".xlsx", ".xlsm")
_SUFFIXES = _CSV + _JSON + _PARQUET + _ARROW + _EXCEL
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
_RAGGED = re.compile(r"Expected (\d+) columns, got (\d+): (.*)")
_ROWS = 65_536
_NESTED_ROWS = 1024
_JSON_LINES, _JSON_BYTES = 4096, 1 << 23


def source_files(source: str) -> list[Path]:
    """Return the files that hold the series of `source`; none for the name of a data set on the Hub.

    A GluonTS folder gives its train split, a folder that `datasets` wrote its own files, one with partitions all files in
    those, and any other folder all files in it that have a known suffix.

    Raises:
        UserError: nothing is there, no file of a known format, or a Delta table.
    """
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        if (path / "metadata" / "metadata.json").exists() or (path / "metadata.json").exists():
            path = path / "train" if (path / "train").is_dir() else path
        if (path / "_delta_log").is_dir():  # among its files are those of rows that were deleted since
            raise UserError(f"{path} is a Delta table; write its rows to Parquet files in another folder")
        depth = "**/*" if _is_datasets_folder(Path(source)) or _is_partitioned(Path(source)) else "*"
        files = sorted(file for file in path.glob(depth) if _suffix(file) in _SUFFIXES and not _is_hidden(file, path))
        if not files:
            raise UserError(
                f"no data file in the folder {path} itself, whose subfolders are not read; known are {', '.join(_SUFFIXES)}"
            )
        return files
    if _HUB_NAME.fullmatch(source) and _suffix(path) not in _SUFFIXES:
        return []
    raise UserError(f"no such file or folder: {source}; give the path of your series or owner/name on the Hub")


def gluonts_freq(source: str) -> str | None:
    """Return the frequency that the metadata of a GluonTS folder names, None for any other source."""
    for metadata in (Path(source, "metadata", "metadata.json"), Path(source, "metadata.json")):
        if metadata.is_file():
            return read_json(metadata).get("freq")
    return None


def read_tables(source: str, columns: Columns, where: SourceLocation) -> Iterator[pa.Table]:
    """Yield the tables of a source, in its order, a bounded number of rows each; `where` learns which file has which rows.

    Raises:
        UserError: a file does not parse, is empty or cut short, or lacks a column.
    """
    files = source_files(source)
    if not files:
        yield from _read_hub(source, columns, where)
    elif Path(source).is_dir() and _is_datasets_folder(Path(source)):
        yield from _read_datasets_folder(Path(source), columns, where)
    elif _is_partitioned(Path(source)):
        yield from _read_partitions(Path(source), files, columns, where)
    else:
        n_rows = 0
        for file in files:
            if len(files) > 1:
                where.begins(file.name, n_rows)
            for table in _read_file(file, columns, where):
                n_rows += len(table)
                yield _named_by_file(table, columns, file) if len(files) > 1 else table


def _named_by_file(table: pa.Table, columns: Columns, file: Path) -> pa.Table:
    """Return a long table with the name of its file for that of its one series, where it came without a name."""
    if set(columns.item_ids) & set(table.column_names) or columns.target not in table.column_names:
        return table
    if is_list(table.schema.field(columns.target).type):
        return table
    return table.append_column(columns.item_ids[0], pa.array([_bare(file).stem] * len(table)))


def _read_file(path: Path, columns: Columns, where: SourceLocation) -> Iterator[pa.Table]:
    suffix = _suffix(path)
    if suffix not in _SUFFIXES:
        raise UserError(f"{path} has no suffix of a known format; known are {', '.join(_SUFFIXES)}")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty")
    with _reading(path, columns):
        if suffix in _CSV:
            yield from read_csv(path, columns, where)
        elif suffix in _JSON:
            if columns.wide:
                raise UserError(f"{path}: data.wide is for CSV, Excel, Parquet, Arrow and Feather files")
            yield from _read_json(path, columns, where)
        elif suffix in _EXCEL:
            yield from read_excel(path, columns, where)
        elif suffix in _PARQUET:
            import pyarrow.parquet as pq

            # What is buffered ahead would be kept to the end of the file.
            with pq.ParquetFile(path, pre_buffer=False) as file:
                names = select_columns(file.schema_arrow.names, columns, path, where)
                at_once = _rows_at_once(file.schema_arrow, names, columns)
                for batch in file.iter_batches(batch_size=at_once, columns=names):
                    yield pa.Table.from_batches([batch])
        else:
            yield from _read_arrow(path)


def _read_partitions(path: Path, files: list[Path], columns: Columns, where: SourceLocation) -> Iterator[pa.Table]:
    """Read Parquet files that lie in folders named COLUMN=VALUE, as Spark and Hive write them."""
    import pyarrow.dataset as pads

    other = next((file for file in files if _suffix(file) not in _PARQUET), None)
    if other is not None:
        raise UserError(
            f"{other} lies in a folder with partitions, named COLUMN=VALUE: those are read of Parquet files"
        )
    folders = (part for file in files for part in file.parent.relative_to(path).parts)
    keys = dict.fromkeys(name for name, equals, _ in (folder.partition("=") for folder in folders) if equals)
    partitions = pads.partitioning(pa.schema([(key, pa.string()) for key in keys]), flavor="hive")
    with _reading(path, columns):
        dataset = pads.dataset([str(file) for file in files], partitioning=partitions, partition_base_dir=str(path))
        names = select_columns(dataset.schema.names, columns, path, where)
        at_once = _rows_at_once(dataset.schema, names, columns)
        unbuffered = pads.ParquetFragmentScanOptions(pre_buffer=False)
        ahead = {"batch_readahead": 1, "fragment_readahead": 1, "fragment_scan_options": unbuffered}
        for batch in dataset.to_batches(columns=names, batch_size=at_once, **ahead):
            yield pa.Table.from_batches([batch])


def _rows_at_once(schema: pa.Schema, names: list[str], columns: Columns) -> int:
    """Return how many rows of a Parquet file memory has room for."""
    if columns.wide:
        return max(1, _ROWS // len(names))
    return _NESTED_ROWS if is_list(schema.field(columns.target).type) else _ROWS


@contextmanager
def _reading(path: Path, columns: Columns) -> Iterator[None]:
    """Name `path` where what lies there does not parse."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, UnicodeDecodeError) or "invalid UTF8" in str(error):
            raise UserError(
                f"{path} is not written in {columns.encoding}; name its encoding with data.encoding, such as cp1252"
            ) from error
        if ragged := _RAGGED.search(str(error)):
            names, values, text = ragged.groups()
            raise UserError(
                f"{path}: a row has {values} values for {names} columns: {text}; write one for each, in "
                "quotes where it holds what parts them"
            ) from error
        raise UserError(f"cannot read {path}: {one_line(error)}; is it whole, and what its suffix says?") from error


def named_tables(tables: Iterator[pa.Table], columns: Columns, where: SourceLocation) -> Iterator[pa.Table]:
    """Rename the columns to `item_id, timestamp, start, target`, drop all others, and number the rows from 1."""
    n_rows = 0
    without_value: set[str] = set()
    for table in tables:
        if not len(table):
            continue
        table = table.select(select_columns(table.column_names, columns, where, where))
        rows = pa.array(np.arange(n_rows + 1, n_rows + 1 + len(table)))
        n_rows += len(table)
        if len(columns.item_ids) > 1:
            table = _named_together(table, columns.item_ids)
        if columns.wide:
            named = columns.item_ids[0], columns.timestamp, columns.target
            if columns.timestamp in table.column_names:
                if n_rows == len(table):  # the first one
                    without_value = set(table.column_names) - {columns.timestamp}
                table, rows = wide.of_columns(table, rows, *named)
                without_value -= set(table[columns.item_ids[0]].unique().to_pylist())
            else:
                table, rows = wide.of_rows(table, rows, *named, where)
        wanted = {columns.item_ids[0]: "item_id", columns.timestamp: "timestamp"}
        wanted |= dict(zip(columns.variates.names, columns.variates.columns))
        wanted.setdefault("start", "start")
        if columns.target in table.column_names and is_list(table.schema.field(columns.target).type):
            wanted.setdefault("freq", "freq")
        metadata = table.schema.metadata
        table = table.select([name for name in wanted if name in table.column_names])
        table = table.rename_columns([wanted[name] for name in table.column_names])
        if "item_id" in table.column_names:
            position = table.column_names.index("item_id")
            table = table.set_column(position, "item_id", table["item_id"].cast(pa.string()))
        if "timestamp" in table.column_names:
            table = table.set_column(table.column_names.index("timestamp"), "timestamp", _stamps(table["timestamp"]))
        yield table.append_column("row", rows).replace_schema_metadata(metadata)
    if without_value:
        where.warn(f"{len(without_value)} columns hold no value and are left out: {first_few(sorted(without_value))}")


def _stamps(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return timestamps in the unit of all files, and the first days of pandas' periods; others as they are."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([pa.array(column.to_pandas().dt.to_timestamp())])
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False)
    return column


def _named_together(table: pa.Table, names: tuple[str, ...]) -> pa.Table:
    """Return a table with its names in the first of several columns, none where one of them has none."""
    joined = pc.binary_join_element_wise(*(table[name].cast(pa.string()) for name in names), "/")
    return table.set_column(table.column_names.index(names[0]), names[0], joined)


def _read_json(path: Path, columns: Columns, where: SourceLocation) -> Iterator[pa.Table]:
    with pa.input_stream(str(path), compression="detect") as stream:
        seen: dict[str, None] = {}
        for records in _json_blocks(path, stream):
            seen |= dict.fromkeys(name for record in records for name in record)
            values = {
                name: [record.get(name) for record in records]
                for name in select_columns(list(seen), columns, path, where)
            }
            if any(isinstance(value, list) for value in values[columns.target]):
                floats = [_json_floats(path, value) for value in values.pop(columns.target)]
                table = pa.table({columns.target: pa.array(floats, pa.list_(pa.float64()))})
            else:
                table = pa.table({columns.target: _json_texts(values.pop(columns.target))})
            for name, column in values.items():
                lists = any(isinstance(value, list) for value in column)
                table = table.append_column(name, pa.array(column) if lists else _json_texts(column))
            yield table


def _json_blocks(path: Path, stream: pa.NativeFile) -> Iterator[list[dict]]:
    """Yield the records of some lines after the other, as many as memory has room for."""
    records: list[dict] = []
    n_bytes = 0
    for number, line in enumerate(io.BufferedReader(stream), 1):
        if line.strip():
            records.append(_json_record(path, number, line))
            n_bytes += len(line)
        if len(records) == _JSON_LINES or n_bytes > _JSON_BYTES:
            yield records
            records, n_bytes = [], 0
    if records:
        yield records


def _json_texts(values: list) -> pa.Array:
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _json_record(path: Path, number: int, line: bytes) -> dict:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise UserError(f"{path}, line {number}: no valid JSON ({error}); write one object a line") from error
    if not isinstance(record, dict):
        raise UserError(f"{path}, line {number}: not a JSON object; write one object a line")
    return record


def _json_floats(path: Path, values: object) -> list[float | None] | None:
    # GluonTS writes NaN as a string.
    if values is None:
        return None
    if not isinstance(values, list):
        raise UserError(f"{path}: a target among lists is none: {values}")
    try:
        return [None if value is None else float(value) for value in values]
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: a target holds something that is no number ({error})") from error


def _read_arrow(path: Path) -> Iterator[pa.Table]:
    with pa.memory_map(str(path)) as source:
        magic = source.read(6)
        source.seek(0)
        if magic == b"FEA1\x00\x00" or magic[:4] == b"FEA1":
            import pyarrow.feather as feather

            yield feather.read_table(path)
        elif magic == b"ARROW1":
            file = pa.ipc.open_file(source)
            for index in range(file.num_record_batches):
                yield pa.Table.from_batches([file.get_batch(index)])
        else:
            check_stream_end(path)
            for batch in pa.ipc.open_stream(source):
                yield pa.Table.from_batches([batch])


def _read_datasets_folder(path: Path, columns: Columns, where: SourceLocation) -> Iterator[pa.Table]:
    import datasets

    try:
        dataset = datasets.load_from_disk(str(path))
    except Exception as error:  # whatever a broken folder makes `datasets` raise
        raise UserError(f"cannot read the datasets folder {path}: {one_line(error)}") from error
    if isinstance(dataset, datasets.DatasetDict):
        if "train" not in dataset:
            raise UserError(f"{path} has no train split, only {', '.join(dataset)}; give the folder of one of them")
        dataset = dataset["train"]
    select_columns(dataset.column_names, columns, path, where)
    yield from dataset.with_format("arrow").iter(batch_size=1024)


def hub_commit(source: str) -> str | None:
    """Return the commit of a data set on the Hub, None where the Hub cannot be asked: then what was loaded before serves."""
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(source.partition(":")[0]).sha
    except Exception:  # as below; what is wrong, loading says
        return None


def _read_hub(source: str, columns: Columns, where: SourceLocation) -> Iterator[pa.Table]:
    import datasets

    name, _, subset = source.partition(":")
    try:
        dataset = datasets.load_dataset(name, subset or None, split="train")
    except Exception as error:  # the Hub client's own errors, network errors and datasets' share no base class
        raise UserError(
            f"data.train: {source} is no file here, and cannot be loaded as a data set of the Hub: "
            f"{one_line(error)}"
        ) from error
    select_columns(dataset.column_names, columns, source, where)
    yield from dataset.with_format("arrow").iter(batch_size=1024)


def is_list(kind: pa.DataType) -> bool:
    """Return whether a column holds a list a row, of any of Arrow's kinds."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_datasets_folder(path: Path) -> bool:
    return any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json", "state.json"))


def _is_hidden(file: Path, folder: Path) -> bool:
    """Return whether a file is none of a folder's data, as what Spark keeps in `_temporary`, or Excel while it is open."""
    return any(part[0] in "._~" for part in file.relative_to(folder).parts)


def _is_partitioned(path: Path) -> bool:
    return path.is_dir() and any(entry.is_dir() for entry in path.glob("*=*"))


def _suffix(path: Path) -> str:
    return _bare(path).suffix.lower()


def _bare(path: Path) -> Path:
    """Return a path without the suffix of its compression."""
    return path.with_suffix("") if path.suffix in (".gz", ".bz2", ".zst") else path
