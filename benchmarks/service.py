"""Time of a warm `predict_df` of one series, as in a service, compared with stock `predict_quantiles`.

    python benchmarks/service.py MODEL [MODEL ...]

The series has 400 days and two columns beside the target; the horizon is 28. Stock Chronos gets the values alone, as a
tensor. The calls take turns in one process. The table has medians in milliseconds over 200 rounds, and their ratio.
"""

import argparse
import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from pipeline import load

HORIZON, LEVELS, ROUNDS = 28, [0.1, 0.5, 0.9], 200


def main() -> None:
    """Measure every model, and print the table."""
    from pipeline.core.tables import markdown_table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="checkpoint folders, Hub IDs or builtin:bolt-synth")
    logging.disable(logging.WARNING)
    rows = [{"model": name, **measure(name)} for name in parser.parse_args().models]
    print(markdown_table(rows, list(rows[0])))


def measure(name: str) -> dict[str, float]:
    """Return the medians of both calls in milliseconds, and their ratio."""
    import torch

    model = load(name)
    stock: Any = model.loaded().pipeline
    steps = np.arange(400)
    values = 50 + 10 * np.sin(steps * 2 * np.pi / 7) + np.random.default_rng(0).normal(size=len(steps))
    table = pd.DataFrame(
        {"item_id": "a", "timestamp": pd.date_range("2024-01-01", periods=len(steps)), "target": values}
    )
    context = torch.tensor(values, dtype=torch.float32)
    calls: dict[str, Callable[[], Any]] = {
        "predict_df": lambda: model.predict_df(table, HORIZON, quantiles=LEVELS),
        "predict_quantiles": lambda: stock.predict_quantiles(context, HORIZON, quantile_levels=LEVELS),
    }
    seconds: dict[str, list[float]] = {call: [] for call in calls}
    for _ in range(ROUNDS):
        for call, function in calls.items():
            begin = time.perf_counter()
            function()
            seconds[call].append(time.perf_counter() - begin)
    medians = {call: 1000 * statistics.median(times) for call, times in seconds.items()}
    return {**medians, "ratio": medians["predict_df"] / medians["predict_quantiles"]}


if __name__ == "__main__":
    main()
