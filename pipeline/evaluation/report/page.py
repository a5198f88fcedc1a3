"""The page of a report: one HTML file that opens from disk without network. Its layout is in page.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.core.tables import Row
from pipeline.evaluation.backtest import Task
from pipeline.evaluation.baselines import SEASONAL_NAIVE, STATISTICAL
from pipeline.evaluation.comparison import Comparison
from pipeline.evaluation.ranking import Evaluations, Rank
from pipeline.evaluation.report.charts import THEME, forecast_chart, line_chart
from pipeline.evaluation.report.facts import scored_facts, training_facts, versions
from pipeline.evaluation.report.pictures import Pictures

_SHOWN_SCORES = ("WQL", "MASE", "WAPE", "coverage_80")
_CURVES = {"loss": "training loss", "WQL": "validation WQL", "MASE": "validation MASE"}
"""Columns of the table `training`, with the titles of their charts."""
_MAX_DATASETS = 12
"""Maximum number of data sets with a chart of their own; report.xlsx has the numbers of all."""
_COLORS = ("--series-0", "--series-1", "--series-2", "--series-3")
"""CSS variables of models other than the shown model, its base and seasonal naive."""


@dataclass(frozen=True)
class Findings:
    """The content of a report."""

    ranks: list[Rank]
    tied: list[str]
    """Models that the first of the ranking does not clearly beat."""
    pairs: list[tuple[str, str]]
    """Base and fine-tuned model of each pair that is scored."""
    reference: str
    """The model that the others are compared with."""
    differences: Mapping[str, Comparison | None]
    """The comparison of each other model with it, None if WQL does not compare them."""
    evaluations: Evaluations
    tasks: Sequence[Task]
    tables: Mapping[str, list[Row]]
    """`scores`, `ranking`, `scores_by_step`, `calibration` and `training`."""
    pictures: Pictures
    """Forecasts of the shown model and its base."""
    conclusions: list[str]
    """Whether fine-tuning helped, one answer for each fine-tuned model."""
    warnings: list[str]
    """Reasons why scores may be too good."""
    sources: Mapping[str, str]
    """File or address of each data set, if it has one."""
    command: str
    """The command that repeats the evaluation."""


class _Cell(NamedTuple):
    """A cell of a table."""

    text: str
    style: str = ""
    """CSS class."""
    note: str = ""
    """Small text behind the cell's text."""


def render_page(findings: Findings) -> str:
    """Return the page as HTML."""
    models = _order_models(findings)
    labels, shown = label_models(models), shown_model(findings.ranks, findings.pairs)
    base = base_of(shown, findings.pairs)
    colors = _color_models(models, shown, base)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    page = environment.get_template("page.html").render(
        findings=findings,
        answers=findings.conclusions or [verdict(findings)],
        models=models,
        labels=labels,
        colors=colors,
        datasets=list(findings.evaluations),
        score_names=_SHOWN_SCORES,
        scores=_score_rows(findings, models, labels),
        by_dataset=_dataset_rows(findings, labels),
        shown=shown,
        base=base,
        pictures=findings.pictures,
        drawn_note=_drawn_note(findings.pictures),
        forecast_charts={name: forecast_chart(name == "dated", base is not None) for name in ("dated", "steps")},
        charts=_charts(findings, models, labels, colors),
        n_datasets_left_out=max(0, len(findings.tasks) - _MAX_DATASETS),
        theme=THEME,
        script=_vega_script(),
        scored=[
            scored_facts(task, findings.evaluations, findings.sources.get(task.name, "")) for task in findings.tasks
        ],
        trained={labels[model]: training_facts(model) for _, model in findings.pairs},
        paths=[model for model in models if labels[model] != model],
        versions=versions(),
    )
    return page.lstrip()  # of the blank lines of the macros


@lru_cache
def _vega_script() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, which takes a second to bundle."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def shown_model(ranks: Sequence[Rank], pairs: Sequence[tuple[str, str]]) -> str:
    """Return the model whose forecasts are drawn.

    It is the first of the ranking that is fine-tuned; without any, the first that is not a baseline, or the first.
    """
    models = [entry.model for entry in ranks]
    tuned = [model for model in models if model in {model for _, model in pairs}]
    others = [model for model in models if model not in (SEASONAL_NAIVE, *STATISTICAL)]
    return [*tuned, *others, *models][0]


def base_of(model: str, pairs: Sequence[tuple[str, str]]) -> str | None:
    """Return the scored base of a model, None if there is none."""
    return next((base for base, tuned in pairs if tuned == model), None)


def label_models(models: Sequence[str]) -> dict[str, str]:
    """Return a label for each model: the last part of its path, or the whole path if two have the same last part."""
    names = [Path(model).name for model in models]
    return {model: name if names.count(name) == 1 else model for model, name in zip(models, names)}


def verdict(findings: Findings) -> str:
    """Say which model has the lowest relative WQL, and which models are tied with it."""
    labels = label_models([entry.model for entry in findings.ranks])
    first = findings.ranks[0]
    estimate = first.relative["WQL"]
    tied = ", ".join(labels[model] for model in findings.tied)
    ties = f" No clear difference from it (the paired 95% interval includes zero): {tied}." if tied else ""
    if np.isnan(estimate.value):
        return "There is no ranking, since the WQL of seasonal naive is 0 or not defined."
    if first.model == SEASONAL_NAIVE:
        return f"No model is better than seasonal naive.{ties}"
    interval = ""
    if np.isfinite(estimate.low):
        interval = f" (95% interval {_number(estimate.low)} to {_number(estimate.high)})"
    claim = "has the lowest WQL," if findings.tied else "forecasts best: its WQL is"
    return f"{labels[first.model]} {claim} {_number(estimate.value)} of that of seasonal naive{interval}.{ties}"


