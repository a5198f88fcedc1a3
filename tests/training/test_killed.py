"""Runs killed with SIGKILL, again and again, at file operations of every kind, end with the weights of one that was not."""

import json
import multiprocessing
import os
import signal
import sys

import pytest
from support.runs import SHORT, same, weights
from support.series import long_frame

from pipeline.training.checkpointing import RunFolder, is_sealed, seal_checkpoint

WRITES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}


def train(base, csv, output, num_workers, kill_at):
    """Train in this process, and kill it at a file operation in the output folder, counted from its start."""
    count = 0

    def watch(event, arguments):
        nonlocal count
        if event in WRITES and str(output) in str(arguments[0]):
            writing = event != "open" or arguments[1] is None or set("wax+") & set(str(arguments[1]))
            count += bool(writing)
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    if kill_at is not None:
        sys.addaudithook(watch)
    import torch

    torch.set_num_threads(1)
    from dataclasses import replace

    from pipeline.config import Config
    from pipeline.data.source import open_source
    from pipeline.train_model import ChronosTrainer

    trainer = ChronosTrainer(str(base))
    settings = {**SHORT, "validation_windows": 6, "trainer": {"dataloader_num_workers": num_workers}}
    trainer.config = replace(Config(), training=replace(Config().training, **settings))
    trainer.run_folder = RunFolder(output)
    trainer.run_folder.check(resume=True, overwrite=False)
    trainer.train_model(trainer.prepare_training_data([open_source(csv, csv.parent / "cache")]))
    trainer.save_trained_model(str(output))


@pytest.fixture(scope="module")
def server():
    """Processes that begin with the heavy modules imported, and no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["test_killed", "pipeline.train_model", "pipeline.training.trainer", "pipeline.training.callbacks"]
    )
    return context


def run(server, *arguments):
    process = server.Process(target=train, args=arguments)
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


@pytest.fixture(scope="module")
def whole(nano, server, tmp_path_factory):
    """The series, and the folder of a run that was never killed."""
    folder = tmp_path_factory.mktemp("whole")
    long_frame().to_csv(folder / "series.csv", index=False)
    assert run(server, nano["bolt"], folder / "series.csv", folder / "out", 0, None) == 0
    return folder / "series.csv", folder / "out"


@pytest.mark.parametrize("num_workers, gaps", [(0, (4, 9, 17, 26, 40)), (0, (160, 60)), (1, (31,)), (4, (200,))])
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(nano, tmp_path, server, whole, num_workers, gaps):
    csv, expected = whole
    kills = [run(server, nano["bolt"], csv, tmp_path, num_workers, kill_at) for kill_at in gaps]
    assert kills == [-signal.SIGKILL] * len(gaps)
    assert run(server, nano["bolt"], csv, tmp_path, num_workers, None) == 0
    assert same(weights(expected), weights(tmp_path))
    told = [json.loads((folder / "training_info.json").read_text()) for folder in (expected, tmp_path)]
    assert told[0]["candidates"] == told[1]["candidates"] and told[0]["refit"] == told[1]["refit"]
    second = [RunFolder(folder).refit.last_checkpoint() for folder in (expected, tmp_path)]
    assert same(*map(weights, second)), "the second training is killed too, whether it is saved or not"


@pytest.fixture
def sealed(tmp_path):
    checkpoint = tmp_path / "checkpoints" / "checkpoint-7"
    (checkpoint / "deep").mkdir(parents=True)
    for name in ("model.safetensors", "optimizer.pt", "rng_state.pth", "deep/trainer_state.json"):
        (checkpoint / name).write_bytes(os.urandom(1000))
    seal_checkpoint(checkpoint)
    return checkpoint


def test_a_whole_checkpoint_is_found(tmp_path, sealed):
    assert is_sealed(sealed) and RunFolder(tmp_path).last_checkpoint() == sealed


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "rng_state.pth", "deep/trainer_state.json"])
@pytest.mark.parametrize(
    "tear", [lambda file: file.unlink(), lambda file: os.truncate(file, 999)], ids=["gone", "short"]
)
def test_a_checkpoint_torn_in_any_file_is_passed_over(tmp_path, sealed, name, tear):
    tear(sealed / name)
    assert not is_sealed(sealed) and RunFolder(tmp_path).last_checkpoint() is None


def test_a_checkpoint_without_its_seal_is_passed_over(tmp_path, sealed):
    (sealed / "sealed.json").unlink()
    assert RunFolder(tmp_path).last_checkpoint() is None
