"""Speed of forecasts on local Spark and Ray, compared with `forecast.py`, from Parquet to Parquet.

    python -m benchmarks.batches builtin:bolt-synth --series 20000

Every program is a process of its own with one thread per worker, timed as a whole and after its engine has started.
`forecast.py` runs in two processes, and Spark and Ray have two workers. The series are those of forecasting.py. The
last column says whether all forecasts are equal to those of `forecast.py` to the last bit.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.forecasting import HORIZON, write_series

SPARK = """
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
begin = time.perf_counter()
series = spark.read.parquet(data).repartition(partitions, "item_id")
series.mapInArrow(forecast, forecast.ddl).write.parquet(output)
"""
RAY = """
import ray
ray.init(num_cpus=2, include_dashboard=False)
begin = time.perf_counter()
series = ray.data.read_parquet(data).repartition(partitions, keys=["item_id"])
series.map_batches(forecast, batch_format="pyarrow", batch_size=None).write_parquet(output)
"""
PROGRAM = """
import sys, time
from pipeline.forecasting.batches import forecast_batches
model, data, output, partitions = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
forecast = forecast_batches(model, horizon=%d, freq="h")
%s
print("SECONDS", time.perf_counter() - begin)
"""


def main() -> None:
    """Run the three programs in turn, and print the table."""
    from pipeline.core.tables import markdown_table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint folder, or builtin:bolt-synth")
    parser.add_argument("--series", type=int, default=20_000)
    parser.add_argument("--longest", type=int, default=2048)
    parser.add_argument("--partitions", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "series.parquet"
        write_series(data, arguments.series, arguments.longest)
        script = Path(__file__).parents[1] / "scripts" / "forecast.py"
        settings = {
            "inference.model_path": arguments.model,
            "inference.data_path": data,
            "inference.output_path": folder / "forecast.py.parquet",
            "inference.prediction_length": HORIZON,
            "data.freq": "h",
            "paths.data_dir": folder / "data",
        }
        flags = [part for key, value in settings.items() for part in (f"--{key}", value)]
        commands: dict[str, list[Any]] = {
            "forecast.py": ["-m", "torch.distributed.run", "--nproc-per-node", 2, script, *flags]
        }
        for engine, program in (("Spark", SPARK), ("Ray", RAY)):
            inputs = [arguments.model, data, folder / f"{engine}.parquet", arguments.partitions]
            commands[engine] = ["-c", PROGRAM % (HORIZON, program), *inputs]
        rows = [_measure(name, command, folder, arguments.series) for name, command in commands.items()]
    print(f"{arguments.model}, {arguments.series} series, horizon {HORIZON}, {arguments.partitions} partitions\n")
    print(markdown_table(rows, tuple(rows[0])))


def _measure(name: str, command: list[Any], folder: Path, n_series: int) -> dict[str, Any]:
    """Run a program, and return a row of its seconds and of whether its forecasts are those of `forecast.py`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYSPARK_PYTHON": sys.executable}
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, env=environment)
    whole = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-4000:])
    seconds = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("SECONDS ")]
    own, reference = (_read(folder / f"{file}.parquet") for file in (name, "forecast.py"))
    return {
        "": name,
        "s as a whole": whole,
        "s after the start of the engine": seconds[0] if seconds else None,
        "series/s as a whole": n_series / whole,
        "rows": len(own),
        "equal": str(own.equals(reference)),
    }


def _read(path: Path) -> pa.Table:
    """Return a forecast file or folder in the order of items and steps."""
    table = pq.read_table(path)
    stamps = table["timestamp"].cast(pa.timestamp("us"))
    table = table.set_column(1, "timestamp", stamps).sort_by([("item_id", "ascending"), ("timestamp", "ascending")])
    return table.cast(pa.schema([(name, table.schema.field(name).type) for name in table.column_names]))


if __name__ == "__main__":
    main()
