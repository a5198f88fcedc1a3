"""The page of scores: one HTML file that opens from disk, with no network and no script."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import __version__
from pipeline.core.metrics import INTERVALS, SCORES
from pipeline.core.tables import Row
from pipeline.evaluation.backtest import Example
from pipeline.evaluation.baselines import SEASONAL_NAIVE, STATISTICAL
from pipeline.evaluation.ranking import Evaluations, Rank, undefined
from pipeline.evaluation.report import charts

_LIBRARIES = ("chronos-forecasting", "torch", "transformers", "numpy")
_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --card: #f6f7f9; LIGHT }
@media (prefers-color-scheme: dark) { :root { --page: #12151c; --card: #1b202b; DARK } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 76rem; background: var(--page);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .4rem; }
p { margin: .3rem 0 .9rem; max-width: 46rem; }
p.note, figcaption, summary span { color: var(--muted); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .3rem .9rem .3rem 0; text-align: right; border-bottom: 1px solid var(--rule); }
th { color: var(--muted); font-weight: 500; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
td.best { font-weight: 650; }
td small { color: var(--muted); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1rem 1.6rem; }
figure { margin: 0; min-width: 0; }
svg { width: 100%; height: auto; display: block; }
svg text { font-family: system-ui, sans-serif !important; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .9rem; margin: .2rem 0 .8rem; }
.legend i { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .4em; }
details { margin: .6rem 0; }
summary { cursor: pointer; font-weight: 550; }
pre { background: var(--card); padding: .8rem 1rem; border-radius: .5rem; overflow-x: auto; font-size: .85rem; }
"""


@dataclass(frozen=True)
class Findings:
    """All that the page shows."""

    ranks: list[Rank]
    evaluations: Evaluations
    scores: list[Row]
    calibration: list[Row]
    steps: list[Row]
    examples: list[Example]
    curves: list[Row]
    """`model, step`, and of each step what is known of `loss`, `WQL` and `MASE`."""
    command: str
    """What makes the report again."""
    warnings: list[str] = field(default_factory=list)
    """What the scores must not be read without."""


def score_page(found: Findings) -> str:
    """Return the page as HTML."""
    models = [one.model for one in found.ranks]
    labels = _labels(models)
    own = [model for model in models if model != SEASONAL_NAIVE]
    colours = {model: charts.colour_of(own.index(model) if model in own else None) for model in models}
    page = _Page(found, models, labels, colours)
    light, dark = (" ".join(f"{name}: {pair[k]};" for name, pair in charts.COLOURS.items()) for k in (0, 1))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>Forecast scores</title>\n'
        f"<style>{_STYLE.replace('LIGHT', light).replace('DARK', dark)}</style>\n</head>\n<body>\n"
        + "\n".join(page.sections())
        + "\n</body>\n</html>\n"
    )


