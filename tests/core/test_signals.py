"""Stopped programs end soon, with one line, the right exit code and no process left."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from support import ROOT

from pipeline.core.locks import locked

BEGIN = """
import sys, time
from pipeline.core import signals
from pipeline.core.signals import Interrupted, interruptible
def clean_up():
    print("cleaned up", flush=True)
"""
STOPS = """
with interruptible("stopped"):
    try:
        print("ready", flush=True)
        time.sleep(60)
    except Interrupted:
        clean_up()
        raise
"""
IGNORES = """
signals._SECONDS = {seconds}
with interruptible("stopped"):
    while True:
        try:
            print("ready", flush=True)
            time.sleep(60)
        except BaseException:
            print("ignored", flush=True)
"""
LOSES = """
class Library:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(60)
with interruptible("stopped"):
    Library()  # nothing can catch what its end raises
    raise ValueError("something else")
"""


def start(*command):
    """Start a command in a process group of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_the_program_clean_up(number, code):
    program = start("-c", BEGIN + STOPS)
    assert program.stdout.readline() == "ready\n"
    program.send_signal(number)
    assert program.communicate(timeout=30) == ("cleaned up\n", "stopped\n") and program.returncode == code


def test_a_library_that_loses_the_exception_does_not_change_the_code():
    program = start("-c", BEGIN + LOSES)
    assert program.stdout.readline() == "ready\n"
    program.send_signal(signal.SIGINT)
    assert program.communicate(timeout=30) == ("", "stopped\n") and program.returncode == 130


def test_a_program_that_does_not_end_is_ended():
    program = start("-c", BEGIN + IGNORES.format(seconds=0.2))
    program.stdout.readline()
    program.send_signal(signal.SIGTERM)
    out, err = program.communicate(timeout=30)
    assert (program.returncode, out, err) == (143, "ignored\nready\n", "stopped\n")


def test_a_second_signal_ends_the_program_at_once():
    program = start("-c", BEGIN + IGNORES.format(seconds=60))
    program.stdout.readline()
    program.send_signal(signal.SIGINT)
    assert program.stdout.readline() == "ignored\n"
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=30)
    assert (program.returncode, err) == (130, "stopped\n")


def test_without_a_signal_the_handlers_are_restored():
    check = """
before = [signals.signal.getsignal(number) for number in signals._STOPPING]
with interruptible("stopped"):
    assert before != [signals.signal.getsignal(number) for number in signals._STOPPING]
assert before == [signals.signal.getsignal(number) for number in signals._STOPPING]
"""
    program = start("-c", BEGIN + check)
    assert program.communicate(timeout=30) == ("", "") and program.returncode == 0


@pytest.mark.parametrize("signals_sent", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_ctrl_c_ends_the_processes_that_generate_series(tmp_path, signals_sent):
    """A terminal sends the signal to all processes of the group."""
    options = ["bank", "--series=100000", "--length=4096", f"--output={tmp_path}/bank", "--synthetic.num_processes=2"]
    program = start(str(ROOT / "scripts/generate_data.py"), *options, "--synthetic.shard_size=2000")
    while program.poll() is None and len(psutil.Process(program.pid).children(recursive=True)) < 3:
        time.sleep(0.01)  # two workers, and the process that tracks their resources
    for _ in range(signals_sent):
        os.killpg(program.pid, signal.SIGINT)
        time.sleep(0.1)
    _, err = program.communicate(timeout=30)  # returns when the workers have ended too, since they share the pipe
    assert program.returncode == 130 and err.count("\n") == 1 and "interrupted" in err, err
    with locked(tmp_path / "bank", "synthetic.output_path", tmp_path / "bank" / ".lock"):
        pass  # nothing holds it


def test_output_to_a_program_that_has_ended_is_no_error():
    program = start(str(ROOT / "scripts/generate_data.py"), "--print_config")
    program.stdout.close()
    with program.stderr:
        assert (program.stderr.read(), program.wait(30)) == ("", 141)
