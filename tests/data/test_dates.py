"""Timestamps of a source: ambiguous dates, remembered formats, invalid rows and time zones."""

import random
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.source_files import refused, write_json
from support.times import assert_style, read_times

from pipeline.core.errors import UserError
from pipeline.data.dates import TimeFormat, parse_times
from pipeline.data.frequency import timestamps
from pipeline.data.rows import SourceLocation
from pipeline.data.source import open_source

# Ambiguous dates


@pytest.mark.parametrize("values, readings, keys", [
    (["1/2/2020", "2/2/2020"], ["2020-02-01", "2020-01-02"], ["%d/%m/%Y", "%m/%d/%Y"]),
    (["1/2/2020 9:30 PM"], ["2020-02-01T21:30", "2020-01-02T21:30"], ["%d/%m/%Y %I:%M %p", "%m/%d/%Y %I:%M %p"]),
    (["1703010000", "1703010030"], ["2017-03-01T00:00", "2023-12-19T18:20"], ["%y%m%d%H%M", "unix_s"]),
    (["200101", "200112"], ["2020-01-01", "2001-01-01"], ["%y%m%d", "%Y%m"]),
    (["2010010100", "2010010101"], ["2010-01-01", "2020-10-01T01:00"], ["%Y%m%d%H", "%y%m%d%H%M"]),
    (["240130", "240131"], ["2024-01-30", "step 240130"], ["%y%m%d", "steps"]),
    (["2401", "2402"], ["2024-01-01", "step 2401"], ["%y%m", "steps"]),
    (["2024031", "2024032"], ["2024-01-31", "step 2024031"], ["%Y%j", "steps"]),
    (["45292", "45293"], ["2024-01-01", "step 45292"], ["excel", "steps"]),
    (["240131130000"], ["2024-01-31T13:00:00"], ["%y%m%d%H%M%S"]),
    (["201503", "201504", "5"], ["2015-03-01", "step 201503"], ["%Y%m", "steps"]),
    (["2001", "2002", "20003"], ["2001-01-01", "step 2001"], ["year", "steps"]),
])  # fmt: skip
def test_ambiguous_timestamps_are_refused_with_the_readings_and_keys(values, readings, keys):
    for cuts in ([], [1]):
        with pytest.raises(UserError) as error:
            read_times(values, cuts=cuts)
        message = str(error.value)
        assert message.startswith(f"s.csv: timestamps such as {values[0]} may mean ") and "timestamp_format" in message
        assert all(fact in message for fact in [*readings, *keys])
    for reading, key in zip(readings, keys):
        if not reading.startswith("step"):
            assert read_times(values[:2], key)[1][0] == np.datetime64(reading)


def test_dots_mean_day_first_and_orders_are_not_mixed_with_separators():
    assert_style(["1.2.2020", "3.4.2021"], "day first", "2020-02-01")
    with refused("row 2 ", "of the same form as 13/06/2016", "11-8-2016"):
        read_times(["13/06/2016", "11-8-2016"])


def test_years_are_preferred_to_steps_and_dates_in_digits_to_unix_time():
    hours = pd.date_range("2015-01-01", periods=900, freq="h")
    for form in ("%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S"):
        assert read_times([hour.strftime(form) for hour in hours])[0] == TimeFormat("digits")
    assert read_times(["2001", "2012"])[0] == TimeFormat("year")
    assert read_times(["1699", "1700"])[0] == read_times(["2199", "2200", "1"][::-1])[0] == TimeFormat("steps")


