"""Input that was once read as something else without a word: it is read as it is meant, or refused."""

import datetime as dt
import json

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import parse_command_line
from pipeline.config import Config, DataConfig, PathsConfig
from pipeline.core.errors import UserError
from pipeline.data.future import open_future
from pipeline.data.source import open_configured, open_source

DAYS = pd.date_range("2024-01-01", periods=6)


def write_csv(tmp_path, stamps):
    path = tmp_path / "series.csv"
    path.write_text("\n".join(["timestamp,target", *(f"{stamp},{value}" for value, stamp in enumerate(stamps))]))
    return path


def write_sheet(path, rows):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


@pytest.mark.parametrize("day, minutes", [("2024-03-04", 60), ("04.03.2024", 15), ("2024-03-04", 30)])
def test_a_period_of_the_day_is_no_time_zone(tmp_path, day, minutes):
    begins = [dt.datetime(2024, 3, 4, 6) + k * dt.timedelta(minutes=minutes) for k in range(6)]
    ends = [begin + dt.timedelta(minutes=minutes) for begin in begins]
    stamps = [f"{day} {begin:%H:%M}-{end:%H:%M}" for begin, end in zip(begins, ends)]
    with pytest.raises(UserError, match="06:.*first time"):
        open_source(write_csv(tmp_path, stamps), tmp_path / "cache")


@pytest.mark.parametrize("zones", [["-05:00"] * 6, ["-05:00", "-05:00", "-04:00", "-04:00", "-04:00", "-04:00"]])
def test_a_time_zone_is_still_one(tmp_path, zones):
    utc = pd.date_range("2024-03-10 05:00", periods=6, freq="h")
    stamps = [f"{time + pd.Timedelta(zone + ':00'):%Y-%m-%d %H:%M}{zone}" for time, zone in zip(utc, zones)]
    store = open_source(write_csv(tmp_path, stamps), tmp_path / "cache")
    assert store.starts[0] == np.datetime64("2024-03-10T05:00") and store.freq == "h"


@pytest.mark.parametrize("value", ["[-999]", "[-999,]", "[-999,?]", "-999,?", "['-999', '?']"])
def test_numbers_in_a_list_of_missing_values_are_texts(value):
    missing = parse_command_line(["x.csv", "--data.missing_values", value], "train")[0].data.missing_values
    assert missing == (["-999", "?"] if "?" in value else ["-999"])


def test_the_named_column_has_the_starts_of_nested_series():
    table = pa.table({"item_id": ["a"], "start": ["2020-01-01"], "begin": ["2024-05-01"], "target": [[1.0, 2, 3]]})
    assert open_source(table, timestamp_column="begin", freq="D").starts[0] == np.datetime64("2024-05-01")
    assert open_source(table, freq="D").starts[0] == np.datetime64("2020-01-01")


