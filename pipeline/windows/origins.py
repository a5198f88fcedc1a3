"""Rolling forecast origins, for validation windows, the backtest and anomaly flags."""

import numpy as np


def forecast_starts(length: int, prediction_length: int, n_origins: int) -> list[int]:
    """Return the steps at which forecasts of a series start, in order: the last one is a horizon before its end.

    Args:
        length: steps of the series; the first step is never forecast.
        prediction_length: steps of the horizon, and between two origins.
        n_origins: maximum number of origins.
    """
    n_origins = min(n_origins, (length - 1) // prediction_length)
    return [length - origin * prediction_length for origin in range(n_origins, 0, -1)]


def can_be_scored(targets: np.ndarray, start: int, end: int) -> bool:
    """Return whether some target has a known value both before a forecast start and from it to `end`.

    Args:
        targets: values of the targets of a series, [n_targets, length].
    """
    has_history = ~np.isnan(targets[:, :start]).all(axis=1)
    return not np.isnan(targets[has_history, start:end]).all()


def groups_of_windows(groups: np.ndarray, distances: np.ndarray, prediction_length: int) -> np.ndarray:
    """Return the number of the group within which windows see each other, [n].

    Windows of a group start as many horizons before the end of their series: a later one contains the actual values of
    an earlier one.

    Args:
        groups: group of the series of each window, [n].
        distances: steps from the start of each window to the end of its series, [n].
    """
    origins = -(-distances // prediction_length)
    return groups * (origins.max(initial=0) + 1) + origins
