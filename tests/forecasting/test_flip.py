"""Forecasts averaged with the mirrored ones of the negated series, compared with stock pipelines."""

import json
import shutil

import numpy as np
import pytest
import torch
from chronos import BaseChronosPipeline

from pipeline.core.series import Panel, Variates
from pipeline.forecasting.forecaster import Forecaster
from pipeline.models.checkpoint import TRAINING_INFO

LEVELS = [0.9, 0.1, 0.5, 0.97]
CONTEXTS = [np.sin(np.arange(50) / 3).astype(np.float32) * 4 + 7, np.arange(30, dtype=np.float32) ** 1.5]


@pytest.mark.parametrize("family", ["bolt", "chronos-2"])
def test_a_quantile_is_the_mean_of_it_and_the_mirrored_one_of_the_negated_series(uncrossed, family):
    stock = BaseChronosPipeline.from_pretrained(uncrossed[family])
    trained = stock.quantiles
    positions = [trained.index(level) for level in (0.1, 0.5, 0.9)]
    forecasts = [
        [stock.predict([torch.from_numpy(sign * row)], prediction_length=6)[0] for row in CONTEXTS] for sign in (1, -1)
    ]
    plain, negated = (torch.stack([f.reshape(len(trained), -1) for f in side])[:, positions] for side in forecasts)
    expected = (plain - negated.flip(1)).numpy() / 2
    forecaster = Forecaster.load(str(uncrossed[family])).with_flip(True)
    quantiles, point = forecaster.quantiles(CONTEXTS, 6, [0.1, 0.5, 0.9])
    np.testing.assert_allclose(quantiles, expected.transpose(0, 2, 1), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(point, expected[:, 1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("family", ["bolt", "t5", "gpt2", "chronos-2"])
def test_quantiles_do_not_cross_and_mirror_those_of_the_negated_series(tiny, family):
    forecaster = Forecaster.load(str(tiny[family])).with_flip(True)
    quantiles, point = forecaster.quantiles(CONTEXTS, 70, LEVELS)
    assert (np.diff(quantiles[:, :, np.argsort(LEVELS)], axis=2) >= 0).all()
    mirrored, mirrored_point = forecaster.quantiles([-row for row in CONTEXTS], 70, [0.1, 0.9, 0.5, 0.03])
    np.testing.assert_allclose(-mirrored, quantiles, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(-mirrored_point, point, rtol=1e-4, atol=1e-4)


def test_covariates_keep_their_signs(uncrossed):
    variates = Variates(("sold",), ("visits",), ("price",))
    past = np.stack([CONTEXTS[0], np.arange(50), np.arange(50) % 7]).astype(np.float32)
    future = np.full((3, 6), np.nan, np.float32)
    future[2] = np.arange(50, 56) % 7
    negated = past * np.array([[-1], [1], [1]], np.float32)
    forecaster = Forecaster.load(str(uncrossed["chronos-2"]))
    plain, mirrored = (forecaster.quantiles([Panel(p, future, variates)], 6, [0.3, 0.7])[0] for p in (past, negated))
    result = forecaster.with_flip(True).quantiles([Panel(past, future, variates)], 6, [0.3, 0.7])[0]
    np.testing.assert_allclose(result, (plain - mirrored[:, :, ::-1]) / 2, rtol=1e-5)


def test_a_constant_is_forecast_as_itself(tiny):
    quantiles, _ = Forecaster.load(str(tiny["bolt"])).with_flip(True).quantiles([np.full(20, 3, np.float32)], 4, LEVELS)
    assert (quantiles == 3).all()


@pytest.mark.parametrize(
    "flip, remembered, expected",
    [("auto", None, False), ("auto", True, True), (False, True, False), (True, None, True)],
)
def test_auto_is_what_the_training_found(tiny, tmp_path, flip, remembered, expected):
    folder = shutil.copytree(tiny["bolt"], tmp_path / "model")
    if remembered is not None:
        (folder / TRAINING_INFO).write_text(json.dumps({"flip": remembered}))
    assert Forecaster.load(str(folder), flip=flip).flip is expected
