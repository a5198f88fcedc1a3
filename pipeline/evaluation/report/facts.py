"""The facts of a report: which data and models were scored, and how the models were trained."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from pipeline import __version__
from pipeline.data.frequency import UNKNOWN
from pipeline.evaluation.backtest import Task
from pipeline.evaluation.forecasts import stamps_at
from pipeline.evaluation.ranking import Evaluations
from pipeline.models.checkpoint import read_training_info

_LIBRARIES = ("chronos-forecasting", "torch", "transformers", "numpy")


def scored_facts(task: Task, evaluations: Evaluations, source: str) -> dict[str, str]:
    """Return what was scored of a data set.

    Args:
        source: file or address of the data set; empty if it has none.
    """
    scores = next(iter(evaluations[task.name].values())).scores()
    first, last = _first_and_last(task)
    return {
        "data set": task.name,
        "source": source or "–",
        "series": f"{int(scores['series']):,} of {len(task.store):,}",
        "from": first,
        "to": last,
        "frequency": task.store.freq or "unknown",
        "horizon": str(task.prediction_length),
        "windows": f"{int(scores['windows']):,}",
        "season": str(task.seasonality),
        "targets": ", ".join(task.store.variates.targets),
        "covariates": _covariates(task.store.variates.past, task.store.variates.known),
    }


def training_facts(model: str) -> dict[str, str]:
    """Return what training_info.json of a checkpoint says on its training; nothing for a file of another version."""
    info = read_training_info(model)
    try:
        data, training, variates = info["config"]["data"], info["config"]["training"], info["variates"]
        source = "a table in memory" if any(store["in memory"] for store in info["data"]) else _source(data["train"])
        series = "".join(f", {store['series']:,} series{_span(store)}" for store in info["data"])
        return {
            "base": info["base_model"],
            "data": f"{source}{series}",
            "left out": f"the last {data['test_length']} steps of each series",
            "covariates": _covariates(variates["past"], variates["known"]),
            "horizon": str(info.get("horizon", training["prediction_length"])),
            "training": f"{info['steps']:,} steps of {training['batch_size']} windows, learning rate "
            f"{info['learning_rate']:g}, method {training['method']}",
            "result": info["verdict"],
            "versions": ", ".join(f"{name} {number}" for name, number in info["versions"].items()),
        }
    except KeyError:
        return {}


def _span(store: Mapping[str, Any]) -> str:
    """Return the first and the last timestamp of the series of a training, empty without timestamps."""
    return f", {store['from']} to {store['to']}".replace("T00:00:00", "") if store["freq"] else ""


def versions() -> dict[str, str]:
    """Return the versions that the evaluation ran with."""
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"chronos-native": __version__, **libraries, "Python": platform.python_version()}


def _first_and_last(task: Task) -> tuple[str, str]:
    """Return the first and the last timestamp of a data set, or the numbers of its steps if it has no timestamps."""
    store = task.store
    if store.freq == UNKNOWN:
        return "step 0", f"step {int(store.lengths.max()) - 1}"
    last = stamps_at(task, np.arange(len(store)), store.lengths[:, None] - 1).max()
    first, last = (str(stamp).replace("T", " ").removesuffix(" 00:00:00") for stamp in (store.starts.min(), last))
    return first, last


def _covariates(past: Sequence[str], known: Sequence[str]) -> str:
    names = [f"{name} (past)" for name in past] + [f"{name} (known)" for name in known]
    return ", ".join(names) or "none"


def _source(train: Any) -> str:
    """Return data.train of a configuration in words."""
    if isinstance(train, list):
        return ", ".join(map(_source, train))
    if isinstance(train, Mapping):
        return _source(train["path"]) if "path" in train else f"the query on {train['url']}"
    return "generated series" if train is None else str(train)
