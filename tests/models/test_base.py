import json
import shutil

import pytest
import torch
import transformers
from chronos import BaseChronosPipeline, ChronosBoltPipeline, ChronosPipeline
from peft import LoraConfig, get_peft_model

from pipeline.config import BaseModelConfig, Config, GeneralConfig, PathsConfig
from pipeline.core.errors import UserError
from pipeline.models.base import base_folder, convert, load_base, make_base, provide_base, save
from pipeline.models.checkpoint import read_checkpoint, weights_fingerprint
from pipeline.models.create import scratch_model
from pipeline.models.find import find_base
from pipeline.models.load import read_model

CONTEXT = torch.sin(torch.arange(80) / 5)


def convert_folder(source, output):
    save(convert(load_base(str(source))), output)


def edited_copy(source, folder, **changes):
    """Return a copy of a checkpoint with other values in config.json; None removes a key."""
    shutil.copytree(source, folder)
    config = {**json.loads((folder / "config.json").read_text()), **changes}
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


def pickled_copy(source, folder, weights):
    shutil.copytree(source, folder)
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


def forecast(path):
    torch.manual_seed(0)
    return BaseChronosPipeline.from_pretrained(path).predict([CONTEXT], prediction_length=8)


@pytest.mark.parametrize(
    "family, pipeline_class",
    [
        ("bolt", "ChronosBoltPipeline"),
        ("t5", "ChronosPipeline"),
        ("gpt2", "ChronosPipeline"),
        ("chronos-2", "Chronos2Pipeline"),
    ],
)
def test_stock_chronos_loads_a_saved_base(tiny, family, pipeline_class):
    pipeline = BaseChronosPipeline.from_pretrained(tiny[family])
    assert type(pipeline).__name__ == pipeline_class
    assert torch.isfinite(forecast(tiny[family])[0]).all()
    if isinstance(pipeline, ChronosPipeline):
        assert pipeline.model.config.model_type == ("causal" if family == "gpt2" else "seq2seq")


def test_model_info_describes_the_model(nano):
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
    assert (info["seed"], info["revision"], info["commit"], info["converted"]) == (0, None, None, [])


def test_pickled_weights_become_safetensors(tiny, tmp_path):
    source = pickled_copy(tiny["bolt"], tmp_path / "pickled", read_model(tiny["bolt"]).state_dict())
    convert_folder(source, tmp_path / "native")
    assert sorted(path.suffix for path in (tmp_path / "native").glob("*model*")) == [".json", ".safetensors"]
    assert torch.equal(forecast(tmp_path / "native"), forecast(tiny["bolt"]))
    assert len(json.loads((tmp_path / "native" / "model_info.json").read_text())["converted"]) == 1


