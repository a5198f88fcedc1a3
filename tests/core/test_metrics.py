import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.core.metrics import SCORES, WQL_LEVELS, WindowErrors, seasonal_error, seasonal_naive, window_errors

DATA = Path(__file__).parents[3] / "shared" / "data"


INSIDE = ((80, 0, 8), (60, 1, 7), (40, 2, 6), (20, 3, 5))


def plain_window(target, quantiles, scale):
    """What one window adds to the scores, value by value."""
    found = dict.fromkeys(
        ("pinball", "magnitude", "absolute", "squared", "known", *(f"in{one[0]}" for one in INSIDE)), 0.0
    )
    for y, forecast in zip(target.tolist(), quantiles.tolist()):
        if y != y:
            continue
        found["known"] += 1
        found["magnitude"] += abs(y)
        found["absolute"] += abs(y - forecast[4])
        found["squared"] += (y - forecast[4]) ** 2
        for interval, low, high in INSIDE:
            found[f"in{interval}"] += forecast[low] <= y <= forecast[high]
        for level, q in zip(WQL_LEVELS, forecast):
            found["pinball"] += 2 * (level * (y - q) if y >= q else (1 - level) * (q - y)) / 9
    nan, n, (one, two) = float("nan"), found["known"], scale
    found["MASE"] = found["absolute"] / n / one if n and one > 0 else nan
    found["RMSSE"] = (found["squared"] / n / two) ** 0.5 if n and two > 0 else nan
    return found


def plain_scores(windows):
    def total(name):
        return sum(window[name] for window in windows)

    def mean(name):
        defined = [window[name] for window in windows if window[name] == window[name]]
        return sum(defined) / len(defined)

    scores = {"WQL": total("pinball") / total("magnitude"), "MASE": mean("MASE")}
    scores |= {"WAPE": total("absolute") / total("magnitude"), "RMSSE": mean("RMSSE")}
    return scores | {f"coverage_{one[0]}": total(f"in{one[0]}") / total("known") for one in INSIDE}


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
    from gluonts.ev.metrics import MASE, ND, Coverage, MeanWeightedSumQuantileLoss
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
    metrics = [MASE(), ND(), MeanWeightedSumQuantileLoss(list(WQL_LEVELS)), *map(Coverage, WQL_LEVELS)]
    theirs = evaluate_forecasts(forecasts, test_data=test_data, metrics=metrics, seasonality=12)
    scale = np.array([seasonal_error(target[:-12], 12) for target in series])
    errors = window_errors(series[:, -12:], quantiles, scale)
    ours = errors.scores()
    assert ours["WAPE"] == pytest.approx(theirs["ND[0.5]"].item(), rel=1e-5)
    shares = [theirs[f"coverage[{level}]"].item() for level in WQL_LEVELS]
    assert errors.share_at_most() == pytest.approx(shares, rel=1e-5)
    assert ours["MASE"] == pytest.approx(theirs["MASE[0.5]"].item(), rel=1e-5)
    assert ours["WQL"] == pytest.approx(theirs["mean_weighted_sum_quantile_loss"].item(), rel=1e-5)


def awkward_windows(seed, count=40, horizon=6):
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
def test_scores_are_those_of_a_plain_loop(seed):
    windows = [plain_window(*window) for window in zip(*awkward_windows(seed))]
    assert window_errors(*awkward_windows(seed)).scores() == pytest.approx(plain_scores(windows), rel=1e-12)


def test_scores_of_groups_and_of_steps_are_those_of_their_windows_alone():
    target, quantiles, scale = awkward_windows(7)
    errors, group = window_errors(target, quantiles, scale), np.arange(40) % 3
    by_group = errors.scores_by(group, 3)
    for number in range(3):
        chosen = group == number
        alone = window_errors(target[chosen], quantiles[chosen], scale[chosen]).scores()
        assert {name: values[number] for name, values in by_group.items()} == pytest.approx(alone, rel=1e-12)
    for step in range(6):
        alone = window_errors(target[:, [step]], quantiles[:, [step]], scale).scores()
        assert errors.at_step(step).scores() == pytest.approx(alone, rel=1e-12)


