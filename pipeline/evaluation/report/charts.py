"""Charts of scores as SVG that takes its colours from the page, so that they suit a light and a dark one."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from pipeline.core.metrics import INTERVALS, WQL_LEVELS
from pipeline.evaluation.backtest import Example
from pipeline.evaluation.ranking import Rank
from pipeline.forecasting.plots import draw_band, draw_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
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
"""Of each variable its colour on a light and on a dark page."""
_N_SERIES = sum(name.startswith("--series") for name in COLOURS)
# matplotlib draws in colours that nothing else has, and each is then replaced by its variable.
_DRAWN = {name: f"#0{position:x}1d0e" for position, name in enumerate(COLOURS)}
_INK, _MUTED, _RULE = _DRAWN["--ink"], _DRAWN["--muted"], _DRAWN["--rule"]
_WIDTH, _HEIGHT = 4.6, 2.7
_POINTS = 9


def colour_of(position: int | None) -> str:
    """Return the CSS variable of a model by its position; None is the baseline."""
    return "--muted" if position is None else f"--series-{position % _N_SERIES}"


def ranking_chart(ranks: Sequence[Rank], labels: dict[str, str], score: str, colours: dict[str, str]) -> str:
    """Draw each model's relative score with its interval, the best on top."""
    height = 0.7 + 0.34 * len(ranks)
    with _chart(f"ranking {score}", height) as (axes, done):
        for row, one in enumerate(reversed(ranks)):
            estimate, colour = one.relative[score], _DRAWN[colours[one.model]]
            if np.isfinite(estimate.low):
                axes.plot([estimate.low, estimate.high], [row, row], color=colour, linewidth=2, solid_capstyle="round")
            axes.plot([estimate.value], [row], "o", color=colour, markersize=6)
        axes.axvline(1.0, color=_MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        axes.set_yticks(range(len(ranks)), [labels[one.model] for one in reversed(ranks)])
        axes.set_ylim(-0.6, len(ranks) - 0.4)
        axes.set_xlabel(f"{score} over seasonal naive's (lower is better)")
    return done[0]


def calibration_chart(shares: dict[str, np.ndarray], labels: dict[str, str], colours: dict[str, str]) -> str:
    """Draw the share of targets at or below each quantile over its level; the diagonal is perfect.

    Args:
        shares: by model, [9].
    """
    with _chart("calibration") as (axes, done):
        axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        for model, share in shares.items():
            axes.plot(WQL_LEVELS, share, marker="o", markersize=3, color=_DRAWN[colours[model]], label=labels[model])
        axes.set_xlabel("quantile level")
        axes.set_ylabel("share at or below")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
    return done[0]


def coverage_chart(coverage: dict[str, list[float]], labels: dict[str, str], colours: dict[str, str]) -> str:
    """Draw what each interval holds over what it should hold.

    Args:
        coverage: by model, a share for each of `INTERVALS`.
    """
    with _chart("coverage") as (axes, done):
        axes.plot([0, 100], [0, 100], color=_MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        for model, shares in coverage.items():
            percents = [100 * share for share in shares]
            axes.plot(INTERVALS, percents, marker="o", markersize=3, color=_DRAWN[colours[model]], label=labels[model])
        axes.set_xlabel("interval, per cent")
        axes.set_ylabel("targets inside, per cent")
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
    return done[0]


def step_chart(
    name: str, errors: Mapping[str, Sequence[float]], labels: dict[str, str], colours: dict[str, str]
) -> str:
    """Draw the MASE of each model by step of the horizon."""
    with _chart(f"steps {name}") as (axes, done):
        for model, values in errors.items():
            steps = np.arange(1, len(values) + 1)
            draw_line(axes, steps, np.asarray(values), color=_DRAWN[colours[model]], label=labels[model], linewidth=1.3)
        axes.set_title(name, loc="left", color=_INK, fontsize=_POINTS + 1)
        _count_steps(axes, "step of the horizon")
        axes.set_ylabel("MASE")
        axes.set_ylim(bottom=0)
    return done[0]


def example_chart(example: Example, colour: str) -> str:
    """Draw the end of a history, the median, the 80% interval, and the actual values."""
    low, median, high = (example.quantiles[:, WQL_LEVELS.index(level)] for level in (0.1, 0.5, 0.9))
    with _chart(f"{example.task} {example.which}") as (axes, done):
        ahead = np.arange(1, len(median) + 1)
        past = np.arange(1 - len(example.history), 1)
        draw_band(axes, ahead, low, high, color=_DRAWN[colour])
        draw_line(axes, past, example.history, color=_MUTED, linewidth=1)
        draw_line(axes, ahead, example.target, color=_INK, linewidth=1)
        draw_line(axes, ahead, median, color=_DRAWN[colour], linewidth=1.5)
        axes.axvline(0.5, color=_RULE, linewidth=0.8)
        axes.set_title(f"{example.which}: {example.item_id}", loc="left", color=_INK, fontsize=_POINTS + 1)
        _count_steps(axes, f"steps from the forecast start, MASE {example.scaled_error:.2f}")
        axes.margins(x=0.01)
    return done[0]


def curve_chart(name: str, steps: Sequence[int], values: Sequence[float], what: str) -> str:
    """Draw one curve of a training run by step."""
    with _chart(f"curve {name} {what}") as (axes, done):
        axes.plot(steps, values, color=_DRAWN["--series-0"], linewidth=1.3, marker="." if len(steps) < 30 else "")
        axes.set_title(what, loc="left", color=_INK, fontsize=_POINTS + 1)
        _count_steps(axes, "step")
    return done[0]


@contextmanager
def _chart(name: str, height: float = _HEIGHT) -> Iterator[tuple[Axes, list[str]]]:
    """Give axes to draw on; when the block is left, the list holds the SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    done: list[str] = []
    # Text stays text; ids that follow from the name are the same in every run, and differ between the charts of a page.
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": _POINTS, "text.parse_math": False}
    ):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        yield axes, done
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_RULE)
        axes.tick_params(colors=_MUTED, labelsize=_POINTS - 1, color=_RULE)
        axes.xaxis.label.set_color(_MUTED)
        axes.yaxis.label.set_color(_MUTED)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = drawn.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    for variable, colour in _DRAWN.items():
        svg = svg.replace(colour, f"var({variable})")
    labelled = f'<svg role="img" aria-label="{escape(name)}" viewBox='
    done.append(re.sub(r"<svg [^>]*?viewBox=", lambda _: labelled, svg, count=1))


def _count_steps(axes: Axes, what: str) -> None:
    axes.set_xlabel(what)
    axes.locator_params(axis="x", integer=True)
