"""Windows that a model has seen are recognized by item ID, time and values."""

import numpy as np
import pandas as pd
import pytest
from support.series import long_frame

from pipeline.core.series import Variates
from pipeline.data.columns import Columns
from pipeline.data.source import open_source
from pipeline.windows.seen import count_seen, seen_steps


def windows_of(store, horizon, n_origins):
    """Windows of rolling origins as a plain loop."""
    return [(i, int(n) - k * horizon) for i, n in enumerate(store.lengths) for k in range(n_origins, 0, -1)]


@pytest.fixture(scope="module")
def frame():
    return long_frame(n_series=5, length=50)


@pytest.mark.parametrize("test_length, horizon, n_origins, n_seen", [
    (0, 5, 1, 5), (5, 5, 1, 0), (4, 5, 1, 5), (5, 5, 3, 10), (15, 5, 3, 0), (11, 5, 3, 5),
])  # fmt: skip
def test_a_window_is_seen_if_its_first_step_is(frame, test_length, horizon, n_origins, n_seen):
    store = open_source(frame)
    windows = windows_of(store, horizon, n_origins)
    assert count_seen(seen_steps([store], test_length), store, windows) == (n_seen, 5 * n_origins)


def test_the_same_values_are_recognized_beside_covariates_and_in_a_longer_table(frame):
    seen = seen_steps([open_source(frame[frame["timestamp"] < "2021-02-10"])], 0)  # 40 of the 50 steps
    longer = frame.assign(price=1.5)
    store = open_source(longer, columns=Columns(variates=Variates(("target",), known=("price",))))
    assert count_seen(seen, store, windows_of(store, 5, 3)) == (5, 15)
    assert count_seen(seen, store, windows_of(store, 5, 2)) == (0, 10)


def test_other_values_under_the_same_ids_and_dates_are_not_seen(frame):
    seen = seen_steps([open_source(frame)], 0)
    other = open_source(frame.assign(target=frame["target"] + 1))
    assert count_seen(seen, other, windows_of(other, 5, 1))[0] == 0
    renamed = open_source(frame.assign(item_id="x" + frame["item_id"]))
    assert count_seen(seen, renamed, windows_of(renamed, 5, 1)) == (0, 0)
    later = open_source(frame.assign(timestamp=frame["timestamp"] + pd.Timedelta(days=7)))
    assert count_seen(seen, later, windows_of(later, 5, 1))[0] == 0


def test_what_the_base_has_seen_counts_for_the_model_too(frame):
    base = seen_steps([open_source(frame)], 0)
    earlier = open_source(frame[frame["timestamp"] < "2021-02-10"])  # 40 of the 50 steps
    store = open_source(frame)
    assert count_seen(seen_steps([earlier], 5), store, windows_of(store, 5, 1)) == (0, 5)
    assert count_seen(seen_steps([earlier], 5, base), store, windows_of(store, 5, 1)) == (5, 5)
    assert count_seen(seen_steps([earlier], 0, base), store, windows_of(store, 5, 1)) == (5, 5)
    assert seen_steps([store], 0, seen_steps([earlier], 0)) == seen_steps([store], 0)  # covered by the new ones
    assert len(seen_steps([store], 11, seen_steps([earlier], 0))) == 10


@pytest.mark.parametrize("n_left, n_seen", [(48, 5), (40, 5), (30, 5), (20, 0)])
def test_a_file_that_ends_before_the_training_is_recognized_by_half_of_it(frame, n_left, n_seen):
    seen = seen_steps([open_source(frame)], 2)
    store = open_source(frame.groupby("item_id").head(n_left))
    assert count_seen(seen, store, windows_of(store, 5, 1)) == (n_seen, 5)


def test_series_of_several_sources_may_share_item_ids(frame):
    first, second = open_source(frame), open_source(frame.assign(target=frame["target"] + 1))
    for store in (first, second):
        assert count_seen(seen_steps([first, second], 0), store, windows_of(store, 5, 1)) == (5, 5)


def test_steps_without_timestamps_are_counted():
    rng = np.random.default_rng(0)
    store = open_source(rng.normal(size=(3, 20)))
    assert count_seen(seen_steps([store], 4), store, windows_of(store, 4, 2)) == (3, 6)


def test_a_sample_of_many_series_is_kept():
    store = open_source(np.random.default_rng(0).normal(size=(1000, 9)))
    seen = seen_steps([store], 0)
    assert len(seen) == 200 and {seen[0]["item_id"], seen[-1]["item_id"]} == {"0", "999"}
    assert count_seen(seen, store, windows_of(store, 2, 1)) == (200, 200)
