"""Generate many series, train on them and forecast them, and print the seconds and the memory of each command.

    python benchmarks/load.py                        a million series of 1,000 steps: 4 GB, about an hour on two cores
    python benchmarks/load.py --series 20000

The memory is the largest resident set of any process of the command, the pages of memory maps included. The last row
is two trainings and a forecast at the same time, on the same store.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from pipeline.core.tables import markdown_table

SCRIPTS = Path(__file__).parents[1] / "scripts"


def main() -> None:
    """Run the commands in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=1_000_000)
    parser.add_argument("--length", type=int, default=1_000)
    parser.add_argument("--steps", type=int, default=200, help="training steps")
    parser.add_argument("--workers", type=int, default=8, help="processes that load training windows")
    parser.add_argument("--folder", help="folder of the series and models, which is kept; a temporary one by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.folder or temporary)
        paths = [f"--paths.data_dir={folder}", f"--paths.models_dir={folder}/models", "--paths.cache_size=100"]
        generate = ["generate_data", "bank", f"--series={arguments.series}", f"--length={arguments.length}"]
        generate += ["--synthetic.num_processes=2", f"--output={folder}/bank"]
        store = f"{folder}/bank"

        def train(name: str) -> list[str]:
            trainer = f"{{dataloader_num_workers: {arguments.workers}, report_to: none}}"
            options = ["--horizon=24", "--base=builtin:bolt-synth", f"--output={folder}/models/{name}"]
            options += [f"--training.max_steps={arguments.steps}", f"--training.trainer={trainer}"]
            return ["train", store, *options, "--training.overwrite=true"]

        def forecast(name: str) -> list[str]:
            options = [f"--output={folder}/{name}.parquet", f"--base_model.output_path={folder}/models/base"]
            return ["forecast", store, f"--model={folder}/models/base", "--horizon=24", *options]

        runs = {
            "generate": [generate],
            "train": [train("trained")],
            "forecast": [forecast("forecasts")],
            "two trainings, a forecast": [train("first"), train("second"), forecast("again")],
        }
        rows = []
        for name, commands in runs.items():
            seconds, gigabytes = measure([[*command, *paths] for command in commands])
            rows.append({"command": name, "s": round(seconds), "GB of the largest process": gigabytes})
            print(rows[-1], flush=True)
    print(f"\n{arguments.series:,} series of {arguments.length:,} steps, {arguments.workers} loader workers\n")
    print(markdown_table(rows, tuple(rows[0])))


def measure(commands: list[list[str]]) -> tuple[float, float]:
    """Run commands at the same time, and return the seconds and the largest resident set of any process in GB."""
    begin, largest = time.monotonic(), 0
    started = [
        psutil.Popen([sys.executable, str(SCRIPTS / f"{name}.py"), *options], stdout=subprocess.DEVNULL)
        for name, *options in commands
    ]
    while any(process.poll() is None for process in started):
        for process in started:
            try:
                for member in (process, *process.children(recursive=True)):
                    largest = max(largest, member.memory_info().rss)
            except psutil.NoSuchProcess:  # it has ended since it was listed
                pass
        time.sleep(0.1)
    if any(process.returncode for process in started):
        raise SystemExit(f"a command failed: {commands}")
    return time.monotonic() - begin, largest / 1e9


if __name__ == "__main__":
    main()
