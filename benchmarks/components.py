"""Time and memory of loading, training and inference for the scratch sizes, as a Markdown table.

python benchmarks/components.py [SIZE ...]     each size in a process of its own, so that peak memory is its own
"""

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
from pathlib import Path

SIZES = ("bolt-nano", "bolt-tiny", "chronos-2-nano", "t5-nano")
REPEATS = 3
CONTEXT, HORIZON, BATCH, STEPS, SERIES = 512, 64, 32, 8, 32


def main() -> None:
    """Measure the sizes named on the command line, or some of each family."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2])))
        return
    rows = []
    for size in sys.argv[1:] or SIZES:
        done = subprocess.run([sys.executable, __file__, "--one", size], capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], file=sys.stderr)
    from pipeline.core.tables import markdown_table

    print(f"{platform.machine()}, {platform.python_version()}, context {CONTEXT}, horizon {HORIZON}, batch {BATCH}\n")
    print(markdown_table(rows, tuple(rows[0])))


def measure(size: str) -> dict[str, object]:
    """Return one row: medians over repeats, seconds and windows or series a second, peak resident memory in MB."""
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
        imported = peak()
        load = seconds(lambda: Forecaster.load(f"{folder}/base"))
        loaded = peak()
        forecaster = Forecaster.load(f"{folder}/base")
        contexts = list(np.random.default_rng(0).normal(size=(SERIES, CONTEXT)).cumsum(axis=1).astype(np.float32))
        inference = seconds(lambda: forecaster.quantiles(contexts, HORIZON, (0.1, 0.5, 0.9)))
        inferred = peak()

        trainer = ChronosTrainer(f"{folder}/base")
        config = Config()
        training = replace(
            config.training, max_steps=STEPS, batch_size=BATCH, context_length=CONTEXT, validation_split=0.0
        )
        trainer.config = replace(config, training=replace(training, trainer={"report_to": "none", "save_steps": 10**6}))
        data = np.random.default_rng(0).normal(size=(200, 2 * CONTEXT)).cumsum(axis=1)
        windows = trainer.prepare_training_data(data)
        drawn = seconds(lambda: [windows[0].batch(range(BATCH * k, BATCH * (k + 1))) for k in range(STEPS)])
        trained = seconds(lambda: trainer.train_model(windows))
    return {
        "size": size,
        "parameters": base.get_model_info()["parameters"],
        "load s": round(load, 3),
        "forecast series/s": round(SERIES / inference, 1),
        "train windows/s": round(STEPS * BATCH / trained, 1),
        "draw windows/s": round(STEPS * BATCH / drawn),
        "MB after imports": imported,
        "MB loaded": loaded,
        "MB forecasting": inferred,
        "MB training": peak(),
        "threads": torch.get_num_threads(),
    }


def seconds(work: Callable[[], object]) -> float:
    """Return the median time of some runs, after one that does not count."""
    work()
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def peak() -> int:
    """Return the peak resident memory of this process in MB."""
    unit = 2**20 if platform.system() == "Darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