def test_pickled_weights_cannot_run_code(tiny, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    source = pickled_copy(tiny["bolt"], tmp_path / "bomb", {"shared.weight": Bomb()})
    with pytest.raises(UserError, match=str(source)):
        load_base(str(source))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("key", ["chronos_pipeline_class", "architectures"])
def test_missing_configuration_keys_are_added(tiny, tmp_path, key):
    source = edited_copy(tiny["bolt"], tmp_path / "bare", **{key: None})
    with pytest.raises(UserError, match=f"{key}.*base_model.convert_format"):
        save(load_base(str(source)), tmp_path / "native")
    assert not (tmp_path / "native").exists()
    convert_folder(source, tmp_path / "native")
    assert isinstance(BaseChronosPipeline.from_pretrained(tmp_path / "native"), ChronosBoltPipeline)
    assert torch.equal(forecast(tmp_path / "native"), forecast(tiny["bolt"]))


@pytest.mark.parametrize("family", ["t5", "gpt2"])
def test_a_plain_language_model_becomes_a_token_model(family, tmp_path):
    if family == "t5":
        t5 = transformers.T5Config(vocab_size=100, d_model=16, d_ff=32, d_kv=8, num_layers=1, num_heads=2)
        transformers.T5ForConditionalGeneration(t5).save_pretrained(tmp_path / "plain")
    else:
        gpt2 = transformers.GPT2Config(vocab_size=100, n_embd=16, n_layer=1, n_head=2)
        transformers.GPT2LMHeadModel(gpt2).save_pretrained(tmp_path / "plain")
    convert_folder(tmp_path / "plain", tmp_path / "native")
    pipeline = BaseChronosPipeline.from_pretrained(tmp_path / "native")
    assert pipeline.inner_model.get_input_embeddings().num_embeddings == 4096
    assert pipeline.inner_model.config.pad_token_id == 0 and pipeline.inner_model.config.eos_token_id == 1
    assert pipeline.predict([CONTEXT], prediction_length=4).shape == (1, 20, 4)
    old = read_model(tmp_path / "plain").get_input_embeddings().get_parameter("weight")[:100]
    assert torch.equal(pipeline.inner_model.get_input_embeddings().weight[:100], old)


def test_an_adapter_is_merged_into_its_base(tiny, tmp_path):
    torch.manual_seed(0)
    lora = LoraConfig(r=2, target_modules=["q", "v"], init_lora_weights=False)
    adapted = get_peft_model(read_model(tiny["bolt"]), lora).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(tiny["bolt"])
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="chronos-native base .*adapter"):
        read_checkpoint(tmp_path / "adapter")
    with torch.no_grad():
        expected = adapted(context=CONTEXT[None]).quantile_preds
        convert_folder(tmp_path / "adapter", tmp_path / "native")
        merged = read_model(tmp_path / "native").eval()(context=CONTEXT[None]).quantile_preds
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(merged[..., :8], forecast(tiny["bolt"]), atol=1e-3)


@pytest.mark.parametrize("name", ["scratch:bolt-huge", "no/such/folder", "./nowhere", "gpt5"])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(UserError, match=name.removeprefix("./")):
        load_base(name)


@pytest.mark.parametrize("name", ["scratch:bolt-nano", "builtin:bolt-synth", "s3://bucket/model", "."])
def test_a_revision_is_for_the_hub_only(name):
    with pytest.raises(UserError, match="base_model.revision"):
        load_base(name, revision="v9")


