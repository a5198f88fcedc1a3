"""The forecasts that the page can draw: where fine-tuning made them worse, examples, and the last window of series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.frequency import UNKNOWN
from pipeline.evaluation.backtest import Evaluation, Task
from pipeline.evaluation.forecasts import read_forecasts, stamps_at
from pipeline.evaluation.ranking import Evaluations

_MAX_WORSE = 20
"""Maximum number of series in the section on those that fine-tuning made worse."""
_MAX_EXAMPLES = 12
"""Maximum number of examples: those of the first four data sets."""
_MAX_VALUES = 200_000
"""Maximum number of values in the last windows of a page: about 2 MB as text, so that the page stays below 5 MB."""
_MAX_SERIES = 2000
"""Maximum number of series that the page can draw: a list that a browser searches without delay."""
_MIN_HISTORY, _HORIZONS_OF_HISTORY = 24, 2
"""Steps and horizons of history in a picture: enough to see the season, and the forecast stays readable."""
_DIGITS = 5
"""Significant digits of drawn values: more than a picture can show."""

Picture = dict[str, Any]
"""A forecast to draw, as JSON values with the keys that page.html reads."""


@dataclass(frozen=True)
class Pictures:
    """The forecasts that a page can draw."""

    worse: list[Picture]
    """The series whose WQL fine-tuning raised most, the worst first; of each, the window that it raised most."""
    n_worse: int
    """Number of series whose WQL fine-tuning raised."""
    examples: list[Picture]
    """The best, the median and the worst window of each data set by WQL."""
    last: list[Picture]
    """The last window of series, in the order of the data sets."""
    n_drawn: int
    """Number of series in `last`."""
    n_series: int
    """Number of series that were scored."""


def collect_pictures(
    evaluations: Evaluations, tasks: Sequence[Task], model: str, base: str | None, forecasts: Path
) -> Pictures:
    """Select windows for a page of bounded size, and read their forecasts by a model and its base.

    Args:
        base: None if there is no base to compare with.
        forecasts: the file that `ForecastWriter` wrote.
    """
    parts = [_task_pictures(task, evaluations[task.name], model, base, len(tasks), forecasts) for task in tasks]
    worse = [picture for part in parts for picture in part.worse]
    return Pictures(
        worse=sorted(worse, key=lambda picture: -picture["increase"])[:_MAX_WORSE],
        n_worse=sum(part.n_worse for part in parts),
        examples=[picture for part in parts for picture in part.examples][:_MAX_EXAMPLES],
        last=[picture for part in parts for picture in part.last],
        n_drawn=sum(part.n_drawn for part in parts),
        n_series=sum(part.n_series for part in parts),
    )


def _task_pictures(
    task: Task, by_model: Mapping[str, Evaluation], model: str, base: str | None, n_tasks: int, forecasts: Path
) -> Pictures:
    """Return the pictures of one of several data sets, which share the size of the page."""
    worse, n_worse = ({}, 0) if base is None else _worse_rows(by_model[model], by_model[base])
    examples = _example_rows(by_model[model])
    all_series, first_rows = np.unique(by_model[model].series, return_index=True)
    n_targets = len(task.store.variates.targets)
    n_values = n_targets * (_history_steps(task) + 5 * task.prediction_length)
    n_drawn = max(1, min(_MAX_SERIES, _MAX_VALUES // n_values) // n_tasks)
    # The longest history comes first, so the first rows of a series are its last window.
    last_rows = [int(row) + target for row in first_rows[:n_drawn] for target in range(n_targets)]
    models = [model] if base is None else [model, base]
    drawn = _draw(task, by_model, models, sorted({*worse, *examples.values(), *last_rows}), forecasts)
    return Pictures(
        worse=[drawn[row] | {"increase": increase} for row, increase in worse.items()],
        n_worse=n_worse,
        examples=[drawn[row] | {"label": label} for label, row in examples.items()],
        last=[drawn[row] for row in last_rows],
        n_drawn=len(first_rows[:n_drawn]),
        n_series=len(all_series),
    )


def _worse_rows(evaluation: Evaluation, base: Evaluation) -> tuple[dict[int, float], int]:
    """Return the rows to draw with the increase of their series' WQL, the largest first, and the number of series."""
    series, scores = evaluation.by_series()
    with np.errstate(invalid="ignore"):  # two infinite scores, of NaN forecasts
        increase = np.nan_to_num(scores["WQL"] - base.by_series()[1]["WQL"])
        losses = np.nan_to_num(np.nansum(evaluation.errors.pinball - base.errors.pinball, axis=1))
    positions = np.flatnonzero(increase > 0)
    rows = {}
    for position in positions[np.argsort(-increase[positions], kind="stable")][:_MAX_WORSE]:
        own = np.flatnonzero(evaluation.series == series[position])
        rows[int(own[np.argmax(losses[own])])] = float(increase[position])
    return rows, len(positions)


