"""Timestamps of a source: formats of dates, time zones, periods and Unix time."""

import re

import numpy as np
import pandas as pd
import pytest
from support.source_files import refused, write_csv, write_json

from pipeline.data.frequency import timestamps
from pipeline.data.source import open_source

# Time zones


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC"])
@pytest.mark.parametrize("freq", ["h", "D"])
def test_timestamps_as_text_are_those_of_the_frame(tmp_path, zone, freq):
    """In Berlin and New York, the hours contain a repeated one."""
    stamps = pd.date_range("2021-10-30", periods=60, freq=freq, tz=zone)
    frame = pd.DataFrame({"item_id": "A", "timestamp": stamps, "target": np.arange(60.0)})
    frame.to_csv(tmp_path / "s.csv", index=False)
    text, table = (open_source(source, tmp_path / "cache") for source in (tmp_path / "s.csv", frame))
    assert (text.freq, text.starts[0], text.lengths[0]) == (table.freq, table.starts[0], table.lengths[0])
    np.testing.assert_array_equal(text.target(0), table.target(0))


@pytest.mark.parametrize("times, start", [(["09", "21"], "2024-01-01T04:00:00"), (["00"], "2024-01-01T00:00:00")])
def test_an_offset_of_whole_hours_is_read(tmp_path, times, start):
    rows = [f"A,2024-01-0{day} {hour}:00:00+05,1" for day in range(1, 5) for hour in times]
    assert open_source(write_csv(tmp_path, *rows), tmp_path / "cache").starts[0] == np.datetime64(start)


@pytest.mark.parametrize("freq, first, start", [
    ("D", "2021-03-26", "2021-03-26"), ("h", "2021-03-28 00:00", "2021-03-27T23:00:00"),
])  # fmt: skip
def test_days_are_local_time_and_hours_are_utc(tmp_path, freq, first, start):
    """The clock changes on 28 March 2021."""
    stamps = pd.date_range(first, periods=30, freq=freq, tz="Europe/Berlin")
    store = open_source(pd.DataFrame({"timestamp": stamps, "target": np.arange(30.0)}), tmp_path)
    assert (store.freq, store.starts[0], store.lengths[0]) == (freq, np.datetime64(start), 30)


def test_a_repeated_hour_in_autumn_is_two_hours(tmp_path):
    stamps = pd.date_range("2021-10-30 12:00", periods=40, freq="h", tz="Europe/Berlin")
    store = open_source(pd.DataFrame({"timestamp": stamps, "target": np.arange(40.0)}), tmp_path)
    assert store.starts[0] == np.datetime64("2021-10-30T10:00:00")
    np.testing.assert_array_equal(store.target(0), np.arange(40))


@pytest.mark.parametrize("freq", ["D", "W-MON", "MS"])
def test_local_midnights_across_a_clock_change_are_whole_steps(tmp_path, freq):
    stamps = pd.date_range("2021-03-01", periods=12, freq=freq, tz="Europe/Berlin")
    pd.DataFrame({"item_id": "A", "timestamp": stamps, "target": np.arange(12.0)}).to_parquet(tmp_path / "s.parquet")
    store = open_source(tmp_path / "s.parquet", tmp_path / "cache")
    assert (store.freq, store.starts[0]) == (freq, np.datetime64("2021-03-01")) and store.lengths.tolist() == [12]


# Formats of dates


@pytest.mark.parametrize("days, iso", [
    (["1/30/2020", "1/31/2020", "2/1/2020"], "2020-01-30"),
    (["30/1/2020", "31/1/2020", "1/2/2020"], "2020-01-30"),
    (["1.10.2019", "01.11.2019", "1.12.2019"], "2019-10-01"),
    (["1.30.2020", "1.31.2020", "2.1.2020"], "2020-01-30"),
    (["1990", "1991", "1992"], "1990-01-01"),
    (["2020-01", "2020-02", "2020-03"], "2020-01-01"),
    (["2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z", "2020-01-03T00:00:00Z"], "2020-01-01"),
    (["2020-01-01 00:00+02:00", "2020-01-02 00:00+02:00", "2020-01-03 00:00+02:00"], "2020-01-01"),
])  # fmt: skip
def test_unambiguous_dates_are_read(tmp_path, days, iso):
    store = open_source(write_csv(tmp_path, *(f"A,{day},{k}" for k, day in enumerate(days))), tmp_path / "cache")
    assert store.starts[0] == np.datetime64(iso) and store.target(0).tolist() == [0, 1, 2]