def test_a_folder_with_other_files_is_not_replaced(tiny, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("cat")
    with pytest.raises(UserError, match=r"photos.*base_model\.output_path"):
        convert_folder(tiny["bolt"], tmp_path / "photos")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.png"]


def test_a_base_is_replaced_by_another(tiny, tmp_path):
    convert_folder(tiny["bolt"], tmp_path / "base")
    convert_folder(tiny["t5"], tmp_path / "base")
    assert read_checkpoint(tmp_path / "base").family == "t5"
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_base_without_metadata_is_replaced_and_random_weights_need_metadata(tiny, tmp_path):
    base = convert(load_base(str(tiny["bolt"])))
    for _ in range(2):
        save(base, tmp_path / "base", with_metadata=False)
    assert not (tmp_path / "base" / "model_info.json").exists()
    with pytest.raises(UserError, match="base_model.save_metadata"):
        save(convert(load_base("scratch:bolt-nano")), tmp_path / "random", with_metadata=False)


def test_make_base_follows_its_configuration(tiny, tmp_path):
    output = tmp_path / "base"

    def make(name, **settings):
        section = BaseModelConfig(model_name=str(name), output_path=str(output), **settings)
        return make_base(Config(chronos=GeneralConfig(seed=7), base_model=section))

    info = make("scratch:bolt-nano")
    assert info == json.loads((output / "model_info.json").read_text())
    saved, expected = (
        model.get_parameter("shared.weight") for model in (read_model(output), scratch_model("bolt-nano", 7))
    )
    assert info["seed"] == 7 and torch.equal(saved, expected)
    source = edited_copy(tiny["bolt"], tmp_path / "bare", architectures=None)
    with pytest.raises(UserError, match="base_model.convert_format"):
        make(source, convert_format=False)
    make(source, save_metadata=False)
    assert not (output / "model_info.json").exists() and (output / "model.safetensors").is_file()


def test_the_base_in_a_named_folder_is_compared_with_the_requested_one(tiny, tmp_path):
    output = tmp_path / "base"
    convert_folder(tiny["bolt"], output)
    (tmp_path / "link").symlink_to(tiny["bolt"])

    def provide(**settings):
        return provide_base(Config(base_model=BaseModelConfig(output_path=str(output), **settings)))

    for settings in ({}, {"model_name": str(tiny["bolt"])}, {"model_name": str(tmp_path / "link")}):
        assert provide(**settings).path == output
    for request in ({"model_name": "builtin:bolt-synth"}, {"model_name": str(tiny["bolt"]), "revision": "v9"}):
        with pytest.raises(UserError, match=rf"base_model\.model_name.*{output}.*base_model\.output_path") as refused:
            provide(**request)
        assert all(value in str(refused.value) for value in request.values())


def test_a_missing_base_is_made_once_and_another_one_gets_a_folder_of_its_own(tmp_path):
    paths = PathsConfig(models_dir=str(tmp_path))
    for name, folder in (("scratch:bolt-nano", "base"), ("scratch:t5-nano", "base-scratch-t5-nano")):
        for _ in range(2):
            checkpoint = provide_base(Config(base_model=BaseModelConfig(name), paths=paths))
            assert checkpoint.path == tmp_path / folder and checkpoint.family == name[8:-5]
            made = checkpoint.path.stat().st_mtime_ns
        assert provide_base(Config(base_model=BaseModelConfig(name), paths=paths)).path.stat().st_mtime_ns == made


def test_random_weights_of_another_seed_are_another_base(tmp_path):
    def provide(seed):
        paths = PathsConfig(models_dir=str(tmp_path))
        return provide_base(
            Config(None, GeneralConfig(seed=seed), BaseModelConfig("scratch:bolt-nano"), paths=paths)
        ).path

    first, second = provide(0), provide(1)
    assert (first, second) == (provide(0), provide(1)) and first != second
    assert weights_fingerprint(first) != weights_fingerprint(second)


def test_another_revision_is_another_base(tiny, tmp_path):
    convert_folder(tiny["bolt"], tmp_path / "base")
    info = json.loads((tmp_path / "base" / "model_info.json").read_text())
    info |= {"model_name": "owner/model", "revision": "v9"}
    (tmp_path / "base" / "model_info.json").write_text(json.dumps(info))

    def folder(revision):
        paths = PathsConfig(models_dir=str(tmp_path))
        return base_folder(Config(base_model=BaseModelConfig("owner/model", revision), paths=paths))

    assert folder("v9") == tmp_path / "base" and folder(None) == tmp_path / "base-owner-model"


def test_the_base_of_a_trained_model_is_found_by_its_weights(tiny, tmp_path):
    trained = tmp_path / "trained"
    trained.mkdir()

    def find(output_path, name, weights):
        config = Config(base_model=BaseModelConfig(output_path=str(output_path))).as_dict()
        info = {"base_model": name, "config": config, "identity": {"base model": weights}}
        (trained / "training_info.json").write_text(json.dumps(info))
        return find_base(trained)

    weights = weights_fingerprint(tiny["bolt"])
    assert find(tiny["bolt"], "scratch:bolt-nano", weights) == tiny["bolt"]
    assert find(tiny["t5"], "scratch:bolt-nano", weights) is None  # another base is in the folder now
    assert find(tmp_path / "gone", str(tiny["bolt"]), weights) == tiny["bolt"]
    assert find_base(tiny["bolt"]) is None


def test_a_native_checkpoint_on_this_machine_is_used_where_it_is(tiny, tmp_path):
    paths = PathsConfig(models_dir=str(tmp_path / "models"))
    source = shutil.copytree(tiny["bolt"], tmp_path / "last_week")
    assert provide_base(Config(base_model=BaseModelConfig(str(source)), paths=paths)).path == source
    bare = edited_copy(tiny["bolt"], tmp_path / "bare", architectures=None)
    assert provide_base(Config(base_model=BaseModelConfig(str(bare)), paths=paths)).path == tmp_path / "models" / "base"
