"""Formats and compressions, which the first bytes of a file show, and the files of a folder."""

import bz2
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from support.reading import read, read_rows
from support.source_files import FRAME, refused, to_nested, write_source

from pipeline.data.columns import Columns
from pipeline.data.readers import gluonts_freq, source_files
from pipeline.data.readers.files import identify

CSV = b"item_id,timestamp,target\nA,2020-01-01,1\nA,2020-01-02,\n"
ROWS = [("A", "2020-01-01", "1"), ("A", "2020-01-02", None)]
TSF = b"@attribute series_name string\n@data\nA:1,2\n"


def write_zip(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__dot__", ".").replace("__in__", "/"), content)
    return path


def zipped(content, name="s.csv"):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda content: pa.compress(content, "zstd", asbytes=True),
    ".zip": zipped,
}


@pytest.mark.parametrize("suffix", COMPRESSIONS)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "feather", "arrow stream", "xlsx", "feather v1"])
@pytest.mark.filterwarnings("ignore:.*Feather.*:FutureWarning", "ignore:.*Feather.*:DeprecationWarning")
def test_a_compressed_file_of_any_format_is_read(tmp_path, kind, suffix):
    path = tmp_path / f"s.{kind.split()[0]}"
    plain = write_source(kind, tmp_path)
    expected = read_rows(plain)
    content = path.read_bytes()
    compressed = zipped(content, path.name) if suffix == ".zip" else COMPRESSIONS[suffix](content)
    (tmp_path / f"{path.name}{suffix}").write_bytes(compressed)
    assert len(expected) == 60 and read_rows(tmp_path / f"{path.name}{suffix}") == expected


@pytest.mark.parametrize("name", ["s.csv", "s.parquet", "s.bin", "s", "s.csv.gz"])
@pytest.mark.parametrize("kind", ["parquet", "arrow file", "arrow stream", "xlsx", "feather"])
def test_the_first_bytes_decide_on_the_format(tmp_path, kind, name):
    expected = read_rows(source := write_source(kind, tmp_path))
    (tmp_path / "x").mkdir()
    path = tmp_path / "x" / name
    path.write_bytes(Path(source).read_bytes())
    assert read_rows(path) == expected


@pytest.mark.parametrize("name, compress", [("s.csv", gzip.compress), ("s.csv.gz", bytes), ("s.csv.gz", bz2.compress)])
def test_the_first_bytes_decide_on_the_compression(tmp_path, name, compress):
    """A browser may decompress a file without a change of its name."""
    (tmp_path / name).write_bytes(compress(CSV))
    assert read_rows(tmp_path / name) == ROWS


@pytest.mark.parametrize("names", ["PAR1,target", "ARROW1,target", "FEA1,target", "BZh,target", "PK,target"])
def test_a_column_may_have_the_name_of_a_format(tmp_path, names):
    (tmp_path / "s.csv").write_text(f"{names}\nA,1\n")
    assert read_rows(tmp_path / "s.csv", Columns(item_id=names.split(",")[0])) == [("A", "1")]


def test_an_archive_has_one_data_file(tmp_path):
    junk = {"__MACOSX__in____dot___s__dot__csv": b"x", "data__in____dot__hidden__dot__csv": b"x"}
    path = write_zip(tmp_path / "s.zip", data__in__s__dot__csv=CSV, readme__dot__md=b"words", **junk)
    assert read_rows(path) == ROWS
    [warning] = read(path)[1].warnings
    assert "readme.md;" in warning
    with refused("two.zip", "a.csv, b.csv"):
        read(write_zip(tmp_path / "two.zip", a__dot__csv=CSV, b__dot__csv=CSV))
    with refused("none.zip", "no data file"):
        read(write_zip(tmp_path / "none.zip"))


def test_an_archive_with_a_password_is_refused(tmp_path):
    content = bytearray(zipped(CSV))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags in both headers
        content[content.index(magic) + offset] |= 1
    (tmp_path / "s.zip").write_bytes(content)
    with refused("s.zip", "password"):
        read(tmp_path / "s.zip")


