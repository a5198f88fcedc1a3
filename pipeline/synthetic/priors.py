"""Priors: random processes that series are drawn from. A prior draws n series at once, each with its own parameters.

Args of every prior:
    draws: one stream of random numbers per row.
    lengths: length of each row, int64 [n, 1].
    width: steps to draw, at least the greatest length.
    keyword arguments: ranges that the parameters are drawn from, set in config/bank.yaml.

A prior returns values [n, width]; values after a row's length have no meaning. Numbers inside a prior were set by hand,
so that its series look like those that it names.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.synthetic.draws import Draws
from pipeline.synthetic.energy import energy
from pipeline.synthetic.events import growth, intermittent, ramps, regimes, spikes, states
from pipeline.synthetic.kernel_synth import draw_composites
from pipeline.synthetic.seasonal import calendar, repeats, templates, trend_seasonal, waveforms
from pipeline.synthetic.stochastic import brownian, fractal, heavy_tails, ornstein_uhlenbeck, sarima, volatility

_MAX_KERNELS = 3
"""Kernels of a composite. With the five of the paper, a draw takes 2.4 times as long: products have higher ranks."""


def kernel_synth(draws: Draws, lengths: np.ndarray, width: int) -> np.ndarray:
    """Draw Gaussian processes with sums and products of up to three kernels (Ansari et al., 2024): see kernel_synth.py.

    A row is the beginning of a draw whose length is the next power of two, so that few grids have to be factorized.
    """
    values = np.zeros((len(draws), width), np.float32)
    keys = draws.fork().keys
    grids = 1 << np.ceil(np.log2(np.maximum(lengths[:, 0], 2))).astype(np.int64)
    for grid in np.unique(grids):
        rows = np.flatnonzero(grids == grid)
        n_steps = min(int(grid), width)
        values[rows, :n_steps] = draw_composites(Draws(keys[rows]), int(grid), _MAX_KERNELS)[:, :n_steps]
    return values


Prior = Callable[..., np.ndarray]
PRIORS: dict[str, Prior] = {
    prior.__name__: prior
    for prior in (
        trend_seasonal,
        repeats,
        templates,
        energy,
        calendar,
        sarima,
        regimes,
        ramps,
        states,
        volatility,
        intermittent,
        growth,
        spikes,
        ornstein_uhlenbeck,
        brownian,
        heavy_tails,
        fractal,
        waveforms,
        kernel_synth,
    )
}
"""Every prior by its name."""
