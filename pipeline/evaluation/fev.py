"""Tasks of the fev benchmark: forecast by any checkpoint, scored by fev itself, in the form that its leaderboards take."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.core.errors import UserError, one_line
from pipeline.core.series import History, Panel, Variates
from pipeline.core.tables import Row
from pipeline.forecasting.forecaster import Forecaster, refuse_no_numbers
from pipeline.models.find import check_model

logger = logging.getLogger(__name__)


def score_fev_tasks(path: str, models: Sequence[str], config: Config) -> dict[str, list[Row]]:
    """Return each model's rows of a leaderboard: what fev's `evaluation_summary` says of every task, unchanged.

    Chronos-2 sees a task's covariates and forecasts its targets together; the other families take each target alone.
    `trained_on_this_dataset` is said to be false: who trained on a task's data sets it.

    Args:
        path: YAML file or address of a benchmark, with fev's own `tasks`.

    Raises:
        UserError: fev is not installed, the file is none of its benchmarks, or a data set or model cannot be loaded.
    """
    try:
        import fev
    except ImportError as error:
        raise UserError("evaluation.fev_tasks needs fev; install it with: pip install 'fev>=0.10'") from error
    try:
        tasks = fev.Benchmark.from_yaml(path).tasks
    except Exception as error:  # its own errors, pydantic's and yaml's share no base class
        raise UserError(f"evaluation.fev_tasks: {path}: {one_line(error)}") from error
    for model in models:
        check_model(model)
    names = [Path(model).name.replace(":", "-") for model in models]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"evaluation.models: two models would be named {name} on the leaderboard; rename a folder")
    rows: dict[str, list[Row]] = {}
    for name, model in zip(names, models):
        forecaster = Forecaster.load(model, config.chronos.device, config.chronos.seed)
        for task in tasks:
            logger.info("scoring %s on %s", model, task.task_name)
            rows.setdefault(name, []).append(_summary(task, forecaster, name, config.evaluation.batch_size))
    return rows


def _summary(task: Any, forecaster: Forecaster, name: str, batch_size: int) -> Row:
    try:
        windows = [window.get_input_data() for window in task.iter_windows()]
    except (RuntimeError, ValueError) as error:
        raise UserError(f"evaluation.fev_tasks: {task.task_name}: {one_line(error)}") from error
    begin = time.perf_counter()
    predictions = [_predictions(task, forecaster, past, future, batch_size) for past, future in windows]
    return task.evaluation_summary(predictions, model_name=name, inference_time_s=time.perf_counter() - begin)


def _predictions(task: Any, forecaster: Forecaster, past: Any, future: Any, batch_size: int) -> Any:
    """Return the forecasts of one window as fev takes them: a data set for each target."""
    import datasets

    levels = task.quantile_levels or [0.5]
    variates = _variates(task, past) if forecaster.family == "chronos-2" else Variates(tuple(task.target_columns))
    together = forecaster.family == "chronos-2" and len(variates) > 1
    quantiles: list[np.ndarray] = []
    point: list[np.ndarray] = []
    for first in range(0, len(past), batch_size):
        batch = range(first, min(first + batch_size, len(past)))
        histories: list[History] = []
        for index in batch:
            before, beyond = past[index], future[index]
            histories += [_panel(before, beyond, variates, task.horizon)] if together else _targets(before, variates)
        of_batch = forecaster.quantiles(histories, task.horizon, levels)
        per_series = len(histories) // len(batch)
        names = [f"series {index + 1}" for index in batch for _ in range(per_series)]
        refuse_no_numbers(histories, of_batch[1], names)
        # fev takes no unknown forecasts; a series without a known value has nothing better than nought.
        for kept, part in zip((quantiles, point), of_batch):
            kept.append(np.nan_to_num(part).reshape(len(batch), len(variates.targets), *part.shape[1:]))
    all_quantiles, all_points = np.concatenate(quantiles), np.concatenate(point)
    return datasets.DatasetDict(
        {
            target: datasets.Dataset.from_dict(
                {
                    "predictions": all_points[:, row].astype(np.float64),
                    **{
                        str(level): all_quantiles[:, row, :, position].astype(np.float64)
                        for position, level in enumerate(task.quantile_levels)
                    },
                }
            )
            for row, target in enumerate(variates.targets)
        }
    )


def _variates(task: Any, past: Any) -> Variates:
    """Return the variates of a task with the categories that its covariates have in any series' past."""
    names = (*task.past_dynamic_columns, *task.known_dynamic_columns)
    columns = {name: np.concatenate([np.asarray(values) for values in past[name]]) for name in names}
    texts = {name: values for name, values in columns.items() if not np.issubdtype(values.dtype, np.number)}
    categories = {name: tuple(dict.fromkeys(map(str, values))) for name, values in texts.items()}
    return Variates(
        tuple(task.target_columns), tuple(task.past_dynamic_columns), tuple(task.known_dynamic_columns), categories
    )


def _targets(before: dict[str, Any], variates: Variates) -> list[np.ndarray]:
    return [np.asarray(before[name], np.float32) for name in variates.targets]


def _panel(before: dict[str, Any], beyond: dict[str, Any], variates: Variates, horizon: int) -> Panel:
    past = np.stack([_numbers(before[name], name, variates) for name in variates.names])
    ahead = np.full((len(variates), horizon), np.nan, np.float32)
    for name in variates.known:
        ahead[variates.names.index(name)] = _numbers(beyond[name], name, variates)
    return Panel(past, ahead, variates)


def _numbers(values: Any, name: str, variates: Variates) -> np.ndarray:
    """Return a column as float32: numbers as they are, categories by their position, -1 where it is none of the past."""
    if name not in variates.categories:
        return np.asarray(values, np.float32)
    places = {category: float(place) for place, category in enumerate(variates.categories[name])}
    return np.array([places.get(str(value), -1.0) for value in values], np.float32)
