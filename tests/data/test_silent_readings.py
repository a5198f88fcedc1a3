"""Input that was once read as something else without a word: it is read as it is meant, or refused."""

import datetime as dt
import decimal
import json
import subprocess
import sys

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


def test_periods_in_a_file_are_dates_before_pandas_has_registered_their_type(tmp_path):
    frame = pd.DataFrame({"item_id": "a", "timestamp": pd.period_range("2024-01", periods=6, freq="M"), "target": 1.0})
    frame.to_parquet(tmp_path / "series.parquet")
    code = (
        "import sys; from pipeline.data.source import open_source; "
        "store = open_source(sys.argv[1], sys.argv[2]); print(store.freq, store.starts[0])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "series.parquet"), str(tmp_path / "cache")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("MS 2024-01-01")


def test_a_period_is_the_start_of_a_nested_series(tmp_path):
    starts = pa.array(pd.period_range("2024-05", periods=2, freq="M"))
    table = pa.table({"item_id": ["a", "b"], "start": starts, "freq": ["M", "M"], "target": [[1.0, 2, 3]] * 2})
    store = open_source(table, tmp_path / "cache")
    assert store.starts.tolist() == [dt.datetime(2024, 5, 1), dt.datetime(2024, 6, 1)] and store.freq == "MS"


def test_step_numbers_are_no_starts_at_a_frequency():
    table = pa.table({"item_id": ["a", "b"], "start": [0, 24], "freq": ["h", "h"], "target": [[1.0, 2, 3]] * 2})
    with pytest.raises(UserError, match="start.*step numbers.*'h'"):
        open_source(table)


def test_series_of_a_wide_table_are_numbers_of_any_type():
    integers = [2**53 + 2, 2**53 + 4, 3, 4]
    frame = pd.DataFrame(
        {
            "timestamp": DAYS[:4],
            "text": ["1234,5", "2345,5", "3", "4"],
            "category": pd.Categorical([1.234, 2.345, 3.456, 4.567]),
            "large": integers,
            "flag": [True, False, True, True],
        }
    )
    expected: list[list] = [[1234.5, 2345.5, 3, 4], [1.234, 2.345, 3.456, 4.567], integers, [1, 0, 1, 1]]
    stores = [open_source(frame, wide=True), open_source(frame.drop(columns="text"), wide=True)]
    for store, values in zip(stores, [expected, expected[1:]]):
        np.testing.assert_array_equal(
            [store.target(index) for index in range(len(store))], np.array(values, np.float32)
        )


def test_durations_are_no_series_of_a_wide_table():
    frame = pd.DataFrame({"timestamp": DAYS[:4], "a": pd.to_timedelta([1, 2, 3, 4], unit="h")})
    with pytest.raises(UserError, match="column a.*duration"):
        open_source(frame, wide=True)


@pytest.mark.parametrize("column", ["item_id", "region"])
def test_nan_is_no_item_id_and_no_group(tmp_path, column):
    rows = [{"item_id": "a", "region": "n", "timestamp": str(day.date()), "target": 1} for day in DAYS]
    rows[3][column] = float("nan")
    (tmp_path / "series.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=f"row 4 has no {column}"):
        open_source(tmp_path / "series.jsonl", tmp_path / "cache", group_column="region")


@pytest.mark.parametrize(
    "ids, names",
    [
        (pa.array([decimal.Decimal("7.00"), decimal.Decimal("7.25"), decimal.Decimal("70.50")]), ["7", "7.25", "70.5"]),
        (pa.array([dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, 6)], pa.timestamp("us")), ["2020-01-01"]),
        (pa.array([dt.date(2020, 1, 1)]), ["2020-01-01"]),
    ],
)
def test_an_item_id_has_one_text_whatever_its_type(ids, names):
    table = pa.table({"item_id": ids, "target": pa.array(range(len(ids)))})
    assert open_source(table).item_ids[: len(names)] == names


def test_item_ids_that_are_one_number_in_two_forms_are_reported(tmp_path, caplog):
    (tmp_path / "series.csv").write_text("item_id,target\n7,1\n7.0,2\n007,3\n8,4\n1e3,5\n")
    assert [*open_source(tmp_path / "series.csv", tmp_path / "cache").item_ids] == ["7", "7.0", "007", "8", "1e3"]
    assert any("zeros" in message and ": 7;" in message for message in caplog.messages)


def test_series_with_empty_lists_of_timestamps_are_reported_and_their_frequency_is_kept(caplog):
    stamps = [[dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 2)], []]
    table = pa.table({"item_id": ["a", "b"], "timestamp": stamps, "freq": ["D", "D"], "target": [[1.0, 2], []]})
    store = open_source(table)
    assert store.item_ids == ["a"] and store.freq == "D"
    assert any("left out: b" in message for message in caplog.messages)
    hourly = table.set_column(2, "freq", pa.array(["h", "D"]))
    with pytest.raises(UserError, match="row 2 has a freq other than h"):
        open_source(hourly)


