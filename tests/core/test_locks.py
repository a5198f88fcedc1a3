"""Locks between processes, and temporary files that killed processes leave."""

import multiprocessing
import os
import signal
import threading
import time

import pytest

from pipeline.core.errors import UserError
from pipeline.core.locks import locked, temporary_path


def hold(output, ready, children):
    """Hold the lock of an output until this process is killed, with a forked child that outlives it."""
    with locked(output, "a.key"):
        if children and os.fork() == 0:
            time.sleep(30)
        ready.set()
        time.sleep(30)


@pytest.fixture
def holder(tmp_path):
    """A process that has the lock, and a forked child."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "out.csv", ready, True))
    process.start()
    assert ready.wait(30)
    yield process
    process.kill()
    process.join()


def test_a_second_process_is_refused_with_the_id_of_the_first(tmp_path, holder):
    with (
        pytest.raises(UserError, match=f"a.key: process {holder.pid} is .*out.csv"),
        locked(tmp_path / "out.csv", "a.key"),
    ):
        pass
    with locked(tmp_path / "other.csv", "a.key"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".out.csv.lock"]


def test_a_lock_ends_with_its_process_even_if_a_child_lives_on(tmp_path, holder):
    holder.kill()
    holder.join()
    with locked(tmp_path / "out.csv", "a.key"):
        assert (tmp_path / ".out.csv.lock").read_text() == str(os.getpid())
    assert list(tmp_path.iterdir()) == []


def test_a_waiting_process_gets_the_lock_after_the_first(tmp_path, holder):
    got = threading.Event()

    def wait():
        with locked(tmp_path / "out.csv", "a.key", wait=True):
            got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not got.wait(0.2)
    holder.kill()
    thread.join(30)
    assert got.is_set()


def test_only_one_of_many_threads_is_inside(tmp_path):
    inside, most, entered = [0], [0], [0]

    def enter():
        for _ in range(20):
            with locked(tmp_path / "out.csv", "a.key", wait=True):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                entered[0] += 1
                inside[0] -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (entered[0], most[0]) == (80, 1)


def leave(folder):
    """Be killed with a temporary file and a temporary folder."""
    with temporary_path(folder / "a.csv"), temporary_path(folder / "model", is_folder=True) as model:
        (model / "weights").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_killed_processes_leave_is_removed_and_what_others_write_is_kept(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=leave, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and len(list(tmp_path.iterdir())) == 2
    user_file = tmp_path / ".a.csv.bak"
    user_file.touch()
    with temporary_path(tmp_path / "a.csv") as first, temporary_path(tmp_path / "a.csv") as second:
        with temporary_path(tmp_path / "model", is_folder=True) as third:
            assert sorted(tmp_path.iterdir()) == sorted([first, second, third, user_file])
    assert list(tmp_path.iterdir()) == [user_file]
