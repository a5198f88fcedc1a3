"""Metrics against GluonTS, plain loops and published scores."""

import json

import numpy as np
import pandas as pd
import pytest
from support import DATA

from pipeline.core.metrics import (
    SCORES,
    WQL_LEVELS,
    WindowErrors,
    forecast_errors,
    seasonal_error,
    seasonal_naive,
    window_errors,
)
from pipeline.core.series import Panel, Variates

INTERVAL_LEVELS = ((80, 0, 8), (60, 1, 7), (40, 2, 6), (20, 3, 5))
"""Nominal coverage of each interval, and the positions of its two levels."""


def loop_sums(target, quantiles, scale):
    """Return the sums of one window that scores are made of, value by value."""
    names = ("pinball", "magnitude", "absolute", "squared", "known", *(f"in{row[0]}" for row in INTERVAL_LEVELS))
    sums = dict.fromkeys(names, 0.0)
    for y, forecast in zip(target.tolist(), quantiles.tolist()):
        if y != y:
            continue
        sums["known"] += 1
        sums["magnitude"] += abs(y)
        sums["absolute"] += abs(y - forecast[4])
        sums["squared"] += (y - forecast[4]) ** 2
        for interval, low, high in INTERVAL_LEVELS:
            sums[f"in{interval}"] += forecast[low] <= y <= forecast[high]
        for level, q in zip(WQL_LEVELS, forecast):
            sums["pinball"] += 2 * (level * (y - q) if y >= q else (1 - level) * (q - y)) / 9
    nan, n, (absolute_scale, squared_scale) = float("nan"), sums["known"], scale
    sums["MASE"] = sums["absolute"] / n / absolute_scale if n and absolute_scale > 0 else nan
    sums["RMSSE"] = (sums["squared"] / n / squared_scale) ** 0.5 if n and squared_scale > 0 else nan
    return sums


def loop_scores(windows):
    """Return the scores of windows from the sums of each."""

    def total(name):
        return sum(window[name] for window in windows)

    def mean(name):
        defined = [window[name] for window in windows if window[name] == window[name]]
        return sum(defined) / len(defined)

    scores = {"WQL": total("pinball") / total("magnitude"), "MASE": mean("MASE")}
    scores |= {"WAPE": total("absolute") / total("magnitude"), "RMSSE": mean("RMSSE")}
    return scores | {f"coverage_{row[0]}": total(f"in{row[0]}") / total("known") for row in INTERVAL_LEVELS}


def loop_seasonal_naive(history, prediction_length, season):
    """Walk back from each step in whole seasons to the last known value."""
    known = [value for value in history if value == value]
    forecast = []
    for step in range(prediction_length):
        position = len(history) + step - season
        while position >= len(history):
            position -= season
        while position >= 0 and history[position] != history[position]:
            position -= season
        forecast.append(history[position] if position >= 0 else known[-1] if known else 0.0)
    return forecast


def test_scores_equal_those_of_gluonts():
    from gluonts.dataset.split import split
    from gluonts.ev.metrics import MASE, ND, Coverage, MeanWeightedSumQuantileLoss
    from gluonts.model.evaluation import evaluate_forecasts
    from gluonts.model.forecast import QuantileForecast

    rng = np.random.default_rng(0)
    series = rng.normal(10, 3, size=(7, 60)).astype(np.float32)
    quantiles = np.sort(rng.normal(10, 3, size=(7, 12, 9)), axis=2)
    entries = [{"start": pd.Period("2020-01", "M"), "target": target} for target in series]
    test_data = split(entries, offset=-12)[1].generate_instances(12)
    forecasts = [
        QuantileForecast(rows.T, pd.Period("2024-01", "M"), forecast_keys=[str(level) for level in WQL_LEVELS])
        for rows in quantiles
    ]
    metrics = [MASE(), ND(), MeanWeightedSumQuantileLoss(list(WQL_LEVELS)), *map(Coverage, WQL_LEVELS)]
    expected = evaluate_forecasts(forecasts, test_data=test_data, metrics=metrics, seasonality=12)
    scale = np.array([seasonal_error(target[:-12], 12) for target in series])
    errors = window_errors(series[:, -12:], quantiles, scale)
    scores = errors.scores()
    assert scores["WAPE"] == pytest.approx(expected["ND[0.5]"].item(), rel=1e-5)
    shares = [expected[f"coverage[{level}]"].item() for level in WQL_LEVELS]
    assert errors.calibration() == pytest.approx(shares, rel=1e-5)
    assert scores["MASE"] == pytest.approx(expected["MASE[0.5]"].item(), rel=1e-5)
    assert scores["WQL"] == pytest.approx(expected["mean_weighted_sum_quantile_loss"].item(), rel=1e-5)


