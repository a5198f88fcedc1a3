"""Requests: warnings about forecasts beyond the training of the model, and categories that it does not know."""

import json

import numpy as np
import pytest
from support.series import long_frame
from support.shops import HORIZON, KNOWN, SHOP, shops

from pipeline.config import Config, DataConfig, InferenceConfig, PathsConfig
from pipeline.core.errors import UserError
from pipeline.data.arrow_store import store_from_arrays
from pipeline.data.columns import Columns
from pipeline.data.source import open_source
from pipeline.forecasting.forecaster import Forecaster
from pipeline.forecasting.request import Request, check_request, make_request

LEVELS = [0.1, 0.5, 0.9]


@pytest.fixture(scope="module")
def bolt(tiny):
    return Forecaster.load(str(tiny["bolt"]))


def logged(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "pipeline.forecasting.request"]


def test_series_that_ended_more_than_the_horizon_ago_are_warned_about(bolt, tmp_path, caplog):
    frame = long_frame(n_series=4)
    ended = (frame["item_id"] == "item2") & (frame["timestamp"] > "2021-04-15")  # the others have 15 days more
    store = open_source(frame[~ended], tmp_path)
    check_request(bolt, store, Request(15, LEVELS))
    assert not logged(caplog)
    check_request(bolt, store, Request(14, LEVELS))
    (warning,) = logged(caplog)
    assert warning.startswith("1 series") and "item2" in warning and "2021-04-15T00:00:00" in warning


def test_horizons_and_levels_beyond_the_training_are_logged(bolt, caplog):
    caplog.set_level("INFO", "pipeline")
    store = store_from_arrays([np.arange(99)])
    check_request(bolt, store, Request(bolt.horizon, LEVELS))
    assert not logged(caplog)
    check_request(bolt, store, Request(bolt.horizon + 1, [0.01, 0.1, 0.95]))
    horizon, levels = logged(caplog)
    assert f"{bolt.horizon + 1}" in horizon and "0.01, 0.95" in levels


def test_a_horizon_beyond_every_series_and_series_of_one_value_are_warned_about(bolt, caplog):
    store = store_from_arrays([np.arange(9), np.full(5, 7), np.array([np.nan, 3])])
    check_request(bolt, store, Request(9, LEVELS))
    (constant,) = logged(caplog)
    assert constant.startswith("2 series") and constant.endswith(": 1, 2")
    caplog.clear()
    check_request(bolt, store_from_arrays([np.arange(9)]), Request(10, LEVELS))
    (horizon,) = logged(caplog)
    assert "10 steps" in horizon and "9 steps" in horizon


def test_a_horizon_below_one_step_is_refused():
    for length in (0, -3):
        with pytest.raises(UserError, match=f"prediction_length .*{length}"):
            Request(length, LEVELS)


@pytest.fixture
def trained_with(tiny, tmp_path, monkeypatch):
    """Return a forecaster whose training_info.json names these variates."""

    def make(variates):
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        for file in tiny["chronos-2"].iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "training_info.json").write_text(json.dumps({"variates": variates}))
        return Forecaster.load(str(folder))

    return make


def shop_request(forecaster, folder, promo=None):
    """Return the request for a store of shops, whose future table has this promotion."""
    past, future = shops(2)
    future = future[["item_id", "timestamp", *KNOWN]]
    data = DataConfig(target="sold", past_covariates=["visits"], known_covariates=KNOWN)
    inference = InferenceConfig(future_path=str(folder / "future.csv"))
    (future if promo is None else future.assign(promo=promo)).to_csv(folder / "future.csv", index=False)
    store = open_source(past, folder, Columns(variates=SHOP))
    return make_request(
        Config(data=data, inference=inference, paths=PathsConfig(str(folder))), forecaster, store, HORIZON
    )


def test_categories_that_the_model_was_not_trained_with_are_refused(trained_with, tmp_path):
    forecaster = trained_with({"past": ["visits"], "categories": {"promo": ["none", "flyer", "window"]}})
    assert shop_request(forecaster, tmp_path).future is not None
    with pytest.raises(UserError, match="promo .*balloon"):
        shop_request(forecaster, tmp_path, promo="balloon")


def test_covariates_of_the_training_that_the_data_lack_are_warned_about(trained_with, tmp_path, caplog):
    shop_request(trained_with({"past": ["visits", "weather"], "known": ["holiday"]}), tmp_path)
    (warning,) = logged(caplog)
    assert "weather, holiday" in warning and "visits" not in warning
