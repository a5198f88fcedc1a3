import copy

import numpy as np
import pytest
import torch
from chronos.chronos2.layers import Chronos2LayerNorm
from transformers import PreTrainedModel
from transformers.models.t5.modeling_t5 import T5LayerNorm

from pipeline.models.cpu import ByteDropout, DropoutAttention, RMSNorm, use_cpu_layers
from pipeline.models.load import read_model


def test_byte_dropout_preserves_the_mean_and_drops_26_of_256():
    torch.manual_seed(0)
    dropout = ByteDropout(0.1)
    ones = torch.ones(1000, 1003, requires_grad=True)
    out = dropout(ones)
    assert set(out.unique().tolist()) == {0.0, np.float32(256 / 230)}
    assert abs((out == 0).float().mean().item() - 26 / 256) < 0.002 and abs(out.mean().item() - 1) < 0.002
    out.sum().backward()
    assert ones.grad is not None and torch.equal(ones.grad, out.detach())
    columns = (out.detach() == 0).float().mean(dim=0)
    assert columns.min() > 0.05 and columns.max() < 0.16


def test_byte_dropout_is_deterministic_given_the_seed_and_off_in_evaluation():
    dropout, ones = ByteDropout(0.1), torch.ones(10, 13)
    draws = []
    for _ in range(2):
        torch.manual_seed(1)
        draws.append(dropout(ones))
    assert torch.equal(*draws) and not torch.equal(draws[0], dropout(ones))
    assert torch.equal(dropout.eval()(ones), ones)


@pytest.mark.parametrize("weights_at_once", [1, 1 << 20])
def test_dropout_attention_has_the_numerical_gradient_and_the_mean_of_attention(weights_at_once):
    generator = torch.Generator().manual_seed(0)
    query, key, value, bias = (
        torch.randn(*shape, dtype=torch.float64, generator=generator, requires_grad=True)
        for shape in ((2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4), (1, 2, 3, 5))
    )
    mask = torch.tensor([[[[0.0, 0, 0, 0, -1e9]]], [[[0.0, 0, 0, 0, 0]]]], dtype=torch.float64)

    def attend(*inputs):
        torch.manual_seed(1)
        return DropoutAttention.apply(*inputs, mask, 64, weights_at_once)

    assert torch.autograd.gradcheck(attend, (query, key, value, bias))
    expected = (query @ key.transpose(2, 3) + bias + mask).softmax(-1) @ value
    without_dropout = DropoutAttention.apply(query, key, value, bias, mask, 0, weights_at_once)
    torch.testing.assert_close(without_dropout, expected)
    with torch.no_grad():
        inputs = [tensor.repeat(2000, 1, 1, 1) for tensor in (query, key, value)]
        draws = DropoutAttention.apply(*inputs, bias, mask.repeat(2000, 1, 1, 1), 64, max(weights_at_once, 3000))
    torch.testing.assert_close(draws.view(2000, *query.shape).mean(0), expected.detach(), atol=0.06, rtol=0)


@pytest.mark.parametrize("norm", [T5LayerNorm, Chronos2LayerNorm])
def test_the_layer_norm_and_its_gradients_equal_the_stock_ones(norm):
    stock = norm(7, eps=1e-3)
    torch.manual_seed(0)
    with torch.no_grad():
        stock.weight.normal_()
    fast = copy.deepcopy(stock)
    fast.__class__ = RMSNorm
    gradient = torch.randn(2, 3, 7)
    results = []
    for module in (stock, fast):
        x = torch.linspace(-3, 5, 42).reshape(2, 3, 7).requires_grad_()
        out = module(x)
        out.backward(gradient)
        results.append((out, x.grad, module.weight.grad))
    torch.testing.assert_close(*results)
    assert fast(torch.zeros(1, 7)).abs().max() == 0


def test_a_bolt_decoder_makes_no_cache_and_the_saved_configuration_stays(tiny):
    model = read_model(tiny["bolt"])
    use_cpu_layers(model)
    decoder = model.get_submodule("decoder")
    assert isinstance(decoder, PreTrainedModel) and decoder.config.use_cache is False
    assert model.config.use_cache is True


@pytest.mark.parametrize("family", ["t5", "bolt"])
def test_cpu_layers_keep_forecasts_and_drop_values_in_training(tiny, family):
    model = read_model(tiny[family]).float()
    model.config.dropout_rate = 0.1
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.1
    torch.manual_seed(0)
    context, tokens = torch.randn(3, 60), torch.randint(5, 60, (3, 20))
    mask = torch.arange(20) >= torch.tensor([[0], [3], [12]])

    @torch.no_grad()
    def outputs():
        if family == "t5":
            return model(input_ids=tokens, attention_mask=mask, labels=tokens).logits
        return model(context=context).quantile_preds

    model.eval()
    before = outputs()
    use_cpu_layers(model)
    assert not any(type(module) is torch.nn.Dropout for module in model.modules())
    torch.testing.assert_close(outputs(), before)
    model.train()
    assert not torch.equal(outputs(), before) and not torch.equal(outputs(), outputs())
