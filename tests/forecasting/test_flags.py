"""Anomaly flags: scores beside a plain loop, their coverage, and the command."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.special import ndtri
from support.series import long_frame
from support.shops import open_shops, shops

from pipeline.config import Config, InferenceConfig
from pipeline.core.errors import UserError
from pipeline.core.metrics import WQL_LEVELS
from pipeline.data.arrow_store import store_from_arrays
from pipeline.forecasting.flags import MAX_SCORE, anomaly_scores, drawn_flags, flag_part, make_flag_request
from pipeline.forecasting.forecaster import Forecaster
from pipeline.forecasting.tables import split_parts
from pipeline.load_model import ChronosLoader

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def builtin():
    return Forecaster.load("builtin:bolt-synth")


def flags(forecaster, store, horizon, windows=1, level=0.99, **inference):
    config = Config(inference=InferenceConfig(flag_windows=windows, flag_level=level, **inference))
    request = make_flag_request(config, forecaster, store, horizon)
    return flag_part(forecaster, store, range(len(store)), request).to_pandas()


def test_a_spike_is_the_only_anomaly_and_a_missing_value_is_none(builtin):
    time = np.arange(400)
    values = 100 + 30 * np.sin(2 * np.pi * time / 24) + np.random.default_rng(1).normal(0, 3, 400)
    values[370] += 120
    values[380] = np.nan
    table = flags(builtin, store_from_arrays([values], "h"), 24, windows=2)
    assert np.flatnonzero(table["is_anomaly"]).tolist() == [370 - (400 - 48)]
    assert np.isnan(table["score"][380 - 352]) and table["score"].drop(380 - 352).notna().all()


def test_flags_are_those_of_a_plain_loop(builtin):
    """Two windows of series of several lengths, one of them too short for the second, one for both."""
    arrays = [RNG.normal(10, 3, length) for length in (60, 18, 8, 300)]
    table = flags(builtin, store_from_arrays(arrays, "D"), 8, windows=2, level=0.5, batch_size=2)
    expected: list[tuple[Any, ...]] = []
    for number, values in enumerate(array.astype(np.float32) for array in arrays):
        for start in range(len(values) - 16, len(values), 8):
            if start > 0:
                lower, median, upper = builtin.quantiles([values[:start]], 8, [0.25, 0.5, 0.75])[0][0].T
                for step, actual in enumerate(values[start : start + 8]):
                    end = lower[step] if actual < median[step] else upper[step]
                    score = abs(float(actual) - median[step]) / abs(float(end) - median[step])
                    date = np.datetime64("1970-01-01") + start + step
                    outside = not lower[step] <= actual <= upper[step]
                    expected.append((str(number), date, actual, median[step], lower[step], upper[step], score, outside))
    assert table["item_id"].tolist() == [row[0] for row in expected] == 16 * ["0"] + 16 * ["1"] + 16 * ["3"]
    assert (table["timestamp"].to_numpy("M8[D]") == [row[1] for row in expected]).all()
    for position, name in enumerate(("actual", "predictions", "lower", "upper", "score"), start=2):
        np.testing.assert_allclose(table[name], [row[position] for row in expected], rtol=1e-4)
    assert table["is_anomaly"].tolist() == [row[-1] for row in expected] and 0 < table["is_anomaly"].mean() < 1


def test_scores_are_finite_and_monotone():
    lower, median, upper = np.full((3, 6), [[0.0], [4.0], [5.0]])
    scores = anomaly_scores(np.array([4, 5, 6, 0, -4, np.nan]), lower, median, upper)
    np.testing.assert_array_equal(scores, [0, 1, 2, 1, 2, np.nan])
    np.testing.assert_array_equal(anomaly_scores(np.array([4.0, 5, 1e38]), *np.full((3, 3), 4.0)), [0, 1e6, 1e6])
    assert MAX_SCORE == 1e6


@pytest.mark.parametrize("level", [0.8, 0.99])
def test_the_share_outside_the_interval_of_calibrated_forecasts_is_that_of_the_level(monkeypatch, builtin, level):
    """The quantiles are those of the noise at the trained levels; others are extrapolated."""
    store = store_from_arrays(np.random.default_rng(1).normal(50, 3, (250, 100)), "D")
    trained = 50 + 3 * ndtri(np.array(builtin.trained_levels))
    exact = Forecaster(builtin.pipeline)
    monkeypatch.setattr(exact, "_predict", lambda contexts, length: _tensor(trained, len(contexts), length))
    outside = flags(exact, store, 40, windows=2, level=level)["is_anomaly"]
    assert len(outside) == 20_000 and outside.mean() == pytest.approx(1 - level, rel=0.15)


def _tensor(quantiles, n, length):
    import torch

    return torch.tensor(np.tile(quantiles[None, :, None], (n, 1, length)))


def test_the_interval_of_a_token_model_is_wider_than_its_samples(tiny):
    """Twenty samples have no 0.005-quantile, so the ends follow from the deciles as for a normal distribution."""
    t5, values = Forecaster.load(str(tiny["t5"])), RNG.normal(0, 1, 50).astype(np.float32)
    table = flags(t5, store_from_arrays([values]), 8)
    deciles = t5.quantiles([values[:-8]], 8, WQL_LEVELS)[0][0]
    factor = ndtri(0.995) / ndtri(0.9)
    np.testing.assert_allclose(table["upper"], deciles[:, 4] + factor * (deciles[:, 8] - deciles[:, 4]), rtol=1e-3)
    np.testing.assert_allclose(table["lower"], deciles[:, 4] - factor * (deciles[:, 4] - deciles[:, 0]), rtol=1e-3)


def test_targets_and_covariates_are_those_of_the_store(uncrossed, tmp_path):
    """Known covariates of the compared steps are in the table itself."""
    chronos = Forecaster.load(str(uncrossed["chronos-2"]))
    past, after = shops(3)
    store, _ = open_shops(tmp_path, past, after, ["sold", "visits"], [])
    config = Config(data=replace(Config().data, target=["sold", "visits"], known_covariates=["price", "promo"]))
    request = make_flag_request(config, chronos, store, 6)
    table = flag_part(chronos, store, range(3), request).to_pandas()
    assert table["target_name"].tolist() == 3 * (6 * ["sold"] + 6 * ["visits"])
    start = int(store.lengths[1]) - 6
    expected = chronos.quantiles([store.history(1, start, start + 6, 6)], 6, [0.005, 0.5, 0.995])[0]
    found = table[table["item_id"] == store.item_ids[1]]
    np.testing.assert_allclose(found["upper"], expected[..., 2].ravel(), rtol=1e-4)
    np.testing.assert_array_equal(found["actual"], store.rows(1)[:2, start:].ravel())
    without = chronos.quantiles([store.history(1, start, start, 6)], 6, [0.005, 0.5, 0.995])[0]
    assert np.abs(without - expected).max() > 1e-3


def test_windows_of_the_same_origin_see_each_other_with_cross_learning(uncrossed):
    chronos = Forecaster.load(str(uncrossed["chronos-2"]))
    store = store_from_arrays([RNG.normal(10, 3, length) for length in (40, 60, 50)], "D")
    found = flags(chronos, store, 6, windows=2, cross_learning=True)["upper"].to_numpy().reshape(3, 2, 6)
    for origin in (2, 1):
        starts = store.lengths - 6 * origin
        histories = [store.history(item, int(start), int(start), 6, 0) for item, start in enumerate(starts)]
        expected = chronos.quantiles(histories, 6, [0.005, 0.5, 0.995])[0][..., 2]
        np.testing.assert_allclose(found[:, 2 - origin], expected, rtol=1e-4)
    alone = flags(chronos, store, 6, windows=2)["upper"].to_numpy().reshape(3, 2, 6)
    assert np.abs(alone - found).max() > 1e-3


def test_series_that_are_too_short_are_refused_or_left_out(builtin, caplog):
    short = store_from_arrays([np.arange(9.0), np.arange(4.0)], "D")
    assert set(flags(builtin, short, 8)["item_id"]) == {"0"} and "1 series" in caplog.text
    with pytest.raises(UserError, match="inference.prediction_length.*longer"):
        flags(builtin, short, 9)


def test_the_picture_marks_the_anomalies(builtin):
    values = 10 + np.sin(np.arange(200) / 3)
    values[190] = 30
    store = store_from_arrays([np.arange(5.0), values], "D")
    config = Config(inference=InferenceConfig(flag_windows=2))
    [panel] = drawn_flags(builtin, store, make_flag_request(config, builtin, store, 12))
    assert panel.name == "1" and panel.band == "99% band" and len(panel.median) == 24
    assert panel.anomalies is not None and panel.anomalies[190 - 176] and panel.target is not None
    assert panel.target[190 - 176] == 30


def test_the_command_and_the_class_give_the_same_flags(tiny, tmp_path, csv, run_script):
    arguments = [csv, "--model", tiny["bolt"], "--horizon", 7, "--flag", "--inference.flag_windows", 2]
    code, out, err = run_script("forecast", *arguments, "--plot", "p.png", "--inference.output_path", "folder")
    assert (code, err) == (0, "") and (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    found = pd.read_parquet(tmp_path / "folder" / "flags.parquet")
    loader = ChronosLoader(str(tiny["bolt"]))
    loader.load_trained_model()
    expected = loader.flag(str(csv), windows=2, horizon=7)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert len(found) == 6 * 14 and f"{expected['is_anomaly'].sum()} anomalies in 84 steps" in out
    last = long_frame().groupby("item_id").tail(14)
    np.testing.assert_allclose(found["actual"], last["target"], rtol=1e-6)
    for suffix, read in (("xlsx", pd.read_excel), ("csv", pd.read_csv), ("jsonl", pd.read_json)):
        code, _, err = run_script("forecast", *arguments, "--output", f"f.{suffix}")
        other = read(f"f.{suffix}", **({"lines": True} if suffix == "jsonl" else {}))
        assert code == 0 and other["is_anomaly"].tolist() == expected["is_anomaly"].tolist(), err


@pytest.mark.parametrize("settings", [{"level": 1.0}, {"windows": 0}, {"horizon": 0}])
def test_wrong_settings_are_refused(tiny, settings):
    loader = ChronosLoader(str(tiny["bolt"]))
    loader.load_trained_model()
    with pytest.raises(UserError):
        loader.flag(long_frame(), **settings)


def test_the_picture_has_the_flags_of_the_table_if_series_are_forecast_together(tiny):
    store = store_from_arrays(RNG.normal(size=(8, 60)).cumsum(axis=1), "D")
    forecaster = Forecaster.load(str(tiny["chronos-2"]))
    config = Config(inference=InferenceConfig(cross_learning=True, batch_size=4))
    request = make_flag_request(config, forecaster, store, 6)
    parts = [flag_part(forecaster, store, items, request) for items in split_parts(store, request)]
    table = pa.concat_tables(parts).to_pandas()
    panels = drawn_flags(forecaster, store, request)
    assert len(panels) == 6
    for panel in panels:
        rows = table[table["item_id"] == panel.name]
        np.testing.assert_allclose(panel.median, rows["predictions"], rtol=1e-5)
        assert panel.anomalies is not None and panel.anomalies.tolist() == rows["is_anomaly"].tolist()


def test_a_model_of_one_level_flags_nothing(tiny):
    forecaster = copy.copy(Forecaster.load(str(tiny["bolt"])))
    forecaster.trained_levels = [0.5]
    with pytest.raises(UserError, match=r"0\.5.*training\.quantiles"):
        make_flag_request(Config(), forecaster, store_from_arrays([np.arange(60.0)]), 6)
