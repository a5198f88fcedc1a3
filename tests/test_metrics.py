import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.metrics import WQL_LEVELS, WindowErrors, seasonal_error, seasonal_naive, window_errors

DATA = Path(__file__).parents[2] / "shared" / "data"


def plain_window(target, quantiles, scale):
    """The five numbers of one window, value by value."""
    pinball = absolute = error = 0.0
    covered = known = 0
    for y, forecast in zip(target.tolist(), quantiles.tolist()):
        if y != y:
            continue
        known += 1
        absolute += abs(y)
        error += abs(y - forecast[4])
        covered += forecast[0] <= y <= forecast[8]
        for level, q in zip(WQL_LEVELS, forecast):
            pinball += 2 * (level * (y - q) if y >= q else (1 - level) * (q - y)) / 9
    scaled = error / known / scale if known and scale > 0 else float("nan")
    return pinball, absolute, scaled, covered, known


def plain_naive(history, prediction_length, season):
    """Walk back from each step in whole seasons to the last known value."""
    known = [value for value in history if value == value]
    forecast = []
    for step in range(prediction_length):
        place = len(history) + step - season
        while place >= len(history):
            place -= season
        while place >= 0 and history[place] != history[place]:
            place -= season
        forecast.append(history[place] if place >= 0 else known[-1] if known else 0.0)
    return forecast


@pytest.mark.filterwarnings("ignore:Using .json.-module:UserWarning")
def test_scores_are_those_of_gluonts():
    from gluonts.dataset.split import split
    from gluonts.ev.metrics import MASE, MeanWeightedSumQuantileLoss
    from gluonts.model.evaluation import evaluate_forecasts
    from gluonts.model.forecast import QuantileForecast

    rng = np.random.default_rng(0)
    series = rng.normal(10, 3, size=(7, 60)).astype(np.float32)
    quantiles = np.sort(rng.normal(10, 3, size=(7, 12, 9)), axis=2)
    entries = [{"start": pd.Period("2020-01", "M"), "target": target} for target in series]
    test_data = split(entries, offset=-12)[1].generate_instances(12)
    forecasts = [
        QuantileForecast(one.T, pd.Period("2024-01", "M"), forecast_keys=[str(level) for level in WQL_LEVELS])
        for one in quantiles
    ]
    theirs = evaluate_forecasts(
        forecasts, test_data=test_data, metrics=[MASE(), MeanWeightedSumQuantileLoss(list(WQL_LEVELS))], seasonality=12
    )
    scale = np.array([seasonal_error(target[:-12], 12) for target in series])
    ours = window_errors(series[:, -12:], quantiles, scale).scores()
    assert ours["MASE"] == pytest.approx(theirs["MASE[0.5]"].item(), rel=1e-5)
    assert ours["WQL"] == pytest.approx(theirs["mean_weighted_sum_quantile_loss"].item(), rel=1e-5)


def awkward_windows(seed, count=40, horizon=6):
    rng = np.random.default_rng(seed)
    target = rng.normal(0, 5, (count, horizon)).astype(np.float32)
    target[rng.random((count, horizon)) < 0.3] = np.nan
    target[3] = np.nan
    target[4] = 0.0
    quantiles = np.sort(rng.normal(0, 5, (count, horizon, 9)), axis=2)
    scale = rng.uniform(0.5, 3, count)
    scale[[5, 6]] = 0.0, np.nan
    return target, quantiles, scale


@pytest.mark.parametrize("seed", range(3))
def test_every_window_adds_what_a_plain_loop_says(seed):
    target, quantiles, scale = awkward_windows(seed)
    expected = np.array([plain_window(*window) for window in zip(target, quantiles, scale)]).T
    for ours, theirs in zip(window_errors(target, quantiles, scale).columns(), expected):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_sums_and_means_over_the_windows_of_a_plain_loop(seed):
    windows = [plain_window(*window) for window in zip(*awkward_windows(seed))]
    scaled = [window[2] for window in windows if window[2] == window[2]]
    expected = {
        "WQL": sum(window[0] for window in windows) / sum(window[1] for window in windows),
        "MASE": sum(scaled) / len(scaled),
        "coverage_80": sum(window[3] for window in windows) / sum(window[4] for window in windows),
    }
    assert window_errors(*awkward_windows(seed)).scores() == pytest.approx(expected, rel=1e-12)


def test_scores_that_nothing_defines_are_nan():
    nothing = window_errors(np.full((2, 3), np.nan), np.ones((2, 3, 9)), np.ones(2)).scores()
    assert all(np.isnan(score) for score in nothing.values()) and len(nothing) == 3
    zeros = window_errors(np.zeros((1, 3)), np.ones((1, 3, 9)), np.ones(1)).scores()
    assert np.isnan(zeros["WQL"]) and zeros["MASE"] == 1.0 and zeros["coverage_80"] == 0.0


def test_a_constant_history_gives_no_scale():
    assert seasonal_error(np.full(30, 7.0, np.float32), 7) == 0.0
    forecast = np.zeros((1, 2, 9))
    assert np.isnan(window_errors(np.ones((1, 2)), forecast, np.array([0.0])).scores()["MASE"])


