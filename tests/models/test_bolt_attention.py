"""Chronos-Bolt's attention in fewer operations, beside the stock layers."""

import copy

import pytest
import torch

from pipeline.config import LoraConfig
from pipeline.models.adapt import with_adapters
from pipeline.models.bolt_attention import JointProjection, OneQuery, OnlyToken, use_short_attention
from pipeline.models.cpu import use_cpu_layers
from pipeline.models.load import read_model

CONTEXT = torch.sin(torch.arange(120) / 3.0)[None].repeat(3, 1) * torch.tensor([[1.0], [2.0], [5.0]])
CONTEXT[0, :50] = torch.nan
TARGET = CONTEXT[:, -64:].flip(1)


@pytest.fixture
def stock(nano):
    """A Bolt model whose weights are all of some size, so that each of them matters."""
    model = read_model(nano["bolt"]).float()
    torch.manual_seed(0)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model.train()


def gradients(model):
    model.zero_grad()
    loss = model(context=CONTEXT.clone(), target=TARGET.clone()).loss
    loss.backward()
    return loss, {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}


def forms(model):
    return [type(module) for module in model.modules() if type(module) in (JointProjection, OneQuery, OnlyToken)]


def test_loss_and_gradients_are_those_of_the_stock_layers(stock):
    own = copy.deepcopy(stock)
    use_cpu_layers(own)
    assert set(forms(own)) == {JointProjection, OneQuery, OnlyToken}
    stock.set_attn_implementation("eager")
    torch.testing.assert_close(gradients(own), gradients(stock), rtol=1e-3, atol=1e-4)


def test_query_and_key_of_an_only_token_are_trained_by_noughts(stock):
    use_short_attention(stock)
    _, of = gradients(stock)
    for block in range(len(stock.decoder.block)):
        for part in ("q", "k"):
            assert of[f"decoder.block.{block}.layer.0.SelfAttention.{part}.weight"].abs().max() == 0
        assert of[f"decoder.block.{block}.layer.0.SelfAttention.v.weight"].abs().max() > 0


def test_dropped_weights_average_to_the_attention_without(stock):
    """Of one linear layer of attention the mean over many draws is the value without dropout."""
    use_short_attention(stock)
    only, query = stock.decoder.block[0].layer[0].SelfAttention, stock.decoder.block[0].layer[1].EncDecAttention
    x, encoded = torch.randn(1, 1, only.d_model), torch.randn(1, 9, only.d_model)
    for layer, inputs in ((only, {}), (query, {"key_value_states": encoded})):
        with torch.no_grad():
            expected = layer(x, **inputs)[0]
            layer.dropout = 0.25
            many = {name: value.expand(20_000, -1, -1) for name, value in inputs.items()}
            drawn = layer(x.expand(20_000, -1, -1), **many)[0]
        error = drawn.std(0) / 20_000**0.5
        assert error.min() > 0
        assert ((drawn.mean(0) - expected[0]).abs() < 5 * error).all()


def test_low_rank_adapters_act_as_on_the_stock_layers(stock):
    adapted = with_adapters(stock, "bolt", LoraConfig())
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    own = copy.deepcopy(adapted)
    use_cpu_layers(own)
    torch.testing.assert_close(gradients(own.train()), gradients(adapted.train()), rtol=1e-3, atol=1e-4)