@dataclass(frozen=True)
class _Page:
    found: Findings
    models: list[str]
    labels: dict[str, str]
    colours: dict[str, str]

    def sections(self) -> list[str]:
        return [
            self._verdict(),
            self._ranking(),
            self._by_set(),
            self._calibration(),
            self._by_step(),
            self._examples(),
            self._curves(),
            self._again(),
        ]

    def _verdict(self) -> str:
        evaluations, first = self.found.evaluations, self.found.ranks[0]
        n_series = sum(int(next(iter(of_set.values())).scores()["series"]) for of_set in evaluations.values())
        over = f"{len(evaluations)} data sets" if len(evaluations) > 1 else f"{next(iter(evaluations))}"
        estimate = first.relative["WQL"]
        sure = (
            f" (95% interval {_number(estimate.low)} to {_number(estimate.high)})" if np.isfinite(estimate.low) else ""
        )
        if np.isnan(estimate.value):
            said = "Nobody can be said to be better than repeating the last season: its own WQL is 0 or not defined."
        elif first.model == SEASONAL_NAIVE:
            said = "No model is better than repeating the last season."
        else:
            said = (
                f"<b>{escape(self.labels[first.model])}</b> forecasts best: its WQL is {_number(estimate.value)} of "
                f"seasonal naive's{sure}."
            )
        scale, drawn = ("geometric mean over the data sets", "data sets")
        if len(evaluations) == 1:
            scale, drawn = "of the one data set", "series"
        return (
            "<h1>Forecast scores</h1>\n"
            + "".join(f"<p><b>{escape(warning)}</b></p>\n" for warning in self.found.warnings)
            + f"<p>{len(self.models)} forecasters on {escape(over)}, {n_series:,} series. {said}</p>\n"
            f'<p class="note">Relative scores are over seasonal naive\'s, {scale}: below 1 is better than repeating the '
            f"last season. Intervals are 95% bootstrap intervals over {drawn}.{self._left_out()}</p>"
        )

    def _left_out(self) -> str:
        of_score = undefined(self.found.evaluations, SEASONAL_NAIVE)
        return "".join(
            f" Relative {score} leaves out {escape(', '.join(names))}: there seasonal naive's is 0 or not defined."
            for score, names in of_score.items()
            if names
        )

    def _ranking(self) -> str:
        head = ["model", "relative WQL", "relative MASE", "wins by WQL", "wins by MASE"]
        rows = []
        for one in self.found.ranks:
            cells = [(escape(self.labels[one.model]), "text")]
            for score in ("WQL", "MASE"):
                value = one.relative[score]
                sure = np.isfinite(value.low) and value.low < value.high
                between = f" <small>{_number(value.low)}–{_number(value.high)}</small>" if sure else ""
                cells.append((f"{_number(value.value)}{between}", ""))
            rows.append(cells + [(_percent(one.win_rate[score]), "") for score in ("WQL", "MASE")])
        drawn = [charts.ranking_chart(self.found.ranks, self.labels, score, self.colours) for score in ("WQL", "MASE")]
        unit = "data set" if len(self.found.evaluations) > 1 else "series"
        return (
            f"<h2>Ranking</h2>\n{_table(head, rows)}\n"
            f'<p class="note">A win is a lower score than another forecaster\'s on the same {unit}; a tie is half a '
            "win.</p>\n"
            f"{_charts(drawn)}"
        )

    def _by_set(self) -> str:
        by_place = {(row["data set"], row["model"]): row for row in self.found.scores}
        head = ["data set", *(escape(self.labels[model]) for model in self.models)]
        rows = []
        for dataset in self.found.evaluations:
            values = [by_place[dataset, model]["relative WQL"] for model in self.models]
            best = np.nanmin(values) if np.isfinite(values).any() else None
            cells = [(_number(value), "best" if value == best else "") for value in values]
            rows.append([(escape(dataset), "text"), *cells])
        full = []
        for row in self.found.scores:
            if row["data set"] in self.found.evaluations:
                cells = [(escape(row["data set"]), "text"), (escape(self.labels[row["model"]]), "text")]
                cells += [
                    (_percent(row[score]) if "coverage" in score else _number(row[score]), "") for score in SCORES
                ]
                full.append([*cells, (f"{row['series']:,}", ""), (f"{row['windows']:,}", "")])
        names = [f"inside {score.removeprefix('coverage_')}%" if "coverage" in score else score for score in SCORES]
        return (
            "<h2>By data set</h2>\n<p class='note'>WQL over seasonal naive's; the lowest is bold.</p>\n"
            f"{_table(head, rows)}\n<details><summary>All scores</summary>\n"
            + _table(["data set", "model", *names, "series", "windows"], full, texts=2)
            + "</details>"
        )

    def _calibration(self) -> str:
        shares = {
            model: _mean_over_sets([row for row in self.found.calibration if row["model"] == model])
            for model in self.models
            if model != SEASONAL_NAIVE
        }
        if not shares:
            return ""
        coverage = {
            model: [
                float(np.nanmean([row[f"coverage_{interval}"] for row in self._of_model(model)]))
                for interval in INTERVALS
            ]
            for model in shares
        }
        drawn = [
            charts.calibration_chart(shares, self.labels, self.colours),
            charts.coverage_chart(coverage, self.labels, self.colours),
        ]
        return (
            "<h2>Calibration</h2>\n<p>Of the targets, a tenth ought to lie below the 0.1-quantile, and eight tenths inside "
            "the 80% interval. On the dotted line they do; mean over data sets.</p>\n"
            f"{self._legend(shares)}\n{_charts(drawn)}"
        )

    def _by_step(self) -> str:
        drawn = []
        for dataset in self.found.evaluations:
            rows = [row for row in self.found.steps if row["data set"] == dataset]
            errors = {model: [row["MASE"] for row in rows if row["model"] == model] for model in self.models}
            drawn.append(charts.step_chart(dataset, errors, self.labels, self.colours))
        return f"<h2>Error by step of the horizon</h2>\n{self._legend(self.models)}\n{_charts(drawn)}"

    def _examples(self) -> str:
        if not self.found.examples:
            return ""
        model = shown_model(self.found.ranks)
        blocks = []
        for position, dataset in enumerate(self.found.evaluations):
            drawn = [
                charts.example_chart(one, self.colours[model]) for one in self.found.examples if one.task == dataset
            ]
            opened = " open" if position == 0 else ""
            blocks.append(f"<details{opened}><summary>{escape(dataset)}</summary>\n{_charts(drawn)}</details>")
        return (
            f"<h2>Forecasts of {escape(self.labels[model])}</h2>\n<p>The best, the median and the worst window of each data "
            "set by MASE: history in grey, actual values in the text's colour, median and 80% interval in colour.</p>\n"
            + "\n".join(blocks)
        )

    def _curves(self) -> str:
        blocks = []
        for model in self.models:
            rows, drawn = [row for row in self.found.curves if row["model"] == model], []
            for what, key in (("training loss", "loss"), ("validation WQL", "WQL"), ("validation MASE", "MASE")):
                known = [(row["step"], row[key]) for row in rows if row[key] is not None]
                if len(known) > 1:
                    steps, values = zip(*known)
                    drawn.append(charts.curve_chart(model, steps, values, what))
            if drawn:
                blocks.append(f"<h2>Training of {escape(self.labels[model])}</h2>\n{_charts(drawn)}")
        return "\n".join(blocks)

    def _again(self) -> str:
        versions = {"chronos-native": __version__, **{name: version(name) for name in _LIBRARIES}}
        versions["Python"] = platform.python_version()
        named = [
            f"{escape(self.labels[model])}: {escape(model)}" for model in self.models if self.labels[model] != model
        ]
        where = f'<p class="note">{"; ".join(named)}</p>\n' if named else ""
        return (
            f"<h2>To make this again</h2>\n<pre>{escape(self.found.command)}</pre>\n{where}"
            f'<p class="note">{", ".join(f"{name} {number}" for name, number in versions.items())}. The numbers are in the '
            "CSV files beside this page.</p>"
        )

    def _of_model(self, model: str) -> list[Row]:
        return [row for row in self.found.scores if row["model"] == model and row["data set"] in self.found.evaluations]

    def _legend(self, models: Any) -> str:
        entries = (
            f'<span><i style="background: var({self.colours[model]})"></i>{escape(self.labels[model])}</span>'
            for model in models
        )
        return f'<div class="legend">{"".join(entries)}</div>'


