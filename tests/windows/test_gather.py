"""The rule for windows that a model can learn from, and the last windows of series."""

import numpy as np
import pytest

from pipeline.windows.gather import copy_windows, last_windows, learnable_windows

NAN = float("nan")
NOISE = np.random.default_rng(0).normal(size=50)


@pytest.mark.parametrize(
    "context, target, expected",
    [
        (NOISE, [NAN, 1.0], True),
        (NOISE, [NAN, NAN], False),
        (np.full(50, 3.0), [1.0, 2.0], False),
        (np.full(50, NAN), [1.0, 2.0], False),
        (np.r_[NOISE, NAN], [NOISE.mean() + 99 * NOISE.std(), 0.0], True),
        (np.r_[NOISE, NAN], [NOISE.mean() + 101 * NOISE.std(), 0.0], False),
        (NOISE, [NOISE.mean() - 99 * NOISE.std(), 0.0], True),
        (NOISE, [NOISE.mean() - 101 * NOISE.std(), 0.0], False),
    ],
)
def test_a_learnable_window_varies_and_has_known_targets_within_100_deviations(context, target, expected):
    context, target = np.asarray(context, np.float32), np.asarray(target, np.float32)
    assert learnable_windows(context[None, None], target[None, None], 1).tolist() == [expected]


def test_one_learnable_target_is_enough_and_covariates_do_not_count():
    context = np.stack([np.zeros(50), NOISE, NOISE])[None].astype(np.float32)
    target = np.zeros((1, 3, 2), np.float32)
    assert [bool(learnable_windows(context, target, n_targets)[0]) for n_targets in (1, 2)] == [False, True]


def test_the_last_window_of_a_short_series_keeps_its_minimum_history():
    values = np.arange(20, dtype=np.float32).reshape(2, 10)
    context, target = last_windows(values, np.array([10, 5]), 4, context_length=6, prediction_length=3)
    np.testing.assert_array_equal(context, [[1, 2, 3, 4, 5, 6], [NAN, NAN, 10, 11, 12, 13]])
    np.testing.assert_array_equal(target, [[7, 8, 9], [14, NAN, NAN]])


def test_a_window_that_starts_after_its_known_steps_and_its_context_has_no_value():
    values, zeros = np.arange(100, dtype=np.float32), np.zeros(3, np.int64)
    context, target = copy_windows(values, zeros, np.array([50, 50, 50]), np.array([40, 47, 52]), 8, 4)
    np.testing.assert_array_equal(context[1:], [[*range(42, 47), NAN, NAN, NAN], range(42, 50)])
    np.testing.assert_array_equal(target[2], [50, 51, NAN, NAN])
    assert np.isnan(context[0]).all() and np.isnan(target[:2]).all()
