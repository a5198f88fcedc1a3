import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from pipeline.core.errors import UserError
from pipeline.forecasting.forecaster import Forecaster
from pipeline.models.checkpoint import weight_files
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


def test_an_unexpected_weight_is_refused_by_name(copy):
    folder, weights = copy
    save_file({**weights, "more": torch.ones(3)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"unexpected 1: more\b"):
        read_model(folder)


@pytest.mark.parametrize(
    "name", ["input_patch_embedding.output_layer.bias", "output_patch_embedding.output_layer.weight"]
)
def test_missing_patch_embeddings_are_refused(copy, name):
    """The stock Bolt fills them with random values and reports nothing."""
    folder, weights = copy
    del weights[name]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=f"lacks 1: {name}"):
        read_model(folder)


@pytest.mark.parametrize("family", ["bolt", "t5", "gpt2", "chronos-2"])
def test_one_changed_bit_in_the_name_of_a_tensor_is_refused(tiny, tmp_path, family):
    folder = shutil.copytree(tiny[family], tmp_path / "copy")
    content = (folder / "model.safetensors").read_bytes()
    assert content.count(b"norm.weight") or content.count(b"ln_f.weight")
    old = b"layer_norm.weight" if b"layer_norm.weight" in content else b"ln_f.weight"
    new = bytes([old[0] ^ 1]) + old[1:]
    (folder / "model.safetensors").write_bytes(content.replace(old, new, 1))
    with pytest.raises(UserError, match=f"lacks 1: .*{old.decode()}; it has unexpected 1: .*{new.decode()}"):
        read_model(folder)


@pytest.mark.parametrize(
    "family, key",
    [("bolt", "num_layers"), ("t5", "num_decoder_layers"), ("gpt2", "n_layer"), ("chronos-2", "num_layers")],
)
@pytest.mark.parametrize("layers, verb", [(1, "unexpected"), (3, "lacks")])
def test_a_wrong_number_of_layers_is_refused(tmp_path, family, key, layers, verb):
    scratch_model(f"{family}-nano", seed=0).save_pretrained(tmp_path)  # of two layers
    change_config(tmp_path, **{key: layers})
    with pytest.raises(UserError, match=rf"{verb} \d+: \w+"):
        read_model(tmp_path)


def test_misshapen_weights_are_refused_without_making_a_model_of_their_shape(copy):
    folder, _ = copy
    change_config(folder, d_ff=2**20, d_kv=2**18)  # gigabytes
    with pytest.raises(
        UserError, match=r"misshapen \d+: decoder\.block\.0\.\S+ \(\[16, 16\] instead of \[524288, 16\]\)"
    ):
        read_model(folder)


def test_tied_weights_and_those_that_old_versions_saved_are_accepted(copy, tiny, tmp_path):
    folder, weights = copy
    tied = {f"{part}.embed_tokens.weight": weights["shared.weight"].clone() for part in ("encoder", "decoder")}
    save_file({**weights, **tied, "lm_head.weight": torch.ones(2, 16)}, folder / "model.safetensors", {"format": "pt"})
    assert torch.equal(read_model(folder).get_parameter("shared.weight"), weights["shared.weight"])
    t5 = shutil.copytree(tiny["t5"], tmp_path / "t5")
    old = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    save_file(
        {**load_file(t5 / "model.safetensors"), old: torch.ones(32, 2)}, t5 / "model.safetensors", {"format": "pt"}
    )
    read_model(t5)


@pytest.mark.parametrize("old, new", [(b'"F32"', b'"I32"'), (b'"F32"', b'"U32"')])
def test_weights_of_another_type_of_the_same_size_are_refused(copy, old, new):
    folder, _ = copy
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content.replace(old, new, 1))
    with pytest.raises(UserError, match=r"header of .*\.dtype is '[IU]32'"):
        read_model(folder)


@pytest.fixture
def sharded(tiny, tmp_path):
    """A checkpoint with its weights in several files, and the content of its index."""
    read_model(tiny["bolt"]).save_pretrained(tmp_path / "cache" / "snapshots" / "main", max_shard_size="40KB")
    folder = tmp_path / "cache" / "snapshots" / "main"
    return folder, json.loads((folder / "model.safetensors.index.json").read_text())


@pytest.mark.parametrize("place", ["../{name}", "{parent}/{name}", "./{name}", "..", "weights.pt"])
def test_an_index_that_names_files_elsewhere_is_refused(sharded, place):
    folder, index = sharded
    for tensor, name in index["weight_map"].items():
        shutil.copy(folder / name, folder.parent / name)
        index["weight_map"][tensor] = place.format(name=name, parent=folder.parent)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"index\.json: weight_map\."):
        read_model(folder)


@pytest.mark.parametrize("home, accepted", [("elsewhere", False), ("cache/blobs", True)])
def test_a_shard_is_a_link_into_the_cache_of_the_hub_only(sharded, tmp_path, home, accepted):
    folder, index = sharded
    read_model(folder)
    name = index["weight_map"]["shared.weight"]
    (tmp_path / home).mkdir()
    (folder / name).rename(tmp_path / home / "0123")
    (folder / name).symlink_to(tmp_path / home / "0123")
    with nullcontext() if accepted else pytest.raises(UserError, match=f"{name} is a link"):
        read_model(folder)


@pytest.mark.parametrize("base", [".", "../adapter"])
def test_an_adapter_of_itself_is_refused(tmp_path, base):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    with pytest.raises(UserError, match="is an adapter itself"):
        read_model(folder)


def change_config(folder, **changes):
    """Write a configuration with other values."""
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **changes}))


def test_a_checkpoint_may_be_in_a_folder_beside_the_root():
    with pytest.raises(UserError, match="model.safetensors"):
        weight_files(Path("/"))
