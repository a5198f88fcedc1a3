"""Forecasters to beat: seasonal naive, and the automatic statistical models of statsforecast."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from multiprocessing import get_context

import numpy as np

from pipeline.core.metrics import INTERVALS, WQL_LEVELS, seasonal_naive
from pipeline.core.series import History, target_rows
from pipeline.evaluation.backtest import Forecast

SEASONAL_NAIVE = "seasonal naive"
STATISTICAL = ("AutoETS", "AutoTheta")
_LONGEST = 2500
"""Steps of history that the statistical models are fitted to, as in AutoGluon: beyond, a fit takes minutes."""
logger = logging.getLogger(__name__)


def naive_forecast(season: int) -> Forecast:
    """Return the seasonal naive forecaster: the last season repeated, the same at every level."""

    def forecast(histories: Sequence[History], prediction_length: int) -> np.ndarray:
        points = np.stack([seasonal_naive(row, prediction_length, season) for row in target_rows(histories)])
        return np.repeat(points[:, :, None], len(WQL_LEVELS), axis=2)

    return forecast


def statistical_forecast(name: str, season: int) -> Forecast:
    """Return a forecaster of statsforecast, which fits a model to each series, on all processors.

    It sees the last 2,500 steps, missing ones interpolated. A series that is too short or too even to be fitted is forecast
    by the season before, and the log says how many are.
    """

    def forecast(histories: Sequence[History], prediction_length: int) -> np.ndarray:
        rows = target_rows(histories)
        fitted = list(_processes().map(partial(_fitted, name, season, prediction_length), rows, chunksize=8))
        naive = naive_forecast(season)(histories, prediction_length)
        unfitted = sum(one is None for one in fitted)
        if unfitted:
            logger.warning("%s: %d of %d histories cannot be fitted: seasonal naive instead", name, unfitted, len(rows))
        return np.stack([fallback if one is None else one for one, fallback in zip(fitted, naive)])

    return forecast


@lru_cache
def _processes() -> ProcessPoolExecutor:
    """Return processes that stay until the end of the program: to start them takes longer than many a batch."""
    return ProcessPoolExecutor(os.cpu_count(), get_context("spawn"))


def _fitted(name: str, season: int, prediction_length: int, history: np.ndarray) -> np.ndarray | None:
    """Return quantiles at `WQL_LEVELS`, [prediction_length, 9]; None where no model can be fitted."""
    from statsforecast import models

    values = history[-_LONGEST:].astype(np.float64)
    known = ~np.isnan(values)
    if not known.any():
        return None
    values = np.interp(np.arange(len(values)), np.flatnonzero(known), values[known])
    try:
        model = getattr(models, name)(season_length=season)
        found = model.forecast(y=values, h=prediction_length, level=list(reversed(INTERVALS)))
    except Exception:  # statsforecast and the optimisers under it raise whatever they like
        return None
    low = [found[f"lo-{interval}"] for interval in INTERVALS]
    high = [found[f"hi-{interval}"] for interval in reversed(INTERVALS)]
    quantiles = np.sort(np.stack([*low, found["mean"], *high], axis=1), axis=1)
    return quantiles if np.isfinite(quantiles).all() else None
