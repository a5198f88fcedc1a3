"""The page of a report: one HTML file that opens from disk, without network and scripts. Its layout is in page.html."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline import __version__
from pipeline.core.metrics import INTERVALS, SCORES
from pipeline.core.tables import Row
from pipeline.evaluation.baselines import SEASONAL_NAIVE, STATISTICAL
from pipeline.evaluation.examples import Example
from pipeline.evaluation.ranking import RANKED_BY, Evaluations, Rank, datasets_without_ratio
from pipeline.evaluation.report import charts

_LIBRARIES = ("chronos-forecasting", "torch", "transformers", "numpy")
_CURVES = {"loss": "training loss", "WQL": "validation WQL", "MASE": "validation MASE"}
"""Columns of the table `training`, with the titles of their charts."""


@dataclass(frozen=True)
class Findings:
    """The content of a report."""

    ranks: list[Rank]
    tied: list[str]
    """Models that the first of the ranking does not clearly beat."""
    evaluations: Evaluations
    tables: Mapping[str, list[Row]]
    """By the names of `TABLES`."""
    examples: list[Example]
    """Forecasts of the shown model."""
    conclusions: list[str]
    """Whether fine-tuning helped, one answer for each fine-tuned model."""
    warnings: list[str]
    """Reasons why scores may be too good."""
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
    models = [entry.model for entry in findings.ranks]
    labels, colors, datasets = label_models(models), _color_models(models), list(findings.evaluations)
    first_evaluations = [next(iter(by_model.values())) for by_model in findings.evaluations.values()]
    calibrated = [model for model in models if model != SEASONAL_NAIVE]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    page = environment.get_template("page.html").render(
        findings=findings,
        models=models,
        labels=labels,
        colors=colors,
        theme=charts.COLORS,
        datasets_text=f"{len(datasets)} data sets" if len(datasets) > 1 else datasets[0],
        is_single=len(datasets) == 1,
        n_series=sum(int(evaluation.scores()["series"]) for evaluation in first_evaluations),
        verdict=_verdict(findings, labels),
        left_out=datasets_without_ratio(findings.evaluations, SEASONAL_NAIVE),
        ranking=_ranking_rows(findings, labels),
        ranking_charts=[charts.ranking_chart(findings.ranks, labels, score, colors) for score in RANKED_BY],
        by_dataset=_dataset_rows(findings, models),
        score_names=[f"inside {name.removeprefix('coverage_')}%" if _is_share(name) else name for name in SCORES],
        all_scores=_score_rows(findings, labels),
        calibrated=calibrated,
        calibration_charts=_calibration_charts(findings, calibrated, labels, colors) if calibrated else [],
        step_charts=_step_charts(findings, models, labels, colors),
        shown=shown_model(findings.ranks),
        example_charts=_example_charts(findings, colors[shown_model(findings.ranks)]),
        training_charts=_training_charts(findings, models),
        paths=[model for model in models if labels[model] != model],
        versions={
            "chronos-native": __version__,
            **{name: version(name) for name in _LIBRARIES},
            "Python": platform.python_version(),
        },
    )
    return page.lstrip()  # of the blank lines of the macros


def shown_model(ranks: Sequence[Rank]) -> str:
    """Return the model whose forecasts are drawn: the first of the ranking that is not a baseline, or the first."""
    models = [entry.model for entry in ranks]
    return next((model for model in models if model not in (SEASONAL_NAIVE, *STATISTICAL)), models[0])


def label_models(models: Sequence[str]) -> dict[str, str]:
    """Return a label for each model: the last part of its path, or the whole path if two have the same last part."""
    names = [Path(model).name for model in models]
    return {model: name if names.count(name) == 1 else model for model, name in zip(models, names)}


def _color_models(models: Sequence[str]) -> dict[str, str]:
    """Return the CSS variable of each model's color."""
    colored = [model for model in models if model != SEASONAL_NAIVE]
    return {model: charts.color_variable(colored.index(model) if model in colored else None) for model in models}


def _verdict(findings: Findings, labels: Mapping[str, str]) -> Markup:
    """Say which model has the lowest relative WQL, and which models are tied with it."""
    first = findings.ranks[0]
    estimate = first.relative["WQL"]
    tied = ", ".join(labels[model] for model in findings.tied)
    ties = Markup(" Tied with it (the paired 95% interval includes zero): {}.").format(tied) if tied else ""
    if np.isnan(estimate.value):
        return Markup("There is no ranking, since the WQL of seasonal naive is 0 or not defined.")
    if first.model == SEASONAL_NAIVE:
        return Markup("No model is better than seasonal naive.") + ties
    interval = ""
    if np.isfinite(estimate.low):
        interval = f" (95% interval {_number(estimate.low)} to {_number(estimate.high)})"
    claim = "has the lowest WQL" if findings.tied else "forecasts best: its WQL is"
    return Markup("<b>{}</b> {}").format(labels[first.model], claim) + (
        f"{',' if findings.tied else ''} {_number(estimate.value)} of that of seasonal naive{interval}." + ties
    )