def test_scores_that_nothing_defines_are_nan():
    nothing = window_errors(np.full((2, 3), np.nan), np.ones((2, 3, 9)), np.ones((2, 2)))
    assert all(np.isnan(score) for score in nothing.scores().values()) and tuple(nothing.scores()) == SCORES
    assert np.isnan(nothing.share_at_most()).all()
    zeros = window_errors(np.zeros((1, 3)), np.ones((1, 3, 9)), np.ones((1, 2))).scores()
    assert np.isnan(zeros["WQL"]) and zeros["MASE"] == 1.0 and zeros["coverage_80"] == 0.0


def test_a_constant_history_gives_no_scale():
    assert seasonal_error(np.full(30, 7.0, np.float32), 7) == (0.0, 0.0)
    forecast = np.zeros((1, 2, 9))
    assert np.isnan(window_errors(np.ones((1, 2)), forecast, np.zeros((1, 2))).scores()["MASE"])


def test_batches_join_to_the_scores_of_the_whole():
    rng = np.random.default_rng(1)
    target, quantiles, scale = rng.normal(size=(9, 4)), rng.normal(size=(9, 4, 9)), rng.uniform(1, 2, (9, 2))
    parts = [window_errors(target[rows], quantiles[rows], scale[rows]) for rows in (slice(0, 2), slice(2, 9))]
    assert WindowErrors.concatenate(parts).scores() == pytest.approx(window_errors(target, quantiles, scale).scores())


def test_unknown_steps_count_nowhere():
    target = np.array([[1.0, np.nan, 3.0], [np.nan] * 3])
    quantiles = np.full((2, 3, 9), 2.0)
    scores = window_errors(target, quantiles, np.full((2, 2), 2.0)).scores()
    assert scores["MASE"] == pytest.approx(0.5) and scores["WQL"] == pytest.approx(2 / 4)
    assert scores["coverage_80"] == 0.0


def test_a_forecast_that_is_missing_is_infinitely_far_off():
    target, scale = np.array([[1.0, 2.0], [3.0, np.nan]]), np.ones((2, 2))
    for rows, lost in (([0, 1], True), ([1], False)):
        quantiles = np.ones((2, 2, 9))
        quantiles[0, 1], quantiles[1, 1] = np.nan, np.nan  # the second where nothing is known
        scores = window_errors(target[rows], quantiles[rows], scale[rows]).scores()
        assert [scores[name] == np.inf for name in ("WQL", "MASE", "WAPE", "RMSSE")] == [lost] * 4


def test_a_series_without_a_scale_has_no_mase():
    quantiles = np.zeros((2, 1, 9))
    scores = window_errors(np.ones((2, 1)), quantiles, np.array([[0.0, 1.0], [4.0, 1.0]])).scores()
    assert scores["MASE"] == 0.25
    assert np.isnan(window_errors(np.ones((1, 1)), quantiles[:1], np.full((1, 2), np.nan)).scores()["MASE"])


def test_coverage_counts_the_80_percent_interval():
    """Its ends are inside."""
    quantiles = np.tile(np.arange(1.0, 10.0), (1, 5, 1))
    target = np.array([[0.5, 1.0, 5.0, 9.0, 9.5]])
    assert window_errors(target, quantiles, np.ones((1, 2))).scores()["coverage_80"] == 0.6


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
    nan = float("nan")
    expected = (sum(known) / len(known), sum(pair**2 for pair in known) / len(known)) if known else (nan, nan)
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
    assert seasonal_error(history, 2) == pytest.approx(((1 + 2) / 2, (1 + 4) / 2))
    assert np.isnan(seasonal_error(history[:2], 2)).all() and np.isnan(seasonal_error(history[:1], 4)).all()
