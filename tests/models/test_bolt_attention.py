import copy

import pytest
import torch

from pipeline.config import LoraConfig
from pipeline.models.adapt import add_adapters
from pipeline.models.bolt_attention import (
    FusedSelfAttention,
    SingleQueryCrossAttention,
    SingleTokenSelfAttention,
    use_bolt_attention,
)
from pipeline.models.cpu import use_cpu_layers
from pipeline.models.load import read_model

CONTEXT = torch.sin(torch.arange(120) / 3.0)[None].repeat(3, 1) * torch.tensor([[1.0], [2.0], [5.0]])
CONTEXT[0, :50] = torch.nan
TARGET = CONTEXT[:, -64:].flip(1)


@pytest.fixture
def stock(nano):
    """A Bolt model of two layers with large random weights, so that each of them matters."""
    model = read_model(nano["bolt"]).float()
    torch.manual_seed(0)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model.train()


def loss_and_gradients(model):
    model.zero_grad()
    loss = model(context=CONTEXT.clone(), target=TARGET.clone()).loss
    loss.backward()
    return loss, {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}


def test_loss_and_gradients_equal_those_of_the_stock_layers(stock):
    fast = copy.deepcopy(stock)
    use_cpu_layers(fast)
    layers = {type(module) for module in fast.modules()}
    assert {FusedSelfAttention, SingleQueryCrossAttention, SingleTokenSelfAttention} <= layers
    stock.set_attn_implementation("eager")
    torch.testing.assert_close(loss_and_gradients(fast), loss_and_gradients(stock), rtol=1e-3, atol=1e-4)


def test_query_and_key_of_a_single_token_get_zero_gradients(stock):
    use_bolt_attention(stock)
    _, gradients = loss_and_gradients(stock)
    for block in range(len(stock.decoder.block)):
        layer = f"decoder.block.{block}.layer.0.SelfAttention"
        assert gradients[f"{layer}.q.weight"].abs().max() == 0 and gradients[f"{layer}.k.weight"].abs().max() == 0
        assert gradients[f"{layer}.v.weight"].abs().max() > 0


def test_attention_with_dropout_averages_to_attention_without(stock):
    """A layer is linear in its dropped weights, so that many draws average to the result without dropout."""
    use_bolt_attention(stock)
    token, cross = stock.decoder.block[0].layer[0].SelfAttention, stock.decoder.block[0].layer[1].EncDecAttention
    x, encoded = torch.randn(1, 1, token.d_model), torch.randn(1, 9, token.d_model)
    for layer, inputs in ((token, {}), (cross, {"key_value_states": encoded})):
        with torch.no_grad():
            expected = layer(x, **inputs)[0]
            layer.dropout = 0.25
            repeated = {name: value.expand(20_000, -1, -1) for name, value in inputs.items()}
            draws = layer(x.expand(20_000, -1, -1), **repeated)[0]
        error = draws.std(0) / 20_000**0.5
        assert error.min() > 0
        assert ((draws.mean(0) - expected[0]).abs() < 5 * error).all()


def test_low_rank_adapters_act_as_on_the_stock_layers(stock):
    adapted = add_adapters(stock, "bolt", LoraConfig())
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    fast = copy.deepcopy(adapted)
    use_cpu_layers(fast)
    torch.testing.assert_close(
        loss_and_gradients(fast.train()), loss_and_gradients(adapted.train()), rtol=1e-3, atol=1e-4
    )
