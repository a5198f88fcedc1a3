"""Every series and window is forecast once and in its place, for any lengths, batches and processes."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.batches import split_batches
from pipeline.core.metrics import WQL_LEVELS
from pipeline.data.arrow_store import store_from_arrays
from pipeline.evaluation.backtest import ArrayWindows, backtest
from pipeline.forecasting.batching import forecast_in_batches
from pipeline.forecasting.request import Request
from pipeline.forecasting.tables import forecast_array, forecast_part, split_parts

HORIZON = 2
sizes = st.integers(1, 9)


class LastValues:
    """A forecaster whose forecast is the last value of each history, and that notes the batches."""

    context_length = 8

    def __init__(self):
        self.batches: list[list[float]] = []

    def with_context_length(self, context_length):
        return self

    def at_wql_levels(self, histories, prediction_length):
        return self.quantiles(histories, prediction_length, WQL_LEVELS)[0]

    def quantiles(self, histories, prediction_length, levels):
        self.batches.append([float(history[-1]) for history in histories])
        point = np.array(self.batches[-1], np.float32)[:, None].repeat(prediction_length, axis=1)
        return point[:, :, None].repeat(len(levels), axis=2), point


@given(st.integers(0, 50), sizes)
def test_batches_are_consecutive_and_cover_all_indices_once(n, size):
    indices = np.arange(n)[::-1]
    batches = split_batches(indices, size)
    assert [index for batch in batches for index in batch] == indices.tolist()
    assert all(len(batch) == size for batch in batches[:-1]) and all(0 < len(batch) <= size for batch in batches)
    assert [list(batch) for batch in split_batches(range(n), size)] == [(n - 1 - batch).tolist() for batch in batches]
    concatenate: Any = np.concatenate
    outputs = forecast_in_batches(lambda batch: [np.full(1, float(i)) for i in batch], concatenate, batches)
    assert [value for batch in outputs for value in batch.output] == indices.tolist()


@given(st.lists(st.integers(1, 20), min_size=1, max_size=30), sizes, sizes, st.none() | st.integers(1, 6))
def test_every_series_is_forecast_once_and_in_its_row(lengths, batch_size, part_size, context_length):
    """Step t of series k has the value 100 k + t."""
    store = store_from_arrays([100 * k + np.arange(length) for k, length in enumerate(lengths)], "D")
    last = [100.0 * k + length - 1 for k, length in enumerate(lengths)]
    request = Request(HORIZON, [0.5], context_length, batch_size, max_part_size=part_size)
    forecaster: Any = LastValues()
    parts = [forecast_part(forecaster, store, items, request).to_pandas() for items in split_parts(store, request)]
    ids = [name for part in parts for name in part["item_id"]]
    assert ids == [str(k) for k in range(len(lengths)) for _ in range(HORIZON)]
    assert [value for part in parts for value in part["predictions"]] == np.repeat(last, HORIZON).tolist()
    assert sorted(value for batch in forecaster.batches for value in batch) == last
    assert max(map(len, forecaster.batches)) <= batch_size
    first = [stamp for part in parts for stamp in part["timestamp"][::HORIZON]]
    assert first == [np.datetime64(length, "D") for length in lengths]
    assert forecast_array(forecaster, store, request)[:, 0, 0].tolist() == last


@given(st.integers(1, 60), sizes, st.integers(1, 4))
def test_a_backtest_scores_every_window_once_for_any_number_of_processes(n, batch_size, count):
    """Threads stand for the processes, and exchange their parts as `Processes.gather` does."""
    context = np.arange(3 * n, dtype=np.float32).reshape(n, 3)
    windows = ArrayWindows(context, context[:, :1] + 10)
    forecaster, barrier = LastValues(), Barrier(count)
    slots: list[list] = [[]] * count

    def gather(rank, parts, device):
        slots[rank] = parts
        barrier.wait()
        joined = [part for parts in slots for part in parts]
        barrier.wait()
        return joined

    def run(rank):
        processes: Any = SimpleNamespace(rank=rank, count=count, gather=partial(gather, rank))
        return backtest(windows, forecaster.at_wql_levels, batch_size, processes)

    with ThreadPoolExecutor(count) as threads:
        for errors in threads.map(run, range(count)):
            np.testing.assert_array_equal(errors.error[:, 0], np.full(n, 8.0))
    assert sorted(value for batch in forecaster.batches for value in batch) == context[:, 2].tolist()
    assert sorted(map(len, forecaster.batches)) == sorted(map(len, split_batches(range(n), batch_size)))
