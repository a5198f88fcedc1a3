"""A short slice of the attacks in tools/attack: no input and no kill breaks a promise of docs/reliability.md."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools" / "attack"
linux = pytest.mark.skipif(sys.platform != "linux", reason="the attacks fork processes with many threads")


def attack(program, *arguments):
    """Run a program, and return the number of attacks and its output."""
    command = [sys.executable, str(TOOLS / f"{program}.py"), *map(str, arguments)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    last = re.fullmatch(r"([\d,]+) attacks, 0 findings", result.stdout.splitlines()[-1])
    assert result.returncode == 0 and last, result.stdout
    return int(last[1].replace(",", "")), result.stdout


def counts(output):
    """The numbers of accepted and of refused inputs."""
    return [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) (?:accepted|refused)", output)]


@linux
@pytest.mark.parametrize("program, arguments, accepted, refused", [
    ("mutations", [100], 250, 1000),
    ("inputs", [5], 5, 30),
    ("configurations", [1, "data", "evaluation", "paths", "bolt"], 5, 15),
    pytest.param("mutations", [200, "--seed", 1], 500, 2000, marks=pytest.mark.slow),
    pytest.param("inputs", [21, "--seed", 1], 30, 150, marks=pytest.mark.slow),
    pytest.param("configurations", [2, "--seed", 1], 40, 100, marks=pytest.mark.slow),
])  # fmt: skip
def test_wrong_input_is_read_or_refused_in_one_line(program, arguments, accepted, refused):
    n_attacks, output = attack(program, *arguments)
    assert sum(counts(output)) == n_attacks
    assert counts(output)[0] > accepted and counts(output)[1] > refused


@linux
@pytest.mark.parametrize("arguments", [
    [1, "generate", "base"],
    pytest.param([1, "train", "forecast", "--seed", 1], marks=pytest.mark.slow),
])  # fmt: skip
def test_a_killed_command_leaves_whole_files_and_repeats(arguments):
    assert attack("kills", *arguments)[0] == 2
