import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from pipeline.core.errors import UserError
from pipeline.forecasting.forecaster import Forecaster
from pipeline.models.create import scratch_model
from pipeline.models.load import read_model


@pytest.fixture
def copy(tiny, tmp_path):
    """A copy of the tiny Bolt checkpoint, and its weights."""
    shutil.copytree(tiny["bolt"], tmp_path / "copy")
    return tmp_path / "copy", load_file(tiny["bolt"] / "model.safetensors")


@pytest.mark.parametrize("size", ["t5-nano", "bolt-nano"])
def test_a_loaded_model_computes_the_same_as_in_memory(nano, size):
    before, after = scratch_model(size, seed=0).eval(), read_model(nano[size.removesuffix("-nano")]).eval()
    for (name, expected), (_, loaded) in zip(before.state_dict().items(), after.state_dict().items()):
        assert torch.equal(expected, loaded), name
    if size == "t5-nano":
        ids = torch.arange(2, 52)[None]
        with torch.no_grad():
            assert torch.equal(before(input_ids=ids, labels=ids).logits, after(input_ids=ids, labels=ids).logits)


def test_a_model_of_an_unknown_type_is_refused(tmp_path):
    config = transformers.BertConfig(
        vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="model_type is bert"):
        read_model(tmp_path)


@pytest.mark.parametrize("size", [0, 7, 100, 50_000])
def test_a_truncated_weight_file_is_refused(copy, size):
    folder, _ = copy
    content = (folder / "model.safetensors").read_bytes()
    assert len(content) > size
    (folder / "model.safetensors").write_bytes(content[:size])
    with pytest.raises(UserError, match="model.safetensors"):
        read_model(folder)


def test_a_missing_weight_is_refused_by_name(copy):
    folder, weights = copy
    del weights["encoder.final_layer_norm.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"\b1\b.*encoder\.final_layer_norm\.weight"):
        read_model(folder)


def test_forecasts_refuse_missing_weights_as_training_does(copy):
    """Stock `from_pretrained` fills them with random values."""
    folder, weights = copy
    del weights["encoder.final_layer_norm.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"encoder\.final_layer_norm\.weight"):
        Forecaster.load(str(folder))


def test_weights_under_other_names_are_refused(copy):
    folder, weights = copy
    renamed = {f"inner.{name}": value for name, value in weights.items()}
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=rf"{folder}.*decoder\.block"):
        read_model(folder)


def test_an_unexpected_weight_is_ignored_with_a_warning(copy, caplog):
    folder, weights = copy
    save_file({**weights, "more": torch.ones(3)}, folder / "model.safetensors", {"format": "pt"})
    assert torch.equal(read_model(folder).get_parameter("shared.weight"), weights["shared.weight"])
    (record,) = [record for record in caplog.records if record.name.startswith("pipeline")]
    assert record.levelname == "WARNING" and record.args == (folder, 1, "more")
