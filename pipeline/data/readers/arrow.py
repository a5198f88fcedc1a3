"""Reading of Parquet, Arrow and Feather files. A damaged file is refused.

Arrow's readers check the structure of a file but not its values. A damaged offset may thus point out of its buffer, so
every table is validated here. For Feather 1, which was replaced in 2020, they do not check the structure either:
pyarrow crashes at one in ten damaged files. Therefore another process reads it.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError
from pipeline.core.files import check_stream_end
from pipeline.data.columns import Columns, select_columns
from pipeline.data.readers.files import DataFile
from pipeline.data.readers.isolated import run_isolated
from pipeline.data.rows import SourceLocation, is_list, is_text

NESTED_ROWS = 1024
"""Number of rows of nested tables that are read at a time; one such row has the values of many long rows."""
_LONG_ROWS = 65_536  # 262,144 rows are not faster
_VALUES = 1 << 23  # of a wide table; bounds memory
_FEATHER_1_TO_STREAM = """
import pyarrow as pa, pyarrow.feather
table = pa.feather.read_table(pa.BufferReader(sys.stdin.buffer.read()))
table.validate(full=True)
with pa.ipc.new_stream(sys.stdout.buffer, table.schema) as writer:
    writer.write_table(table)
"""
pa.array(pd.period_range("2000", periods=1, freq="D"))  # registers pandas' type, whose values are numbers otherwise


def read_parquet(file: DataFile, columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    """Yield the rows of a Parquet file, a bounded number at a time."""
    import pyarrow.parquet as pq

    partition = file.partition
    with file.open_random_access() as source:
        metadata, n_read = pq.read_metadata(source), 0
        schema = metadata.schema.to_arrow_schema()
        texts = [name for name in columns.item_ids if name in schema.names and is_text(schema.field(name).type)]
        if metadata.num_rows < _LONG_ROWS * metadata.num_row_groups:
            texts = []  # a batch with dictionaries ends at the end of a row group
        # With pre_buffer, pyarrow keeps all buffers until the end of the file.
        parquet = pq.ParquetFile(source, metadata=metadata, read_dictionary=texts, pre_buffer=False)
        file.fraction_read = lambda: n_read / max(1, metadata.num_rows)
        names = select_columns([*(set(partition) - set(schema.names)), *schema.names], columns, file, location)
        stored = [name for name in names if name in schema.names]
        for batch in parquet.iter_batches(_batch_size(schema, stored), columns=stored):
            n_read += len(batch)
            table = validated(pa.Table.from_batches([batch]))
            for name in partition.keys() & set(names):
                if name not in stored:
                    table = table.append_column(name, pa.repeat(pa.scalar(partition[name], pa.string()), len(table)))
                elif not _has_only(table[name], partition[name]):
                    raise UserError(
                        f"{file}: its folder says {name}={partition[name]}, but its column {name} has other values; "
                        "correct one of them"
                    )
            yield table.select(names)


def _has_only(column: pa.ChunkedArray, text: str | None) -> bool:
    """Return whether all values of a column are that of a partition: a month 1 is in the folder month=01."""
    try:
        expected = pa.scalar(text, pa.string()).cast(column.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        column, expected = column.cast(pa.string()), pa.scalar(text, pa.string())
    return pc.unique(column).to_pylist() == [expected.as_py()]


def _batch_size(schema: pa.Schema, names: list[str]) -> int:
    """Return the number of rows of a table that are read at a time."""
    if any(is_list(schema.field(name).type) for name in names):
        return NESTED_ROWS
    return min(_LONG_ROWS, max(1, _VALUES // max(1, len(names))))


def read_arrow(file: DataFile, columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    """Yield the rows of a file in any of Arrow's formats: Feather 1, IPC file (also Feather 2), or IPC stream.

    Raises:
        UserError: the file is damaged or truncated, or lacks a column.
    """
    with file.open_random_access(memory_map=True) as source:
        magic = source.read(6)
        if magic[:4] == b"FEA1":
            source = pa.BufferReader(run_isolated(file, _FEATHER_1_TO_STREAM))
        source.seek(0)
        open_reader = pa.ipc.open_file if magic == b"ARROW1" else pa.ipc.open_stream
        schema = open_reader(source).schema
        names = select_columns(schema.names, columns, file, location)
        # Dictionaries and buffers of other columns are not read.
        position = {name: index for index, name in enumerate(schema.names)}
        options = pa.ipc.IpcReadOptions(included_fields=[position[name] for name in names])
        n_rows = _batch_size(schema, names)
        if magic != b"ARROW1":
            check_stream_end(source, file)
        source.seek(0)
        reader = open_reader(source, options=options)
        batches = _file_batches(file, reader) if magic == b"ARROW1" else _stream_batches(file, source, reader)
        for some in _join_small(batches, n_rows):
            table = validated(pa.Table.from_batches(some)).select(names).combine_chunks()
            yield from (table.slice(start, n_rows) for start in range(0, len(table), n_rows))


def _join_small(batches: Iterable[pa.RecordBatch], n_rows: int) -> Iterator[list[pa.RecordBatch]]:
    """Yield lists of consecutive batches of at least `n_rows` rows: every list takes a millisecond of later work."""
    some: list[pa.RecordBatch] = []
    n_some = 0
    for batch in batches:
        some.append(batch)
        n_some += len(batch)
        if n_some >= n_rows:
            yield some
            some, n_some = [], 0
    if some:
        yield some


def _file_batches(file: DataFile, reader: pa.RecordBatchFileReader) -> Iterator[pa.RecordBatch]:
    for index in range(reader.num_record_batches):
        file.fraction_read = lambda: (index + 1) / reader.num_record_batches
        yield reader.get_batch(index)


def _stream_batches(
    file: DataFile, source: pa.NativeFile, reader: pa.RecordBatchStreamReader
) -> Iterator[pa.RecordBatch]:
    n_bytes = source.size()
    file.fraction_read = lambda: source.tell() / n_bytes
    yield from reader
    if source.tell() != n_bytes:
        raise UserError(f"{file} is damaged: it has an end-of-stream mark before its end; create the file again")


def validated(table: pa.Table) -> pa.Table:
    """Return a table with plain strings, after a check that its values are in their buffers and its texts are UTF-8.

    Raises:
        pa.ArrowInvalid: as described.
    """
    table.validate(full=True)
    for position, field in enumerate(table.schema):
        column = table.column(position)
        if pa.types.is_string_view(field.type):
            table = table.set_column(position, field.name, _plain(column))
        elif pa.types.is_dictionary(field.type):
            # The dictionaries of several batches together may have more texts than small indices can count.
            chunks = [
                pa.DictionaryArray.from_arrays(chunk.indices.cast(pa.int64()), _plain(chunk.dictionary))
                for chunk in column.chunks
            ]
            kind = pa.dictionary(pa.int64(), _plain(pa.array([], field.type.value_type)).type)
            table = table.set_column(position, field.name, pa.chunked_array(chunks, kind))
    return table


def _plain(texts: Any) -> Any:
    """Return texts as strings: polars writes string views, for which pyarrow has few functions."""
    return texts.cast(pa.string()) if pa.types.is_string_view(texts.type) else texts
