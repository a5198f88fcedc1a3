import pickle

import numpy as np
import pytest
from gluonts.transform import ExpectedNumInstanceSampler

from pipeline.core.errors import UserError
from pipeline.core.series import Series
from pipeline.data.arrow_store import open_store, store_from_arrays, write_store
from pipeline.windows.sampling import SeriesSampler, TrainingWindows, ValidationWindows
from pipeline.windows.splits import split_store

SETTINGS = {"context_length": 12, "prediction_length": 4, "min_past": 3, "drop_prob": 0.0, "seed": 0}


def store(n_series=9, seed=0, offset=0.0):
    """Series whose every value tells which series and which step it is."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(20, 60, n_series)
    return store_from_arrays([offset + 1000.0 * (k + 1) + np.arange(length) for k, length in enumerate(lengths)])


def windows_of(*stores, weights=None, test_length=0, validation_split=0.2, **settings):
    settings = {**SETTINGS, **settings}
    splits = [
        split_store(one, validation_split, settings["prediction_length"], settings["min_past"], test_length)
        for one in stores
    ]
    return training_windows(splits, weights or [1.0] * len(stores), **settings)


def training_windows(splits, weights, *, min_past, **settings):
    return TrainingWindows([SeriesSampler(split, min_past) for split in splits], weights, **settings)


def place(context, target):
    """Which series and which forecast start a window of `store()` shows."""
    last = context[~np.isnan(context)][-1]
    return int(last // 1000) - 1, int(last % 1000) + 1


def test_a_window_is_what_a_plain_loop_cuts_at_its_place():
    series, windows = store(), windows_of(store())
    ends = windows.sources[0].split.train_ends
    context, target = windows.batch(range(500))
    assert context.shape == (500, 12) and target.shape == (500, 4) and context.dtype == np.float32
    for one, ahead in zip(context, target):
        k, start = place(one, ahead)
        assert 3 <= start < ends[k]
        expected_context = [series.target(k)[step] if step >= 0 else np.nan for step in range(start - 12, start)]
        expected_target = [series.target(k)[step] if step < ends[k] else np.nan for step in range(start, start + 4)]
        np.testing.assert_array_equal(one, np.array(expected_context, np.float32))
        np.testing.assert_array_equal(ahead, np.array(expected_target, np.float32))


def seen(values):
    return set(values[~np.isnan(values)].tolist())


@pytest.mark.parametrize("test_length", [0, 7])
def test_training_windows_are_found_in_the_training_steps_by_search_and_nowhere_else(test_length):
    """Values repeat nowhere, so that a search through all series tells where a window lies."""
    rng = np.random.default_rng(5)
    arrays = [rng.normal(10.0 * k, 1.0, int(rng.integers(25, 50))).astype(np.float32) for k in range(6)]
    arrays[2][rng.random(len(arrays[2])) < 0.3] = np.nan
    windows = windows_of(store_from_arrays(arrays), test_length=test_length)
    context, target = windows.batch(range(400))
    for one, ahead in zip(context, target):
        row = np.concatenate([one, ahead])
        places = []
        for k, array in enumerate(arrays):
            end = windows.sources[0].split.train_ends[k]
            assert end <= len(array) - test_length - min(4, (len(array) - test_length) // 2)
            padded = np.concatenate([np.full(12, np.nan), array[:end], np.full(4, np.nan)]).astype(np.float32)
            for start in range(3, end):
                if np.array_equal(padded[start : start + 16], row, equal_nan=True):
                    places.append((k, start))
        assert len(places) == 1


def test_training_windows_validation_targets_and_test_steps_share_nothing():
    splits = [split_store(store(), 0.3, 4, 3, test_length=5)]
    training = training_windows(splits, [1.0], **SETTINGS)
    trained = set().union(*map(seen, training.batch(range(3000))))
    held = ValidationWindows(splits, context_length=12, prediction_length=4, max_windows=10**6)
    history, ahead = held.batch(range(len(held)))
    tested = set(np.concatenate([store().target(k)[-5:] for k in range(9)]).tolist())
    assert trained and seen(ahead) and not trained & (seen(ahead) | tested)
    assert not (seen(history) | seen(ahead)) & tested


def test_windows_of_a_file_are_those_of_memory(tmp_path):
    arrays = [store().target(k) for k in range(9)]
    write_store(tmp_path / "s.arrow", (Series(str(k), np.datetime64(k, "s"), "D", one) for k, one in enumerate(arrays)))
    mapped = windows_of(open_store(tmp_path / "s.arrow"), drop_prob=0.2)
    for ours, theirs in zip(mapped.batch(range(100)), windows_of(store(), drop_prob=0.2).batch(range(100))):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(pickle.loads(pickle.dumps(mapped)).batch(range(100)), mapped.batch(range(100))):
        np.testing.assert_array_equal(ours, theirs)


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


def test_series_come_as_often_as_gluonts_draws_them_and_starts_uniformly():
    windows = windows_of(store())
    context, target = windows.batch(range(18_000))
    series, starts = np.array([place(one, ahead) for one, ahead in zip(context, target)]).T
    counts = np.bincount(series, minlength=9)
    sampler = ExpectedNumInstanceSampler(num_instances=1.0, min_instances=1)
    np.random.seed(0)
    lengths = windows.sources[0].split.train_ends
    theirs = np.sum([[len(sampler(np.zeros(length - 1))) for length in lengths] for _ in range(4000)], axis=0)
    share = theirs / theirs.sum()
    assert share.max() > 1.4 * share.min()
    assert np.abs(counts - 18_000 * share).max() < 6 * np.sqrt(2000)
    end = windows.sources[0].split.train_ends[0]
    of_first = np.bincount(starts[series == 0], minlength=end)[3:end]
    expected = counts[0] / (end - 3)
    assert np.abs(of_first - expected).max() < 5 * np.sqrt(expected)


def test_stores_are_drawn_by_weight():
    windows = windows_of(store(), store(offset=500_000.0), weights=[3.0, 1.0])
    context, _ = windows.batch(range(8000))
    second = (np.nanmax(context, axis=1) > 500_000).sum()
    assert abs(second - 2000) < 5 * np.sqrt(8000 * 0.25 * 0.75)


def test_weights_are_kept_where_one_store_has_many_windows_to_draw_again():
    noise = np.random.default_rng(0).normal(size=1000)
    half_flat = np.where(np.arange(1000) < 500, 0.0, noise)
    windows = windows_of(store_from_arrays([half_flat]), store_from_arrays([noise + 1e4]), validation_split=0.0)
    context, _ = windows.batch(range(4000))
    first = (np.nanmean(context, axis=1) < 5000).sum()
    assert abs(first - 2000) < 5 * np.sqrt(4000 * 0.25)


def test_windows_of_series_that_are_unusable_are_never_drawn():
    good = store().target(0)
    arrays = [np.full(50, 7.0), good, np.full(50, np.nan), good[:4] + 5000, good + 9000]
    context, _ = windows_of(store_from_arrays(arrays)).batch(range(500))
    assert {int(value // 1000) for value in seen(context)} == {1, 10}


def test_without_dropping_only_missing_steps_are_missing():
    context, target = windows_of(store()).batch(range(1000))
    for one, ahead in zip(context, target):
        known = np.flatnonzero(~np.isnan(one))
        assert known[-1] == len(one) - 1 and len(known) == len(one) - known[0]
        assert not np.isnan(ahead[: np.count_nonzero(~np.isnan(ahead))]).any()


def test_dropping_takes_a_uniform_share_of_each_window_and_moves_none():
    settings = {"context_length": 200, "prediction_length": 50, "min_past": 200, "validation_split": 0.0}
    long = store_from_arrays([np.random.default_rng(k).normal(size=600) for k in range(3)])
    whole = np.concatenate(windows_of(long, **settings).batch(range(2000)), axis=1)
    some = np.concatenate(windows_of(long, drop_prob=0.5, **settings).batch(range(2000)), axis=1)
    unbounded = ~np.isnan(whole).any(axis=1)
    whole, some = whole[unbounded], some[unbounded]
    kept = ~np.isnan(some)
    np.testing.assert_array_equal(some[kept], whole[kept])
    lost = 1 - kept[:, :200].mean(axis=1)
    assert abs(lost.mean() - 0.25) < 0.02 and 0.4 < lost.max() < 0.62 and lost.min() < 0.02
    quarters = np.histogram(lost, bins=[0, 0.125, 0.25, 0.375, 0.5])[0] / len(lost)
    assert np.abs(quarters - 0.25).max() < 0.06


def test_dropped_steps_are_drawn_anew_for_every_window():
    long = store_from_arrays([np.random.default_rng(0).normal(size=600)])
    settings = {"context_length": 200, "min_past": 200, "drop_prob": 0.5, "validation_split": 0.0}
    missing = np.isnan(windows_of(long, **settings).batch(range(300))[0])
    missing = missing[missing.mean(axis=1) > 0.1].astype(float)
    correlation = np.corrcoef(missing)[np.triu_indices(len(missing), 1)]
    assert np.abs(correlation.mean()) < 0.01 and correlation.max() < 0.5
    assert missing.mean(axis=0).min() > 0.15


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
    windows = windows_of(store_from_arrays([flat_start, gone, cliff, -cliff]), validation_split=0.0)
    context, target = windows.batch(range(3000))
    assert (np.nanmin(context, axis=1) < np.nanmax(context, axis=1)).all()
    assert not np.isnan(target).all(axis=1).any()
    distance = np.nanmax(np.abs(target - np.nanmean(context, axis=1)[:, None]), axis=1)
    assert (distance <= 101 * np.nanstd(context, axis=1)).all()


def test_a_constant_context_never_comes_out_however_few_are_not():
    flat = np.zeros(1000)
    flat[-40:] = np.arange(40)
    context, target = windows_of(store_from_arrays([flat]), validation_split=0.0).batch(range(300))
    assert (np.nanmin(context, axis=1) < np.nanmax(context, axis=1)).all()
    assert not np.isnan(target).all(axis=1).any()


def test_a_series_that_changes_only_at_its_last_training_step_is_constant():
    peak = np.zeros(40)
    peak[-1] = 1.0
    assert split_store(store_from_arrays([peak]), 0.0, 4, 3).unusable == {"constant": [0]}


def test_an_infinite_value_is_refused_by_its_series():
    with pytest.raises(UserError, match="series 1 holds an infinite value"):
        split_store(store_from_arrays([np.arange(20.0), np.append(np.inf, np.arange(19.0))]), 0.2, 4, 3)


def test_series_whose_squares_float32_cannot_hold_are_told_apart():
    rising = np.arange(20.0)
    split = split_store(store_from_arrays([rising * 1e-20, rising * 1e-15, rising * 1e16]), 0.2, 4, 3)
    assert (split.usable.tolist(), split.unusable) == ([1, 2], {"nowhere above 1e-18": [0]})
    with pytest.raises(UserError, match="series 1 holds a value beyond 1e"):
        split_store(store_from_arrays([rising, rising * 1e17]), 0.2, 4, 3)


def test_a_rare_window_that_can_be_learned_from_is_found():
    late = np.concatenate([np.zeros(1000), np.arange(30.0)])
    context, target = windows_of(store_from_arrays([late]), validation_split=0.0).batch(range(50))
    assert (np.nanmax(context, axis=1) > 0).all() and not np.isnan(target).all(axis=1).any()


def test_columns_that_are_padding_everywhere_are_left_out():
    context, _ = windows_of(store(), context_length=500).batch(range(50))
    assert context.shape[1] < 60 and not np.isnan(context[:, 0]).all()


def test_unusable_series_are_named_by_their_reason():
    arrays = [np.arange(40.0), np.full(40, 2.0), np.full(40, np.nan), np.arange(4.0), np.empty(0)]
    split = split_store(store_from_arrays(arrays), 0.2, 4, 3)
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
    parted = split_store(store_from_arrays([np.arange(float(length))]), split, 8, 1, test_length)
    assert parted.train_ends.tolist() == [expected] and parted.ends.tolist() == [length - test_length]


@pytest.mark.parametrize("max_windows, horizons", [(1000, 10), (24, 8), (22, 8), (3, 1), (1, 1)])
def test_no_more_is_held_out_than_validation_takes(max_windows, horizons):
    parted = split_store(store_from_arrays([np.arange(400.0)] * 3), 0.2, 8, 1, max_windows=max_windows)
    assert parted.train_ends.tolist() == [400 - 8 * horizons] * 3


@pytest.mark.parametrize("test_length", [0, 7])
def test_validation_windows_are_whole_horizons_aligned_to_the_end(test_length):
    series = store_from_arrays([1000.0 + np.arange(60), 2000.0 + np.arange(41), 3000.0 + np.arange(9)])
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


def test_the_cap_is_shared_among_the_data_sets():
    splits = [split_store(store(30), 0.2, 4, 3), split_store(store(30, seed=1), 0.2, 4, 3)]
    some = ValidationWindows(splits, context_length=8, prediction_length=4, max_windows=10)
    assert np.bincount(some.windows[:, 0]).tolist() == [5, 5]
    context, target = some.batch([9, 0, 4, 5])
    for row, index in enumerate([9, 0, 4, 5]):
        which, series, start, end = some.windows[index]
        values = splits[which].store.target(series)
        np.testing.assert_array_equal(target[row], values[start : start + 4])
        np.testing.assert_array_equal(context[row][~np.isnan(context[row])], values[max(0, start - 8) : start])
        np.testing.assert_array_equal(some.history(index), values[:start])


def test_validation_windows_without_anything_known_are_left_out():
    late = np.concatenate([np.full(30, np.nan), np.arange(10.0)])
    gone = np.concatenate([np.arange(30.0), np.full(10, np.nan)])
    splits = [split_store(store_from_arrays([late, gone, np.arange(40.0)]), 0.25, 5, 3)]
    windows = ValidationWindows(splits, context_length=8, prediction_length=5, max_windows=100)
    assert windows.windows[:, 1:3].tolist() == [[0, 35], [2, 30], [2, 35]]


def test_nothing_held_out_gives_no_validation_windows():
    splits = [split_store(store(), 0.0, 4, 3)]
    assert len(ValidationWindows(splits, context_length=8, prediction_length=4, max_windows=100)) == 0


def test_an_epoch_covers_every_training_step_once():
    windows = windows_of(store())
    assert windows.windows_per_epoch() == -(-windows.sources[0].split.train_ends.sum() // 4)


def test_what_is_held_out_is_drawn_from_when_training_goes_to_the_end():
    """One series is all zeros until its held-out steps, and one too short without them."""
    series = [np.r_[np.zeros(30), np.arange(10.0)], np.arange(8.0), np.r_[np.arange(40.0), np.full(5, 1000.0)]]
    split = split_store(store_from_arrays(series), 0.25, 4, min_past=6, test_length=0)
    everything = split.include_holdout()
    assert split.usable.tolist() == [2] and everything.usable.tolist() == [0, 1, 2]
    windows = TrainingWindows(
        [SeriesSampler(split, 6)], [1.0], context_length=40, prediction_length=4, drop_prob=0.0, seed=0
    )
    more = windows.include_holdout()
    assert np.nanmax(windows.batch(range(200))[1]) < 1000 and np.nanmax(more.batch(range(200))[1]) == 1000
    assert more.include_holdout() is None


def test_an_infinite_value_among_held_out_steps_is_refused_at_once():
    with pytest.raises(UserError, match="series 0 holds an infinite value"):
        split_store(store_from_arrays([np.r_[np.arange(30.0), np.inf, 1.0, 2.0, 3.0]]), 0.1, 4, min_past=6)