def shown_model(ranks: Sequence[Rank]) -> str:
    """Return the model whose forecasts are drawn: the best that is no baseline, or the best."""
    own = [one.model for one in ranks if one.model not in (SEASONAL_NAIVE, *STATISTICAL)]
    return (own or [ranks[0].model])[0]


def _labels(models: Sequence[str]) -> dict[str, str]:
    """Return the last part of each model's path, or the whole where two have one."""
    last = [Path(model).name for model in models]
    return {model: name if last.count(name) == 1 else model for model, name in zip(models, last)}


def _mean_over_sets(rows: Sequence[Row]) -> np.ndarray:
    levels = sorted({row["level"] for row in rows})
    return np.array(
        [np.nanmean([row["share at or below"] for row in rows if row["level"] == level]) for level in levels]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]], texts: int = 1) -> str:
    names = "".join(f'<th{" class=text" if i < texts else ""}>{name}</th>' for i, name in enumerate(head))
    body = "\n".join(
        "<tr>" + "".join(f'<td{f" class={kind}" if kind else ""}>{cell}</td>' for cell, kind in row) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{names}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _charts(drawn: Sequence[str]) -> str:
    return '<div class="charts">' + "\n".join(f"<figure>{one}</figure>" for one in drawn) + "</div>"


def _number(value: float | None) -> str:
    if value is None or np.isnan(value):
        return "–"
    return f"{value:.3f}" if np.isfinite(value) else "∞"


def _percent(value: float | None) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{100 * value:.0f}%"
