import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from chronos import BaseChronosPipeline
from support.series import long_frame

from pipeline.config import Config, InferenceConfig
from pipeline.core.errors import UserError
from pipeline.data.arrow_store import store_from_arrays
from pipeline.data.source import open_source
from pipeline.forecasting.files import Request, forecast_store, write_predictions
from pipeline.forecasting.forecaster import Forecaster, at_levels
from pipeline.load_model import ChronosLoader

LEVELS = [0.1, 0.5, 0.9]
NAN = np.nan


def table(forecaster, store, **settings):
    settings = {"prediction_length": 12, "levels": LEVELS, **settings}
    tables = forecast_store(forecaster, store, Request(**settings))
    return pd.concat([part.to_pandas() for part in tables], ignore_index=True)


@pytest.mark.parametrize("family", ["bolt", "chronos-2"])
@pytest.mark.parametrize("freq", ["h", "D", "MS", "W-WED", "B"])
def test_predictions_are_those_of_stock_predict_df(uncrossed, tmp_path, family, freq):
    frame = long_frame(n_series=5, freq=freq)
    frame = frame[frame.groupby("item_id").cumcount() >= 15 * frame["item_id"].str[-1].astype(int)]
    stock = BaseChronosPipeline.from_pretrained(uncrossed[family])
    expected = stock.predict_df(frame, prediction_length=12, quantile_levels=LEVELS, freq=freq).reset_index(drop=True)
    ours = table(Forecaster(stock), open_source(frame, tmp_path), batch_size=2)
    assert list(ours.columns) == list(expected.columns)
    assert (ours["item_id"] == expected["item_id"]).all()
    assert (ours["timestamp"].astype("M8[ns]") == expected["timestamp"].astype("M8[ns]")).all()
    for column in ("predictions", "0.1", "0.5", "0.9"):
        np.testing.assert_allclose(ours[column], expected[column].astype(float), rtol=1e-4, atol=1e-4)


