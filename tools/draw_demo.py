"""Draw the README's picture from the results of `make demo`: base and fine-tuned forecasts beside the actual values.

python tools/draw_demo.py
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.arrow_store import open_store
from pipeline.forecasting.forecaster import Forecaster

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEMO = Path("data/demo")
PICTURE = Path("docs/images/demo.png")
_HORIZON = 48
_LEVELS = (0.1, 0.5, 0.9)
_SERIES = (5, 13, 3, 11)
"""Series of four different processes of the dummy data; not chosen by their scores."""
_INK, _BASE, _TUNED = "#1f2430", "#c65a1e", "#2f6db5"


def draw_demo(picture: Path) -> None:
    """Draw the last horizon of some series, which training did not see, with the forecasts of both models.

    Raises:
        UserError: the demo has not been run.
    """
    from matplotlib.figure import Figure

    store = open_store(DEMO / "dummy" / "dummy.arrow")
    series = [store.target(index) for index in _SERIES]
    ends = [(index, len(values)) for index, values in zip(_SERIES, series)]
    histories = [store.history(index, end - _HORIZON, end, _HORIZON) for index, end in ends]
    forecasts = {
        name: Forecaster.load(str(DEMO / "models" / name)).quantiles(histories, _HORIZON, _LEVELS)[0]
        for name in ("base", "trained")
    }
    figure = Figure(figsize=(12, 5), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    for position, (panel, values) in enumerate(zip(axes, series)):
        _draw_panel(panel, values, forecasts["base"][position], forecasts["trained"][position])
        panel.set_title(f"series {store.item_ids[_SERIES[position]]}", loc="left", fontsize=10)
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=4, frameon=False, loc="outside upper right")
    figure.supxlabel("steps from the forecast start", fontsize=10)
    figure.savefig(picture, dpi=110)


def _draw_panel(panel: Axes, values: np.ndarray, base: np.ndarray, tuned: np.ndarray) -> None:
    """Draw one series [length] with the quantiles [horizon, 3] of both models."""
    shown = values[-4 * _HORIZON :]
    panel.plot(np.arange(len(shown)) + 1 + _HORIZON - len(shown), shown, color=_INK, linewidth=1, label="actual")
    ahead = np.arange(1, _HORIZON + 1)
    panel.plot(ahead, base[:, 1], color=_BASE, linewidth=1.3, linestyle="--", label="base, median")
    panel.plot(ahead, tuned[:, 1], color=_TUNED, linewidth=1.6, label="fine-tuned, median")
    panel.fill_between(
        ahead, tuned[:, 0], tuned[:, 2], color=_TUNED, alpha=0.2, linewidth=0, label="fine-tuned, 80% band"
    )
    panel.axvline(0.5, color=_INK, linewidth=0.6, linestyle=":")
    panel.spines[["top", "right"]].set_visible(False)
    panel.margins(x=0.01)


if __name__ == "__main__":
    draw_demo(PICTURE)