def _order_models(findings: Findings) -> list[str]:
    """Return fine-tuned models, bases, other models, seasonal naive, and other baselines, each in ranking order."""
    groups = [[tuned for _, tuned in findings.pairs], [base for base, _ in findings.pairs]]
    baselines = [SEASONAL_NAIVE, *STATISTICAL]

    def group(model: str) -> int:
        if model in baselines:
            return 3 + baselines.index(model)
        return next((position for position, members in enumerate(groups) if model in members), len(groups))

    return sorted((entry.model for entry in findings.ranks), key=group)


def _color_models(models: Sequence[str], shown: str, base: str | None) -> dict[str, str]:
    """Return the CSS color of each model."""
    fixed = {SEASONAL_NAIVE: "--muted", shown: "--tuned"} | ({} if base is None else {base: "--base"})
    others = [model for model in models if model not in fixed]
    colors = fixed | {model: _COLORS[position % len(_COLORS)] for position, model in enumerate(others)}
    return {model: f"var({colors[model]})" for model in models}


def _score_rows(findings: Findings, models: Sequence[str], labels: Mapping[str, str]) -> list[list[_Cell]]:
    """Return the means of the scores over data sets, and the difference from the reference model."""
    best = [findings.ranks[0].model, *findings.tied]
    roles = {base: "base" for base, _ in findings.pairs} | {tuned: "fine-tuned" for _, tuned in findings.pairs}
    rows = []
    for model in models:
        own = [row for row in _rows_of_datasets(findings) if row["model"] == model]
        cells = [_Cell(labels[model], "text", roles.get(model, ""))]
        for score in _SHOWN_SCORES:
            values = np.array([row[score] for row in own])
            mean = float(values[~np.isnan(values)].mean()) if (~np.isnan(values)).any() else None
            is_best = score == "WQL" and model in best
            cells.append(_Cell(_number(mean), *("best", "best") if is_best else ()))
        rows.append([*cells, _difference(findings, model)])
    return rows


def _difference(findings: Findings, model: str) -> _Cell:
    """Return the difference of a model's WQL from the reference model's, with its interval."""
    comparison = findings.differences.get(model)
    if comparison is None:
        return _Cell("–")
    note = f"{-comparison.high:+.1f} to {-comparison.low:+.1f}" if np.isfinite(comparison.low) else "no interval"
    return _Cell(f"{-comparison.reduction:+.1f}%", note=note)


def _dataset_rows(findings: Findings, labels: Mapping[str, str]) -> list[list[_Cell]]:
    """Return the scores of each model on each data set."""
    rows = []
    for row in _rows_of_datasets(findings):
        cells = [_Cell(row["data set"], "text"), _Cell(labels[row["model"]], "text")]
        cells += [_Cell(_number(row[score])) for score in (*_SHOWN_SCORES, "relative WQL")]
        rows.append([*cells, _Cell(f"{row['series']:,}"), _Cell(f"{row['windows']:,}")])
    return rows


def _charts(
    findings: Findings, models: Sequence[str], labels: Mapping[str, str], colors: Mapping[str, str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the charts of each section by their titles."""
    by_label = {labels[model]: colors[model] for model in models}
    calibrated = {labels[model]: colors[model] for model in models if model != SEASONAL_NAIVE}
    levels = _labeled(findings.tables["calibration"], labels)
    steps = _labeled(findings.tables["scores_by_step"], labels)
    drawn: dict[str, dict[str, dict[str, Any]]] = {"calibration": {}, "steps": {}, "training": {}}
    for dataset in list(findings.evaluations)[:_MAX_DATASETS]:
        shares = [row for row in levels if row["data set"] == dataset and row["model"] in calibrated]
        if shares:
            chart = line_chart(shares, "level", "share at or below", calibrated, diagonal=True)
            drawn["calibration"][dataset] = chart
        errors = [row for row in steps if row["data set"] == dataset]
        if max(row["step"] for row in errors) > 1:
            drawn["steps"][dataset] = line_chart(errors, "step", "WQL", by_label)
    trained = {row["model"] for row in findings.tables["training"]}
    for model in models:
        curve = [row for row in findings.tables["training"] if row["model"] == model]
        for column, title in _CURVES.items():
            points = [{"model": labels[model], "step": row["step"], title: row[column]} for row in curve]
            points = [point for point in points if point[title] is not None]
            if len(points) > 1:
                chart = line_chart(points, "step", title, {labels[model]: colors[model]})
                drawn["training"][title if len(trained) == 1 else f"{title} of {labels[model]}"] = chart
    return drawn


def _labeled(rows: Sequence[Row], labels: Mapping[str, str]) -> list[Row]:
    """Return rows with the labels of their models, and None for a number that is not finite."""
    finite: list[Row] = [
        {key: None if isinstance(v, float) and not np.isfinite(v) else v for key, v in row.items()} for row in rows
    ]
    return [row | {"model": labels[row["model"]]} for row in finite]


def _drawn_note(pictures: Pictures) -> str:
    """Say which series the page can draw."""
    if pictures.n_drawn == pictures.n_series:
        return "Type an item ID for the last window of a series."
    return (
        f"Type an item ID for the last window of a series; the page has {pictures.n_drawn:,} of "
        f"{pictures.n_series:,} series, and forecasts.parquet has all."
    )


def _rows_of_datasets(findings: Findings) -> list[Row]:
    return [row for row in findings.tables["scores"] if row["data set"] in findings.evaluations]


def _number(value: float | None) -> str:
    if value is None or np.isnan(value):
        return "–"
    return f"{value:.3f}" if np.isfinite(value) else "∞"
