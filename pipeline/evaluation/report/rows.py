"""The tables of a report: scores, ranking, scores by series and by step, calibration, examples, training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.core.metrics import SCORES, WQL_LEVELS
from pipeline.core.tables import Row
from pipeline.evaluation.backtest import Evaluation, Task
from pipeline.evaluation.examples import Example
from pipeline.evaluation.ranking import (
    RANKED_BY,
    Estimate,
    Evaluations,
    Rank,
    datasets_without_ratio,
    relative_scores,
)
from pipeline.models.checkpoint import read_training_info

TABLES = ("scores", "ranking", "scores_by_series", "scores_by_step", "calibration", "forecasts", "training")
"""Names of the tables, each a CSV file of the report."""
SHOWN = (
    "data set",
    "model",
    "MASE",
    "WQL",
    "coverage_80",
    "relative MASE",
    "relative WQL",
    "series",
    "windows",
    "seasonality",
)
"""Columns of the score table that are logged and in scores.md."""
_CURVES = {"loss": "loss", "WQL": "eval_wql", "MASE": "eval_mase"}
"""Columns of the table `training`, with their keys in the log of the Trainer."""


def make_tables(
    evaluations: Evaluations,
    ranks: Sequence[Rank],
    tasks: Sequence[Task],
    examples: Sequence[Example],
    baseline: str,
    seed: int,
) -> dict[str, list[Row]]:
    """Return all `TABLES` by name; a table without rows is empty.

    Args:
        baseline: the model that relative scores are relative to.
        seed: seed of the bootstrap.
    """
    return {
        "scores": score_rows(evaluations, ranks, baseline, seed),
        "ranking": ranking_rows(ranks),
        "scores_by_series": series_rows(evaluations, tasks),
        "scores_by_step": step_rows(evaluations),
        "calibration": calibration_rows(evaluations),
        "forecasts": example_rows(examples),
        "training": [row for entry in ranks for row in training_rows(entry.model)],
    }


def score_rows(evaluations: Evaluations, ranks: Sequence[Rank], baseline: str, seed: int = 0) -> list[Row]:
    """Return one row for each data set and model, and for several data sets one of geometric means for each model."""
    rows: list[Row] = []
    for dataset, by_model in evaluations.items():
        relative = relative_scores(by_model, baseline, seed)
        for model, evaluation in by_model.items():
            rows.append({"data set": dataset, "model": model, **evaluation.scores(), **_estimates(relative[model])})
    if len(evaluations) > 1:
        relative_by_model = {entry.model: entry.relative for entry in ranks}
        n_in_mean = len(evaluations) - len(datasets_without_ratio(evaluations, baseline)["WQL"])
        mean = f"geometric mean of {n_in_mean}" + (f" of {len(evaluations)}" if n_in_mean < len(evaluations) else "")
        for model in next(iter(evaluations.values())):
            row: Row = dict.fromkeys(rows[0])
            rows.append(row | {"data set": mean, "model": model} | _estimates(relative_by_model[model]))
    return rows


def ranking_rows(ranks: Sequence[Rank]) -> list[Row]:
    """Return one row for each model, in the order of the ranking."""
    return [
        {
            "model": entry.model,
            **_estimates(entry.relative),
            **{f"win rate {score}": rate for score, rate in entry.win_rate.items()},
        }
        for entry in ranks
    ]


def series_rows(evaluations: Evaluations, tasks: Sequence[Task]) -> list[Row]:
    """Return one row for each series and model."""
    rows: list[Row] = []
    for task in tasks:
        for model, evaluation in evaluations[task.name].items():
            series, scores = evaluation.by_series()
            for position, index in enumerate(series):
                values = {score: float(scores[score][position]) for score in SCORES}
                item_id = task.store.item_ids[int(index)]
                rows.append({"data set": task.name, "item_id": item_id, "model": model, **values})
    return rows


def step_rows(evaluations: Evaluations) -> list[Row]:
    """Return one row for each data set, model and step of the horizon; steps count from 1."""
    return [
        {"data set": dataset, "step": step, "model": model, **scores}
        for dataset, model, evaluation in _flatten(evaluations)
        for step, scores in enumerate(evaluation.by_step(), 1)
    ]


def calibration_rows(evaluations: Evaluations) -> list[Row]:
    """Return one row for each data set, model and level: the share of targets at or below the quantile."""
    return [
        {"data set": dataset, "model": model, "level": level, "share at or below": float(share)}
        for dataset, model, evaluation in _flatten(evaluations)
        for level, share in zip(WQL_LEVELS, evaluation.errors.calibration())
    ]


def example_rows(examples: Sequence[Example]) -> list[Row]:
    """Return one row for each step of the examples; steps up to 0 are history, later ones are the forecast."""
    rows: list[Row] = []
    levels = [str(level) for level in WQL_LEVELS]
    for example in examples:
        keys = {
            "data set": example.task,
            "item_id": example.item_id,
            "window": example.label,
            "MASE": example.mase,
        }
        for step, value in enumerate(example.history.tolist(), 1 - len(example.history)):
            rows.append({**keys, "step": step, "target": value, **dict.fromkeys(levels)})
        for step, (value, quantiles) in enumerate(zip(example.target.tolist(), example.quantiles.tolist()), 1):
            rows.append({**keys, "step": step, "target": value, **dict(zip(levels, quantiles))})
    return rows


def training_rows(model: str) -> list[Row]:
    """Return one row for each logged step of a model's training: `model, step, loss, WQL, MASE`, None if not logged.

    The log is in training_info.json of a checkpoint folder; a model without it has no rows.
    """
    by_step: dict[int, Row] = {}
    for entry in read_training_info(model).get("history", []):
        row = by_step.setdefault(entry["step"], {"model": model, "step": entry["step"]})
        row |= {name: entry[key] for name, key in _CURVES.items() if key in entry}
    return [{**dict.fromkeys(_CURVES), **row} for row in by_step.values() if row.keys() & _CURVES.keys()]


def _flatten(evaluations: Evaluations) -> list[tuple[str, str, Evaluation]]:
    """Return data set, model and evaluation of each entry."""
    return [
        (dataset, model, evaluation)
        for dataset, by_model in evaluations.items()
        for model, evaluation in by_model.items()
    ]


def _estimates(by_score: Mapping[str, Estimate]) -> Row:
    """Return the columns of relative scores and their intervals."""
    row: Row = {}
    for score in RANKED_BY:
        estimate = by_score[score]
        row[f"relative {score}"] = estimate.value
        row |= {f"relative {score} low": estimate.low, f"relative {score} high": estimate.high}
    return row
