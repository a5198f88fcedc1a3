"""Scores as tables: over all, by data set, by series, by step, and how well the quantiles are calibrated."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.core.metrics import SCORES, WQL_LEVELS
from pipeline.core.tables import Row
from pipeline.evaluation.backtest import Example, Task
from pipeline.evaluation.ranking import RANKED_BY, Estimate, Evaluations, Rank, relative_scores, undefined

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


def score_rows(evaluations: Evaluations, ranks: list[Rank], baseline: str, seed: int = 0) -> list[Row]:
    """Return one row for each data set and model, and, over several sets, one of geometric means for each model."""
    rows: list[Row] = []
    for dataset, of_set in evaluations.items():
        relative = relative_scores(of_set, baseline, seed)
        for model, evaluation in of_set.items():
            rows.append({"data set": dataset, "model": model, **evaluation.scores(), **_estimates(relative[model])})
    if len(evaluations) > 1:
        by_model = {one.model: one for one in ranks}
        n_in_mean = len(evaluations) - len(undefined(evaluations, baseline)["WQL"])
        mean = f"geometric mean of {n_in_mean}" + (f" of {len(evaluations)}" if n_in_mean < len(evaluations) else "")
        for model in next(iter(evaluations.values())):
            row: Row = dict.fromkeys(rows[0])
            row |= {"data set": mean, "model": model}
            rows.append(row | _estimates(by_model[model].relative))
    return rows


def ranking_rows(ranks: list[Rank]) -> list[Row]:
    """Return one row for each model, the best first."""
    return [
        {
            "model": one.model,
            **_estimates(one.relative),
            **{f"win rate {score}": rate for score, rate in one.win_rate.items()},
        }
        for one in ranks
    ]


def series_rows(evaluations: Evaluations, tasks: Sequence[Task]) -> list[Row]:
    """Return one row for each series and model."""
    rows: list[Row] = []
    for task in tasks:
        for model, evaluation in evaluations[task.name].items():
            found, scores = evaluation.by_series()
            names = [task.store.item_ids[int(index)] for index in found]
            for position, name in enumerate(names):
                values = {score: float(scores[score][position]) for score in SCORES}
                rows.append({"data set": task.name, "item_id": name, "model": model, **values})
    return rows


def step_rows(evaluations: Evaluations) -> list[Row]:
    """Return one row for each step of each data set's horizon and model; steps count from 1."""
    return [
        {"data set": dataset, "step": step, "model": model, **scores}
        for dataset, of_set in evaluations.items()
        for model, evaluation in of_set.items()
        for step, scores in enumerate(evaluation.by_step(), 1)
    ]


def calibration_rows(evaluations: Evaluations) -> list[Row]:
    """Return one row for each data set, model and level: the share of targets at or below the quantile."""
    return [
        {"data set": dataset, "model": model, "level": level, "share at or below": float(share)}
        for dataset, of_set in evaluations.items()
        for model, evaluation in of_set.items()
        for level, share in zip(WQL_LEVELS, evaluation.errors.share_at_most())
    ]


def example_rows(examples: Sequence[Example]) -> list[Row]:
    """Return one row for each step that is drawn: steps up to 0 are history, the others the forecast."""
    rows: list[Row] = []
    levels = [str(level) for level in WQL_LEVELS]
    for one in examples:
        keys = {"data set": one.task, "item_id": one.item_id, "window": one.which, "MASE": one.scaled_error}
        for step, value in enumerate(one.history.tolist(), 1 - len(one.history)):
            rows.append({**keys, "step": step, "target": value, **dict.fromkeys(levels)})
        for step, (value, quantiles) in enumerate(zip(one.target.tolist(), one.quantiles.tolist()), 1):
            rows.append({**keys, "step": step, "target": value, **dict(zip(levels, quantiles))})
    return rows


def _estimates(of_score: dict[str, Estimate]) -> Row:
    row: Row = {}
    for score in RANKED_BY:
        one = of_score[score]
        row |= {f"relative {score}": one.value, f"relative {score} low": one.low, f"relative {score} high": one.high}
    return row
