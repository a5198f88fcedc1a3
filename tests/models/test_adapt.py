import copy

import numpy as np
import pytest
import torch
from chronos import BaseChronosPipeline
from chronos.chronos2 import Chronos2Model
from chronos.chronos_bolt import ChronosBoltModelForForecasting

from pipeline.config import LoraConfig
from pipeline.core.errors import UserError
from pipeline.forecasting.forecaster import Forecaster
from pipeline.models.adapt import add_adapters, extract_adapter, freeze, resize, save_adapter, set_context_length
from pipeline.models.load import read_model

CONTEXT = torch.sin(torch.arange(120) / 3.0)[None].repeat(3, 1) * torch.tensor([[1.0], [2.0], [5.0]])


def chronos_config(model):
    return copy.deepcopy(model.config.chronos_config)


def resized(source, folder, family, **changes):
    """Resize a saved model, save it to another folder and return its saved chronos_config."""
    model = read_model(source)
    resize(model, family, **changes)
    model.save_pretrained(folder)
    return chronos_config(read_model(folder))


def forecast(folder, prediction_length):
    pipeline = BaseChronosPipeline.from_pretrained(folder)
    return pipeline.predict_quantiles(list(CONTEXT), prediction_length, quantile_levels=[0.1, 0.5, 0.9])[0]


def test_a_longer_bolt_horizon_keeps_the_forecast_and_repeats_its_last_step(tiny, tmp_path):
    assert resized(tiny["bolt"], tmp_path, "bolt", prediction_length=100)["prediction_length"] == 100
    before, after = forecast(tiny["bolt"], 64), forecast(tmp_path, 100)
    torch.testing.assert_close(after[:, :64], before)
    torch.testing.assert_close(after[:, 64:], before[:, 63:].expand(-1, 36, -1))


@pytest.mark.parametrize("family", ["bolt", "t5", "chronos-2"])
def test_a_longer_context_is_saved_and_read(tiny, tmp_path, family):
    before = chronos_config(read_model(tiny[family]))
    assert resized(tiny[family], tmp_path, family, context_length=9000) == {**before, "context_length": 9000}
    model = read_model(tmp_path)
    set_context_length(model, 32)
    assert chronos_config(model)["context_length"] == 32
    if family != "t5":
        assert isinstance(model, (ChronosBoltModelForForecasting, Chronos2Model))
        assert model.chronos_config.context_length == 32


@pytest.mark.parametrize("family, nearest", [("bolt", (0.1, 0.3, 0.5, 0.9)), ("chronos-2", (0.05, 0.3, 0.5, 0.95))])
def test_new_levels_start_as_the_nearest_levels(tiny, tmp_path, family, nearest):
    levels = [0.05, 0.32, 0.5, 0.97]
    assert resized(tiny[family], tmp_path, family, quantiles=levels)["quantiles"] == levels
    old_levels = read_model(tiny[family]).config.chronos_config["quantiles"]
    with torch.no_grad():
        old, new = (read_model(folder)(context=CONTEXT.clone()).quantile_preds for folder in (tiny[family], tmp_path))
    torch.testing.assert_close(new, old[:, [old_levels.index(level) for level in nearest]])


def test_the_loss_of_a_resized_model_is_that_of_its_new_levels(tiny):
    """The quantile loss at level 0.5 is the absolute error in standard deviations, summed over the horizon."""
    model = read_model(tiny["bolt"]).eval()
    resize(model, "bolt", quantiles=[0.5], prediction_length=80, context_length=128)
    target = CONTEXT[:, 40:120] + 0.3
    with torch.no_grad():
        out = model(context=CONTEXT.clone(), target=target.clone())
    error = (target - out.quantile_preds[:, 0]).abs() / CONTEXT.std(dim=1, correction=0, keepdim=True)
    assert out.loss.item() == pytest.approx(error.sum(dim=1).mean().item(), rel=1e-4)


