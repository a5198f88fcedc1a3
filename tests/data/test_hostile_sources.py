"""Sources that are no data, too large, or of odd types: each is refused in one line, and none hangs or crashes."""

import base64
import gzip
import io
import json
import os
import socket
import stat
import tempfile
import time
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from support.series import long_frame
from support.source_files import refused

from pipeline.core.errors import UserError
from pipeline.data import grid
from pipeline.data.arrow_store import open_store
from pipeline.data.readers import files, json_lines
from pipeline.data.source import open_source

HEADER = "item_id,timestamp,target\n"


def refusal(source, folder, **options):
    """Return the message of the error of a source, after a check that it is one short line."""
    with pytest.raises(UserError) as error:
        open_source(source, folder / "cache", **options)
    message = str(error.value)
    assert message.isprintable() and len(message) <= 2000
    return message


def make_entry(path, kind):
    """Make a thing of the file system that is not a file of data."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"loop": path, "dead link": path.with_name("nothing"), "endless device": "/dev/zero"}[kind])


ENTRIES = ["fifo", "socket", "folder", "loop", "dead link", "endless device"]


@pytest.fixture
def folder():
    """A folder whose path is short enough for a socket, and that every user can read."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "arrow", "xlsx"])
@pytest.mark.parametrize("kind", ENTRIES)
def test_things_that_are_not_files_are_refused(folder, kind, suffix):
    make_entry(folder / f"x.{suffix}", kind)
    assert f"x.{suffix}" in refusal(folder / f"x.{suffix}", folder)


@pytest.mark.parametrize("kind", ENTRIES)
@pytest.mark.parametrize("name", ["x.csv", "metadata.json", "state.json", "_delta_log", "a=1", "train"])
def test_things_that_are_not_files_do_not_stop_a_folder(folder, kind, name):
    make_entry(folder / name, kind)
    long_frame(n_series=2).to_parquet(folder / "s.parquet")
    if (kind, name) in (("folder", "_delta_log"), ("folder", "a=1")):
        return  # a Delta table, and a partition
    assert len(open_source(folder, folder / "cache")) == 2


@pytest.mark.parametrize(
    "path", ["n" * 300, "n" * 300 + ".csv", "n/" * 2500 + "x.csv", "a\0b.csv", "a\nb.csv", "a\ud800.csv"]
)
def test_impossible_paths_are_refused(tmp_path, path):
    refusal(str(tmp_path / path), tmp_path)


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="no /proc")
@pytest.mark.parametrize("path", ["/proc/kmsg", "/proc/self/mem", "/proc/self/fd/0", "/dev/zero", "/dev/null"])
def test_files_of_the_system_are_refused(tmp_path, path):
    assert path in refusal(path, tmp_path)


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.arrow", "folder/x.csv", "metadata/metadata.json"])
def test_unreadable_files_are_refused(folder, name):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(HEADER)
    (path if path.parent == folder else path.parent).chmod(0)
    is_root = os.geteuid() == 0
    try:
        os.seteuid(65534 if is_root else os.geteuid())
        assert str(folder) in refusal(folder if "metadata" in name else path, folder)
    finally:
        os.seteuid(0 if is_root else os.geteuid())
        path.parent.chmod(stat.S_IRWXU)


