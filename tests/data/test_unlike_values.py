"""Values of which one is unlike the others, and tables that could be joined or ordered wrongly: right, or refused."""

import datetime as dt
import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from support.source_files import refused, write_csv

from pipeline.config import Config, DataConfig
from pipeline.core.series import Series
from pipeline.data.arrow_store import write_store
from pipeline.data.future import open_future
from pipeline.data.source import open_source, open_stores

DAYS = pd.date_range("2024-01-01", periods=5)
FRAME = pd.DataFrame({"timestamp": DAYS, "target": np.arange(5.0)})
NAN = np.nan


def values(folder, source, **options):
    """The values of each series by item ID, with None for a missing one."""
    store = open_source(source, folder / "cache", **options)
    return {
        name: [None if np.isnan(value) else value for value in store.target(i)] for i, name in enumerate(store.item_ids)
    }


# Timestamps


@pytest.mark.parametrize("first", ["2024-01-01 09:00:00+00:00", "31/12/2023 09:00:00+00:00"])
def test_minutes_are_not_taken_for_a_time_zone(tmp_path, first):
    rest = [first.replace("09:00:00+00:00", f"{hour}:00") for hour in ("10:30", "11:00", "12:00")]
    path = write_csv(tmp_path, *(f"{stamp},1" for stamp in (first, *rest)), header="timestamp,target")
    with refused("row 2", "time zone", "10:30:00"):
        open_source(path, tmp_path / "cache")


def test_years_and_weeks_are_read_only_if_named(tmp_path):
    weeks = [f"{year}{week:02}" for year in (2024, 2025) for week in range(1, 53)]
    for start in (0, 12):  # 202413 is no month
        path = write_csv(tmp_path, *(f"{week},1.5" for week in weeks[start:]), header="timestamp,target")
        with refused("data.timestamp_format", "iso_week"):
            open_source(path, tmp_path / "cache")
        store = open_source(path, tmp_path / "cache", timestamp_format="iso_week")
        assert store.freq == "W-MON" and store.lengths[0] == len(weeks) - start
        assert store.starts[0] == np.datetime64(dt.date.fromisocalendar(2024, start + 1, 1))


def test_a_mistyped_first_row_does_not_turn_dates_into_steps(tmp_path):
    rows = ["249999,1", *(f"2401{day:02},{day}" for day in range(2, 20))]
    with refused("240102", "%y%m%d"):
        open_source(write_csv(tmp_path, *rows, header="timestamp,target"), tmp_path / "cache")
    steps = [f"{step},1" for step in range(1, 2600)]  # some of which are years
    assert open_source(write_csv(tmp_path, *steps, header="timestamp,target"), tmp_path / "cache").freq == ""


def test_a_frequency_without_timestamps_is_refused(tmp_path):
    path = write_csv(tmp_path, "a,2024-01-03,3", "a,2024-01-01,1", header="item_id,day,target")
    with refused("'D'", "day", "data.timestamp_column"):
        open_source(path, tmp_path / "cache", freq="D")


def test_formats_of_nested_tables_are_decided_from_all_rows(tmp_path):
    path, n = tmp_path / "s.parquet", 1100  # rows are read 1,024 at a time
    starts = ["01/01/2024"] * (n - 1) + ["02/01/2024"]
    names = list(map(str, range(n)))
    pa.parquet.write_table(
        pa.table({"item_id": names, "start": starts, "freq": ["MS"] * n, "target": [[1.0]] * n}), path
    )
    with refused("02/01/2024", "data.timestamp_format"):
        open_source(path, tmp_path / "cache")
    texts = [["1.500", "2.500"]] * 1024 + [["1.500", "2,5"]] * (n - 1024)
    pa.parquet.write_table(pa.table({"item_id": names, "target": texts}), path)
    assert values(tmp_path, path)["0"] == values(tmp_path, path)["1050"][:1] + [2500]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_rows_with_and_without_lists_are_refused(tmp_path, kind):
    for name, row in (("a", {"target": [1.0, 2.0], "timestamp": ["2024-01-01", "2024-01-02"]}), ("b", {"target": 5.0})):
        if kind == "jsonl":
            (tmp_path / f"{name}.jsonl").write_text(json.dumps({"item_id": name, **row}))
        else:
            pa.parquet.write_table(pa.Table.from_pylist([{"item_id": name, **row}]), tmp_path / f"{name}.parquet")
    with refused("b." + kind, "no list of values"):
        open_source(tmp_path, tmp_path / "cache")


# Wide tables


