"""Reading of files of every format as a stream of Arrow tables with standard column names.

A long table has one row per time step: `item_id, timestamp, target`. A nested table has one row per series: `item_id,
start, target`, with a list of values as the target. Both have a column `row`, the number of the row in the source, for
error messages. Further variates of a long table have the names of `Variates.columns`.
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

from pipeline.core.errors import UserError, first_few, to_one_line
from pipeline.core.files import check_stream_end, read_json
from pipeline.data.columns import Columns, select_columns
from pipeline.data.csv_files import read_csv
from pipeline.data.excel import read_excel
from pipeline.data.rows import SourceLocation
from pipeline.data.wide import stack_date_columns, stack_series_columns

_CSV, _JSON = (".csv", ".tsv", ".txt"), (".jsonl", ".json", ".ndjson")
_PARQUET, _ARROW = (".parquet", ".pq"), (".arrow", ".feather", ".ipc")
_EXCEL = (".xlsx", ".xlsm")
_SUFFIXES = _CSV + _JSON + _PARQUET + _ARROW + _EXCEL
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
_RAGGED_ROW = re.compile(r"Expected (\d+) columns, got (\d+): (.*)")  # pyarrow's message
# Sizes of the tables that are read at a time. They bound memory: a nested row has as many values as many long rows.
_LONG_ROWS, _NESTED_ROWS = 65_536, 1024
_JSON_LINES, _JSON_BYTES = 4096, 1 << 23


def source_files(source: str) -> list[Path]:
    """Return the files of a source, none for the name of a data set on the Hub.

    A GluonTS folder gives the files of its train split. A `datasets` folder or a folder with partitions gives all files
    in it, at any depth. Any other folder gives the files directly in it. Files of unknown formats are left out.

    Raises:
        UserError: the path does not exist, has no file of a known format, or is a Delta table.
    """
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        if (path / "metadata" / "metadata.json").exists() or (path / "metadata.json").exists():
            path = path / "train" if (path / "train").is_dir() else path
        if (path / "_delta_log").is_dir():  # some of its files contain deleted rows
            raise UserError(f"{path} is a Delta table; write its rows to Parquet files in another folder")
        depth = "**/*" if _is_datasets_folder(Path(source)) or _is_partitioned(Path(source)) else "*"
        files = sorted(file for file in path.glob(depth) if _suffix(file) in _SUFFIXES and not _is_hidden(file, path))
        if not files:
            raise UserError(
                f"the folder {path} has no data file, and its subfolders are not read; known formats are "
                f"{', '.join(_SUFFIXES)}"
            )
        return files
    if _HUB_NAME.fullmatch(source) and _suffix(path) not in _SUFFIXES:
        return []
    raise UserError(f"no such file or folder: {source}; give the path of your series, or owner/name on the Hub")


def gluonts_freq(source: str) -> str | None:
    """Return the frequency in the metadata of a GluonTS folder, None for any other source."""
    for metadata in (Path(source, "metadata", "metadata.json"), Path(source, "metadata.json")):
        if metadata.is_file():
            return read_json(metadata).get("freq")
    return None


def read_tables(source: str, columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    """Yield the tables of a source in order, with a bounded number of rows each.

    Args:
        location: records which file has which rows.

    Raises:
        UserError: a file does not parse, is empty or truncated, or lacks a column.
    """
    files = source_files(source)
    if not files:
        yield from _read_hub(source, columns, location)
    elif Path(source).is_dir() and _is_datasets_folder(Path(source)):
        yield from _read_datasets_folder(Path(source), columns, location)
    elif _is_partitioned(Path(source)):
        yield from _read_partitions(Path(source), files, columns, location)
    elif len(files) == 1:
        yield from _read_file(files[0], columns, location)
    else:
        n_rows = 0
        for file in files:
            location.start_file(file.name, n_rows)
            for table in _read_file(file, columns, location):
                n_rows += len(table)
                yield _add_file_name(table, columns, file)


def standardize_tables(tables: Iterator[pa.Table], columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    """Yield long or nested tables with standard column names, without other columns, and with row numbers from 1.

    Tables without rows are left out, and wide tables become long ones.

    Raises:
        UserError: a column is missing or appears twice, or the header of a wide table is invalid.
    """
    n_rows = 0
    empty_columns: set[str] | None = None  # of a wide table with one column per series
    for table in tables:
        if not len(table):
            continue
        table = table.select(select_columns(table.column_names, columns, location, location))
        rows = pa.array(np.arange(n_rows + 1, n_rows + 1 + len(table)))
        n_rows += len(table)
        if len(columns.item_ids) > 1:
            table = _join_item_ids(table, columns.item_ids)
        if columns.wide:
            item_id, timestamp = columns.item_ids[0], columns.timestamp
            if timestamp in table.column_names:
                if empty_columns is None:
                    empty_columns = set(table.column_names) - {timestamp}
                table, rows = stack_series_columns(table, rows, item_id, timestamp, columns.target)
                empty_columns -= set(table[item_id].unique().to_pylist())
            else:
                table, rows = stack_date_columns(table, rows, item_id, timestamp, columns.target, location)
        metadata = table.schema.metadata
        table = _standardize_types(_rename_columns(table, columns))
        yield table.append_column("row", rows).replace_schema_metadata(metadata)
    if empty_columns:
        location.warn_once(
            f"{len(empty_columns)} columns without values are left out: {first_few(sorted(empty_columns))}"
        )


def _join_item_ids(table: pa.Table, names: tuple[str, ...]) -> pa.Table:
    """Return a table whose first item ID column has the values of all of them, null if one of them is null."""
    joined = pc.binary_join_element_wise(*(table[name].cast(pa.string()) for name in names), "/")
    return table.set_column(table.column_names.index(names[0]), names[0], joined)


def _rename_columns(table: pa.Table, columns: Columns) -> pa.Table:
    """Return the columns of a table that are read, with their standard names."""
    standard = {columns.item_ids[0]: "item_id", columns.timestamp: "timestamp"}
    standard |= dict(zip(columns.variates.names, columns.variates.columns))
    standard.setdefault("start", "start")
    if columns.target in table.column_names and is_list_type(table.schema.field(columns.target).type):
        standard.setdefault("freq", "freq")
    table = table.select([name for name in standard if name in table.column_names])
    return table.rename_columns([standard[name] for name in table.column_names])


def _standardize_types(table: pa.Table) -> pa.Table:
    """Return a table with item IDs as strings and timestamps in microseconds, pandas' periods as their first day."""
    if "item_id" in table.column_names:
        position = table.column_names.index("item_id")
        table = table.set_column(position, "item_id", table["item_id"].cast(pa.string()))
    if "timestamp" not in table.column_names:
        return table
    stamps = table["timestamp"]
    if isinstance(stamps.type, pa.BaseExtensionType):
        stamps = pa.chunked_array([pa.array(stamps.to_pandas().dt.to_timestamp())])
    if pa.types.is_timestamp(stamps.type) or pa.types.is_date(stamps.type):
        stamps = stamps.cast(pa.timestamp("us", getattr(stamps.type, "tz", None)), safe=False)
    return table.set_column(table.column_names.index("timestamp"), "timestamp", stamps)


