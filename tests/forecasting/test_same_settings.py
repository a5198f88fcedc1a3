"""Forecasts, scores and pictures follow the same settings."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.series import long_frame
from support.shops import HORIZON, SHOP, open_shops, shops

from pipeline.config import Config, EvaluationConfig, InferenceConfig
from pipeline.core.series import Series
from pipeline.data.arrow_store import store_from_arrays, store_from_series
from pipeline.data.columns import Columns
from pipeline.data.source import open_source
from pipeline.evaluation.backtest import evaluate_task, make_task
from pipeline.evaluation.evaluate import load_forecast
from pipeline.forecasting.forecaster import Forecaster
from pipeline.forecasting.plots import drawn_forecasts
from pipeline.forecasting.request import Request
from pipeline.forecasting.tables import forecast_array, forecast_store
from pipeline.load_model import ChronosLoader

LENGTH = 5
SHORT = Config(inference=InferenceConfig(context_length=16, precision="bf16", non_negative=True))


@pytest.fixture
def task():
    return make_task("t", open_source(long_frame(n_series=4)), LENGTH, None, 2)


def test_scores_are_those_of_the_configured_context_and_precision(tiny, task):
    forecaster = Forecaster.load(str(tiny["bolt"]), precision="bf16").with_context_length(16).with_non_negative(True)
    expected = evaluate_task(task, forecaster.predict_quantiles).scores()
    scored = evaluate_task(task, load_forecast(str(tiny["bolt"]), SHORT)(task)).scores()
    plain = evaluate_task(task, load_forecast(str(tiny["bolt"]), Config())(task)).scores()
    assert scored == expected != plain


def test_the_functions_of_a_loaded_model_score_alike(tiny):
    frame = long_frame(n_series=4)
    loader = ChronosLoader(str(tiny["bolt"]))
    loader.config = replace(SHORT, horizon=LENGTH, evaluation=EvaluationConfig())
    loader.load_trained_model()
    scores = loader.evaluate(frame, horizon=LENGTH).loc["model"]
    on_test_data = loader.evaluate_on_test_data(frame)
    assert {name: scores[name] for name in ("WQL", "MASE")} == {name: on_test_data[name] for name in ("WQL", "MASE")}


def test_a_picture_has_no_negative_forecast_if_the_file_has_none(tiny):
    values = np.abs(np.random.default_rng(0).normal(0, 1, 60)).astype(np.float32) * (np.arange(60) % 3 == 0)
    store = store_from_series([Series("A", np.datetime64("2024-01-01", "s"), "D", values)])
    forecaster, request = Forecaster.load(str(tiny["bolt"])), Request(LENGTH, [0.5])
    lows = {
        non_negative: drawn_forecasts(forecaster.with_non_negative(non_negative), store, request)[0].low.min()
        for non_negative in (False, True)
    }
    assert lows[False] < 0 == lows[True]


@pytest.mark.parametrize("context_length, is_raised", [(None, False), (30, True)])
def test_a_negative_value_before_the_context_does_not_count(tiny, context_length, is_raised):
    values = np.where(np.arange(60) % 3 == 0, np.abs(np.random.default_rng(0).normal(0, 1, 60)), 0).astype(np.float32)
    values[5] = -1e-3
    inference = InferenceConfig(context_length=context_length, non_negative=True)
    forecaster = Forecaster.load(str(tiny["bolt"])).with_settings(inference)
    assert (forecaster.predict_quantiles([values], LENGTH).min() >= 0) == is_raised


def test_the_base_of_a_loaded_model_follows_each_change_of_the_context(tiny):
    loader = ChronosLoader(str(tiny["bolt"]))
    loader.load_trained_model()
    lengths = []
    for context_length in (16, None):
        loader.config = Config(inference=InferenceConfig(context_length=context_length))
        lengths.append(loader.loaded().context_length)
    assert lengths == [16, 64]


def test_windows_of_series_without_a_wql_do_not_count(task):
    frame = long_frame(n_series=4)
    last = frame.groupby("item_id").cumcount(ascending=False) < 2 * LENGTH
    frame.loc[last & frame["item_id"].isin(frame["item_id"].unique()[:1]), "target"] = 0
    zero = make_task("t", open_source(pd.DataFrame(frame)), LENGTH, None, 2)
    counts = [
        evaluate_task(each, lambda rows, n: np.zeros((len(rows), n, 9))).count_windows_with_wql()
        for each in (task, zero)
    ]
    assert counts == [8, 6]


def test_a_forecast_with_a_shorter_context_is_that_of_its_evaluation(tiny, tmp_path):
    past, future = shops(n_series=2, length=60)
    forecaster, (store, known) = Forecaster.load(str(tiny["chronos-2"])), open_shops(tmp_path, past, future)
    request = Request(HORIZON, [0.1, 0.5, 0.9], context_length=16, future=known)
    whole = open_source(pd.concat([past, future]), tmp_path, Columns(variates=SHOP))
    histories = [
        whole.history(index, int(store.lengths[index]), int(whole.lengths[index]), HORIZON) for index in range(2)
    ]
    expected = forecaster.with_context_length(16).quantiles(histories, HORIZON, request.levels)[0]
    np.testing.assert_allclose(forecast_array(forecaster, store, request), expected, rtol=1e-5)
    table = pa.concat_tables(forecast_store(forecaster, store, request))
    np.testing.assert_allclose(table["0.9"].to_numpy(), expected[..., 2].ravel(), rtol=1e-5)


@pytest.mark.parametrize("context_length", [10, None])
def test_a_context_without_a_value_is_forecast_as_the_last_one_before_it(tiny, context_length):
    values = np.r_[np.arange(25.0), np.full(15, np.nan)]
    config = Config(inference=InferenceConfig(context_length=context_length))
    loader = ChronosLoader(str(tiny["bolt"]), config=config)
    loader.load_trained_model()
    forecast = loader.predict_df(store_from_arrays([values]), LENGTH)["0.5"]
    assert forecast.eq(24).all() == (context_length is not None)
