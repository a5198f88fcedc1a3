"""Every model scored on every data set, beside the baselines."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.baselines import SEASONAL_NAIVE, STATISTICAL, naive_forecast, statistical_forecast
from pipeline.checkpoint import training_info
from pipeline.config import Config, EvaluationSet
from pipeline.data_source import open_configured
from pipeline.errors import UserError
from pipeline.evaluation import Evaluation, Example, Task, evaluate, examples, task_of
from pipeline.files import check_folder, read_json, whole_file
from pipeline.forecasting import Forecaster, checked
from pipeline.metrics import Forecast
from pipeline.ranking import rank
from pipeline.report.page import Findings, score_page, shown_model
from pipeline.report.scores import (
    SHOWN,
    calibration_rows,
    example_rows,
    ranking_rows,
    score_rows,
    series_rows,
    step_rows,
)
from pipeline.report.tables import Row, markdown_table, write_csv

ForecastOf = Callable[[Task], Forecast]
PAGE = "report.html"
_SCORES = "scores.md"
TABLES = ("scores", "ranking", "scores_by_series", "scores_by_step", "calibration", "forecasts", "training")
_COURSE = {"loss": "loss", "WQL": "eval_wql", "MASE": "eval_mase"}
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

    Raises:
        UserError: a model is missing or broken, or a task has no window.
    """
    for name in models:
        checked(name)
    for task in tasks:
        left_out = len(task.store) - len({series for series, _ in task.cuts})
        if left_out:
            logger.info("%s: %d of %d series have no window that can be scored", task.name, left_out, len(task.store))
    scored: dict[str, dict[str, Evaluation]] = {task.name: {} for task in tasks}
    for warning in _leaks(models, tasks):
        logger.warning(warning)
    for name in (SEASONAL_NAIVE, *baselines_of(config), *models):
        forecast_of = forecaster_named(name, config)
        for task in tasks:
            logger.info("scoring %s on %s", name, task.name)
            scored[task.name][name] = evaluate(task, forecast_of(task), config.evaluation.batch_size)
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
    return lambda _: forecaster.at_wql_levels


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
        with whole_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return findings.scores


def _leaks(models: Sequence[str], tasks: Sequence[Task]) -> list[str]:
    """Return a sentence for each model and data set on whose scored steps it was trained or chosen."""
    return [
        f"{name} was trained or chosen on steps of {task.name} that it is now scored on; train it with data.test_length "
        f"{task.windows * task.prediction_length}"
        for name in models
        for task in tasks
        if _has_seen(name, task)
    ]


def _has_seen(model: str, task: Task) -> bool:
    """Return whether a checkpoint folder says that it comes from steps which a task asks it to forecast."""
    identity = training_info(model).get("identity")
    if identity is None or identity["test_length"] >= task.windows * task.prediction_length:
        return False
    return task.store.fingerprint in [store for source in identity["data"] for store in source.get("stores", ())]


def _curve_of(model: str) -> list[Row]:
    """Return the course of training that a checkpoint folder tells: `model, step, loss, WQL, MASE`."""
    by_step: dict[int, Row] = {}
    for entry in training_info(model).get("history", []):
        row = by_step.setdefault(entry["step"], {"model": model, "step": entry["step"]})
        row |= {name: entry[key] for name, key in _COURSE.items() if key in entry}
    return [{**dict.fromkeys(_COURSE), **row} for row in by_step.values() if row.keys() & _COURSE.keys()]


def _datasets(config: Config) -> list[EvaluationSet]:
    listed = config.evaluation.data_path or config.inference.data_path or str(config.dummy_path())
    if isinstance(listed, str):
        return _listed_in(Path(listed)) or [EvaluationSet(listed)]
    return [EvaluationSet(dataset) if isinstance(dataset, str) else dataset for dataset in listed]


def _listed_in(path: Path) -> list[EvaluationSet]:
    """Return the data sets of a JSON index; none for any other source."""
    if path.suffix != ".json" or not path.is_file():
        return []
    with open(path, encoding="utf-8", errors="replace") as file:
        if not file.read(1 << 10).lstrip().startswith("["):
            return []
    found = [_of_index(path, entry) for entry in read_json(path)]
    if not found:
        raise UserError(f"{path} lists no data set; name at least one")
    return found


def _of_index(index: Path, entry: Any) -> EvaluationSet:
    """Return one entry of a JSON index, whose files lie beside it; keys that describe rather than configure are left."""
    file = entry.get("file", entry.get("path")) if isinstance(entry, dict) else None
    if not isinstance(file, str):
        raise UserError(
            f"{index}: each entry is an object with a file and, where you like, name, freq, prediction_length"
        )
    keys = {"name": str, "freq": str, "prediction_length": int, "seasonality": int}
    for key, kind in keys.items():
        if not isinstance(entry.get(key), (kind, type(None))) or isinstance(entry.get(key), bool):
            said = "a text" if kind is str else "a whole number"
            raise UserError(f"{index}: {key} of {file} must be {said}, got {entry[key]!r}")
    return EvaluationSet(path=str(index.parent / file), **{key: entry[key] for key in keys if key in entry})
