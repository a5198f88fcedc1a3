"""A picture of the bank: a row of examples for each prior, then one for each effect."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.core.files import atomic_write
from pipeline.synthetic.bank import Bank
from pipeline.synthetic.draws import Draws, make_keys
from pipeline.synthetic.effects import EFFECTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_EXAMPLES = 4
"""Examples in a row."""
_MAX_STEPS = 200
"""Maximum length of an example: single steps are visible on a page of normal width."""
_CANDIDATES = 256
"""Series among which examples of an effect are looked for: some effects change one series in a hundred visibly."""
_VISIBLE = 0.4
"""Minimum change of some value by a visible effect, in standard deviations of the series."""
_INK, _MUTED, _BLUE, _GREEN = "#1f2430", "#a9adb5", "#3b6fb6", "#2e8b57"
DESCRIPTIONS = {
    "trend_seasonal": "A trend, a short and a long season, and noise.",
    "repeats": "Exact repeats of rough, sparse or stepwise shapes, some in weeks of unequal days.",
    "templates": "Days of one shape in weeks of unequal days, as in load, traffic or hourly sales.",
    "energy": "Electricity demand, solar power, wind power or prices, driven by the weather.",
    "calendar": "Business by day or month: weekends, holidays, month ends and yearly seasons.",
    "sarima": "Seasonal ARIMA models with random coefficients.",
    "regimes": "Levels, slopes and noise that change abruptly.",
    "ramps": "Trends that stop, bend or saturate, and shifts of level that stay.",
    "states": "Values that rarely change: nearly constant series, states, list prices.",
    "volatility": "Noise that has calm and turbulent times, as in returns of stocks.",
    "intermittent": "Counts with many zeros, as in the demand for spare parts.",
    "growth": "Growth that saturates, a wave of new cases, or exponential growth.",
    "spikes": "Spikes or dips that decay, at random times or once per season.",
    "ornstein_uhlenbeck": "Values that return to a mean, which may have a season or a trend.",
    "brownian": "Random walks, as in prices of stocks.",
    "heavy_tails": "Noise with rare, very large shocks.",
    "fractal": "Noise between white noise and a random walk.",
    "waveforms": "Square, sawtooth, triangle, pulse and sine waves, as in signals of machines.",
    "kernel_synth": "Gaussian processes with random kernels, as in the Chronos paper.",
    "skew": "Makes values log-normal: high values become peaks.",
    "level": "Moves the mean, mostly above zero.",
    "outliers": "Moves a few single values far away.",
    "censoring": "Clips values above or below a bound, as limited capacity does.",
    "positive": "Clips negative values at zero.",
    "counts": "Draws Poisson counts at the rate of the series.",
    "rounding": "Rounds to a grid, as in counts or prices.",
    "unit": "Multiplies by a scale, because series have any unit.",
    "missing": "Removes values, in gaps or one by one.",
}
"""A sentence on each prior and effect."""


def draw_gallery(bank: Bank, length: int, seed: int, path: str | Path) -> None:
    """Write `gallery_figure` to a PNG file.

    Raises:
        UserError: the file cannot be written.
    """
    figure = gallery_figure(bank, length, seed)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def gallery_figure(bank: Bank, length: int, seed: int) -> Figure:
    """Draw a row for each prior of a bank, then one for each effect: name, description, four examples.

    Args:
        length: steps of the examples; more than 200 are not drawn.
    """
    from matplotlib.figure import Figure

    length = min(length, _MAX_STEPS)
    names = [*bank.weights, *bank.probabilities]
    figure = Figure(figsize=(11, 0.95 * len(names) + 0.3), layout="constrained")
    rows = figure.subplots(len(names), _EXAMPLES + 1, squeeze=False, width_ratios=[1.25] + [1] * _EXAMPLES)
    for name, (label, *axes) in zip(names, rows):
        label.axis("off")
        text = textwrap.fill(DESCRIPTIONS[name], 34)
        title = name if name in bank.weights else f"effect: {name}"
        label.text(0, 0.95, title, fontsize=11, fontweight="bold", color=_INK, va="top")
        label.text(0, 0.66, text, fontsize=9, color=_INK, va="top", linespacing=1.25)
        if name in bank.weights:
            _draw_prior(axes, bank, name, length, seed)
        else:
            _draw_effect(axes, bank, name, length, seed)
        for axis in axes:
            axis.spines[["top", "right"]].set_visible(False)
            axis.spines[["left", "bottom"]].set_color(_MUTED)
            axis.tick_params(labelsize=7, colors=_INK, color=_MUTED, length=2)
            axis.locator_params(axis="y", nbins=3)
            axis.set_xticks([])
            axis.margins(x=0.01)
    return figure


def _draw_prior(axes: list[Axes], bank: Bank, name: str, length: int, seed: int) -> None:
    series = bank.single_prior(name).series(_EXAMPLES, length, seed)
    for axis, values in zip(axes, series):
        axis.plot(values, linewidth=0.9, color=_BLUE)


def _draw_effect(axes: list[Axes], bank: Bank, name: str, length: int, seed: int) -> None:
    """Draw the first series of the bank that an effect changes visibly: before in grey, after in color."""
    before = replace(bank, probabilities={}).series(_CANDIDATES, length, seed)
    draws = Draws(make_keys(seed, np.arange(_CANDIDATES)))
    after = EFFECTS[name](draws, before, np.full((_CANDIDATES, 1), length), **bank.ranges[name])
    change = np.abs(np.nan_to_num(after - before, nan=np.inf)).max(axis=1)
    deviation = before.std(axis=1)
    is_visible = (change > _VISIBLE * deviation) & (deviation > 0)
    for axis, index in zip(axes, np.argsort(~is_visible, kind="stable")):
        axis.plot(before[index], linewidth=0.9, color=_MUTED)
        axis.plot(after[index], linewidth=0.9, color=_GREEN)
