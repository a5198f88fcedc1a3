"""The styles of timestamps: dates, periods, Unix time and steps."""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.source_files import refused
from support.times import assert_style, read_times

from pipeline.data.date_styles import DAY_PATTERNS, PERIOD_PATTERN
from pipeline.data.dates import TimeEvidence, TimeFormat
from pipeline.data.rows import SourceLocation


@pytest.mark.parametrize("values, style, first", [
    (["2024-01-31"], "iso", "2024-01-31"),
    (["2024-01-31 13:00"], "iso", "2024-01-31T13"),
    (["2024-01-31T13:00:05.000"], "iso", "2024-01-31T13:00:05"),
    (["2024/01/31", "2024/02/01"], "iso", "2024-01-31"),
    (["2024-1-5", "2024-10-12"], "iso", "2024-01-05"),
    (["2020-01-01 00-30-00"], "iso", "2020-01-01T00:30"),
    (["30/1/2020", "1/2/2020"], "day first", "2020-01-30"),
    (["1/2/2020", "30/1/2020"], "day first", "2020-02-01"),
    (["1/30/2020", "2/1/2020"], "month first", "2020-01-30"),
    (["01-02-2024 9:05", "01-31-2024 9:05"], "month first", "2024-01-02T09:05"),
    (["1.10.2019", "01.11.2019"], "day first", "2019-10-01"),
    (["31.01.2024 13:00"], "day first", "2024-01-31T13"),
    (["1.30.2020", "2.1.2020"], "month first", "2020-01-30"),
    (["1/1/2020", "1/1/2021"], "day first", "2020-01-01"),
    (["1/31/2024 1:00:00 PM"], "month first", "2024-01-31T13"),
    (["1/31/2024 12:30 a.m."], "month first", "2024-01-31T00:30"),
    (["1/31/2024 12:30 PM"], "month first", "2024-01-31T12:30"),
    (["31-Jan-2024"], "named month", "2024-01-31"),
    (["31JAN2024:13:00:05"], "named month", "2024-01-31T13:00:05"),
    (["1 Sept. 2024 1 pm"], "named month", "2024-09-01T13"),
    (["Wednesday, January 31, 2024"], "named month", "2024-01-31"),
    (["20240131"], "digits", "2024-01-31"),
    (["20240131T130005"], "digits", "2024-01-31T13:00:05"),
    (["20240131 13:00"], "digits", "2024-01-31T13"),
    (["2024013113", "2024013114"], "digits", "2024-01-31T13"),
    (["2001010100", "2001012400"], "digits", "2001-01-01"),
    (["2024Q3"], "period", "2024-07-01"),
    (["2019-W01", "2020W53"], "period", "2018-12-31"),
    (["2016W1", "2016W2"], "period", "2016-01-04"),
    (["202401"], "period", "2024-01-01"),
    (["200102", "201301"], "period", "2001-02-01"),
    (["2024-02"], "period", "2024-02-01"),
    (["2/2024", "12/2024"], "period", "2024-02-01"),
    (["Jan 2024"], "period", "2024-01-01"),
    (["1990", "2001"], "year", "1990-01-01"),
    (["1706659200"], "unix_s", "2024-01-31"),
    (["1706659200000"], "unix_ms", "2024-01-31"),
    (["7", "-2", "1234567"], "steps", "1970-01-01T00:00:07"),
    (["-300", "1800"], "steps", "1969-12-31T23:55"),
])  # fmt: skip
def test_the_style_is_found_from_all_values(values, style, first):
    assert_style(values, style, first)
    assert_style(pa.array(values).dictionary_encode(), style, first)
    assert_style([f" {value} " for value in values], style, first, cuts=[1])


