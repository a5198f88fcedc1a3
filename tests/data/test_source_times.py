"""Timestamps of a source: dates, time zones, frequencies, and rows that do not fit into memory."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.source_files import csv_of

from pipeline.core.errors import UserError
from pipeline.data.columns import Columns
from pipeline.data.formats import named_tables
from pipeline.data.frequency import timestamps
from pipeline.data.rows import SourceLocation
from pipeline.data.source import open_source
from pipeline.data.tabular import series_of_tables

PLACE = SourceLocation("t")


def streamed(frame, rows_in_memory, rows_a_table=25):
    tables = (
        pa.Table.from_pandas(frame.iloc[start : start + rows_a_table], preserve_index=False)
        for start in range(0, len(frame), rows_a_table)
    )
    series = series_of_tables(named_tables(tables, Columns(), PLACE), PLACE, rows_in_memory=rows_in_memory)
    return {one.item_id: (one.start, one.freq, str(one.target)) for one in series}


def of_series(count, stamps):
    """Series k has the timestamps `stamps(k)`."""
    frames = [pd.DataFrame({"item_id": f"s{k}", "timestamp": stamps(k), "target": 1.0}) for k in range(count)]
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize("stamps", [
    lambda k: pd.date_range("2020-01-01", periods=30 if k == 50 else 2),
    lambda k: pd.date_range("2020-01-01", periods=20, freq="B" if k < 40 else "D"),
    lambda k: pd.date_range(f"2020-01-0{1 + k % 7}", periods=9, freq="7D"),
    lambda k: pd.date_range("2020-01-01", periods=9, freq=("QS-JAN", "QS-FEB", "QS-MAR")[k % 3]),
    lambda k: [f"{day}/1/2020" for day in range(10 if k % 2 else 1, 17 if k % 2 else 8)],
], ids=["short", "weekdays", "weeks", "quarters", "slashed"])  # fmt: skip
def test_dates_and_frequencies_are_told_from_all_series_however_many_fit_in_memory(stamps):
    frame = of_series(60, stamps)
    assert streamed(frame, 20) == streamed(frame, 10**6)


def test_offsets_that_differ_are_one_clock_however_many_rows_fit_in_memory():
    frame = of_series(2, lambda k: [f"2020-01-01 0{hour}:00+0{k}:00" for hour in range(5)])
    for rows_in_memory in (10**6, 3):
        starts = {name: str(one[0]) for name, one in streamed(frame, rows_in_memory).items()}
        assert starts == {"s0": "2020-01-01T00:00:00", "s1": "2019-12-31T23:00:00"}


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC"])
@pytest.mark.parametrize("freq", ["h", "D"])
def test_a_table_written_as_text_has_the_timestamps_of_the_table(tmp_path, zone, freq):
    stamps = pd.date_range("2021-10-30", periods=60, freq=freq, tz=zone)  # an hour comes twice in Berlin and New York
    frame = pd.DataFrame({"item_id": "A", "timestamp": stamps, "target": np.arange(60.0)})
    frame.to_csv(tmp_path / "s.csv", index=False)
    text, table = (open_source(one, tmp_path / "cache") for one in (str(tmp_path / "s.csv"), frame))
    assert (text.freq, text.starts[0], text.lengths[0]) == (table.freq, table.starts[0], table.lengths[0])
    np.testing.assert_array_equal(text.target(0), table.target(0))


def test_an_offset_of_hours_alone_is_one(tmp_path):
    rows = [f"A,2024-01-0{day} {hour}:00:00+05,1" for day in (1, 2) for hour in ("09", "21")]
    assert open_source(csv_of(tmp_path, *rows), tmp_path / "cache").starts[0] == np.datetime64("2024-01-01T04:00:00")
    rows = [f"A,2024-01-0{day} 00:00:00+05,1" for day in range(1, 5)]
    assert open_source(csv_of(tmp_path, *rows), tmp_path / "cache").starts[0] == np.datetime64("2024-01-01T00:00:00")


@pytest.mark.parametrize("freq", ["M", "ME", "Q", "Q-NOV", "A-DEC", "2M"])
def test_a_period_that_is_named_by_its_first_day_is_counted_from_there(tmp_path, freq):
    rows = [{"item_id": "A", "start": "2020-01-01", "target": [1.0, 2.0, 3.0]}]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store = open_source(str(tmp_path / "s.jsonl"), tmp_path / "cache", freq=freq)
    months = {"M": 1, "Q": 3, "A": 12, "2": 2}[freq[0]]
    expected = pd.date_range("2020-01-01", periods=5, freq=pd.DateOffset(months=months)).to_numpy().astype("M8[s]")
    np.testing.assert_array_equal(timestamps(store.starts, store.freq, np.arange(5)[None])[0], expected)
    assert expected[1] in pd.date_range("2020-01-01", periods=2, freq=store.freq)


@pytest.mark.parametrize("freq", ["BME", "B", "BQE"])
def test_a_start_between_two_steps_is_moved_to_the_next(tmp_path, freq):
    (tmp_path / "s.jsonl").write_text(json.dumps({"item_id": "A", "start": "2020-02-01", "target": [1.0, 2.0, 3.0]}))
    store = open_source(str(tmp_path / "s.jsonl"), tmp_path / "cache", freq=freq)
    expected = pd.date_range("2020-02-01", periods=4, freq=freq).to_numpy().astype("M8[s]")
    np.testing.assert_array_equal(timestamps(store.starts, store.freq, np.arange(4)[None])[0], expected)


def test_rows_keep_their_numbers_where_they_do_not_fit_in_memory():
    frame = of_series(30, lambda k: pd.date_range("2020-01-01", periods=10))
    frame.loc[233, "target"] = np.inf
    with pytest.raises(UserError, match="row 234 "):
        streamed(frame, 20)


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
def test_dates_are_read_where_they_mean_one_thing(tmp_path, days, iso):
    store = open_source(csv_of(tmp_path, *(f"A,{day},{k}" for k, day in enumerate(days))), tmp_path / "cache")
    assert store.starts[0] == np.datetime64(iso) and store.target(0).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "days, wrong", [(["30/1/2020", "31/1/2020", "32/1/2020"], 3), (["2020-01-01", "1/30/2020"], 2)]
)
def test_a_day_that_no_month_has_is_refused_by_its_row(tmp_path, days, wrong):
    with pytest.raises(UserError, match=f"row {wrong} .*{days[wrong - 1]}"):
        open_source(csv_of(tmp_path, *(f"A,{day},1" for day in days)), tmp_path / "cache")


def test_a_wrong_timestamp_is_named_by_its_first_row_where_series_share_theirs(tmp_path):
    rows = [f"{name},2020-01-0{day},1" for name in "AB" for day in range(1, 6)]
    with pytest.raises(UserError, match="row 11 .*: tomorrow"):
        open_source(csv_of(tmp_path, *rows, "B,tomorrow,1"), tmp_path / "cache")


def test_dates_that_can_mean_two_days_are_refused(tmp_path):
    with pytest.raises(UserError, match="two days"):
        open_source(csv_of(tmp_path, "A,1/2/2020,1", "A,2/2/2020,1", "A,3/2/2020,1"), tmp_path / "cache")


def test_time_zones_are_local_for_days_and_utc_for_hours(tmp_path):
    for freq, start in (("D", "2021-03-26"), ("h", "2021-03-27T23:00:00")):
        first = "2021-03-26" if freq == "D" else "2021-03-28 00:00"
        stamps = pd.date_range(first, periods=30, freq=freq, tz="Europe/Berlin")
        frame = pd.DataFrame({"item_id": "A", "timestamp": stamps, "target": np.arange(30.0)})
        frame.to_parquet(tmp_path / f"{freq}.parquet")
        store = open_source(str(tmp_path / f"{freq}.parquet"), tmp_path / "cache")
        assert (store.freq, store.starts[0]) == (freq, np.datetime64(start)) and store.lengths[0] == 30


def test_an_hour_that_comes_twice_in_autumn_is_two_hours(tmp_path):
    stamps = pd.date_range("2021-10-30 12:00", periods=40, freq="h", tz="Europe/Berlin")
    pd.DataFrame({"item_id": "A", "timestamp": stamps, "target": np.arange(40.0)}).to_parquet(tmp_path / "s.parquet")
    store = open_source(tmp_path / "s.parquet", tmp_path / "cache")
    assert store.starts[0] == np.datetime64("2021-10-30T10:00:00")
    np.testing.assert_array_equal(store.target(0), np.arange(40))


@pytest.mark.parametrize("freq", ["D", "W-MON", "MS"])
def test_local_midnights_across_a_change_of_the_clock_are_whole_steps(tmp_path, freq):
    stamps = pd.date_range("2021-03-01", periods=12, freq=freq, tz="Europe/Berlin")
    pd.DataFrame({"item_id": "A", "timestamp": stamps, "target": np.arange(12.0)}).to_parquet(tmp_path / "s.parquet")
    store = open_source(tmp_path / "s.parquet", tmp_path / "cache")
    assert (store.freq, store.starts[0]) == (freq, np.datetime64("2021-03-01")) and store.lengths.tolist() == [12]


def test_the_same_moments_in_another_time_zone_are_another_frame(tmp_path):
    naive = pd.DataFrame({"item_id": "A", "timestamp": pd.date_range("2020-01-01 23:00", periods=5), "target": 1.0})
    local = naive.assign(timestamp=naive["timestamp"].dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin"))
    starts = [open_source(frame, tmp_path).starts[0] for frame in (naive, local)]
    assert [str(start) for start in starts] == ["2020-01-01T23:00:00", "2020-01-02T00:00:00"]


def test_a_frequency_that_is_given_is_taken(tmp_path):
    path = csv_of(tmp_path, "A,2020-01-01,1", "A,2020-01-03,3", "A,2020-01-05,5")
    assert open_source(path, tmp_path / "cache").freq == "2D"
    store = open_source(path, tmp_path / "cache", freq="D")
    np.testing.assert_array_equal(store.target(0), [1, np.nan, 3, np.nan, 5])


def test_a_frequency_that_cannot_be_told_is_asked_for(tmp_path):
    with pytest.raises(UserError, match="data.freq"):
        open_source(csv_of(tmp_path, "A,2020-01-01,1", "B,2020-01-03,3"), tmp_path / "cache")


@pytest.mark.parametrize("text, freq", [
    ("{0.year}Q{0.quarter}", "QS"), ("{0.year}-q{0.quarter}", "QS"), ("{0.year} Q{0.quarter}", "QS"),
    ("{0.year}M{0.month:02}", "MS"), ("{0.year}-M{0.month}", "MS"),
])  # fmt: skip
def test_quarters_and_months_are_named_as_eurostat_does(tmp_path, text, freq):
    stamps = pd.date_range("1999-01-01", periods=9, freq=freq)
    rows = [f"A,{text.format(stamp)},1" for stamp in stamps]
    store = open_source(csv_of(tmp_path, *rows), tmp_path / "cache")
    found = timestamps(store.starts, store.freq, np.arange(9)[None])[0]
    assert found.astype("M8[D]").tolist() == stamps.to_numpy().astype("M8[D]").tolist()


@pytest.mark.parametrize("kind", ["frame", "index", "parquet"])
def test_periods_of_pandas_begin_on_their_first_day(tmp_path, kind):
    frame = pd.DataFrame({"item_id": "A", "timestamp": pd.period_range("2000Q2", periods=9, freq="Q"), "target": 1.0})
    source = frame.set_index(["item_id", "timestamp"]) if kind == "index" else frame
    if kind == "parquet":
        source = tmp_path / "s.parquet"
        frame.to_parquet(source)
    store = open_source(source, tmp_path / "cache")
    assert (store.starts[0], store.lengths[0]) == (np.datetime64("2000-04-01"), 9) and store.freq.startswith("QS")


def test_a_frequency_of_ends_for_dates_that_are_none_is_explained(tmp_path):
    rows = [f"A,{stamp.date()},1" for stamp in pd.date_range("2000-01-01", periods=5, freq="QS")]
    with pytest.raises(UserError, match="with data.freq .its steps are the last days of periods; MS, QS and YS"):
        open_source(csv_of(tmp_path, *rows), tmp_path / "cache", freq="QE")


def test_weeks_are_those_of_iso_8601(tmp_path):
    days = pd.date_range("2019-01-07", periods=110, freq="W-MON")  # 2020 has a fifty-third
    rows = [f"A,{day.strftime('%G-W%V')},1" for day in days]
    store = open_source(csv_of(tmp_path, *rows), tmp_path / "cache")
    assert (store.starts[0], store.freq, store.lengths[0]) == (np.datetime64("2019-01-07"), "W-MON", 110)
    with pytest.raises(UserError, match="row 2 has a timestamp that is no date.*2019-W53"):
        open_source(csv_of(tmp_path, "A,2019-W52,1", "A,2019-W53,1"), tmp_path / "cache")


@pytest.mark.parametrize("wrong, said", [
    ("1992-Q5", "row 10 has a timestamp that is no date.*1992-Q5"), ("1992M13", "row 10 has a timestamp that is no date"),
    ("0000Q1", "row 10 has a timestamp that is no date.*0000Q1"),
])  # fmt: skip
def test_the_wrong_one_among_quarters_is_named(tmp_path, wrong, said):
    rows = [f"A,{year}Q{quarter},1" for year in (1990, 1991, 1992) for quarter in (1, 2, 3, 4)]
    rows[9] = f"A,{wrong},1"
    with pytest.raises(UserError, match=said):
        open_source(csv_of(tmp_path, *rows), tmp_path / "cache")


def test_quarters_may_stand_across_the_header(tmp_path):
    (tmp_path / "s.csv").write_text("item_id,2000Q1,2000Q2,2000Q3\nA,1,2,3\n")
    store = open_source(tmp_path / "s.csv", tmp_path / "cache", Columns(wide=True))
    assert (store.starts[0], store.target(0).tolist()) == (np.datetime64("2000-01-01"), [1, 2, 3])


@pytest.mark.parametrize("written", ["%b %Y", "%B %Y", "%Y %b", "%b-%Y", "%b. %Y", "%Y%m", "%Y-%m"])
def test_months_are_read_as_statistics_name_them(tmp_path, written):
    months = pd.date_range("2018-11-01", periods=14, freq="MS")
    store = open_source(csv_of(tmp_path, *(f"A,{month.strftime(written)},1" for month in months)), tmp_path / "cache")
    assert (store.starts[0], store.freq, store.lengths[0]) == (np.datetime64("2018-11-01"), "MS", 14)


@pytest.mark.parametrize("written", ["%d %b %Y", "%b %d, %Y", "%a %B %d %Y", "%a, %d-%b-%Y", "%Y%m%d"])
@pytest.mark.parametrize("time", ["", " %H:%M"])
def test_days_are_read_with_the_names_of_their_months(tmp_path, written, time):
    days = pd.date_range("2023-12-28", periods=40, freq="h" if time else "D")
    time = time if written != "%Y%m%d" else time.replace(" ", "").replace(":", "")
    rows = [f'A,"{day.strftime(written + time)}",1' for day in days]
    store = open_source(csv_of(tmp_path, *rows), tmp_path / "cache")
    assert (store.starts[0], store.freq, store.lengths[0]) == (np.datetime64("2023-12-28"), "h" if time else "D", 40)


@pytest.mark.parametrize("written", ["%d %b %Y", "%b %d, %Y", "%a, %d-%b-%Y", "%d %b %Y %H:%M"])
def test_named_days_may_stand_across_the_header(tmp_path, written):
    days = [f'"{day.strftime(written)}"' for day in pd.date_range("2023-12-28", periods=12, freq="D")]
    numbers = list(range(12))
    (tmp_path / "s.csv").write_text(f"item_id,{','.join(days)},31 Dec 2023 sales\nA,{','.join(map(str, numbers))},9\n")
    store = open_source(tmp_path / "s.csv", tmp_path / "cache", Columns(wide=True))
    assert (store.starts[0], store.freq, store.target(0).tolist()) == (np.datetime64("2023-12-28"), "D", numbers)


@pytest.mark.parametrize("written", ["Q{0} {1}", "{1}-Q{0}", "q{0}-{1}"])
def test_quarters_are_read_with_their_year_before_and_behind(tmp_path, written):
    rows = [f"A,{written.format(quarter, year)},1" for year in (2019, 2020) for quarter in (1, 2, 3, 4)]
    store = open_source(csv_of(tmp_path, *rows), tmp_path / "cache")
    assert (store.starts[0], store.freq, store.lengths[0]) == (np.datetime64("2019-01-01"), "QS-JAN", 8)


@pytest.mark.parametrize("start, per_second", [("1990-01-01", 1), ("2001-09-08 20:00", 1), ("2001-09-10", 1000)])
@pytest.mark.parametrize("kind", ["csv", "parquet", "csv of floats"])
def test_seconds_since_1970_are_told_by_their_size(tmp_path, start, per_second, kind):
    hours = pd.date_range(start, periods=30, freq="h")
    frame = pd.DataFrame({"item_id": "A", "timestamp": hours.astype("int64") // 10**9 * per_second, "target": 1.0})
    source = tmp_path / f"s.{kind.split()[0]}"
    frame = frame.astype({"timestamp": float}) if "floats" in kind else frame
    frame.to_parquet(source) if kind == "parquet" else frame.to_csv(source, index=False)
    store = open_source(source, tmp_path / "cache")
    assert (store.starts[0], store.freq, store.lengths[0]) == (np.datetime64(start), "h", 30)


def test_hours_written_in_digits_are_no_seconds_since_1970(tmp_path):
    hours = pd.date_range("2015-01-01", periods=30, freq="h")
    for written in ("%Y%m%dT%H", "%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S"):
        store = open_source(csv_of(tmp_path, *(f"A,{hour.strftime(written)},1" for hour in hours)), tmp_path / "cache")
        assert (store.starts[0], store.freq) == (np.datetime64("2015-01-01"), "h")


@pytest.mark.parametrize("stamp", ["1", "32 Jan 2024", "Janu 2024", "170665920000000", "Jan-90"])
def test_what_is_no_date_stays_none(tmp_path, stamp):
    with pytest.raises(UserError, match=f"row 2 has a timestamp that is no date.*{stamp}"):
        open_source(csv_of(tmp_path, "A,2024-01-01,1", f"A,{stamp},1"), tmp_path / "cache")


def test_steps_that_are_only_counted_are_told_to_be_left_out(tmp_path):
    rows = [f"A,{step},{step}" for step in range(1, 30)]
    with pytest.raises(UserError, match="row 1 has a timestamp that is no date.*leave the column out.*: 1 "):
        open_source(csv_of(tmp_path, *rows), tmp_path / "cache")
    store = open_source(
        csv_of(tmp_path, *(f"A,{step}" for step in range(1, 30)), header="item_id,target"), tmp_path / "c"
    )
    assert store.target(0).tolist() == list(range(1, 30))
