"""Partitions of Spark and Ray in tests: the table they come from, and a worker that is killed."""

import os
import signal
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from support import ROOT
from support.series import long_frame

from pipeline.data.partitions import PartitionFunction
from pipeline.forecasting.batches import forecast_batches

WORKER_PATH = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
"""PYTHONPATH of the workers, which import this module."""
IDS = sorted(f"item{k}" for k in range(30))


def frame():
    """Return 30 daily series of 60 steps in long form."""
    return long_frame(n_series=30, length=60)


def forecaster():
    """Return a function that forecasts four days."""
    return forecast_batches("builtin:bolt-synth", horizon=4, freq="D")


def expected(function):
    """Return the forecasts of the whole table by this process."""
    return ordered(function(pa.Table.from_pandas(frame(), preserve_index=False)))


def ordered(table):
    """Return forecasts in the order of items and steps."""
    return table.sort_by([("item_id", "ascending"), ("timestamp", "ascending")]).replace_schema_metadata(None)


@dataclass(frozen=True)
class Killed(PartitionFunction):
    """Kills the worker that runs a function on its first partition, after the work was done."""

    function: Any = None
    marker: str = ""
    """A file that exists after the kill."""

    def apply(self, table):
        result = self.function.apply(table)
        if not os.path.exists(self.marker):
            open(self.marker, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return result


def killed(function, marker):
    """Return a function whose first worker is killed."""
    return Killed(function.reading, function.schema, function=function, marker=str(marker))