def test_a_file_with_a_name_that_is_not_utf8_is_read(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.csv")
    long_frame(n_series=1).to_csv(path, index=False)
    assert len(open_source(path, tmp_path / "cache")) == 1


N = 4
ODD_TYPES = {
    "list": pa.array([[1, 2]] * N),
    "fixed list": pa.array([[1, 2]] * N, pa.list_(pa.int64(), 2)),
    "list of lists": pa.array([[[1]]] * N),
    "struct": pa.array([{"a": 1}] * N),
    "map": pa.array([[("a", 1)]] * N, pa.map_(pa.string(), pa.int64())),
    "binary": pa.array([b"\xff\xfe"] * N),
    "interval": pa.array([(1, 2, 3)] * N, pa.month_day_nano_interval()),
    "unknown zone": pa.array([1] * N).view(pa.timestamp("s", "Mars/Base")),
    "odd zone": pa.array([1] * N).view(pa.timestamp("s", "../../etc/passwd")),
    "late": pa.array([2**62] * N).view(pa.timestamp("s")),
    "dictionary of structs": pa.DictionaryArray.from_arrays(pa.array([0] * N), pa.array([{"a": 1}])),
    "dictionary of nulls": pa.DictionaryArray.from_arrays(pa.array([0] * N), pa.nulls(1)),
    "dictionary with nulls": pa.DictionaryArray.from_arrays(pa.array([0, 1, 0, 1]), pa.array(["A", None])),
    "large decimal": pa.array([Decimal("9" * 70)] * N, pa.decimal256(76, 0)),
}


@pytest.mark.parametrize("form", ["table", "arrow", "parquet"])
@pytest.mark.parametrize("column", ["item_id", "timestamp", "target", "second", "time", "freq", "wide"])
@pytest.mark.parametrize("kind", ODD_TYPES)
def test_columns_of_odd_types_are_read_or_refused(tmp_path, kind, column, form):
    stamps = pa.array(np.arange("2024-01-01", "2024-01-05", dtype="M8[D]"))
    columns = {"item_id": pa.array(["A"] * N), "timestamp": stamps, "target": pa.array([1.5] * N)}
    if column == "freq":
        columns |= {"item_id": pa.array(list("abcd")), "target": pa.array([[1.5, 2.5]] * N)}
    source: Any = pa.table(columns | {"target" if column == "wide" else column: ODD_TYPES[kind]})
    if form == "parquet":
        try:
            pq.write_table(source, tmp_path / "x.parquet")
        except pa.ArrowException:
            pytest.skip("pyarrow does not write this type")
    elif form == "arrow":
        with pa.ipc.new_stream(str(tmp_path / "x.arrow"), source.schema) as writer:
            writer.write_table(source)
    source = source if form == "table" else tmp_path / f"x.{form}"
    options: dict[str, Any] = {
        "second": {"id_column": ["item_id", "second"]},
        "time": {"timestamp_column": ["timestamp", "time"]},
    }
    options |= {"wide": {"wide": True, "id_column": "none"}}
    try:
        open_source(source, tmp_path / "cache", **options.get(column, {}))
    except UserError as error:
        assert str(error).isprintable()


def test_a_missing_item_id_in_a_dictionary_is_refused(tmp_path):
    table = pa.table({"item_id": ODD_TYPES["dictionary with nulls"], "target": [1.5] * N})
    assert "row 2 has no item_id" in refusal(table, tmp_path)


@pytest.mark.parametrize("value", [
    "9" * 400, "9" * 5000, "1e400", "NaN", "Infinity", '"\\ud800"', '"\\u0000"', "{}", "[]", "[[1]]", "[null]", '["x"]',
    "[" * 5000 + "]" * 5000, "[" * 200_000, "null", "true",
])  # fmt: skip
@pytest.mark.parametrize("place", [
    '{{"item_id": {0}, "timestamp": "2024-01-0{1}", "target": {1}}}',
    '{{"timestamp": {0}, "target": {1}}}',
    '{{"timestamp": "2024-01-0{1}", "target": {0}}}',
    '{{"start": {0}, "freq": "D", "target": [1, 2]}}',
    '{{"start": "2024-01-01", "freq": {0}, "target": [1, 2]}}',
    "{0}",
])  # fmt: skip
def test_json_of_odd_values_is_read_or_refused(tmp_path, place, value):
    (tmp_path / "x.jsonl").write_text("\n".join(place.format(value, day) for day in (1, 2, 3, 4)))
    try:
        open_source(tmp_path / "x.jsonl", tmp_path / "cache")
    except UserError as error:
        assert str(error).isprintable() and "x.jsonl" in str(error)


@pytest.mark.parametrize(
    "content", ["[]", "3", "null", '{"freq": []}', '{"freq": "nonsense"}', "[" * 5000 + "]" * 5000]
)
@pytest.mark.parametrize("name", ["metadata.json", "state.json", "dataset_dict.json"])
def test_odd_metadata_of_a_folder_are_ignored_or_refused(tmp_path, name, content):
    long_frame().to_csv(tmp_path / "s.csv", index=False)
    (tmp_path / name).write_text(content)
    try:
        open_source(tmp_path, tmp_path / "cache")
    except UserError as error:
        assert str(error).isprintable()


@pytest.mark.parametrize("filename", ["../other/x.arrow", "/dev/zero", "below/x.arrow"])
def test_metadata_that_name_files_of_other_folders_are_refused(tmp_path, filename):
    for folder in ("data", "other", "data/below"):
        (tmp_path / folder).mkdir()
        with pa.ipc.new_stream(str(tmp_path / folder / "x.arrow"), pa.schema([("target", pa.float64())])) as writer:
            writer.write_table(pa.table({"target": [1.5]}))
    (tmp_path / "data" / "state.json").write_text(json.dumps({"_data_files": [{"filename": filename}]}))
    assert "data" in refusal(tmp_path / "data", tmp_path)


class _Keys(pe.KmsClient):
    """Keys that are not secret."""

    def __init__(self, config):
        pe.KmsClient.__init__(self)

    def wrap_key(self, key_bytes, master_key_identifier):
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key, master_key_identifier):
        return base64.b64decode(wrapped_key)


