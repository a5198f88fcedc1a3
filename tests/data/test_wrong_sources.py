"""What is wrong in a source is refused by its row, or by its file."""

import json
import re
from dataclasses import replace

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from support.source_files import FRAME, GOOD, csv_of, nested, write

from pipeline.config import Config
from pipeline.core.errors import UserError
from pipeline.core.series import Series, Variates
from pipeline.data import formats
from pipeline.data.arrow_store import write_store
from pipeline.data.columns import Columns
from pipeline.data.source import open_source
from pipeline.windows.training_sets import open_training_data


@pytest.mark.parametrize("row, said", [
    ("A,2020-01-03,9", "twice, in row 3 and row 6"),
    ("A,2020-01-06,x", "row 6 has a target that is no number: x"),
    ("A,2020-01-06,inf", "row 6 has an infinite target"),
    ("A,2020-01-06,1e39", "row 6 has a target beyond 1e\\+18"),
    ("A,,6", "row 6 has no timestamp"),
    (",2020-01-06,6", "row 6 has no item_id"),
    ("A,2020-01-06T00:00:00+02:00,6", "row 6 has a time zone, which the first has not"),
    ("A,2020-01-06T12:00:00,6", "row 6, series A"),
    ("A,tomorrow,6", "row 6 has a timestamp that is no date"),
    ("A,2020-01-06T00:00:00.5,6", "row 6 has a timestamp finer than a second"),
    ("A,9999-01-06,6", "mistyped|no date"),
])  # fmt: skip
def test_a_wrong_row_is_refused_by_its_number(tmp_path, row, said):
    with pytest.raises(UserError, match=said):
        open_source(csv_of(tmp_path, *GOOD, row), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "feather", "frame", "parquetparts"])
@pytest.mark.parametrize("wrong, said", [
    ({"target": np.inf}, "row 46 has an infinite target"),
    ({"target": 1e300}, "row 46 has a target beyond"),
    ({"item_id": None}, "row 46 has no item_id"),
    ({"timestamp": pd.NaT}, "row 46 has no timestamp"),
    ({"timestamp": pd.Timestamp("2021-01-02")}, "twice, in row 42 and row 46"),
    ({"timestamp": pd.Timestamp("2021-01-06 12:00")}, "row 46, series item2: timestamp 2021-01-06T12:00:00"),
])  # fmt: skip
def test_a_wrong_row_of_any_format_is_refused_by_its_number(tmp_path, monkeypatch, kind, wrong, said):
    monkeypatch.setattr(formats, "_ROWS", 32)
    frame = FRAME.copy()
    for column, value in wrong.items():
        frame.loc[45, column] = value
    if kind == "jsonl" and "target" in wrong:
        path = tmp_path / "s.jsonl"
        rows = frame.assign(timestamp=frame["timestamp"].astype(str)).to_dict("records")
        path.write_text("\n".join(map(json.dumps, rows)))
        source = str(path)
    else:
        source = write(kind, tmp_path, frame)
    if kind == "parquetparts":  # of 13 rows each
        said = re.sub(r"row (\d+)", lambda row: "row {1} of part{0}.parquet".format(*_part(int(row[1]))), said)
    with pytest.raises(UserError, match=said):
        open_source(source, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


def _part(row):
    part, before = divmod(row - 1, 13)
    return part, before + 1


@pytest.mark.parametrize("target, said", [
    ([1, "inf"], "row 2 has an infinite target"),
    ([1, "x"], "no number"),
    (None, "target"),
    ([[1], [2]], "no number"),
])  # fmt: skip
def test_a_wrong_nested_row_is_refused(tmp_path, target, said):
    rows = [
        {"item_id": "A", "start": "2020-01-01", "target": [1, 2]},
        {"item_id": "B", "start": "2020-01-01", "target": target},
    ]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=said):
        open_source(tmp_path / "s.jsonl", tmp_path / "cache", freq="D")


@pytest.mark.parametrize("rows", [
    [{"item_id": None, "target": [1, 2]}, {"item_id": "B", "target": [3, 4]}],
    [{"item_id": "A", "target": [1, 2]}, {"target": [3, 4]}],
])  # fmt: skip
def test_a_nested_row_without_its_name_is_refused_and_leaves_no_store(tmp_path, rows):
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for _ in range(2):
        with pytest.raises(UserError, match="item_id"):
            open_source(tmp_path / "s.jsonl", tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize(
    "lacking, said", [("timestamp", "row 1 has no timestamp"), ("item_id", "row 1 has no item_id")]
)
def test_a_first_json_line_that_lacks_a_field_does_not_hide_it_in_the_others(tmp_path, lacking, said):
    rows = [{"item_id": "A", "timestamp": f"2020-01-0{day}", "target": day} for day in range(1, 6)]
    del rows[0][lacking]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=said):
        open_source(tmp_path / "s.jsonl", tmp_path / "cache")


