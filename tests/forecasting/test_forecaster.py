"""The forecaster of every family, compared with stock pipelines and closed forms."""

import numpy as np
import pytest
import scipy.stats
import torch
from chronos import BaseChronosPipeline

from pipeline.core.errors import UserError
from pipeline.forecasting.batching import check_finite
from pipeline.forecasting.forecaster import Forecaster, interpolate_levels

FAMILIES = ("bolt", "t5", "gpt2", "chronos-2")
LEVELS = [0.1, 0.5, 0.9]
NAN = np.nan


@pytest.fixture(scope="module")
def forecasters(tiny):
    """One forecaster of each family."""
    return {family: Forecaster.load(str(tiny[family])) for family in FAMILIES}


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
    result = interpolate_levels(values, np.array([0.1, 0.5, 0.9]), levels)
    np.testing.assert_allclose(result[0], expected, rtol=1e-6)


def test_levels_outside_the_trained_ones_are_those_of_a_normal_distribution():
    trained = np.arange(0.1, 0.95, 0.1)
    normal = scipy.stats.norm(loc=3, scale=2)
    levels = np.array([0.001, 0.05, 0.1, 0.5, 0.95, 0.999])
    result = interpolate_levels(normal.ppf(trained)[None].astype(np.float32), trained, levels)
    np.testing.assert_allclose(result[0], normal.ppf(levels), rtol=1e-5)
    skewed = scipy.stats.gamma(2).ppf(trained)[None].astype(np.float32)
    assert (np.diff(interpolate_levels(skewed, trained, np.linspace(0.001, 0.999, 99))) > 0).all()
    single = interpolate_levels(np.array([[7.0]]), np.array([0.5]), levels)
    np.testing.assert_array_equal(single, np.full((1, 6), 7.0))


@pytest.mark.parametrize("family", ["bolt", "chronos-2"])
def test_the_other_series_of_a_batch_do_not_change_a_forecast(forecasters, family):
    shape = np.random.default_rng(0).normal(10, 1, 60).astype(np.float32)
    series = [shape * 1e12, shape * 1e-12, shape[:3], np.append(shape, [NAN] * 5), shape[:1]]
    alone = [forecasters[family].quantiles([values], 12, LEVELS)[0][0] for values in series]
    together = forecasters[family].quantiles(series, 12, LEVELS)[0]
    assert np.isfinite(together).all() and (np.diff(together, axis=2) >= 0).all()
    np.testing.assert_allclose(np.stack(alone), together, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_horizon_beyond_the_models_is_forecast(forecasters, family):
    length = forecasters[family].horizon + 6
    quantiles, point = forecasters[family].quantiles([np.sin(np.arange(64.0))], length, LEVELS)
    assert quantiles.shape == (1, length, 3) and point.shape == (1, length)
    assert np.isfinite(quantiles).all() and (np.diff(quantiles, axis=2) >= 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_unusual_contexts_are_forecast_in_their_rows(forecasters, family):
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
    quantiles, point = forecasters[family].quantiles(contexts, 6, LEVELS)
    assert (quantiles[1] == 7.5).all() and (point[1] == 7.5).all() and (quantiles[4] == 3.0).all()
    assert np.isnan(quantiles[[2, 3]]).all() and np.isnan(point[[2, 3]]).all()
    assert np.isfinite(quantiles[[0, 5, 6, 7, 8]]).all()
    assert (np.diff(quantiles[[0, 5, 6, 7, 8]], axis=2) >= 0).all()
    assert 1e10 < np.abs(quantiles[6]).max() < 1e14 and np.abs(quantiles[7]).max() < 1e-10


@pytest.mark.parametrize("family", ["bolt", "t5"])
def test_a_gap_as_long_as_the_context_is_forecast_as_the_last_known_value(forecasters, family):
    series = 1000 + np.sin(np.arange(80.0))
    for gap in (forecasters[family].context_length, forecasters[family].context_length + 9):
        quantiles, point = forecasters[family].quantiles([np.append(series, np.full(gap, NAN))], 4, LEVELS)
        assert (quantiles == np.float32(series[-1])).all() and (point == np.float32(series[-1])).all()


@pytest.mark.parametrize("levels", [[0.9, 0.1, 0.5], [0.99, 0.01]])
@pytest.mark.parametrize("family", ["bolt", "t5"])
def test_levels_keep_the_order_of_the_request(forecasters, family, levels):
    quantiles, _ = forecasters[family].quantiles([np.sin(np.arange(50.0))], 4, levels)
    ascending, _ = forecasters[family].quantiles([np.sin(np.arange(50.0))], 4, sorted(levels))
    np.testing.assert_array_equal(quantiles, ascending[:, :, np.argsort(np.argsort(levels))])


def test_sampled_forecasts_depend_on_the_seed_and_leave_the_global_generator_alone(tiny):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, same, other = (
        Forecaster.load(str(tiny["t5"]), seed=seed).quantiles([np.sin(np.arange(50.0))], 4, LEVELS)[0]
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, same) and not np.array_equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("family", ["bolt", "chronos-2"])
def test_a_batch_that_does_not_fit_into_memory_is_halved(tiny, monkeypatch, family):
    forecaster, sizes = Forecaster.load(str(tiny[family])), []
    contexts = list(np.random.default_rng(0).normal(size=(10, 30)).astype(np.float32))
    expected, predict, limit = forecaster.quantiles(contexts, 6, LEVELS)[0], forecaster.pipeline.predict, 3

    def limited(contexts, **settings):
        sizes.append(len(contexts))
        if len(contexts) > limit:
            raise torch.OutOfMemoryError("no more")
        return predict(contexts, **settings)

    monkeypatch.setattr(forecaster.pipeline, "predict", limited)
    halves = [forecaster.quantiles(part, 6, LEVELS)[0] for part in (contexts[:8], contexts[8:])]
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    np.testing.assert_allclose(np.concatenate(halves), expected, rtol=1e-4)
    limit = 0
    with pytest.raises(UserError, match="inference.context_length"):
        forecaster.quantiles(contexts, 6, LEVELS)


def test_nan_forecasts_of_known_histories_are_refused_with_their_names():
    histories = [np.array([1.0, 2.0]), np.array([NAN]), np.array([3.0])]
    check_finite(histories, np.array([[1.0], [NAN], [2.0]]), ["a", "b", "c"])
    with pytest.raises(UserError, match=r"\bc\b"):
        check_finite(histories, np.array([[1.0], [NAN], [NAN]]), ["a", "b", "c"])