def random_windows(seed, count=40, horizon=6):
    """Return targets, quantiles and scales with missing targets, a zero target and undefined scales."""
    rng = np.random.default_rng(seed)
    target = rng.normal(0, 5, (count, horizon)).astype(np.float32)
    target[rng.random((count, horizon)) < 0.3] = np.nan
    target[3] = np.nan
    target[4] = 0.0
    quantiles = np.sort(rng.normal(0, 5, (count, horizon, 9)), axis=2)
    scale = rng.uniform(0.5, 3, (count, 2))
    scale[[5, 6]] = [[0.0], [np.nan]]
    return target, quantiles, scale


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_those_of_a_plain_loop(seed):
    windows = [loop_sums(*window) for window in zip(*random_windows(seed))]
    assert window_errors(*random_windows(seed)).scores() == pytest.approx(loop_scores(windows), rel=1e-12)


def test_scores_of_groups_and_steps_equal_those_of_their_windows_alone():
    target, quantiles, scale = random_windows(7)
    errors, group = window_errors(target, quantiles, scale), np.arange(40) % 3
    by_group = errors.scores_by(group, 3)
    for number in range(3):
        chosen = group == number
        alone = window_errors(target[chosen], quantiles[chosen], scale[chosen]).scores()
        assert {name: values[number] for name, values in by_group.items()} == pytest.approx(alone, rel=1e-12)
    for step in range(6):
        alone = window_errors(target[:, [step]], quantiles[:, [step]], scale).scores()
        assert errors.at_step(step).scores() == pytest.approx(alone, rel=1e-12)


def test_undefined_scores_are_nan():
    unknown = window_errors(np.full((2, 3), np.nan), np.ones((2, 3, 9)), np.ones((2, 2)))
    assert all(np.isnan(score) for score in unknown.scores().values()) and tuple(unknown.scores()) == SCORES
    assert np.isnan(unknown.calibration()).all()
    zeros = window_errors(np.zeros((1, 3)), np.ones((1, 3, 9)), np.ones((1, 2))).scores()
    assert np.isnan(zeros["WQL"]) and zeros["MASE"] == 1.0 and zeros["coverage_80"] == 0.0


def test_a_constant_history_has_no_mase():
    assert seasonal_error(np.full(30, 7.0, np.float32), 7) == (0.0, 0.0)
    forecast = np.zeros((1, 2, 9))
    assert np.isnan(window_errors(np.ones((1, 2)), forecast, np.zeros((1, 2))).scores()["MASE"])


def test_concatenated_batches_have_the_scores_of_the_whole():
    rng = np.random.default_rng(1)
    target, quantiles, scale = rng.normal(size=(9, 4)), rng.normal(size=(9, 4, 9)), rng.uniform(1, 2, (9, 2))
    parts = [window_errors(target[rows], quantiles[rows], scale[rows]) for rows in (slice(0, 2), slice(2, 9))]
    assert WindowErrors.concatenate(parts).scores() == pytest.approx(window_errors(target, quantiles, scale).scores())


def test_unknown_steps_are_left_out_of_all_scores():
    target = np.array([[1.0, np.nan, 3.0], [np.nan] * 3])
    quantiles = np.full((2, 3, 9), 2.0)
    scores = window_errors(target, quantiles, np.full((2, 2), 2.0)).scores()
    assert scores["MASE"] == pytest.approx(0.5) and scores["WQL"] == pytest.approx(2 / 4)
    assert scores["coverage_80"] == 0.0


def test_a_missing_forecast_has_an_infinite_error_if_the_target_is_known():
    target, scale = np.array([[1.0, 2.0], [3.0, np.nan]]), np.ones((2, 2))
    for rows, is_infinite in (([0, 1], True), ([1], False)):
        quantiles = np.ones((2, 2, 9))
        quantiles[0, 1], quantiles[1, 1] = np.nan, np.nan  # the second has no known target
        scores = window_errors(target[rows], quantiles[rows], scale[rows]).scores()
        assert [scores[name] == np.inf for name in ("WQL", "MASE", "WAPE", "RMSSE")] == [is_infinite] * 4


def test_a_window_without_a_scale_is_left_out_of_the_mase():
    quantiles = np.zeros((2, 1, 9))
    scores = window_errors(np.ones((2, 1)), quantiles, np.array([[0.0, 1.0], [4.0, 1.0]])).scores()
    assert scores["MASE"] == 0.25
    assert np.isnan(window_errors(np.ones((1, 1)), quantiles[:1], np.full((1, 2), np.nan)).scores()["MASE"])


def test_coverage_includes_the_ends_of_the_interval():
    quantiles = np.tile(np.arange(1.0, 10.0), (1, 5, 1))
    target = np.array([[0.5, 1.0, 5.0, 9.0, 9.5]])
    assert window_errors(target, quantiles, np.ones((1, 2))).scores()["coverage_80"] == 0.6


