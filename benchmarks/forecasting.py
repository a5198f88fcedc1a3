"""Forecasts from Parquet to Parquet: this pipeline beside `BaseChronosPipeline.predict_df` and pandas.

    python benchmarks/forecasting.py bolt-nano --series 20000
    python benchmarks/forecasting.py bolt-nano --series 1000 10000 100000 1000000 --alone

Series have lengths log-uniform from 64 to 2,048 steps; models have random weights and a context of 2,048 (T5: 512). Each run
is a process of its own, timed as a whole and from the end of its imports; medians over rounds, ratios within rounds, and the
greatest relative difference between the two tables. With --alone only this pipeline runs, and its resident memory is shown.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HORIZON, LEVELS = 24, [0.1, 0.5, 0.9]
OURS = """
import runpy, sys, time
import accelerate, chronos, pipeline.data_source, pipeline.future, pipeline.load_model, pipeline.predictions
begin = time.perf_counter()
script = sys.argv.pop(1)
sys.argv[0] = script
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as stop:
    assert not stop.code
print("SECONDS", time.perf_counter() - begin)
import resource
print("MEGABYTES", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
THEIRS = """
import sys, time, warnings
warnings.filterwarnings("ignore")
import pandas as pd, torch
from chronos import BaseChronosPipeline
import chronos.df_utils
begin = time.perf_counter()
model, data, output, horizon = sys.argv[1:]
pipeline = BaseChronosPipeline.from_pretrained(model, device_map="cpu")
table = pipeline.predict_df(pd.read_parquet(data), prediction_length=int(horizon), quantile_levels=%r, batch_size=64)
table.to_parquet(output)
print("SECONDS", time.perf_counter() - begin)
""" % LEVELS


def main() -> None:
    """Measure what the command line names."""
    from pipeline.base_model import ChronosBaseModel
    from pipeline.report.tables import markdown_table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size")
    parser.add_argument("--series", type=int, nargs="+", default=[20_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = ChronosBaseModel(f"scratch:{arguments.size}")
        base.load_from_huggingface()
        base.convert_to_native_format()
        base.save_base_model(str(folder / "base"))
        for n_series in arguments.series:
            _write_series(folder / "series.parquet", n_series)
            rows.append(
                {"series": n_series, **(_alone(folder) if arguments.alone else _beside(folder, arguments.rounds))}
            )
            print(rows[-1], file=sys.stderr, flush=True)
    print(f"{arguments.size}, horizon {HORIZON}, {arguments.rounds} rounds\n")
    print(markdown_table(rows, tuple(rows[0])))


def _write_series(path: Path, n_series: int) -> None:
    rng = np.random.default_rng(0)
    schema = pa.schema([("item_id", pa.string()), ("timestamp", pa.timestamp("s")), ("target", pa.float32())])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, n_series, 10_000):
            n = min(10_000, n_series - first)
            lengths = np.exp(rng.uniform(np.log(64), np.log(2048), n)).astype(int)
            step = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)
            target = 20 + 5 * np.sin(2 * np.pi * step / 24) + rng.normal(0, 1, len(step))
            names = pa.array([f"s{k:07d}" for k in range(first, first + n)]).take(
                pa.array(np.repeat(np.arange(n), lengths))
            )
            stamps = np.datetime64("2020-01-01", "s") + step * np.timedelta64(3600, "s")
            writer.write_table(pa.table([names, pa.array(stamps), pa.array(target.astype(np.float32))], schema=schema))


def _ours(folder: Path) -> list[Any]:
    settings = {
        "inference.model_path": folder / "base",
        "inference.data_path": folder / "series.parquet",
        "inference.output_path": folder / "ours.parquet",
        "inference.prediction_length": HORIZON,
        "inference.quantiles": LEVELS,
        "paths.data_dir": folder / f"data{time.time_ns()}",
    }
    script = Path(__file__).parents[1] / "scripts" / "forecast.py"
    return ["-c", OURS, script, *(part for key, value in settings.items() for part in (f"--{key}", value))]


def _beside(folder: Path, rounds: int) -> dict[str, Any]:
    theirs = ["-c", THEIRS, folder / "base", folder / "series.parquet", folder / "theirs.parquet", HORIZON]
    measured: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        measured["ours"].append(_run(_ours(folder)))
        measured["theirs"].append(_run(theirs))
    keys = ["item_id", "timestamp"]
    one, other = (pd.read_parquet(folder / f"{which}.parquet").sort_values(keys) for which in ("ours", "theirs"))
    differing = np.abs(one["0.5"].to_numpy() - other["0.5"].to_numpy()) / np.abs(other["0.5"].to_numpy()).clip(1e-6)
    row: dict[str, Any] = {}
    for kind, words in (("SECONDS", "after imports"), ("WHOLE", "as a whole")):
        row |= {
            f"s {words}": statistics.median(run[kind] for run in measured["ours"]),
            f"predict_df, s {words}": statistics.median(run[kind] for run in measured["theirs"]),
            f"times as fast {words}": statistics.median(
                b[kind] / a[kind] for a, b in zip(measured["ours"], measured["theirs"])
            ),
        }
    return row | {"greatest difference": float(differing.max())}


def _alone(folder: Path) -> dict[str, Any]:
    run = _run(_ours(folder))
    return {"s after imports": run["SECONDS"], "s as a whole": run["WHOLE"], "MB at most": run["MEGABYTES"]}


def _run(arguments: list[Any]) -> dict[str, float]:
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    found = {"WHOLE": time.perf_counter() - begin}
    for line in done.stdout.splitlines():
        if line.startswith(("SECONDS ", "MEGABYTES ")):
            found[line.split()[0]] = float(line.split()[1])
    return found


if __name__ == "__main__":
    main()
