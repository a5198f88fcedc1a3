"""Measure time and memory of loading, training and forecasting for the scratch sizes.

    python benchmarks/components.py bolt-nano t5-nano

Each size runs in a separate process, so that its peak memory does not include the other sizes.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

SIZES = ("bolt-nano", "bolt-tiny", "chronos-2-nano", "t5-nano")
# The median of three runs ignores one slow run.
REPEATS = 3
# The defaults of training from random weights, as in training.py. Eight steps and 32 series take seconds for each size.
CONTEXT, HORIZON, BATCH, STEPS, SERIES = 512, 64, 32, 8, 32


def main() -> None:
    """Measure the sizes on the command line, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", metavar="SIZE", default=SIZES, help=f"default: {' '.join(SIZES)}")
    parser.add_argument("--json", action="store_true", help="measure the first size in this process; print JSON")
    arguments = parser.parse_args()
    if arguments.json:
        print(json.dumps(measure(arguments.sizes[0])))
        return
    rows = []
    for size in arguments.sizes:
        result = subprocess.run(
            [sys.executable, __file__, "--json", size], stdout=subprocess.PIPE, text=True, check=True
        )
        rows.append(json.loads(result.stdout.splitlines()[-1]))
        print(rows[-1], file=sys.stderr)
    from pipeline.core.tables import markdown_table

    print(f"{platform.machine()}, {platform.python_version()}, context {CONTEXT}, horizon {HORIZON}, batch {BATCH}\n")
    print(markdown_table(rows, tuple(rows[0])))


def measure(size: str) -> dict[str, object]:
    """Return a row of the table: medians of times and rates, and peak resident memory in MB after each stage."""
    import numpy as np
    import torch

    from pipeline.base_model import ChronosBaseModel
    from pipeline.config import Config
    from pipeline.forecasting.forecaster import Forecaster
    from pipeline.train_model import ChronosTrainer

    with tempfile.TemporaryDirectory() as folder:
        base = ChronosBaseModel(f"scratch:{size}")
        base.load_from_huggingface()
        base.convert_to_native_format()
        base.save_base_model(f"{folder}/base")
        imported = peak_memory()
        load = median_seconds(lambda: Forecaster.load(f"{folder}/base"))
        loaded = peak_memory()
        forecaster = Forecaster.load(f"{folder}/base")
        contexts = list(np.random.default_rng(0).normal(size=(SERIES, CONTEXT)).cumsum(axis=1).astype(np.float32))
        inference = median_seconds(lambda: forecaster.quantiles(contexts, HORIZON, (0.1, 0.5, 0.9)))
        inferred = peak_memory()

        trainer = ChronosTrainer(f"{folder}/base")
        config = Config()
        training = replace(
            config.training, max_steps=STEPS, batch_size=BATCH, context_length=CONTEXT, validation_split=0.0
        )
        trainer.config = replace(config, training=replace(training, trainer={"report_to": "none", "save_steps": 10**6}))
        data = np.random.default_rng(0).normal(size=(200, 2 * CONTEXT)).cumsum(axis=1)
        train_data = trainer.prepare_training_data(data)
        windows = train_data[0]
        drawing = median_seconds(lambda: [windows.batch(range(BATCH * k, BATCH * (k + 1))) for k in range(STEPS)])
        training_seconds = median_seconds(lambda: trainer.train_model(train_data))
    return {
        "size": size,
        "parameters": base.get_model_info()["parameters"],
        "load s": round(load, 3),
        "forecast series/s": round(SERIES / inference, 1),
        "train windows/s": round(STEPS * BATCH / training_seconds, 1),
        "draw windows/s": round(STEPS * BATCH / drawing),
        "MB after imports": imported,
        "MB loaded": loaded,
        "MB forecasting": inferred,
        "MB training": peak_memory(),
        "threads": torch.get_num_threads(),
    }


def median_seconds(work: Callable[[], object]) -> float:
    """Return the median seconds of REPEATS runs, after a warm-up run."""
    work()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_memory() -> int:
    """Return the peak resident memory of this process in MB."""
    unit = 2**20 if platform.system() == "Darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


if __name__ == "__main__":
    main()
