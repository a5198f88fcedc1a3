"""The run folder: sealed checkpoints, locks, links, and full disks."""

import multiprocessing
import os
import resource
import shutil
from contextlib import contextmanager

import pytest
from support.runs import last_checkpoint, same, trained, unfinish, weights

from pipeline.core.errors import UserError
from pipeline.training.checkpointing import RunFolder, is_sealed, published_files, seal_checkpoint

FILES = ["model.safetensors", "optimizer.pt", "rng_state.pth", "deep/trainer_state.json"]


@pytest.fixture
def sealed(tmp_path):
    checkpoint = tmp_path / "checkpoints" / "checkpoint-7"
    (checkpoint / "deep").mkdir(parents=True)
    for name in FILES:
        (checkpoint / name).write_bytes(os.urandom(1000))
    seal_checkpoint(checkpoint)
    return checkpoint


def test_a_whole_checkpoint_is_found(tmp_path, sealed):
    assert is_sealed(sealed) and RunFolder(tmp_path).last_checkpoint() == sealed


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("tear", [os.unlink, lambda file: os.truncate(file, 999)], ids=["missing", "short"])
def test_a_torn_checkpoint_is_skipped(tmp_path, sealed, name, tear):
    tear(sealed / name)
    assert not is_sealed(sealed) and RunFolder(tmp_path).last_checkpoint() is None


def test_a_checkpoint_without_its_seal_is_skipped(tmp_path, sealed):
    (sealed / "sealed.json").unlink()
    assert RunFolder(tmp_path).last_checkpoint() is None


def test_files_and_copies_with_similar_names_are_no_checkpoints(tmp_path, sealed):
    shutil.copytree(sealed, sealed.with_name("checkpoint-9 copy"))
    sealed.with_name("checkpoint-8.tar").write_text("mine")
    assert RunFolder(tmp_path).last_checkpoint() == sealed


def test_a_lock_ends_with_its_process_and_not_with_the_workers(tmp_path):
    folder, fork = RunFolder(tmp_path / "out"), multiprocessing.get_context("fork")
    begun, done = fork.Event(), fork.Event()

    def work():
        begun.set()
        done.wait()

    with folder.locked():
        worker = fork.Process(target=work)
        worker.start()
        begun.wait()
        with pytest.raises(UserError, match="training.output_path.*out"), RunFolder(tmp_path / "out").locked():
            pass
    with folder.locked():
        pass
    done.set()
    worker.join()


def test_a_link_to_a_missing_folder_is_refused(tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "unmounted")
    with pytest.raises(UserError, match="out.*unmounted"):
        RunFolder(tmp_path / "out").check(resume=True, overwrite=False)


@contextmanager
def file_size_limit(n_bytes):
    """Let longer files fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("too_long", ["model.safetensors", "optimizer.pt"])
def test_a_run_that_fills_the_disk_is_refused_and_continues_with_room(tiny, tmp_path, too_long):
    trained(tiny["bolt"], tmp_path / "whole")
    last = last_checkpoint(tmp_path / "whole")
    size = {file.name: file.stat().st_size for file in last.iterdir()}
    limit = 20_000 if too_long == "model.safetensors" else size["model.safetensors"]
    assert size[too_long] > limit
    with file_size_limit(limit), pytest.raises(UserError, match="out: "):
        trained(tiny["bolt"], tmp_path / "out")
    trained(tiny["bolt"], tmp_path / "out")
    assert same(weights(tmp_path / "out"), weights(tmp_path / "whole"))


def test_a_failed_save_leaves_no_files_and_can_be_repeated(tiny, tmp_path):
    trainer = trained(tiny["bolt"], tmp_path / "out", max_steps=1)
    with file_size_limit(20_000), pytest.raises(UserError, match="other: "):
        trainer.save_trained_model(str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()
    (tmp_path / "other" / ".finished").mkdir(parents=True)  # as a kill leaves it
    trainer.save_trained_model(str(tmp_path / "other"))
    assert same(weights(tmp_path / "other"), weights(tmp_path / "out"))


def test_a_run_with_a_broken_identity_can_be_replaced(tiny, tmp_path):
    trained(tiny["bolt"], tmp_path / "out", max_steps=1)
    unfinish(tmp_path / "out")
    (tmp_path / "out" / "checkpoints" / "run.json").write_text("{")
    with pytest.raises(UserError, match="run.json"):
        trained(tiny["bolt"], tmp_path / "out", max_steps=1)
    trained(tiny["bolt"], tmp_path / "out", max_steps=1, overwrite=True)


def test_checkpoints_without_an_identity_are_not_continued(tiny, tmp_path):
    trained(tiny["bolt"], tmp_path / "out", max_steps=2)
    unfinish(tmp_path / "out")
    (tmp_path / "out" / "checkpoints" / "run.json").unlink()
    (tmp_path / "out" / ".lock").touch()  # as a kill leaves it
    trained(tiny["bolt"], tmp_path / "out", max_steps=2, learning_rate=2e-3)
    trained(tiny["bolt"], tmp_path / "new", max_steps=2, learning_rate=2e-3)
    assert same(weights(tmp_path / "out"), weights(tmp_path / "new"))


def test_a_killed_run_that_replaces_another_is_continued(tiny, tmp_path):
    trained(tiny["bolt"], tmp_path / "out")
    replacing = {"overwrite": True, "learning_rate": 1e-4}
    trained(tiny["bolt"], tmp_path / "out", **replacing)
    replaced = weights(tmp_path / "out")
    unfinish(tmp_path / "out")
    state = tmp_path / "out" / "checkpoints" / "checkpoint-4" / "trainer_state.json"
    written = state.stat().st_mtime_ns
    trained(tiny["bolt"], tmp_path / "out", **replacing)
    assert state.stat().st_mtime_ns == written and same(weights(tmp_path / "out"), replaced)
    unfinish(tmp_path / "out")
    trained(tiny["bolt"], tmp_path / "out", resume=False, **replacing)
    assert state.stat().st_mtime_ns != written


@pytest.mark.parametrize("change", ["base model", "arithmetic"])
def test_a_run_with_another_base_or_arithmetic_is_not_continued(tiny, tmp_path, change):
    base = shutil.copytree(tiny["bolt"], tmp_path / "base")
    trained(base, tmp_path / "out", precision="fp32", max_steps=1)
    unfinish(tmp_path / "out")
    if change == "base model":
        (base / "config.json").write_text((base / "config.json").read_text() + " ")
    with pytest.raises(UserError, match=change):
        trained(base, tmp_path / "out", max_steps=1, precision="bf16" if change == "arithmetic" else "fp32")


def test_the_files_of_a_checkpoint_are_told_from_those_of_the_run_and_of_the_user(tiny, tmp_path):
    trained(tiny["bolt"], tmp_path / "out", max_steps=1)
    for name in ("clients.csv", "notes/a.txt", ".env"):
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).touch()
    names = {path.name for path in published_files(tmp_path / "out")}
    expected = {"config.json", "model.safetensors", "training_info.json", "config.yaml", "README.md", "report.md"}
    assert names - {"training.png", "forecasts.png", "generation_config.json"} == expected