def test_a_first_json_line_without_a_value_is_a_missing_value(tmp_path):
    rows = [{"item_id": "A", "timestamp": f"2020-01-0{day}", "target": day} for day in range(1, 6)]
    del rows[0]["target"]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store = open_source(tmp_path / "s.jsonl", tmp_path / "cache")
    np.testing.assert_array_equal(store.target(0), [np.nan, 2, 3, 4, 5])


@pytest.mark.parametrize("content", ["", "\n", "item_id,timestamp,target", "item_id,timestamp,target\n"])
def test_a_file_without_rows_is_refused(tmp_path, content):
    (tmp_path / "s.csv").write_text(content)
    with pytest.raises(UserError, match="s.csv"):
        open_source(tmp_path / "s.csv", tmp_path / "cache")


def test_a_table_without_rows_is_refused(tmp_path):
    FRAME.iloc[:0].to_parquet(tmp_path / "s.parquet")
    for source in (tmp_path / "s.parquet", FRAME.iloc[:0]):
        with pytest.raises(UserError, match="no rows"):
            open_source(source, tmp_path / "cache")


DAYS = [np.datetime64(f"2020-01-0{day}", "us") for day in range(1, 4)]


@pytest.mark.parametrize("table", [
    pa.table({"item_id": ["A"] * 3, "timestamp": [*DAYS[:2], np.datetime64("9999-12-31", "us")], "target": [1.0, 2, 3]}),
    pa.table([["A"] * 3, DAYS, [1.0, 2, 3], [1.0, 2, 3]], names=["item_id", "timestamp", "target", "target"]),
    pa.table({"item_id": ["A"] * 3, "timestamp": [1, 2, 3], "target": [1.0, 2, 3]}),
    pa.table({"item_id": ["A"] * 3, "timestamp": DAYS, "target": [True, False, True]}),
    pa.table({"item_id": ["A"] * 3, "timestamp": DAYS, "target": [{"x": 1}] * 3}),
], ids=["year 9999", "two targets", "whole numbers as time", "truth values", "structs"])  # fmt: skip
def test_a_table_that_cannot_be_read_is_refused(tmp_path, table):
    pa.parquet.write_table(table, tmp_path / "s.parquet")
    with pytest.raises(UserError):
        open_source(tmp_path / "s.parquet", tmp_path / "cache")


@pytest.mark.parametrize("frame", [
    FRAME.set_axis(["item_id", "target", "target"], axis=1),
    FRAME.assign(target=["x", *range(59)]),
    FRAME.assign(timestamp=FRAME["timestamp"].dt.to_period("D").astype(object)),
    pd.DataFrame({"item_id": ["A"], "target": [{"x": 1}]}),
], ids=["two targets", "text among numbers", "periods", "dicts"])  # fmt: skip
def test_a_frame_that_cannot_be_read_is_refused(tmp_path, frame):
    with pytest.raises(UserError):
        open_source(frame, tmp_path)


def test_whole_numbers_of_any_size_are_values(tmp_path):
    store = open_source(FRAME.assign(target=2**53 + 1 + np.arange(60)), tmp_path)
    assert store.target(0)[0] == np.float32(2**53)


@pytest.mark.parametrize("other", [
    FRAME.assign(item_id=range(60)),
    FRAME.assign(timestamp=FRAME["timestamp"].astype(str), item_id="B"),
    FRAME.assign(item_id="B", target=FRAME["target"].astype(str)),
], ids=["names", "timestamps", "targets"])  # fmt: skip
def test_files_of_a_folder_that_do_not_fit_together_are_read_or_refused(tmp_path, other):
    (tmp_path / "f").mkdir()
    FRAME.to_parquet(tmp_path / "f" / "a.parquet")
    other.iloc[:20].to_parquet(tmp_path / "f" / "b.parquet")
    try:
        assert len(open_source(tmp_path / "f", tmp_path / "cache", freq="D")) > 3
    except UserError as error:
        assert str(tmp_path / "f") in str(error)


