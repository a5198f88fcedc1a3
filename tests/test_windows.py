import numpy as np
import pytest

from pipeline.arrow_store import store_of_arrays
from pipeline.windows import TrainingWindows, ValidationWindows, split_store

SETTINGS = {"context_length": 12, "prediction_length": 4, "min_past": 3, "drop_prob": 0.0, "seed": 0}


def store(n_series=9, seed=0, offset=0.0):
    """Series whose every value tells which series and which step it is."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(20, 60, n_series)
    return store_of_arrays([offset + 1000.0 * (k + 1) + np.arange(length) for k, length in enumerate(lengths)])


def windows_of(*stores, weights=None, test_length=0, validation_split=0.2, **settings):
    settings = {**SETTINGS, **settings}
    splits = [
        split_store(one, validation_split, settings["prediction_length"], settings["min_past"], test_length)
        for one in stores
    ]
    return TrainingWindows(splits, weights or [1.0] * len(stores), **settings)


def place(context, target):
    """Which series and which forecast start a window of `store()` shows."""
    last = context[~np.isnan(context)][-1]
    return int(last // 1000) - 1, int(last % 1000) + 1


def test_a_window_is_what_a_plain_loop_cuts_at_its_place():
    series, windows = store(), windows_of(store())
    ends = windows.splits[0].train_ends
    context, target = windows.batch(range(500))
    assert context.shape == (500, 12) and target.shape == (500, 4) and context.dtype == np.float32
    for one, ahead in zip(context, target):
        k, start = place(one, ahead)
        assert 3 <= start < ends[k]
        expected_context = [series.target(k)[step] if step >= 0 else np.nan for step in range(start - 12, start)]
        expected_target = [series.target(k)[step] if step < ends[k] else np.nan for step in range(start, start + 4)]
        np.testing.assert_array_equal(one, np.array(expected_context, np.float32))
        np.testing.assert_array_equal(ahead, np.array(expected_target, np.float32))


def test_window_i_depends_on_the_seed_and_i_alone():
    windows = windows_of(store(), drop_prob=0.3)
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
    other = windows_of(store(), drop_prob=0.3, seed=1).batch(range(64))[1]
    assert not np.array_equal(other, target, equal_nan=True)


def test_indices_far_apart_give_windows_too():
    context, _ = windows_of(store()).batch([0, 2**40, 2**62])
    assert len({place(one, None) for one in context}) > 1


def test_series_and_starts_are_drawn_uniformly():
    windows = windows_of(store())
    context, target = windows.batch(range(18_000))
    series, starts = np.array([place(one, ahead) for one, ahead in zip(context, target)]).T
    counts = np.bincount(series, minlength=9)
    assert np.abs(counts - 2000).max() < 5 * np.sqrt(2000)
    end = windows.splits[0].train_ends[0]
    of_first = np.bincount(starts[series == 0], minlength=end)[3:end]
    expected = counts[0] / (end - 3)
    assert np.abs(of_first - expected).max() < 5 * np.sqrt(expected)


def test_stores_are_drawn_by_weight():
    windows = windows_of(store(), store(offset=500_000.0), weights=[3.0, 1.0])
    context, _ = windows.batch(range(8000))
    second = (np.nanmax(context, axis=1) > 500_000).sum()
    assert abs(second - 2000) < 5 * np.sqrt(8000 * 0.25 * 0.75)


def test_dropped_values_are_a_share_between_none_and_the_limit():
    whole, _ = windows_of(store()).batch(range(4000))
    assert not np.isnan(whole[:, -3:]).any()
    context, target = windows_of(store(), drop_prob=0.4).batch(range(4000))
    shares = np.isnan(context[:, -3:]).mean(), np.isnan(target[:, 0]).mean()
    # On average half the limit; windows left with one distinct value or no target are drawn again, so a little less.
    assert all(0.15 < share < 0.22 for share in shares)


def test_no_window_can_ruin_a_scaled_loss():
    flat_start = np.concatenate([np.zeros(30), np.random.default_rng(0).normal(size=30)])
    gone = np.concatenate([np.full(40, np.nan), np.arange(20.0)])
    cliff = np.concatenate([1e-6 * np.arange(30), np.full(30, 1e6)])
    windows = windows_of(store_of_arrays([flat_start, gone, cliff]), validation_split=0.0)
    context, target = windows.batch(range(3000))
    assert (np.nanmin(context, axis=1) < np.nanmax(context, axis=1)).all()
    assert not np.isnan(target).all(axis=1).any()
    distance = np.nanmax(np.abs(target - np.nanmean(context, axis=1)[:, None]), axis=1)
    assert (distance <= 101 * np.nanstd(context, axis=1)).all()


def test_columns_that_are_padding_everywhere_are_left_out():
    context, _ = windows_of(store(), context_length=500).batch(range(50))
    assert context.shape[1] < 60 and not np.isnan(context[:, 0]).all()


def test_unusable_series_are_named_by_their_reason():
    arrays = [np.arange(40.0), np.full(40, 2.0), np.full(40, np.nan), np.arange(4.0), np.empty(0)]
    split = split_store(store_of_arrays(arrays), 0.2, 4, 3)
    assert split.usable.tolist() == [0]
    assert {reason.split()[0]: series for reason, series in split.unusable.items()} == {
        "shorter": [3, 4],
        "without": [2],
        "constant": [1],
    }


@pytest.mark.parametrize(
    "length, split, test_length, expected",
    [(100, 0.2, 0, 80), (100, 0.2, 10, 72), (100, 0.01, 0, 92), (10, 0.2, 0, 5), (100, 0.0, 0, 100), (12, 0.9, 4, 4)],
)
def test_what_is_held_out(length, split, test_length, expected):
    parted = split_store(store_of_arrays([np.arange(float(length))]), split, 8, 1, test_length)
    assert parted.train_ends.tolist() == [expected] and parted.ends.tolist() == [length - test_length]


@pytest.mark.parametrize("test_length", [0, 7])
def test_validation_windows_are_whole_horizons_aligned_to_the_end(test_length):
    series = store_of_arrays([1000.0 + np.arange(60), 2000.0 + np.arange(41), 3000.0 + np.arange(9)])
    splits = [split_store(series, 0.3, 5, 2, test_length)]
    windows = ValidationWindows(splits, context_length=200, prediction_length=5, max_windows=100)
    expected = []
    for k, length in enumerate((60, 41, 9)):
        end, begin = splits[0].ends[k], splits[0].train_ends[k]
        if end - begin < 5:
            expected += [(k, begin)] if end > begin else []
        else:
            expected += [(k, start) for start in range(end - (end - begin) // 5 * 5, end, 5)]
    assert [(series, start) for _, series, start, _ in windows.windows.tolist()] == expected
    context, target = windows.batch(range(len(windows)))
    for index, (k, start) in enumerate(expected):
        history = windows.history(index)
        np.testing.assert_array_equal(history, series.target(k)[:start])
        np.testing.assert_array_equal(context[index][-start:], history)
        known = target[index][~np.isnan(target[index])]
        np.testing.assert_array_equal(known, series.target(k)[start : min(start + 5, splits[0].ends[k])])


def test_too_many_validation_windows_are_spread_evenly():
    splits = [split_store(store(30), 0.2, 4, 3)]
    everything = ValidationWindows(splits, context_length=8, prediction_length=4, max_windows=10**6)
    some = ValidationWindows(splits, context_length=8, prediction_length=4, max_windows=10)
    assert len(some) == 10 and len(set(some.windows[:, 1])) == 10 and len(everything) > 30
    assert (some.windows[0] == everything.windows[0]).all() and (some.windows[-1] == everything.windows[-1]).all()


def test_an_epoch_covers_every_training_step_once():
    windows = windows_of(store())
    assert windows.windows_per_epoch() == -(-windows.splits[0].train_ends.sum() // 4)