def _add_file_name(table: pa.Table, columns: Columns, file: Path) -> pa.Table:
    """Return a table with the name of its file as the item ID if it is long and has no item IDs, else unchanged."""
    if set(columns.item_ids) & set(table.column_names) or columns.target not in table.column_names:
        return table
    if is_list_type(table.schema.field(columns.target).type):
        return table
    return table.append_column(columns.item_ids[0], pa.array([_without_compression(file).stem] * len(table)))


def _read_file(path: Path, columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    suffix = _suffix(path)
    if suffix not in _SUFFIXES:
        raise UserError(f"{path} has no suffix of a known format; known formats are {', '.join(_SUFFIXES)}")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty")
    with _report_parse_errors(path, columns):
        if suffix in _CSV:
            yield from read_csv(path, columns, location)
        elif suffix in _JSON:
            if columns.wide:
                raise UserError(f"{path}: data.wide is for CSV, Excel, Parquet, Arrow and Feather files, not for JSON")
            yield from _read_json(path, columns, location)
        elif suffix in _EXCEL:
            yield from read_excel(path, columns, location)
        elif suffix in _PARQUET:
            yield from _read_parquet(path, columns, location)
        else:
            yield from _read_arrow(path)


@contextmanager
def _report_parse_errors(path: Path, columns: Columns) -> Iterator[None]:
    """Raise a UserError that names `path` if the block fails to parse it."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, UnicodeDecodeError) or "invalid UTF8" in str(error):
            raise UserError(
                f"{path} is not encoded in {columns.encoding}; set data.encoding to its encoding, such as cp1252"
            ) from error
        if ragged := _RAGGED_ROW.search(str(error)):
            n_columns, n_values, text = ragged.groups()
            raise UserError(
                f"{path}: a row has {n_values} values for {n_columns} columns: {text}; write one value per column, and "
                "quote values that contain the delimiter"
            ) from error
        raise UserError(
            f"cannot read {path}: {to_one_line(error)}; check that it is complete and in the format of its suffix"
        ) from error


def _read_parquet(path: Path, columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    import pyarrow.parquet as pq

    # With pre_buffer, pyarrow keeps all buffers until the end of the file.
    with pq.ParquetFile(path, pre_buffer=False) as file:
        names = select_columns(file.schema_arrow.names, columns, path, location)
        batch_size = _parquet_batch_size(file.schema_arrow, names, columns)
        for batch in file.iter_batches(batch_size=batch_size, columns=names):
            yield pa.Table.from_batches([batch])


def _read_partitions(path: Path, files: list[Path], columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    """Yield the rows of Parquet files in folders named COLUMN=VALUE, as Spark and Hive write them."""
    import pyarrow.dataset as pads

    other = next((file for file in files if _suffix(file) not in _PARQUET), None)
    if other is not None:
        raise UserError(
            f"{other} is in a folder with partitions, named COLUMN=VALUE; write partitions as Parquet files"
        )
    folders = (part for file in files for part in file.parent.relative_to(path).parts)
    keys = dict.fromkeys(name for name, equals, _ in (folder.partition("=") for folder in folders) if equals)
    partitions = pads.partitioning(pa.schema([(key, pa.string()) for key in keys]), flavor="hive")
    with _report_parse_errors(path, columns):
        dataset = pads.dataset([str(file) for file in files], partitioning=partitions, partition_base_dir=str(path))
        names = select_columns(dataset.schema.names, columns, path, location)
        batches = dataset.to_batches(
            columns=names,
            batch_size=_parquet_batch_size(dataset.schema, names, columns),
            batch_readahead=1,
            fragment_readahead=1,
            fragment_scan_options=pads.ParquetFragmentScanOptions(pre_buffer=False),
        )
        for batch in batches:
            yield pa.Table.from_batches([batch])


def _parquet_batch_size(schema: pa.Schema, names: list[str], columns: Columns) -> int:
    """Return the number of rows of a Parquet file that are read at a time."""
    if columns.wide:
        return max(1, _LONG_ROWS // len(names))
    return _NESTED_ROWS if is_list_type(schema.field(columns.target).type) else _LONG_ROWS


def _read_arrow(path: Path) -> Iterator[pa.Table]:
    """Yield the tables of a file in any of Arrow's formats: Feather 1, IPC file (also Feather 2), or IPC stream."""
    with pa.memory_map(str(path)) as source:
        magic = source.read(6)
        source.seek(0)
        if magic[:4] == b"FEA1":
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


def _read_json(path: Path, columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    with pa.input_stream(str(path), compression="detect") as stream:
        fields: dict[str, None] = {}  # of all lines so far, since a line may leave out a field without a value
        for records in _read_json_records(path, stream):
            fields |= dict.fromkeys(name for record in records for name in record)
            values = {
                name: [record.get(name) for record in records]
                for name in select_columns(list(fields), columns, path, location)
            }
            target = values.pop(columns.target)
            if any(isinstance(value, list) for value in target):
                floats = pa.array([_json_floats(path, value) for value in target], pa.list_(pa.float64()))
                table = pa.table({columns.target: floats})
            else:
                table = pa.table({columns.target: _json_strings(target)})
            for name, column in values.items():
                has_lists = any(isinstance(value, list) for value in column)
                table = table.append_column(name, pa.array(column) if has_lists else _json_strings(column))
            yield table


def _read_json_records(path: Path, stream: pa.NativeFile) -> Iterator[list[dict]]:
    """Yield the objects of a JSON Lines file, a bounded number at a time."""
    records: list[dict] = []
    n_bytes = 0
    for number, line in enumerate(io.BufferedReader(stream), 1):
        if line.strip():
            records.append(_parse_json_line(path, number, line))
            n_bytes += len(line)
        if len(records) == _JSON_LINES or n_bytes > _JSON_BYTES:
            yield records
            records, n_bytes = [], 0
    if records:
        yield records


def _parse_json_line(path: Path, number: int, line: bytes) -> dict:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise UserError(f"{path}, line {number}: not valid JSON ({error}); write one object per line") from error
    if not isinstance(record, dict):
        raise UserError(f"{path}, line {number}: not a JSON object; write one object per line")
    return record


def _json_strings(values: list) -> pa.Array:
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _json_floats(path: Path, values: object) -> list[float | None] | None:
    if values is None:
        return None
    if not isinstance(values, list):
        raise UserError(f"{path}: one target is a list, another is not: {values}; write a list for every series")
    try:
        return [None if value is None else float(value) for value in values]  # GluonTS writes NaN as a string
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: a target contains a value that is not a number ({error})") from error


def _read_datasets_folder(path: Path, columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    import datasets

    try:
        dataset = datasets.load_from_disk(str(path))
    except Exception as error:  # a broken folder raises errors without a common base class
        raise UserError(f"cannot read the datasets folder {path}: {to_one_line(error)}") from error
    if isinstance(dataset, datasets.DatasetDict):
        if "train" not in dataset:
            raise UserError(f"{path} has no train split, only {', '.join(dataset)}; give the folder of one split")
        dataset = dataset["train"]
    select_columns(dataset.column_names, columns, path, location)
    yield from dataset.with_format("arrow").iter(batch_size=_NESTED_ROWS)


def hub_commit(source: str) -> str | None:
    """Return the commit of a data set on the Hub, None if the Hub is not reachable and a cached copy is used."""
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(source.partition(":")[0]).sha
    except Exception:  # the errors have no common base class; loading reports one that matters
        return None


def _read_hub(source: str, columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    import datasets

    name, _, subset = source.partition(":")
    try:
        dataset = datasets.load_dataset(name, subset or None, split="train")
    except Exception as error:  # errors of the Hub client, the network and datasets have no common base class
        raise UserError(
            f"data.train: {source} is not a file, and cannot be loaded from the Hub: {to_one_line(error)}"
        ) from error
    select_columns(dataset.column_names, columns, source, location)
    yield from dataset.with_format("arrow").iter(batch_size=_NESTED_ROWS)


def is_list_type(column_type: pa.DataType) -> bool:
    """Return whether the values of a column are lists, of any of Arrow's list types."""
    checks = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(check(column_type) for check in checks)


def _is_datasets_folder(path: Path) -> bool:
    return any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json", "state.json"))


def _is_hidden(file: Path, folder: Path) -> bool:
    """Return whether a file is hidden or temporary, such as those of Spark in `_temporary` and open Excel files."""
    return any(part[0] in "._~" for part in file.relative_to(folder).parts)


def _is_partitioned(path: Path) -> bool:
    return path.is_dir() and any(entry.is_dir() for entry in path.glob("*=*"))


def _suffix(path: Path) -> str:
    return _without_compression(path).suffix.lower()


def _without_compression(path: Path) -> Path:
    return path.with_suffix("") if path.suffix in (".gz", ".bz2", ".zst") else path