def test_errors_of_panels_have_a_row_per_target_and_leave_out_targets_without_a_history():
    rng = np.random.default_rng(0)
    past = rng.normal(size=(2, 3, 20))
    past[1, 1] = np.nan
    future, variates = np.full((3, 4), np.nan), Variates(("a", "b"), ("x",))
    target, quantiles = rng.normal(size=(4, 4)), np.sort(rng.normal(size=(4, 4, 9)))
    errors = forecast_errors([Panel(rows, future, variates) for rows in past], target, quantiles, [1, 7])
    scale = np.array([seasonal_error(past[i, k], season) for i, season in ((0, 1), (1, 7)) for k in (0, 1)])
    np.testing.assert_array_equal(errors.scale, scale[:, 0])
    np.testing.assert_array_equal(errors.squared_scale, scale[:, 1])
    target[3] = np.nan
    assert errors.scores() == window_errors(target, quantiles, scale).scores()


@pytest.mark.parametrize("history, expected", [
    ([1, 2, 3, 4, 5, 6], [4, 5, 6, 4, 5]),
    ([1, 2, 3, 4, np.nan, 6], [4, 2, 6, 4, 2]),
    ([np.nan, 2, 3, np.nan, np.nan, 6], [6, 2, 6, 6, 2]),
    ([7, 8], [8, 7, 8, 8, 7]),
    ([1, 2, 3, 4], [2, 3, 4, 2, 3]),
    ([np.nan, np.nan], [0, 0, 0, 0, 0]),
    ([], [0, 0, 0, 0, 0]),
])  # fmt: skip
def test_seasonal_naive_takes_the_last_known_value_at_each_position_in_the_season(history, expected):
    forecast = seasonal_naive(np.array(history, dtype=np.float32), 5, 3)
    np.testing.assert_array_equal(forecast, expected)


@pytest.mark.parametrize("season", [1, 2, 7, 24])
def test_seasonal_naive_equals_a_walk_back_in_whole_seasons(season):
    rng = np.random.default_rng(season)
    for length in [0, 1, 2, 6, 7, 8, 23, 25, 60]:
        for missing_share in (0.0, 0.3, 0.9):
            history = rng.normal(size=length).astype(np.float32)
            history[rng.random(length) < missing_share] = np.nan
            for horizon in (1, 5, 30):
                expected = loop_seasonal_naive(history.tolist(), horizon, season)
                np.testing.assert_array_equal(seasonal_naive(history, horizon, season), expected)


@pytest.mark.parametrize("season", [1, 3, 10, 50])
def test_the_seasonal_error_is_the_mean_over_known_pairs(season):
    rng = np.random.default_rng(0)
    history = rng.normal(size=40).astype(np.float32)
    history[rng.random(40) < 0.2] = np.nan
    values = history.tolist()
    pairs = [abs(values[t] - values[t - season]) for t in range(season, 40)]
    known = [pair for pair in pairs if pair == pair]
    nan = float("nan")
    expected = (sum(known) / len(known), sum(pair**2 for pair in known) / len(known)) if known else (nan, nan)
    assert seasonal_error(history, season) == pytest.approx(expected, rel=1e-12, nan_ok=True)


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is missing")
def test_the_seasonal_naive_scores_of_ten_real_data_sets_are_reproduced():
    sets = json.loads((DATA / "index.json").read_text())
    assert len(sets) == 10
    for entry in sets:
        horizon, season = entry["prediction_length"], entry["seasonal_naive"]["seasonality"]
        frame = pd.read_parquet(DATA / entry["file"]).sort_values(["item_id", "timestamp"])
        series = [target.to_numpy(np.float32) for _, target in frame.groupby("item_id")["target"]]
        forecasts = np.stack([seasonal_naive(target[:-horizon], horizon, season) for target in series])
        scale = np.array([seasonal_error(target[:-horizon], season) for target in series])
        targets = np.stack([target[-horizon:] for target in series])
        scores = window_errors(targets, np.repeat(forecasts[:, :, None], 9, axis=2), scale).scores()
        for name in ("MASE", "WQL"):
            assert scores[name] == pytest.approx(entry["seasonal_naive"][name], abs=1e-3), (entry["name"], name)


def test_the_seasonal_error_skips_unknown_pairs():
    history = np.array([1, 5, 2, np.nan, 4, 6], dtype=np.float32)
    assert seasonal_error(history, 2) == pytest.approx(((1 + 2) / 2, (1 + 4) / 2))
    assert np.isnan(seasonal_error(history[:2], 2)).all() and np.isnan(seasonal_error(history[:1], 4)).all()
