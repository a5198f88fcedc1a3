import pytest

from pipeline.config import TrainingConfig
from pipeline.core.errors import UserError
from pipeline.training.recipe import make_recipe


def recipe(epochs="auto", *, family="bolt", width=768, scratch_size=None, windows_per_epoch=6400, **training):
    return make_recipe(
        TrainingConfig(**training),
        epochs,
        family=family,
        width=width,
        scratch_size=scratch_size,
        windows_per_epoch=windows_per_epoch,
    )


def test_steps_are_ten_epochs_and_at_least_the_minimum():
    assert recipe().steps == 2000 and "2000 steps" in recipe().description and "10.0 epochs" in recipe().description
    assert recipe(family="t5").steps == 2000
    few = {"windows_per_epoch": 320}
    assert recipe(**few).steps == recipe(family="chronos-2", width=128, **few).steps == 300
    assert recipe(family="t5", **few).steps == recipe(family="chronos-2", **few).steps == 1000
    assert recipe(0.5).steps == 100
    assert recipe(0.5, max_steps=7).steps == 7
    assert recipe(2, windows_per_epoch=100).steps == 7  # 2 x 100 windows in batches of 32, rounded up


def test_random_weights_have_more_steps_a_higher_rate_and_a_warmup():
    scratch = recipe(width=64, scratch_size="bolt-nano", windows_per_epoch=None)
    assert (scratch.steps, scratch.learning_rate, scratch.warmup_fraction) == (3000, 3e-3, 0.05)
    assert recipe().warmup_fraction == 0


@pytest.mark.parametrize("family", ["t5", "gpt2", "bolt", "chronos-2"])
def test_rates_increase_from_all_weights_to_adapters_to_random_weights(family):
    full, lora = (recipe(family=family, method=method).learning_rate for method in ("full", "lora"))
    scratch = recipe(family=family, width=256, scratch_size="tiny", windows_per_epoch=None).learning_rate
    assert full < lora < scratch


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_small_chronos_2_has_the_rate_of_a_bolt(method):
    small, bolt = (recipe(family=family, width=128, method=method).learning_rate for family in ("chronos-2", "bolt"))
    assert small == bolt
    wide = recipe(family="chronos-2", width=256, method=method).learning_rate
    assert wide == recipe(family="chronos-2", method=method).learning_rate == pytest.approx(small / 10)


@pytest.mark.parametrize("width", [64, 768])
@pytest.mark.parametrize("family, rate", [("bolt", 1e-5), ("t5", 1e-4), ("gpt2", 1e-4)])
def test_the_rate_of_other_families_is_that_of_autogluon_for_any_width(family, rate, width):
    assert recipe(family=family, width=width).learning_rate == rate


def test_the_description_has_the_numbers_and_the_keys_that_set_them():
    set_by_user = recipe(max_steps=7, learning_rate=0.5, batch_size=16).description
    for fact in ("7 steps", "16 windows", "0.5", "training.max_steps", "training.learning_rate", "linearly"):
        assert fact in set_by_user
    assert "training.epochs" in recipe(2).description
    schedule = recipe(trainer={"lr_scheduler_type": "cosine"}).description
    assert "linearly" not in schedule and "training.trainer" in schedule


def test_epochs_of_endless_data_are_refused():
    with pytest.raises(UserError, match="training.epochs.*training.max_steps"):
        recipe(3, windows_per_epoch=None)