@pytest.mark.parametrize("plain_footer", [True, False])
def test_encrypted_parquet_is_refused(tmp_path, plain_footer):
    config = pe.EncryptionConfiguration(footer_key="k", column_keys={"c": ["target"]}, plaintext_footer=plain_footer)
    properties = pe.CryptoFactory(_Keys).file_encryption_properties(pe.KmsConnectionConfig(), config)
    table = pa.table({"target": [1.5, 2.5]})
    with pq.ParquetWriter(tmp_path / "x.parquet", table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    assert "x.parquet" in refusal(tmp_path / "x.parquet", tmp_path)


# Sizes


def write_workbook(path, edit):
    """Write a workbook of five rows, with an edited sheet."""
    book, stream = openpyxl.Workbook(), io.BytesIO()
    for row in (("item_id", "timestamp", "target"), *(("A", pd.Timestamp(2024, 1, day), day) for day in range(1, 6))):
        book.active.append(row)
    book.save(stream)
    with zipfile.ZipFile(stream) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name).decode()
            target.writestr(name, edit(content) if name == "xl/worksheets/sheet1.xml" else content)


def test_a_workbook_with_a_row_beyond_its_limit_is_refused(tmp_path):
    write_workbook(tmp_path / "x.xlsx", lambda sheet: sheet.replace('"C6"', '"C1100000"'))
    assert "1,100,000" in refusal(tmp_path / "x.xlsx", tmp_path)


def test_empty_rows_of_a_workbook_do_not_count(tmp_path):
    rows = "".join(f'<row r="{number}"/>' for number in range(10, 100_000))
    last = '<row r="900000"><c r="C900000"><v>6</v></c></row>'
    write_workbook(tmp_path / "x.xlsx", lambda sheet: sheet.replace("</sheetData>", rows + last + "</sheetData>"))
    assert "row 6 has no item_id" in refusal(tmp_path / "x.xlsx", tmp_path)


def test_a_workbook_with_too_much_content_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_MAX_BYTES", 1 << 20)
    write_workbook(tmp_path / "x.xlsx", lambda sheet: sheet + " " * (1 << 20))
    assert "1 MB" in refusal(tmp_path / "x.xlsx", tmp_path)


@pytest.mark.parametrize("name, head, limit", [
    ("x.parquet.gz", b"PAR1\0", "_MAX_BYTES"),
    ("x.arrow.gz", b"ARROW1\0\0", "_MAX_BYTES"),
    ("x.xls.gz", b"\xd0\xcf\x11\xe0", "_MAX_BYTES"),
    ("x.csv.gz", b"a", "_MAX_LINE"),
    ("x.jsonl.gz", b"{", "_MAX_LINE"),
    ("x.tsf.gz", b"@data", "_MAX_LINE"),
    ("x.json.gz", b"[", "_MAX_ARRAY"),
])  # fmt: skip
def test_a_bomb_is_refused_at_its_limit(tmp_path, monkeypatch, name, head, limit):
    monkeypatch.setattr(json_lines if limit == "_MAX_ARRAY" else files, limit, 1 << 20)
    (tmp_path / name).write_bytes(gzip.compress(head + b"1" * (1 << 25)))
    assert "1 MB" in refusal(tmp_path / name, tmp_path)


@pytest.mark.parametrize("header", ['item_id,timestamp,"target\n', "\n" * 3_000_000])
def test_a_header_without_an_end_is_refused_in_linear_time(tmp_path, header):
    (tmp_path / "x.csv").write_text(header + "A,2024-01-01,1\n" * (200_000 if header.strip() else 0))
    begin = time.process_time()
    assert "x.csv" in refusal(tmp_path / "x.csv", tmp_path)
    assert time.process_time() - begin < 10  # seconds; it takes 1, and took minutes when each line was a copy


def write_gaps(path, n_series, seconds):
    """Write series of five rows at seconds, with a gap before the last one."""
    times = np.datetime64("2024-01-01", "s") + np.array([0, 1, 2, 3, seconds], "m8[s]")
    ids = np.repeat([f"S{number}" for number in range(n_series)], 5)
    pd.DataFrame({"item_id": ids, "timestamp": np.tile(times, n_series), "target": 1.5}).to_parquet(path)


