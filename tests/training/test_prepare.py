import json
import re
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.runs import prepared
from transformers import SchedulerType

from pipeline.config import Config
from pipeline.core.errors import UserError
from pipeline.models.checkpoint import read_checkpoint
from pipeline.train_model import ChronosTrainer
from pipeline.training.checkpointing import RunFolder, differing_keys
from pipeline.training.fit import Phase, phase_arguments
from pipeline.training.prepare import prepare_run, warn_about_setup
from pipeline.windows.prepare import describe_shortage


def run_of(base, **training):
    trainer, windows = prepared(base, **training)
    return prepare_run(trainer.config, trainer.checkpoint, windows, trainer.config.training.epochs)


def identity(base, **training):
    """Return the identity of a run, from which nothing is trained."""
    run = run_of(base, **training)
    phase = Phase(run.windows, RunFolder(base / "never"), scored=run.validation is not None)
    return run.identity(phase_arguments(run, phase))


@pytest.mark.parametrize("settings, keys", [
    ({"precision": "bf16"}, ["arithmetic", "training.precision"]),
    ({"learning_rate": 1e-2}, ["rate", "training.learning_rate"]),
    ({"max_steps": 5}, ["steps", "training.max_steps"]),
    ({"validation_split": 0.0}, ["training.validation_split"]),
    ({"trainer": {"weight_decay": 0.1}}, ["training.trainer.weight_decay"]),
    ({"trainer": {"dataloader_num_workers": 2, "logging_steps": 1, "run_name": "b", "report_to": "none"}}, []),
    ({"resume": False, "overwrite": True, "push_to_hub": "someone/model", "output_path": "elsewhere"}, []),
    ({"refit": True}, []),
])  # fmt: skip
def test_the_identity_has_the_settings_that_change_the_weights(tiny, settings, keys):
    base = {"precision": "fp32"}
    differing = differing_keys(identity(tiny["bolt"], **base), identity(tiny["bolt"], **{**base, **settings}))
    assert differing == keys


def test_the_identity_has_the_base_the_data_and_the_seed(tiny, tmp_path):
    base = shutil.copytree(tiny["bolt"], tmp_path / "base")
    before = identity(base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "dropout_rate": 0.2}))
    assert differing_keys(before, identity(base)) == ["base model"]
    other = np.random.default_rng(0).normal(size=(6, 120))
    assert "data" in differing_keys(before, identity(tiny["bolt"], data=other))


def test_the_identity_does_not_depend_on_how_a_setting_is_written(tiny, tmp_path):
    folder = RunFolder(tmp_path / "out")
    settings = {"freeze": "encoder", "trainer": {"lr_scheduler_type": SchedulerType.CONSTANT}}
    folder.claim(identity(tiny["bolt"], **settings), resume=True, overwrite=False)
    written = {"freeze": ["encoder"], "trainer": {"lr_scheduler_type": "constant"}}
    folder.claim(identity(tiny["bolt"], **written), resume=True, overwrite=False)
    with pytest.raises(UserError, match="training.freeze"):
        folder.claim(identity(tiny["bolt"], **{**written, "freeze": ["decoder"]}), resume=True, overwrite=False)


@pytest.mark.parametrize("settings", [{"refit": True}, {"validation_split": 0.0}])
def test_a_schedule_by_validation_scores_needs_a_holdout_and_no_retraining(tiny, settings):
    schedule = {"lr_scheduler_type": "reduce_lr_on_plateau"}
    with pytest.raises(UserError, match="lr_scheduler_type.*training.refit false"):
        run_of(tiny["bolt"], trainer=schedule, **settings)
    assert run_of(tiny["bolt"], trainer=schedule).recipe.steps == 4


def test_epochs_of_python_and_of_the_configuration_must_agree(tiny):
    trainer, windows = prepared(tiny["bolt"], max_steps=None, epochs=3)
    for method in (trainer.plan, trainer.train_model):
        with pytest.raises(UserError, match="training.epochs.* 3.*epochs=10"):
            method(windows)
    assert trainer.plan(windows, epochs=3).run.recipe.steps > 0


def test_the_effective_configuration_has_the_base_and_the_epochs_of_python(tiny):
    trainer, windows = prepared(tiny["bolt"], max_steps=None)
    config = prepare_run(trainer.config, trainer.checkpoint, windows, 2).effective_config
    assert (config.training.epochs, config.base_model.output_path) == (2, str(tiny["bolt"]))
    assert config.base_model.model_name == "scratch:bolt-nano"


@pytest.mark.parametrize("step", [-1, -5, -30])
def test_an_infinite_value_is_refused_with_its_series(tiny, step):
    data = np.random.default_rng(0).normal(size=(4, 200))
    data[2, step] = np.inf
    with pytest.raises(UserError, match="series.* 2"):
        prepared(tiny["bolt"], data=data)


@pytest.mark.parametrize("length, horizon", [(1000, 64), (120, 30), (21, 5), (9, 2)])
def test_the_default_horizon_is_at_most_a_quarter_of_the_series(tiny, length, horizon):
    rows = np.random.default_rng(0).normal(size=(5, length))
    trainer, windows = prepared(tiny["bolt"], data=rows, min_past=1, prediction_length=None)
    assert windows[0].prediction_length == horizon


@pytest.mark.parametrize("lengths, numbers", [
    ([200] * 100, None), ([200] * 99, "99"), ([100] * 100, "100.*192"), ([9], "1 series"),
])  # fmt: skip
def test_too_few_or_too_short_series_are_reported_with_their_number(lengths, numbers):
    warning = describe_shortage(np.array(lengths), 64)
    assert warning is None if numbers is None else re.search(numbers, str(warning))


def test_an_idle_gpu_is_reported(tiny, monkeypatch, caplog):
    run = run_of(tiny["bolt"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for device, n_warnings in (("cpu", 1), ("cuda", 0)):
        caplog.clear()
        warn_about_setup(run, device)
        assert sum("chronos.device" in record.getMessage() for record in caplog.records) == n_warnings


@pytest.mark.parametrize("threads, cpus, reported", [(1, 8, True), (1, 1, False), (4, 8, False), (None, 8, False)])
def test_idle_processors_are_reported(tiny, monkeypatch, caplog, threads, cpus, reported):
    run = run_of(tiny["bolt"])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if threads is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    monkeypatch.setattr("torch.get_num_threads", lambda: threads or 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(cpus), raising=False)
    caplog.clear()
    warn_about_setup(run, "cpu")
    assert ("OMP_NUM_THREADS" in caplog.text) == reported


def test_missing_default_levels_are_reported(tiny, caplog):
    run = run_of(tiny["bolt"], quantiles=[0.1, 0.9])
    warn_about_setup(run, torch.device("cpu").type)
    assert "training.quantiles" in caplog.text and "0.5" in caplog.text


def test_windows_of_another_kind_are_refused(tiny):
    checkpoint = read_checkpoint(tiny["bolt"])
    no_windows: list[Any] = [None, (np.zeros((3, 90)), None)]
    for windows in no_windows:
        with pytest.raises(UserError, match="prepare_training_data"):
            prepare_run(Config(), checkpoint, windows, 1)


def test_a_window_size_of_the_configuration_reaches_the_windows(tiny):
    trainer = ChronosTrainer(str(tiny["bolt"]))
    trainer.config = replace(Config(), training=replace(Config().training, context_length=32, prediction_length=8))
    training, validation = trainer.prepare_training_data(np.random.default_rng(0).normal(size=(4, 200)))
    assert (training.context_length, training.prediction_length, validation.prediction_length) == (32, 8, 8)