@pytest.mark.parametrize(
    "names, expected",
    [
        (["Y1990", "Y1991", "Y1993"], [1, 2, None, 3]),
        (["d_1", "d_10", "d_2", "d_3"], [1, 3, 4, *[None] * 6, 2]),
    ],
)
def test_numbered_columns_may_have_gaps_and_any_order(tmp_path, names, expected):
    path = write_csv(
        tmp_path, ",".join(["a", *(str(i + 1) for i in range(len(names)))]), header="item_id," + ",".join(names)
    )
    assert values(tmp_path, path, wide=True) == {"a": expected}


def test_two_groups_of_numbered_columns_are_refused(tmp_path):
    path = write_csv(tmp_path, "a,1,2,3,4,5,6", header="item_id,s_1,s_2,s_3,p_1,p_2,p_3")
    with refused("s_1", "p_1"):
        open_source(path, tmp_path / "cache", wide=True)


def test_a_header_of_dates_may_have_a_named_format(tmp_path):
    path = write_csv(tmp_path, "a,1,2,3", header="item_id,Jan-24,Feb-24,Mar-24")
    store = open_source(path, tmp_path / "cache", wide=True, timestamp_format="%b-%y")
    assert (store.freq, store.starts[0]) == ("MS", np.datetime64("2024-01-01"))


def test_the_headers_of_all_files_decide_the_order_of_dates(tmp_path):
    for month in (1, 2, 3):
        write_csv(tmp_path, f"x,{month}", header=f"item_id,0{month}/01/2024", name=f"{month}.csv")
    with refused("02/01/2024", "data.timestamp_format"):
        open_source(tmp_path, tmp_path / "cache", wide=True)
    store = open_source(tmp_path, tmp_path / "cache", wide=True, timestamp_format="%m/%d/%Y")
    assert store.freq == "MS"


# Tables in memory


def test_named_levels_of_an_index_are_columns(tmp_path):
    levels = pd.MultiIndex.from_product([["a", "b"], range(5)], names=["item_id", None])  # as of groupby.apply
    frame = pd.DataFrame({"timestamp": [*DAYS, *DAYS], "target": np.arange(10.0)}, index=levels)
    assert values(tmp_path, frame) == {"a": [0, 1, 2, 3, 4], "b": [5, 6, 7, 8, 9]}
    steps = pd.DataFrame({"target": np.arange(5.0)}, index=pd.RangeIndex(1, 11, 2, name="timestamp"))
    with refused("2 apart"):
        open_source(steps, tmp_path / "cache")
    years = FRAME[["target"]].set_axis(pd.RangeIndex(1990, 1995, name="year"))
    assert open_source(years, tmp_path / "cache", timestamp_column="year").starts[0] == np.datetime64("1990")
    assert values(tmp_path, years[::-1], timestamp_column="year") == {"0": [0, 1, 2, 3, 4]}


def test_a_level_of_texts_without_a_name_is_refused(tmp_path):
    levels = pd.MultiIndex.from_product([["a", "b"], DAYS], names=[None, "timestamp"])
    with refused("'a'", "no name", "data.id_column"):
        open_source(pd.DataFrame({"target": np.arange(10.0)}, index=levels), tmp_path / "cache")


HOUR = pd.Timestamp("2024-01-01 01:00")


@pytest.mark.parametrize(
    "name, cells, problem",
    [
        ("timestamp", [dt.date(2024, 1, 1), dt.datetime(2024, 1, 2, 5), dt.date(2024, 1, 3)], "dates and times"),
        ("timestamp", [HOUR, HOUR.tz_localize("America/New_York"), HOUR + pd.Timedelta("1h")], "time zone"),
        ("item_id", [1, "a", 1], "numbers and texts"),
    ],
)
def test_objects_of_two_types_are_refused(tmp_path, name, cells, problem):
    frame = FRAME[:3].assign(**{name: pd.Series(cells, dtype=object)})
    with refused(name, problem):
        open_source(frame, tmp_path / "cache")


def test_an_item_id_that_is_nan_is_missing(tmp_path):
    ids = [1.0, 1.0, NAN, 1.0, 1.0]
    for table in (pa.table({"item_id": ids, **FRAME}), pl.DataFrame({"item_id": ids, **FRAME.to_dict("list")})):
        with refused("row 3", "no item_id"):
            open_source(table, tmp_path / "cache")


@pytest.mark.parametrize("kind", [pl.Categorical, pl.Enum(["a", "b"])])
def test_categories_of_polars_are_item_ids(tmp_path, kind):
    frame = pl.DataFrame({"item_id": pl.Series(["b"] * 5, dtype=kind), **FRAME.to_dict("list")})
    assert values(tmp_path, frame) == {"b": [0, 1, 2, 3, 4]}