def _ranking_rows(findings: Findings, labels: Mapping[str, str]) -> list[list[_Cell]]:
    rows = []
    for entry in findings.ranks:
        cells = [_Cell(labels[entry.model], "text", "tied with the best" if entry.model in findings.tied else "")]
        for score in RANKED_BY:
            estimate = entry.relative[score]
            has_interval = np.isfinite(estimate.low) and estimate.low < estimate.high
            interval = f"{_number(estimate.low)}–{_number(estimate.high)}" if has_interval else ""
            cells.append(_Cell(_number(estimate.value), note=interval))
        rows.append(cells + [_Cell(_percent(entry.win_rate[score])) for score in RANKED_BY])
    return rows


def _dataset_rows(findings: Findings, models: Sequence[str]) -> list[list[_Cell]]:
    """Return the relative WQL of each model on each data set."""
    scores = {(row["data set"], row["model"]): row for row in findings.tables["scores"]}
    rows = []
    for dataset in findings.evaluations:
        values = [scores[dataset, model]["relative WQL"] for model in models]
        best = np.nanmin(values) if np.isfinite(values).any() else None
        cells = [_Cell(_number(value), "best" if value == best else "") for value in values]
        rows.append([_Cell(dataset, "text"), *cells])
    return rows


def _score_rows(findings: Findings, labels: Mapping[str, str]) -> list[list[_Cell]]:
    """Return all scores of each data set and model, without the rows of means."""
    rows = []
    for row in _rows_of_datasets(findings):
        cells = [_Cell(row["data set"], "text"), _Cell(labels[row["model"]], "text")]
        cells += [_Cell((_percent if _is_share(score) else _number)(row[score])) for score in SCORES]
        rows.append([*cells, _Cell(f"{row['series']:,}"), _Cell(f"{row['windows']:,}")])
    return rows


def _calibration_charts(
    findings: Findings, models: Sequence[str], labels: dict[str, str], colors: dict[str, str]
) -> list[str]:
    shares, coverage = {}, {}
    for model in models:
        rows = [row for row in findings.tables["calibration"] if row["model"] == model]
        levels = sorted({row["level"] for row in rows})
        shares[model] = np.array(
            [np.nanmean([row["share at or below"] for row in rows if row["level"] == level]) for level in levels]
        )
        scores = [row for row in _rows_of_datasets(findings) if row["model"] == model]
        coverage[model] = [float(np.nanmean([row[f"coverage_{interval}"] for row in scores])) for interval in INTERVALS]
    return [charts.calibration_chart(shares, labels, colors), charts.coverage_chart(coverage, labels, colors)]


def _step_charts(
    findings: Findings, models: Sequence[str], labels: dict[str, str], colors: dict[str, str]
) -> list[str]:
    drawn = []
    for dataset in findings.evaluations:
        rows = [row for row in findings.tables["scores_by_step"] if row["data set"] == dataset]
        errors = {model: [row["MASE"] for row in rows if row["model"] == model] for model in models}
        drawn.append(charts.step_chart(dataset, errors, labels, colors))
    return drawn


def _example_charts(findings: Findings, color: str) -> dict[str, list[str]]:
    """Return the charts of the examples by data set."""
    return {
        dataset: [charts.example_chart(example, color) for example in findings.examples if example.task == dataset]
        for dataset in findings.evaluations
    }


def _training_charts(findings: Findings, models: Sequence[str]) -> dict[str, list[str]]:
    """Return the training curves by model, for models that have some."""
    drawn: dict[str, list[str]] = {}
    for model in models:
        rows = [row for row in findings.tables["training"] if row["model"] == model]
        for column, title in _CURVES.items():
            points = [(row["step"], row[column]) for row in rows if row[column] is not None]
            if len(points) > 1:
                steps, values = zip(*points)
                drawn.setdefault(model, []).append(charts.curve_chart(model, steps, values, title))
    return drawn


def _rows_of_datasets(findings: Findings) -> list[Row]:
    return [row for row in findings.tables["scores"] if row["data set"] in findings.evaluations]


def _is_share(score: str) -> bool:
    return score.startswith("coverage")


def _number(value: float | None) -> str:
    if value is None or np.isnan(value):
        return "–"
    return f"{value:.3f}" if np.isfinite(value) else "∞"


def _percent(value: float | None) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{100 * value:.0f}%"
