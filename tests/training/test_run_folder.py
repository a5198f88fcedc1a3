"""The output folder: exact resume of a killed run, and what is kept, replaced or refused."""

import errno
import json
import multiprocessing
import resource
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import yaml
from chronos import BaseChronosPipeline
from support.runs import SHORT, info, same, scored, trained, weights
from support.series import long_frame
from transformers import SchedulerType

from pipeline.config import TrainingConfig
from pipeline.core.errors import UserError
from pipeline.train_model import ChronosTrainer
from pipeline.training.checkpointing import RunFolder


def test_a_run_that_was_moved_is_continued_with_its_best_checkpoint(nano, tmp_path, monkeypatch):
    settings = {"refit": False, "blends": []}
    scored(monkeypatch, 1.0, 0.9, 0.8, 0.4, 0.6, 0.7, 0.5)
    trained(nano["bolt"], tmp_path / "out", tmp_path, **settings)
    (tmp_path / "out" / "training_info.json").unlink()
    (tmp_path / "out").rename(tmp_path / "moved")
    trainer = trained(nano["bolt"], tmp_path / "moved", tmp_path, **settings)
    assert "step 3 is saved" in trainer.verdict
    assert same(weights(tmp_path / "moved"), weights(tmp_path / "moved" / "checkpoints" / "checkpoint-3"))


def test_checkpoints_that_no_run_owns_are_not_continued(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "out", tmp_path)
    (tmp_path / "out" / "training_info.json").unlink()
    (tmp_path / "out" / "checkpoints" / "run.json").unlink()
    trained(nano["bolt"], tmp_path / "out", tmp_path, learning_rate=2e-3)
    trained(nano["bolt"], tmp_path / "new", tmp_path, learning_rate=2e-3)
    assert same(weights(tmp_path / "out"), weights(tmp_path / "new"))


