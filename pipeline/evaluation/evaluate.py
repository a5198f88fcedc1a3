"""Every model scored on every data set, beside the baselines."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.config import Config
from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write, check_folder
from pipeline.core.metrics import Forecast
from pipeline.core.processes import Processes
from pipeline.core.tables import Row, markdown_table, write_csv
from pipeline.evaluation.backtest import Evaluation, Example, Task, evaluate, examples
from pipeline.evaluation.baselines import SEASONAL_NAIVE, STATISTICAL, naive_forecast, statistical_forecast
from pipeline.evaluation.ranking import rank
from pipeline.evaluation.report.page import Findings, score_page, shown_model
from pipeline.evaluation.report.rows import (
    SHOWN,
    calibration_rows,
    example_rows,
    ranking_rows,
    score_rows,
    series_rows,
    step_rows,
)
from pipeline.forecasting.forecaster import Forecaster
from pipeline.models.checkpoint import training_info
from pipeline.models.find import check_model

ForecastOf = Callable[[Task], Forecast]
PAGE = "report.html"
_SCORES = "scores.md"
TABLES = ("scores", "ranking", "scores_by_series", "scores_by_step", "calibration", "forecasts", "training")
_COURSE = {"loss": "loss", "WQL": "eval_wql", "MASE": "eval_mase"}
logger = logging.getLogger(__name__)


def baselines_of(config: Config) -> list[str]:
    """Return the baselines beside seasonal naive: those named, or where none is, all if statsforecast is installed.

    Raises:
        UserError: one is named and statsforecast is not installed.
    """
    installed = importlib.util.find_spec("statsforecast") is not None
    named = config.evaluation.baselines
    if named and not installed:
        raise UserError(
            f"evaluation.baselines: {', '.join(named)} need statsforecast; install it with: pip install statsforecast"
        )
    return list(STATISTICAL if installed else ()) if named is None else list(named)


def score_models(models: Sequence[str], tasks: Sequence[Task], config: Config) -> dict[str, dict[str, Evaluation]]:
    """Return how every model and baseline does on every task, by task and model; seasonal naive comes first.

    Several processes share the windows, and each returns the whole.

    Raises:
        UserError: a model is missing or broken, or a task has no window.
    """
    for name in models:
        check_model(name)
    for task in tasks:
        n_windows, n_scored = len(task.store) * task.n_origins, len(task)
        if n_scored < n_windows:
            logger.warning(
                "%s: %d of %d windows cannot be scored, as the series are too short or unknown there",
                task.name,
                n_windows - n_scored,
                n_windows,
            )
    processes = Processes()
    scored: dict[str, dict[str, Evaluation]] = {task.name: {} for task in tasks}
    for warning in _leaks(models, tasks):
        logger.warning(warning)
    for name in (SEASONAL_NAIVE, *baselines_of(config), *models):
        forecast_of = forecaster_named(name, config)
        for task in tasks:
            logger.info("scoring %s on %s", name, task.name)
            scored[task.name][name] = evaluate(
                task, forecast_of(task), config.evaluation.batch_size, processes, config.chronos.device
            )
    return scored


def forecaster_named(name: str, config: Config) -> ForecastOf:
    """Return what makes the forecaster of a baseline, a checkpoint folder or a model on the Hub for a task.

    Raises:
        UserError: there is no such model, or it is broken.
    """
    if name == SEASONAL_NAIVE:
        return lambda task: naive_forecast(task.seasonality)
    if name in STATISTICAL:
        return lambda task: statistical_forecast(name, task.seasonality)
    forecaster = Forecaster.load(name, config.chronos.device, config.chronos.seed)
    return lambda _: forecaster.predict_quantiles


def check_report_folder(folder: Path) -> None:
    """Refuse, before anything is scored, a folder that a report could not be written to, or whose files it would replace.

    Raises:
        UserError: it cannot be written to, or holds files of a report's names that no report wrote.
    """
    check_folder(folder)
    names = [*(f"{name}.csv" for name in TABLES), _SCORES]
    others = [name for name in names if (folder / name).exists()]
    if others and not (folder / PAGE).exists():
        raise UserError(f"evaluation.report_path: {folder} holds {', '.join(others)} of your own; give another folder")


def report_on(
    scored: dict[str, dict[str, Evaluation]], tasks: Sequence[Task], config: Config, command: str, folder: Path
) -> list[Row]:
    """Write the page of scores and its tables to a folder, and return the rows of the score table.

    Raises:
        UserError: a file cannot be written.
    """
    ranks = rank(scored, SEASONAL_NAIVE, config.chronos.seed)
    shown = shown_model(ranks)
    forecast_of = forecaster_named(shown, config)

    def of_task(task: Task) -> list[Example]:
        return examples(task, scored[task.name][shown], forecast_of(task), config.evaluation.batch_size)

    findings = Findings(
        ranks=ranks,
        evaluations=scored,
        scores=score_rows(scored, ranks, SEASONAL_NAIVE, config.chronos.seed),
        calibration=calibration_rows(scored),
        steps=step_rows(scored),
        examples=[one for task in tasks for one in of_task(task)],
        curves=[row for one in ranks for row in _curve_of(one.model)],
        command=command,
        warnings=_leaks(list(next(iter(scored.values()))), tasks),
    )
    of_tables = (
        findings.scores,
        ranking_rows(ranks),
        series_rows(scored, tasks),
        findings.steps,
        findings.calibration,
        example_rows(findings.examples),
        findings.curves,
    )
    warnings = "".join(f"\n{warning}\n" for warning in findings.warnings)
    texts = {_SCORES: markdown_table(findings.scores, SHOWN) + warnings, PAGE: score_page(findings)}
    for name, rows in zip(TABLES, of_tables, strict=True):
        if rows:
            write_csv(folder / f"{name}.csv", rows)
        else:
            (folder / f"{name}.csv").unlink(missing_ok=True)  # of a report before this one
    for name, text in texts.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return findings.scores


def _leaks(models: Sequence[str], tasks: Sequence[Task]) -> list[str]:
    """Return a sentence for each model and data set on whose scored steps it was trained or chosen."""
    return [
        f"{name} was trained or chosen on steps of {task.name} that it is now scored on; train it with data.test_length "
        f"{task.n_origins * task.prediction_length}"
        for name in models
        for task in tasks
        if _has_seen(name, task)
    ]


def _has_seen(model: str, task: Task) -> bool:
    """Return whether a checkpoint folder says that it comes from steps which a task asks it to forecast."""
    identity = training_info(model).get("identity")
    if identity is None or identity["test_length"] >= task.n_origins * task.prediction_length:
        return False
    return task.store.fingerprint in [store for source in identity["data"] for store in source.get("stores", ())]


def _curve_of(model: str) -> list[Row]:
    """Return the course of training that a checkpoint folder tells: `model, step, loss, WQL, MASE`."""
    by_step: dict[int, Row] = {}
    for entry in training_info(model).get("history", []):
        row = by_step.setdefault(entry["step"], {"model": model, "step": entry["step"]})
        row |= {name: entry[key] for name, key in _COURSE.items() if key in entry}
    return [{**dict.fromkeys(_COURSE), **row} for row in by_step.values() if row.keys() & _COURSE.keys()]