def test_batches_join_to_the_scores_of_the_whole():
    rng = np.random.default_rng(1)
    target, quantiles, scale = rng.normal(size=(9, 4)), rng.normal(size=(9, 4, 9)), rng.uniform(1, 2, 9)
    parts = [window_errors(target[rows], quantiles[rows], scale[rows]) for rows in (slice(0, 2), slice(2, 9))]
    assert WindowErrors.joined(parts).scores() == pytest.approx(window_errors(target, quantiles, scale).scores())


def test_unknown_steps_count_nowhere():
    target = np.array([[1.0, np.nan, 3.0], [np.nan] * 3])
    quantiles = np.full((2, 3, 9), 2.0)
    errors = window_errors(target, quantiles, np.array([2.0, 2.0]))
    scores = errors.scores()
    assert scores["MASE"] == pytest.approx(0.5) and scores["WQL"] == pytest.approx(2 / 4)
    assert errors.known.tolist() == [2, 0] and errors.covered.tolist() == [0, 0]


def test_a_series_without_a_scale_has_no_mase():
    quantiles = np.zeros((2, 1, 9))
    scores = window_errors(np.ones((2, 1)), quantiles, np.array([0.0, 4.0])).scores()
    assert scores["MASE"] == 0.25
    assert np.isnan(window_errors(np.ones((1, 1)), quantiles[:1], np.array([np.nan])).scores()["MASE"])


def test_coverage_counts_the_80_percent_interval():
    quantiles = np.tile(np.arange(1.0, 10.0), (1, 4, 1))
    assert window_errors(np.array([[0.5, 1.0, 5.0, 9.5]]), quantiles, np.ones(1)).scores()["coverage_80"] == 0.5


@pytest.mark.parametrize("history, expected", [
    ([1, 2, 3, 4, 5, 6], [4, 5, 6, 4, 5]),
    ([1, 2, 3, 4, np.nan, 6], [4, 2, 6, 4, 2]),
    ([np.nan, 2, 3, np.nan, np.nan, 6], [6, 2, 6, 6, 2]),
    ([7, 8], [8, 7, 8, 8, 7]),
    ([1, 2, 3, 4], [2, 3, 4, 2, 3]),
    ([np.nan, np.nan], [0, 0, 0, 0, 0]),
    ([], [0, 0, 0, 0, 0]),
])  # fmt: skip
def test_seasonal_naive_takes_the_last_known_value_at_each_place_of_the_season(history, expected):
    forecast = seasonal_naive(np.array(history, dtype=np.float32), 5, 3)
    np.testing.assert_array_equal(forecast, expected)


@pytest.mark.parametrize("season", [1, 2, 7, 24])
def test_seasonal_naive_is_a_walk_back_in_whole_seasons(season):
    rng = np.random.default_rng(season)
    for length in [0, 1, 2, 6, 7, 8, 23, 25, 60]:
        for share in (0.0, 0.3, 0.9):
            history = rng.normal(size=length).astype(np.float32)
            history[rng.random(length) < share] = np.nan
            for horizon in (1, 5, 30):
                expected = plain_naive(history.tolist(), horizon, season)
                np.testing.assert_array_equal(seasonal_naive(history, horizon, season), expected)


@pytest.mark.parametrize("season", [1, 3, 10, 50])
def test_the_seasonal_error_is_a_mean_over_known_pairs(season):
    rng = np.random.default_rng(0)
    history = rng.normal(size=40).astype(np.float32)
    history[rng.random(40) < 0.2] = np.nan
    values = history.tolist()
    pairs = [abs(values[t] - values[t - season]) for t in range(season, 40)]
    known = [pair for pair in pairs if pair == pair]
    expected = sum(known) / len(known) if known else float("nan")
    assert seasonal_error(history, season) == pytest.approx(expected, rel=1e-12, nan_ok=True)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real series of ../shared/data are not here")
def test_the_seasonal_naive_scores_of_the_ten_real_sets_are_met():
    sets = json.loads((DATA / "index.json").read_text())
    assert len(sets) == 10
    for one in sets:
        horizon, season = one["prediction_length"], one["seasonal_naive"]["seasonality"]
        frame = pd.read_parquet(DATA / one["file"]).sort_values(["item_id", "timestamp"])
        series = [target.to_numpy(np.float32) for _, target in frame.groupby("item_id")["target"]]
        forecasts = np.stack([seasonal_naive(target[:-horizon], horizon, season) for target in series])
        scale = np.array([seasonal_error(target[:-horizon], season) for target in series])
        targets = np.stack([target[-horizon:] for target in series])
        scores = window_errors(targets, np.repeat(forecasts[:, :, None], 9, axis=2), scale).scores()
        for name in ("MASE", "WQL"):
            assert scores[name] == pytest.approx(one["seasonal_naive"][name], abs=1e-3), (one["name"], name)


def test_the_seasonal_error_skips_unknown_pairs():
    history = np.array([1, 5, 2, np.nan, 4, 6], dtype=np.float32)
    assert seasonal_error(history, 2) == pytest.approx((1 + 2) / 2)
    assert np.isnan(seasonal_error(history[:2], 2)) and np.isnan(seasonal_error(history[:1], 4))
