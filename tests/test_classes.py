"""The three classes have the signatures of the user's design, and run the whole flow."""

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chronos import BaseChronosPipeline
from support.series import long_frame

from pipeline.base_model import ChronosBaseModel
from pipeline.config import Config, DataConfig, InferenceConfig, PathsConfig
from pipeline.core.errors import UserError
from pipeline.data.source import columns_from_config, open_source
from pipeline.load_model import ChronosLoader
from pipeline.train_model import ChronosTrainer

SIGNATURES = {
    ChronosBaseModel: {
        "__init__": {"model_name": "amazon/chronos-bolt-base"},
        "load_from_huggingface": {},
        "convert_to_native_format": {},
        "save_base_model": {"output_path": inspect.Parameter.empty},
        "get_model_info": {},
    },
    ChronosTrainer: {
        "__init__": {"base_model_path": inspect.Parameter.empty},
        "generate_dummy_data": {"n_samples": 1000},
        "prepare_training_data": {"data": inspect.Parameter.empty},
        "train_model": {"train_data": inspect.Parameter.empty, "epochs": 10},
        "save_trained_model": {"output_path": inspect.Parameter.empty},
        "evaluate_model": {"test_data": inspect.Parameter.empty},
    },
    ChronosLoader: {
        "__init__": {"model_path": inspect.Parameter.empty},
        "load_trained_model": {},
        "predict": {"context": inspect.Parameter.empty, "prediction_length": 48},
        "evaluate_on_test_data": {"test_data": inspect.Parameter.empty},
        "save_predictions": {"predictions": inspect.Parameter.empty, "output_path": inspect.Parameter.empty},
    },
}


@pytest.mark.parametrize("kind, method", [(kind, method) for kind, methods in SIGNATURES.items() for method in methods])
def test_signatures(kind, method):
    """Parameters beyond those of the design are keyword-only and have defaults."""
    _, *parameters = inspect.signature(getattr(kind, method)).parameters.values()
    extra = [parameter for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
    assert {p.name: p.default for p in parameters if p not in extra} == SIGNATURES[kind][method]
    assert all(parameter.default is not inspect.Parameter.empty for parameter in extra)


def test_the_classes_run_the_whole_flow_on_arrays(tmp_path):
    base = ChronosBaseModel("scratch:bolt-nano")
    base.load_from_huggingface()
    base.convert_to_native_format()
    base.save_base_model(str(tmp_path / "base"))
    assert base.get_model_info()["family"] == "bolt"

    trainer = ChronosTrainer(str(tmp_path / "base"))
    trainer.config = replace(
        Config(), training=replace(Config().training, batch_size=16, context_length=64, metric="wql")
    )
    data = trainer.generate_dummy_data(n_samples=12)
    assert data.shape == (12, 200) and data.dtype == np.float32
    prepared = trainer.prepare_training_data(data)
    assert isinstance(prepared, tuple)
    before = trainer.evaluate_model(prepared)
    trainer.train_model(prepared, epochs=1)
    after = trainer.evaluate_model(prepared)
    assert after["WQL"] <= before["WQL"]
    trainer.save_trained_model(str(tmp_path / "trained"))
    assert {"MASE", "WQL", "coverage_80"} <= trainer.evaluate_model((data[:, :150], data[:, 150:170])).keys()

    loader = ChronosLoader(str(tmp_path / "trained"))
    loader.load_trained_model()
    predictions = loader.predict(data[:, :150])
    assert predictions.shape == (12, 48, 3)
    assert np.isfinite(loader.evaluate_on_test_data(data)["WQL"])
    loader.save_predictions(predictions, str(tmp_path / "p.csv"))
    assert BaseChronosPipeline.from_pretrained(tmp_path / "trained").model_prediction_length == 64


def test_a_method_called_too_early_names_the_one_to_call_first(nano, tmp_path):
    with pytest.raises(UserError, match="load_from_huggingface"):
        ChronosBaseModel().save_base_model(str(tmp_path / "x"))
    with pytest.raises(UserError, match="train_model"):
        ChronosTrainer(str(nano["bolt"])).save_trained_model(str(tmp_path / "x"))


@pytest.mark.parametrize("data", [None, (np.zeros((3, 90)), None)])
def test_training_without_windows_names_the_method_that_makes_them(nano, data):
    with pytest.raises(UserError, match="prepare_training_data"):
        ChronosTrainer(str(nano["bolt"])).train_model(data)


def test_a_table_is_trained_on_and_its_store_is_forecast(nano, tmp_path):
    frame = long_frame(n_series=4, length=90).rename(columns={"target": "sold"})
    trainer = ChronosTrainer(str(nano["bolt"]))
    paths, data = replace(Config().paths, data_dir=str(tmp_path)), replace(Config().data, target="sold")
    trainer.config = replace(Config(), paths=paths, data=data)
    training, _ = trainer.prepare_training_data(frame)
    assert training.samplers[0].n_series == 4
    loader = ChronosLoader(str(nano["bolt"]))
    loader.load_trained_model()
    store = open_source(frame[7:], tmp_path / "cache", columns_from_config(trainer.config))  # the first is shorter
    found = loader.predict(store, prediction_length=5)
    assert found.shape == (4, 5, 3)
    for index in range(4):
        np.testing.assert_allclose(found[index], loader.predict(store.target(index), 5)[0], rtol=1e-4)
    refused: list[tuple[Any, str]] = [(frame, "predict_df"), ([[1.0, 2.0], [3.0]], "length"), ("s.csv", "s.csv")]
    for context, fact in refused:
        with pytest.raises(UserError, match=fact):
            loader.predict(context)


def test_a_frame_is_forecast_as_stock_chronos_forecasts_it(uncrossed, tmp_path):
    frame = long_frame(n_series=3).rename(columns={"target": "sold"})
    loader = ChronosLoader(str(uncrossed["bolt"]))
    loader.config = replace(Config(), data=DataConfig(target="sold"), paths=PathsConfig(str(tmp_path)))
    with pytest.raises(UserError, match="load_trained_model"):
        loader.predict_df(frame, 5)
    loader.load_trained_model()
    stock = BaseChronosPipeline.from_pretrained(uncrossed["bolt"])
    expected = stock.predict_df(frame, prediction_length=5, target="sold", quantile_levels=[0.1, 0.5, 0.9])
    found = loader.predict_df(frame.sample(frac=1, random_state=0).sort_values("item_id", kind="stable"), 5)
    assert list(found.columns) == list(expected.columns)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-4)
    for length in (0, -3):
        with pytest.raises(UserError, match="horizon"):
            loader.predict_df(frame, length)
    loader.config = replace(Config(), data=DataConfig(target=["sold", "left"]))
    store = open_source(frame.rename(columns={"sold": "target"}), tmp_path)
    with pytest.raises(UserError, match="store of target.*sold, left"):
        loader.predict_df(store, 5)
    loader.config = Config()
    assert set(loader.predict_df(store, 5)["target_name"]) == {"target"}
    with pytest.raises(UserError, match="predict"):
        loader.predict_df(np.zeros((2, 30)))