def test_a_folder_gives_its_files_of_known_formats(tmp_path):
    known = ["a.csv", "b.xls", "c.ods", "d.tsf", "e.zip", "f.json.bz2", "g.parquet.gz", "h.txt.zst", "i.XLSX", "j.xlsb"]
    for name in (*known, "readme.md", ".hidden.csv", "~$i.xlsx", "_SUCCESS", "k.gz", "metadata"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.csv").mkdir()
    assert [file.name for file in source_files(str(tmp_path))] == known


@pytest.mark.parametrize("source", ["owner/name", "owner/name:subset", "s3://bucket/a.csv", "https://host/a.csv"])
def test_a_source_elsewhere_has_no_local_files(source):
    assert source_files(source) == []


def test_a_folder_of_several_formats_is_one_table_with_rows_numbered_by_file(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(CSV))
    (tmp_path / "b.txt").write_bytes(CSV)
    write_zip(tmp_path / "c.zip", s__dot__csv=CSV)
    tables, location = read(tmp_path)
    assert [len(table) for table in tables] == [2, 2, 2] and location.fraction_read == 1
    assert [location.describe_row(row) for row in (2, 3, 6)] == [
        "row 2 of a.csv.gz",
        "row 1 of b.txt",
        "row 2 of c.zip",
    ]


def test_files_without_item_ids_have_the_names_of_the_files(tmp_path):
    for name, content in {"a.csv": CSV, "b.csv.gz": gzip.compress(CSV), "sales.2023.zip": zipped(CSV)}.items():
        (tmp_path / name).write_bytes(content)
    columns = Columns(item_id="item_id", timestamp="timestamp")
    for name in ("a.csv", "b.csv.gz"):
        (tmp_path / name).write_bytes(
            (gzip.compress if name.endswith("gz") else bytes)(b"timestamp,target\n2020-01-01,1\n")
        )
    (tmp_path / "sales.2023.zip").write_bytes(zipped(b"timestamp,target\n2020-01-01,1\n"))
    assert [row[-1] for row in read_rows(tmp_path, columns)] == ["a", "b", "sales.2023"]


def test_partitions_keep_their_values_as_text_and_name_the_rows_of_each_file(tmp_path):
    for folder in ("store=007", "store=a%20b", "store=__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / folder).mkdir()
        pd.DataFrame({"target": [1.0, 2.0]}).to_parquet(tmp_path / folder / "part.parquet")
    tables, location = read(tmp_path, Columns(item_id="store"))
    assert [row["store"] for table in tables for row in table.to_pylist()] == ["007"] * 2 + [None] * 2 + ["a b"] * 2
    assert location.describe_row(2) == "row 2 of store=007/part.parquet"


def test_the_share_of_the_bytes_that_were_read_grows_to_one(tmp_path):
    from pipeline.data.readers import read_tables
    from pipeline.data.rows import SourceLocation

    FRAME[:30].to_parquet(tmp_path / "a.parquet", row_group_size=10)
    (tmp_path / "b.csv").write_bytes(CSV * 1)
    location, seen = SourceLocation(tmp_path), []
    for _ in read_tables(str(tmp_path), Columns(), location):
        seen.append(location.fraction_read)
    sizes = [(tmp_path / name).stat().st_size for name in ("a.parquet", "b.csv")]
    assert seen == [pytest.approx(sizes[0] / sum(sizes)), 1] and location.fraction_read == 1


@pytest.mark.parametrize("kind", ["parquet nested", "datasets", "jsonl nested", "jsonl gluonts", "tsf"])
def test_wide_tables_cannot_have_lists(tmp_path, kind):
    if kind == "tsf":
        source = tmp_path / "s.tsf"
        source.write_bytes(TSF)
    else:
        source = write_source(kind, tmp_path)
    with refused("data.wide"):
        read(source, Columns(wide=True))


@pytest.mark.parametrize("damage", [
    lambda folder: (folder / "state.json").write_text("{}"),
    lambda folder: (folder / "state.json").write_text("[]"),
    lambda folder: (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "none.arrow"}]})),
    lambda folder: next(folder.glob("*.arrow")).write_bytes(b"x"),
], ids=["no files", "a list", "missing file", "damaged file"])  # fmt: skip
def test_a_damaged_datasets_folder_is_refused(tmp_path, damage):
    source = tmp_path / "s"
    import datasets

    datasets.Dataset(to_nested(FRAME)).save_to_disk(source)
    damage(source)
    with refused(str(source)):
        read(source)


@pytest.mark.parametrize("content, freq", [('{"freq": "15min"}', "15min"), ("{}", None), ("[]", None)])
def test_the_frequency_of_a_gluonts_folder_is_in_its_metadata(tmp_path, content, freq):
    (tmp_path / "metadata.json").write_text(content)
    assert gluonts_freq(str(tmp_path)) == freq


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path):
    for name, content in {"s.dat": CSV, "s": CSV, "s.gz": gzip.compress(CSV), "empty.csv": b""}.items():
        (tmp_path / name).write_bytes(content)
    for name in ("s.dat", "s", "s.gz"):
        with refused(name, ".csv", ".parquet"):
            read(tmp_path / name)
    with refused("empty.csv", "empty"):
        identify(tmp_path / "empty.csv")
