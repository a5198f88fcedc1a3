"""Speed of forecasts from Parquet to Parquet, compared with `BaseChronosPipeline.predict_df` and pandas.

    python benchmarks/forecasting.py scratch:bolt-nano --series 20000 --variants
    python benchmarks/forecasting.py scratch:bolt-nano --series 1000 10000 100000 1000000 --longest 256 --alone

The lengths of the series are log-uniform from 64 to --longest steps. The quantiles of a scratch model cross, since its
weights are random; take a trained model to compare values. Each run is a process of its own, timed as a whole and after
its imports. The table has medians over rounds, ratios within rounds, and the maximum relative difference of quantiles.
With --alone only this pipeline runs, and the table has its peak resident memory.
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
import chronos, pipeline.forecasting.forecast
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
    """Measure forecasts for each number of series, and print the table."""
    from pipeline.base_model import ChronosBaseModel
    from pipeline.core.tables import markdown_table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a value of base_model.model_name, such as scratch:bolt-nano")
    parser.add_argument("--series", type=int, nargs="+", default=[20_000])
    parser.add_argument("--longest", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--variants", action="store_true", help="also bfloat16, ONNX, and two processes")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = ChronosBaseModel(arguments.model)
        base.load_from_huggingface()
        base.convert_to_native_format()
        base.save_base_model(str(folder / "base"))
        for n_series in arguments.series:
            write_series(folder / "series.parquet", n_series, arguments.longest)
            if arguments.alone:
                measured = [_measure_alone(folder)]
            else:
                measured = _compare(folder, arguments.rounds, arguments.variants)
            rows += [{"series": n_series, **row} for row in measured]
            print(rows[-1], file=sys.stderr, flush=True)
    print(f"{arguments.model}, 64 to {arguments.longest} steps, horizon {HORIZON}, {arguments.rounds} rounds\n")
    print(markdown_table(rows, tuple(rows[0])))


def write_series(path: Path, n_series: int, longest: int) -> None:
    """Write hourly series of 64 to `longest` steps, log-uniform."""
    rng = np.random.default_rng(0)
    schema = pa.schema([("item_id", pa.string()), ("timestamp", pa.timestamp("s")), ("target", pa.float32())])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, n_series, 10_000):
            n = min(10_000, n_series - first)
            lengths = np.exp(rng.uniform(np.log(64), np.log(longest), n)).astype(int)
            step = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)
            target = 20 + 5 * np.sin(2 * np.pi * step / 24) + rng.normal(0, 1, len(step))
            names = pa.array([f"s{k:07d}" for k in range(first, first + n)]).take(
                pa.array(np.repeat(np.arange(n), lengths))
            )
            stamps = np.datetime64("2020-01-01", "s") + step * np.timedelta64(3600, "s")
            writer.write_table(pa.table([names, pa.array(stamps), pa.array(target.astype(np.float32))], schema=schema))


def _own_command(folder: Path, precision: str = "auto", engine: str = "torch", processes: int = 1) -> list[Any]:
    settings = {
        "inference.precision": precision,
        "inference.engine": engine,
        "export.output_path": folder / "onnx",
        "inference.model_path": folder / "base",
        "inference.data_path": folder / "series.parquet",
        "inference.output_path": folder / "ours.parquet",
        "inference.prediction_length": HORIZON,
        "inference.quantiles": LEVELS,
        "paths.data_dir": folder / f"data{time.time_ns()}",
    }
    script = Path(__file__).parents[1] / "scripts" / "forecast.py"
    flags = [part for key, value in settings.items() for part in (f"--{key}", value)]
    if processes > 1:
        return ["-m", "torch.distributed.run", "--nproc-per-node", processes, script, *flags, "--chronos.device", "cpu"]
    return ["-c", OURS, script, *flags]


def _compare(folder: Path, rounds: int, variants: bool) -> list[dict[str, Any]]:
    """Run every program in turn, and return a row for each: median seconds, and the speed relative to predict_df."""
    commands = {
        "predict_df": ["-c", THEIRS, folder / "base", folder / "series.parquet", folder / "theirs.parquet", HORIZON],
        "forecast.py": _own_command(folder),
    }
    if variants:
        commands |= {
            "in bfloat16": _own_command(folder, precision="bf16"),
            "with onnx": _own_command(folder, engine="onnx"),
            "two processes": _own_command(folder, processes=2),
        }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    differences: dict[str, float] = {}
    for _ in range(rounds):
        for name, command in commands.items():
            runs[name].append(_run(command))
            if name != "predict_df":
                differences[name] = _difference(folder)
    rows = []
    for name in commands:
        row: dict[str, Any] = {"": name}
        for key, words in (("SECONDS", "after imports"), ("WHOLE", "as a whole")):
            pairs = [(own[key], stock[key]) for own, stock in zip(runs[name], runs["predict_df"]) if key in own]
            row[f"s {words}"] = statistics.median(own for own, _ in pairs) if pairs else None
            row[f"times as fast {words}"] = statistics.median(stock / own for own, stock in pairs) if pairs else None
        rows.append({**row, "greatest difference": differences.get(name)})
    return rows


def _difference(folder: Path) -> float:
    """Return the maximum relative difference of the quantiles, sorted, since those of predict_df may cross."""
    keys, levels = ["item_id", "timestamp"], list(map(str, LEVELS))
    tables = [pd.read_parquet(folder / f"{name}.parquet").sort_values(keys) for name in ("ours", "theirs")]
    ours, theirs = (np.sort(table[levels].to_numpy(), axis=1) for table in tables)
    assert (tables[0][keys].to_numpy() == tables[1][keys].to_numpy()).all()
    return float((np.abs(ours - theirs) / np.abs(theirs).clip(1e-6)).max())


def _measure_alone(folder: Path) -> dict[str, Any]:
    """Run this pipeline, and return a row of its seconds and its peak memory."""
    run = _run(_own_command(folder))
    return {"s after imports": run["SECONDS"], "s as a whole": run["WHOLE"], "MB at most": run["MEGABYTES"]}


def _run(arguments: list[Any]) -> dict[str, float]:
    """Run Python with arguments, and return the seconds as a whole (WHOLE) and the printed measurements, by name."""
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    measurements = {"WHOLE": time.perf_counter() - begin}
    for line in done.stdout.splitlines():
        if line.startswith(("SECONDS ", "MEGABYTES ")):
            measurements[line.split()[0]] = float(line.split()[1])
    return measurements


if __name__ == "__main__":
    main()
