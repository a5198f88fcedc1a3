"""Short training runs of tiny models, and what they leave in their folders."""

import json
import shutil
from dataclasses import replace
from functools import cache

import torch
from safetensors.torch import load_file
from support.series import long_frame

from pipeline.config import Config, GeneralConfig, InferenceConfig, TrainingConfig
from pipeline.data.arrow_store import store_from_arrays
from pipeline.train_model import ChronosTrainer
from pipeline.training.checkpointing import RunFolder

SHORT = {"max_steps": 4, "batch_size": 8, "context_length": 64, "prediction_length": 16, "learning_rate": 1e-3}
"""Settings of a short run. The others that make it fast are in `short_config`."""


@cache
def seasonal_store():
    """Return the store of six seasonal series, which is in memory."""
    return store_from_arrays([rows["target"].to_numpy() for _, rows in long_frame().groupby("item_id")], "D")


def short_config(device="cpu", **training):
    """Return the configuration of a short run: no retraining, and no TensorBoard, whose pictures are slow.

    Settings of the training section are given by name.
    """
    fast = {"validation_windows": 6, "refit": False, "keep_checkpoints": True}
    trainer = {"report_to": "none", "eval_steps": 2, "save_steps": 2, **training.pop("trainer", {})}
    return Config(
        chronos=GeneralConfig(device=device),
        training=TrainingConfig(**{**SHORT, **fast, **training, "trainer": trainer}),
        inference=InferenceConfig(flip=False),
    )


def prepared(base, output=None, data=None, **training):
    """Return a trainer with the configuration of a short run, and its windows."""
    trainer = ChronosTrainer(str(base), config=short_config(**training), run_folder=output)
    return trainer, trainer.prepare_training_data([seasonal_store()] if data is None else data)


def trained(base, output, data=None, pictures=False, **training):
    """Train a short run and save it; by default on six seasonal series, and without pictures."""
    trainer, windows = prepared(base, output, data, **training)
    trainer.train_model(windows, epochs=trainer.config.training.epochs)
    if not pictures:
        trainer.result = replace(trainer.result, drawn=[], history=[])
    trainer.save_trained_model(str(output))
    return trainer


def last_checkpoint(output):
    """Return the last whole checkpoint of the Trainer in a run folder."""
    checkpoint = RunFolder(output).last_checkpoint()
    assert checkpoint is not None
    return checkpoint


def unfinish(output):
    """Make a finished run an unfinished one, as a kill before its end leaves it."""
    (output / "training_info.json").unlink()


def weights(folder):
    """Return the tensors of a checkpoint folder by name."""
    return load_file(folder / "model.safetensors")


def same(tensors, others):
    """Return whether two checkpoints have the same weights to the last bit."""
    return tensors.keys() == others.keys() and all(torch.equal(tensors[name], others[name]) for name in tensors)


def info(folder):
    """Return the training_info.json of a finished run."""
    return json.loads((folder / "training_info.json").read_text())


def log_history(checkpoint):
    """Return the Trainer's log up to a checkpoint."""
    return json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]


def logged(output, key):
    """Return the values that the Trainer logged under a key, by step."""
    return [entry[key] for entry in log_history(last_checkpoint(output)) if key in entry]


def without_dropout(source, base):
    """Copy a checkpoint without dropout, whose draws differ between batches and ranks."""
    shutil.copytree(source, base)
    config = json.loads((base / "config.json").read_text())
    off = {key: 0.0 for key in ("dropout_rate", "resid_pdrop", "embd_pdrop", "attn_pdrop") if key in config}
    (base / "config.json").write_text(json.dumps({**config, **off}))
    return base
