"""Quantiles at any levels: rising, exact at the trained levels, and between them those of stock Chronos."""

from types import SimpleNamespace

import numpy as np
import torch
from chronos import ChronosBoltPipeline
from chronos.utils import interpolate_quantiles
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.forecasting.forecaster import Forecaster, interpolate_levels

DECILES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
values = st.floats(-1e6, 1e6, width=32) | st.integers(-3, 3).map(float)
levels = st.lists(st.floats(0.001, 0.999), min_size=1, max_size=12)
trained_levels = st.lists(st.integers(1, 99), min_size=1, max_size=21, unique=True).map(
    lambda percent: [p / 100 for p in sorted(percent)]
)


def quantile_arrays(n_levels, n=st.integers(1, 3), horizon=st.integers(1, 4)):
    shapes = st.tuples(n, horizon, st.just(n_levels))
    return shapes.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=values, fill=values))


trained_quantiles = trained_levels.flatmap(lambda trained: st.tuples(st.just(trained), quantile_arrays(len(trained))))


def forecaster(raw, trained):
    """The forecaster of a Bolt whose head gives `raw`, [n, horizon, n_trained], in any order."""
    config = {"chronos_config": {"context_length": 64, "prediction_length": 64, "quantiles": trained}}
    config["chronos_config"]["input_patch_size"] = 16
    pipeline = SimpleNamespace(
        inner_model=SimpleNamespace(config=SimpleNamespace(to_dict=lambda: config)),
        predict=lambda contexts, prediction_length, **_: torch.from_numpy(raw.transpose(0, 2, 1).copy()),
        quantiles=trained,
    )
    return Forecaster(pipeline)


def forecast(raw, trained, wanted):
    histories = [np.arange(5.0)] * len(raw)
    return forecaster(raw, trained).quantiles(histories, raw.shape[1], wanted)


@given(trained_quantiles, levels)
def test_quantiles_rise_with_the_level_in_any_order_of_levels(case, wanted):
    trained, raw = case
    quantiles, _ = forecast(raw, trained, wanted)
    order = np.argsort(wanted, kind="stable")
    assert quantiles.shape == (*raw.shape[:2], len(wanted)) and quantiles.dtype == np.float32
    assert (np.diff(quantiles[:, :, order], axis=2) >= 0).all()


@given(trained_quantiles)
def test_quantiles_at_the_trained_levels_are_exactly_those_of_the_model(case):
    trained, raw = case
    quantiles, point = forecast(raw, trained, trained)
    np.testing.assert_array_equal(quantiles, np.sort(raw, axis=2))
    if 0.5 in trained:
        np.testing.assert_array_equal(point, quantiles[:, :, trained.index(0.5)])


@given(quantile_arrays(9), st.lists(st.floats(0.1, 0.9), min_size=1, max_size=12))
def test_quantiles_between_deciles_are_those_of_a_stock_bolt(raw, wanted):
    raw = np.sort(raw, axis=2)
    stock = SimpleNamespace(predict=forecaster(raw, DECILES).pipeline.predict, quantiles=DECILES)
    expected, median = ChronosBoltPipeline.predict_quantiles(stock, [], raw.shape[1], wanted)
    quantiles, point = forecast(raw, DECILES, wanted)
    np.testing.assert_allclose(quantiles, expected, rtol=1e-5, atol=1e-6 * np.abs(raw).max())
    np.testing.assert_array_equal(point, median)


@given(trained_quantiles, st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_quantiles_between_uneven_levels_are_those_of_chronos_2(case, shares):
    trained, raw = case
    wanted = [trained[0] + share * (trained[-1] - trained[0]) for share in shares]
    expected = interpolate_quantiles(torch.tensor(wanted, dtype=torch.float32), trained, torch.from_numpy(np.sort(raw)))
    quantiles, _ = forecast(raw, trained, np.clip(wanted, trained[0], trained[-1]))
    np.testing.assert_allclose(quantiles, expected, rtol=1e-4, atol=1e-4 * np.abs(raw).max())


@given(trained_quantiles, levels, st.integers(-30, 30).map(lambda power: np.float32(2.0**power)))
def test_quantiles_have_the_unit_and_the_sign_of_the_model(case, wanted, factor):
    trained, raw = case
    quantiles = interpolate_levels(np.sort(raw), np.array(trained), np.array(wanted))
    scaled = interpolate_levels(np.sort(raw * factor), np.array(trained), np.array(wanted))
    np.testing.assert_allclose(scaled, quantiles * factor, rtol=1e-6, atol=1e-30)
    mirrored = interpolate_levels(
        np.sort(-raw), np.array([1 - level for level in trained[::-1]]), np.array([1 - level for level in wanted])
    )
    distances = np.abs(np.array(trained) - 0.5)
    if (distances < distances.min() + 1e-9).sum() == 1:  # of two levels as near to the median, one is taken
        np.testing.assert_allclose(mirrored, -quantiles, rtol=1e-3, atol=1e-3 * np.abs(raw).max() + 1e-30)
