"""Short runs of nano models, and what they leave in their folders."""

import json
import shutil
from dataclasses import replace

import torch
from safetensors.torch import load_file
from support.series import long_frame

from pipeline.config import Config
from pipeline.data.source import open_source
from pipeline.train_model import ChronosTrainer
from pipeline.training.checkpointing import RunFolder

SHORT = {"max_steps": 6, "batch_size": 8, "context_length": 48, "prediction_length": 16, "learning_rate": 1e-3}


def trained(base, output, tmp_path, **training):
    """Train on six seasonal series and save to `output`."""
    trainer = ChronosTrainer(str(base))
    config = Config()
    trainer.config = replace(config, training=replace(config.training, **{**SHORT, **training}))
    trainer.run_folder = RunFolder(output)
    trainer.run_folder.check(trainer.config.training.resume, trainer.config.training.overwrite)
    store = open_source(long_frame(), tmp_path / "cache")
    trainer.train_model(trainer.prepare_training_data([store]))
    trainer.save_trained_model(str(output))
    return trainer


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def info(folder):
    return json.loads((folder / "training_info.json").read_text())


def scored(monkeypatch, *wql):
    """Let the validation scores of one model after the other be these."""
    from pipeline.training.trainer import ScoringTrainer

    scores = iter(wql)
    monkeypatch.setattr(ScoringTrainer, "score", lambda *_: dict.fromkeys(("loss", "wql", "mase"), next(scores)))


def history(checkpoint):
    """What the Trainer logged until a checkpoint."""
    return json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]


def logged(output, key):
    """The values that the Trainer logged under a key, step by step."""
    return [entry[key] for entry in history(RunFolder(output).last_checkpoint()) if key in entry]


def without_dropout(source, base):
    """A copy of a checkpoint without dropout, whose draws differ between batches and ranks."""
    shutil.copytree(source, base)
    config = json.loads((base / "config.json").read_text())
    off = {key: 0.0 for key in ("dropout_rate", "resid_pdrop", "embd_pdrop", "attn_pdrop") if key in config}
    (base / "config.json").write_text(json.dumps({**config, **off}))
    return base
