import copy

import pytest
import torch
from support.runs import info, last_checkpoint, same, trained, unfinish, weights
from torch import nn
from transformers import TrainingArguments

from pipeline.core.errors import UserError
from pipeline.models.load import read_model
from pipeline.training.muon import MuonWithAdamW

RATE = 1e-2


@pytest.fixture
def layers():
    torch.manual_seed(0)
    return nn.ModuleList([nn.Linear(6, 4), nn.Linear(4, 3)])


def step(layers, optimizers):
    optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
    layers.zero_grad()
    torch.manual_seed(1)
    layers[1](layers[0](torch.randn(8, 6)).tanh()).square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()


def together(layers, **precision):
    return MuonWithAdamW([layers[0].weight], [layers[0].bias, *layers[1].parameters()], 0.1, lr=RATE, **precision)


def test_matrices_are_trained_by_muon_at_twice_the_rate_and_the_rest_by_adamw(layers):
    alone, optimizer = copy.deepcopy(layers), together(layers, bf16=True)
    muon = torch.optim.Muon([alone[0].weight], lr=2 * RATE, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([alone[0].bias, *alone[1].parameters()], lr=RATE, weight_decay=0)
    before = copy.deepcopy(layers)
    for _ in range(3):
        step(layers, optimizer)
        step(alone, [muon, adamw])
    assert same(layers.state_dict(), alone.state_dict())
    assert not any(torch.equal(new, old) for new, old in zip(layers.parameters(), before.parameters()))


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_in_float32_the_first_update_is_the_gradient_with_singular_values_mapped_by_the_polynomial(shape):
    torch.manual_seed(0)
    matrix = nn.Parameter(torch.zeros(shape))
    matrix.grad = torch.randn(shape)
    MuonWithAdamW([matrix], [], lr=RATE).step()
    left, values, right = torch.linalg.svd(matrix.grad.double(), full_matrices=False)
    values = values / values.square().sum().sqrt()
    for _ in range(5):
        values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
    expected = -2 * RATE * 0.2 * max(shape) ** 0.5 * (left * values) @ right
    torch.testing.assert_close(matrix.detach().double(), expected, rtol=1e-4, atol=1e-6)


def test_a_loaded_state_continues_exactly(layers):
    optimizer = together(layers)
    step(layers, optimizer)
    resumed = copy.deepcopy(layers)
    other = together(resumed)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(2):
        step(layers, optimizer)
        step(resumed, other)
    assert same(layers.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("family", ["t5", "gpt2", "bolt", "chronos-2"])
def test_the_matrices_are_those_of_the_layers(tiny, tmp_path, family):
    model = read_model(tiny[family])
    optimizer = MuonWithAdamW.of(model, TrainingArguments(output_dir=str(tmp_path), learning_rate=RATE, use_cpu=True))
    names = {id(weight): name for name, weight in model.named_parameters()}
    others, matrices = ([names[id(weight)] for weight in group["params"]] for group in optimizer.param_groups)
    assert sorted(others + matrices) == sorted(names.values())
    layer = "transformer.h." if family == "gpt2" else "encoder.block."
    assert matrices and all(layer in name or "decoder.block." in name for name in matrices)
    is_vector = ("norm", "ln_", "bias")  # relative_attention_bias is an embedding
    assert all(any(part in name for part in is_vector) for name in others if layer in name)


def test_a_run_with_muon_resumes_bit_for_bit(tiny, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    settings = {"optimizer": "muon", "learning_rate": RATE}
    for output in (whole, resumed):
        trained(tiny["chronos-2"], output, **settings)
    unfinish(resumed)
    last = last_checkpoint(resumed)
    last.rename(last.with_name("removed"))
    with pytest.raises(UserError, match="training.optimizer"):
        trained(tiny["chronos-2"], resumed, learning_rate=RATE)
    trained(tiny["chronos-2"], resumed, **settings)
    assert same(weights(whole), weights(resumed)) and info(whole)["config"]["training"]["optimizer"] == "muon"
    trained(tiny["chronos-2"], tmp_path / "adamw", learning_rate=RATE)
    assert not same(weights(whole), weights(tmp_path / "adamw"))


def test_low_rank_adapters_and_a_frozen_model_can_be_trained_with_muon(tiny, tmp_path):
    for name, settings in (("lora", {"method": "lora"}), ("frozen", {"freeze": ["encoder"]})):
        trained(tiny["chronos-2"], tmp_path / name, optimizer="muon", learning_rate=RATE, **settings)
        base, tuned = weights(tiny["chronos-2"]), weights(tmp_path / name)
        assert not same(base, tuned)