@pytest.mark.parametrize("values, style, first", [
    (pa.array([20240131, 20240201]), "digits", "2024-01-31"),
    (pa.array([20240131.0]), "digits", "2024-01-31"),
    (["20240131.0", "20240201.0"], "digits", "2024-01-31"),
    (pa.array([2020, 2021], pa.uint16()), "year", "2020-01-01"),
    (pa.array([1706659200.0]), "unix_s", "2024-01-31"),
    (pa.array(["20240131"]).cast(pa.decimal128(8)), "digits", "2024-01-31"),
    (pa.array([3, 1, 2], pa.int8()), "steps", "1970-01-01T00:00:03"),
    (pa.array([3.0, -1.0]), "steps", "1970-01-01T00:00:03"),
    (pa.array([3, 1]).dictionary_encode(), "steps", "1970-01-01T00:00:03"),
    (pa.array(["2024-01-31"], pa.large_string()), "iso", "2024-01-31"),
    (pa.array(["2024-01-31"], pa.string_view()), "iso", "2024-01-31"),
    (pa.array(np.array(["2024-01-31T13"], "M8[ns]")), "timestamp", "2024-01-31T13"),
    (pa.array(np.array(["2024-01-31"], "M8[D]")), "timestamp", "2024-01-31"),
    (pa.array(np.array(["2024-01-31"], "M8[D]")).cast(pa.date64()).dictionary_encode(), "timestamp", "2024-01-31"),
])  # fmt: skip
def test_numbers_and_typed_dates_follow_the_same_rules(values, style, first):
    assert_style(values, style, first)


def test_typed_dates_may_be_followed_by_iso_dates():
    """Worksheets and blocks of JSON mix them."""
    location = SourceLocation("s")
    evidence = TimeEvidence(location)
    evidence.add(pa.array(np.array(["2024-01-31"], "M8[us]")), np.array([1]))
    evidence.add(pa.array(["2024-02-01"]), np.array([2]))
    assert evidence.decide() == TimeFormat("iso")
    with refused("row 3 ", "31/12/2024"):
        evidence.add(pa.array(["31/12/2024"]), np.array([3]))


@pytest.mark.parametrize("form", [
    "%Y-%m-%d %H:%M:%S", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y %H:%M", "%m/%d/%Y %I:%M:%S %p", "%m-%d-%Y", "%d %b %Y",
    "%b %d, %Y", "%a %B %d %Y", "%a, %d-%b-%Y", "%d%b%Y %H:%M", "%Y%m%d", "%Y%m%d%H", "%Y%m%dT%H%M", "%Y%m%d%H%M",
    "%Y%m%d%H%M%S", "%b %Y", "%B %Y", "%Y %b", "%b-%Y", "%b. %Y", "%Y%m", "%Y-%m", "%m/%Y", "%G-W%V", "%Y",
])  # fmt: skip
def test_dates_in_every_form_are_read(form):
    freq = {"%Y": "YS", "%G-W%V": "W-MON"}.get(form, "D" if re.search("%[dj]", form) else "MS")
    dates = pd.date_range("2018-11-01", periods=400 if freq == "D" else 30, freq=freq)
    if "%H" in form or "%I" in form:
        dates = dates + pd.to_timedelta(np.arange(400) % 24, unit="h")
    expected = dates.to_numpy().astype("M8[s]")
    texts = [date.strftime(form) for date in dates]
    np.testing.assert_array_equal(read_times(texts)[1], expected)
    np.testing.assert_array_equal(read_times(texts, cuts=[1, 20])[1], expected)


@pytest.mark.parametrize("form", [
    "{0.year}Q{0.quarter}", "{0.year}-q{0.quarter}", "{0.year} Q{0.quarter}", "Q{0.quarter} {0.year}",
    "q{0.quarter}-{0.year}", "{0.year}M{0.month:02}", "{0.year}-M{0.month}",
])  # fmt: skip
def test_quarters_and_months_in_the_notation_of_eurostat_are_read(form):
    expected = pd.date_range("1999-01-01", periods=9, freq="QS")
    texts = [form.format(pd.Timestamp(stamp)) for stamp in expected]
    np.testing.assert_array_equal(read_times(texts)[1], expected.to_numpy().astype("M8[s]"))
    assert all(re.fullmatch(PERIOD_PATTERN, text) for text in texts)


@pytest.mark.parametrize("text", ["31 Jan 2024", "Wed, January 31, 2024", "31-jan-2024 13:00", "2024-Jan-31"])
def test_day_patterns_match_whole_texts(text):
    assert any(re.fullmatch(pattern, text) for pattern in DAY_PATTERNS)
    assert not any(re.fullmatch(pattern, f"{text}x") for pattern in DAY_PATTERNS)
