"""Batches: the same for every caller, and only one in memory."""

import numpy as np

from pipeline.core.batches import split_batches
from pipeline.forecasting.batching import forecast_in_batches


def test_batches_are_consecutive_and_the_last_is_smaller():
    assert split_batches(range(7), 3) == [range(0, 3), range(3, 6), range(6, 7)]
    assert [batch.tolist() for batch in split_batches(np.array([5, 2, 9]), 2)] == [[5, 2], [9]]
    assert split_batches(range(0), 3) == []


def test_each_batch_is_read_when_the_one_before_is_forecast():
    events = []

    def histories(indices):
        events.append(("read", len(indices)))
        return [np.full(2, float(index)) for index in indices]

    def forecast(rows):
        events.append(("forecast", len(rows)))
        return np.stack(rows).sum(axis=1)

    batches = list(forecast_in_batches(histories, forecast, split_batches(range(3), 2)))
    assert events == [("read", 2), ("forecast", 2), ("read", 1), ("forecast", 1)]
    assert [batch.output.tolist() for batch in batches] == [[0.0, 2.0], [4.0]]
    assert batches[1].indices == range(2, 3) and len(batches[1].histories) == 1
