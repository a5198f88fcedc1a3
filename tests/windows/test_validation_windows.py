"""Validation windows: whole horizons of the holdout with the history before each."""

from typing import Any

import numpy as np
import pytest
from support.windows import numbered_store

from pipeline.data.arrow_store import store_from_arrays
from pipeline.windows.splits import split_store
from pipeline.windows.validation_windows import ValidationWindows

LENGTHS: dict[str, Any] = {"context_length": 8, "prediction_length": 4}


@pytest.mark.parametrize("test_length", [0, 7])
def test_windows_are_whole_horizons_aligned_to_the_end_of_the_holdout(test_length):
    series = store_from_arrays([1000.0 + np.arange(60), 2000.0 + np.arange(41), 3000.0 + np.arange(9)])
    split = split_store(series, 0.3, 5, 2, test_length)
    windows = ValidationWindows([split], context_length=200, prediction_length=5, max_windows=100)
    expected = []
    for k in range(3):
        end, begin = split.ends[k], split.train_ends[k]
        if end - begin < 5:
            expected += [(k, begin)] if end > begin else []
        else:
            expected += [(k, start) for start in range(end - (end - begin) // 5 * 5, end, 5)]
    assert [(k, start) for _, k, start, _ in windows.windows.tolist()] == expected
    contexts, targets = windows.batch(range(len(windows)))
    histories = windows.histories(range(len(windows)))
    for (k, start), context, target, history in zip(expected, contexts, targets, histories):
        np.testing.assert_array_equal(history, series.target(k)[:start])
        np.testing.assert_array_equal(context[-start:], history)
        np.testing.assert_array_equal(
            target[~np.isnan(target)], series.target(k)[start : min(start + 5, split.ends[k])]
        )


def test_excess_windows_are_thinned_out_evenly():
    splits = [split_store(numbered_store(30), 0.2, 4, 3)]
    all_windows = ValidationWindows(splits, **LENGTHS, max_windows=10**6)
    limited = ValidationWindows(splits, **LENGTHS, max_windows=10)
    assert len(limited) == 10 and len(set(limited.windows[:, 1])) == 10 and len(all_windows) > 30
    np.testing.assert_array_equal(limited.windows[[0, -1]], all_windows.windows[[0, -1]])


def test_data_sets_have_equal_shares_of_the_windows_and_a_batch_may_mix_them():
    splits = [split_store(numbered_store(30, seed), 0.2, 4, 3) for seed in (0, 1)]
    windows = ValidationWindows(splits, **LENGTHS, max_windows=10)
    assert np.bincount(windows.windows[:, 0]).tolist() == [5, 5]
    indices = [9, 0, 4, 5]
    for index, history, context, target in zip(indices, windows.histories(indices), *windows.batch(indices)):
        dataset, series, start, _ = windows.windows[index]
        values = splits[dataset].store.target(series)
        np.testing.assert_array_equal(target, values[start : start + 4])
        np.testing.assert_array_equal(context[~np.isnan(context)], values[max(0, start - 8) : start])
        np.testing.assert_array_equal(history, values[:start])


def test_windows_without_a_known_history_or_target_are_left_out():
    missing_start = np.concatenate([np.full(30, np.nan), np.arange(10.0)])
    missing_end = np.concatenate([np.arange(30.0), np.full(10, np.nan)])
    splits = [split_store(store_from_arrays([missing_start, missing_end, np.arange(40.0)]), 0.25, 5, 3)]
    windows = ValidationWindows(splits, context_length=8, prediction_length=5, max_windows=100)
    assert windows.windows[:, 1:3].tolist() == [[0, 35], [2, 30], [2, 35]]


def test_a_constant_context_is_not_learnable():
    arrays = [np.arange(40.0), np.r_[np.zeros(32), np.arange(8.0)]]
    windows = ValidationWindows([split_store(store_from_arrays(arrays), 0.2, 4, 3)], **LENGTHS, max_windows=100)
    assert windows.windows[:, 1:3].tolist() == [[0, 32], [0, 36], [1, 32], [1, 36]]
    assert windows.learnable(range(4)) == [0, 1, 3] and windows.learnable([2]) == []


def test_without_a_holdout_there_are_no_windows():
    splits = [split_store(numbered_store(), 0.0, 4, 3)]
    assert len(ValidationWindows(splits, **LENGTHS, max_windows=100)) == 0