@pytest.mark.parametrize("kind", ["csv.gz", "json.gz", "parquet", "feather", "arrow file", "arrow zstd"])
@pytest.mark.parametrize("cut", [1, 8, 300])
def test_a_file_of_any_format_that_is_cut_short_is_refused(tmp_path, kind, cut):
    source = write(kind, tmp_path)
    with open(source, "rb+") as file:
        file.truncate(file.seek(0, 2) - cut)
    with pytest.raises(UserError, match=source):
        open_source(source, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("name", ["s.csv.gz", "s.jsonl.gz", "s.parquet", "s.feather", "s.jsonl", "s.arrow"])
def test_a_file_that_is_not_what_its_suffix_says_is_refused(tmp_path, name):
    (tmp_path / name).write_text("item_id,timestamp,target\nA,2020-01-01,1\n")
    with pytest.raises(UserError, match=name):
        open_source(tmp_path / name, tmp_path / "cache")


def test_gluonts_metadata_that_is_half_written_is_refused(tmp_path):
    source = write("gluonts", tmp_path)
    (tmp_path / "s.gluonts" / "metadata" / "metadata.json").write_text('{"freq": ')
    with pytest.raises(UserError, match="metadata.json"):
        open_source(source, tmp_path / "cache")


def test_a_datasets_folder_that_is_half_written_is_refused(tmp_path):
    source = write("datasets", tmp_path)
    (tmp_path / "s.datasets" / "state.json").write_text("{")
    with pytest.raises(UserError, match="s.datasets"):
        open_source(source, tmp_path / "cache")


def test_a_dict_of_splits_without_training_is_refused_by_those_there_are(tmp_path):
    datasets.DatasetDict({"test": datasets.Dataset(nested(FRAME))}).save_to_disk(tmp_path / "s")
    with pytest.raises(UserError, match="only test"):
        open_source(tmp_path / "s", tmp_path / "cache")


@pytest.mark.parametrize("name", ["none.csv", "none/at/all", "table.xls", "empty"])
def test_a_source_that_is_not_there_or_of_no_known_format_is_refused(tmp_path, name):
    (tmp_path / "table.xls").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=name):
        open_source(tmp_path / name, tmp_path / "cache")


@pytest.mark.parametrize(
    "columns",
    [
        Columns(item_id="shop"),
        Columns(item_id=("item_id", "shop")),
        Columns(timestamp="day"),
        Columns(variates=Variates(("sold",))),
    ],
)
def test_a_column_that_is_asked_for_must_be_there(tmp_path, columns):
    asked = {*columns.item_ids, columns.timestamp, columns.target} & {"shop", "day", "sold"}
    for kind in ("csv", "parquet", "jsonl", "feather", "frame"):
        with pytest.raises(UserError, match=f"'{asked.copy().pop()}'.*item_id, timestamp, target"):
            open_source(write(kind, tmp_path), tmp_path / "cache", columns)


def test_interleaved_series_without_names_are_refused_with_the_key_to_name_them(tmp_path):
    path = csv_of(tmp_path, "2020-01-01,1", "2020-01-02,2", "2020-01-03,2", "2020-01-01,3", header="timestamp,target")
    with pytest.raises(UserError, match="data.id_column"):
        open_source(path, tmp_path / "cache")


@pytest.mark.parametrize("header", ["item_id,timestamp,value", "a,b,c"])
def test_a_missing_column_is_named_with_those_there_are(tmp_path, header):
    with pytest.raises(UserError, match=f"'target'.*{header.split(',')[2]}"):
        open_source(csv_of(tmp_path, *GOOD, header=header), tmp_path / "cache")


