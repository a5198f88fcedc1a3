"""What the programs in this folder share: arguments, worker processes with limits, and the last line."""

import argparse
import contextlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from itertools import chain
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError, to_one_line

Attack = Callable[[random.Random, Path], None]
"""Makes one attack in an empty folder, which is the current one. UserError refuses the input; other errors are
findings."""
Job = tuple[str, int]
"""Name and number of an attack."""
_FORK = multiprocessing.get_context("fork")  # a worker has the modules of its parent
_SLOW = 20  # of the attacks that take seconds, this times fewer are made
_OUTCOMES = ("accepted", "refused")
_WORKERS = os.cpu_count() or 1


def parse_arguments(doc: str | None, names: Collection[str]) -> argparse.Namespace:
    """Return the arguments of a program: count, seed, and the chosen names."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, help="number of attacks of each name")
    parser.add_argument("names", nargs="*", help=f"names or their beginnings; default: {', '.join(names)}")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.names = [name for name in names if name.startswith(tuple(arguments.names or [""]))]
    if not arguments.names:
        parser.error(f"use names of {', '.join(names)}")
    return arguments


def report(n_attacks: int, findings: list[str]) -> int:
    """Print the findings and the last line, and return the exit code."""
    print(*findings, sep="\n", end="\n" if findings else "")
    print(f"{n_attacks:,} attacks, {len(findings)} findings")
    return 1 if findings else 0


def run(
    doc: str | None,
    attacks: Mapping[str, Attack],
    slow: Collection[str] = (),
    *,
    seconds: float = 20,
    gigabytes: float = 4,
) -> int:
    """Make the attacks that the command line names, print the findings, and return the exit code.

    A finding is an error other than UserError, a message of several lines, the end of the process, or more seconds or
    memory than the limits. Its folder is kept.

    Args:
        slow: names of which fewer attacks are made.
    """
    arguments = parse_arguments(doc, attacks)
    jobs = [
        (name, index)
        for name in arguments.names
        for index in range(0, arguments.count, _SLOW if name in slow else 1)
    ]  # fmt: skip
    counts: Counter[str] = Counter()
    findings = []
    root = Path(tempfile.mkdtemp(prefix="attack-"))

    def make(job: Job) -> str:
        folder = root / f"{job[0]} {job[1]}"
        folder.mkdir()
        os.chdir(folder)
        outcome = _outcome(attacks[job[0]], random.Random(f"{job[0]} {arguments.seed} {job[1]}"), folder)
        if outcome in _OUTCOMES:
            shutil.rmtree(folder)
        return outcome

    shares = [share for first in range(_WORKERS) if (share := jobs[first::_WORKERS])]
    receivers = [_start(_supervise, share, make, seconds, gigabytes)[1] for share in shares]
    outcomes = [receiver.recv() for receiver in receivers]
    for job, outcome in zip(chain(*shares), chain(*outcomes)):
        counts[outcome if outcome in _OUTCOMES else "findings"] += 1
        if outcome not in _OUTCOMES:
            findings.append(f"{root}/{job[0]} {job[1]}: {outcome}")
    if not findings:
        shutil.rmtree(root)
    print(", ".join(f"{counts[name]:,} {name}" for name in _OUTCOMES))
    return report(len(jobs), findings)


def _outcome(attack: Attack, rng: random.Random, folder: Path) -> str:
    """Make an attack, and return "accepted", "refused", or the finding."""
    try:
        attack(rng, folder)
        return "accepted"
    except UserError as error:
        return f"several lines: {error!r}" if "\n" in str(error) else "refused"
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        files = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if "/pipeline/" in frame.filename]
        return " ".join([f"{type(error).__name__}: {to_one_line(error)}", *files[-2:]])


def _start(target: Callable[..., None], *arguments: Any) -> tuple[BaseProcess, Connection]:
    """Start a process that sends its results, and return it and what receives them."""
    receiver, sender = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=target, args=(*arguments, sender))
    process.start()
    sender.close()
    return process, receiver


def _supervise(
    jobs: list[Job], make: Callable[[Job], str], seconds: float, gigabytes: float, results: Connection
) -> None:
    """Make attacks in a worker process, in a new one after each that ends it or takes too long; send the outcomes."""
    outcomes: list[str] = []
    while len(outcomes) < len(jobs):
        worker, receiver = _start(_work, jobs[len(outcomes) :], make, gigabytes)
        try:
            while len(outcomes) < len(jobs) and receiver.poll(seconds):
                outcomes.append(receiver.recv())
            if len(outcomes) < len(jobs):
                outcomes.append(f"it takes more than {seconds} s")
        except EOFError:
            worker.join()
            outcomes.append(f"the process ends with {worker.exitcode}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid or 0, signal.SIGKILL)  # with the processes that it started
            worker.join()
    results.send(outcomes)


def _work(jobs: list[Job], make: Callable[[Job], str], gigabytes: float, sender: Connection) -> None:
    """Make attacks in turn, and send the outcomes."""
    supervisor = os.getppid()
    os.setsid()
    for stream in range(3):
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    if sys.platform == "linux":
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = size + int(gigabytes * (1 << 30))  # beside the modules
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for job in jobs:
        if os.getppid() != supervisor:  # it was killed
            break
        sender.send(make(job))
