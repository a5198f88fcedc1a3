"""Splits of series into training, validation and test steps, and the series that are left out."""

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.data.arrow_store import store_from_arrays
from pipeline.windows.splits import split_store


@pytest.mark.parametrize(
    "length, validation_split, test_length, train_end",
    [(100, 0.2, 0, 80), (100, 0.2, 10, 72), (100, 0.01, 0, 92), (10, 0.2, 0, 5), (100, 0.0, 0, 100), (12, 0.9, 4, 4)],
)
def test_the_holdout_is_a_share_of_at_least_one_horizon_and_at_most_half(
    length, validation_split, test_length, train_end
):
    split = split_store(store_from_arrays([np.arange(float(length))]), validation_split, 8, 1, test_length)
    assert split.train_ends.tolist() == [train_end] and split.ends.tolist() == [length - test_length]


@pytest.mark.parametrize("max_windows, horizons", [(1000, 10), (24, 8), (22, 8), (3, 1), (1, 1)])
def test_the_holdout_is_limited_to_the_windows_that_are_scored(max_windows, horizons):
    split = split_store(store_from_arrays([np.arange(400.0)] * 3), 0.2, 8, 1, max_windows=max_windows)
    assert split.train_ends.tolist() == [400 - 8 * horizons] * 3


def test_unusable_series_are_listed_by_their_reason():
    arrays = [np.arange(40.0), np.full(40, 2.0), np.full(40, np.nan), np.arange(4.0), np.empty(0)]
    split = split_store(store_from_arrays(arrays), 0.2, 4, 3)
    assert split.usable.tolist() == [0]
    assert {reason.split()[0]: series for reason, series in split.unusable.items()} == {
        "shorter": [3, 4],
        "without": [2],
        "constant": [1],
    }


def test_a_series_that_changes_only_at_its_last_training_step_is_constant():
    peak = np.zeros(40)
    peak[-1] = 1.0
    assert split_store(store_from_arrays([peak]), 0.0, 4, 3).unusable == {"constant": [0]}


def test_series_beyond_the_range_of_squares_in_float32_are_skipped_or_refused():
    rising = np.arange(20.0)
    split = split_store(store_from_arrays([rising * 1e-20, rising * 1e-15, rising * 1e16]), 0.2, 4, 3)
    assert split.usable.tolist() == [1, 2] and list(split.unusable.values()) == [[0]]
    with pytest.raises(UserError, match="series 1 .*1e"):
        split_store(store_from_arrays([rising, rising * 1e17]), 0.2, 4, 3)


def test_an_infinite_value_is_refused_with_its_series_also_in_the_holdout():
    for infinite in (np.append(np.inf, np.arange(19.0)), np.r_[np.arange(30.0), np.inf, 1.0, 2.0, 3.0]):
        with pytest.raises(UserError, match="series 1"):
            split_store(store_from_arrays([np.arange(20.0), infinite]), 0.1, 4, 3)
