import numpy as np
import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.frequency import infer_freq, parse_freq, seasonality, steps_between, timestamps

ALIASES = [
    "s",
    "min",
    "30min",
    "h",
    "6h",
    "D",
    "2D",
    "B",
    "W",
    "W-WED",
    "2W",
    "MS",
    "ME",
    "2MS",
    "QS",
    "QE",
    "YS",
    "YE",
]
ALIASES += ["QS-FEB", "YE-JUN", "SMS", "BME"]


def grid(freq, length=40, start="2019-11-20 00:00"):
    return pd.date_range(start, periods=length, freq=freq).to_numpy().astype("M8[s]")


@pytest.mark.parametrize("freq", ALIASES)
def test_timestamps_are_those_of_pandas(freq):
    expected = grid(freq)
    steps = np.arange(40)[None, :]
    np.testing.assert_array_equal(timestamps(expected[:1], freq, steps)[0], expected)


@pytest.mark.parametrize("freq", ALIASES)
def test_steps_between_is_the_inverse_and_finds_what_is_off_the_grid(freq):
    stamps = grid(freq)
    np.testing.assert_array_equal(steps_between(stamps[0], stamps[[0, 3, 4, 39]], freq), [0, 3, 4, 39])
    off = stamps[3] + np.timedelta64(1, "s") if freq != "s" else None
    if off is not None:
        assert steps_between(stamps[0], np.array([off]), freq)[0] == -1


def test_many_series_are_stepped_at_once():
    starts = np.array(["2020-01-31", "2021-02-28"], dtype="M8[s]")
    stepped = timestamps(starts, "ME", np.array([[1, 2], [0, 12]]))
    assert stepped.astype("M8[D]").astype(str).tolist() == [["2020-02-29", "2020-03-31"], ["2021-02-28", "2022-02-28"]]


def test_a_month_keeps_its_own_day_and_time():
    stepped = timestamps(np.array(["2020-01-15T06:00"], dtype="M8[s]"), "MS", np.array([[1, 13]]))
    assert stepped.astype(str).tolist() == [["2020-02-15T06:00:00", "2021-02-15T06:00:00"]]


@pytest.mark.parametrize("freq", [alias for alias in ALIASES if alias not in ("SMS", "BME", "2W", "W")])
def test_inference_agrees_with_pandas(freq):
    stamps = grid(freq)
    inferred = infer_freq([stamps])
    np.testing.assert_array_equal(timestamps(stamps[:1], inferred, np.arange(40)[None, :])[0], stamps)
    if "Q" not in freq and "Y" not in freq:
        assert inferred == pd.infer_freq(pd.DatetimeIndex(stamps))


@pytest.mark.parametrize("freq", ["h", "30min", "D", "MS", "ME", "W-WED", "YS"])
def test_inference_looks_through_gaps(freq):
    stamps = grid(freq)
    kept = np.delete(stamps, [4, 5, 17, 30])
    assert infer_freq([kept]) == infer_freq([stamps])


def test_the_commonest_frequency_that_fits_all_series_wins():
    weekdays_only = grid("B", 8, "2021-03-01")
    daily = grid("D", 30)
    assert infer_freq([weekdays_only, weekdays_only, daily]) == "D"


def test_quarters_that_begin_in_different_months_share_their_frequency():
    assert infer_freq([grid("QS-JAN"), grid("QS-FEB")]) == "QS"


def test_too_few_points_tell_nothing():
    assert infer_freq([grid("D")[:2], grid("h")[:1]]) is None


@pytest.mark.parametrize(
    "freq, season",
    [
        ("30min", 48), ("h", 24), ("6h", 4), ("D", 7), ("W", 52), ("W-TUE", 52), ("MS", 12), ("ME", 12), ("QS", 4),
        ("QE-MAR", 4), ("YS", 1), ("YE", 1), ("B", 5), ("s", 3600), ("5min", 288), ("2D", 1), ("", 1), ("7h", 1),
    ],
)  # fmt: skip
def test_seasonality(freq, season):
    assert seasonality(freq) == season


@pytest.mark.parametrize("freq", ["fortnight", "ms", "-1D", "1.5s"])
def test_a_frequency_that_cannot_be_kept_is_refused(freq):
    with pytest.raises(UserError, match="data.freq"):
        parse_freq(freq)
