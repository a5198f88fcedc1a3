"""Tables with one column per series, or one column per time step."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.source_files import refused, write_csv

from pipeline.config import DataConfig
from pipeline.data.columns import Columns
from pipeline.data.source import open_source

WIDE = Columns(wide=True)


def write_wide(kind, folder, frame, **csv_options):
    """Write a wide frame, and return what `open_source` takes."""
    if kind == "frame":
        return frame
    path = folder / f"w.{kind}"
    frame.to_parquet(path) if kind == "parquet" else frame.to_csv(path, index=False, **csv_options)
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet", "frame"])
def test_one_column_per_series_is_the_same_as_a_melted_table(tmp_path, kind):
    stamps = pd.date_range("2020-01-01", periods=40)
    frame = pd.DataFrame({"day": stamps, "A": np.arange(40.0), "B": np.arange(40.0) ** 2})
    frame.loc[:4, "B"] = frame.loc[38:, "A"] = np.nan
    long = frame.melt("day", var_name="item_id", value_name="target")
    long = long[(long["item_id"] == "A") | long["target"].notna()]  # without the blanks before the first value of B
    columns = Columns(timestamp="day", wide=True)
    wide = open_source(write_wide(kind, tmp_path, frame), tmp_path / "cache", columns)
    melted = open_source(long, tmp_path / "cache", Columns(timestamp="day"))
    assert list(wide.item_ids) == list(melted.item_ids) == ["A", "B"]
    np.testing.assert_array_equal(wide.starts, melted.starts)
    for index in range(2):
        np.testing.assert_array_equal(wide.target(index), melted.target(index))


@pytest.mark.parametrize("kind", ["csv", "parquet", "frame"])
@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d.%m.%Y", "%Y-%m-%d %H:%M:%S"])
def test_one_column_per_date_is_the_same_as_a_melted_table(tmp_path, kind, form):
    frame = pd.DataFrame(
        np.arange(120.0).reshape(3, 40) / 8, columns=pd.date_range("2020-01-05", periods=40).strftime(form)
    )
    frame.iloc[1, :4] = frame.iloc[2, 7] = np.nan
    frame.insert(0, "shop", ["north", "north", "south"])
    frame.insert(1, "manager", ["Ann", "Bea", "Cem"])
    frame.insert(2, "product", [1, 2, 1])
    long = frame.melt(["shop", "manager", "product"], var_name="timestamp", value_name="target").dropna()
    source = write_wide(kind, tmp_path, frame, decimal=",", sep=";")
    wide = open_source(source, tmp_path / "cache", Columns(item_id=("shop", "product"), wide=True))
    melted = open_source(long, tmp_path / "cache", Columns(item_id=("shop", "product")))
    assert sorted(wide.item_ids) == sorted(melted.item_ids) == ["north/1", "north/2", "south/1"]
    for name in wide.item_ids:
        in_wide, in_melted = list(wide.item_ids).index(name), list(melted.item_ids).index(name)
        assert wide.starts[in_wide] == melted.starts[in_melted]
        np.testing.assert_array_equal(wide.target(in_wide), melted.target(in_melted))


@pytest.mark.parametrize("dates, freq, start", [
    ("1990,1991,1992", "YS-JAN", "1990-01-01"),
    ("2000Q1,2000Q2,2000Q3", "QS-JAN", "2000-01-01"),
    ("Nov 2023,Dec 2023,Jan 2024", "MS", "2023-11-01"),
    ("30 Dec 2023,31 Dec 2023,1 Jan 2024", "D", "2023-12-30"),
    ('"Dec 30, 2023","Dec 31, 2023","Jan 01, 2024"', "D", "2023-12-30"),
    ('"Sat, 30-Dec-2023","Sun, 31-Dec-2023","Mon, 01-Jan-2024"', "D", "2023-12-30"),
    ("30 Dec 2023 00:00,31 Dec 2023 00:00,01 Jan 2024 00:00", "D", "2023-12-30"),
])  # fmt: skip
def test_the_dates_in_a_header_may_have_any_format(tmp_path, dates, freq, start):
    path = write_csv(tmp_path, "A,7,1,,3,9", "B,8,5,6,7,9", header=f"item_id,code,{dates},31 Dec 2023 sales")
    store = open_source(path, tmp_path / "cache", WIDE)
    assert (store.freq, store.starts[0]) == (freq, np.datetime64(start))
    np.testing.assert_array_equal([store.target(0), store.target(1)], [[1, np.nan, 3], [5, 6, 7]])


def test_an_invalid_date_in_a_header_is_refused(tmp_path):
    path = write_csv(tmp_path, "A,1,2", header="item_id,2020-01-01,2020-01-32")
    with refused("s.csv", "header", ": 2020-01-32"):
        open_source(path, tmp_path / "cache", WIDE)


def test_two_columns_of_the_same_date_are_refused(tmp_path):
    path = write_csv(tmp_path, "A,1,2,3,6", header="item_id,2024,Jan 2024,Feb 2024,Mar 2024")
    with refused("s.csv", "header", "2024: Jan 2024"):
        open_source(path, tmp_path / "cache", WIDE, "MS")
    path = write_csv(tmp_path, "A,1,2,3", header="item_id,2024-01-01,2024-01-02,2024-01-02 00:00")
    with refused("s.csv", "'2024-01-02'", "'2024-01-02 00:00'"):
        open_source(path, tmp_path / "cache", WIDE)


def test_columns_without_a_date_give_a_warning(tmp_path, caplog):
    path = write_csv(tmp_path, "A,1,2,3,6", header="item_id,Jan 2024,Febr 2024,Mar 2024,Total")
    store = open_source(path, tmp_path / "cache", WIDE, "MS")
    np.testing.assert_array_equal(store.target(0), [1, np.nan, 3])
    assert "Febr 2024, Total" in caplog.text


@pytest.mark.parametrize("header, rows", [
    ("timestamp,A,B", ["2020-01-01,1,2", "2020-01-02,1,two", "2020-01-03,1,2"]),
    ("item_id,2020-01-01,2020-01-02", ["A,1,2", "B,1,two"]),
])  # fmt: skip
def test_an_invalid_value_of_a_wide_table_is_refused_with_its_row(tmp_path, header, rows):
    with refused("s.csv", "row 2 ", ": two"):
        open_source(write_csv(tmp_path, *rows, header=header), tmp_path / "cache", WIDE)


def test_columns_without_values_give_one_warning(tmp_path, caplog):
    """Column C has values in the last block alone, column D in the first."""
    stamps = pd.date_range("2020-01-01", periods=70_000, freq="h", name="timestamp")
    frame = pd.DataFrame({"A": 1.0, "B": np.nan, "C": np.nan, "D": np.nan}, stamps)
    frame.loc[stamps[-10:], "C"] = frame.loc[stamps[:10], "D"] = 1.0
    frame.reset_index().to_parquet(tmp_path / "s.parquet")
    store = open_source(tmp_path / "s.parquet", tmp_path / "cache", WIDE)
    warnings = [message for message in caplog.messages if "no value" in message]
    assert list(store.item_ids) == ["A", "B", "C", "D"] and len(warnings) == 1 and warnings[0].endswith(": B")
    assert [np.count_nonzero(~np.isnan(store.target(index))) for index in range(4)] == [70_000, 0, 10, 10]


def test_a_column_without_a_name_has_its_position_as_name(tmp_path):
    """This is the name in pandas, which writes such a column for an index without a name."""
    frame = pd.DataFrame({"A": [1.0, 2.0, 3.0], "B": [4.0, 5.0, 6.0]}, pd.date_range("2020-01-01", periods=3))
    frame.to_csv(tmp_path / "s.csv")
    with refused("Unnamed: 0, A, B"):
        open_source(tmp_path / "s.csv", tmp_path / "cache", WIDE)
    store = open_source(tmp_path / "s.csv", tmp_path / "cache", Columns(timestamp="Unnamed: 0", wide=True))
    assert (list(store.item_ids), store.target(1).tolist()) == (["A", "B"], [4, 5, 6])


def test_a_column_of_row_numbers_is_not_a_series(tmp_path):
    frame = pd.DataFrame({"timestamp": pd.date_range("2020-01-01", periods=3), "A": [1.0, 2.0, 3.0]})
    frame.to_csv(tmp_path / "t.csv")
    with refused("t.csv", "Unnamed: 0, timestamp, A", "data.wide"):
        open_source(tmp_path / "t.csv", tmp_path / "cache", WIDE)


@pytest.mark.parametrize(
    "columns", [WIDE, Columns(timestamp="day", wide=True), Columns(item_id=("day", "A"), wide=True)]
)
def test_a_table_that_is_not_wide_is_refused(tmp_path, columns):
    path = write_csv(tmp_path, "2020-01-01,1,2", header="day,A,")
    with refused("s.csv", "data.wide", "data.timestamp_column", "data.id_column"):
        open_source(path, tmp_path / "cache", columns)


def test_wide_json_is_refused(tmp_path):
    (tmp_path / "w.jsonl").write_text('{"timestamp": "2020-01-01", "A": 1}\n')
    with refused("w.jsonl", "data.wide"):
        open_source(tmp_path / "w.jsonl", tmp_path / "cache", WIDE)


def test_wide_tables_with_covariates_are_refused():
    with refused("data.wide"):
        DataConfig(wide=True, known_covariates=["price"])


@pytest.mark.parametrize("padding", ["", "NA", "NaN", " ", "-"])
def test_padding_after_the_last_value_of_a_numbered_row_is_no_step(tmp_path, padding):
    """In whatever form it is written; within a row it is a missing value."""
    rows = [["a", "1", padding, "3", "4", "5"], ["b", "1", "2", padding, padding, padding], ["c", *[padding] * 5]]
    path = write_csv(tmp_path, *(",".join(row) for row in rows), header="item_id,1,2,3,4,5")
    store = open_source(path, tmp_path / "cache", WIDE)
    assert store.lengths.tolist() == [5, 2, 1] and store.target(1).tolist() == [1, 2]
    np.testing.assert_array_equal(store.target(0), [1, np.nan, 3, 4, 5])


def test_nan_after_the_last_value_of_a_numbered_row_is_no_step():
    table = pa.table({"item_id": ["a", "b"], "1": [1.0, 1.0], "2": [2.0, 2.0], "3": [3.0, np.nan]})
    assert open_source(table, columns=WIDE).lengths.tolist() == [3, 2]
