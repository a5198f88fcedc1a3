"""Whether a trained model forecasts with flip is decided on the validation windows."""

from dataclasses import replace

import numpy as np
import pytest
from support.runs import info, seasonal_store, short_config

from pipeline.config import InferenceConfig
from pipeline.evaluation.backtest import backtest
from pipeline.forecasting.forecaster import Forecaster
from pipeline.train_model import ChronosTrainer
from pipeline.training import run as training_run


def scores(model, windows, flip):
    return backtest(windows, Forecaster.load(str(model), flip=flip).predict_quantiles, windows.batch_size).scores()


def trained_with(flip, base, output):
    """Train a short run with a value of inference.flip; return the trainer, the validation windows, and the info."""
    config = replace(short_config(), inference=InferenceConfig(flip=flip))
    trainer = ChronosTrainer(str(base), config=config, run_folder=output)
    windows = trainer.prepare_training_data([seasonal_store()])
    trainer.train_model(windows, epochs=config.training.epochs)
    trainer.save_trained_model(str(output))
    return trainer, windows[1], info(output)


@pytest.mark.parametrize("bound", [-1.0, 1.0])
def test_flip_is_chosen_if_it_lowers_the_score_by_the_bound(tiny, tmp_path, monkeypatch, bound):
    monkeypatch.setattr(training_run, "MIN_FLIP_GAIN", bound)
    trainer, windows, saved = trained_with("auto", tiny["bolt"], tmp_path / "run")
    forecaster = Forecaster.load(str(tmp_path / "run"))
    assert saved["flip"] is trainer.result.flip is forecaster.flip is (bound < 0)
    expected = backtest(windows, forecaster.predict_quantiles, windows.batch_size).scores()["WQL"]
    assert trainer.evaluate_model((None, windows))["WQL"] == pytest.approx(expected, rel=1e-6)


def test_the_scores_with_and_without_flip_decide(tiny, tmp_path):
    _, windows, saved = trained_with("auto", tiny["bolt"], tmp_path / "run")
    plain, flipped = (scores(tmp_path / "run", windows, flip)["WQL"] for flip in (False, True))
    assert plain != flipped
    assert saved["flip"] is (1 - flipped / plain >= training_run.MIN_FLIP_GAIN)


@pytest.mark.parametrize("flip", [False, True])
def test_candidates_are_scored_by_the_forecasts_that_will_be_made(tiny, tmp_path, flip):
    _, windows, saved = trained_with(flip, tiny["bolt"], tmp_path / "run")
    expected = scores(tiny["bolt"], windows, flip)["WQL"]
    np.testing.assert_allclose(saved["candidates"][0]["WQL"], expected, rtol=1e-5)
    assert saved["flip"] is saved["identity"].get("flip", False) is flip
