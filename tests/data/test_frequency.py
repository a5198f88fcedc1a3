import numpy as np
import pandas as pd
import pytest
from support.source_files import refused

from pipeline.data.frequency import align_starts, infer_freq, parse_freq, seasonality, steps_between, timestamps

ALIASES = "s min 30min h 6h D 2D B W W-WED 2W MS ME 2MS QS QE YS YE QS-FEB YE-JUN SMS BME".split()
OTHER_ANCHORS = "15s 3D W-SAT 2W-TUE 3B 2ME QE-JAN 2QS-MAR YS-APR 3YE-MAR WOM-2TUE bh".split()


def grid(freq, length=40, start="2019-11-20 00:00"):
    return pd.date_range(start, periods=length, freq=freq).to_numpy().astype("M8[s]")


@pytest.mark.parametrize("freq", ALIASES)
def test_timestamps_agree_with_pandas(freq):
    expected = grid(freq)
    steps = np.arange(40)[None, :]
    np.testing.assert_array_equal(timestamps(expected[:1], freq, steps)[0], expected)


@pytest.mark.parametrize("freq", ALIASES)
def test_steps_between_inverts_timestamps(freq):
    stamps = grid(freq)
    np.testing.assert_array_equal(steps_between(stamps[0], stamps[[0, 3, 4, 39]], freq), [0, 3, 4, 39])
    several_starts = steps_between(stamps[[0, 2, 2, 5]], stamps[[3, 2, 30, 39]], freq)
    assert several_starts.tolist() == [3, 0, 28, 34]


@pytest.mark.parametrize("freq", [alias for alias in ALIASES if alias != "s"])
def test_a_second_after_a_step_is_off_the_grid(freq):
    stamps = grid(freq)
    assert steps_between(stamps[0], stamps[3:4] + np.timedelta64(1, "s"), freq)[0] == -1


@pytest.mark.parametrize("start", ["2019-11-20 13:30", "1999-12-31 23:59:59", "2024-02-29"])
@pytest.mark.parametrize("freq", ALIASES + OTHER_ANCHORS)
def test_steps_agree_with_pandas_for_any_anchor_and_time_of_day(freq, start):
    expected = grid(freq, 60, start)
    np.testing.assert_array_equal(timestamps(expected[:1], freq, np.arange(60)[None, :])[0], expected)
    np.testing.assert_array_equal(steps_between(expected[0], expected, freq), np.arange(60))


@pytest.mark.parametrize("freq, start, between", [
    ("30min", "2020-01-01 00:00", "2020-01-01 00:45"),
    ("6h", "2020-01-01 00:00", "2020-01-01 09:00"),
    ("2D", "2020-01-01", "2020-01-04"),
    ("B", "2020-01-03", "2020-01-04"),
    ("W-WED", "2020-01-01", "2020-01-09"),
    ("MS", "2020-01-01", "2020-02-02"),
    ("ME", "2020-01-31", "2020-03-30"),
    ("2MS", "2020-01-01", "2020-02-01"),
    ("QS", "2020-01-01", "2020-02-01"),
    ("QE", "2020-03-31", "2020-05-31"),
    ("YS", "2020-01-01", "2021-02-01"),
    ("YE", "2020-12-31", "2021-12-30"),
    ("SMS", "2020-01-01", "2020-01-14"),
])  # fmt: skip
def test_a_stamp_between_two_steps_is_off_the_grid(freq, start, between):
    stamps = np.array([start, between], dtype="M8[s]")
    assert steps_between(stamps[0], stamps, freq).tolist() == [0, -1]


@pytest.mark.parametrize("freq, start", [("ME", "2020-01-15"), ("B", "2020-01-04")])
def test_a_start_that_is_not_a_step_of_the_frequency_is_off_the_grid(freq, start):
    stamp = np.datetime64(start, "s")
    assert steps_between(stamp, np.array([stamp]), freq).tolist() == [-1]


@pytest.mark.parametrize("start", ["2020-01-15", "2020-01-28", "2020-01-30", "2020-03-31"])
def test_a_month_without_the_day_of_the_start_has_its_last_day(start):
    stepped = timestamps(np.array([start], dtype="M8[s]"), "MS", np.arange(24)[None, :])[0]
    expected = [pd.Timestamp(start) + pd.DateOffset(months=k) for k in range(24)]
    assert stepped.tolist() == [stamp.to_pydatetime() for stamp in expected]


