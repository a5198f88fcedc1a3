"""Nano checkpoints of every family, made once, and a way to run scripts inside the test process."""

import logging
import os
import runpy
import sys
from typing import Any, Literal

import pytest
from support import ROOT
from support.series import long_frame

# Two workers share two cores; with more threads they wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

FAMILIES: tuple[Literal["bolt", "t5", "gpt2", "chronos-2"], ...] = ("bolt", "t5", "gpt2", "chronos-2")


@pytest.fixture(scope="session")
def nano(tmp_path_factory):
    """Folder of the native nano checkpoint of each family."""
    from pipeline.base_model import ChronosBaseModel

    folder = tmp_path_factory.mktemp("nano")
    for family in FAMILIES:
        base = ChronosBaseModel(f"scratch:{family}-nano")
        base.load_from_huggingface()
        base.convert_to_native_format()
        base.save_base_model(str(folder / family))
    return {family: folder / family for family in FAMILIES}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Folders of native checkpoints of each family, far smaller than nano ones; their model_info.json says nano.

    d_model 16, one layer, two heads, context 64, horizon 64; token models have 64 tokens.
    """
    from pipeline.models.base import BaseModel, convert, save
    from pipeline.models.create import Shape, random_model

    settings: dict[str, dict[str, Any]] = {
        "bolt": {},
        "t5": {"n_tokens": 64},
        "gpt2": {"n_tokens": 64},
        "chronos-2": {"max_output_patches": 4},
    }
    folder = tmp_path_factory.mktemp("tiny")
    for family in FAMILIES:
        model = random_model(family, Shape(16, 64, 1, 2), seed=0, context_length=64, **settings[family])
        save(convert(BaseModel(model, f"scratch:{family}-nano", seed=0)), folder / family)
    return {family: folder / family for family in FAMILIES}


@pytest.fixture(scope="session")
def uncrossed(nano, tmp_path_factory):
    """Checkpoints whose random quantiles are so far apart that they do not cross, as a trained model's do not."""
    import torch

    from pipeline.models.load import read_model

    folders = {}
    for family, spread in (("bolt", 400), ("chronos-2", 20)):
        model = read_model(nano[family])
        bias = model.get_parameter("output_patch_embedding.output_layer.bias")
        levels = torch.tensor(model.config.chronos_config["quantiles"])
        with torch.no_grad():
            bias.copy_(torch.repeat_interleave(spread * (levels - 0.5), len(bias) // len(levels)))
            if family == "chronos-2":  # its forecasts are the hyperbolic sine of what the head returns
                for layer in ("output_layer", "residual_layer"):
                    model.get_parameter(f"output_patch_embedding.{layer}.weight").mul_(0.05)
        folders[family] = tmp_path_factory.mktemp("uncrossed") / family
        model.save_pretrained(folders[family])
    return folders


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "series.csv"
    long_frame().to_csv(path, index=False)
    return path


@pytest.fixture
def run_script(tmp_path, monkeypatch, capsys, caplog):
    """Run a script in a folder of its own; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        caplog.clear()
        code: str | int = 0
        with caplog.at_level(logging.INFO, logger="pipeline"):
            try:
                runpy.run_path(str(ROOT / "scripts" / f"{name}.py"), run_name="__main__")
            except SystemExit as stop:
                code = stop.code or 0
        printed = capsys.readouterr()
        return code, printed.out + "\n".join(record.getMessage() for record in caplog.records), printed.err

    return run
