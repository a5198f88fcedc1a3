"""Stop every command at random moments, repeat it, and print what differs from an undisturbed run.

python tools/attack/kills.py 100                     this number of attacks on each command
python tools/attack/kills.py 100 train --seed 1      only this command, other moments

An attack stops a command once or several times: by SIGKILL before a file operation (the opening of a file for writing,
a renaming, a deletion) or at a moment, or by SIGINT or SIGTERM at a moment. After each stop, every file under its final
name is whole; a command that got SIGINT or SIGTERM has ended within five seconds with 130 or 143 and one line; no
process is left. Then the same command ends with the outputs of an undisturbed run, and leaves nothing else.
"""

import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import parse_arguments, report

MODULES = ("evaluation.evaluate", "forecasting.forecaster", "models.onnx_graphs", "training.fit", "training.run")
_WRITES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}
_SECONDS_TO_END = 5
_COLUMNS = ["--target=sales", "--id=store", "--time=date"]
_TRAINING = {"max_steps": 6, "batch_size": 8, "context_length": 32, "trainer": "{eval_steps: 2}", "refit": True}
COMMANDS = {
    "generate": ["bank", "--series=60", "--length=64", "--output=bank", "--synthetic.shard_size=20"],
    "base": ["scratch:bolt-nano"],
    "train": [
        "sales.csv", "--horizon=8", "--base=scratch:bolt-nano", *_COLUMNS,
        *(f"--training.{key}={value}" for key, value in _TRAINING.items()),
    ],
    "forecast": ["sales.csv", "--model=base", "--horizon=8", "--output=out.csv", "--plot=out.png", *_COLUMNS],
    "export": ["base", "--output=exported"],
    "evaluate": ["sales.csv", "--models=base", "--horizon=8", "--output=reports", *_COLUMNS],
}  # fmt: skip
"""Arguments of each command. Files are in the current folder."""
_SAME = (
    "*.arrow",
    "*.onnx",
    "*.safetensors",
    "*/config.json",
    "out.csv",
    "scores_by_*.csv",
    "forecasts.parquet",
    "*_info.json",
)
"""Patterns of the files whose content does not depend on the time."""


def make_inputs(folder: Path) -> None:
    """Write a small file of series and a base model."""
    rows = [f"s{k},2024-01-{day:02d},{10 + (day + k) % 7}" for k in range(6) for day in range(1, 32)]
    (folder / "sales.csv").write_text("store,date,sales\n" + "\n".join(rows) + "\n")
    status = wait(start("base", ["scratch:bolt-nano", "--output=base"], folder, None))
    assert status == 0, (folder / "err.txt").read_text()


