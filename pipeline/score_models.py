"""Every model scored on every data set, beside seasonal naive."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Config, EvaluationSet
from pipeline.data_source import open_configured
from pipeline.errors import UserError
from pipeline.evaluation import SEASONAL_NAIVE, Task, evaluate, naive_forecast, task_of
from pipeline.files import read_json
from pipeline.forecasting import Forecaster
from pipeline.metrics import WQL_LEVELS
from pipeline.report import score_rows

logger = logging.getLogger(__name__)


def tasks_of(config: Config) -> list[Task]:
    """Open the data sets that evaluation.data_path names.

    Raises:
        UserError: one is missing, or two have one name.
    """
    default_length = config.evaluation.prediction_length or config.inference.prediction_length
    tasks = [
        task_of(
            dataset.name or Path(dataset.path).stem,
            open_configured(config, dataset.path, dataset.freq),
            dataset.prediction_length or default_length,
            dataset.seasonality,
            config.evaluation.windows,
        )
        for dataset in _datasets(config)
    ]
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"evaluation.data_path: two data sets are named {name}; give each a name of its own")
    return tasks


def score_models(models: list[str], tasks: list[Task], config: Config) -> list[dict[str, Any]]:
    """Return the rows of the score table.

    Raises:
        UserError: a model is missing or broken.
    """
    for task in tasks:
        task.cuts()
    scores: dict[str, dict[str, dict[str, float]]] = {task.name: {} for task in tasks}
    for task in tasks:
        scores[task.name][SEASONAL_NAIVE] = evaluate(task, naive_forecast(task.seasonality))
    for model in models:
        forecaster = Forecaster.load(model, config.chronos.device, config.chronos.seed)
        for task in tasks:
            logger.info("scoring %s on %s", model, task.name)
            forecast = partial(_forecast, forecaster)
            scores[task.name][model] = evaluate(task, forecast, config.evaluation.batch_size)
    return score_rows(scores, yardstick=SEASONAL_NAIVE)


def _forecast(forecaster: Forecaster, histories: list[np.ndarray], prediction_length: int) -> np.ndarray:
    return forecaster.quantiles(histories, prediction_length, WQL_LEVELS)[0]


def _datasets(config: Config) -> list[EvaluationSet]:
    listed = config.evaluation.data_path or config.inference.data_path or str(config.dummy_path())
    if isinstance(listed, str):
        if Path(listed).suffix == ".json" and isinstance(read_json(listed), list):
            return [_of_index(Path(listed), entry) for entry in read_json(listed)]
        return [EvaluationSet(listed)]
    return [EvaluationSet(dataset) if isinstance(dataset, str) else dataset for dataset in listed]


def _of_index(index: Path, entry: Any) -> EvaluationSet:
    """Return one entry of a JSON index, whose files lie beside it; keys that describe rather than configure are left."""
    file = entry.get("file", entry.get("path")) if isinstance(entry, dict) else None
    if not isinstance(file, str):
        raise UserError(
            f"{index}: each entry is an object with a file and, where you like, name, freq, prediction_length"
        )
    keys = ("name", "freq", "prediction_length", "seasonality")
    return EvaluationSet(path=str(index.parent / file), **{key: entry[key] for key in keys if key in entry})