def test_files_of_a_folder_that_are_not_read_are_reported(tmp_path, caplog):
    folder = tmp_path / "in"
    (folder / "2025").mkdir(parents=True)
    for name in ("a.csv", "_b.csv", "c.csv.xz", "d.dat", "2025/e.csv", "_SUCCESS", ".hidden.csv"):
        (folder / name).write_text("item_id,target\n" + "x,1\n" * 3)
    assert open_source(folder, tmp_path / "cache").lengths.tolist() == [3]
    (message,) = [message for message in caplog.messages if "not read (" in message]
    assert "2025/, _b.csv, c.csv.xz, d.dat;" in message


@pytest.mark.parametrize("named, unnamed", [("a.csv", "b.csv"), ("b.csv", "a.csv")])
def test_files_with_and_without_item_ids_are_not_read_together(tmp_path, named, unnamed):
    folder = tmp_path / "in"
    folder.mkdir()
    rows = [f"{day.date()},1" for day in DAYS]
    (folder / named).write_text("item_id,timestamp,target\n" + "".join(f"{unnamed[0]},{row}\n" for row in rows))
    (folder / unnamed).write_text("timestamp,target\n" + "".join(f"{row}\n" for row in rows))
    with pytest.raises(UserError, match=f"{named} has item IDs.* {unnamed} has none"):
        open_source(folder, tmp_path / "cache")


