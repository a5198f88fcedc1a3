"""Training runs that change the shape of the base or train adapters, and the adapters that they save."""

import json
import shutil

import pytest
import torch
from chronos import BaseChronosPipeline, Chronos2Pipeline
from safetensors.torch import load_file, save_file
from support.runs import trained

from pipeline.core.errors import UserError
from pipeline.models.load import read_model

LORA = {"method": "lora", "max_steps": 2, "validation_split": 0.0}


def assert_same_weights(model, folder):
    torch.testing.assert_close(dict(model.state_dict()), dict(read_model(folder).state_dict()))


def test_the_saved_adapter_merges_to_the_selected_model(tiny, tmp_path):
    trained(tiny["bolt"], tmp_path / "out", method="lora", learning_rate=1e-1, refit=True)
    name = "output_patch_embedding.output_layer.weight"
    base, saved = (load_file(folder / "model.safetensors")[name] for folder in (tiny["bolt"], tmp_path / "out"))
    assert not torch.equal(base, saved)
    assert_same_weights(read_model(tmp_path / "out" / "adapter"), tmp_path / "out")


def test_the_saved_model_has_the_requested_shape(tiny, tmp_path):
    levels = [0.25, 0.5, 0.75]
    trained(
        tiny["bolt"], tmp_path / "out",
        prediction_length=70, context_length=80, quantiles=levels, validation_split=0.5, max_steps=2,
    )  # fmt: skip
    config = read_model(tmp_path / "out").config.chronos_config
    assert (config["prediction_length"], config["context_length"], config["quantiles"]) == (70, 80, levels)
    pipeline = BaseChronosPipeline.from_pretrained(tmp_path / "out")
    quantiles, _ = pipeline.predict_quantiles([torch.sin(torch.arange(90.0))], 70, quantile_levels=levels)
    assert quantiles.shape == (1, 70, 3) and torch.isfinite(quantiles).all()


@pytest.mark.parametrize("horizon", [16, 80])
def test_the_adapter_is_saved_if_it_fits_the_head_of_its_base(tiny, tmp_path, horizon):
    trained(tiny["bolt"], tmp_path / "out", **LORA, prediction_length=horizon)
    assert read_model(tmp_path / "out").config.chronos_config["prediction_length"] == max(64, horizon)
    assert (tmp_path / "out" / "adapter").exists() == (horizon == 16)
    if horizon == 16:
        assert_same_weights(read_model(tmp_path / "out" / "adapter"), tmp_path / "out")


@pytest.mark.parametrize("info, base", [
    ({"model_name": "someone/model", "commit": "abc", "converted": []}, ("someone/model", "abc")),
    ({"model_name": "someone/model", "commit": "abc", "converted": ["its weights are pickled"]}, None),
    ({"model_name": "builtin:bolt-synth", "commit": None, "converted": []}, None),
])  # fmt: skip
def test_an_adapter_refers_to_the_hub_only_for_an_unconverted_hub_model(tiny, tmp_path, info, base):
    shutil.copytree(tiny["bolt"], tmp_path / "base")
    (tmp_path / "base" / "model_info.json").write_text(json.dumps(info))
    trained(tmp_path / "base", tmp_path / "out", **LORA)
    config = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (base or (str(tmp_path / "base"), None))


def test_stock_chronos_2_loads_the_saved_adapter(tiny, tmp_path):
    trained(tiny["chronos-2"], tmp_path / "out", **LORA)
    context = torch.sin(torch.arange(40.0))
    adapted, merged = (
        pipeline.from_pretrained(folder).predict([context], prediction_length=8)[0]
        for pipeline, folder in (
            (Chronos2Pipeline, tmp_path / "out" / "adapter"), (BaseChronosPipeline, tmp_path / "out"),
        )
    )  # fmt: skip
    torch.testing.assert_close(adapted, merged)


def test_an_adapter_that_does_not_fit_its_base_is_refused(tiny, tmp_path):
    trained(tiny["bolt"], tmp_path / "out", **LORA)
    adapter = tmp_path / "out" / "adapter"
    weights = load_file(adapter / "adapter_model.safetensors")
    renamed = {f"other.{name}": value for name, value in weights.items()}
    for changed, n_missing in ((renamed, len(weights)), (dict(list(weights.items())[1:]), 1)):
        save_file(changed, adapter / "adapter_model.safetensors")
        with pytest.raises(UserError, match=f"{n_missing} of"):
            read_model(adapter)
