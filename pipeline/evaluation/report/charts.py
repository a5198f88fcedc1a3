"""Charts of scores as SVG that takes its colors from the page, so that they fit a light and a dark page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from pipeline.core.metrics import INTERVALS, WQL_LEVELS
from pipeline.evaluation.examples import Example
from pipeline.evaluation.ranking import Rank
from pipeline.forecasting.plots import draw_band, draw_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = {
    "--ink": ("#1c2230", "#e8eaf0"),
    "--muted": ("#6b7280", "#9aa3b2"),
    "--rule": ("#d9dde5", "#343b4a"),
    "--series-0": ("#2f6db5", "#6fa8ea"),
    "--series-1": ("#c65a1e", "#f0935a"),
    "--series-2": ("#2a8a5f", "#58c294"),
    "--series-3": ("#a1418f", "#dc86cb"),
    "--series-4": ("#8a6d00", "#d9b84a"),
    "--series-5": ("#b3384a", "#f07f8e"),
}
"""CSS variables, with their colors on a light and on a dark page."""
_N_SERIES = sum(name.startswith("--series") for name in COLORS)
_PLACEHOLDERS = {name: f"#0{position:x}1d0e" for position, name in enumerate(COLORS)}
"""Colors that matplotlib draws in. Nothing else has them, so each can be replaced by its variable."""
_INK, _MUTED, _RULE = _PLACEHOLDERS["--ink"], _PLACEHOLDERS["--muted"], _PLACEHOLDERS["--rule"]
_WIDTH, _HEIGHT = 4.6, 2.7
"""Size of a chart in inches: two or three fit beside each other on a page."""
_FONT_SIZE = 9
_MAX_MARKED_STEPS = 30
"""Number of steps from which a training curve has no marker for each step."""


def color_variable(position: int | None) -> str:
    """Return the CSS variable of a model by its position, or of the baseline for None."""
    return "--muted" if position is None else f"--series-{position % _N_SERIES}"


def ranking_chart(ranks: Sequence[Rank], labels: dict[str, str], score: str, colors: dict[str, str]) -> str:
    """Draw the relative score of each model with its interval, the best on top."""
    height = 0.7 + 0.34 * len(ranks)
    with _chart(f"ranking {score}", height) as (axes, svg):
        for row, entry in enumerate(reversed(ranks)):
            estimate, color = entry.relative[score], _PLACEHOLDERS[colors[entry.model]]
            if np.isfinite(estimate.low):
                axes.plot([estimate.low, estimate.high], [row, row], color=color, linewidth=2, solid_capstyle="round")
            axes.plot([estimate.value], [row], "o", color=color, markersize=6)
        axes.axvline(1.0, color=_MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        axes.set_yticks(range(len(ranks)), [labels[entry.model] for entry in reversed(ranks)])
        axes.set_ylim(-0.6, len(ranks) - 0.4)
        axes.set_xlabel(f"{score} relative to seasonal naive (lower is better)")
    return svg[0]


def calibration_chart(shares: dict[str, np.ndarray], labels: dict[str, str], colors: dict[str, str]) -> str:
    """Draw the share of targets at or below each quantile, by its level; the diagonal is perfect calibration.

    Args:
        shares: by model, one share for each of `WQL_LEVELS`.
    """
    with _chart("calibration") as (axes, svg):
        axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        for model, share in shares.items():
            axes.plot(
                WQL_LEVELS, share, marker="o", markersize=3, color=_PLACEHOLDERS[colors[model]], label=labels[model]
            )
        axes.set_xlabel("quantile level")
        axes.set_ylabel("share at or below")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
    return svg[0]


def coverage_chart(coverage: dict[str, list[float]], labels: dict[str, str], colors: dict[str, str]) -> str:
    """Draw the share of targets in each interval, by its nominal coverage; the diagonal is perfect calibration.

    Args:
        coverage: by model, one share for each of `INTERVALS`.
    """
    with _chart("coverage") as (axes, svg):
        axes.plot([0, 100], [0, 100], color=_MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        for model, shares in coverage.items():
            percents = [100 * share for share in shares]
            axes.plot(
                INTERVALS, percents, marker="o", markersize=3, color=_PLACEHOLDERS[colors[model]], label=labels[model]
            )
        axes.set_xlabel("interval, percent")
        axes.set_ylabel("targets inside, percent")
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
    return svg[0]


def step_chart(name: str, errors: Mapping[str, Sequence[float]], labels: dict[str, str], colors: dict[str, str]) -> str:
    """Draw the MASE of each model by step of the horizon."""
    with _chart(f"steps {name}") as (axes, svg):
        for model, values in errors.items():
            steps = np.arange(1, len(values) + 1)
            draw_line(
                axes, steps, np.asarray(values), color=_PLACEHOLDERS[colors[model]], label=labels[model], linewidth=1.3
            )
        axes.set_title(name, loc="left", color=_INK, fontsize=_FONT_SIZE + 1)
        _label_steps(axes, "step of the horizon")
        axes.set_ylabel("MASE")
        axes.set_ylim(bottom=0)
    return svg[0]


def example_chart(example: Example, color: str) -> str:
    """Draw the end of a history, the median, the 80% interval, and the actual values."""
    low, median, high = (example.quantiles[:, WQL_LEVELS.index(level)] for level in (0.1, 0.5, 0.9))
    with _chart(f"{example.task} {example.label}") as (axes, svg):
        ahead = np.arange(1, len(median) + 1)
        past = np.arange(1 - len(example.history), 1)
        draw_band(axes, ahead, low, high, color=_PLACEHOLDERS[color])
        draw_line(axes, past, example.history, color=_MUTED, linewidth=1)
        draw_line(axes, ahead, example.target, color=_INK, linewidth=1)
        draw_line(axes, ahead, median, color=_PLACEHOLDERS[color], linewidth=1.5)
        axes.axvline(0.5, color=_RULE, linewidth=0.8)
        axes.set_title(f"{example.label}: {example.item_id}", loc="left", color=_INK, fontsize=_FONT_SIZE + 1)
        _label_steps(axes, f"steps from the forecast start, MASE {example.mase:.2f}")
        axes.margins(x=0.01)
    return svg[0]


def curve_chart(name: str, steps: Sequence[int], values: Sequence[float], title: str) -> str:
    """Draw one curve of a training run by step.

    Args:
        name: the model.
    """
    with _chart(f"curve {name} {title}") as (axes, svg):
        axes.plot(
            steps,
            values,
            color=_PLACEHOLDERS["--series-0"],
            linewidth=1.3,
            marker="." if len(steps) < _MAX_MARKED_STEPS else "",
        )
        axes.set_title(title, loc="left", color=_INK, fontsize=_FONT_SIZE + 1)
        _label_steps(axes, "step")
    return svg[0]


@contextmanager
def _chart(name: str, height: float = _HEIGHT) -> Iterator[tuple[Axes, list[str]]]:
    """Yield axes to draw on, and a list that has the SVG after the block.

    Args:
        name: name of the chart, unique on the page.
        height: height in inches.
    """
    import matplotlib
    from matplotlib.figure import Figure

    result: list[str] = []
    # Text stays text. IDs follow from the name, so they are the same in every run and differ between charts.
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": _FONT_SIZE, "text.parse_math": False}
    ):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        yield axes, result
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_RULE)
        axes.tick_params(colors=_MUTED, labelsize=_FONT_SIZE - 1, color=_RULE)
        axes.xaxis.label.set_color(_MUTED)
        axes.yaxis.label.set_color(_MUTED)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    for variable, color in _PLACEHOLDERS.items():
        svg = svg.replace(color, f"var({variable})")
    opening_tag = f'<svg role="img" aria-label="{escape(name)}" viewBox='
    result.append(re.sub(r"<svg [^>]*?viewBox=", lambda _: opening_tag, svg, count=1))


def _label_steps(axes: Axes, label: str) -> None:
    axes.set_xlabel(label)
    axes.locator_params(axis="x", integer=True)
