"""The faster group attention of Chronos-2, compared with the stock layers."""

import copy

import pytest
import torch

from pipeline.config import LoraConfig
from pipeline.models.adapt import add_adapters
from pipeline.models.chronos2_attention import FastGroupAttention
from pipeline.models.cpu import use_cpu_layers
from pipeline.models.load import read_model

CONTEXT = torch.sin(torch.arange(60) / torch.tensor([[3.0], [5.0], [1.0]]))
CONTEXT[0, :40] = torch.nan  # two patches without a value
TARGET = CONTEXT[:, -20:].flip(1)


@pytest.fixture
def stock(nano):
    """A Chronos-2 model with random weights that make each layer matter, without dropout."""
    model = read_model(nano["chronos-2"]).float()
    torch.manual_seed(0)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    for module in model.modules():
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
        elif isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.train()


def fast_copy(model):
    fast = copy.deepcopy(model)
    use_cpu_layers(fast)
    assert any(isinstance(module, FastGroupAttention) for module in fast.modules())
    return fast


def loss_and_gradients(model, groups):
    model.zero_grad()
    loss = model(
        context=CONTEXT.clone(), future_target=TARGET.clone(), group_ids=torch.tensor(groups), num_output_patches=2
    ).loss
    loss.backward()
    return loss, {name: weight.grad for name, weight in model.named_parameters()}


@pytest.mark.parametrize("groups", [[0, 1, 2], [5, 1, 5], [0, 0, 0]])
def test_loss_and_gradients_equal_those_of_the_stock_layers(stock, groups):
    expected = loss_and_gradients(stock, groups)
    torch.testing.assert_close(loss_and_gradients(fast_copy(stock), groups), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("groups", [[0, 1, 2], [5, 1, 5]])
def test_gradients_in_bfloat16_are_as_near_to_those_in_float32_as_those_of_the_stock_layers(stock, groups):
    exact, errors = loss_and_gradients(stock, groups)[1], []
    for model in (stock, fast_copy(stock)):
        with torch.autocast("cpu", torch.bfloat16):
            gradients = loss_and_gradients(model, groups)[1]
        errors.append(sum((gradients[name] - exact[name]).square().sum() for name in exact))
    assert 0 < errors[1] < 1.5 * errors[0] < 0.01 * sum(gradient.square().sum() for gradient in exact.values())


def test_adapters_on_a_product_are_trained(stock):
    """Attention over time with low-rank adapters stays the stock layer, which knows them."""
    adapted = add_adapters(stock, "chronos-2", LoraConfig(rank=2))
    use_cpu_layers(adapted)
    _, gradients = loss_and_gradients(adapted, [0, 1, 2])
    trained = {
        name: gradient for name, gradient in gradients.items() if ".block.0.layer.0." in name and "lora_B" in name
    }
    assert len(trained) == 4 and all(gradient.abs().max() > 0 for gradient in trained.values())


def test_groups_matter(stock):
    fast = fast_copy(stock)
    assert abs(loss_and_gradients(fast, [0, 1, 2])[0] - loss_and_gradients(fast, [0, 0, 0])[0]) > 1e-3


def test_attention_with_dropout_averages_to_attention_without(stock):
    layer = fast_copy(stock).encoder.block[0].layer[1]
    x = torch.randn(1, 2, stock.config.d_model)
    with torch.no_grad():
        expected = layer(x, None).hidden_states
        layer.self_attention.dropout = 0.25
        draws = layer(x.expand(20_000, -1, -1), None).hidden_states
    error = draws.std(0) / 20_000**0.5
    assert error.min() > 0
    assert ((draws.mean(0) - expected[0]).abs() < 5 * error).all()