def start(command: str, arguments: list[str], folder: Path, kill_at: int | None) -> int:
    """Start a command in a forked process, which has the heavy modules already, and return the ID of the process.

    Args:
        kill_at: number of the file operation before which the process kills itself.
    """
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        for name, stream in (("out.txt", 1), ("err.txt", 2)):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        count_operations(folder, kill_at)
        import torch

        from pipeline.cli import main

        torch.set_num_threads(1)
        sys.argv = ["chronos-native", *arguments]
        main(command)
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def count_operations(folder: Path, kill_at: int | None) -> None:
    """Count the file operations in a folder to a file beside it, and kill this process before the given one."""
    count, file = 0, os.open(folder.with_suffix(".count"), os.O_WRONLY | os.O_CREAT)

    def watch(event: str, arguments: tuple) -> None:
        nonlocal count
        if event == "open":
            mode, flags = arguments[1], arguments[2]
            if not (flags & (os.O_WRONLY | os.O_RDWR) if mode is None else set("wax+") & set(mode)):
                return
        elif event not in _WRITES:
            return
        if not isinstance(arguments[0], int) and str(folder) in os.path.abspath(os.fsdecode(arguments[0])):
            count += 1
            os.pwrite(file, b"%9d" % count, 0)
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def wait(process: int) -> int:
    """Return the exit status of a process, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def outputs(folder: Path) -> dict[str, Any]:
    """Return the names of all files, with the content of those that do not depend on the time."""
    found: dict[str, Any] = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if name in ("out.txt", "err.txt") or "/logs/" in name or file.is_dir() and any(file.iterdir()):
            continue
        found[name] = file.read_bytes() if any(file.match(pattern) for pattern in _SAME) else None
        if file.name == "training_info.json":
            info = json.loads(file.read_text())
            found[name] = json.dumps([info["candidates"], info["refit"], info["seen"], info["identity"]])
        elif file.name == "model_info.json":
            found[name] = None
    return found


def torn_files(folder: Path) -> list[str]:
    """Return the files under a final name that are not whole."""
    import pyarrow.parquet as pq
    from PIL import Image
    from safetensors import safe_open

    from pipeline.data.arrow_store import open_store

    def check_text(file: Path) -> None:
        assert file.read_text().endswith("\n")

    def check_html(file: Path) -> None:
        assert file.read_text().rstrip().endswith("</html>")

    def check_zip(file: Path) -> None:
        assert zipfile.ZipFile(file).testzip() is None

    checks: dict[str, Callable[[Path], Any]] = {
        ".json": lambda file: json.loads(file.read_text()),
        ".parquet": pq.read_table,
        ".arrow": open_store,
        ".safetensors": lambda file: safe_open(file, "np").keys(),
        ".png": lambda file: Image.open(file).verify(),
        ".xlsx": check_zip,
        ".html": check_html,
        **dict.fromkeys((".csv", ".md", ".yaml"), check_text),
    }
    torn = []
    for file in folder.rglob("*"):
        parts = file.relative_to(folder).parts
        is_hidden = any(part.startswith(".") for part in parts)
        # Checkpoints of the Trainer are sealed when they are whole.
        if file.is_file() and file.suffix in checks and not is_hidden and not {"checkpoints", "refit"} & {*parts}:
            try:
                checks[file.suffix](file)
            except Exception as error:
                torn.append(f"{'/'.join(parts)} ({type(error).__name__})")
    return torn


def stop_once(
    command: str, folder: Path, rng: random.Random, n_operations: int, seconds: float
) -> tuple[str, list[str]]:
    """Start a command, stop it, and return how it was stopped, and the findings."""
    findings: list[str] = []
    how = rng.choice(["operation", "operation", "SIGKILL", "SIGINT", "SIGTERM"])
    if how == "operation":
        kill_at = rng.randint(1, n_operations)
        status = wait(start(command, COMMANDS[command], folder, kill_at))
        is_expected = status == -signal.SIGKILL or is_done(folder, status)
        return f"SIGKILL at operation {kill_at}", [] if is_expected else [f"exit {status}"]
    number = getattr(signal, how)
    delay = rng.uniform(0, seconds) + (0 if how == "SIGKILL" else 0.3)  # Python itself starts for 0.3 s
    process = start(command, COMMANDS[command], folder, None)
    time.sleep(delay)
    begin = time.monotonic()
    os.killpg(process, number) if how != "SIGKILL" else os.kill(process, number)
    status = wait(process)
    took = time.monotonic() - begin
    if how != "SIGKILL":
        error = (folder / "err.txt").read_text()
        if status and error.count("\n") != 1:
            findings.append(f"{error.count(chr(10))} lines: {error[-300:]!r}")
        if took > _SECONDS_TO_END:
            findings.append(f"it ended {took:.1f} s after the signal")
    if status != (-number if how == "SIGKILL" else 128 + number) and not is_done(folder, status):
        findings.append(f"exit {status}")
    deadline = time.monotonic() + _SECONDS_TO_END
    while time.monotonic() < deadline and group_exists(process):
        time.sleep(0.05)
    if group_exists(process):
        os.killpg(process, signal.SIGKILL)
        findings.append("processes are left")
    return f"{how} after {delay:.2f} s", findings


def is_done(folder: Path, status: int) -> bool:
    """Return whether a command has ended, or was refused because an earlier stop came after its end."""
    return status == 0 or (status == 2 and "has a finished run" in (folder / "err.txt").read_text())


def group_exists(group: int) -> bool:
    """Return whether a process group has processes that run."""
    states = subprocess.run(["ps", "-o", "stat=", "-g", str(group)], capture_output=True, text=True).stdout.split()
    return any(state[0] != "Z" for state in states)


def attack(command: str, count: int, seed: int, inputs: Path, scratch: Path) -> list[str]:
    """Return the findings of some attacks on a command."""
    whole = scratch / "whole"
    shutil.copytree(inputs, whole)
    begin = time.monotonic()
    status = wait(start(command, COMMANDS[command], whole, None))
    seconds = time.monotonic() - begin
    assert status == 0, (whole / "err.txt").read_text()
    expected, n_operations = outputs(whole), int(whole.with_suffix(".count").read_text())
    print(f"{command}: {seconds:.1f} s, {n_operations} file operations", flush=True)
    findings = []
    for index in range(count):
        rng, folder = random.Random(f"{command} {seed} {index}"), scratch / "attacked"
        shutil.copytree(inputs, folder)
        stops: list[str] = []
        while not stops or rng.random() < 0.3:
            how, found = stop_once(command, folder, rng, n_operations, seconds)
            stops.append(how)
            torn = torn_files(folder)
            findings += [f"{command} {index}, {', '.join(stops)}: {problem}" for problem in [*found, *torn]]
        status, label = wait(start(command, COMMANDS[command], folder, None)), f"{command} {index}, {', '.join(stops)}"
        error, result = (folder / "err.txt").read_text(), outputs(folder)
        names = sorted(expected.keys() | result.keys())
        differing = [name for name in names if expected.get(name, 0) != result.get(name, 0)]
        if not is_done(folder, status):
            findings.append(f"{label}: the repeated command ends with {status}: {error[-300:]}")
        elif differing:
            findings.append(f"{label}: other files than those of an undisturbed run: {', '.join(differing)}")
        shutil.rmtree(folder)
    return findings


def main() -> int:
    """Attack the commands, and print the findings."""
    arguments = parse_arguments(__doc__, COMMANDS)
    for module in ("chronos", *(f"pipeline.{name}" for name in MODULES)):
        importlib.import_module(module)  # each forked process has the heavy modules
    findings = []
    with tempfile.TemporaryDirectory() as name:
        inputs = Path(name, "inputs")
        inputs.mkdir()
        make_inputs(inputs)
        for command in arguments.names:
            scratch = Path(name, command)
            scratch.mkdir()
            findings += attack(command, arguments.count, arguments.seed, inputs, scratch)
    return report(arguments.count * len(arguments.names), findings)


if __name__ == "__main__":
    sys.exit(main())