def test_timestamps_of_several_starts():
    starts = np.array(["2020-01-31", "2021-02-28"], dtype="M8[s]")
    stepped = timestamps(starts, "ME", np.array([[1, 2], [0, 12]]))
    assert stepped.astype("M8[D]").astype(str).tolist() == [["2020-02-29", "2020-03-31"], ["2021-02-28", "2022-02-28"]]


def test_a_step_of_a_month_keeps_day_and_time():
    stepped = timestamps(np.array(["2020-01-15T06:00"], dtype="M8[s]"), "MS", np.array([[1, 13]]))
    assert stepped.astype(str).tolist() == [["2020-02-15T06:00:00", "2021-02-15T06:00:00"]]


@pytest.mark.parametrize("freq, start, aligned_freq, aligned_start", [
    ("", "2020-01-15", "", "2020-01-15"),
    ("QE", "2020-03-31", "QE", "2020-03-31"),
    ("QE", "2020-02-15", "QS-FEB", "2020-02-15"),
    ("B", "2020-01-04", "B", "2020-01-06"),
])  # fmt: skip
def test_starts_off_the_grid_are_aligned(freq, start, aligned_freq, aligned_start):
    starts = np.array([start], dtype="M8[s]")
    assert align_starts(starts, freq) == (aligned_freq, np.array([aligned_start], dtype="M8[s]"))


@pytest.mark.parametrize("freq", [alias for alias in ALIASES if alias not in ("SMS", "2W", "W")])
def test_inference_agrees_with_pandas(freq):
    stamps = grid(freq)
    inferred = infer_freq([stamps])
    assert inferred is not None
    np.testing.assert_array_equal(timestamps(stamps[:1], inferred, np.arange(40)[None, :])[0], stamps)
    if "Q" not in freq and "Y" not in freq:
        assert inferred == pd.infer_freq(pd.DatetimeIndex(stamps))


@pytest.mark.parametrize("freq", ["h", "30min", "D", "MS", "ME", "W-WED", "YS"])
def test_inference_allows_for_gaps(freq):
    stamps = grid(freq)
    kept = np.delete(stamps, [4, 5, 17, 30])
    assert infer_freq([kept]) == infer_freq([stamps])


@pytest.mark.parametrize("freq", ["s", "min", "6h", "2D", "B", "QS-FEB", "QE", "2MS", "YE-JUN"])
@pytest.mark.parametrize("seed", range(3))
def test_inference_allows_for_a_quarter_of_missing_stamps(freq, seed):
    stamps = grid(freq, 80)
    kept = stamps[np.sort(np.random.default_rng(seed).choice(80, 60, replace=False))]
    inferred = infer_freq([kept])
    assert inferred is not None and inferred == infer_freq([stamps])
    positions = np.searchsorted(stamps, kept)
    np.testing.assert_array_equal(steps_between(kept[0], kept, inferred), positions - positions[0])


def test_months_dated_on_the_15th_are_months():
    stamps = np.array(["2020-01-15", "2020-02-15", "2020-03-15", "2020-05-15"], dtype="M8[s]")
    assert infer_freq([stamps]) == "MS" and steps_between(stamps[0], stamps, "MS").tolist() == [0, 1, 2, 4]


@pytest.mark.parametrize("freq", ["MS", "QS-JAN"])
@pytest.mark.parametrize("start", ["2020-01-29", "2021-01-30"])
def test_months_without_the_day_of_the_start_have_their_last_day(start, freq):
    stamps = timestamps(np.array([start], "M8[s]"), freq, np.arange(20)[None])[0]
    assert infer_freq([stamps]) == freq and steps_between(stamps[0], stamps, freq).tolist() == list(range(20))


@pytest.mark.parametrize("start, length, expected, inferred", [
    ("2021-03-01", 4, None, "D"),
    ("2021-03-01", 4, "B", "B"),
    ("2021-03-01", 6, "B", "D"),  # with a Saturday
    ("2021-03-01", 4, "h", "D"),
])  # fmt: skip
def test_series_without_a_weekend_have_the_business_days_of_others(start, length, expected, inferred):
    assert infer_freq([grid("D", length, start)], expected) == inferred


