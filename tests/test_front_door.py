"""`fine_tune` and `load`: a table with the user's own columns in, forecasts under the same names out."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.series import long_frame

import pipeline
from pipeline import fine_tune, load
from pipeline.config import Config, DataConfig, GeneralConfig, TrainingConfig
from pipeline.core.errors import UserError
from pipeline.data.arrow_store import store_from_arrays
from pipeline.front_door import _settings

COLUMNS: dict[str, Any] = {"target": "sales", "id_column": "store", "timestamp_column": "day"}
FAST: dict[str, Any] = {
    "max_steps": 2,
    "context_length": 32,
    "batch_size": 8,
    "validation_windows": 6,
    "seed": 3,
}


@pytest.fixture(scope="module")
def sales():
    names = {"item_id": "store", "timestamp": "day", "target": "sales"}
    frame = long_frame(n_series=4, length=80).rename(columns=names)
    return frame.assign(store="0" + frame["store"].str[-1])


@pytest.fixture(scope="module")
def model(sales, tmp_path_factory):
    """A model of horizon 6, trained in an empty folder."""
    folder = tmp_path_factory.mktemp("front_door")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        trained = fine_tune(sales, 6, base="scratch:bolt-nano", output_path="models/sales", **COLUMNS, **FAST)
        assert sorted(path.name for path in folder.iterdir()) == ["data", "models"]  # data/ has the base
        assert [path.name for path in (folder / "data").iterdir()] == ["models"]
    trained.model_path = str(folder / "models/sales")
    return trained


def test_a_forecast_has_the_columns_and_the_horizon_of_the_training(model, sales):
    forecast = model.predict_df(sales)
    assert list(forecast) == ["store", "day", "target_name", "predictions", "0.1", "0.5", "0.9"]
    assert set(forecast["store"]) == {"00", "01", "02", "03"} and set(forecast["target_name"]) == {"sales"}
    ahead = pd.date_range(sales["day"].max(), periods=7, freq="D")[1:]
    assert forecast.loc[forecast["store"] == "02", "day"].tolist() == ahead.tolist()


def test_a_saved_model_remembers_columns_and_horizon(model, sales):
    loaded = load(model.model_path)
    assert loaded.horizon == 6
    pd.testing.assert_frame_equal(loaded.predict_df(sales), model.predict_df(sales))
    for levels in ([0.3], 0.3):
        assert list(loaded.predict_df(sales, horizon=2, quantiles=levels))[4:] == ["0.3"]
    assert set(loaded.predict_df(sales, horizon=2).groupby("store").size()) == {2}


def test_the_shell_remembers_them_too(model, sales, run_script, tmp_path):
    sales.to_csv("new.csv", index=False)
    code, _, err = run_script("forecast", "new.csv", "--model", model.model_path, "--output", "f.parquet")
    assert code == 0, err
    expected = model.predict_df(sales)
    pd.testing.assert_frame_equal(pd.read_parquet("f.parquet"), expected, check_dtype=False, rtol=1e-4)
    sales.rename(columns={"sales": "sold"}).to_csv("renamed.csv", index=False)
    arguments = ("renamed.csv", "--model", model.model_path, "--target", "sold", "--horizon", 3, "--output", "g.csv")
    assert run_script("forecast", *arguments)[0] == 0
    assert set(pd.read_csv("g.csv", dtype={"store": str}).groupby("store").size()) == {3}


def test_the_report_has_the_scores_as_values(model):
    report = model.report
    assert (report.base, report.horizon, report.steps) == ("scratch:bolt-nano", 6, 2)
    assert "base" in report.scores and set(report.scores["base"]) == {"WQL", "MASE", "loss"}
    assert str(report) == report.verdict
    with pytest.raises(UserError, match="builtin:bolt-synth"):
        load("builtin:bolt-synth").report


def test_evaluate_scores_the_model_beside_its_base_on_steps_that_it_has_not_seen(model, sales, caplog, monkeypatch):
    monkeypatch.chdir(model.model_path + "/../..")  # where the base is
    scores = model.evaluate(sales)
    assert list(scores.index) == ["seasonal naive", "base", "fine-tuned"]
    assert scores["series"].tolist() == scores["windows"].tolist() == [4, 4, 4]
    # The last season of 7 days repeated, and MASE by its definition.
    errors = []
    for _, series in sales.groupby("store"):
        values = series["sales"].to_numpy(np.float32).astype(float)
        past, future = values[:-6], values[-6:]
        scale = np.abs(past[7:] - past[:-7]).mean()
        errors.append(np.abs(future - past[-7:][:6]).mean() / scale)
    assert scores.loc["seasonal naive", "MASE"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    model.evaluate(sales, windows=3)
    assert "cannot be scored" not in caplog.text
    model.evaluate(sales, windows=30)
    assert "windows cannot be scored" in caplog.text
    assert "8 of 12 windows" in caplog.text and "test_length 18" in caplog.text.replace("data.", "")


def test_a_plot_has_a_panel_for_each_series(model, sales):
    assert len(model.plot(sales).axes) == 4


def test_a_table_of_any_library_is_forecast_alike(model, sales, tmp_path):
    import polars
    import pyarrow

    expected = model.predict_df(sales)
    sales.to_parquet(tmp_path / "sales.parquet")
    for table in (polars.from_pandas(sales), pyarrow.table(sales)):
        pd.testing.assert_frame_equal(model.predict_df(table), expected)


def test_the_frequency_of_the_training_serves_a_table_that_is_too_short_to_infer_it(model, sales, caplog):
    short = sales.groupby("store").tail(2)
    forecast = model.predict_df(short)
    assert forecast["day"].min() == sales["day"].max() + pd.Timedelta(days=1)
    assert set(forecast.groupby("store")["day"].diff().dropna()) == {pd.Timedelta(days=1)}
    caplog.clear()
    model.predict_df(sales[sales["day"].dt.dayofweek == 0])
    assert "'W-MON'" in caplog.text or "'7D'" in caplog.text


def test_eight_threads_forecast_as_one_does(model, sales):
    tables = [sales[sales["store"] == store] for store in sales["store"].unique()] * 8
    expected = [model.predict_df(table, horizon=70) for table in tables[:4]]  # beyond the model's horizon of 64
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda table: model.predict_df(table, horizon=70), tables))
    for number, forecast in enumerate(found):
        pd.testing.assert_frame_equal(forecast, expected[number % 4])


@pytest.mark.parametrize("arguments, facts", [
    ({"horizon": 0}, ["horizon"]),
    ({"targt": "sales"}, ["'targt'", "'target'"]),
    ({"target": "sold"}, ["'sold'", "target"]),
    ({"method": "half"}, ["method"]),
    ({"base": "builtin:none"}, ["builtin:none"]),
    ({"time_limit": -1}, ["time_limit"]),
    ({"max_steps": "ten"}, ["max_steps", "whole number", "ten"]),
    ({"config": "nowhere.yaml"}, ["nowhere.yaml"]),
    ({"output_path": ""}, ["output_path", "empty"]),
    ({"base": ""}, ["base", "empty"]),
])  # fmt: skip
def test_an_error_is_one_line_that_names_the_argument(sales, tmp_path, monkeypatch, arguments, facts):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        fine_tune(sales, **{"horizon": 6, **COLUMNS, **FAST, "base": "scratch:bolt-nano", **arguments})
    assert all(fact in str(refused.value) for fact in facts), refused.value
    assert "\n" not in str(refused.value) and "training." not in str(refused.value)
    assert refused.value.__cause__ is None and refused.value.__context__ is None


def test_arguments_take_precedence_over_a_configuration(tmp_path):
    (tmp_path / "c.yaml").write_text("inference: {prediction_length: 48}\ntraining: {batch_size: 4, max_steps: 7}")
    from_python = Config(training=TrainingConfig(batch_size=4, max_steps=7, prediction_length=9))
    for config in (tmp_path / "c.yaml", from_python):
        settings = _settings(config, {"horizon": 6, "max_steps": 5, "target": "a,b", "past_covariates": ("x", "y")})
        training = settings.training
        assert (training.batch_size, training.max_steps, training.prediction_length) == (4, 5, 6)
        assert settings.inference.prediction_length == settings.test_length() == 6
        assert settings.data.variates().names == ("a,b", "x", "y")
    assert _settings(from_python, {"horizon": 6, "test_length": 0}).test_length() == 0
    everything = Config(data=DataConfig(test_length=0))
    assert _settings(everything, {"horizon": 6}).test_length() == 0


@pytest.mark.parametrize("options, facts", [
    ({"known_covariates": ["promo"]}, ["known_covariates|covariates"]),
    ({"group_column": "region"}, ["group_column"]),
])  # fmt: skip
def test_columns_are_not_named_for_data_without_them(options, facts):
    values = np.random.default_rng(0).normal(size=(3, 60))
    for data in (values, store_from_arrays(values)):
        with pytest.raises(UserError, match=facts[0]):
            fine_tune(data, 6, base="scratch:chronos-2-nano", **FAST, **options)


def test_values_of_numpy_and_pandas_are_arguments():
    columns = pd.Index(["price", "promo"])
    arguments = {"horizon": np.int64(7), "max_steps": np.int64(5), "known_covariates": columns, "target": "a"}
    settings = _settings(None, arguments)
    assert (settings.horizon, settings.training.max_steps) == (7, 5)
    assert settings.data.known_covariates == ["price", "promo"]


def test_the_returned_model_has_the_settings_of_the_configuration(sales, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(
        "inference: {quantiles: [0.05, 0.5], context_length: 24, non_negative: true}\n"
        "chronos: {seed: 7}\npaths: {data_dir: elsewhere}"
    )
    arguments = {key: value for key, value in FAST.items() if key != "seed"}
    model = fine_tune(sales, 6, config="c.yaml", base="scratch:bolt-nano", **COLUMNS, **arguments)
    assert list(model.predict_df(sales))[3:] == ["predictions", "0.05", "0.5"]
    assert (model.config.inference.context_length, model.config.inference.non_negative) == (24, True)
    assert (model.config.chronos.seed, model.config.paths.data_dir, model.horizon) == (7, "elsewhere", 6)


def test_the_device_of_a_configuration_is_kept(tiny):
    config = Config(chronos=GeneralConfig(device="auto"))
    assert load(tiny["bolt"], config=config).config.chronos.device == "auto"
    assert load(tiny["bolt"], config=config, device="cpu").config.chronos.device == "cpu"


@pytest.mark.parametrize("call, facts", [
    (lambda model, sales: model.evaluate(sales, horizon=0), "horizon.*at least 1"),
    (lambda model, sales: model.evaluate(sales, windows=0), "windows.*at least 1"),
    (lambda model, sales: model.evaluate(sales, windows=1.5), "windows.*integer"),
    (lambda model, sales: model.predict_df(sales, horizon="six"), "horizon.*integer"),
    (lambda model, sales: model.predict_df(sales, quantiles="half"), "quantiles.*number"),
    (lambda model, sales: model.flag(sales, level="high"), "flag_level.*number"),
    (lambda model, sales: model.predict(np.empty((0, 10)), 2), "shape"),
    (lambda model, sales: model.predict(np.ones((1, 10)), 2.5), "integer"),
    (lambda model, sales: Config(horizon="7"), "horizon.*whole number"),  # type: ignore[arg-type]
])  # fmt: skip
def test_an_argument_of_a_wrong_type_is_named(model, sales, call, facts):
    with pytest.raises(UserError, match=facts):
        call(model, sales)


def test_levels_outside_the_trained_ones_are_reported(model, sales, caplog):
    model.predict_df(sales, quantiles=[0.01, 0.99])
    assert any("0.01, 0.99" in message and "extrapolated" in message for message in caplog.messages)


def test_embeddings_do_not_replace_their_data(model, sales, tmp_path):
    sales.to_parquet(tmp_path / "sales.parquet")
    before = (tmp_path / "sales.parquet").read_bytes()
    with pytest.raises(UserError, match="output_path"):
        model.embed(str(tmp_path / "sales.parquet"), output_path=str(tmp_path / "sales.parquet"))
    assert (tmp_path / "sales.parquet").read_bytes() == before


def test_a_file_named_like_a_key_keeps_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no such file or folder: data\.target\.csv"):
        pipeline.open_source("data.target.csv")


def test_the_public_names_are_there():
    assert len(pipeline.__all__) <= 10
    assert all(getattr(pipeline, name) is not None for name in pipeline.__all__)