def test_several_columns_of_timestamps_of_nested_series_are_refused(tmp_path):
    content = {"Date": ["2024-01-01"] * 3, "Time": ["13:00", "14:00", "15:00"], "target": [1, 2, 3]}
    (tmp_path / "s.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="Date and Time"):
        open_source(tmp_path / "s.json", tmp_path / "cache", timestamp_column=["Date", "Time"])


@pytest.mark.parametrize("numbers, names", [
    ([4006381333931.0, 1e10], ["4006381333931", "10000000000"]),
    ([1.125, 2.0], ["1.125", "2"]),
    ([0.0, -3.0], ["0", "-3"]),
])  # fmt: skip
def test_an_item_id_of_a_float_column_is_the_number_as_people_write_it(numbers, names):
    frame = pd.DataFrame({"item_id": np.repeat(numbers, 3), "timestamp": [*DAYS[:3], *DAYS[:3]], "target": range(6)})
    assert list(open_source(frame).item_ids) == names
    both = open_source(frame.assign(shop="x"), id_column=["item_id", "shop"])
    assert list(both.item_ids) == [f"{name}/x" for name in names]


def test_numbers_beside_texts_keep_their_digits_in_item_ids_and_categories(tmp_path):
    rows: list[tuple] = [(1.125, day, value, size) for day, (value, size) in zip(DAYS, enumerate([1.125, "S"] * 3))]
    rows += [("A", day, 1, "S") for day in DAYS]
    path = write_sheet(tmp_path / "s.xlsx", [("item_id", "timestamp", "target", "size"), *rows])
    store = open_source(path, tmp_path / "cache", known_covariates="size")
    assert list(store.item_ids) == ["1.125", "A"] and store.variates.categories == {"size": ("1.125", "S")}
    with open(tmp_path / "s.jsonl", "w") as file:
        for number in range(5_000):
            item_id = "A" if 4_500 <= number < 4_510 else 1.125
            file.write(json.dumps({"item_id": item_id, "timestamp": number, "target": 1}) + "\n")
    store = open_source(tmp_path / "s.jsonl", tmp_path / "cache", timestamp_format="steps", fill_missing=0)
    assert sorted(store.item_ids) == ["1.125", "A"]


def test_a_number_of_a_covariate_does_not_prove_the_separator_of_a_text(tmp_path):
    prices = [2.5, "1,234", 2.5, 3.5, 2.5, 2.5]
    rows = [(day, value, price) for value, (day, price) in enumerate(zip(DAYS, prices))]
    path = write_sheet(tmp_path / "s.xlsx", [("timestamp", "target", "price"), *rows])
    with pytest.raises(UserError, match="1,234.*decimal"):
        open_source(path, tmp_path / "cache", known_covariates="price")
    store = open_source(path, tmp_path / "cache", known_covariates="price", decimal=",")
    np.testing.assert_allclose(store.rows(0)[1], [2.5, 1.234, 2.5, 3.5, 2.5, 2.5])


@pytest.mark.parametrize("name", ["__index_level_0__", "store"])
def test_only_series_are_series_of_a_wide_table(tmp_path, name):
    table = pa.table({name: [7, 7, 7], "timestamp": DAYS[:3], "sales": [1, 2, 3], "returns": [0, 1, 0]})
    with pytest.raises(UserError, match=name):
        open_source(table, wide=True, id_column="store")
    store = open_source(table.drop_columns(name), wide=True, id_column="store")
    assert list(store.item_ids) == ["sales", "returns"]


@pytest.mark.parametrize("late_first", [False, True])
def test_the_order_of_nested_rows_does_not_decide_between_local_time_and_utc(tmp_path, late_first):
    hours = np.repeat([13, 0] if late_first else [0, 13], [1_100, 400])
    starts = pd.to_datetime("2024-01-01") + pd.to_timedelta(hours, unit="h")
    starts = starts.tz_localize("Europe/Berlin")
    names = [str(number) for number in range(len(starts))]
    table = pa.table({"item_id": names, "start": starts, "target": [[1.0, 2, 3]] * len(starts)})
    pq.write_table(table, tmp_path / "s.parquet")
    store = open_source(tmp_path / "s.parquet", tmp_path / "cache", freq="h")
    np.testing.assert_array_equal(store.starts, starts.tz_convert("UTC").tz_localize(None).to_numpy().astype("M8[s]"))


@pytest.mark.parametrize("item_ids", [["", "", "A"], ["A", "A", "  "], [["x", ""], ["y", ""], ["", " "]]])
def test_a_blank_item_id_is_none(item_ids):
    frame = pd.DataFrame({"timestamp": DAYS[:3], "target": [1.0, 2, 3]})
    columns = ["shop", "product"] if isinstance(item_ids[0], list) else ["shop"]
    frame[columns] = pd.DataFrame(item_ids, columns=columns)
    with pytest.raises(UserError, match="row [123].* no item_id"):
        open_source(frame, id_column=columns)


def test_rows_with_an_item_id_after_many_without_one_are_refused(tmp_path):
    with open(tmp_path / "s.jsonl", "w") as file:
        for number in range(4_200):
            row = {"timestamp": number, "target": 1} | ({"item_id": "A"} if number >= 4_096 else {})
            file.write(json.dumps(row) + "\n")
    with pytest.raises(UserError, match="item_id.*row 4097"):
        open_source(tmp_path / "s.jsonl", tmp_path / "cache", timestamp_format="steps")


@pytest.mark.parametrize("text, advised", [
    ("01-02-2024", ["%d-%m-%Y", "%m-%d-%Y"]),
    ("01-02-24", ["%d-%m-%y", "%m-%d-%y", "%y-%m-%d"]),
    ("01/02/24", ["%d/%m/%y", "%m/%d/%y"]),
    ("01/20", ["%m/%y"]),
])  # fmt: skip
def test_the_advised_format_reads_the_date(tmp_path, text, advised):
    path = write_csv(tmp_path, [text])
    with pytest.raises(UserError) as error:
        open_source(path, tmp_path / "cache")
    assert [f"'{form}'" in str(error.value) for form in advised] == [True] * len(advised), error.value
    for form in advised:
        start = dt.datetime.strptime(text, form)
        store = open_source(path, tmp_path / "cache", timestamp_format=form, freq="D")
        assert store.starts[0] == np.datetime64(start)


@pytest.mark.parametrize("form, text", [
    ("%Y-%m-%d %H:%M %Z", "2024-01-01 00:00 UTC"),
    ("%a %b %d %H:%M:%S %z %Y", "Mon Jan 01 00:00:00 +0100 2024"),
    ("%m/%d/%Y %H:%M %p", "01/01/2024 05:00 PM"),
])  # fmt: skip
def test_a_format_that_pandas_reads_otherwise_is_refused(tmp_path, form, text):
    with pytest.raises(UserError, match="timestamp_format .*%[zI]"):
        open_source(write_csv(tmp_path, [text]), tmp_path / "cache", timestamp_format=form)


@pytest.mark.parametrize("option", [
    {"missing_values": [-999]},
    {"missing_values": -999},
    {"target": 0},
    {"known_covariates": None},
    {"skip_rows": "one"},
    {"timestamp_format": 5},
    {"freq": pd.offsets.Day()},
    {"wide": "sometimes"},
])  # fmt: skip
def test_an_option_of_a_wrong_type_is_refused_by_its_name(option):
    frame = pd.DataFrame({"timestamp": DAYS, "target": range(6)})
    with pytest.raises(UserError, match=next(iter(option))):
        open_source(frame, **option)


def test_an_option_given_as_text_has_its_type():
    frame = pd.DataFrame({"timestamp": DAYS, "target": [1.0, None, 3, 4, 5, 6]})
    np.testing.assert_array_equal(open_source(frame, fill_missing="0", wide="no").target(0), [1, 0, 3, 4, 5, 6])


def test_a_repeated_step_is_named_as_a_step(tmp_path):
    with pytest.raises(UserError, match="step 2 twice"):
        open_source(write_csv(tmp_path, [1, 2, 2, 3]), tmp_path / "cache")


def test_categories_that_are_all_missing_in_the_future_are_missing(tmp_path):
    past = pd.DataFrame({"timestamp": DAYS, "target": range(6), "size": ["S", "L"] * 3})
    config = Config(data=DataConfig(known_covariates="size"), paths=PathsConfig(data_dir=str(tmp_path)))
    store = open_configured(config, past)
    future = pd.DataFrame({"timestamp": DAYS[-2:] + pd.Timedelta("2D"), "size": [None, None]}).astype({"size": float})
    with pytest.raises(UserError, match="no size at 2024-01-07"):
        open_future(config, store, 2, future)


@pytest.mark.parametrize("index", [["Oslo", "Oslo", "Bergen"], [dt.date(2024, 1, day) for day in (1, 2, 3)]])
def test_an_index_of_texts_without_a_name_is_refused(index):
    frame = pd.DataFrame({"timestamp": DAYS[:3], "target": [1.0, 2, 3]}, index=index)
    with pytest.raises(UserError, match="index.*no name"):
        open_source(frame)
    assert len(open_source(frame.reset_index(drop=True))) == 1
    assert len(open_source(frame.set_index(pd.Index([3.5, 1, 2])))) == 1
