import numpy as np
import pandas as pd
import pytest

from pipeline.metrics import WQL_LEVELS, WindowErrors, seasonal_error, seasonal_naive, window_errors


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


def test_the_seasonal_error_skips_unknown_pairs():
    history = np.array([1, 5, 2, np.nan, 4, 6], dtype=np.float32)
    assert seasonal_error(history, 2) == pytest.approx((1 + 2) / 2)
    assert np.isnan(seasonal_error(history[:2], 2)) and np.isnan(seasonal_error(history[:1], 4))