def test_two_rows_of_one_name_are_refused_in_nested_data(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text('{"item_id": "A", "target": [1, 2]}\n{"item_id": "A", "target": [3, 4]}\n')
    with pytest.raises(UserError, match="A"):
        open_source(str(path), tmp_path / "cache", freq="D")


def test_nested_rows_whose_lists_differ_in_length_are_refused(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text('{"timestamp": ["2020-01-01", "2020-01-02"], "target": [1, 2, 3]}\n')
    with pytest.raises(UserError, match="row 1 has not as many timestamps"):
        open_source(str(path), tmp_path / "cache")


def test_the_wrong_one_of_dates_that_begin_with_the_month_is_named(tmp_path):
    rows = [f"A,{day},1" for day in ("01/10/2024", "01/11/2024", "01/13/2024", "02/30/2024")]
    with pytest.raises(UserError, match="row 4 has a timestamp that is no date.*02/30/2024"):
        open_source(csv_of(tmp_path, *rows), tmp_path / "cache")


@pytest.mark.parametrize("wanted", [
    Variates(("target",), known=("price",)), Variates(("target",), past=("price",)),
    Variates(("target", "other")),
])  # fmt: skip
def test_columns_that_a_store_does_not_have_are_refused(tmp_path, wanted):
    write_store(tmp_path / "s.arrow", [Series("A", np.datetime64("2020-01-01", "s"), "D", np.arange(9, dtype="f4"))])
    with pytest.raises(UserError, match="is a store of target"):
        open_source(tmp_path / "s.arrow", tmp_path / "cache", Columns(variates=wanted))
    config = Config()
    config = replace(
        config,
        data=replace(
            config.data,
            train=str(tmp_path),
            target=list(wanted.targets),
            past_covariates=list(wanted.past),
            known_covariates=list(wanted.known),
        ),
    )
    with pytest.raises(UserError, match="is a store of target"):
        open_training_data(config)


def test_the_target_of_a_store_goes_by_any_name(tmp_path):
    """Beside one's own table, whose target has one, lie series that were generated."""
    path = tmp_path / "s.arrow"
    write_store(path, [Series("A", np.datetime64("2020-01-01", "s"), "D", np.arange(9, dtype="f4"))])
    store = open_source(path, tmp_path / "cache", Columns(variates=Variates(("sales",))))
    assert store.path == path and store.target(0).tolist() == list(range(9))
    with pytest.raises(UserError, match="is a store of target; of price"):
        open_source(path, tmp_path / "cache", Columns(variates=Variates((), (), ("price",))))


@pytest.mark.parametrize("value, said", [(np.inf, "holds an infinite value"), (-2e18, "holds a value beyond 1e\\+18")])
def test_an_array_that_no_model_can_scale_is_refused(value, said):
    data = np.ones((2, 9))
    data[1, 3] = value
    with pytest.raises(UserError, match=f"the array: series 1 {said}"):
        open_source(data)


@pytest.mark.parametrize("array", [
    np.array([["1", "2"]]), np.array([[None, 1.0]]), np.array([[True, False]]), np.array([[1j, 2.0]]),
    np.array([[1, 2]], "m8[s]"),
])  # fmt: skip
def test_an_array_of_no_numbers_is_refused(array):
    with pytest.raises(UserError, match="the array must hold numbers"):
        open_source(array)


def test_arrays_of_any_numbers_are_read_as_they_are(recwarn):
    for kind in (np.float16, np.float64, np.int8, np.uint64):
        assert open_source(np.array([[1, 2, 100]], kind)).target(0).tolist() == [1, 2, 100]
    for wrong in (np.array([[1.0, np.inf]], np.float16), np.array([[1, np.iinfo(np.int64).min]])):
        with pytest.raises(UserError, match="the array: series 0 holds"):
            open_source(wrong)
    masked = np.ma.masked_invalid(np.array([[1.0, np.inf, 3.0]]))
    np.testing.assert_array_equal(open_source(masked).target(0), np.float32([1, np.nan, 3]))
    assert not recwarn.list


def test_a_frame_whose_dates_are_an_index_without_a_name_is_refused(tmp_path):
    frame = pd.DataFrame({"target": np.arange(5.0)}, index=pd.date_range("2020-01-01", periods=5))
    with pytest.raises(UserError, match="index of dates has no name"):
        open_source(frame, tmp_path)


def test_what_spreadsheets_write_is_refused_with_what_to_mend(tmp_path):
    (tmp_path / "s.csv").write_text("item_id;timestamp;target\nA;2020-01-01;1.459,37\nA;2020-01-02;2.5\n")
    with pytest.raises(UserError, match="row 1 has a target whose fraction does not begin with '.' .*: 1.459,37"):
        open_source(tmp_path / "s.csv", tmp_path / "cache")
    (tmp_path / "t.csv").write_bytes("item_id,timestamp,target\nKöln,2020-01-01,1\n".encode("latin-1"))
    with pytest.raises(UserError, match="not written in utf-8"):
        open_source(tmp_path / "t.csv", tmp_path / "cache")
    (tmp_path / "w.csv").write_text("date,a,b\n2020-01-01,1,2\n")
    with pytest.raises(UserError, match="is read with data.wide true"):
        open_source(tmp_path / "w.csv", tmp_path / "cache")
