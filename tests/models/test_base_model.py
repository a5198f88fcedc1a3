import json
import shutil

import pytest
import torch
import transformers
from chronos import BaseChronosPipeline, ChronosBoltPipeline, ChronosPipeline
from safetensors.torch import load_file, save_file

from pipeline.base_model import ChronosBaseModel
from pipeline.core.errors import UserError
from pipeline.models.checkpoint import read_checkpoint
from pipeline.models.create import SCRATCH_SIZES, scratch_model
from pipeline.models.load import read_model

CONTEXT = torch.sin(torch.arange(80) / 5)


def converted(source, output):
    base = ChronosBaseModel(str(source))
    base.load_from_huggingface()
    base.convert_to_native_format()
    base.save_base_model(str(output))
    return base


def forecast(path):
    torch.manual_seed(0)
    return BaseChronosPipeline.from_pretrained(path).predict([CONTEXT], prediction_length=8)


@pytest.mark.parametrize(
    "family, pipeline_class",
    [("bolt", "ChronosBoltPipeline"), ("t5", "ChronosPipeline"), ("chronos-2", "Chronos2Pipeline")],
)
def test_stock_chronos_loads_what_is_saved_and_forecasts(nano, family, pipeline_class):
    assert type(BaseChronosPipeline.from_pretrained(nano[family])).__name__ == pipeline_class
    assert torch.isfinite(forecast(nano[family])[0]).all()


def test_a_causal_checkpoint_loads_as_one(nano):
    pipeline = BaseChronosPipeline.from_pretrained(nano["gpt2"])
    assert isinstance(pipeline, ChronosPipeline) and pipeline.model.config.model_type == "causal"
    assert forecast(nano["gpt2"]).shape == (1, 20, 8)


@pytest.mark.parametrize("size", ["t5-nano", "bolt-nano"])
def test_saved_weights_compute_what_they_computed_in_memory(nano, size):
    before, after = scratch_model(size, seed=0).eval(), read_model(nano[size.removesuffix("-nano")]).eval()
    for (name, one), (_, other) in zip(before.state_dict().items(), after.state_dict().items()):
        assert torch.equal(one, other), name
    if size == "t5-nano":
        ids = torch.arange(2, 52)[None]
        with torch.no_grad():
            assert torch.equal(before(input_ids=ids, labels=ids).logits, after(input_ids=ids, labels=ids).logits)


# Parameter counts of the published checkpoints, in millions, from their model cards.
@pytest.mark.parametrize(
    "size, millions",
    [("t5-tiny", 8), ("t5-mini", 20), ("t5-small", 46), ("bolt-tiny", 9), ("bolt-mini", 21), ("bolt-small", 48)],
)
def test_scratch_sizes_are_the_published_ones(size, millions):
    n_parameters = sum(parameter.numel() for parameter in scratch_model(size, seed=0).parameters())
    assert abs(n_parameters / 1e6 - millions) < 0.6


