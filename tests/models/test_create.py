import pytest
import torch
import transformers

from pipeline.core.errors import UserError
from pipeline.models.checkpoint import read_checkpoint
from pipeline.models.create import SCRATCH_SIZES, Shape, convert_to_token_model, random_model, scratch_model


# Parameter counts of the published checkpoints, in millions, from their model cards.
@pytest.mark.parametrize(
    "size, millions",
    [("t5-tiny", 8), ("t5-mini", 20), ("t5-small", 46), ("bolt-tiny", 9), ("bolt-mini", 21), ("bolt-small", 48)],
)
def test_scratch_sizes_have_the_published_parameter_counts(size, millions):
    with torch.device("meta"):
        model = scratch_model(size, seed=0)
    assert abs(sum(parameter.numel() for parameter in model.parameters()) / 1e6 - millions) < 0.6


@pytest.mark.parametrize("size, factor, dropout", [("bolt-micro", 0.3, 0.0), ("bolt-tiny", 0.05, 0.1)])
def test_small_models_start_from_larger_weights_without_dropout(size, factor, dropout):
    with torch.device("meta"):
        config = scratch_model(size, seed=0).config
    assert (config.initializer_factor, config.dropout_rate) == (factor, dropout)


def test_scratch_weights_are_deterministic_given_the_seed():
    before = torch.random.get_rng_state()
    weights = [scratch_model("bolt-nano", seed).state_dict()["shared.weight"] for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_scratch_bolt_has_the_published_context_horizon_and_levels(nano):
    checkpoint = read_checkpoint(nano["bolt"])
    assert (checkpoint.context_length, checkpoint.prediction_length) == (2048, 64)
    assert checkpoint.quantiles == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


@pytest.mark.parametrize("family", ["bolt", "t5", "gpt2", "chronos-2"])
def test_a_random_model_has_the_requested_shape(tiny, family):
    checkpoint = read_checkpoint(tiny[family])
    assert checkpoint.family == family and checkpoint.width == 16
    assert (checkpoint.context_length, checkpoint.prediction_length) == (64, 64)


def test_an_unknown_size_is_refused_with_all_sizes():
    with pytest.raises(UserError, match="base_model.model_name") as refused:
        scratch_model("x", seed=0)
    assert all(size in str(refused.value) for size in SCRATCH_SIZES)


def test_a_language_model_with_too_few_positions_is_refused():
    config = transformers.GPT2Config(vocab_size=100, n_embd=16, n_layer=1, n_head=2, n_positions=576)
    with pytest.raises(UserError, match="n_positions.*577"):
        convert_to_token_model(transformers.GPT2LMHeadModel(config))


def test_settings_of_one_model_do_not_reach_the_next():
    assert random_model("bolt", Shape(16, 32, 1, 2), 0, context_length=64).config.chronos_config["context_length"] == 64
    assert random_model("bolt", Shape(16, 32, 1, 2), 0).config.chronos_config["context_length"] == 2048