def test_ambiguous_dates_are_refused(tmp_path):
    with refused("s.csv", "1/2/2020"):
        open_source(write_csv(tmp_path, "A,1/2/2020,1", "A,2/2/2020,1", "A,3/2/2020,1"), tmp_path / "cache")


@pytest.mark.parametrize("days, row", [
    (["30/1/2020", "31/1/2020", "32/1/2020"], 3),
    (["2020-01-01", "1/30/2020"], 2),
    (["01/10/2024", "01/11/2024", "01/13/2024", "02/30/2024"], 4),
    (["2024-01-01", "1"], 2),
    (["2024-01-01", "32 Jan 2024"], 2),
    (["2024-01-01", "Janu 2024"], 2),
    (["2024-01-01", "170665920000000"], 2),
    (["2024-01-01", "Jan-90"], 2),
    (["2024-Q4", "2024-Q5"], 2),
    (["2024M12", "2024M13"], 2),
    (["1990Q1", "0000Q1"], 2),
    (["2019-W52", "2019-W53"], 2),
])  # fmt: skip
def test_an_invalid_date_is_refused_with_its_row(tmp_path, days, row):
    with refused("s.csv", f"row {row} ", "timestamp", f": {days[row - 1]}"):
        open_source(write_csv(tmp_path, *(f"A,{day},1" for day in days)), tmp_path / "cache")


def test_an_invalid_date_is_refused_with_its_first_row_if_series_share_timestamps(tmp_path):
    rows = [f"{name},2020-01-0{day},1" for name in "AB" for day in range(1, 6)]
    with refused("row 11 ", "tomorrow"):
        open_source(write_csv(tmp_path, *rows, "B,tomorrow,1", "C,tomorrow,1"), tmp_path / "cache")


@pytest.mark.parametrize("form", ["%b %Y", "%B %Y", "%Y %b", "%b-%Y", "%b. %Y", "%Y%m", "%Y-%m"])
def test_months_with_names_or_digits_are_read(tmp_path, form):
    months = pd.date_range("2018-11-01", periods=14, freq="MS")
    store = open_source(write_csv(tmp_path, *(f"A,{month.strftime(form)},1" for month in months)), tmp_path / "cache")
    assert (store.starts[0], store.freq, store.lengths[0]) == (np.datetime64("2018-11-01"), "MS", 14)


@pytest.mark.parametrize("form", ["%d %b %Y", "%b %d, %Y", "%a %B %d %Y", "%a, %d-%b-%Y", "%Y%m%d"])
@pytest.mark.parametrize("time", ["", " %H:%M"])
def test_days_with_names_of_months_are_read(tmp_path, form, time):
    freq = "h" if time else "D"
    days = pd.date_range("2023-12-28", periods=40, freq=freq)
    time = time if form != "%Y%m%d" else re.sub("[ :]", "", time)
    rows = [f'A,"{day.strftime(form + time)}",1' for day in days]
    store = open_source(write_csv(tmp_path, *rows), tmp_path / "cache")
    assert (store.starts[0], store.freq, store.lengths[0]) == (np.datetime64("2023-12-28"), freq, 40)


# Periods


@pytest.mark.parametrize("form, freq", [
    ("{0.year}Q{0.quarter}", "QS"), ("{0.year}-q{0.quarter}", "QS"), ("{0.year} Q{0.quarter}", "QS"),
    ("Q{0.quarter} {0.year}", "QS"), ("q{0.quarter}-{0.year}", "QS"),
    ("{0.year}M{0.month:02}", "MS"), ("{0.year}-M{0.month}", "MS"),
])  # fmt: skip
def test_quarters_and_months_in_the_notation_of_eurostat_are_read(tmp_path, form, freq):
    expected = pd.date_range("1999-01-01", periods=9, freq=freq).to_numpy().astype("M8[s]")
    rows = [f"A,{form.format(pd.Timestamp(stamp))},1" for stamp in expected]
    store = open_source(write_csv(tmp_path, *rows), tmp_path / "cache")
    np.testing.assert_array_equal(timestamps(store.starts, store.freq, np.arange(9)[None])[0], expected)