def _example_rows(evaluation: Evaluation) -> dict[str, int]:
    """Return the best, the median and the worst row by WQL; fewer if fewer have a WQL."""
    wql = _wql_by_row(evaluation)
    order = np.argsort(wql, kind="stable")[: int((~np.isnan(wql)).sum())]
    positions = {"best": 0, "median": len(order) // 2, "worst": len(order) - 1}
    return {label: int(order[position]) for label, position in list(positions.items())[: len(order)]}


def _draw(
    task: Task, by_model: Mapping[str, Evaluation], models: Sequence[str], rows: Sequence[int], forecasts: Path
) -> dict[int, Picture]:
    """Return the picture of each row, with the forecasts of a model and, if it is given, of its base."""
    evaluation, names = by_model[models[0]], task.store.variates.targets
    series = np.unique(evaluation.series[rows])
    position = {int(row): k for k, row in enumerate(np.flatnonzero(np.isin(evaluation.series, series)))}
    quantiles = [read_forecasts(forecasts, task, model, series.tolist()) for model in models]
    wql = [_wql_by_row(by_model[model]) for model in models]
    pictures = {}
    for row in rows:
        item, start, target = int(evaluation.series[row]), int(evaluation.starts[row]), row % len(names)
        steps = np.arange(max(0, start - _history_steps(task)), start + task.prediction_length)
        low, median, high = quantiles[0][position[row]]
        item_id = task.store.item_ids[item]
        pictures[row] = {
            "data": task.name,
            "name": item_id if len(names) == 1 else f"{item_id}, {names[target]}",
            "dated": task.store.freq != UNKNOWN,
            "x": _compact_axis(stamps_at(task, np.array([item]), steps[None])[0].astype(np.int64)),
            "y": _rounded(task.store.rows(item)[target, steps]),
            "low": _rounded(low),
            "median": _rounded(median),
            "high": _rounded(high),
            "base": _rounded(quantiles[1][position[row]][1]) if len(models) > 1 else [],
            "WQL": _rounded(np.array([values[row] for values in wql])),
        }
    return pictures


def _history_steps(task: Task) -> int:
    return max(_MIN_HISTORY, _HORIZONS_OF_HISTORY * task.prediction_length)


def _wql_by_row(evaluation: Evaluation) -> np.ndarray:
    """Return the WQL of each row, [n]; NaN if its target is zero or unknown."""
    magnitude = np.nansum(evaluation.errors.magnitude, axis=1)
    return np.nansum(evaluation.errors.pinball, axis=1) / np.where(magnitude > 0, magnitude, np.nan)


def _compact_axis(seconds: np.ndarray) -> list[int]:
    """Return the first value and the step of equally spaced values, or all values."""
    step = np.diff(seconds)
    return [int(seconds[0]), int(step[0])] if (step == step[0]).all() else seconds.tolist()


def _rounded(values: np.ndarray) -> list[float | None]:
    """Return values with five significant digits, None if they are not finite."""
    return [float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in values.tolist()]
