"""Examples of forecasts: the best, the median and the worst window."""

import numpy as np
import pytest
from support.series import long_frame

from pipeline.core.series import Variates, target_rows
from pipeline.data.arrow_store import store_from_arrays
from pipeline.data.columns import Columns
from pipeline.data.source import open_source
from pipeline.evaluation.backtest import evaluate_task, make_task
from pipeline.evaluation.examples import select_examples
from pipeline.forecasting.forecaster import Forecaster


def halves(histories, length):
    return np.full((len(histories), length, 9), 0.5)


def test_examples_are_the_best_the_median_and_the_worst_window():
    series = [np.r_[np.tile([0.0, 1.0], 10), np.full(4, 0.5 + error)] for error in (3, 1, 5, 2, 4)]
    task = make_task("t", store_from_arrays(series), 4, 1, 1)
    examples = select_examples(task, evaluate_task(task, halves), halves)
    assert [(example.label, example.item_id, example.mase) for example in examples] == [
        ("best", "1", pytest.approx(1)),
        ("median", "0", pytest.approx(3)),
        ("worst", "2", pytest.approx(5)),
    ]
    assert examples[2].target.tolist() == [5.5] * 4 and examples[2].history.tolist() == [0.0, 1.0] * 8
    two = make_task("t", store_from_arrays(series[:2]), 4, 1, 1)
    labels = [example.label for example in select_examples(two, evaluate_task(two, halves), halves)]
    assert labels == ["best", "median"]


def test_examples_of_several_targets_are_those_of_their_window(tmp_path):
    """In batches of two windows with two rows each, the second target of the worst window has a large error."""
    table = long_frame(n_series=5, length=30).assign(other=np.random.default_rng(0).normal(size=150))
    table.loc[table.index[(table["item_id"] == "item3")][-4:], "other"] = 50.0
    store = open_source(table, tmp_path, Columns(variates=Variates(("target", "other"))))
    task = make_task("t", store, 4, 1, 1)

    def last(histories, length):
        ends = np.array([row[-1] for row in target_rows(histories)])
        return np.broadcast_to(ends[:, None, None], (len(ends), length, 9))

    worst = select_examples(task, evaluate_task(task, last, 2), last, 2)[-1]
    history = table.loc[table["item_id"] == "item3", "other"].to_numpy(np.float32)[:-4]
    assert worst.label == "worst" and worst.item_id == "item3" and worst.target.tolist() == [50.0] * 4
    np.testing.assert_array_equal(worst.history, history[-16:])
    np.testing.assert_array_equal(worst.quantiles, np.full((4, 9), history[-1]))


def test_examples_of_a_token_model_are_the_forecasts_that_were_scored(tiny):
    rng = np.random.default_rng(0)
    series = [rng.normal(5, 1, int(length)).astype(np.float32) for length in rng.integers(40, 60, 7)]
    task = make_task("t", store_from_arrays(series), 4, 1, 1)
    forecast = Forecaster.load(str(tiny["t5"]), seed=3).predict_quantiles
    for example in select_examples(task, evaluate_task(task, forecast, 3), forecast, 3):
        scale = np.abs(np.diff(series[int(example.item_id)][:-4])).mean()
        error = np.abs(example.target - example.quantiles[:, 4]).mean()
        assert error / scale == pytest.approx(example.mase, rel=1e-5)
