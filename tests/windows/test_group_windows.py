"""Windows of series in groups: drawn together, without each other's targets, as functions of the seed and the index."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.windows import numbered_store, series_windows

from pipeline.core.series import Panel, Series, Variates
from pipeline.data.arrow_store import store_from_arrays, store_from_series
from pipeline.windows.inputs import WindowDataset, input_function
from pipeline.windows.samplers import GroupSampler, SeriesSampler
from pipeline.windows.splits import split_store
from pipeline.windows.training_windows import TrainingWindows
from pipeline.windows.validation_windows import ValidationWindows

LENGTHS: dict[str, Any] = {"context_length": 12, "prediction_length": 4}
CHRONOS = {"output_patch_size": 4}


def grouped_store(n_series=9, sizes=(2, 3, 4), seed=0):
    """Return a numbered store whose series are in groups of these sizes, in a random order."""
    groups = np.random.default_rng(1).permutation(np.repeat(np.arange(len(sizes)), sizes))
    return replace(numbered_store(n_series, seed), groups=groups, group_names=[f"g{k}" for k in range(len(sizes))])


def group_windows(*stores, weights=None, batch_size=8, drop_prob=0.0, seed=0, min_past=3):
    """Return training windows of stores, those with groups drawn together."""
    splits = [split_store(store, 0.2, 4, min_past) for store in stores]
    samplers = [(SeriesSampler if split.store.groups is None else GroupSampler)(split) for split in splits]
    settings = {**LENGTHS, "drop_prob": drop_prob, "seed": seed, "batch_size": batch_size}
    return TrainingWindows(samplers, weights or [1.0] * len(stores), **settings)


def series_and_start(context):
    """Return the series and the forecast start of each window of a numbered store: [n], [n]."""
    last = np.array([row[~np.isnan(row)][-1] for row in context])
    return (last // 1000).astype(int) - 1, (last % 1000).astype(int) + 1


def test_windows_of_a_group_start_together_and_batches_have_whole_groups():
    store = grouped_store()
    windows = group_windows(store, batch_size=16)
    split, n_groups = windows.samplers[0].split, 0
    for number in range(200):
        context, _, groups = windows.grouped_batch(range(16 * number, 16 * number + 16))[:3]
        series, starts = series_and_start(context)
        assert ((3 <= starts) & (starts < split.train_ends[series])).all()
        for group in range(3):  # a fifth of the shortest series of each group
            held_out = (split.ends - split.train_ends)[store.groups == group]
            assert set(held_out) == {max(4, store.lengths[store.groups == group].min() // 5)}
        for group in np.unique(groups):
            members = np.flatnonzero(groups == group)
            assert len(set(store.groups[series[members]])) == len(set((store.lengths[series] - starts)[members])) == 1
            assert len(set(series[members])) == len(members)
            if len(members) == (store.groups == store.groups[series[members[0]]]).sum() > 1:
                n_groups += 1
    assert n_groups > 400


def test_a_series_that_is_too_short_for_its_group_is_drawn_alone():
    arrays = [1000.0 * (k + 1) + np.arange(length) for k, length in enumerate((10, 200))]
    store = replace(store_from_arrays(arrays), groups=np.zeros(2, np.int64), group_names=["g"])
    context, _, groups = group_windows(store, batch_size=2).grouped_batch(range(4000))[:3]
    series, starts = series_and_start(context)
    together = (groups[::2] == groups[1::2]).mean()
    # The long series may start 5 to 197 steps before its end, and the short one 5 to 7: 3 of 193.
    assert 0.005 < together < 0.03
    assert len(np.unique(groups)) == 4000 - round(together * 2000)
    assert set(starts[series == 0]) == {3, 4, 5}


@pytest.mark.parametrize("with_others", [False, True])
def test_a_window_and_its_group_depend_on_the_seed_and_the_index_only(with_others):
    stores = [grouped_store(), numbered_store(5, seed=3, offset=1e6), grouped_store(6, (1, 5), seed=2)]
    windows = group_windows(*stores[: 3 if with_others else 1], batch_size=8, drop_prob=0.3)
    context, target, groups = windows.grouped_batch(range(64))[:3]
    order = np.random.default_rng(0).permutation(64)
    shuffled, shuffled_target, shuffled_groups = windows.grouped_batch(order)[:3]
    np.testing.assert_array_equal(shuffled, context[order])
    np.testing.assert_array_equal(shuffled_target, target[order])
    same = groups[:, None] == groups
    np.testing.assert_array_equal(shuffled_groups[:, None] == shuffled_groups, same[order][:, order])
    for index in (0, 7, 63):
        alone, alone_target, _ = windows.grouped_batch([index])[:3]
        np.testing.assert_array_equal(alone[0], context[index, -alone.shape[1] :])
        np.testing.assert_array_equal(alone_target[0], target[index])
    other = group_windows(*stores[: 3 if with_others else 1], batch_size=8, drop_prob=0.3, seed=1)
    assert not np.array_equal(other.grouped_batch(range(64))[1], target, equal_nan=True)
    assert same.sum() > 64 and not same[:8, 8:].any()


def test_weights_and_lengths_decide_how_often_a_series_is_drawn():
    stores = [grouped_store(), numbered_store(5, seed=3)]
    stores[1] = replace(stores[1], values=stores[1].values + 100_000)
    windows = group_windows(*stores, weights=[3.0, 1.0])
    context, _, _ = windows.grouped_batch(range(16_000))[:3]
    series, _ = series_and_start(context)
    assert (series < 50).mean() == pytest.approx(0.75, abs=0.02)
    counts = np.bincount(series[series < 50], minlength=9)
    alone, _ = series_windows(grouped_store()).batch(range(16_000))
    expected = np.bincount(series_and_start(alone)[0], minlength=9) * 0.75
    # Members of a group are drawn equally often.
    for group in range(3):
        members = stores[0].groups == group
        np.testing.assert_allclose(counts[members], expected[members].mean(), rtol=0.15)


def test_a_group_larger_than_a_batch_gives_each_batch_another_run_of_its_members():
    store = replace(numbered_store(40), groups=np.zeros(40, np.int64), group_names=["all"])
    context, _, groups = group_windows(store, batch_size=8).grouped_batch(range(8 * 300))[:3]
    series, _ = series_and_start(context)
    assert (np.bincount(series, minlength=40) > 30).all()
    assert len({tuple(sorted(batch)) for batch in series.reshape(-1, 8)}) > 30


def test_a_window_that_is_drawn_again_is_of_a_series_alone():
    rng = np.random.default_rng(0)
    arrays = [np.r_[np.zeros(120), rng.normal(size=80)], rng.normal(size=200)]
    store = replace(store_from_arrays(arrays), groups=np.zeros(2, np.int64), group_names=["g"])
    context, _, groups = group_windows(store, batch_size=2).grouped_batch(range(2000))[:3]
    assert (np.nanmax(context, axis=1) > np.nanmin(context, axis=1)).all()
    assert 0.1 < (groups[::2] == groups[1::2]).mean() < 0.4


def test_the_windows_after_the_holdout_is_included_are_of_groups_too():
    with_holdout = group_windows(grouped_store()).include_holdout()
    assert isinstance(with_holdout.samplers[0], GroupSampler)
    groups = with_holdout.grouped_batch(range(8))[2]
    assert groups is not None and len(set(groups)) < 8


def test_the_rows_of_a_group_share_its_id_in_the_inputs():
    variates = Variates(("sold", "returned"), ("visits",))
    rng = np.random.default_rng(0)
    items = [
        Series(f"s{k}", np.datetime64(0, "s"), "D", rng.normal(size=(3, 60)).astype(np.float32), variates, "ab"[k // 3])
        for k in range(6)
    ]
    windows = group_windows(store_from_series(items), batch_size=8)
    inputs = WindowDataset(windows, 800, input_function("chronos-2", CHRONOS, 4, variates)).__getitems__(range(8))
    ids, groups = inputs["group_ids"].reshape(8, 3), windows.grouped_batch(range(8))[2]
    assert (ids == ids[:, :1]).all() and ids.dtype == torch.int64
    np.testing.assert_array_equal(ids[:, 0][:, None] == ids[:, 0], groups[:, None] == groups)
    alone = series_windows(numbered_store(), batch_size=8)
    assert "group_ids" not in WindowDataset(alone, 8, input_function("chronos-2", CHRONOS, 4)).__getitems__(range(8))


def validation_windows(store, max_windows=10**6, batch_size=4, cross_learning=False):
    settings = {**LENGTHS, "max_windows": max_windows, "batch_size": batch_size, "cross_learning": cross_learning}
    return ValidationWindows([split_store(store, 0.4, 4, 3)], **settings)


@pytest.mark.parametrize("cross_learning", [False, True])
def test_validation_windows_see_those_of_their_group_and_distance_to_the_end(cross_learning):
    store = numbered_store() if cross_learning else grouped_store()
    windows = validation_windows(store, cross_learning=cross_learning)
    _, series, starts, ends = windows.windows.T
    origins = (ends - starts) // 4
    of_store = np.zeros(9, int) if cross_learning else store.groups
    expected = of_store[series] * 100 + origins
    np.testing.assert_array_equal(windows.groups[:, None] == windows.groups, expected[:, None] == expected)
    assert (np.diff(np.flatnonzero(np.diff(windows.groups, prepend=-1))) > 0).all()
    assert len(np.unique(windows.groups)) == (np.diff(windows.groups, prepend=-1) != 0).sum()
    histories = windows.histories(range(len(windows)))
    assert all(isinstance(history, Panel) for history in histories)
    assert [history.group for history in histories if isinstance(history, Panel)] == windows.groups.tolist()
    plain = ValidationWindows(windows.splits, **LENGTHS, max_windows=10**6) if cross_learning else windows
    assert sorted(map(tuple, plain.windows)) == sorted(map(tuple, windows.windows))
    assert validation_windows(numbered_store()).groups is None


def test_limited_validation_windows_are_whole_batches():
    every, some = validation_windows(grouped_store()), validation_windows(grouped_store(), max_windows=12)
    assert 0 < len(some) <= 12 < len(every)
    rows = set(map(tuple, every.windows))
    assert set(map(tuple, some.windows)) <= rows
    for group in np.unique(some.groups):
        members = some.windows[some.groups == group]
        first = np.flatnonzero((every.windows == members[0]).all(axis=1))[0]
        assert (every.groups == every.groups[first]).sum() == len(members)
    context, target, groups = some.grouped_batch(range(len(some)))[:3]
    assert len(groups) == len(context) == len(target) == len(some)
