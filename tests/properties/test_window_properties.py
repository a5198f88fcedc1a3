"""Training and validation windows of any series and settings, against plain loops over the steps of each series."""

import pickle

import numpy as np
import torch
from accelerate.data_loader import BatchSamplerShard
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, SequentialSampler

from pipeline.data.arrow_store import store_from_arrays
from pipeline.windows.inputs import WindowDataset
from pipeline.windows.samplers import SeriesSampler
from pipeline.windows.splits import split_store
from pipeline.windows.training_windows import TrainingWindows
from pipeline.windows.validation_windows import ValidationWindows

SERIES = 1000
"""Step t of series k has the value 1000 (k + 1) + t, so that a value tells where it is from."""
seeds = st.integers(0, 2**32 - 1)
indices = st.lists(st.integers(0, 2**40), min_size=1, max_size=20)


@st.composite
def splits(draw):
    """A split of up to five series, with the lengths of its windows."""
    targets = []
    for series in range(draw(st.integers(1, 5))):
        target = SERIES * (series + 1) + np.arange(draw(st.integers(0, 60)), dtype=np.float32)
        missing = draw(st.lists(st.integers(0, 59), max_size=15))
        target[[step for step in missing if step < len(target)]] = np.nan
        targets.append(target)
    lengths = {"context_length": draw(st.integers(2, 20)), "prediction_length": draw(st.integers(1, 8))}
    split = split_store(
        store_from_arrays(targets),
        draw(st.sampled_from([0.0, 0.1, 0.3, 0.9])),
        lengths["prediction_length"],
        draw(st.integers(1, 6)),
        draw(st.integers(0, 9)),
        draw(st.none() | st.integers(1, 20)),
    )
    return split, lengths


def training_windows(drawn, seed=0, drop_prob=0.0):
    split, lengths = drawn
    assume(len(split.usable))
    return TrainingWindows([SeriesSampler(split)], [1.0], **lengths, drop_prob=drop_prob, seed=seed)


def padded(context, width):
    return np.pad(context, ((0, 0), (width - context.shape[1], 0)), constant_values=np.nan)