def test_a_killed_run_resumes_to_the_last_bit(nano, tmp_path, monkeypatch):
    trained(nano["bolt"], tmp_path / "whole", tmp_path)
    from pipeline.training.trainer import ScoringTrainer

    step = ScoringTrainer.training_step
    count = {"steps": 0}

    def killed(self, *args, **kwargs):
        count["steps"] += 1
        if count["steps"] == 5:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(ScoringTrainer, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(nano["bolt"], tmp_path / "killed", tmp_path)
    assert not (tmp_path / "killed" / "training_info.json").exists()
    # A checkpoint that was cut short is passed over for the one before it.
    torn = tmp_path / "killed" / "checkpoints" / "checkpoint-4"
    (torn / "model.safetensors").write_bytes((torn / "model.safetensors").read_bytes()[:1000])
    count["steps"] = 100
    fetched = []
    from pipeline.windows.sampling import TrainingWindows

    batch = TrainingWindows.batch
    monkeypatch.setattr(
        TrainingWindows, "batch", lambda self, indices: (fetched.extend(indices), batch(self, indices))[1]
    )
    trained(nano["bolt"], tmp_path / "killed", tmp_path)
    steps = info(tmp_path / "killed")["refit"]["steps"]
    windows = [*range(3 * SHORT["batch_size"], 6 * SHORT["batch_size"]), *range(steps * SHORT["batch_size"])]
    assert fetched == windows, "resume reads windows that it has trained on"
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    assert info(tmp_path / "whole")["candidates"] == info(tmp_path / "killed")["candidates"]


def test_a_run_killed_after_it_was_stopped_early_stays_stopped(nano, tmp_path):
    settings = {"learning_rate": 2e-2, "max_steps": 40, "patience": 1, "refit": False, "trainer": {"eval_steps": 1}}
    trained(nano["bolt"], tmp_path / "out", tmp_path, **settings)
    whole, candidates = weights(tmp_path / "out"), info(tmp_path / "out")["candidates"]
    assert 2 < len(candidates) < 41
    (tmp_path / "out" / "training_info.json").unlink()
    trained(nano["bolt"], tmp_path / "out", tmp_path, **settings)
    assert same(weights(tmp_path / "out"), whole) and info(tmp_path / "out")["candidates"] == candidates


def test_a_finished_run_is_kept_unless_it_is_to_be_overwritten(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "out", tmp_path)
    before = weights(tmp_path / "out")
    with pytest.raises(UserError, match="finished run"):
        trained(nano["bolt"], tmp_path / "out", tmp_path)
    trained(nano["bolt"], tmp_path / "out", tmp_path, overwrite=True, learning_rate=1e-4)
    assert not same(before, weights(tmp_path / "out"))


def test_a_run_that_replaces_another_goes_on_after_it_was_killed(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "out", tmp_path)
    trained(nano["bolt"], tmp_path / "other", tmp_path, learning_rate=1e-4)
    again = {"overwrite": True, "learning_rate": 1e-4}
    trained(nano["bolt"], tmp_path / "out", tmp_path, **again)
    (tmp_path / "out" / "training_info.json").unlink()  # as a kill before the end leaves it
    kept = tmp_path / "out" / "checkpoints" / "checkpoint-6" / "trainer_state.json"
    written = kept.stat().st_mtime_ns
    trained(nano["bolt"], tmp_path / "out", tmp_path, **again)
    assert kept.stat().st_mtime_ns == written and same(weights(tmp_path / "out"), weights(tmp_path / "other"))
    (tmp_path / "out" / "training_info.json").unlink()
    trained(nano["bolt"], tmp_path / "out", tmp_path, **again, resume=False)
    assert kept.stat().st_mtime_ns != written


def test_the_base_is_never_deleted_by_what_is_trained_from_it(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "out", tmp_path)
    with pytest.raises(UserError, match="the base model, .*out, lies in"):
        trained(tmp_path / "out", tmp_path / "out", tmp_path, overwrite=True)
    assert BaseChronosPipeline.from_pretrained(tmp_path / "out")


def test_a_model_is_saved_over_another_where_that_is_asked_for(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "out", tmp_path)
    trainer = trained(nano["bolt"], tmp_path / "other", tmp_path, learning_rate=1e-4)
    with pytest.raises(UserError, match="training.overwrite true"):
        trainer.save_trained_model(str(tmp_path / "out"))
    trainer.config = replace(trainer.config, training=replace(trainer.config.training, overwrite=True))
    trainer.save_trained_model(str(tmp_path / "out"))
    assert same(weights(tmp_path / "out"), weights(tmp_path / "other"))
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.parametrize("change", ["config", "precision"])
def test_a_run_with_another_base_configuration_or_arithmetic_is_not_continued(nano, tmp_path, change):
    base = tmp_path / "base"
    shutil.copytree(nano["bolt"], base)
    trained(base, tmp_path / "out", tmp_path, precision="fp32")
    (tmp_path / "out" / "training_info.json").unlink()
    config = json.loads((base / "config.json").read_text())
    config |= {"dropout_rate": 0.2} if change == "config" else {}
    (base / "config.json").write_text(json.dumps(config))
    said = {"config": "differs in base model", "precision": "differs in arithmetic"}[change]
    with pytest.raises(UserError, match=said):
        trained(base, tmp_path / "out", tmp_path, precision="bf16" if change == "precision" else "fp32")


def test_an_unfinished_run_of_another_configuration_is_refused_by_the_keys_that_differ(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "out", tmp_path)
    (tmp_path / "out" / "training_info.json").unlink()
    with pytest.raises(UserError, match="training.batch_size.*training.learning_rate"):
        trained(nano["bolt"], tmp_path / "out", tmp_path, learning_rate=1e-2, batch_size=4)
    with pytest.raises(UserError, match="unfinished run"):
        trained(nano["bolt"], tmp_path / "out", tmp_path, resume=False)


def test_a_foreign_folder_is_never_replaced(nano, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("cat")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds no training run"):
            trained(nano["bolt"], tmp_path / "photos", tmp_path, overwrite=overwrite)
    assert (tmp_path / "photos" / "cat.png").read_text() == "cat"


def test_what_others_leave_in_the_folder_of_a_run_stays_and_does_no_harm(nano, tmp_path):
    out, checkpoints = tmp_path / "out", tmp_path / "out" / "checkpoints"
    trained(nano["bolt"], out, tmp_path)
    whole = weights(out)
    shutil.copytree(checkpoints / "checkpoint-6", checkpoints / "checkpoint-6 copy")
    (checkpoints / "checkpoint-6.tar").write_text("mine")
    (checkpoints / "checkpoint-6" / ".DS_Store").write_text("Finder's")
    (out / "notes.txt").write_text("mine")
    assert RunFolder(out).last_checkpoint() == checkpoints / "checkpoint-6"
    (out / "training_info.json").unlink()
    trained(nano["bolt"], out, tmp_path)
    assert same(weights(out), whole)
    checkpoints.rename(tmp_path / "elsewhere")
    checkpoints.symlink_to(tmp_path / "elsewhere")
    trained(nano["bolt"], out, tmp_path, overwrite=True, max_steps=2)
    assert (out / "notes.txt").read_text() == "mine" and (tmp_path / "elsewhere" / "checkpoint-6.tar").is_file()


def test_python_does_not_replace_a_foreign_folder_either(nano, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    trainer = ChronosTrainer(str(nano["bolt"]))
    trainer.config = replace(trainer.config, training=TrainingConfig(overwrite=True, max_steps=1, batch_size=2))
    trainer.run_folder = RunFolder(tmp_path)
    data = trainer.prepare_training_data(np.random.default_rng(0).normal(size=(3, 90)))
    with pytest.raises(UserError, match="holds no training run"):
        trainer.train_model(data)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_run_is_continued_with_other_workers_and_another_log(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "out", tmp_path)
    whole = weights(tmp_path / "out")
    (tmp_path / "out" / "training_info.json").unlink()
    shutil.rmtree(tmp_path / "out" / "checkpoints" / "checkpoint-6")
    other = {"dataloader_num_workers": 1, "logging_steps": 1, "run_name": "again"}
    trained(nano["bolt"], tmp_path / "out", tmp_path, trainer=other)
    assert same(weights(tmp_path / "out"), whole)


def test_a_run_is_continued_by_the_same_command_in_other_words(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "out", tmp_path, freeze="encoder")
    (tmp_path / "out" / "training_info.json").unlink()
    trained(nano["bolt"], tmp_path / "out", tmp_path, freeze=["encoder"])
    (tmp_path / "out" / "training_info.json").unlink()
    with pytest.raises(UserError, match="training.freeze"):
        trained(nano["bolt"], tmp_path / "out", tmp_path, freeze=["decoder"])


def test_numbers_of_numpy_in_the_configuration_are_saved_as_numbers(nano, tmp_path):
    levels = list(np.linspace(0.1, 0.9, 9))
    trained(
        nano["bolt"], tmp_path / "out", tmp_path, quantiles=levels, max_steps=np.int64(2), learning_rate=np.float32(0.5)
    )
    told = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert told["training"]["quantiles"] == levels and told["training"]["learning_rate"] == 0.5


def test_a_second_run_in_the_same_folder_is_refused(nano, tmp_path):
    with RunFolder(tmp_path / "out").locked():
        with pytest.raises(UserError, match="another run is writing"):
            trained(nano["bolt"], tmp_path / "out", tmp_path)
    trainer = trained(nano["bolt"], tmp_path / "out", tmp_path, max_steps=1)
    with RunFolder(tmp_path / "copy").locked():
        with pytest.raises(UserError, match="another run is writing"):
            trainer.save_trained_model(str(tmp_path / "copy"))


def test_a_lock_does_not_live_on_in_the_workers_of_a_run_that_is_gone(tmp_path):
    run, fork = RunFolder(tmp_path / "out"), multiprocessing.get_context("fork")
    works, done = fork.Event(), fork.Event()
    with run.locked():
        worker = fork.Process(target=lambda: (works.set(), done.wait()))
        worker.start()
        works.wait()
    with run.locked():
        pass
    done.set()
    worker.join()


@contextmanager
def files_up_to(n_bytes):
    """As on a disk that is full: what is longer cannot be written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("too_long", ["model.safetensors", "optimizer.pt"])
def test_a_disk_that_fills_up_ends_a_run_in_one_line_and_it_goes_on_with_room(nano, tmp_path, too_long):
    settings = {"refit": False, "trainer": {"report_to": "none"}}
    trained(nano["bolt"], tmp_path / "whole", tmp_path, **settings)
    size = {file.name: file.stat().st_size for file in (tmp_path / "whole" / "checkpoints" / "checkpoint-6").iterdir()}
    most = 50_000 if too_long == "model.safetensors" else size["model.safetensors"]
    assert size[too_long] > most
    with files_up_to(most), pytest.raises(UserError, match="cannot write .*out: .*make room"):
        trained(nano["bolt"], tmp_path / "out", tmp_path, **settings)
    trained(nano["bolt"], tmp_path / "out", tmp_path, **settings)
    assert same(weights(tmp_path / "out"), weights(tmp_path / "whole"))


def test_a_save_that_fails_leaves_nothing_and_is_made_up_for(nano, tmp_path, monkeypatch):
    trainer = trained(nano["bolt"], tmp_path / "out", tmp_path, max_steps=1)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.train_model.save_figure", full)
        with pytest.raises(UserError, match="cannot write .*other: No space left on device"):
            trainer.save_trained_model(str(tmp_path / "other"))
    assert [entry.name for entry in (tmp_path / "other").iterdir()] == [".lock"]
    (tmp_path / "other" / ".finished").mkdir()  # as a kill leaves it
    trainer.save_trained_model(str(tmp_path / "other"))
    assert same(weights(tmp_path / "other"), weights(tmp_path / "out"))


def test_a_training_that_breaks_off_leaves_no_older_model_to_be_saved(nano, tmp_path, monkeypatch):
    trainer = trained(nano["bolt"], tmp_path / "out", tmp_path, max_steps=1)
    trainer.run_folder = RunFolder(tmp_path / "again")
    data = trainer.prepare_training_data(long_frame())
    monkeypatch.setattr("pipeline.training.training_run.TrainingRun.train", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.train_model(data)
    with pytest.raises(UserError, match="nothing has been trained yet"):
        trainer.save_trained_model(str(tmp_path / "other"))


def test_values_that_json_does_not_tell_apart_are_the_same_run(nano, tmp_path):
    settings = {"blends": (0.5,), "trainer": {"lr_scheduler_type": SchedulerType.CONSTANT}}
    trained(nano["bolt"], tmp_path / "out", tmp_path, **settings)
    (tmp_path / "out" / "training_info.json").unlink()
    trained(nano["bolt"], tmp_path / "out", tmp_path, **settings)


def test_a_rank_left_in_the_environment_saves_all_the_same(nano, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    trained(nano["bolt"], tmp_path / "out", tmp_path, max_steps=1)
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_the_folder_of_a_run_is_the_same_however_it_is_spelt(nano, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = trained(nano["bolt"], tmp_path / "out", tmp_path, max_steps=1)
    trainer.save_trained_model("out/../out")


def test_a_run_whose_own_file_is_broken_can_be_replaced(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "out", tmp_path, max_steps=1)
    (tmp_path / "out" / "training_info.json").unlink()
    (tmp_path / "out" / "checkpoints" / "run.json").write_text("{")
    with pytest.raises(UserError, match="no valid JSON"):
        trained(nano["bolt"], tmp_path / "out", tmp_path, max_steps=1)
    trained(nano["bolt"], tmp_path / "out", tmp_path, max_steps=1, overwrite=True)


def test_what_is_to_be_done_once_is_not_told_for_the_next_time(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "out", tmp_path, max_steps=1, overwrite=True, push_to_hub="someone/model")
    told = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["training"]
    assert told["overwrite"] is False and told["push_to_hub"] is None


def test_a_link_to_nothing_is_no_folder_to_write_to(nano, tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "unmounted")
    with pytest.raises(UserError, match="is a link to .*unmounted, which is not there"):
        trained(nano["bolt"], tmp_path / "out", tmp_path)
