"""What `auto` becomes, and what is said of it."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.config import TrainingConfig
from pipeline.core.errors import UserError
from pipeline.train_model import ChronosTrainer
from pipeline.training.recipe import recipe_of
from pipeline.windows.prepare import few_data

FINE = {"family": "bolt", "width": 768, "scratch_size": None, "windows_per_epoch": 6400}


def test_ten_epochs_are_counted_in_steps_and_said_in_words():
    recipe = recipe_of(TrainingConfig(), "auto", **FINE)
    assert recipe.steps == 2000 and "(10.0 epochs; 10 epochs)" in recipe.words and "linearly" in recipe.words
    assert recipe_of(TrainingConfig(), "auto", **{**FINE, "windows_per_epoch": 320}).steps == 1000
    assert recipe_of(TrainingConfig(), 0.5, **FINE).steps == 100
    assert recipe_of(TrainingConfig(max_steps=7), 0.5, **FINE).steps == 7
    scratch = recipe_of(
        TrainingConfig(), "auto", family="bolt", width=64, scratch_size="bolt-nano", windows_per_epoch=None
    )
    assert (scratch.steps, scratch.learning_rate, scratch.warmup_share) == (3000, 3e-3, 0.05)
    assert "made as they are needed" in scratch.words


def test_rates_rise_from_all_weights_to_adapters_to_random_weights():
    for family in ("t5", "gpt2", "bolt", "chronos-2"):
        rates = [
            recipe_of(TrainingConfig(method=method), "auto", **{**FINE, "family": family}).learning_rate
            for method in ("full", "lora")
        ]
        scratch = recipe_of(
            TrainingConfig(), "auto", family=family, width=256, scratch_size="tiny", windows_per_epoch=None
        )
        assert rates[0] < rates[1] < scratch.learning_rate


def test_a_narrow_bolt_learns_faster_and_a_token_model_as_fast():
    rates = {
        width: recipe_of(TrainingConfig(), "auto", **{**FINE, "width": width}).learning_rate for width in (768, 64)
    }
    assert rates == pytest.approx({768: 1e-5, 64: 1.2e-4})
    token = recipe_of(TrainingConfig(), "auto", **{**FINE, "family": "t5", "width": 64})
    assert token.learning_rate == 1e-4


def test_a_schedule_of_the_users_own_is_not_called_linear():
    training = TrainingConfig(trainer={"lr_scheduler_type": "cosine"})
    words = recipe_of(training, "auto", **FINE).words
    assert "linearly" not in words and "training.trainer" in words


def test_epochs_of_endless_data_are_refused():
    with pytest.raises(UserError, match="max_steps"):
        recipe_of(replace(TrainingConfig(), epochs=3), 3, **{**FINE, "windows_per_epoch": None})


@pytest.mark.parametrize(
    ("lengths", "said"),
    [([200] * 100, None), ([200] * 99, "99 series"), ([100] * 100, "median of 100"), ([9], "1 series")],
)
def test_too_few_data_are_warned_of(lengths, said):
    warning = few_data(np.array(lengths), 64)
    assert warning is None if said is None else said in warning


@pytest.mark.parametrize(("length", "horizon"), [(1000, 64), (120, 30), (21, 5), (9, 2)])
def test_the_horizon_that_nobody_names_fits_the_series(nano, length, horizon):
    trainer = ChronosTrainer(str(nano["bolt"]))
    rows = np.random.default_rng(0).normal(size=(5, length))
    trainer.config = replace(trainer.config, training=replace(trainer.config.training, min_past=1))
    windows, _ = trainer.prepare_training_data(rows)
    assert windows.prediction_length == horizon
