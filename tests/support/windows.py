"""Windows of series whose values identify the series and the step."""

import numpy as np

from pipeline.data.arrow_store import store_from_arrays
from pipeline.windows.samplers import SeriesSampler
from pipeline.windows.splits import split_store
from pipeline.windows.training_windows import TrainingWindows

SETTINGS = {"context_length": 12, "prediction_length": 4, "min_past": 3, "drop_prob": 0.0, "seed": 0}


def numbered_store(n_series=9, seed=0, offset=0.0):
    """Return series of 20 to 59 steps; step t of series k has the value 1000 (k + 1) + t."""
    lengths = np.random.default_rng(seed).integers(20, 60, n_series)
    return store_from_arrays([offset + 1000.0 * (k + 1) + np.arange(length) for k, length in enumerate(lengths)])


def series_windows(*stores, weights=None, test_length=0, validation_split=0.2, **settings):
    """Return training windows of stores, each split in the same way."""
    settings = {**SETTINGS, **settings}
    min_past = settings.pop("min_past")
    splits = [
        split_store(store, validation_split, settings["prediction_length"], min_past, test_length) for store in stores
    ]
    samplers = [SeriesSampler(split) for split in splits]
    return TrainingWindows(samplers, weights or [1.0] * len(stores), **settings)


def known_values(values):
    """Return the set of the values that are not missing."""
    return set(values[~np.isnan(values)].tolist())