def test_levels_between_the_trained_ones_are_those_of_stock(uncrossed):
    stock = BaseChronosPipeline.from_pretrained(uncrossed["bolt"])
    context = np.sin(np.arange(60) / 3).astype(np.float32)
    levels = [0.1, 0.15, 0.5, 0.72, 0.9]
    expected, _ = stock.predict_quantiles([torch.from_numpy(context)], prediction_length=8, quantile_levels=levels)
    quantiles, _ = Forecaster(stock).quantiles([context], 8, levels)
    np.testing.assert_allclose(quantiles, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_interpolation_between_levels_is_linear():
    values = np.array([[1.0, 2.0, 4.0]], dtype=np.float32)
    levels = np.array([0.1, 0.3, 0.5, 0.6, 0.9])
    expected = np.interp(levels, [0.1, 0.5, 0.9], values[0])
    np.testing.assert_allclose(at_levels(values, np.array([0.1, 0.5, 0.9]), levels)[0], expected, rtol=1e-6)


def test_levels_outside_the_trained_ones_are_those_of_a_normal_distribution():
    trained = np.arange(0.1, 0.95, 0.1)
    normal = scipy.stats.norm(loc=3, scale=2)
    levels = np.array([0.001, 0.05, 0.1, 0.5, 0.95, 0.999])
    found = at_levels(normal.ppf(trained)[None].astype(np.float32), trained, levels)
    np.testing.assert_allclose(found[0], normal.ppf(levels), rtol=1e-5)
    skewed = scipy.stats.gamma(2).ppf(trained)[None].astype(np.float32)
    assert (np.diff(at_levels(skewed, trained, np.linspace(0.001, 0.999, 99))) > 0).all()
    np.testing.assert_array_equal(at_levels(np.array([[7.0]]), np.array([0.5]), levels), np.full((1, 6), 7.0))


@pytest.mark.parametrize("family", ["bolt", "chronos-2"])
def test_very_large_small_short_and_broken_off_series_are_forecast(nano, family):
    rng = np.random.default_rng(0)
    shape = rng.normal(10, 1, 60)
    series = [shape * 1e12, shape * 1e-12, shape[:3], np.append(shape, [NAN] * 5), shape[:1]]
    forecaster = Forecaster.load(str(nano[family]))
    alone = [forecaster.quantiles([one.astype(np.float32)], 12, LEVELS)[0][0] for one in series]
    together = forecaster.quantiles([one.astype(np.float32) for one in series], 12, LEVELS)[0]
    assert np.isfinite(together).all() and (np.diff(together, axis=2) >= 0).all()
    for one, other in zip(alone, together):
        np.testing.assert_allclose(one, other, rtol=1e-4)


@pytest.mark.parametrize("family", ["bolt", "t5", "gpt2", "chronos-2"])
def test_a_horizon_beyond_the_models_is_forecast(nano, family):
    forecaster = Forecaster.load(str(nano[family]))
    length = 150 if family == "bolt" else 70 if family != "chronos-2" else 1030
    quantiles, point = forecaster.quantiles([np.sin(np.arange(64.0))], length, LEVELS)
    assert quantiles.shape == (1, length, 3) and point.shape == (1, length)
    assert np.isfinite(quantiles).all() and (np.diff(quantiles, axis=2) >= 0).all()


@pytest.mark.parametrize("family", ["bolt", "t5", "gpt2", "chronos-2"])
def test_odd_series_are_answered_each_in_its_row(nano, family):
    contexts = [
        np.sin(np.arange(50.0)),
        np.full(30, 7.5),
        np.array([]),
        np.full(5, NAN),
        np.array([3.0]),
        np.append(np.sin(np.arange(40.0)), [NAN, NAN]),
        np.sin(np.arange(40.0)) * 1e12,
        np.sin(np.arange(40.0)) * 1e-12,
        np.array([1.0, NAN, 2.0]),
    ]
    forecaster = Forecaster.load(str(nano[family]))
    quantiles, point = forecaster.quantiles(contexts, 6, LEVELS)
    assert (quantiles[1] == 7.5).all() and (point[1] == 7.5).all() and (quantiles[4] == 3.0).all()
    assert np.isnan(quantiles[[2, 3]]).all() and np.isnan(point[[2, 3]]).all()
    assert np.isfinite(quantiles[[0, 5, 6, 7, 8]]).all()
    assert (np.diff(quantiles[[0, 5, 6, 7, 8]], axis=2) >= 0).all()
    assert 1e10 < np.abs(quantiles[6]).max() < 1e14 and np.abs(quantiles[7]).max() < 1e-10


@pytest.mark.parametrize("family", ["bolt", "t5"])
def test_a_gap_as_long_as_the_context_is_bridged_by_the_last_known_value(nano, family):
    forecaster = Forecaster.load(str(nano[family]))
    series = 1000 + np.sin(np.arange(80.0))
    for gap in (forecaster.context_length, forecaster.context_length + 9):
        quantiles, point = forecaster.quantiles([np.append(series, np.full(gap, NAN))], 4, LEVELS)
        assert (quantiles == np.float32(series[-1])).all() and (point == np.float32(series[-1])).all()


@pytest.mark.parametrize("levels", [[0.9, 0.1, 0.5], [0.99, 0.01]])
@pytest.mark.parametrize("family", ["bolt", "t5"])
def test_levels_come_in_the_order_asked_for(nano, family, levels):
    quantiles, _ = Forecaster.load(str(nano[family])).quantiles([np.sin(np.arange(50.0))], 4, levels)
    ascending, _ = Forecaster.load(str(nano[family])).quantiles([np.sin(np.arange(50.0))], 4, sorted(levels))
    np.testing.assert_array_equal(quantiles, ascending[:, :, np.argsort(np.argsort(levels))])


def test_sampled_forecasts_follow_from_the_seed_and_leave_the_global_generator_alone(nano):
    contexts = [np.sin(np.arange(50.0))]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, again, other = (
        Forecaster.load(str(nano["t5"]), seed=seed).quantiles(contexts, 4, LEVELS)[0] for seed in (0, 0, 1)
    )
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert torch.equal(before, torch.get_rng_state())


def test_a_shorter_context_is_what_the_model_sees(nano):
    forecaster = Forecaster.load(str(nano["bolt"]))
    series = np.random.default_rng(0).normal(size=100).astype(np.float32)
    seen = table(forecaster, store_from_arrays([series]), context_length=32)
    np.testing.assert_allclose(seen["0.5"], forecaster.quantiles([series[-32:]], 12, [0.5])[0].ravel(), rtol=1e-5)


def test_series_without_timestamps_count_their_steps(nano):
    forecaster = Forecaster.load(str(nano["bolt"]))
    stamps = table(forecaster, store_from_arrays([np.sin(np.arange(30)), np.sin(np.arange(10))]))["timestamp"]
    assert stamps.tolist() == [*range(30, 42), *range(10, 22)]


@pytest.mark.parametrize("suffix, read", [
    (".parquet", pd.read_parquet),
    (".csv", pd.read_csv),
    (".jsonl", lambda path: pd.read_json(path, lines=True)),
])  # fmt: skip
def test_every_output_format_holds_the_same_numbers(nano, tmp_path, suffix, read):
    forecaster = Forecaster.load(str(nano["bolt"]))
    store = open_source(long_frame(n_series=3), tmp_path)
    tables = list(forecast_store(forecaster, store, Request(5, LEVELS, batch_size=1)))
    path = tmp_path / f"p{suffix}"
    assert write_predictions(path, tables) == 15
    frame = read(path)
    assert list(frame.columns) == ["item_id", "timestamp", "target_name", "predictions", "0.1", "0.5", "0.9"]
    expected = pd.concat([part.to_pandas() for part in tables])
    np.testing.assert_allclose(frame["0.9"], expected["0.9"], rtol=1e-6)
    assert (pd.to_datetime(frame["timestamp"]).to_numpy() == expected["timestamp"].to_numpy().astype("M8[ns]")).all()


def test_a_table_that_breaks_off_leaves_no_file(tmp_path, nano):
    def tables():
        store = store_from_arrays([np.arange(9.0)])
        yield from forecast_store(Forecaster.load(str(nano["bolt"])), store, Request(2, [0.5]))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_predictions(tmp_path / "p.parquet", tables())
    assert list(tmp_path.iterdir()) == []


def test_the_loader_forecasts_scores_and_saves(nano, tmp_path, monkeypatch):
    loader = ChronosLoader(str(nano["bolt"]))
    with pytest.raises(UserError, match="load_trained_model"):
        loader.predict(np.zeros((2, 30)))
    loader.load_trained_model()
    data = np.sin(np.arange(120) / 4) + np.arange(3)[:, None]
    predictions = loader.predict(data, prediction_length=10)
    assert predictions.shape == (3, 10, 3) and predictions.dtype == np.float32
    np.testing.assert_allclose(loader.predict(data[0], 10)[0], predictions[0], rtol=1e-4)
    scores = loader.evaluate_on_test_data(data)
    assert {"MASE", "WQL", "coverage_80"} <= scores.keys() and scores["windows"] == 3
    asked, sizes = Forecaster.quantiles, []
    monkeypatch.setattr(Forecaster, "quantiles", lambda *given: (sizes.append(len(given[1])), asked(*given))[1])
    loader.config = Config(inference=InferenceConfig(context_length=12, batch_size=2))
    of_few = loader.evaluate_on_test_data(data)
    assert sizes == [2, 1]
    loader.config = Config(inference=InferenceConfig(context_length=10**6))
    assert loader.evaluate_on_test_data(data)["WQL"] == pytest.approx(scores["WQL"])
    loader.config = Config()
    of_the_few = loader.evaluate_on_test_data(data[:, -12 - 48 :])
    assert of_few["WQL"] == pytest.approx(of_the_few["WQL"]) and abs(of_few["WQL"] / scores["WQL"] - 1) > 0.01
    loader.save_predictions(predictions, str(tmp_path / "folder"))
    saved = pd.read_parquet(tmp_path / "folder" / "predictions.parquet")
    np.testing.assert_array_equal(saved["0.9"].to_numpy().reshape(3, 10), predictions[:, :, 2])


def test_forecast_script_writes_real_future_timestamps_and_a_picture(nano, tmp_path, csv, run_script):
    arguments = [
        "--inference.model_path",
        nano["bolt"],
        "--inference.data_path",
        csv,
        "--inference.prediction_length",
        7,
    ]
    code, out, err = run_script(
        "forecast", *arguments, "--inference.plot_path", "p.png", "--inference.output_path", "f.csv"
    )
    assert (code, err) == (0, "")
    frame = pd.read_csv(tmp_path / "f.csv", parse_dates=["timestamp"])
    last = pd.read_csv(csv, parse_dates=["timestamp"]).groupby("item_id")["timestamp"].max()
    first = frame.groupby("item_id")["timestamp"].min()
    assert ((first - last) == pd.Timedelta(days=1)).all() and len(frame) == 42
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG") and "f.csv" in out


def test_a_broken_series_among_good_ones_is_forecast_as_missing_and_named(nano, tmp_path, run_script):
    frame = long_frame(n_series=2)
    frame = pd.concat([frame, frame[frame["item_id"] == "item0"].assign(item_id="silent", target=NAN)])
    frame.to_parquet(tmp_path / "s.parquet")
    arguments = [
        "--inference.model_path",
        nano["bolt"],
        "--inference.data_path",
        "s.parquet",
        "--inference.prediction_length",
        3,
    ]
    code, out, _ = run_script("forecast", *arguments, "--inference.output_path", "f.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert code == 0 and "silent" in out
    assert all((row["predictions"] is None) == (row["item_id"] == "silent") for row in rows) and len(rows) == 9