def steps_of(values):
    """The series and the step of each known value."""
    known = values[~np.isnan(values)].astype(int)
    return set(zip((known // SERIES - 1).tolist(), (known % SERIES).tolist()))


@given(splits(), seeds, st.sampled_from([0.0, 0.3, 0.6]), indices)
def test_window_i_is_a_function_of_the_seed_and_i_alone(drawn, seed, drop_prob, numbers):
    windows = training_windows(drawn, seed, drop_prob)
    context, target = windows.batch(numbers)
    context = padded(context, windows.context_length)
    for row, number in enumerate(numbers):
        alone, alone_target = training_windows(drawn, seed, drop_prob).batch([number])
        np.testing.assert_array_equal(padded(alone, windows.context_length)[0], context[row])
        np.testing.assert_array_equal(alone_target[0], target[row])


@given(splits(), seeds)
def test_a_training_window_is_a_slice_of_the_training_steps_of_a_usable_series(drawn, seed):
    split, lengths = drawn
    width, horizon = lengths.values()
    slices = set()
    for series in split.usable.tolist():
        values, end = split.store.target(series), int(split.train_ends[series])
        for start in range(split.min_past, end):
            steps = range(start - width, start + horizon)
            slices.add(tuple(float(values[step]) if 0 <= step < end else np.nan for step in steps))
    context, target = training_windows(drawn, seed).batch(range(50))
    rows = np.concatenate([padded(context, width), target], axis=1)
    # A target is masked if no window can be learned from.
    possible = {str(row) for row in slices} | {str((*row[:width], *[np.nan] * horizon)) for row in slices}
    assert {str(tuple(row)) for row in rows.tolist()} <= possible


@given(splits(), seeds)
def test_training_validation_and_test_steps_are_disjoint(drawn, seed):
    split, lengths = drawn
    store = split.store
    trained = set().union(*map(steps_of, training_windows(drawn, seed, 0.1).batch(range(100))))
    validation = ValidationWindows([split], **lengths, max_windows=10**6)
    history, target = validation.batch(range(len(validation))) if len(validation) else np.empty((2, 0, 1))
    scored = steps_of(target)
    tested = {(k, step) for k in range(len(store)) for step in range(split.ends[k], store.lengths[k])}
    assert not trained & (scored | tested) and not (steps_of(history) | scored) & tested
    for series, step in trained:
        assert step < split.train_ends[series]


@given(splits())
def test_validation_windows_equal_a_plain_loop(drawn):
    split, lengths = drawn
    width, horizon = lengths.values()
    expected = []
    for series in range(len(split.store)):
        values, begin, end = split.store.target(series).tolist(), split.train_ends[series], split.ends[series]
        starts = [end - horizon * k for k in range(1, 100) if end - horizon * k >= begin][::-1]
        for start in starts or ([begin] if begin < end else []):
            known = [value == value for value in values]
            if any(known[:start]) and any(known[start : min(start + horizon, end)]):
                expected.append((series, start, end))
    windows = ValidationWindows([split], **lengths, max_windows=10**6)
    assert [tuple(row) for row in windows.windows[:, 1:].tolist()] == expected
    if not expected:
        return
    context, target = windows.batch(range(len(expected)))
    histories = windows.histories(range(len(expected)))
    rows = zip(expected, padded(context, width), target, histories, strict=True)
    for (series, start, end), context_row, target_row, history in rows:
        values = split.store.target(series)
        past = [values[step] if step >= 0 else np.nan for step in range(start - width, start)]
        future = [values[step] if step < end else np.nan for step in range(start, start + horizon)]
        np.testing.assert_array_equal(history, values[:start])
        np.testing.assert_array_equal(context_row, past)
        np.testing.assert_array_equal(target_row, future)


@given(splits(), st.integers(1, 6))
def test_few_validation_windows_are_among_all_of_them(drawn, n):
    split, lengths = drawn
    every = ValidationWindows([split], **lengths, max_windows=10**6).windows.tolist()
    few = ValidationWindows([split], **lengths, max_windows=n).windows.tolist()
    assert len(few) == min(n, len(every)) and sorted(few) == few and all(row in every for row in few)
    assert len({tuple(row) for row in few}) == len(few)
    assert few[:1] == every[:1] and (len(few) < 2 or few[-1] == every[-1])


@settings(max_examples=5)
@given(st.lists(st.integers(8, 900), min_size=2, max_size=6), seeds)
def test_series_are_drawn_by_their_length_and_starts_uniformly(lengths, seed):
    """A series that is r times as long as the mean has the weight r + exp(-r); bounds are six standard deviations."""
    n = 4000
    store = store_from_arrays([SERIES * (k + 1) + np.arange(length) for k, length in enumerate(lengths)])
    split = split_store(store, 0.0, 4, 3)
    context, _ = training_windows((split, {"context_length": 3, "prediction_length": 1}), seed).batch(range(n))
    series, last = np.divmod(context[:, -1].astype(int) - SERIES, SERIES)
    relative = np.array(lengths) / np.mean(lengths)
    share = (relative + np.exp(-relative)) / (relative + np.exp(-relative)).sum()
    counts = np.bincount(series, minlength=len(lengths))
    assert (np.abs(counts - n * share) < 6 * np.sqrt(n * share * (1 - share)) + 1).all()
    position = (last - 1.5) / (np.array(lengths)[series] - 3)
    assert 0 <= position.min() and position.max() < 1 and abs(position.mean() - 0.5) < 6 / np.sqrt(12 * n)


@settings(max_examples=5)
@given(st.lists(st.floats(0.05, 20), min_size=2, max_size=4), seeds)
def test_samplers_are_drawn_by_their_weight(weights, seed):
    n = 4000
    split = [split_store(store_from_arrays([SERIES * (k + 1) + np.arange(50)]), 0.0, 4, 3) for k in range(len(weights))]
    samplers = [SeriesSampler(part) for part in split]
    windows = TrainingWindows(samplers, weights, context_length=3, prediction_length=1, drop_prob=0.0, seed=seed)
    counts = np.bincount(windows.batch(range(n))[0][:, -1].astype(int) // SERIES - 1, minlength=len(weights))
    share = np.array(weights) / sum(weights)
    np.testing.assert_allclose(windows.shares, share)
    assert (np.abs(counts - n * share) < 6 * np.sqrt(n * share * (1 - share)) + 1).all()


def to_inputs(context, target):
    return {"context": torch.nn.functional.pad(context, (20 - context.shape[1], 0), value=np.nan), "target": target}


@given(splits(), seeds, st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(0, 3))
def test_any_ranks_and_workers_see_the_windows_of_a_single_process(drawn, seed, ranks, workers, size, steps, skipped):
    """The batches of rank r are those that Accelerate gives it; worker w loads every n-th of them from a pickle."""
    n = ranks * size * steps
    dataset = WindowDataset(training_windows(drawn, seed, 0.2), n, to_inputs)
    by_rank = []
    for rank in range(ranks):
        batches = BatchSampler(SequentialSampler(range(n)), size, drop_last=False)
        copies = [pickle.loads(pickle.dumps(dataset)) for _ in range(workers)]
        shard = list(BatchSamplerShard(batches, ranks, rank))
        by_rank.append([copies[k % workers].__getitems__(batch) for k, batch in enumerate(shard)][skipped:])
    whole = dataset.__getitems__(range(min(skipped, steps) * ranks * size, n)) if skipped < steps else None
    for name in ("context", "target"):
        parts = [batches[step][name] for step in range(max(0, steps - skipped)) for batches in by_rank]
        if whole is None:
            assert not parts
        else:
            np.testing.assert_array_equal(torch.cat(parts), whole[name])