@pytest.mark.parametrize("data", ["s.csv", [], [np.zeros(50)], np.zeros(50), pd.Series(np.zeros(50)), {"A": [1.0]}])
def test_data_that_are_no_series_are_refused(nano, data):
    with pytest.raises(UserError):
        ChronosTrainer(str(nano["bolt"])).prepare_training_data(data)


def test_test_data_come_as_an_array_a_frame_or_a_store(nano, tmp_path):
    frame = long_frame(n_series=3)
    loader = ChronosLoader(str(nano["bolt"]))
    loader.config = replace(Config(), inference=InferenceConfig(prediction_length=4), paths=PathsConfig(str(tmp_path)))
    loader.load_trained_model()
    store = open_source(frame, tmp_path / "cache")
    of_frame, of_store = loader.evaluate_on_test_data(frame), loader.evaluate_on_test_data(store)
    assert of_frame == of_store
    loader.config = replace(loader.config, data=DataConfig(freq=store.freq))
    of_array = loader.evaluate_on_test_data(np.stack([store.target(index) for index in range(3)]))
    np.testing.assert_allclose(of_array["MASE"], of_store["MASE"])


def test_forecasts_see_the_configured_context(nano):
    loader = ChronosLoader(str(nano["bolt"]))
    loader.config = replace(Config(), inference=InferenceConfig(context_length=20))
    loader.load_trained_model()
    series = np.random.default_rng(0).normal(size=(2, 60)).cumsum(axis=1)
    np.testing.assert_allclose(loader.predict(series, 4), loader.predict(series[:, -20:], 4))
    store = open_source(series, "")
    np.testing.assert_allclose(loader.predict(store, 4), loader.predict(series, 4))


def test_a_table_of_forecasts_needs_the_median(nano, tmp_path):
    loader = ChronosLoader(str(nano["bolt"]))
    loader.config = replace(Config(), inference=InferenceConfig(quantiles=[0.1, 0.9]))
    with pytest.raises(UserError, match="inference.quantiles .*0.5"):
        loader.save_predictions(np.zeros((1, 4, 2)), str(tmp_path / "p.csv"))
