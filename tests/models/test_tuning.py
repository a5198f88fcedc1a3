"""Reshaped models, frozen weights, blends, adapters and the fast dropout."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from chronos import BaseChronosPipeline
from chronos.chronos2.layers import Chronos2LayerNorm
from safetensors.torch import load_file
from transformers.models.t5.modeling_t5 import T5LayerNorm

from pipeline.config import LoraConfig
from pipeline.core.errors import UserError
from pipeline.forecasting.forecaster import Forecaster
from pipeline.forecasting.plots import curve_figure
from pipeline.models.adapt import freeze, reshape, with_adapters
from pipeline.models.cpu import ByteDropout, DroppedAttention, ScaleNorm, use_cpu_layers
from pipeline.models.load import read_model
from pipeline.training.selection import Blend

CONTEXT = torch.sin(torch.arange(120) / 3.0)[None].repeat(3, 1) * torch.tensor([[1.0], [2.0], [5.0]])


def forecast(folder, prediction_length, levels=(0.1, 0.5, 0.9)):
    pipeline = BaseChronosPipeline.from_pretrained(folder)
    return pipeline.predict_quantiles(list(CONTEXT), prediction_length, quantile_levels=list(levels))[0]


def test_a_bolt_model_of_a_longer_horizon_forecasts_as_before_and_then_repeats_its_last_step(nano, tmp_path):
    model = read_model(nano["bolt"])
    reshape(model, "bolt", prediction_length=100, context_length=4096)
    model.save_pretrained(tmp_path / "long")
    saved = read_model(tmp_path / "long").config.chronos_config
    assert (saved["prediction_length"], saved["context_length"]) == (100, 4096)
    before, after = forecast(nano["bolt"], 64), forecast(tmp_path / "long", 100)
    torch.testing.assert_close(after[:, :64], before)
    torch.testing.assert_close(after[:, 64:], before[:, 63:].expand(-1, 36, -1))


@pytest.mark.parametrize("family", ["bolt", "chronos-2"])
def test_other_levels_are_those_of_the_nearest(nano, tmp_path, family):
    model = read_model(nano[family])
    reshape(model, family, quantiles=[0.05, 0.32, 0.5, 0.97])
    model.save_pretrained(tmp_path / "other")
    assert read_model(tmp_path / "other").config.chronos_config["quantiles"] == [0.05, 0.32, 0.5, 0.97]
    with torch.no_grad():
        context = CONTEXT.clone()
        new = read_model(tmp_path / "other")(context=context).quantile_preds
        old = read_model(nano[family])(context=context).quantile_preds
    levels = read_model(nano[family]).config.chronos_config["quantiles"]
    nearest = [levels.index(level) for level in ((0.1, 0.3, 0.5, 0.9) if family == "bolt" else (0.05, 0.3, 0.5, 0.95))]
    torch.testing.assert_close(new, old[:, nearest])


def test_the_loss_of_a_reshaped_model_is_that_of_its_new_levels(nano):
    """Of the level 0.5 alone the quantile loss is the absolute error, in standard deviations, summed over the horizon."""
    model = read_model(nano["bolt"]).eval()
    reshape(model, "bolt", quantiles=[0.5], prediction_length=80)
    target = CONTEXT[:, 40:120] + 0.3
    with torch.no_grad():
        out = model(context=CONTEXT.clone(), target=target.clone())
    error = (target - out.quantile_preds[:, 0]).abs() / CONTEXT.std(dim=1, correction=0, keepdim=True)
    assert out.loss.item() == pytest.approx(error.sum(dim=1).mean().item(), rel=1e-4)


@pytest.mark.parametrize("family", ["t5", "chronos-2"])
def test_longer_lengths_are_what_the_configuration_says(nano, tmp_path, family):
    model = read_model(nano[family])
    before = copy.deepcopy(model.config.chronos_config)
    reshape(model, family, context_length=9000, prediction_length=1030 if family == "chronos-2" else 90)
    model.save_pretrained(tmp_path / "long")
    after = read_model(tmp_path / "long").config.chronos_config
    assert after["context_length"] == 9000
    if family == "t5":
        changed = {key for key in before if before[key] != after[key]}
        assert changed == {"context_length", "prediction_length"} and after["prediction_length"] == 90
        assert forecast(tmp_path / "long", 90).shape == (3, 90, 3)
    else:
        assert after["max_output_patches"] == 65


def test_shorter_lengths_leave_the_model_as_it_is(nano):
    model = read_model(nano["bolt"])
    before = copy.deepcopy(model.config.chronos_config)
    reshape(model, "bolt", context_length=64, prediction_length=8, quantiles=before["quantiles"])
    assert model.config.chronos_config == before


def test_what_a_family_cannot_take_is_refused(nano):
    with pytest.raises(UserError, match="training.quantiles: a token model"):
        reshape(read_model(nano["t5"]), "t5", quantiles=[0.5])
    with pytest.raises(UserError, match="do not fit into the 1024 positions"):
        reshape(read_model(nano["gpt2"]), "gpt2", context_length=1000)


def test_frozen_weights_are_named_by_beginning_or_pattern(nano):
    model = read_model(nano["bolt"])
    freeze(model, ["encoder", "*.layer_norm.weight", "shared.weight"])
    for name, parameter in model.named_parameters():
        frozen = name.startswith("encoder.") or name.endswith(".layer_norm.weight") or name == "shared.weight"
        assert parameter.requires_grad != frozen, name


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_a_blend_lies_on_the_line_between_and_its_ends_are_exact(nano):
    base, model = read_model(nano["bolt"]), read_model(nano["bolt"])
    freeze(model, ["encoder"])
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    start, tuned = weights(base), weights(model)
    blend = Blend(model, base)
    for share in (0.3, 1.0, 0.0, 0.7):
        blend.set(share)
        for name, value in weights(model).items():
            expected = start[name] + share * (tuned[name] - start[name])
            if share in (0.0, 1.0):
                assert torch.equal(value, tuned[name] if share else start[name])
            torch.testing.assert_close(value, expected)


def test_a_blend_of_adapters_scales_what_they_add(nano):
    model = with_adapters(read_model(nano["bolt"]), "bolt", LoraConfig())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn_like(parameter))
    whole = weights(copy.deepcopy(model).merge_and_unload())
    Blend(model, read_model(nano["bolt"])).set(0.5)
    start = weights(read_model(nano["bolt"]))
    for name, value in weights(model.merge_and_unload()).items():
        torch.testing.assert_close(value, start[name] + 0.5 * (whole[name] - start[name]))


def test_byte_dropout_keeps_the_mean_and_its_share():
    torch.manual_seed(0)
    dropout = ByteDropout(0.1)
    ones = torch.ones(1000, 1003, requires_grad=True)
    out = dropout(ones)
    assert set(out.unique().tolist()) == {0.0, np.float32(256 / 230)}
    assert abs((out == 0).float().mean().item() - 26 / 256) < 0.002 and abs(out.mean().item() - 1) < 0.002
    out.sum().backward()
    assert torch.equal(ones.grad, out.detach())
    columns = (out.detach() == 0).float().mean(dim=0)
    assert columns.min() > 0.05 and columns.max() < 0.16
    assert torch.equal(dropout.eval()(ones), ones)
    torch.manual_seed(1)
    first = dropout.train()(ones)
    torch.manual_seed(1)
    assert torch.equal(first, dropout(ones))


@pytest.mark.parametrize("at_once", [1, 1 << 20])
def test_attention_with_dropout_is_differentiated_as_numbers_say(monkeypatch, at_once):
    monkeypatch.setattr("pipeline.models.cpu._VALUES_IN_CACHE", at_once)
    generator = torch.Generator().manual_seed(0)
    query, key, value, bias = (
        torch.randn(*shape, dtype=torch.float64, generator=generator, requires_grad=True)
        for shape in ((2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4), (1, 2, 3, 5))
    )
    mask = torch.tensor([[[[0.0, 0, 0, 0, -1e9]]], [[[0.0, 0, 0, 0, 0]]]], dtype=torch.float64)

    def attended(*inputs):
        torch.manual_seed(1)
        return DroppedAttention.apply(*inputs, mask, 64)

    assert torch.autograd.gradcheck(attended, (query, key, value, bias))
    scores = query @ key.transpose(2, 3) + bias + mask
    torch.testing.assert_close(DroppedAttention.apply(query, key, value, bias, mask, 0), scores.softmax(-1) @ value)
    draws = torch.stack([DroppedAttention.apply(query, key, value, bias, mask, 64) for _ in range(3000)])
    torch.testing.assert_close(draws.mean(0), scores.softmax(-1) @ value, atol=0.06, rtol=0)


@pytest.mark.parametrize("norm", [T5LayerNorm, Chronos2LayerNorm])
def test_the_layer_norm_and_its_gradients_are_those_of_the_stock_one(norm):
    stock = norm(7, eps=1e-3)
    torch.manual_seed(0)
    with torch.no_grad():
        stock.weight.normal_()
    own = copy.deepcopy(stock)
    own.__class__ = ScaleNorm
    gradient = torch.randn(2, 3, 7)
    found = []
    for module in (stock, own):
        x = torch.linspace(-3, 5, 42).reshape(2, 3, 7).requires_grad_()
        out = module(x)
        out.backward(gradient)
        found.append((out, x.grad, module.weight.grad))
    torch.testing.assert_close(*found)
    assert own(torch.zeros(1, 7)).abs().max() == 0


def test_a_bolt_model_makes_no_cache_in_training_and_its_configuration_stays(nano):
    model = read_model(nano["bolt"])
    use_cpu_layers(model)
    assert model.decoder.config.use_cache is False and model.config.use_cache is True


@pytest.mark.parametrize("family", ["t5", "bolt"])
def test_fast_dropout_leaves_forecasts_as_they_are_and_drops_in_training(nano, family):
    model = read_model(nano[family]).float()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    model.config.dropout_rate = 0.1
    for layer in model.modules():
        if hasattr(layer, "dropout") and isinstance(layer.dropout, float):
            layer.dropout = 0.1
    tokens = torch.randint(5, 60, (3, 20))
    mask = torch.arange(20) >= torch.tensor([[0], [3], [12]])

    def hidden():
        with torch.no_grad():
            if family == "t5":
                return model(input_ids=tokens, attention_mask=mask, labels=tokens).logits
            return model(context=CONTEXT).quantile_preds

    model.eval()
    before = hidden()
    use_cpu_layers(model)
    assert not any(type(module) is torch.nn.Dropout for module in model.modules())
    torch.testing.assert_close(hidden(), before)
    model.train()
    assert not torch.equal(hidden(), before) and not torch.equal(hidden(), hidden())


def test_the_curve_is_drawn_of_any_history():
    for history in ([], [{"step": 0, "eval_wql": 1.0, "eval_mase": 0.0, "eval_loss": 2.0}], [{"step": 3, "loss": 2.0}]):
        assert len(curve_figure(history).axes) == 2


def test_an_adapter_is_kept_beside_and_merges_to_what_was_saved(nano, tmp_path):
    from peft import PeftModel
    from trained import trained

    trainer = trained(nano["bolt"], tmp_path / "out", tmp_path, method="lora", learning_rate=1e-2, max_steps=10)
    assert "is saved" in trainer.verdict and "base itself" not in trainer.verdict
    merged = PeftModel.from_pretrained(read_model(nano["bolt"]), tmp_path / "out" / "adapter").merge_and_unload()
    saved = load_file(tmp_path / "out" / "model.safetensors")
    for name, value in weights(merged).items():
        torch.testing.assert_close(value, saved[name])


def test_training_gives_the_saved_model_the_shape_that_was_asked_for(nano, tmp_path):
    from trained import trained

    trained(
        nano["bolt"], tmp_path / "out", tmp_path,
        prediction_length=70, context_length=2064, quantiles=[0.25, 0.5, 0.75], validation_split=0.5,
    )  # fmt: skip
    config = read_model(tmp_path / "out").config.chronos_config
    assert (config["prediction_length"], config["context_length"]) == (70, 2064)
    assert config["quantiles"] == [0.25, 0.5, 0.75]
    assert torch.isfinite(forecast(tmp_path / "out", 70, (0.25, 0.5, 0.75))).all()


@pytest.mark.parametrize("levels", [[0.05, 0.5, 0.95], [0.2, 0.5, 0.8]])
@pytest.mark.parametrize("horizon", [5, 1100])
def test_a_chronos_2_of_other_levels_forecasts(nano, levels, horizon):
    model = read_model(nano["chronos-2"])
    reshape(model, "chronos-2", quantiles=levels)
    history = np.sin(np.arange(60, dtype=np.float32))
    quantiles, point = Forecaster.of_model(model).quantiles([history], horizon, levels)
    assert quantiles.shape == (1, horizon, len(levels)) and np.isfinite(quantiles).all()
    np.testing.assert_array_equal(point, quantiles[:, :, 1])


@pytest.mark.parametrize("longer", [False, True])
def test_the_adapter_beside_a_model_loads_on_its_base_or_is_not_kept(nano, tmp_path, longer):
    from trained import trained

    settings = {"method": "lora", "max_steps": 2, "refit": False, "prediction_length": 80 if longer else 16}
    base = tmp_path / "base"
    shutil.copytree(nano["bolt"], base)
    trainer = trained(base, tmp_path / "out", tmp_path, validation_split=0.0, **settings)
    assert trainer.model.config.chronos_config["prediction_length"] == (80 if longer else 64)
    assert (tmp_path / "out" / "adapter").exists() != longer
    if not longer:
        merged = read_model(tmp_path / "out" / "adapter")
        for name, value in trainer.model.state_dict().items():
            torch.testing.assert_close(merged.state_dict()[name], value)


@pytest.mark.parametrize("info, named", [
    ({"model_name": "someone/model", "commit": "abc", "converted": []}, ("someone/model", "abc")),
    ({"model_name": "someone/model", "commit": "abc", "converted": ["its weights are pickled"]}, None),
    ({"model_name": "builtin:bolt-synth", "commit": None, "converted": []}, None),
])  # fmt: skip
def test_an_adapter_names_the_hub_only_where_its_base_lies_there_as_it_was_trained(nano, tmp_path, info, named):
    from trained import trained

    shutil.copytree(nano["bolt"], tmp_path / "base")
    (tmp_path / "base" / "model_info.json").write_text(json.dumps(info))
    trained(tmp_path / "base", tmp_path / "out", tmp_path, method="lora", max_steps=1, validation_split=0.0)
    told = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    assert (told["base_model_name_or_path"], told["revision"]) == (named or (str(tmp_path / "base"), None))


def test_stock_chronos_2_loads_the_adapter_beside_a_model(nano, tmp_path):
    from chronos import BaseChronosPipeline, Chronos2Pipeline
    from trained import trained

    trained(nano["chronos-2"], tmp_path / "out", tmp_path, method="lora", max_steps=2, validation_split=0.0)
    context = torch.sin(torch.arange(40.0))
    of_adapter, merged = (
        pipeline.from_pretrained(folder).predict([context], prediction_length=8)[0]
        for pipeline, folder in (
            (Chronos2Pipeline, tmp_path / "out" / "adapter"), (BaseChronosPipeline, tmp_path / "out"),
        )
    )  # fmt: skip
    torch.testing.assert_close(of_adapter, merged)