def test_the_majority_of_series_decides_on_the_frequency():
    odd = np.array(["2021-01-01 00:00", "2021-01-02 13:37", "2021-02-05 09:11"], dtype="M8[s]")
    assert infer_freq([odd, *[grid("D", 30, "2021-01-01")] * 5]) == "D"


def test_weeks_with_different_first_days_have_one_frequency():
    assert infer_freq([grid("W-MON"), grid("W-THU")]) == "W"


ANCHORED = "QS-FEB QS-MAR QE-JAN QE-NOV 2QS-FEB YS-APR YE-JUN W-SAT BMS 2BME BQE-NOV BQS-FEB BYE-DEC 3BYS-JAN".split()


@pytest.mark.parametrize("freq", ANCHORED)
def test_pandas_gives_the_same_stamps_for_the_inferred_frequency(freq):
    stamps = grid(freq)
    np.testing.assert_array_equal(grid(infer_freq([stamps]), 40, stamps[0]), stamps)


def test_six_days_a_week_are_daily():
    stamps = grid("D", 60)
    assert infer_freq([stamps[pd.DatetimeIndex(stamps).weekday != 6]]) == "D"


def test_weekdays_of_a_single_week_are_daily():
    assert infer_freq([grid("D", 5, "2021-03-01")]) == "D"


def test_series_of_one_or_two_points_have_no_vote():
    assert infer_freq([grid("h")[:2], grid("D")[:1], grid("W-WED")]) == "W-WED"


def test_the_most_common_frequency_that_fits_all_series_is_inferred():
    weekdays_only = grid("B", 8, "2021-03-01")
    daily = grid("D", 30)
    assert infer_freq([weekdays_only, weekdays_only, daily]) == "D"


def test_quarters_with_different_first_months_have_one_frequency():
    assert infer_freq([grid("QS-JAN"), grid("QS-FEB")]) == "QS"


def test_no_frequency_is_inferred_from_fewer_than_three_points():
    assert infer_freq([grid("D")[:2], grid("h")[:1]]) is None
    assert infer_freq([]) is None and infer_freq([np.empty(0, "M8[s]")]) is None


@pytest.mark.parametrize(
    "freq, season",
    [
        ("30min", 48), ("h", 24), ("6h", 4), ("D", 7), ("W", 52), ("W-TUE", 52), ("MS", 12), ("ME", 12), ("QS", 4),
        ("QE-MAR", 4), ("YS", 1), ("YE", 1), ("B", 5), ("s", 3600), ("5min", 288), ("2D", 1), ("", 1), ("7h", 1),
        ("min", 1440), ("15min", 96), ("12h", 2), ("24h", 7), ("7D", 52), ("2W", 26), ("2MS", 6), ("5MS", 1),
        ("6ME", 2), ("2QS", 2), ("YE-JUN", 1), ("BME", 12), ("BMS", 12), ("2BME", 6),
        ("BQS", 4), ("BQE-NOV", 4), ("BYS", 1), ("2B", 1), ("5B", 1),
    ],
)  # fmt: skip
def test_seasonality(freq, season):
    assert seasonality(freq) == season


@pytest.mark.parametrize("freq", ["fortnight", "ms", "-1D", "1.5s"])
def test_an_unknown_negative_or_too_fine_frequency_is_refused(freq):
    with refused("data.freq", freq):
        parse_freq(freq)


@pytest.mark.filterwarnings("ignore:Using .json.-module:UserWarning", "ignore:.*is deprecated:FutureWarning")
@pytest.mark.parametrize("freq", ["s", "min", "30min", "h", "6h", "B", "MS", "ME", "2MS", "QS", "QE-MAR", "YS", "YE"])
def test_seasonality_agrees_with_gluonts_except_for_days_and_weeks(freq):
    from gluonts.time_feature import get_seasonality

    assert seasonality(freq) == get_seasonality(freq)
    assert [get_seasonality("D"), get_seasonality("W")] == [1, 1]
