"""Baselines: seasonal naive, and the automatic statistical models of statsforecast."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np

from pipeline.core.metrics import INTERVALS, WQL_LEVELS, ForecastFunction, seasonal_naive
from pipeline.core.processes import Processes, WorkerPool
from pipeline.core.series import History, target_rows

SEASONAL_NAIVE = "seasonal naive"
STATISTICAL = ("AutoETS", "AutoTheta")
_MAX_HISTORY = 2500
"""Maximum number of history steps of the statistical models, as in AutoGluon: fits to more steps take minutes."""
logger = logging.getLogger(__name__)


def naive_forecast(season: int) -> ForecastFunction:
    """Return the seasonal naive forecast function: the last season repeated, at every level.

    Args:
        season: season length in steps.
    """

    def forecast(histories: Sequence[History], prediction_length: int) -> np.ndarray:
        points = np.stack([seasonal_naive(row, prediction_length, season) for row in target_rows(histories)])
        return np.repeat(points[:, :, None], len(WQL_LEVELS), axis=2)

    return forecast


def statistical_forecast(name: str, season: int) -> ForecastFunction:
    """Return a forecast function that fits a model of statsforecast to each history, on all processors.

    It uses the last 2,500 steps, with missing values interpolated. If a history is too short or constant, its forecast
    is seasonal naive, and the log says so once.

    Args:
        name: one of `STATISTICAL`.
        season: season length in steps.
    """

    has_warned = False

    def forecast(histories: Sequence[History], prediction_length: int) -> np.ndarray:
        nonlocal has_warned
        rows = target_rows(histories)
        fit = partial(_fit_and_forecast, name, season, prediction_length)
        forecasts = list(_process_pool().map(fit, rows, chunksize=8))
        naive = naive_forecast(season)(histories, prediction_length)
        if not has_warned and any(quantiles is None for quantiles in forecasts):
            has_warned = True
            logger.warning("%s: some histories cannot be fitted; their forecasts are seasonal naive", name)
        return np.stack([fallback if quantiles is None else quantiles for quantiles, fallback in zip(forecasts, naive)])

    return forecast


@lru_cache
def _process_pool() -> WorkerPool:
    """Return processes that run until the program ends, since starting them takes longer than most batches."""
    return WorkerPool(Processes().cpus_per_process)


def _fit_and_forecast(name: str, season: int, prediction_length: int, history: np.ndarray) -> np.ndarray | None:
    """Return quantiles at `WQL_LEVELS`, [prediction_length, 9]; None if the model cannot be fitted."""
    from statsforecast import models

    values = history[-_MAX_HISTORY:].astype(np.float64)
    known = ~np.isnan(values)
    if not known.any():
        return None
    values = np.interp(np.arange(len(values)), np.flatnonzero(known), values[known])
    try:
        model = getattr(models, name)(season_length=season)
        forecast = model.forecast(y=values, h=prediction_length, level=list(reversed(INTERVALS)))
    except Exception:  # statsforecast and its optimizers raise errors of many types
        return None
    low = [forecast[f"lo-{interval}"] for interval in INTERVALS]
    high = [forecast[f"hi-{interval}"] for interval in reversed(INTERVALS)]
    quantiles = np.sort(np.stack([*low, forecast["mean"], *high], axis=1), axis=1)
    return quantiles if np.isfinite(quantiles).all() else None
