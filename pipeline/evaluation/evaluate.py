"""The command evaluate.py: scores of every model on every data set, beside the baselines."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.core.checks import check_outputs
from pipeline.core.errors import UserError, first_few
from pipeline.core.locks import locked
from pipeline.core.metrics import ForecastFunction
from pipeline.core.processes import Processes
from pipeline.core.progress import progress
from pipeline.core.series import History
from pipeline.core.tables import Row, markdown_table, write_csv
from pipeline.evaluation.backtest import Evaluation, Task, evaluate_task, warn_about_windows
from pipeline.evaluation.baselines import SEASONAL_NAIVE, STATISTICAL, naive_forecast, statistical_forecast
from pipeline.evaluation.comparison import compare_evaluations, conclude
from pipeline.evaluation.forecasts import write_forecasts
from pipeline.evaluation.ranking import rank, tied_with_best
from pipeline.evaluation.report.files import FILES, FORECASTS, PAGE, check_report_folder, report_files, write_report
from pipeline.evaluation.report.page import Findings, base_of, label_models, shown_model
from pipeline.evaluation.report.pictures import collect_pictures
from pipeline.evaluation.report.rows import (
    SHOWN,
    calibration_rows,
    ranking_rows,
    score_rows,
    step_rows,
    training_rows,
)
from pipeline.evaluation.tasks import input_paths, open_tasks, source_names
from pipeline.forecasting.request import check_groups
from pipeline.models.checkpoint import is_adapter, model_family, read_config, read_training_info, weights_fingerprint
from pipeline.models.find import check_model, find_base, find_model
from pipeline.windows.seen import count_seen

KeepModelForecasts = Callable[[Task, str, range, np.ndarray], None]
"""Function that gets the forecasts of each batch: task, model, windows, and quantiles as in `backtest`."""
_FEV_SHOWN = ("task_name", "model_name", "eval_metric", "test_error", "num_forecasts")
logger = logging.getLogger(__name__)


def evaluate(config: Config, command: str) -> list[Row]:
    """Score the models of a configuration, write the report, log the score table, and return its rows.

    The last line of the log answers whether fine-tuning helped, if a model and its base are both scored. Several
    processes share the windows; only the first one writes, and the others return no rows.

    Args:
        command: the command line, for the report.

    Raises:
        UserError: a model, a data set or the folder of the report is wrong.
    """
    if config.evaluation.models is None and (base := find_base(config.trained_path())):
        models = [str(base), str(config.trained_path())]  # the base may be elsewhere than in the default folder
        config = replace(config, evaluation=replace(config.evaluation, models=models))
    if config.inference.engine != "torch":
        raise UserError(
            "inference.engine has no effect on evaluate; name the folder that chronos-native export has written in "
            "evaluation.models"
        )
    if config.evaluation.fev_tasks is not None:
        return _evaluate_on_fev(config.evaluation.fev_tasks, config)
    folder, processes = config.report_path(), Processes()
    files = {f"evaluation.report_path ({name})": folder / name for name in FILES}
    inputs = {"evaluation.data_path": input_paths(config), "evaluation.models": config.scored_models()}
    check_outputs(files=files, inputs=inputs)
    check_report_folder(folder)
    with processes.first_alone(config.chronos.device):
        tasks = open_tasks(config)
    if processes.rank:
        score_models(config.scored_models(), tasks, config, lambda *_: None)
        return []
    with report_files(folder) as staging:
        with write_forecasts(staging / FORECASTS, tasks) as writer:
            evaluations = score_models(config.scored_models(), tasks, config, writer.write)
        findings = collect_findings(evaluations, tasks, config, staging / FORECASTS, command)
        write_report(findings, staging)
    logger.info(markdown_table(findings.tables["scores"], SHOWN))
    logger.info("report: %s, with its tables in the same folder", folder / PAGE)
    for conclusion in findings.conclusions:
        logger.info("%s", conclusion)
    return findings.tables["scores"]


def _evaluate_on_fev(path: str, config: Config) -> list[Row]:
    """Score every model on the tasks of fev, log their errors, write a file for each model, and return all rows.

    Raises:
        UserError: there are several processes, or the benchmark, a model or the folder of the report is wrong.
    """
    if Processes().count > 1:
        raise UserError(
            "evaluation.fev_tasks is scored by one process; start evaluate.py without torchrun or accelerate"
        )
    if not config.scored_models():
        raise UserError("evaluation.models is empty; name the models that evaluation.fev_tasks shall score")
    folder = config.report_path() / "fev"
    inputs = {"evaluation.fev_tasks": [path], "evaluation.models": config.scored_models()}
    check_outputs(folders={"evaluation.report_path": folder}, inputs=inputs)
    from pipeline.evaluation.fev import score_fev_tasks

    with locked(folder, "evaluation.report_path"):
        rows_by_model = score_fev_tasks(path, config.scored_models(), config)
        all_rows = [row for rows in rows_by_model.values() for row in rows]
        logger.info(markdown_table(all_rows, _FEV_SHOWN))
        for name, rows in rows_by_model.items():
            write_csv(folder / f"{name}.csv", rows)
            logger.info("results for the leaderboards of fev: %s", folder / f"{name}.csv")
    return all_rows


def score_models(
    models: Sequence[str], tasks: Sequence[Task], config: Config, keep: KeepModelForecasts | None = None
) -> dict[str, dict[str, Evaluation]]:
    """Return the evaluation of every model and baseline on every task, by task and model; seasonal naive comes first.

    Several processes share the windows, and each returns all evaluations. `score_rows` makes a table of them.

    Args:
        keep: called on every process with the forecasts of all of them; given on all processes or on none.

    Raises:
        UserError: a model is missing or broken, or a task has no window.
    """
    for name in models:
        check_model(name)
    for task in tasks:
        warn_about_windows(task)
    _check_families(models, tasks, config)
    processes = Processes()
    evaluations: dict[str, dict[str, Evaluation]] = {task.name: {} for task in tasks}
    for warning in leak_warnings(models, tasks):
        logger.warning("%s", warning)
    for name in (SEASONAL_NAIVE, *baseline_names(config), *models):
        forecast_for = load_forecast(name, config)
        for task in tasks:
            logger.info("scoring %s on %s", name, task.name)
            with progress(None, len(task) // processes.count, "window", name, delay=2) as bar:
                evaluations[task.name][name] = evaluate_task(
                    task,
                    partial(_forecast_and_count, forecast_for(task), bar),
                    config.inference.batch_size,
                    processes,
                    config.chronos.device,
                    None if keep is None else partial(keep, task, name),
                )
    return evaluations


def _check_families(models: Sequence[str], tasks: Sequence[Task], config: Config) -> None:
    """Refuse groups and cross-learning if no model is Chronos-2, and warn about covariates.

    Beside a Chronos-2, other models forecast each series alone and without covariates.

    Raises:
        UserError: as described.
    """
    is_together, batch_size = config.inference.cross_learning, config.inference.batch_size
    has_groups = any(task.store.shared_groups(is_together) is not None for task in tasks)
    if not has_groups and all(task.store.variates.names == task.store.variates.targets for task in tasks):
        return
    folders = [find_model(name) for name in models]
    families = [None if is_adapter(folder) else model_family(read_config(folder)) for folder in folders]
    if families and not {None, "chronos-2"} & {*families}:
        for task in tasks:
            if covariates := task.store.variates.covariates:
                logger.warning("%s: no model takes covariates, so %s are not used", task.name, first_few(covariates))
    family = next((family for family in families if family in (None, "chronos-2")), families[0]) if families else None
    for task in tasks:
        check_groups(family or "chronos-2", task.store, is_together, batch_size)


def _forecast_and_count(
    forecast: ForecastFunction, bar: Any, histories: Sequence[History], prediction_length: int
) -> np.ndarray:
    """Return the forecasts of a batch, and move the progress bar."""
    quantiles = forecast(histories, prediction_length)
    bar.update(len(histories))
    return quantiles


def baseline_names(config: Config) -> list[str]:
    """Return the baselines beside seasonal naive: evaluation.baselines, or all if statsforecast is installed.

    Raises:
        UserError: a baseline is configured and statsforecast is not installed.
    """
    is_installed = importlib.util.find_spec("statsforecast") is not None
    names = config.evaluation.baselines
    if names and not is_installed:
        raise UserError(
            f"evaluation.baselines: {', '.join(names)} needs statsforecast; install it with: pip install statsforecast"
        )
    return list(STATISTICAL if is_installed else ()) if names is None else list(names)


def load_forecast(name: str, config: Config) -> Callable[[Task], ForecastFunction]:
    """Load a model, and return a function from a task to the forecast function for it.

    Args:
        name: a baseline, a checkpoint folder, or a model on the Hub.

    Raises:
        UserError: there is no such model, or it is broken.
    """
    if name == SEASONAL_NAIVE:
        return lambda task: naive_forecast(task.seasonality)
    if name in STATISTICAL:
        return lambda task: statistical_forecast(name, task.seasonality)
    from pipeline.forecasting.forecaster import Forecaster

    forecaster = Forecaster.of_config(name, config)
    return lambda _: forecaster.predict_quantiles


def collect_findings(
    evaluations: Mapping[str, Mapping[str, Evaluation]],
    tasks: Sequence[Task],
    config: Config,
    forecasts: Path,
    command: str,
) -> Findings:
    """Return the content of the report on the evaluations of `score_models`.

    Args:
        forecasts: the file that a `ForecastWriter` wrote.
        command: the command line, for the report.
    """
    models, seed = list(next(iter(evaluations.values()))), config.chronos.seed
    ranks, pairs = rank(evaluations, SEASONAL_NAIVE, seed), fine_tuned_pairs(models)
    leaks = {model: leak_warnings([model], tasks) for model in models}
    shown = shown_model(ranks, pairs)
    reference = shown if pairs else ranks[0].model
    differences = {
        model: compare_evaluations(
            [by_model[model] for by_model in evaluations.values()],
            [by_model[reference] for by_model in evaluations.values()],
        )
        for model in models
        if model != reference
    }
    return Findings(
        ranks=ranks,
        tied=tied_with_best(evaluations, ranks),
        pairs=pairs,
        reference=reference,
        differences=differences,
        evaluations=evaluations,
        tasks=tasks,
        tables={
            "scores": score_rows(evaluations, SEASONAL_NAIVE, seed),
            "ranking": ranking_rows(ranks, reference, differences),
            "scores_by_step": step_rows(evaluations),
            "calibration": calibration_rows(evaluations),
            "training": [row for entry in ranks for row in training_rows(entry.model)],
        },
        pictures=collect_pictures(evaluations, tasks, shown, base_of(shown, pairs), forecasts),
        conclusions=conclusions_on_fine_tuning(evaluations, pairs, leaks),
        warnings=[warning for warnings in leaks.values() for warning in warnings],
        sources=source_names(config),
        command=command,
    )


def conclusions_on_fine_tuning(
    evaluations: Mapping[str, Mapping[str, Evaluation]],
    pairs: Sequence[tuple[str, str]],
    leaks: Mapping[str, Sequence[str]],
) -> list[str]:
    """Return the answer whether fine-tuning helped for each scored model whose base is scored too.

    Args:
        pairs: the base and the fine-tuned model of each pair.
        leaks: the `leak_warnings` of each model.
    """
    labels = label_models(list(next(iter(evaluations.values()))))
    conclusions = []
    for base, model in pairs:
        comparison = compare_evaluations(
            [by_model[model] for by_model in evaluations.values()],
            [by_model[base] for by_model in evaluations.values()],
        )
        names = {"model": labels[model], "base": labels[base]} if len(pairs) > 1 else {}
        n_windows = sum(by_model[model].count_windows_with_wql() for by_model in evaluations.values())
        conclusions.append(conclude(comparison, n_windows, has_seen=bool(leaks[model]), **names))
    return conclusions


def fine_tuned_pairs(models: Sequence[str]) -> list[tuple[str, str]]:
    """Return the base and the fine-tuned model of each pair among the models.

    The base has the weights that the model was trained from, by the hash in the model's training_info.json.
    """
    trained_from = {model: read_training_info(model).get("identity", {}).get("base model") for model in models}
    if not any(trained_from.values()):
        return []
    hashes: dict[str, str] = {}
    for model in models:
        with suppress(UserError):  # a baseline, or a model with pickled weights
            hashes.setdefault(weights_fingerprint(find_model(model)), model)
    return [(hashes[base], model) for model, base in trained_from.items() if base in hashes]


def leak_warnings(models: Sequence[str], tasks: Sequence[Task]) -> list[str]:
    """Return a warning for each model and task of which the model has seen scored steps."""
    warnings = []
    for model in models:
        seen = read_training_info(model).get("seen", [])
        for task in tasks:
            n_seen, n_windows = count_seen(seen, task.store, task.windows)
            if n_seen:
                warnings.append(
                    f"{model} was trained or selected on the scored steps of {n_seen} of {n_windows} windows of "
                    f"{task.name}, so its scores are too good; train it with data.test_length "
                    f"{task.n_origins * task.prediction_length}"
                )
    return warnings
