"""Forecasts of Chronos-2 with covariates and several targets, compared with stock Chronos."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from chronos import BaseChronosPipeline
from support.shops import HORIZON, KNOWN, open_shops, shops

from pipeline.config import Config, PathsConfig
from pipeline.core.errors import UserError
from pipeline.core.series import Variates
from pipeline.data.columns import Columns
from pipeline.data.source import open_source
from pipeline.forecasting.forecaster import Forecaster
from pipeline.forecasting.request import Request
from pipeline.forecasting.tables import forecast_store
from pipeline.load_model import ChronosLoader

LEVELS = [0.1, 0.5, 0.9]
COLUMNS = ["--data.target", "sold", "--data.past_covariates", "[visits]", "--data.known_covariates", "[price, promo]"]


@pytest.fixture(scope="module")
def stock(uncrossed):
    return BaseChronosPipeline.from_pretrained(uncrossed["chronos-2"])


@pytest.mark.parametrize("targets, covariates", [(["sold"], ["visits"]), (["sold", "visits"], [])])
def test_forecasts_with_covariates_are_those_of_stock_predict_df(stock, tmp_path, targets, covariates):
    past, after = shops()
    store, future = open_shops(tmp_path, past, after, targets, covariates)
    known = after[["item_id", "timestamp", *KNOWN]]
    expected = stock.predict_df(
        past, future_df=known, target=targets, prediction_length=HORIZON, quantile_levels=LEVELS
    )
    request = Request(HORIZON, LEVELS, batch_size=2, future=future)
    ours = pd.concat(part.to_pandas() for part in forecast_store(Forecaster(stock), store, request))
    keys = ["item_id", "target_name", "timestamp"]
    ours, expected = ours.sort_values(keys), expected.sort_values(keys)
    assert (ours["target_name"].to_numpy() == expected["target_name"].to_numpy()).all()
    assert (ours["timestamp"].to_numpy("M8[s]") == expected["timestamp"].to_numpy("M8[s]")).all()
    np.testing.assert_allclose(ours["predictions"], expected["predictions"].astype(float), rtol=1e-4, atol=1e-4)
    without = Forecaster(stock).quantiles([store.target(0)], HORIZON, LEVELS)[1]
    assert np.abs(without[0] - ours["predictions"].to_numpy()[:HORIZON]).max() > 1e-3  # covariates have an effect


def test_a_frame_is_forecast_with_the_frame_of_its_future(stock, uncrossed, tmp_path):
    past, after = shops(3)
    data = dataclasses.replace(Config().data, target="sold", past_covariates=["visits"], known_covariates=KNOWN)
    loader = ChronosLoader(str(uncrossed["chronos-2"]), config=Config(data=data, paths=PathsConfig(str(tmp_path))))
    loader.load_trained_model()
    future = after[["item_id", "timestamp", *KNOWN]]
    expected = stock.predict_df(past, future, target="sold", prediction_length=HORIZON, quantile_levels=LEVELS)
    pd.testing.assert_frame_equal(loader.predict_df(past, HORIZON, future), expected, check_dtype=False, rtol=1e-4)
    with pytest.raises(UserError, match="shop2 .*price"):
        loader.predict_df(past, HORIZON, future[:-1])


@pytest.fixture
def files(tmp_path):
    """Tables of four shops: their past, and known covariates in the horizon, complete and not."""
    past, after = shops(4)
    known = after[["item_id", "timestamp", *KNOWN]]
    past.to_csv(tmp_path / "past.csv", index=False)
    known.to_csv(tmp_path / "future.csv", index=False)
    known.drop(index=known.index[known["item_id"] == "shop3"][-1]).to_csv(tmp_path / "short.csv", index=False)
    known.drop(columns="promo").to_csv(tmp_path / "lacking.csv", index=False)
    return tmp_path


def forecast_arguments(model, *more):
    data = ["--inference.model_path", model, "--inference.data_path", "past.csv"]
    return [*COLUMNS, *data, "--inference.prediction_length", HORIZON, *more]


def test_the_commands_forecast_and_score_with_covariates(run_script, tiny, files):
    save = [
        "--inference.future_path",
        "future.csv",
        "--inference.output_path",
        "p.csv",
        "--inference.plot_path",
        "p.png",
    ]
    code, _, err = run_script("forecast", *forecast_arguments(tiny["chronos-2"], *save))
    assert code == 0, err
    table = pd.read_csv("p.csv")
    assert len(table) == 4 * HORIZON and set(table["target_name"]) == {"sold"}
    models = ["--evaluation.models", f"[{tiny['chronos-2']}, {tiny['bolt']}]", "--evaluation.data_path", "past.csv"]
    settings = ["--evaluation.prediction_length", HORIZON, "--evaluation.baselines", "[]"]
    code, _, err = run_script("evaluate", *COLUMNS, *models, *settings)
    assert code == 0, err
    scores = pd.read_csv("data/reports/scores.csv")
    assert np.isfinite(scores["WQL"]).all() and scores["WQL"].nunique() == 3


@pytest.mark.parametrize("future, fact", [
    (None, "inference.future_path"), ("short.csv", "shop3"), ("lacking.csv", "promo"), ("nowhere.csv", "nowhere.csv"),
])  # fmt: skip
def test_an_incomplete_table_of_the_future_is_refused(run_script, tiny, files, future, fact):
    more = [] if future is None else ["--inference.future_path", future]
    code, _, err = run_script("forecast", *forecast_arguments(tiny["chronos-2"], *more))
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and fact in err


def test_a_model_without_covariates_refuses_them(run_script, tiny, files):
    code, _, err = run_script("forecast", *forecast_arguments(tiny["bolt"], "--inference.future_path", "future.csv"))
    assert code == 2 and "Chronos-2" in err and "visits" in err


def test_the_targets_of_a_store_keep_their_names(run_script, tiny, tmp_path):
    """The store has the names, even if data.target does not name them."""
    past, _ = shops(2)
    past.to_csv("shops.csv", index=False)
    store = open_source("shops.csv", tmp_path / "cache", Columns(variates=Variates(("sold", "visits"))))
    settings = ["--inference.model_path", tiny["chronos-2"], "--inference.prediction_length", 3]
    for name, data, target in (("both", store.path, []), ("one", "shops.csv", ["--data.target", "sold"])):
        paths = ["--inference.data_path", data, "--inference.output_path", f"{name}.csv"]
        code, _, err = run_script("forecast", *settings, *target, *paths)
        assert code == 0, err
    assert pd.read_csv("both.csv")["target_name"].tolist() == 2 * (3 * ["sold"] + 3 * ["visits"])
    assert set(pd.read_csv("one.csv")["target_name"]) == {"sold"}
