"""What a time series is, everywhere in this package."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Series:
    """One univariate time series on a regular grid."""

    item_id: str
    """Its name, unique within a data set."""
    start: np.datetime64
    """Timestamp of the first value, datetime64[s]."""
    freq: str
    """Pandas alias of the step; empty where the data came without timestamps."""
    target: np.ndarray
    """float32, [length]; NaN where a value is missing."""
