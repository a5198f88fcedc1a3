"""The command evaluate.py: scores of every model on every data set, beside the baselines."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.config import Config
from pipeline.core.errors import UserError
from pipeline.core.files import check_writable_folder
from pipeline.core.metrics import ForecastFunction
from pipeline.core.processes import Processes
from pipeline.core.tables import Row, markdown_table, write_csv
from pipeline.evaluation.backtest import Evaluation, Task, evaluate_task
from pipeline.evaluation.baselines import SEASONAL_NAIVE, STATISTICAL, naive_forecast, statistical_forecast
from pipeline.evaluation.comparison import compare_evaluations, conclude
from pipeline.evaluation.examples import Example, select_examples
from pipeline.evaluation.ranking import rank, tied_with_best
from pipeline.evaluation.report.files import PAGE, check_report_folder, write_report
from pipeline.evaluation.report.page import Findings, label_models, shown_model
from pipeline.evaluation.report.rows import SHOWN, make_tables
from pipeline.evaluation.tasks import open_tasks
from pipeline.models.checkpoint import read_training_info
from pipeline.models.find import check_model

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
    if config.evaluation.fev_tasks is not None:
        return _evaluate_on_fev(config.evaluation.fev_tasks, config)
    folder, processes, device = config.report_path(), Processes(), config.chronos.device
    check_report_folder(folder)
    if processes.rank:
        processes.barrier(device)  # the first process converts the sources
    tasks = open_tasks(config)
    if processes.rank == 0:
        processes.barrier(device)
    evaluations = score_models(config.scored_models(), tasks, config)
    if processes.rank:
        return []
    findings = collect_findings(evaluations, tasks, config, command)
    write_report(findings, folder)
    logger.info(markdown_table(findings.tables["scores"], SHOWN))
    logger.info("report: %s, with its tables in the same folder", folder / PAGE)
    for conclusion in findings.conclusions:
        logger.info(conclusion)
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
    folder = config.report_path() / "fev"
    check_writable_folder(folder)
    from pipeline.evaluation.fev import score_fev_tasks

    rows_by_model = score_fev_tasks(path, config.scored_models(), config)
    all_rows = [row for rows in rows_by_model.values() for row in rows]
    logger.info(markdown_table(all_rows, _FEV_SHOWN))
    for name, rows in rows_by_model.items():
        write_csv(folder / f"{name}.csv", rows)
        logger.info("results for the leaderboards of fev: %s", folder / f"{name}.csv")
    return all_rows


def score_models(models: Sequence[str], tasks: Sequence[Task], config: Config) -> dict[str, dict[str, Evaluation]]:
    """Return the evaluation of every model and baseline on every task, by task and model; seasonal naive comes first.

    Several processes share the windows, and each returns all evaluations.

    Raises:
        UserError: a model is missing or broken, or a task has no window.
    """
    for name in models:
        check_model(name)
    for task in tasks:
        n_windows = len(task.store) * task.n_origins
        if len(task) < n_windows:
            logger.warning(
                "%s: %d of %d windows cannot be scored, since the series are too short or have no known value there",
                task.name,
                n_windows - len(task),
                n_windows,
            )
    processes = Processes()
    evaluations: dict[str, dict[str, Evaluation]] = {task.name: {} for task in tasks}
    for warning in leak_warnings(models, tasks):
        logger.warning(warning)
    for name in (SEASONAL_NAIVE, *baseline_names(config), *models):
        forecast_for = load_forecast(name, config)
        for task in tasks:
            logger.info("scoring %s on %s", name, task.name)
            evaluations[task.name][name] = evaluate_task(
                task, forecast_for(task), config.evaluation.batch_size, processes, config.chronos.device
            )
    return evaluations


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

    forecaster = Forecaster.load(name, config.chronos.device, config.chronos.seed)
    return lambda _: forecaster.predict_quantiles


def collect_findings(
    evaluations: Mapping[str, Mapping[str, Evaluation]], tasks: Sequence[Task], config: Config, command: str
) -> Findings:
    """Return the content of the report on the evaluations of `score_models`.

    Args:
        command: the command line, for the report.
    """
    models, seed = list(next(iter(evaluations.values()))), config.chronos.seed
    ranks = rank(evaluations, SEASONAL_NAIVE, seed)
    shown = shown_model(ranks)
    forecast_for = load_forecast(shown, config)
    examples: list[Example] = []
    for task in tasks:
        batch_size = config.evaluation.batch_size
        examples += select_examples(task, evaluations[task.name][shown], forecast_for(task), batch_size)
    return Findings(
        ranks=ranks,
        tied=tied_with_best(evaluations, ranks),
        evaluations=evaluations,
        tables=make_tables(evaluations, ranks, tasks, examples, SEASONAL_NAIVE, seed),
        examples=examples,
        conclusions=conclusions_on_fine_tuning(evaluations, tasks[0].n_origins, config),
        warnings=leak_warnings(models, tasks),
        command=command,
    )


def conclusions_on_fine_tuning(
    evaluations: Mapping[str, Mapping[str, Evaluation]], n_windows: int, config: Config
) -> list[str]:
    """Return the answer whether fine-tuning helped for each scored model whose base is scored too.

    Args:
        n_windows: number of windows of each series.
    """
    models = list(next(iter(evaluations.values())))
    pairs = fine_tuned_pairs(models, config)
    labels = label_models(models)
    conclusions = []
    for base, model in pairs:
        comparison = compare_evaluations(
            [by_model[model] for by_model in evaluations.values()],
            [by_model[base] for by_model in evaluations.values()],
        )
        names = (labels[model], labels[base]) if len(pairs) > 1 else ()
        conclusions.append(conclude(comparison, n_windows, *names))
    return conclusions


def fine_tuned_pairs(models: Sequence[str], config: Config) -> list[tuple[str, str]]:
    """Return the base and the fine-tuned model of each pair among the models, by the resolved paths of their folders.

    The base is the one in the model's training_info.json. If that is missing, it is the configured base for the
    configured trained model.
    """
    by_path = {Path(model).resolve(): model for model in models}
    pairs = []
    for model in models:
        base = read_training_info(model).get("config", {}).get("base_model", {}).get("output_path")
        if base is None or not Path(base).exists():
            base = config.base_path() if Path(model).resolve() == config.trained_path().resolve() else None
        if base is not None and Path(base).resolve() in by_path.keys() - {Path(model).resolve()}:
            pairs.append((by_path[Path(base).resolve()], model))
    return pairs


def leak_warnings(models: Sequence[str], tasks: Sequence[Task]) -> list[str]:
    """Return a warning for each model and task of which the model has seen scored steps."""
    return [
        f"{model} was trained or selected on steps of {task.name} that are scored now; train it with data.test_length "
        f"{task.n_origins * task.prediction_length}"
        for model in models
        for task in tasks
        if _has_seen(model, task)
    ]


def _has_seen(model: str, task: Task) -> bool:
    """Return whether training_info.json of a model names the data of a task, with too few steps held back for it."""
    identity = read_training_info(model).get("identity")
    if identity is None or identity["test_length"] >= task.n_origins * task.prediction_length:
        return False
    return task.store.fingerprint in [store for source in identity["data"] for store in source.get("stores", ())]
