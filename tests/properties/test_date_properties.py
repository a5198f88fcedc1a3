"""Dates that are printed in any style are read as the same dates, or refused as ambiguous."""

from datetime import datetime

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from support.times import read_times

from pipeline.core.errors import UserError

DATES = ["%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d %b %Y", "%B %d, %Y", "%a %d-%b-%Y", "%Y%m%d", "%Y/%j"]
TIMES = ["", " %H:%M", " %H:%M:%S", "T%H:%M:%S", " %I:%M:%S %p", " %Hh%M"]
UNAMBIGUOUS = ["%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d %b %Y", "%B %d, %Y", "%a, %d-%b-%Y", "%Y-%b-%d"]
UNAMBIGUOUS_TIMES = ["", " %H:%M", " %H:%M:%S", "T%H:%M:%S", " %I:%M %p", " %I:%M:%S %p"]


def columns_between(first, last):
    moments = st.datetimes(datetime(first, 1, 1), datetime(last, 12, 31)).map(
        lambda moment: moment.replace(microsecond=0)
    )
    return st.lists(moments, min_size=1, max_size=12)


columns = columns_between(1678, 2261)  # the years of pandas


def printed(column, form):
    """The texts of a column in a format, and the dates that the texts still tell."""
    texts = [moment.strftime(form) for moment in column]
    return texts, np.array([datetime.strptime(text, form) for text in texts], "M8[s]")


@given(columns, st.sampled_from(DATES), st.sampled_from(TIMES), st.integers(0, 12))
def test_dates_in_a_configured_format_are_read_back(column, date, time, cut):
    texts, expected = printed(column, date + time)
    np.testing.assert_array_equal(read_times(texts, date + time, cuts=[min(cut, len(texts))])[1], expected)


@given(columns_between(1969, 2039))  # other years of two digits are refused
def test_years_of_two_digits_are_read_in_a_configured_format(column):
    texts, expected = printed(column, "%d/%m/%y %H:%M:%S")
    np.testing.assert_array_equal(read_times(texts, "%d/%m/%y %H:%M:%S")[1], expected)


@given(columns, st.sampled_from(UNAMBIGUOUS), st.sampled_from(UNAMBIGUOUS_TIMES), st.integers(0, 12))
def test_unambiguous_dates_are_read_without_a_format(column, date, time, cut):
    texts, expected = printed(column, date + time)
    np.testing.assert_array_equal(read_times(texts, cuts=[min(cut, len(texts))])[1], expected)


@given(columns, st.sampled_from("/-"), st.sampled_from(UNAMBIGUOUS_TIMES), st.booleans())
def test_the_order_of_day_and_month_is_read_if_a_row_shows_it_and_refused_if_none_does(column, mark, time, day_first):
    form = mark.join(("%d", "%m", "%Y") if day_first else ("%m", "%d", "%Y")) + time
    texts, expected = printed(column, form)
    is_shown = any(moment.day > 12 for moment in column)
    is_same = all(moment.day == moment.month for moment in column)
    try:
        result = read_times(texts)[1]
    except UserError as error:
        assert not (is_shown or is_same) and "timestamp_format" in str(error)
        result = read_times(texts, form)[1]
    else:
        assert is_shown or is_same
    np.testing.assert_array_equal(result, expected)


@given(columns, st.sampled_from("/-"))
def test_dates_of_a_month_with_at_most_12_days_are_refused(column, mark):
    texts, _ = printed([moment.replace(day=1 + moment.day % 12) for moment in column], f"%d{mark}%m{mark}%Y")
    if all(text[:2] == text[3:5] for text in texts):
        assert read_times(texts)[1][0] == read_times(texts, f"%m{mark}%d{mark}%Y")[1][0]
        return
    try:
        read_times(texts)
    except UserError:
        return
    raise AssertionError(f"{texts} may have the month first")


@given(columns, st.sampled_from(["s", "ms", "us", "ns"]), st.sampled_from([None, "Asia/Kolkata", "America/New_York"]))
def test_typed_timestamps_of_any_unit_are_kept(column, unit, zone):
    utc = np.array(column, "M8[s]")
    typed = pa.array(utc, pa.timestamp("s")).cast(pa.timestamp(unit, zone))
    time_format, times = read_times(typed)
    if time_format.zone == "local":
        local = typed.to_pandas().dt.tz_localize(None).to_numpy().astype("M8[s]")
        np.testing.assert_array_equal(times, local)
        assert (local == local.astype("M8[D]")).all()
    else:
        np.testing.assert_array_equal(times, utc)
        assert (time_format.zone == "utc") == (zone is not None)


@given(columns, st.integers(-14 * 4, 14 * 4))
def test_texts_with_an_offset_are_utc_unless_all_are_midnights(column, quarters):
    sign, minutes = "-" if quarters < 0 else "+", 15 * abs(quarters)
    offset = f"{sign}{minutes // 60:02}:{minutes % 60:02}"
    texts = [moment.isoformat() + offset for moment in column]
    time_format, times = read_times(texts)
    local = np.array(column, "M8[s]")
    if time_format.zone == "utc":
        local = local - np.timedelta64(15 * quarters, "m")
    else:
        assert (local == local.astype("M8[D]")).all()
    np.testing.assert_array_equal(times, local)
