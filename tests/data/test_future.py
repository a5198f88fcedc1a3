"""Known covariates in the horizon, from a table of their own."""

import numpy as np
import pandas as pd
from support.shops import SHOP, open_known, open_shops, shops

from pipeline.data.columns import Columns
from pipeline.data.source import open_source


def test_a_table_may_contain_the_past_too(tmp_path):
    past, after = shops()
    store, future = open_shops(tmp_path, past, after)
    both = pd.concat([past, after])
    for table in (both, both[both["timestamp"] >= "2024-02-01"]):
        with_past = open_known(tmp_path, table, store)
        for index in range(len(store)):
            np.testing.assert_array_equal(with_past.values(index), future.values(index))


def test_a_table_may_begin_before_the_series(tmp_path):
    past, after = shops()
    recent = open_source(past[past["timestamp"] >= "2024-02-01"], tmp_path, Columns(variates=SHOP))
    earlier = open_known(tmp_path, pd.concat([past, after]), recent)
    expected = open_known(tmp_path, after, recent)
    for index in range(len(recent)):
        np.testing.assert_array_equal(earlier.values(index), expected.values(index))


def test_a_table_of_covariates_alone_gives_no_warning_about_missing_targets(tmp_path, caplog):
    past, after = shops()
    open_shops(tmp_path, past, after)
    assert "no value" not in caplog.text