# Numbers and categories


def test_a_boolean_among_numbers_is_refused(tmp_path):
    with refused("row 2", "TRUE", "1 or 0"):
        values(tmp_path, write_csv(tmp_path, "12.5", "TRUE", "13.5", header="target"))
    assert values(tmp_path, write_csv(tmp_path, "1", "TRUE", "false", header="target")) == {"0": [1, 1, 0]}


def test_listed_numbers_are_missing_in_any_form(tmp_path):
    path = write_csv(tmp_path, "1.5", "-99.90", "1e20", header="target")
    assert values(tmp_path, path, missing_values=["-99,9", "1e20"]) == {"0": [1.5, None, None]}


@pytest.mark.parametrize("form", ["\u2212{}", "({})", "{}-", "-{} \u00b0C"])
def test_numbers_with_another_minus_are_no_categories(tmp_path, form):
    cells = [form.format(f"{number / 10:.1f}") for number in range(5, 40)]
    rows = (f"{cell},{number}" for number, cell in enumerate(cells))
    with refused("row 1", "weather", "write"):
        values(tmp_path, write_csv(tmp_path, *rows, header="weather,target"), past_covariates=["weather"])


def test_digits_of_other_scripts_are_refused_with_advice(tmp_path):
    with refused("row 1", "digits 0 to 9"):
        values(tmp_path, write_csv(tmp_path, "\u0661\u0662", header="target"))


@pytest.mark.parametrize(
    "cells, categories, expected",
    [
        (["True", "False", "None"], ("false", "true"), [1, 0, None]),
        (["flyer ", "none", " flyer"], ("flyer", "none"), [0, 1, 0]),
        (["a", " ", "b"], ("a", "b"), [0, None, 1]),
    ],
)
def test_outer_spaces_and_words_for_missing_values_are_no_categories(tmp_path, cells, categories, expected):
    frame = FRAME[:3].assign(promo=cells)
    store = open_source(frame, tmp_path / "cache", past_covariates=["promo"])
    assert store.variates.categories == {"promo": categories}
    np.testing.assert_array_equal(store.rows(0)[1], np.array(expected, np.float32))


# Covariates of the future


def test_categories_that_the_history_does_not_have_are_reported(tmp_path, caplog):
    config = Config(data=DataConfig(known_covariates=["promo"]))
    store = open_source(FRAME.assign(promo=list("ababa")), tmp_path, known_covariates=["promo"])
    later = pd.DataFrame({"timestamp": DAYS[:2] + pd.Timedelta("5D"), "promo": ["a", "B"], "item_id": "0"})
    future = open_future(config, store, 2, later)
    assert future is not None and future.values(0).tolist() == [[0, -1]]
    assert "promo 'B'" in caplog.text


def test_a_future_without_timestamps_has_the_steps_to_forecast_alone(tmp_path):
    config = Config(data=DataConfig(known_covariates=["price"]))
    history = pd.DataFrame({"item_id": "x", "target": 1.5, "price": [1, 2, 3, 4, 5]})
    store = open_source(history, tmp_path, known_covariates=["price"])
    future = open_future(config, store, 3, pd.DataFrame({"item_id": "x", "price": [6, 7, 8]}))
    assert future is not None and future.values(0).tolist() == [[6, 7, 8]]
    with refused("8 rows", "3 steps"):
        open_future(config, store, 3, pd.DataFrame({"item_id": "x", "price": range(1, 9)}))


def test_a_blank_category_of_the_future_is_refused_with_a_word_to_write(tmp_path):
    config = Config(data=DataConfig(known_covariates=["promo"]))
    store = open_source(FRAME[:5].assign(promo=["a", "", "a", "", ""]), tmp_path, known_covariates=["promo"])
    later = pd.DataFrame({"timestamp": DAYS[:2] + pd.Timedelta("5D"), "promo": ["a", ""], "item_id": "0"})
    with refused("2024-01-07", "promo means none"):
        open_future(config, store, 2, later)


