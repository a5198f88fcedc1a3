"""JSON Lines and JSON arrays: types, other forms, and broken ones."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.reading import read, read_rows
from support.source_files import FRAME, refused, write_json

from pipeline.data.columns import Columns
from pipeline.data.source import open_source

OBJECTS = [{"item_id": 7, "target": 1.234}, {"item_id": 8, "target": None}]


def write(folder, text, name="s.json"):
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize("head", ["", " \n", "\ufeff"])
@pytest.mark.parametrize("name", ["s.json", "s.jsonl"])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_of_objects_is_read(tmp_path, head, name, indent):
    assert read_rows(write(tmp_path, head + json.dumps(OBJECTS, indent=indent) + "\n", name)) == [(7, 1.234), (8, None)]


def test_an_array_of_pandas_is_read_in_several_tables(tmp_path):
    frame = pd.concat([FRAME] * 100)
    frame.to_json(tmp_path / "s.json", orient="records", date_format="iso")
    tables, location = read(tmp_path / "s.json")
    assert [len(table) for table in tables] == [4096, 1904] and location.fraction_read == 1
    assert pa.concat_tables(tables)["target"].to_pylist() == frame["target"].tolist()


@pytest.mark.parametrize("values, column_type", [
    ([1, 2, None], pa.int64()),
    ([1, 2.5, None], pa.float64()),
    ([None, None, None], pa.string()),
    (["1", "NA", ""], pa.string()),
    ([True, False, None], pa.string()),
    ([10**30, 1, None], pa.string()),
])  # fmt: skip
def test_a_column_has_the_type_of_its_values(tmp_path, values, column_type):
    [table] = read(write_json(tmp_path, [{"item_id": value, "target": 1} for value in values]))[0]
    expected = values
    if column_type == pa.string():
        words = {True: "true", False: "false"}
        expected = [value if value is None else words.get(value, str(value)) for value in values]
        if 10**30 in values:
            expected = [str(10**30), "1", None]
    assert table.schema.field("item_id").type == column_type and table["item_id"].to_pylist() == expected


def test_a_number_beside_texts_proves_no_decimal_separator(tmp_path):
    values = [1.234, -12.345, 1234.567, 2.0, 0.5, "2,5"]
    path = write_json(tmp_path, [{"target": value} for value in values])
    assert open_source(path, tmp_path / "cache").target(0).tolist() == pytest.approx(
        [1.234, -12.345, 1234.567, 2, 0.5, 2.5]
    )
    path = write_json(tmp_path, [{"target": value} for value in (1500.5, "1.234")])
    with refused("1.234", "data.decimal"):
        open_source(path, tmp_path / "cache")


def test_a_list_of_values_may_have_texts(tmp_path):
    path = write_json(tmp_path, [{"target": [1.5, "?", 3, "n/a", "NaN"]}, {"target": [4, 5]}])
    store = open_source(path, tmp_path / "cache", missing_values="?")
    np.testing.assert_array_equal(store.target(0), np.array([1.5, np.nan, 3, np.nan, np.nan], np.float32))
    for value, problem in (("1_000", "1_000"), ({}, "dict"), ([1], "list")):
        with refused(problem):
            open_source(write_json(tmp_path, [{"target": [value, 2]}]), tmp_path / "cache")


def test_a_field_that_is_absent_from_a_block_keeps_its_type(tmp_path):
    rows = [{"item_id": 1, "target": 2}] * 4096 + [{"target": 2}] * 5
    tables = read(write_json(tmp_path, rows))[0]
    assert [table.schema.field("item_id").type for table in tables] == [pa.int64()] * 2


def test_a_covariate_may_come_first_after_the_first_rows(tmp_path):
    rows: list[dict] = [{"target": value} for value in range(5000)]
    rows[4999]["price"] = 2.5
    store = open_source(write_json(tmp_path, rows), tmp_path / "cache", known_covariates="price")
    assert np.flatnonzero(~np.isnan(store.rows(0)[1])).tolist() == [4999]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1252"])
def test_other_encodings_are_read(tmp_path, encoding):
    (tmp_path / "s.jsonl").write_bytes('{"item_id": "Köln", "target": 1}\n'.encode(encoding))
    configured = "cp1252" if encoding == "cp1252" else "utf-8"
    assert read_rows(tmp_path / "s.jsonl", Columns(encoding=configured)) == [("Köln", 1)]


@pytest.mark.parametrize("text, facts", [
    ('{"item_id": {"0": "A"}, "target": {"0": 1}}', ("'item_id'", "object")),  # pandas' default
    ('{\n"target": 1\n}', ("line 1", "one array")),
    ('[{"target": 1}, 2]', ("item 2", "object")),
    ('[{"target": 1}, {"target"', ("not valid JSON", "one array")),
    ('{"item_id": 1, "target": 1, "target": 2}', ("line 1", "'target'", "twice")),
    ('[{"target": 1}] 7', ("not valid JSON",)),
    ("[" * 100_000, ("not valid JSON",)),
    ("7", ("line 1", "object")),
    ('{"target": ' + "9" * 5000 + "}", ("line 1", "not valid JSON")),
    ('{"target": "\\ud800"}', ()),
    ('{"target": [1, {}]}', ("not a number",)),
])  # fmt: skip
def test_other_json_is_refused_in_one_line(tmp_path, text, facts):
    with refused("s.json", *facts) as raised:
        read(write(tmp_path, text))
    assert "\n" not in str(raised.value)


def test_numbers_of_typed_blocks_count_when_a_word_comes_late(tmp_path):
    """A single word among thousands of numbers is a mistake, and makes no categories of the numbers."""
    rows = [
        {"timestamp": str(np.datetime64("2000-01-01") + day), "target": 1, "price": day + 0.5} for day in range(4100)
    ]
    rows[-1]["price"] = "closed"
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with refused("row 4100", "price", "closed"):
        open_source(tmp_path / "s.jsonl", tmp_path / "cache", past_covariates=["price"])