@pytest.mark.parametrize("start, per_second", [("1990-01-01", 1), ("2001-09-08 20:00", 1), ("2001-09-10", 1000)])
@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.string()])
def test_unix_time_in_seconds_or_milliseconds_is_read(start, per_second, kind):
    hours = pd.date_range(start, periods=30, freq="h")
    column = pa.array(hours.astype("int64") // 10**9 * per_second)
    time_format, times = read_times(column.cast(kind))
    assert time_format == TimeFormat("unix_s" if per_second == 1 else "unix_ms")
    np.testing.assert_array_equal(times, hours.to_numpy().astype("M8[s]"))


@pytest.mark.parametrize("cuts", [(), (1,), (1, 2), (5,)])
@pytest.mark.parametrize("mark", "/-")
def test_financial_years_are_refused_wherever_the_batches_are_cut(mark, cuts):
    years = [f"{year}{mark}{(year + 1) % 100:02}" for year in range(2000, 2010)]
    with refused("s.csv", years[0], "data.timestamp_format", f"'%Y{mark}%m'"):
        read_times(years, cuts=cuts)
    assert read_times([f"2001{mark}02"])[1][0] == np.datetime64("2001-02-01")
    months = read_times(years, remembered=TimeFormat(read_times([f"2001{mark}02", f"2001{mark}03"])[0].style))[1]
    assert months[0] == np.datetime64("2000-01-01")


# data.timestamp_format and remembered formats


@pytest.mark.parametrize("values, key, first", [
    (["31/01/24"], "%d/%m/%y", "2024-01-31"),
    (["01/02/2024"], "%m/%d/%Y", "2024-01-02"),
    (["31|12|24 13h"], "%d|%m|%y %Hh", "2024-12-31T13"),
    (["Jan-24"], "%b-%y", "2024-01-01"),
    (["2024031"], "%Y%j", "2024-01-31"),
    (pa.array([2401311305]), "%y%m%d%H%M", "2024-01-31T13:05"),
    (["86400", "-1"], "unix_s", "1970-01-02"),
    (["2000000000"], "unix_s", "2033-05-18T03:33:20"),
    (["86400000"], "unix_ms", "1970-01-02"),
    (["202401"], "steps", "1970-01-03T08:13:21"),
    (["45351"], "excel", "2024-02-29"),
    (pa.array([45351.0]), "excel", "2024-02-29"),
    (pa.array([45351.25, 45351.2916666667, 45352]), "excel", "2024-02-29T06"),
    (["45351,0416666667", "45351,0833333333"], "excel", "2024-02-29T01"),
])  # fmt: skip
def test_the_configured_format_decides(values, key, first):
    assert_style(
        values, key if key in ("unix_s", "unix_ms", "steps", "excel") else f"format:{key}", first, timestamp_format=key
    )


def test_typed_dates_need_no_configured_format():
    assert_style(pa.array(np.array(["2024-01-31"], "M8[s]")), "timestamp", "2024-01-31", timestamp_format="%d/%m/%y")


@pytest.mark.parametrize("values, key, row", [
    (["31/01/24", "01/13/24"], "%d/%m/%y", 2),
    (["31/01/24", "31/01/2024"], "%d/%m/%y", 2),
    (["20240131", "2024131"], "%Y%m%d", 2),
    (["1", "1.5.2024"], "steps", 2),
    (["2024-01-31 13:00+01:00", "2024-01-31 14:00"], "%Y-%m-%d %H:%M%z", 2),
])  # fmt: skip
def test_a_row_that_does_not_fit_the_configured_format_is_refused(values, key, row):
    for cuts in ([], [1]):
        with refused("s.csv", f"row {row} ", "data.timestamp_format", re.escape(key), f": {values[row - 1]};"):
            read_times(values, key, cuts=cuts)


@pytest.mark.parametrize("key, fact", [("%Q", "bad directive"), ("%d/%m", "no year"), ("%", "stray")])
def test_a_format_that_strptime_does_not_know_is_refused(key, fact):
    with refused("data.timestamp_format", re.escape(repr(key)), fact):
        read_times(["31/01/24"], key)


def test_fixed_widths_are_kept_in_formats_without_separators():
    """Python reads 2024111 as 1 November, which may be 11 January."""
    with refused("row 1 ", "2024111"):
        read_times(["2024111"], "%Y%m%d")


@pytest.mark.parametrize("values, style", [
    (["1/2/2024"], "day first"),
    (["1/2/2024"], "month first"),
    (["1.2.2024"], "month first"),
    (["1/2/2024"], "format:%m/%d/%Y"),
    (["31/01/24"], "format:%d/%m/%y"),
    (["1703010000"], "unix_s"),
    (["1703010000"], "format:%y%m%d%H%M"),
    (["1801", "1802"], "steps"),
    (["45292"], "steps"),
    (["45292"], "excel"),
    (["2024-01-31T13:00:00Z"], "format:%Y-%m-%dT%H:%M:%SZ"),
])  # fmt: skip
def test_a_remembered_style_is_kept_if_it_fits(values, style):
    assert read_times(values, remembered=TimeFormat(style))[0] == TimeFormat(style)


@pytest.mark.parametrize("values, remembered, style", [
    (["2024-01-31"], "format:%d/%m/%Y", "iso"),
    (["31/01/2024"], "format:%d.%m.%Y", "day first"),
    (["31/12/24", "2024-12-31"], "format:%d/%m/%y", None),
    (["202401", "202402"], "steps", "period"),
    (["2024-01-31"], "steps", "iso"),
    (["31/01/2024"], "iso", "day first"),
])  # fmt: skip
def test_a_remembered_style_that_does_not_fit_all_rows_decides_nothing(values, remembered, style):
    if style is None:
        with refused("row 2 ", values[1]):
            read_times(values, remembered=TimeFormat(remembered))
    else:
        assert read_times(values, remembered=TimeFormat(remembered))[0] == TimeFormat(style)


@pytest.mark.parametrize("values, remembered", [(["1/31/2024"], "day first"), (["31/1/2024"], "month first")])
def test_a_remembered_order_that_is_contradicted_is_refused(values, remembered):
    with refused("s.csv", "history", remembered, "data.timestamp_format"):
        read_times(values, remembered=TimeFormat(remembered))
    key = "%m/%d/%Y" if remembered == "day first" else "%d/%m/%Y"
    assert read_times(values, key, TimeFormat(remembered))[1][0] == np.datetime64("2024-01-31")


def test_a_column_without_values_keeps_the_remembered_format():
    assert read_times(pa.array([], pa.string()), remembered=TimeFormat("day first"))[0] == TimeFormat("day first")
    assert len(read_times(pa.array([], pa.null()))[1]) == 0


@pytest.mark.parametrize("time_format, words", [
    (TimeFormat("day first"), "dates, day first"),
    (TimeFormat("iso", "utc"), "ISO dates with time zone, kept as UTC"),
    (TimeFormat("timestamp", "local"), "dates with time zone, kept as local time"),
    (TimeFormat("steps"), "step numbers"),
    (TimeFormat("unix_s"), "seconds since 1970"),
    (TimeFormat("format:%d.%m.%y %H:%M"), "dates, format %d.%m.%y %H:%M"),
])  # fmt: skip
def test_formats_are_described_in_words(time_format, words):
    assert time_format.describe() == words


# Invalid rows


@pytest.mark.parametrize("days, row", [
    (["30/1/2020", "31/1/2020", "32/1/2020"], 3),
    (["2020-01-01", "1/30/2020"], 2),
    (["01/10/2024", "01/11/2024", "01/13/2024", "02/30/2024"], 4),
    (["01/13/2024", "13/01/2024"], 2),
    (["2024-01-01", "1"], 2),
    (["2024-01-01", "2024-02-30"], 2),
    (["2024-01-01", "2024-01-01 24:00"], 2),
    (["2024-01-01 12:00", "2024-01-01 12-05"], 2),
    (["2024-01-01", "32 Jan 2024"], 2),
    (["31 Jan 2024", "March 31 Jan 2024"], 2),
    (["2024-01-01", "Janu 2024"], 2),
    (["2024-01-01", "170665920000000"], 2),
    (["2024-01-01", "Jan-90"], 2),
    (["2024-Q4", "2024-Q5"], 2),
    (["2024M12", "2024M13"], 2),
    (["1990Q1", "0000Q1"], 2),
    (["2019-W52", "2019-W53"], 2),
    (["1/31/2024 1:00 PM", "1/31/2024 13:00 PM"], 2),
    (["2024-01-01", "9999-12-31"], 2),
    (["1", "12345678"], 2),
    (["1.5"], 1),
    (["tomorrow"], 1),
])  # fmt: skip
def test_an_invalid_date_is_refused_with_its_row(days, row):
    for cuts in ([], [1]):
        with refused("s.csv", f"row {row} ", "timestamp", f": {days[row - 1]};"):
            read_times(days, cuts=cuts)


def test_an_invalid_date_is_refused_with_its_first_row():
    days = [f"2020-01-0{day}" for _ in "AB" for day in range(1, 6)]
    with refused("row 11 ", "tomorrow"):
        read_times([*days, "tomorrow", "tomorrow"])
    many = [str(day) for day in np.datetime64("2020-01-01") + np.arange(300)]
    with refused("row 251 ", "31/12/2024"):
        read_times([*many[:250], "31/12/2024", *many])


@pytest.mark.parametrize("values", [["2020-01-01", None], ["2020-01-01", " "], pa.array([None, None])])
def test_a_missing_timestamp_is_refused_with_its_row(values):
    with refused("s.csv", f"row {2 if isinstance(values, list) else 1} ", "no timestamp"):
        read_times(values)


@pytest.mark.parametrize("text, key", [
    ("31/01/24", "%d/%m/%y"), ("31.01.24 13:00", "%d.%m.%y %H:%M"), ("Jan-24", "%b-%y"), ("31-Jan-24", "%d-%b-%y"),
])  # fmt: skip
def test_years_of_two_digits_are_refused_with_their_format(text, key):
    with refused("row 1 ", text, "two digits", "data.timestamp_format", re.escape(key)):
        read_times([text])
    assert read_times([text], key)[1][0].astype(str).startswith("2024-01")


@pytest.mark.parametrize("values", [
    ["2024-01-01 00:00:00", "2024-01-01 00:00:00.5"],
    ["2024-01-01 00:00:00", "2024-01-01 00:00:00.1234567"],
    ["31/01/2024 00:00:00", "31/01/2024 00:00:00,5"],
    ["1706659200000", "1706659200001"],
    pa.array([1706659200.0, 1706659200.5]),
    pa.array([0, 1], pa.timestamp("ns")),
])  # fmt: skip
def test_a_timestamp_finer_than_a_second_is_refused_with_its_row(values):
    with refused("s.csv", "row 2 ", "finer than a second"):
        read_times(values)


@pytest.mark.parametrize("values", [[True], [[1]], [b"2024"], [pd.Timedelta(1, "D")]])
def test_a_column_of_another_type_is_refused(values):
    column = pa.array(values)
    with refused("s.csv", re.escape(str(column.type)), "data.timestamp_column"):
        read_times(column)


def test_values_that_no_row_has_prove_nothing():
    """A slice or a categorical column of pandas has a dictionary with further values."""
    with refused("1/2/2024"):
        read_times(pa.array(["31/1/2024", "1/2/2024", "2/2/2024"]).dictionary_encode()[1:])


@pytest.mark.parametrize("seed", range(60))
def test_the_result_does_not_depend_on_the_batches(seed):
    """Dates of a random form, some with an invalid row, are read alike or refused alike however they are batched."""
    draw = random.Random(seed)
    forms = [
        "%Y-%m-%d %H:%M",
        "%d/%m/%Y",
        "%m/%d/%Y %I:%M %p",
        "%d.%m.%Y",
        "%Y%m",
        "%Y%m%d%H",
        "%y%m%d",
        "%b %Y",
        "%Y",
        "%d/%m/%y",
    ]
    form, n = draw.choice(forms), draw.choice([3, 20, 150])
    start = f"{draw.choice([1999, 2001, 2010, 2024])}-{draw.randint(1, 12)}-{draw.randint(1, 28)}"
    freq = draw.choice(["h", "D", "MS"])
    texts = [date.strftime(form) for date in pd.date_range(start, periods=n, freq=freq)]
    if draw.random() < 0.4:
        texts[draw.randrange(n)] = draw.choice(
            ["5", "2024", "31/12/2024", "12/31/2024", "2024-01-31", "x", "202401", None]
        )
    outcomes: set[object] = set()
    for cuts in ([], [1], sorted(draw.sample(range(n), 2))):
        try:
            time_format, times = read_times(texts, cuts=cuts)
            outcomes.add((time_format, times.tobytes()))
        except UserError as error:
            outcomes.add(str(error))
    assert len(outcomes) == 1


# Time zones


@pytest.mark.parametrize("values, zone, first", [
    (["2024-01-31T13:00:00Z"], "utc", "2024-01-31T13"),
    (["2024-01-31 13:00+00:00", "2024-01-31 14:00+00:00"], "utc", "2024-01-31T13"),
    (["2024-01-31 13:00 UTC"], "utc", "2024-01-31T13"),
    (["2024-01-31 09:00:00+05", "2024-01-31 21:00:00+05"], "utc", "2024-01-31T04"),
    (["2024-01-31 09:00:00-0530"], "utc", "2024-01-31T14:30"),
    (["2024-01-31 00:00:00+05", "2024-06-30 00:00:00+06"], "local", "2024-01-31"),
    (["2024-01-31T00:00:00Z"], "local", "2024-01-31"),
    (["2024-01-31T13:00:00+01:00", "2024-02-01T00:00:00+01:00"], "utc", "2024-01-31T12"),
])  # fmt: skip
def test_times_with_a_zone_become_utc_unless_all_are_midnights(values, zone, first):
    assert_style(values, "iso", first, zone)
    assert_style(values, "iso", first, zone, cuts=[1])


@pytest.mark.parametrize("values, style", [
    (["31/01/2024 13:00+01:00"], "day first"), (["20240131T130000+0100"], "digits"),
    (["Wed, 31 Jan 2024 13:00:00 +0100"], "named month"), (["Jan 31, 2024 1:00 PM +01:00"], "named month"),
])  # fmt: skip
def test_every_style_may_have_a_zone(values, style):
    assert_style(values, style, "2024-01-31T12", "utc")


def test_a_strptime_format_may_have_a_zone():
    form = "%d/%m/%y %H:%M %z"
    assert_style(
        ["31/01/24 13:00 +0100", "31/01/24 13:00 Z"], f"format:{form}", "2024-01-31T12", "utc", timestamp_format=form
    )
    assert_style(["31/01/24 00:00 +0100"], f"format:{form}", "2024-01-31", "local", timestamp_format=form)


@pytest.mark.parametrize("values", [
    ["2024-01-31 13:00", "2024-01-31 13:00Z"], ["2024-01-31 13:00+01:00", "2024-01-31 14:00"],
    ["2024-01-31 00:00Z", "2024-02-01"],
])  # fmt: skip
def test_only_some_rows_with_a_zone_are_refused(values):
    for cuts in ([], [1]):
        with refused("s.csv", "row 2 ", "time zone, unlike the rows before"):
            read_times(values, cuts=cuts)


@pytest.mark.parametrize("zone", ["none", "utc"])
@pytest.mark.parametrize("is_typed", [False, True])
def test_a_zone_in_the_history_only_or_in_the_future_only_is_refused(zone, is_typed):
    """Otherwise, the future would be hours late."""
    stamps = pd.date_range("2024-01-31 12:00", periods=3, freq="h", tz="Europe/Berlin" if zone == "none" else None)
    column = pa.array(stamps)
    with refused("s.csv", "time zone", "history", "alike"):
        read_times(column if is_typed else column.cast(pa.string()), remembered=TimeFormat("iso", zone))


def test_midnights_stay_utc_if_the_history_is_utc():
    assert_style(["2024-01-31 00:00+01:00"], "iso", "2024-01-30T23", "utc", remembered=TimeFormat("iso", "utc"))


def test_parsing_refuses_rows_that_do_not_have_the_format():
    location, rows = SourceLocation("s.csv"), np.array([4, 5])
    for values, time_format in [
        (["2024-01-31", "2024-01-31 00:00Z"], TimeFormat("iso")),
        (["2024-01-31 00:00Z", "2024-01-31"], TimeFormat("iso", "utc")),
        (["31/01/2024", "01/31/2024"], TimeFormat("day first")),
    ]:
        with refused("s.csv", "row 5 ", values[1], re.escape(time_format.describe())):
            parse_times(pa.array(values), time_format, rows, location)


# Sources


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
