import json
import shutil

import numpy as np
import pytest
import torch

from pipeline.config import TrainingConfig
from pipeline.models.checkpoint import read_checkpoint
from pipeline.training.base_checkpoint import BaseCheckpoint


@pytest.fixture
def base(tiny, tmp_path):
    """Return a function from a family, the content of model_info.json and settings to the base of a run."""

    def make(family="bolt", info=None, **training):
        folder = shutil.copytree(tiny[family], tmp_path / "base", dirs_exist_ok=True)
        (folder / "model_info.json").write_text(json.dumps(info or {}))
        return BaseCheckpoint(read_checkpoint(folder), TrainingConfig(**training))

    return make


def test_the_name_is_the_source_of_the_base_or_its_folder(base, tmp_path):
    assert base(info={"model_name": "someone/model"}).name == "someone/model"
    assert base().name == str(tmp_path / "base")
    assert base(info={"model_name": "scratch:bolt-nano"}).scratch_size == "bolt-nano"
    assert base(info={"model_name": "someone/scratch"}).scratch_size is None


def test_the_base_stays_as_it_is_while_a_copy_is_trained(base):
    checkpoint = base(freeze=["encoder"])
    before = {name: value.clone() for name, value in checkpoint.model.state_dict().items()}
    model = checkpoint.trainable_model(seed=0, cpu_layers=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(before[name], value) for name, value in checkpoint.model.state_dict().items())
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained and not any(name.startswith("encoder.") for name in trained)


def test_the_configured_lengths_win_over_the_defaults(base):
    checkpoint = base(context_length=32, prediction_length=8)
    assert (checkpoint.context_length, checkpoint.horizon([], 0)) == (32, 8)
    assert (base().context_length, base().horizon([], 0)) == (64, 64)


def test_adapters_of_equal_seeds_are_equal(base):
    checkpoint = base(method="lora")
    first, second, other = (
        {
            name: value
            for name, value in checkpoint.trainable_model(seed, False).state_dict().items()
            if "lora_A" in name
        }
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)