def test_a_longer_token_model_forecasts_the_new_horizon(tiny, tmp_path):
    before = chronos_config(read_model(tiny["t5"]))
    after = resized(tiny["t5"], tmp_path, "t5", prediction_length=90)
    assert after == {**before, "prediction_length": 90}
    assert forecast(tmp_path, 90).shape == (3, 90, 3)


def test_a_longer_chronos_2_has_more_output_patches(tiny, tmp_path):
    before = chronos_config(read_model(tiny["chronos-2"]))
    after = resized(tiny["chronos-2"], tmp_path, "chronos-2", prediction_length=70)
    assert after == {**before, "max_output_patches": 5}


@pytest.mark.parametrize("family", ["bolt", "t5", "gpt2", "chronos-2"])
def test_shorter_lengths_change_nothing(tiny, family):
    model = read_model(tiny[family])
    before, weights = chronos_config(model), copy.deepcopy(model.state_dict())
    resize(model, family, context_length=32, prediction_length=8, quantiles=before.get("quantiles"))
    assert model.config.chronos_config == before
    torch.testing.assert_close(dict(model.state_dict()), dict(weights), rtol=0, atol=0)


def test_unsupported_changes_are_refused(tiny):
    with pytest.raises(UserError, match="training.quantiles"):
        resize(read_model(tiny["t5"]), "t5", quantiles=[0.5])
    with pytest.raises(UserError, match="training.context_length 1000 and training.prediction_length 64.* 1024 "):
        resize(read_model(tiny["gpt2"]), "gpt2", context_length=1000)


@pytest.mark.parametrize("levels", [[0.05, 0.5, 0.95], [0.2, 0.5, 0.8]])
@pytest.mark.parametrize("horizon", [5, 80])
def test_a_chronos_2_with_other_levels_forecasts(tiny, levels, horizon):
    model = read_model(tiny["chronos-2"])
    resize(model, "chronos-2", quantiles=levels)
    history = np.sin(np.arange(60, dtype=np.float32))
    quantiles, point = Forecaster.of_model(model).quantiles([history], horizon, levels)
    assert quantiles.shape == (1, horizon, len(levels)) and np.isfinite(quantiles).all()
    np.testing.assert_array_equal(point, quantiles[:, :, 1])


def test_parameters_are_frozen_by_prefix_pattern_or_name(tiny):
    model = read_model(tiny["bolt"])
    freeze(model, ["encoder", "*.layer_norm.weight", "shared.weight"])
    for name, parameter in model.named_parameters():
        frozen = name.startswith("encoder.") or name.endswith(".layer_norm.weight") or name == "shared.weight"
        assert parameter.requires_grad != frozen, name


@pytest.mark.parametrize("patterns", [["encoders"], ["*"]])
def test_a_pattern_that_matches_no_or_every_parameter_is_refused(tiny, patterns):
    with pytest.raises(UserError, match="training.freeze"):
        freeze(read_model(tiny["bolt"]), patterns)


def test_a_rank_above_that_of_any_weight_is_refused(tiny):
    model = read_model(tiny["bolt"])
    largest = max(min(weight.shape) for weight in model.state_dict().values() if weight.dim() == 2)
    with pytest.raises(UserError, match="training.lora.rank"):
        add_adapters(model, "bolt", LoraConfig(rank=largest + 1))
    add_adapters(model, "bolt", LoraConfig(rank=largest))


@pytest.mark.parametrize("family", ["bolt", "t5", "gpt2", "chronos-2"])
def test_a_saved_adapter_loads_with_its_base(tiny, tmp_path, family):
    model = add_adapters(read_model(tiny[family]), family, LoraConfig())
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trainable and all("lora_" in name for name in trainable)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    adapter = extract_adapter(model, str(tiny[family]), None)
    merged = dict(model.merge_and_unload().state_dict())
    save_adapter(adapter, tmp_path / "adapter")
    loaded = dict(read_model(tmp_path / "adapter").state_dict())
    torch.testing.assert_close(loaded, merged)
    start = read_model(tiny[family]).state_dict()
    assert any(not torch.equal(loaded[name], start[name]) for name in start)