def test_weeks_are_those_of_iso_8601(tmp_path):
    days = pd.date_range("2019-01-07", periods=110, freq="W-MON")  # 2020 has a week 53
    rows = [f"A,{day.strftime('%G-W%V')},1" for day in days]
    store = open_source(write_csv(tmp_path, *rows), tmp_path / "cache")
    assert (store.starts[0], store.freq, store.lengths[0]) == (np.datetime64("2019-01-07"), "W-MON", 110)


@pytest.mark.parametrize("kind", ["frame", "index", "parquet"])
def test_periods_of_pandas_start_on_their_first_day(tmp_path, kind):
    frame = pd.DataFrame({"item_id": "A", "timestamp": pd.period_range("2000Q2", periods=9, freq="Q"), "target": 1.0})
    source = frame.set_index(["item_id", "timestamp"]) if kind == "index" else frame
    if kind == "parquet":
        source = tmp_path / "s.parquet"
        frame.to_parquet(source)
    store = open_source(source, tmp_path / "cache")
    assert (store.starts[0], store.lengths[0]) == (np.datetime64("2000-04-01"), 9) and store.freq.startswith("QS")


@pytest.mark.parametrize("freq", ["M", "ME", "Q", "Q-NOV", "A-DEC", "2M"])
def test_periods_given_by_their_first_day_are_counted_from_that_day(tmp_path, freq):
    path = write_json(tmp_path, [{"item_id": "A", "start": "2020-01-01", "target": [1.0, 2.0, 3.0]}])
    store = open_source(path, tmp_path / "cache", freq=freq)
    months = {"M": 1, "Q": 3, "A": 12, "2": 2}[freq[0]]
    expected = pd.date_range("2020-01-01", periods=5, freq=pd.DateOffset(months=months)).to_numpy().astype("M8[s]")
    np.testing.assert_array_equal(timestamps(store.starts, store.freq, np.arange(5)[None])[0], expected)
    assert expected[1] in pd.date_range("2020-01-01", periods=2, freq=store.freq)


@pytest.mark.parametrize("freq", ["BME", "B", "BQE"])
def test_a_start_between_two_steps_moves_to_the_next_step(tmp_path, freq):
    path = write_json(tmp_path, [{"item_id": "A", "start": "2020-02-01", "target": [1.0, 2.0, 3.0]}])
    store = open_source(path, tmp_path / "cache", freq=freq)
    expected = pd.date_range("2020-02-01", periods=4, freq=freq).to_numpy().astype("M8[s]")
    np.testing.assert_array_equal(timestamps(store.starts, store.freq, np.arange(4)[None])[0], expected)


# Digits


@pytest.mark.parametrize("start, per_second", [("1990-01-01", 1), ("2001-09-08 20:00", 1), ("2001-09-10", 1000)])
@pytest.mark.parametrize("kind", ["csv", "parquet", "csv of floats"])
def test_unix_time_in_seconds_or_milliseconds_is_read(tmp_path, start, per_second, kind):
    hours = pd.date_range(start, periods=30, freq="h")
    frame = pd.DataFrame({"item_id": "A", "timestamp": hours.astype("int64") // 10**9 * per_second, "target": 1.0})
    source = tmp_path / f"s.{kind.split()[0]}"
    frame = frame.astype({"timestamp": float}) if "floats" in kind else frame
    frame.to_parquet(source) if kind == "parquet" else frame.to_csv(source, index=False)
    store = open_source(source, tmp_path / "cache")
    assert (store.starts[0], store.freq, store.lengths[0]) == (np.datetime64(start), "h", 30)


@pytest.mark.parametrize("form", ["%Y%m%dT%H", "%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S"])
def test_hours_in_digits_are_not_unix_time(tmp_path, form):
    hours = pd.date_range("2015-01-01", periods=30, freq="h")
    store = open_source(write_csv(tmp_path, *(f"A,{hour.strftime(form)},1" for hour in hours)), tmp_path / "cache")
    assert (store.starts[0], store.freq) == (np.datetime64("2015-01-01"), "h")


def test_counted_steps_are_refused_as_timestamps_and_read_without_the_column(tmp_path):
    rows = [f"A,{step},{step}" for step in range(1, 30)]
    with refused("row 1 ", "timestamp", ": 1 ", "column"):
        open_source(write_csv(tmp_path, *rows), tmp_path / "cache")
    path = write_csv(tmp_path, *(f"A,{step}" for step in range(1, 30)), header="item_id,target")
    assert open_source(path, tmp_path / "c").target(0).tolist() == list(range(1, 30))