def test_scratch_weights_follow_from_the_seed():
    weights = [scratch_model("bolt-nano", seed).state_dict()["shared.weight"] for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_a_bolt_from_scratch_has_the_published_context_and_horizon(nano):
    checkpoint = read_checkpoint(nano["bolt"])
    assert (checkpoint.context_length, checkpoint.prediction_length) == (2048, 64)
    assert checkpoint.quantiles == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def test_model_info_says_what_the_model_is(nano):
    info = json.loads((nano["bolt"] / "model_info.json").read_text())
    model = read_model(nano["bolt"])
    assert info["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert {key: info[key] for key in ("family", "context_length", "prediction_length", "dtype", "model_name")} == {
        "family": "bolt",
        "context_length": 2048,
        "prediction_length": 64,
        "dtype": "float32",
        "model_name": "scratch:bolt-nano",
    }


def test_pickled_weights_become_safetensors(nano, tmp_path):
    source = tmp_path / "pickled"
    shutil.copytree(nano["bolt"], source)
    (source / "model.safetensors").unlink()
    torch.save(read_model(nano["bolt"]).state_dict(), source / "pytorch_model.bin")
    converted(source, tmp_path / "native")
    assert sorted(path.suffix for path in (tmp_path / "native").glob("*model*")) == [".json", ".safetensors"]
    assert torch.equal(forecast(tmp_path / "native"), forecast(nano["bolt"]))


def test_pickled_weights_that_would_run_code_are_refused(nano, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    source = tmp_path / "bomb"
    shutil.copytree(nano["bolt"], source)
    (source / "model.safetensors").unlink()
    torch.save({"shared.weight": Bomb()}, source / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot load"):
        converted(source, tmp_path / "native")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("key", ["chronos_pipeline_class", "architectures"])
def test_missing_keys_of_the_config_are_filled_in(nano, tmp_path, key):
    source = tmp_path / "bare"
    shutil.copytree(nano["bolt"], source)
    config = json.loads((source / "config.json").read_text())
    del config[key]
    (source / "config.json").write_text(json.dumps(config))
    converted(source, tmp_path / "native")
    assert isinstance(BaseChronosPipeline.from_pretrained(tmp_path / "native"), ChronosBoltPipeline)
    assert torch.equal(forecast(tmp_path / "native"), forecast(nano["bolt"]))


@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_a_plain_language_model_becomes_a_token_model(kind, tmp_path):
    if kind == "t5":
        config = transformers.T5Config(vocab_size=100, d_model=16, d_ff=32, d_kv=8, num_layers=1, num_heads=2)
        transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "plain")
    else:
        config = transformers.GPT2Config(vocab_size=100, n_embd=16, n_layer=1, n_head=2)
        transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "plain")
    converted(tmp_path / "plain", tmp_path / "native")
    pipeline = BaseChronosPipeline.from_pretrained(tmp_path / "native")
    assert pipeline.inner_model.get_input_embeddings().num_embeddings == 4096
    assert pipeline.inner_model.config.pad_token_id == 0 and pipeline.inner_model.config.eos_token_id == 1
    assert pipeline.predict([CONTEXT], prediction_length=4).shape == (1, 20, 4)
    kept = read_model(tmp_path / "plain").get_input_embeddings().weight[:100]
    assert torch.equal(pipeline.inner_model.get_input_embeddings().weight[:100], kept)


def test_an_adapter_is_merged_into_its_base(nano, tmp_path):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = read_model(nano["bolt"])
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q", "v"], init_lora_weights=False)).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(nano["bolt"])
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    with torch.no_grad():
        expected = adapted(context=CONTEXT[None]).quantile_preds
        converted(tmp_path / "adapter", tmp_path / "native")
        merged = read_model(tmp_path / "native").eval()(context=CONTEXT[None]).quantile_preds
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(merged[..., :8], forecast(nano["bolt"]), atol=1e-3)


def test_what_is_not_native_is_refused_without_conversion(nano, tmp_path):
    source = tmp_path / "bare"
    shutil.copytree(nano["bolt"], source)
    config = json.loads((source / "config.json").read_text())
    del config["architectures"]
    (source / "config.json").write_text(json.dumps(config))
    base = ChronosBaseModel(str(source))
    base.load_from_huggingface()
    with pytest.raises(UserError, match="no architectures"):
        base.save_base_model(str(tmp_path / "native"))
    assert not (tmp_path / "native").exists()


@pytest.mark.parametrize("name", ["scratch:bolt-huge", "no/such/folder", "./nowhere", "gpt5"])
def test_names_that_lead_nowhere_are_refused(name):
    with pytest.raises(UserError, match="no folder|no size"):
        ChronosBaseModel(name).load_from_huggingface()


def test_every_scratch_size_is_named_in_the_refusal():
    with pytest.raises(UserError) as refused:
        scratch_model("x", seed=0)
    assert all(size in str(refused.value) for size in SCRATCH_SIZES)


def test_a_model_of_another_kind_is_refused(tmp_path):
    config = transformers.BertConfig(
        vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    with pytest.raises(UserError, match="type bert"):
        ChronosBaseModel(str(tmp_path / "bert")).load_from_huggingface()


@pytest.mark.parametrize("cut", [0, 7, 100, 50_000])
def test_weights_that_are_cut_short_are_refused(nano, tmp_path, cut):
    source = tmp_path / "cut"
    shutil.copytree(nano["bolt"], source)
    whole = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(whole[:cut])
    with pytest.raises(UserError, match="model.safetensors"):
        read_model(source)


def test_weights_that_are_missing_are_not_made_up(nano, tmp_path, caplog):
    source = tmp_path / "source"
    shutil.copytree(nano["bolt"], source)
    whole = load_file(source / "model.safetensors")
    kept = {name: value for name, value in whole.items() if name != "encoder.final_layer_norm.weight"}
    save_file(kept, source / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="lacks 1 of the model's weights, encoder.final_layer_norm.weight"):
        read_model(source)
    save_file({f"inner.{name}": value for name, value in whole.items()}, source / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="lacks"):
        read_model(source)
    save_file({**whole, "more": torch.ones(3)}, source / "model.safetensors", {"format": "pt"})
    assert torch.equal(read_model(source).shared.weight, whole["shared.weight"])
    assert "no place for are left out, such as more" in caplog.text


def test_a_folder_that_holds_something_else_is_not_replaced(nano, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("cat")
    with pytest.raises(UserError, match="not empty"):
        converted(nano["bolt"], tmp_path / "photos")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.png"]


def test_without_metadata_a_base_is_replaced_and_random_weights_are_refused(nano, tmp_path):
    for _ in range(2):
        base = ChronosBaseModel(str(nano["bolt"]))
        base.load_from_huggingface()
        base.convert_to_native_format()
        base.save_without_metadata(str(tmp_path / "base"))
    assert not (tmp_path / "base" / "model_info.json").exists()
    base = ChronosBaseModel("scratch:bolt-nano")
    base.load_from_huggingface()
    base.convert_to_native_format()
    with pytest.raises(UserError, match="save_metadata"):
        base.save_without_metadata(str(tmp_path / "random"))


def test_a_base_model_is_replaced_by_another(nano, tmp_path):
    converted("scratch:bolt-nano", tmp_path / "base")
    converted("scratch:t5-nano", tmp_path / "base")
    assert read_checkpoint(tmp_path / "base").family == "t5"
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
