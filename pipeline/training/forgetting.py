"""Forgetting: a retrained model beside its base on the validation windows of the base's own training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pipeline.core.processes import Processes
from pipeline.evaluation.backtest import backtest
from pipeline.evaluation.comparison import Comparison, compare
from pipeline.training.prepare import TrainingRun

if TYPE_CHECKING:
    import torch


def measure_forgetting(run: TrainingRun, model: Any, device: torch.device, flip: bool) -> Comparison | str | None:
    """Compare a trained model with its base on the validation windows of the base's own training.

    Returns:
        the comparison, the reason why there is none, or None if the base was not trained by this package.
    """
    from pipeline.training.trainer import forecast_function

    if run.previous is None or isinstance(run.previous, str):
        return run.previous
    seed, windows = run.config.chronos.seed, run.previous
    base = cast(Any, run.base.model).to(device)
    functions = (forecast_function(scored, seed, flip) for scored in (model, base))
    new, old = (backtest(windows, forecast, windows.batch_size, Processes(), device.type) for forecast in functions)
    dataset, series = windows.row_keys()
    return compare(new, old, series, dataset) or "WQL is not defined on the validation windows of the base's training"


def describe_forgetting(forgetting: Comparison | str | None) -> str:
    """Return a sentence on the result of `measure_forgetting`, with a space before it; empty for None."""
    if forgetting is None:
        return ""
    if isinstance(forgetting, str):
        return f" Forgetting was not measured: {forgetting}."
    return f" Old data: {forgetting.describe()}, against the base on the validation windows of its own training."
