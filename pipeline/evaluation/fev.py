"""Tasks of the fev benchmark: forecast by any checkpoint, scored by fev, as rows for its leaderboards."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.core.batches import split_batches
from pipeline.core.errors import UserError, to_one_line
from pipeline.core.series import History, Panel, Variates
from pipeline.core.tables import Row
from pipeline.forecasting.batching import check_finite, forecast_in_batches
from pipeline.forecasting.forecaster import Forecaster
from pipeline.models.find import check_model

_LEADERBOARD_ROWS = 100
"""Targets and covariates in a batch of Chronos-2 for fev's leaderboards, which it forecasts with cross-learning."""
logger = logging.getLogger(__name__)


def score_fev_tasks(path: str, models: Sequence[str], config: Config) -> dict[str, list[Row]]:
    """Return the leaderboard rows of each model by its name: the `evaluation_summary` of every task, unchanged.

    Chronos-2 forecasts as for fev's leaderboards: it uses the covariates of a task, and the items of a batch see each
    other. Other models forecast each target alone.
    `trained_on_this_dataset` is always false; correct it if a model was trained on the data set.

    Args:
        path: YAML file or address of a benchmark, in fev's format.

    Raises:
        UserError: fev is not installed, the file is not a benchmark, or a data set or a model cannot be loaded.
    """
    try:
        import fev
    except ImportError as error:
        raise UserError("evaluation.fev_tasks needs fev; install it with: pip install 'fev>=0.10'") from error
    try:
        tasks = fev.Benchmark.from_yaml(path).tasks
    except Exception as error:  # the errors of fev, pydantic and yaml share no base class
        raise UserError(f"evaluation.fev_tasks: {path}: {to_one_line(error)}") from None  # a cause shows the query
    for model in models:
        check_model(model)
    names = [Path(model).name.replace(":", "-") for model in models]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"evaluation.models: two models have the name {name} on the leaderboard; rename a folder")
    rows: dict[str, list[Row]] = {}
    for name, model in zip(names, models):
        forecaster = Forecaster.of_config(model, config)
        for task in tasks:
            logger.info("scoring %s on %s", model, task.task_name)
            rows.setdefault(name, []).append(_score_task(task, forecaster, name, config.inference.batch_size))
    return rows


def _score_task(task: Any, forecaster: Forecaster, name: str, batch_size: int) -> Row:
    """Return fev's summary of the forecasts of a task.

    Raises:
        UserError: the data set cannot be loaded, or the model forecasts NaN.
    """
    try:
        windows = [window.get_input_data() for window in task.iter_windows()]
    except (RuntimeError, ValueError) as error:
        raise UserError(f"evaluation.fev_tasks: {task.task_name}: {to_one_line(error)}") from error
    begin = time.perf_counter()
    predictions = [_forecast_window(task, forecaster, past, future, batch_size) for past, future in windows]
    return task.evaluation_summary(predictions, model_name=name, inference_time_s=time.perf_counter() - begin)


def _forecast_window(task: Any, forecaster: Forecaster, past: Any, future: Any, batch_size: int) -> Any:
    """Return the forecasts of one window in fev's format: a `datasets.DatasetDict` with a data set for each target.

    Args:
        past: `datasets.Dataset` with a row for each item: its values before the forecast start.
        future: `datasets.Dataset` with the known covariates of each item in the horizon.
    """
    import datasets

    is_chronos_2 = forecaster.family == "chronos-2"
    variates = _task_variates(task, past) if is_chronos_2 else Variates(tuple(task.target_columns))
    batch_size = -(-_LEADERBOARD_ROWS // len(variates)) if is_chronos_2 else batch_size
    n_targets = len(variates.targets)

    def histories(items: Iterable[int]) -> list[History]:
        if is_chronos_2:
            return [_panel(past[item], future[item], variates, task.horizon) for item in items]
        return [np.asarray(past[item][name], np.float32) for item in items for name in variates.targets]

    quantiles: list[np.ndarray] = []
    point: list[np.ndarray] = []
    for batch in forecast_in_batches(
        histories,
        lambda rows: forecaster.quantiles(rows, task.horizon, task.quantile_levels or [0.5]),
        split_batches(range(len(past)), batch_size),
    ):
        rows_per_item = len(batch.histories) // len(batch.indices)
        names = [f"series {item + 1}" for item in batch.indices for _ in range(rows_per_item)]
        check_finite(batch.histories, batch.output[1], names)
        for results, forecast in zip((quantiles, point), batch.output):
            # fev refuses NaN, which is the forecast of a series without a known value.
            results.append(np.nan_to_num(forecast).reshape(len(batch.indices), n_targets, *forecast.shape[1:]))
    all_quantiles, all_points = np.concatenate(quantiles), np.concatenate(point)
    columns = {
        name: {"predictions": all_points[:, row].astype(np.float64)}
        | {
            str(level): all_quantiles[:, row, :, position].astype(np.float64)
            for position, level in enumerate(task.quantile_levels)
        }
        for row, name in enumerate(variates.targets)
    }
    return datasets.DatasetDict({name: datasets.Dataset.from_dict(columns[name]) for name in variates.targets})


def _task_variates(task: Any, past: Any) -> Variates:
    """Return the variates of a task, with the categories that occur in the past of any item."""
    names = (*task.past_dynamic_columns, *task.known_dynamic_columns)
    columns = {name: np.concatenate([np.asarray(values) for values in past[name]]) for name in names}
    texts = {name: values for name, values in columns.items() if not np.issubdtype(values.dtype, np.number)}
    categories = {name: tuple(dict.fromkeys(map(str, values))) for name, values in texts.items()}
    return Variates(
        tuple(task.target_columns), tuple(task.past_dynamic_columns), tuple(task.known_dynamic_columns), categories
    )


def _panel(past: dict[str, Any], future: dict[str, Any], variates: Variates, horizon: int) -> Panel:
    """Return one item of a window as a panel."""
    past_rows = np.stack([_to_numbers(past[name], name, variates) for name in variates.names])
    future_rows = np.full((len(variates), horizon), np.nan, np.float32)
    for name in variates.known:
        future_rows[variates.names.index(name)] = _to_numbers(future[name], name, variates)
    return Panel(past_rows, future_rows, variates, group=0)


def _to_numbers(values: Any, name: str, variates: Variates) -> np.ndarray:
    """Return a column as float32. A category becomes its position, -1 if it does not occur in the past."""
    if name not in variates.categories:
        return np.asarray(values, np.float32)
    positions = {category: float(position) for position, category in enumerate(variates.categories[name])}
    return np.array([positions.get(str(value), -1.0) for value in values], np.float32)
