"""Forecasts from Parquet to Parquet: this pipeline beside `BaseChronosPipeline.predict_df` and pandas.

    python benchmarks/forecasting.py scratch:bolt-nano --series 20000 --variants
    python benchmarks/forecasting.py scratch:bolt-nano --series 1000 10000 100000 1000000 --longest 256 --alone

Series have lengths log-uniform from 64 to 2,048 steps, or --longest. A scratch model has random weights, whose quantiles
cross; for equal values take a trained one. Each run is a process of its own, timed as a whole and from the end of its
imports; medians over rounds, ratios within rounds, and the greatest relative difference from predict_df's table. With
--alone only this pipeline runs, and its greatest resident memory is shown.
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
import chronos, pipeline.data.source, pipeline.data.future, pipeline.load_model, pipeline.forecasting.files
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
    from pipeline.core.tables import markdown_table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="anything that base_model.model_name takes, such as scratch:bolt-nano")
    parser.add_argument("--series", type=int, nargs="+", default=[20_000])
    parser.add_argument("--longest", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--variants", action="store_true", help="also bfloat16, and two processes")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = ChronosBaseModel(arguments.model)
        base.load_from_huggingface()
        base.convert_to_native_format()
        base.save_base_model(str(folder / "base"))
        for n_series in arguments.series:
            _write_series(folder / "series.parquet", n_series, arguments.longest)
            measured = _alone(folder) if arguments.alone else _beside(folder, arguments.rounds, arguments.variants)
            rows += [{"series": n_series, **row} for row in measured]
            print(rows[-1], file=sys.stderr, flush=True)
    print(f"{arguments.model}, 64 to {arguments.longest} steps, horizon {HORIZON}, {arguments.rounds} rounds\n")
    print(markdown_table(rows, tuple(rows[0])))


def _write_series(path: Path, n_series: int, longest: int) -> None:
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


def _ours(folder: Path, precision: str = "auto", processes: int = 1) -> list[Any]:
    settings = {
        "inference.precision": precision,
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


def _beside(folder: Path, rounds: int, variants: bool) -> list[dict[str, Any]]:
    commands = {
        "predict_df": ["-c", THEIRS, folder / "base", folder / "series.parquet", folder / "theirs.parquet", HORIZON],
        "forecast.py": _ours(folder),
    }
    if variants:
        commands |= {"in bfloat16": _ours(folder, precision="bf16"), "two processes": _ours(folder, processes=2)}
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    differing: dict[str, float] = {}
    for _ in range(rounds):
        for name, command in commands.items():
            measured[name].append(_run(command))
            if name != "predict_df":
                differing[name] = _difference(folder)
    rows = []
    for name, runs in measured.items():
        row: dict[str, Any] = {"": name}
        for kind, words in (("SECONDS", "after imports"), ("WHOLE", "as a whole")):
            both = [(run.get(kind), other[kind]) for run, other in zip(runs, measured["predict_df"])]
            known = [(own, other) for own, other in both if own is not None]
            row[f"s {words}"] = statistics.median(own for own, _ in known) if known else None
            row[f"times as fast {words}"] = statistics.median(other / own for own, other in known) if known else None
        rows.append({**row, "greatest difference": differing.get(name)})
    return rows


def _difference(folder: Path) -> float:
    """Return the greatest relative difference of any quantile; predict_df's, which may cross, are sorted first."""
    keys, levels = ["item_id", "timestamp"], list(map(str, LEVELS))
    tables = [pd.read_parquet(folder / f"{which}.parquet").sort_values(keys) for which in ("ours", "theirs")]
    ours, theirs = (np.sort(table[levels].to_numpy(), axis=1) for table in tables)
    assert (tables[0][keys].to_numpy() == tables[1][keys].to_numpy()).all()
    return float((np.abs(ours - theirs) / np.abs(theirs).clip(1e-6)).max())


def _alone(folder: Path) -> list[dict[str, Any]]:
    run = _run(_ours(folder))
    return [{"s after imports": run["SECONDS"], "s as a whole": run["WHOLE"], "MB at most": run["MEGABYTES"]}]


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
