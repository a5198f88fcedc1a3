"""Parquet, Arrow and Feather: selected columns, sizes of tables, and damaged files."""

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from support.reading import read, read_rows
from support.source_files import refused

from pipeline.core.series import Variates
from pipeline.data.columns import Columns

TABLE = pa.table({"a.b": [1, 2], "note": ["x", "y"], "target": [1.5, None], "item_id": ["A", "B"]})


def write(path, table, kind):
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        with (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(str(path), table.schema) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_only_the_selected_columns_are_read_in_their_order(tmp_path, kind):
    columns = Columns(variates=Variates(("target",), past=("a.b",)))
    [table] = read(write(tmp_path / "s", TABLE, kind), columns)[0]
    assert table.column_names == ["item_id", "target", "a.b"]
    assert table.to_pydict() == {"item_id": ["A", "B"], "target": [1.5, None], "a.b": [1, 2]}


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_small_batches_are_joined(tmp_path, kind):
    table = pa.table({"target": np.arange(1000.0), "item_id": pa.array(["A", "B"] * 500).dictionary_encode()})
    path = tmp_path / "s"
    with (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    [joined] = read(path, Columns())[0]
    assert joined.column("target").num_chunks == 1
    assert joined.select(["target", "item_id"]).to_pydict() == table.to_pydict()


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_tables_have_a_bounded_number_of_rows(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("pipeline.data.readers.arrow._VALUES", 150_000)
    long = pa.table({"target": np.arange(150_000.0)})
    nested = pa.table({"target": [[1.0, 2.0]] * 2500})
    wide = pa.table({"timestamp": [1] * 300, **{f"s{n}": [1.0] * 300 for n in range(1499)}})
    for table, columns, n_rows in (
        (long, Columns(), 65_536),
        (nested, Columns(), 1024),
        (wide, Columns(wide=True), 100),
    ):
        tables = read(write(tmp_path / "s", table, kind), columns)[0]
        assert max(map(len, tables)) == n_rows and sum(map(len, tables)) == len(table)


def test_dictionaries_of_batches_may_have_more_texts_than_their_indices_can_count(tmp_path):
    names = [f"shop {number}" for number in range(300)]
    ids = [pa.array(names[begin : begin + 100]).dictionary_encode() for begin in (0, 100, 200)]
    ids = [pa.DictionaryArray.from_arrays(part.indices.cast(pa.int8()), part.dictionary) for part in ids]
    table = pa.table({"item_id": pa.chunked_array(ids), "target": np.arange(300.0)})
    [joined] = read(write(tmp_path / "s", table, "stream"))[0]
    assert joined["item_id"].to_pylist() == names


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_string_views_are_strings(tmp_path, kind):
    """polars writes them."""
    table = pa.table(
        {"item_id": pa.array(["A", "a name of more than twelve letters"], pa.string_view()), "target": [1, 2]}
    )
    [read_table] = read(write(tmp_path / "s", table, kind))[0]
    assert (
        read_table["item_id"].type == pa.string() and read_table["item_id"].to_pylist() == table["item_id"].to_pylist()
    )


@pytest.mark.parametrize("kind", ["file", "stream", "parquet"])
def test_texts_that_are_not_utf_8_are_refused(tmp_path, kind):
    path = write(tmp_path / "s", pa.table({"item_id": ["abcdef"], "target": [1]}), kind)
    path.write_bytes(path.read_bytes().replace(b"abcdef", b"abc\xff\xff\xff"))
    with refused(str(path), "UTF-?8"):
        read(path)


def test_an_offset_out_of_its_buffer_is_refused(tmp_path):
    path = write(tmp_path / "s", pa.table({"item_id": ["ab", "cd"], "target": [1, 2]}), "file")
    offsets = np.array([0, 2, 4], np.int32).tobytes()
    damaged = path.read_bytes().replace(offsets, np.array([0, 2, 1 << 30], np.int32).tobytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    with refused(str(path)):
        read(path)


def test_a_stream_that_ends_early_is_refused(tmp_path):
    path = write(tmp_path / "s", TABLE, "stream")
    end = b"\xff\xff\xff\xff\0\0\0\0"
    content = path.read_bytes()
    path.write_bytes(content[:-8])
    with refused(str(path), "truncated"):
        read(path)
    path.write_bytes(content + content)  # two streams, of which a reader sees the first
    with refused(str(path), "before its end"):
        read(path)
    assert content.endswith(end)


@pytest.mark.filterwarnings("ignore:.*Feather.*:FutureWarning", "ignore:.*Feather.*:DeprecationWarning")
def test_a_damaged_file_of_feather_1_is_refused(tmp_path):
    """Some of them crash pyarrow."""
    pyarrow.feather.write_feather(TABLE, tmp_path / "s.feather", version=1)
    content = (tmp_path / "s.feather").read_bytes()
    assert read_rows(tmp_path / "s.feather") == [("A", 1.5), ("B", None)]
    (tmp_path / "s.feather").write_bytes(content[:-60] + b"\xff" * 40 + content[-20:])
    with refused("s.feather"):
        read(tmp_path / "s.feather")