def test_the_steps_of_all_series_together_are_limited(tmp_path, monkeypatch):
    write_gaps(tmp_path / "s.parquet", 40, 999)  # 40,000 steps of 200 rows
    assert len(open_source(tmp_path / "s.parquet", tmp_path / "cache")) == 40
    monkeypatch.setattr(grid, "_MAX_SPARSE_STEPS", 39_999)
    with refused("s.parquet", "200 rows", "40,000 steps", "data.freq"):
        open_source(tmp_path / "s.parquet", tmp_path / "other")
    monkeypatch.setattr(grid, "_MAX_GROWTH", 200)
    assert len(open_source(tmp_path / "s.parquet", tmp_path / "other")) == 40


# Stores


def store_bytes(
    ids=("a", "b"), starts=("2024-01-01",) * 2, lengths=(9, 7), damage=((np.zeros(0), np.zeros(0)),), **metadata
):
    """Return the bytes of a store with any content and metadata.

    Args:
        damage: arrays whose bytes are replaced.
    """
    child = pa.field("item", pa.float32())
    schema = pa.schema([("item_id", pa.string()), ("start", pa.timestamp("s")), ("target", pa.list_(child))])
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    target = pa.ListArray.from_arrays(offsets, pa.array(np.arange(sum(lengths), dtype=np.float32)))
    columns = [pa.array(ids, pa.string()), pa.array(np.array(starts, "M8[s]")), target]
    batch = pa.record_batch(columns, schema.with_metadata({"freq": "D"} | metadata))
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, batch.schema) as writer:
        writer.write_batch(batch)
    content = stream.getvalue()
    for old, new in damage:
        assert old.tobytes() in content
        content = content.replace(old.tobytes(), new.tobytes())
    return content


def int32(*values):
    return np.array(values, np.int32)


DAY = np.datetime64("2024-01-01", "s")
VARIATES = '{"targets": ["a", "b"], "past": [], "known": [], "categories": {}}'
DAMAGED_STORES: dict[str, dict[str, Any]] = {
    "falling offsets": {"damage": [(int32(0, 9, 16), int32(0, 19, 16))]},
    "negative offsets": {"damage": [(int32(0, 9, 16), int32(-5, 9, 16))]},
    "offsets beyond the file": {"damage": [(int32(0, 9, 16), int32(0, 9, 10**9))]},
    "IDs that are not UTF-8": {"ids": ("abcd", "efgh"), "damage": [(np.bytes_("abcd"), np.bytes_(b"ab\xff\xfe"))]},
    "IDs beyond the file": {"damage": [(int32(0, 1, 2), int32(0, 1, 10**9))]},
    "repeated IDs": {"ids": ("a", "a")},
    "starts beyond all dates": {"damage": [(np.array([DAY]), np.array([2**62]))]},
    "starts that are no date": {"damage": [(np.array([DAY]), np.array([np.datetime64("NaT", "s")]))]},
    "years before all dates": {"starts": ("0100-01-01", "2024-01-01")},
    "no frequency of pandas": {"freq": "nonsense"},
    "a frequency finer than seconds": {"freq": "ms"},
    "frequency of bytes": {"freq": b"\xff"},
    "rows of other lengths": {"ids": ("a", "a"), "variates": VARIATES},
    "rows of other IDs": {"lengths": (8, 8), "variates": VARIATES},
    "a row too few": {"variates": VARIATES.replace('"b"', '"b", "c"')},
    "repeated variates": {"ids": ("a", "a"), "lengths": (8, 8), "variates": VARIATES.replace('"b"', '"a"')},
    "no targets": {"variates": VARIATES.replace('["a", "b"]', "[]")},
    **{f"{key} {text[:9]!r}": {key: text} for key in ("variates", "formats") for text in (
        "x", b"\xff", "[1]", "3", "[" * 100_000, '{"targets": 3, "values": 3}', '{"targets": [3], "timestamp": "x"}',
        '{"more": 1, "targets": [], "values": {"target": {"kind": "x"}}}', '{"targets": [[]], "freq": 3}',
    )},
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED_STORES)
def test_a_damaged_store_is_refused(tmp_path, damage):
    path = tmp_path / "x.arrow"
    path.write_bytes(store_bytes())
    assert open_store(path).target(1).tolist() == list(range(9, 16))
    path.write_bytes(store_bytes(**DAMAGED_STORES[damage]))
    with pytest.raises(UserError):
        open_store(path)
    assert "x.arrow" in refusal(path, tmp_path)


def test_a_store_with_more_after_its_end_is_refused(tmp_path):
    (tmp_path / "x.arrow").write_bytes(store_bytes() * 2)
    assert "x.arrow" in refusal(tmp_path / "x.arrow", tmp_path)
