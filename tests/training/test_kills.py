"""Runs killed with SIGKILL at file operations of every kind end with the weights of an undisturbed run."""

import multiprocessing
import os
import signal
import sys

import pytest
from support.runs import info, prepared, same, weights

from pipeline.training.checkpointing import RunFolder

WRITES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}
SETTINGS = {"refit": True, "learning_rate": 3e-2}


def train(base, output, num_workers, kill_at):
    """Train in this process, and kill it at the given file operation in the output folder, if any."""
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
    # As in a process of its own. Otherwise the loader would start a server too, which outlives the kill.
    multiprocessing.set_start_method("fork", force=True)
    trainer, windows = prepared(
        base, output, trainer={"dataloader_num_workers": num_workers, "eval_steps": 1}, **SETTINGS
    )
    trainer.train_model(windows, epochs="auto")
    trainer.save_trained_model(str(output))


@pytest.fixture(scope="module")
def server():
    """Processes that begin with the heavy modules imported, and without threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_kills", "pipeline.training.run", "pipeline.training.fit"])
    return context


def run(server, *arguments):
    process = server.Process(target=train, args=arguments)
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


@pytest.fixture(scope="module")
def whole(tiny, server, tmp_path_factory):
    """Folder of a run that was never killed; its winner was retrained."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    assert run(server, tiny["bolt"], folder, 0, None) == 0
    assert info(folder)["refit"] is not None
    return folder


@pytest.mark.parametrize("num_workers, kills", [
    (0, (40,)),
    pytest.param(0, (4, 9, 17, 26), marks=pytest.mark.slow),
    pytest.param(0, (90, 40), marks=pytest.mark.slow),
    pytest.param(1, (31,), marks=pytest.mark.slow),
    pytest.param(4, (90,), marks=pytest.mark.slow),
])  # fmt: skip
def test_a_killed_run_ends_like_an_undisturbed_one(tiny, tmp_path, server, whole, num_workers, kills):
    codes = [run(server, tiny["bolt"], tmp_path, num_workers, kill_at) for kill_at in kills]
    assert codes == [-signal.SIGKILL] * len(kills)
    assert run(server, tiny["bolt"], tmp_path, num_workers, None) == 0
    assert same(weights(whole), weights(tmp_path))
    expected, resumed = info(whole), info(tmp_path)
    assert expected["candidates"] == resumed["candidates"] and expected["refit"] == resumed["refit"]
    retrained = [RunFolder(folder).refit.last_checkpoint() for folder in (whole, tmp_path)]
    assert same(*map(weights, retrained)), "the retraining is resumed too, whether it is saved or not"
