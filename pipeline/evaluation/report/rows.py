"""The tables of a report: scores, ranking, scores by series, window and step, calibration, training curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from pipeline.core.metrics import WQL_LEVELS
from pipeline.core.tables import Row
from pipeline.evaluation.backtest import Evaluation, Task
from pipeline.evaluation.comparison import Comparison
from pipeline.evaluation.forecasts import stamps_at
from pipeline.evaluation.ranking import (
    RANKED_BY,
    Estimate,
    Evaluations,
    Rank,
    datasets_without_ratio,
    rank,
    relative_scores,
)
from pipeline.models.checkpoint import read_training_info

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


def score_rows(evaluations: Evaluations, baseline: str, seed: int = 0) -> list[Row]:
    """Return one row for each data set and model, and for several data sets one of geometric means for each model.

    Args:
        baseline: the model that relative scores are relative to.
        seed: seed of the bootstrap.
    """
    rows: list[Row] = []
    for dataset, by_model in evaluations.items():
        relative = relative_scores(by_model, baseline, seed)
        for model, evaluation in by_model.items():
            rows.append({"data set": dataset, "model": model, **evaluation.scores(), **_estimates(relative[model])})
    if len(evaluations) > 1:
        relative_by_model = {entry.model: entry.relative for entry in rank(evaluations, baseline, seed)}
        left_out = datasets_without_ratio(evaluations, baseline)
        numbers = {score: len(evaluations) - len(left_out[score]) for score in RANKED_BY}
        counts = [f"{number} ({score})" for score, number in numbers.items()]
        mean = f"geometric mean of {' and '.join(counts) if any(left_out.values()) else len(evaluations)}"
        for model in next(iter(evaluations.values())):
            row: Row = dict.fromkeys(rows[0])
            rows.append(row | {"data set": mean, "model": model} | _estimates(relative_by_model[model]))
    return rows


def ranking_rows(ranks: Sequence[Rank], reference: str, differences: Mapping[str, Comparison | None]) -> list[Row]:
    """Return one row for each model, in the order of the ranking.

    Args:
        reference: the model that the others are compared with.
        differences: the comparison of each other model with it, None if WQL does not compare them.
    """
    rows: list[Row] = []
    for entry in ranks:
        change = differences.get(entry.model)
        low_to_high = (None, None, None) if change is None else (-change.reduction, -change.high, -change.low)
        rows.append(
            {
                "model": entry.model,
                **_estimates(entry.relative),
                **{f"win rate {score}": rate for score, rate in entry.win_rate.items()},
                "compared with": reference,
                **dict(zip(("WQL difference %", "WQL difference % low", "WQL difference % high"), low_to_high)),
            }
        )
    return rows


def series_tables(evaluations: Evaluations, tasks: Sequence[Task]) -> Iterator[pa.Table]:
    """Yield a table for each data set and model: `data set, item_id, model`, and the scores of each series."""
    for task in tasks:
        for model, evaluation in evaluations[task.name].items():
            series, scores = evaluation.by_series()
            yield _score_table(task, model, series, {}, scores)


def window_tables(evaluations: Evaluations, tasks: Sequence[Task]) -> Iterator[pa.Table]:
    """Yield a table for each data set and model: `data set, item_id, origin, model`, and the scores of each window.

    `origin` is the timestamp of the last step before the forecast, or its number if the data have no timestamps.
    """
    for task in tasks:
        for model, evaluation in evaluations[task.name].items():
            series, starts, scores = evaluation.by_window()
            origin = pa.array(stamps_at(task, series, starts[:, None] - 1)[:, 0])
            if pa.types.is_timestamp(origin.type):
                origin = origin.cast(pa.timestamp("s", task.store.time_zone))
            yield _score_table(task, model, series, {"origin": origin}, scores)


def _score_table(
    task: Task, model: str, series: np.ndarray, columns: Mapping[str, np.ndarray], scores: Mapping[str, np.ndarray]
) -> pa.Table:
    item_ids = [task.store.item_ids[int(index)] for index in series]
    names = {"data set": [task.name] * len(series), "item_id": item_ids, **columns, "model": [model] * len(series)}
    return pa.table({**names, **scores})


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
