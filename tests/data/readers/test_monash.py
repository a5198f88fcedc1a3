"""Files of the Monash archive."""

import datetime as dt

import pyarrow as pa
import pytest
from support.reading import read
from support.source_files import refused

from pipeline.core.series import Variates
from pipeline.data.columns import Columns

HEADER = """# comment
@relation demo
@attribute series_name string
@attribute start_timestamp date
@frequency daily
@horizon 7
@missing true
@equallength false
@data
"""
LINES = "A:2020-01-01 00-00-00:1,2.5,-3e2\nB:2020-02-01 12-30-00:?, 7,?\n"


def write(folder, text, encoding="utf-8"):
    (folder / "s.tsf").write_bytes(text.encode(encoding))
    return folder / "s.tsf"


def test_each_line_is_a_series(tmp_path):
    [table], location = read(write(tmp_path, HEADER + LINES))
    assert table.to_pylist() == [
        {"item_id": "A", "start": dt.datetime(2020, 1, 1), "target": [1, 2.5, -300]},
        {"item_id": "B", "start": dt.datetime(2020, 2, 1, 12, 30), "target": [None, 7, None]},
    ]
    assert table.schema.field("target").type == pa.list_(pa.float64()) and table.schema.metadata == {b"freq": b"D"}
    assert location.fraction_read == 1


def test_columns_have_the_names_of_the_configuration(tmp_path):
    [table] = read(write(tmp_path, HEADER + LINES), Columns("shop", "start_timestamp", Variates(("sold",))))[0]
    assert table.column_names == ["shop", "start_timestamp", "sold"] and table["shop"].to_pylist() == ["A", "B"]


def test_attributes_may_form_the_item_id(tmp_path):
    text = "@attribute state string\n@attribute code numeric\n@data\nVIC:007:1,2\nNSW:8:3\n"
    [table] = read(write(tmp_path, text), Columns(item_id=("state", "code")))[0]
    assert table.to_pylist() == [
        {"state": "VIC", "code": "007", "target": [1, 2]},
        {"state": "NSW", "code": "8", "target": [3]},
    ]


def test_series_without_names_are_numbered_across_tables(tmp_path):
    [first, second] = read(write(tmp_path, "@data\n" + "1,2\n\n# comment\n" * 1030))[0]
    assert (len(first), len(second)) == (1024, 6) and second["item_id"].to_pylist()[-1] == "T1030"


@pytest.mark.parametrize("word, freq", [
    ("yearly", "YS"), ("quarterly", "QS"), ("monthly", "MS"), ("weekly", "7D"), ("Daily", "D"), ("hourly", "h"),
    ("half_hourly", "30min"), ("minutely", "min"), ("4_seconds", "4s"), ("10_minutes", "10min"), ("2_hours", "2h"),
])  # fmt: skip
def test_a_frequency_has_a_pandas_alias(tmp_path, word, freq):
    [table] = read(write(tmp_path, HEADER.replace("daily", word) + LINES))[0]
    assert table.schema.metadata == {b"freq": freq.encode()}


def test_comments_may_have_another_encoding(tmp_path):
    assert len(read(write(tmp_path, "# Köln\r\n" + HEADER + LINES, "cp1252"))[0]) == 1
    path = write(tmp_path, HEADER + LINES.replace("A", "Köln"), "cp1252")
    assert read(path, Columns(encoding="cp1252"))[0][0]["item_id"][0].as_py() == "Köln"
    with refused("s.tsf", "data.encoding"):
        read(path)


@pytest.mark.parametrize("text, facts", [
    (HEADER + LINES + "C:1,2\n", ("line 12", "1 attributes for 2")),
    (HEADER + LINES + "C:2020-01-01 00-00-00:1,two\n", ("line 12", "two")),
    (HEADER + LINES + "C:2020-01-01:1\n", ("line 12", "2020-01-01")),
    (HEADER.replace("daily", "fortnightly"), ("line 5", "fortnightly")),
    (HEADER.replace("date", "moment") + LINES, ("line 4", "string, numeric")),
    (LINES, ("line 1", "@data")),
    ("# nothing\n", ("@data",)),
], ids=["attributes", "number", "date", "frequency", "type", "no header", "no data"])  # fmt: skip
def test_a_broken_line_is_refused_with_its_number(tmp_path, text, facts):
    with refused("s.tsf", *facts):
        read(write(tmp_path, text))
