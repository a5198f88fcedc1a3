"""The JSON of a checkpoint: every wrong value is refused in one line that names the file, the key and the value."""

import json
import os
import shutil

import pytest

from pipeline.config import Config
from pipeline.core.errors import UserError
from pipeline.models.checkpoint import read_checkpoint, read_formats, read_training_info, remembered_keys
from pipeline.models.training_report import TrainingReport

DELETED = object()


@pytest.fixture
def changed(tiny, tmp_path):
    """Return a function that copies a tiny checkpoint and changes a value of one of its JSON files."""

    def change(family, file, path, value):
        folder = tmp_path / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tiny[family], folder)
        content = json.loads((folder / file).read_text())
        *parents, key = path.split(".")
        part = content
        for parent in parents:
            part = part[parent]
        if value is DELETED:
            del part[key]
        else:
            part[key] = value
        (folder / file).write_text(json.dumps(content))
        return folder

    return change


def refusal(function, *arguments):
    with pytest.raises(UserError) as refused:
        function(*arguments)
    text = str(refused.value)
    assert "\n" not in text and len(text) < 600, text
    return text


@pytest.mark.parametrize("value", [None, [], {}, "x", -5, 0, True, 0.5, 10**30, float("nan"), DELETED])
@pytest.mark.parametrize(
    "family, key",
    [
        ("bolt", "chronos_config.context_length"),
        ("bolt", "chronos_config.prediction_length"),
        ("t5", "chronos_config.n_tokens"),
        ("t5", "d_model"),
        ("gpt2", "n_embd"),
        ("chronos-2", "chronos_config.output_patch_size"),
    ],
)
def test_a_wrong_size_is_refused_by_its_key(changed, family, key, value):
    if key.endswith("output_patch_size") and value is DELETED:
        key, value = "chronos_config.context_length", DELETED  # without the patch size it is no Chronos-2
    text = refusal(read_checkpoint, changed(family, "config.json", key, value))
    assert "copy/config.json" in text and key in text
    assert value is DELETED or repr(value)[:20] in text


@pytest.mark.parametrize(
    "family, key, value",
    [
        ("bolt", "quantiles", [0.9, 0.5, 0.1]),
        ("bolt", "quantiles", [0.1, 0.1]),
        ("chronos-2", "quantiles", [0.5, 1.0]),
        ("bolt", "quantiles", []),
        ("bolt", "use_reg_token", 1),
        ("t5", "tokenizer_class", "os.system"),
        ("t5", "tokenizer_kwargs", {"low_limit": 1.0, "high_limit": -1.0}),
        ("t5", "tokenizer_kwargs", {"low_limit": 1.0, "high_limit": 2.0, "more": 3}),
        ("t5", "eos_token_id", 2),
        ("t5", "n_tokens", 65),
        ("gpt2", "context_length", 1000),
        ("chronos-2", "input_patch_size", 8),
        ("bolt", "of_a_newer_release", 1),
    ],
)
def test_a_chronos_config_that_cannot_be_is_refused(changed, family, key, value):
    assert key in refusal(read_checkpoint, changed(family, "config.json", f"chronos_config.{key}", value))


@pytest.mark.parametrize(
    "key, value",
    [
        ("dtype", "float12"),
        ("dtype", 32),
        ("model_type", "bert"),
        ("architectures", "T5"),
        ("num_layers", 10**9),
        ("attn_implementation", "someone/kernel"),
        ("transformers_weights", "../other.safetensors"),
        ("quantization_config", {"quant_method": "bitsandbytes"}),
        ("chronos_config", []),
        ("chronos_config", {"context_length": 64}),
        ("relative_attention_max_distance", 0),
    ],
)
def test_a_config_that_would_load_something_else_is_refused(changed, key, value):
    assert key in refusal(read_checkpoint, changed("bolt", "config.json", key, value))


@pytest.mark.parametrize("key, value", [("model_name", 1), ("commit", ["a"]), ("converted", "all"), ("revision", "")])
def test_a_wrong_model_info_is_refused(changed, key, value):
    text = refusal(read_checkpoint, changed("bolt", "model_info.json", key, value))
    assert "model_info.json" in text and key in text


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"\xef\xbb\xbf{}", b'{"a": "\xff"}', b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"model_type": "t5", "model_type": "t5"}', b'{"a": 1' + b"0" * 5000 + b"}", b'{"a": "\\ud800"}',
    ],
    ids=range(10),
)  # fmt: skip
@pytest.mark.parametrize("file", ["config.json", "model_info.json"])
def test_a_file_that_is_no_json_object_is_refused(changed, file, content):
    folder = changed("bolt", "config.json", "dtype", None)
    (folder / file).write_bytes(content)
    assert file in refusal(read_checkpoint, folder)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
@pytest.mark.parametrize("file", ["config.json", "model_info.json", "model.safetensors"])
def test_what_is_no_ordinary_file_is_refused_at_once(changed, file, make):
    folder = changed("bolt", "config.json", "dtype", None)
    (folder / file).unlink()
    make(folder / file)
    assert file in refusal(read_checkpoint, folder)


@pytest.fixture
def info(tmp_path):
    """Return a function that writes training_info.json with other values, and returns its folder."""
    content = {
        "verdict": "Yes", "base_model": "someone/base", "horizon": 8, "steps": 4, "config": Config().as_dict(),
        "formats": {"timestamp": {"style": "iso", "zone": "none"}, "values": {"target": {"decimal": "."}}, "freq": "D"},
        "candidates": [{"candidate": "base", "WQL": 0.5, "MASE": float("inf"), "loss": 1.0}],
        "comparison": {"reduction": 1.5, "low": float("nan"), "high": float("nan"), "n_better": 3, "n_series": 5},
    }  # fmt: skip

    def write(**changes):
        (tmp_path / "training_info.json").write_text(json.dumps({**content, **changes}))
        return tmp_path

    return write


def test_a_whole_training_info_is_read(info):
    report, keys = TrainingReport.read(info()), remembered_keys(info())
    assert (report.steps, report.n_better, report.scores["base"]["WQL"]) == (4, 3, 0.5)
    assert keys["inference.prediction_length"] == 8 and keys["data.target"] == "target"
    assert read_formats(info()).freq == "D"


@pytest.mark.parametrize(
    "changes, key",
    [
        ({"horizon": 0}, "horizon"),
        ({"seen": [{"item_id": "a", "end": "yesterday", "values": 1}]}, "seen[0].end"),
        ({"seen": {"item_id": "a"}}, "seen"),
        ({"history": [{"loss": 1.0}]}, "history[0].step"),
        ({"identity": ["base model"]}, "identity"),
        ({"variates": {"known": "price"}}, "variates.known"),
        ({"formats": {"timestamp": {"style": "moon"}, "values": {}}}, "formats.timestamp.style"),
        ({"formats": {"timestamp": None, "values": {"a": {"kind": "zzz"}}}}, "formats.values.a.kind"),
        ({"config": {**Config().as_dict(), "data": {"target": 3}}}, "config.data.target"),
        ({"config": {**Config().as_dict(), "data": {"decimal": ";"}}}, "config.data.decimal"),
        ({"config": []}, "config"),
        ({"base_model": "a\0b"}, "base_model"),
    ],
)
def test_a_wrong_training_info_is_refused(info, changes, key):
    folder = info(**changes)
    for read in (read_training_info, remembered_keys, read_formats, TrainingReport.read):
        assert f"training_info.json: {key}" in refusal(read, folder).replace(" has no ", ": ")