def test_a_series_without_timestamps_is_in_one_file(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in (1, 2, 10):
        (folder / f"part-{number}.csv").write_text("item_id,target\n" + f"x,{number}\n" * 4)
    with pytest.raises(UserError, match="series x has row 1 of part-1.csv and row 4 of part-2.csv"):
        open_source(folder, tmp_path / "cache")


MONASH = "{attributes}\n@FREQUENCY Half Hourly\n@data\nAA:2000-01-01 00-00-00:2000-01-03 00-00-00:1,2,3\n"
DATES = "@ATTRIBUTE state String\n@attribute begin date\n@attribute end date"


def test_a_monash_file_has_one_start_and_keywords_in_any_case(tmp_path):
    path = tmp_path / "series.tsf"
    path.write_text(MONASH.format(attributes=DATES))
    with pytest.raises(UserError, match="begin, end.*timestamp_column"):
        open_source(path, tmp_path / "cache")
    store = open_source(path, tmp_path / "cache", timestamp_column="begin")
    assert ([*store.item_ids], store.freq, store.starts[0]) == (["T1"], "30min", np.datetime64("2000-01-01"))
    with pytest.raises(UserError, match="'shop'"):
        open_source(path, tmp_path / "cache", timestamp_column="begin", id_column="shop")


@pytest.mark.parametrize(
    "stamps, form",
    [
        ([f"Jan-{year}" for year in range(49, 60)], "%b-%y"),
        ([f"01/02/{year}" for year in range(65, 73)], "%d/%m/%y"),
    ],
)
def test_years_of_two_digits_that_may_be_of_either_century_are_refused(tmp_path, stamps, form):
    with pytest.raises(UserError, match=f"row 1 .*{stamps[0]}.*%Y"):
        open_source(write_csv(tmp_path, stamps), tmp_path / "cache", timestamp_format=form)


@pytest.mark.parametrize("years", [range(70, 100), range(40)])
def test_other_years_of_two_digits_are_read(tmp_path, years):
    store = open_source(
        write_csv(tmp_path, [f"Jan-{year:02d}" for year in years]), tmp_path / "cache", timestamp_format="%b-%y"
    )
    assert str(store.starts[0])[:4] == ("1970" if years[0] else "2000") and store.lengths[0] == len(years)


def test_times_that_formulas_of_a_workbook_have_rounded_are_whole_seconds(tmp_path):
    begin = dt.datetime(2024, 1, 1)
    stamps = [begin + k * dt.timedelta(hours=1, milliseconds=-1) for k in range(4)]
    path = write_sheet(tmp_path / "series.xlsx", [["timestamp", "target"], *([stamp, 1] for stamp in stamps)])
    store = open_source(path, tmp_path / "cache")
    assert (store.freq, store.lengths[0], str(store.starts[0])) == ("h", 4, "2024-01-01T00:00:00")
    stamps[2] += dt.timedelta(milliseconds=500)
    path = write_sheet(tmp_path / "other.xlsx", [["timestamp", "target"], *([stamp, 1] for stamp in stamps)])
    with pytest.raises(UserError, match="finer than a second"):
        open_source(path, tmp_path / "cache")


@pytest.mark.parametrize("values", [["true", "false", "true"], ["TRUE", "0", "1"]])
def test_texts_of_booleans_are_numbers(tmp_path, values):
    (tmp_path / "series.csv").write_text("target\n" + "\n".join(values))
    expected = [float(value.lower() in ("true", "1")) for value in values]
    assert open_source(tmp_path / "series.csv", tmp_path / "cache").target(0).tolist() == expected


def test_a_time_zone_is_named_if_it_takes_days_off_their_grid():
    stamps = pd.date_range("2024-03-28 06:00", periods=6, tz="Europe/Berlin")
    frame = pd.DataFrame({"timestamp": stamps, "target": range(6)})
    with pytest.raises(UserError, match="remove the time zone"):
        open_source(frame)
    assert open_source(frame.assign(timestamp=stamps.tz_localize(None))).freq == "D"


def test_years_of_the_eighteenth_century_are_years(tmp_path):
    store = open_source(write_csv(tmp_path, range(1700, 1720)), tmp_path / "cache")
    assert (store.freq, str(store.starts[0])[:10]) == ("YS-JAN", "1700-01-01")


@pytest.mark.parametrize("column", ["item_id", "region"])
@pytest.mark.parametrize("other, difference", [("a ", "spaces"), ("\ufeffa", "invisible"), ("a\u200b", "invisible")])
def test_names_that_look_alike_are_reported(tmp_path, caplog, column, other, difference):
    names = [{"item_id": str(number), "region": "n", column: name} for number, name in enumerate(("a", other))]
    rows = [{**row, "timestamp": day, "target": 1} for row in names for day in DAYS]
    pd.DataFrame(rows).to_csv(tmp_path / "series.csv", index=False)
    assert len(open_source(tmp_path / "series.csv", tmp_path / "cache", group_column="region")) == 2
    assert any(difference in message and message.count(": a;") for message in caplog.messages)


def test_codes_with_an_exponent_are_categories_of_their_own(tmp_path):
    codes = ["1e2", "100", "A1", "1e02", "12e1", "120"]
    rows = "".join(f"{day.date()},1,{code}\n" for day, code in zip(DAYS, codes))
    (tmp_path / "series.csv").write_text("timestamp,target,code\n" + rows)
    store = open_source(tmp_path / "series.csv", tmp_path / "cache", known_covariates="code")
    assert sorted(store.variates.categories["code"]) == sorted(codes)


def test_a_covariate_that_float32_rounds_is_reported(caplog):
    frame = pd.DataFrame({"timestamp": DAYS, "target": range(6), "code": range(20240001, 20240007)})
    open_source(frame, known_covariates="code")
    assert any("float32 rounds" in message and ", code" in message for message in caplog.messages)


def test_business_days_stay_so_beside_series_of_less_than_a_week(tmp_path):
    def frame(name, n):
        return pd.DataFrame({"item_id": name, "timestamp": pd.bdate_range("2024-01-01", periods=n), "target": 1.0})

    short = [frame(f"new{number}", 4) for number in range(4)]
    long = [frame(f"old{number}", 60 + number) for number in range(3)]
    assert open_source(pd.concat([*short, *long])).freq == "B"
    daily = pd.DataFrame({"item_id": "d", "timestamp": pd.date_range("2024-01-01", periods=60), "target": 1.0})
    assert open_source(pd.concat([*short, *long, daily])).freq == "D"


@pytest.mark.parametrize(
    "freq, advice", [("15m", "15min"), ("RE-N-DEC-MON", "52 or 53"), ("REQ-N-JAN-SAT-4", "52 or 53")]
)
def test_frequencies_that_are_not_what_they_seem_are_refused(freq, advice):
    frame = pd.DataFrame({"timestamp": DAYS, "target": range(6)})
    with pytest.raises(UserError, match=advice):
        open_source(frame, freq=freq)
