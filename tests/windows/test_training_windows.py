"""Training windows of real series: a pure function of (seed, i), drawn as GluonTS draws them."""

import pickle
from typing import Any

import numpy as np
import pytest
from gluonts.transform import ExpectedNumInstanceSampler
from support.windows import known_values, numbered_store, series_windows

from pipeline.core.series import Series
from pipeline.data.arrow_store import open_store, store_from_arrays, write_store
from pipeline.windows.samplers import SeriesSampler
from pipeline.windows.splits import split_store
from pipeline.windows.training_windows import TrainingWindows
from pipeline.windows.validation_windows import ValidationWindows


def series_and_start(context):
    """Return the series and the forecast start of a window of a numbered store."""
    last = context[~np.isnan(context)][-1]
    return int(last // 1000) - 1, int(last % 1000) + 1


def test_a_window_equals_the_slice_of_its_series():
    series, windows = numbered_store(), series_windows(numbered_store())
    ends = windows.samplers[0].split.train_ends
    contexts, targets = windows.batch(range(500))
    assert contexts.shape == (500, 12) and targets.shape == (500, 4) and contexts.dtype == np.float32
    for context, target in zip(contexts, targets):
        k, start = series_and_start(context)
        assert 3 <= start < ends[k]
        past = [series.target(k)[step] if step >= 0 else np.nan for step in range(start - 12, start)]
        future = [series.target(k)[step] if step < ends[k] else np.nan for step in range(start, start + 4)]
        np.testing.assert_array_equal(context, np.array(past, np.float32))
        np.testing.assert_array_equal(target, np.array(future, np.float32))


@pytest.mark.parametrize("test_length", [0, 7])
def test_each_window_is_at_one_position_of_the_training_steps(test_length):
    """No value occurs twice, so a search through all series finds the position of a window."""
    rng = np.random.default_rng(5)
    arrays = [rng.normal(10.0 * k, 1.0, int(rng.integers(25, 50))).astype(np.float32) for k in range(6)]
    arrays[2][rng.random(len(arrays[2])) < 0.3] = np.nan
    windows = series_windows(store_from_arrays(arrays), test_length=test_length)
    candidates = []
    for k, array in enumerate(arrays):
        end = windows.samplers[0].split.train_ends[k]
        assert end <= len(array) - test_length - min(4, (len(array) - test_length) // 2)
        padded = np.concatenate([np.full(12, np.nan), array[:end], np.full(4, np.nan)]).astype(np.float32)
        candidates += [padded[start : start + 16] for start in range(3, end)]
    stacked = np.stack(candidates)
    for row in np.concatenate(windows.batch(range(400)), axis=1):
        is_equal = (stacked == row) | (np.isnan(stacked) & np.isnan(row))
        assert is_equal.all(axis=1).sum() == 1


def test_training_validation_and_test_steps_are_disjoint():
    store = numbered_store()
    split = split_store(store, 0.3, 4, 3, test_length=5)
    lengths: dict[str, Any] = {"context_length": 12, "prediction_length": 4}
    training = TrainingWindows([SeriesSampler(split)], [1.0], **lengths, drop_prob=0.0, seed=0)
    trained = set().union(*map(known_values, training.batch(range(3000))))
    validation = ValidationWindows([split], **lengths, max_windows=10**6)
    history, target = validation.batch(range(len(validation)))
    tested = set(np.concatenate([store.target(k)[-5:] for k in range(9)]).tolist())
    assert trained and known_values(target) and not trained & (known_values(target) | tested)
    assert not (known_values(history) | known_values(target)) & tested


def test_windows_of_a_file_and_of_a_pickle_equal_those_of_memory(tmp_path):
    arrays = [numbered_store().target(k) for k in range(9)]
    series = (Series(str(k), np.datetime64(k, "s"), "D", array) for k, array in enumerate(arrays))
    write_store(tmp_path / "s.arrow", series)
    mapped = series_windows(open_store(tmp_path / "s.arrow"), drop_prob=0.2)
    expected = series_windows(numbered_store(), drop_prob=0.2).batch(range(100))
    for windows in (mapped, pickle.loads(pickle.dumps(mapped))):
        for part, expected_part in zip(windows.batch(range(100)), expected):
            np.testing.assert_array_equal(part, expected_part)


def test_window_i_depends_on_the_seed_and_i_only():
    windows = series_windows(numbered_store(), drop_prob=0.3)
    context, target = windows.batch(range(64))
    order = np.random.default_rng(0).permutation(64)
    shuffled, shuffled_target = windows.batch(order)
    np.testing.assert_array_equal(shuffled, context[order])
    np.testing.assert_array_equal(shuffled_target, target[order])
    for index in (0, 7, 63):
        alone, alone_target = windows.batch([index])
        np.testing.assert_array_equal(alone[0], context[index, -alone.shape[1] :])
        assert np.isnan(context[index, : -alone.shape[1]]).all()
        np.testing.assert_array_equal(alone_target[0], target[index])
    other = series_windows(numbered_store(), drop_prob=0.3, seed=1).batch(range(64))[1]
    assert not np.array_equal(other, target, equal_nan=True)


def test_any_64_bit_index_has_a_window():
    context, _ = series_windows(numbered_store()).batch([0, 2**40, 2**62])
    assert len(set(map(series_and_start, context))) > 1


def test_series_are_drawn_as_often_as_by_gluonts_and_starts_uniformly():
    windows = series_windows(numbered_store())
    context, _ = windows.batch(range(18_000))
    series, starts = np.array([series_and_start(row) for row in context]).T
    counts = np.bincount(series, minlength=9)
    sampler = ExpectedNumInstanceSampler(num_instances=1.0, min_instances=1)
    np.random.seed(0)
    lengths = windows.samplers[0].split.train_ends
    drawn = np.sum([[len(sampler(np.zeros(length - 1))) for length in lengths] for _ in range(4000)], axis=0)
    expected_share = drawn / drawn.sum()
    assert expected_share.max() > 1.4 * expected_share.min()
    assert np.abs(counts - 18_000 * expected_share).max() < 6 * np.sqrt(2000)
    end = lengths[0]
    start_counts = np.bincount(starts[series == 0], minlength=end)[3:end]
    expected_count = counts[0] / (end - 3)
    assert np.abs(start_counts - expected_count).max() < 5 * np.sqrt(expected_count)


def test_stores_are_drawn_by_weight():
    windows = series_windows(numbered_store(), numbered_store(offset=500_000.0), weights=[3.0, 1.0])
    context, _ = windows.batch(range(8000))
    n_second = (np.nanmax(context, axis=1) > 500_000).sum()
    assert abs(n_second - 2000) < 5 * np.sqrt(8000 * 0.25 * 0.75)


def test_redrawn_windows_keep_the_weights_of_their_stores():
    noise = np.random.default_rng(0).normal(size=1000)
    half_constant = np.where(np.arange(1000) < 500, 0.0, noise)
    stores = store_from_arrays([half_constant]), store_from_arrays([noise + 1e4])
    context, _ = series_windows(*stores, validation_split=0.0).batch(range(4000))
    n_first = (np.nanmean(context, axis=1) < 5000).sum()
    assert abs(n_first - 2000) < 5 * np.sqrt(4000 * 0.25)


def test_unusable_series_are_not_drawn():
    usable = numbered_store().target(0)
    arrays = [np.full(50, 7.0), usable, np.full(50, np.nan), usable[:4] + 5000, usable + 9000]
    context, _ = series_windows(store_from_arrays(arrays)).batch(range(500))
    assert {int(value // 1000) for value in known_values(context)} == {1, 10}


def test_without_dropping_only_padding_is_missing():
    for context, target in zip(*series_windows(numbered_store()).batch(range(1000))):
        known = np.flatnonzero(~np.isnan(context))
        assert known[-1] == len(context) - 1 and len(known) == len(context) - known[0]
        assert not np.isnan(target[: np.count_nonzero(~np.isnan(target))]).any()


def test_a_uniform_share_of_each_window_is_dropped_and_the_rest_is_unchanged():
    settings = {"context_length": 200, "prediction_length": 50, "min_past": 200, "validation_split": 0.0}
    noise = store_from_arrays([np.random.default_rng(k).normal(size=600) for k in range(3)])
    complete = np.concatenate(series_windows(noise, **settings).batch(range(2000)), axis=1)
    dropped = np.concatenate(series_windows(noise, drop_prob=0.5, **settings).batch(range(2000)), axis=1)
    has_no_padding = ~np.isnan(complete).any(axis=1)
    complete, dropped = complete[has_no_padding], dropped[has_no_padding]
    kept = ~np.isnan(dropped)
    np.testing.assert_array_equal(dropped[kept], complete[kept])
    share = 1 - kept[:, :200].mean(axis=1)
    assert abs(share.mean() - 0.25) < 0.02 and 0.4 < share.max() < 0.62 and share.min() < 0.02
    quarters = np.histogram(share, bins=[0, 0.125, 0.25, 0.375, 0.5])[0] / len(share)
    assert np.abs(quarters - 0.25).max() < 0.06


def test_dropped_steps_differ_between_windows():
    noise = store_from_arrays([np.random.default_rng(0).normal(size=600)])
    settings = {"context_length": 200, "min_past": 200, "drop_prob": 0.5, "validation_split": 0.0}
    missing = np.isnan(series_windows(noise, **settings).batch(range(300))[0])
    missing = missing[missing.mean(axis=1) > 0.1].astype(float)
    correlation = np.corrcoef(missing)[np.triu_indices(len(missing), 1)]
    assert np.abs(correlation.mean()) < 0.01 and correlation.max() < 0.5
    assert missing.mean(axis=0).min() > 0.15


def test_half_of_drop_prob_is_dropped_on_average_from_context_and_target():
    complete, _ = series_windows(numbered_store()).batch(range(4000))
    assert not np.isnan(complete[:, -3:]).any()
    context, target = series_windows(numbered_store(), drop_prob=0.4).batch(range(4000))
    # A little less than half: windows with a constant context or no target are drawn again.
    assert all(0.15 < share < 0.22 for share in (np.isnan(context[:, -3:]).mean(), np.isnan(target[:, 0]).mean()))


def test_windows_that_no_scaled_loss_can_learn_from_are_not_drawn():
    constant_start = np.concatenate([np.zeros(30), np.random.default_rng(0).normal(size=30)])
    missing_start = np.concatenate([np.full(40, np.nan), np.arange(20.0)])
    jump = np.concatenate([1e-6 * np.arange(30), np.full(30, 1e6)])
    store = store_from_arrays([constant_start, missing_start, jump, -jump])
    context, target = series_windows(store, validation_split=0.0).batch(range(3000))
    assert (np.nanmin(context, axis=1) < np.nanmax(context, axis=1)).all()
    assert not np.isnan(target).all(axis=1).any()
    distance = np.nanmax(np.abs(target - np.nanmean(context, axis=1)[:, None]), axis=1)
    assert (distance <= 101 * np.nanstd(context, axis=1)).all()


def test_rare_learnable_windows_are_found():
    mostly_constant = np.concatenate([np.zeros(1000), np.arange(30.0)])
    context, target = series_windows(store_from_arrays([mostly_constant]), validation_split=0.0).batch(range(300))
    assert (np.nanmin(context, axis=1) < np.nanmax(context, axis=1)).all()
    assert not np.isnan(target).all(axis=1).any()


def test_the_target_is_masked_if_no_window_is_learnable():
    """The only forecast start with three steps before it is at the jump."""
    windows = series_windows(store_from_arrays([np.array([1.0, 2.0, 3.0, 1e9])]), validation_split=0.0)
    context, target = windows.batch([0, 1])
    np.testing.assert_array_equal(context, [[1.0, 2.0, 3.0]] * 2)
    assert np.isnan(target).all()


def test_common_padding_is_removed():
    context, _ = series_windows(numbered_store(), context_length=500).batch(range(50))
    assert context.shape[1] < 60 and not np.isnan(context[:, 0]).all()


def test_an_epoch_covers_every_training_step_once():
    windows = series_windows(numbered_store())
    assert windows.windows_per_epoch() == -(-windows.samplers[0].split.train_ends.sum() // 4)


def test_with_the_holdout_its_steps_are_drawn_too():
    """One series is constant before its holdout, and one is too short without it."""
    arrays = [np.r_[np.zeros(30), np.arange(10.0)], np.arange(8.0), np.r_[np.arange(40.0), np.full(5, 1000.0)]]
    windows = series_windows(store_from_arrays(arrays), validation_split=0.25, context_length=40, min_past=6)
    with_holdout = windows.include_holdout()
    assert windows.samplers[0].split.usable.tolist() == [2]
    assert with_holdout.samplers[0].split.usable.tolist() == [0, 1, 2]
    assert np.nanmax(windows.batch(range(200))[1]) < 1000 == np.nanmax(with_holdout.batch(range(200))[1])
    assert with_holdout.include_holdout() is None
