"""A picture of the bank: one panel per prior, then one per effect."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.core.files import atomic_write
from pipeline.synthetic.bank import Bank
from pipeline.synthetic.draws import Draws, make_keys
from pipeline.synthetic.effects import EFFECTS
from pipeline.synthetic.priors import PRIORS

_SERIES = 4
"""Series per panel, on a grid with two columns."""
_COLUMNS = 3
"""Panels per row."""


def draw_gallery(bank: Bank, length: int, seed: int, path: str | Path) -> None:
    """Draw a PNG file with four series of each prior of a bank, and each effect on the series of the first prior.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    keys = make_keys(seed, np.arange(_SERIES))
    lengths = np.full((_SERIES, 1), length)
    panels = {name: PRIORS[name](Draws(keys), lengths, length, **bank.ranges[name]) for name in bank.weights}
    unaffected = next(iter(panels.values()))
    for name in bank.probabilities:
        panels[f"effect: {name}"] = EFFECTS[name](Draws(keys), unaffected, lengths, **bank.ranges[name])
    rows = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(18, 2.9 * rows), layout="constrained")
    grids = figure.add_gridspec(rows, _COLUMNS)
    for position, (name, series) in enumerate(panels.items()):
        panel = figure.add_subfigure(grids[divmod(position, _COLUMNS)])
        panel.suptitle(name, fontsize=11, x=0.02, ha="left")
        for axes, values in zip(panel.subplots(_SERIES // 2, 2).flat, series):
            axes.plot(values, linewidth=0.7)
            axes.tick_params(labelsize=6)
            axes.margins(x=0)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=70)