@pytest.mark.parametrize("past, later, kind", [
    (range(1, 6), pd.date_range("2024-01-06", periods=3), "dates"),
    (range(1, 6), None, "no timestamps"),
    (DAYS, [6, 7, 8], "step numbers"),
    (DAYS, None, "no timestamps"),
])  # fmt: skip
def test_the_future_has_the_kind_of_timestamps_of_the_history(tmp_path, past, later, kind):
    config = Config(data=DataConfig(known_covariates=["price"]))
    history = pd.DataFrame({"item_id": "x", "timestamp": past, "target": 1.5, "price": range(5)})
    future = pd.DataFrame({"item_id": "x", "price": [6, 7, 8]})
    store = open_source(history, tmp_path, known_covariates=["price"])
    with refused(kind, "history"):
        open_future(config, store, 3, future if later is None else future.assign(timestamp=later))


# Rows


@pytest.mark.parametrize("stamps, other, is_reported", [
    ([*DAYS, *(DAYS + pd.Timedelta("9D"))], True, True),
    ([*DAYS, *(DAYS + pd.Timedelta("9D"))], False, False),
    ([*DAYS, *(DAYS + pd.Timedelta("5D"))], True, False),
    (None, True, True),
])  # fmt: skip
def test_one_series_with_gaps_may_be_several(tmp_path, caplog, stamps, other, is_reported):
    frame = pd.DataFrame({"target": np.arange(10.0)})
    if stamps is not None:
        frame["timestamp"] = stamps
    if other:
        frame["shop"] = ["A"] * 5 + ["B"] * 5
    open_source(frame, tmp_path / "cache")
    assert ("data.id_column" in caplog.text) is ("shop" in caplog.text) is is_reported


def test_rows_without_a_value_are_dropped_with_a_warning(tmp_path, caplog):
    path = write_csv(
        tmp_path,
        "A,2024-01-01,1,x",
        ",,,",
        "A,2024-01-02,,",
        "A,2024-01-03,3,",
        ",,,note",
        header="item_id,timestamp,target,comment",
    )
    assert values(tmp_path, path) == {"A": [1, None, 3]}
    assert "2 empty rows" in caplog.text


def test_rows_with_a_value_and_no_key_are_refused(tmp_path):
    path = write_csv(tmp_path, "A,2024-01-01,1", ",,", ",,7", "A,2024-01-02,2", header="item_id,timestamp,target")
    with refused("row 3", "item_id"):
        values(tmp_path, path)


def test_a_row_without_a_value_is_a_missing_step_in_a_table_without_keys(tmp_path):
    path = write_csv(tmp_path, "1,4", ",", "3,6", header="target,price")
    assert values(tmp_path, path, past_covariates=["price"]) == {"0": [1, None, 3]}


# Files


def test_two_files_of_one_name_are_not_one_series(tmp_path):
    for suffix in ("csv", "tsv"):
        write_csv(tmp_path, "1", "2", header="target", name=f"a.{suffix}")
    with refused("a.csv", "a.tsv", "data.id_column"):
        open_source(tmp_path, tmp_path / "cache")


@pytest.mark.parametrize("name", ["Item_ID", "\ufeff\ufeffitem_id", "item id"])
def test_a_column_with_almost_the_name_of_the_item_id_is_named(tmp_path, name):
    path = write_csv(tmp_path, "A,2024-01-01,1", "B,2024-01-02,1", header=f"{name},timestamp,target")
    with refused("no column 'item_id'", "data.id_column"):
        open_source(path, tmp_path / "cache")


def test_a_partition_contradicted_by_a_column_is_refused(tmp_path):
    folder = tmp_path / "sales" / "store=A"
    folder.mkdir(parents=True)
    for value, is_alike in (("A", True), ("B", False)):
        FRAME.assign(store=value).to_parquet(folder / "x.parquet")
        if is_alike:
            assert values(tmp_path, tmp_path / "sales", id_column="store") == {"A": [0, 1, 2, 3, 4]}
        else:
            with refused("store=A"):
                open_source(tmp_path / "sales", tmp_path / "cache", id_column="store")


def test_a_workbook_whose_columns_have_no_names_is_refused(tmp_path):
    pd.DataFrame({"Unnamed: 0": [1, 2]}).to_excel(tmp_path / "s.xlsx", index=False)
    with refused("s.xlsx", "no column 'target'"):
        open_source(tmp_path / "s.xlsx", tmp_path / "cache")


def test_an_empty_store_in_a_folder_is_refused(tmp_path):
    write_store(
        tmp_path / "a.arrow", iter([Series("a", np.datetime64("2024-01-01", "s"), "D", np.ones(3, np.float32))])
    )
    with pa.ipc.open_stream(str(tmp_path / "a.arrow")) as reader:
        schema = reader.schema
    pa.ipc.new_stream(str(tmp_path / "a.arrow"), schema).close()
    with refused("a.arrow", "no series"):
        open_stores(Config(), str(tmp_path))
