"""Relative scores, win rates and their intervals, from errors of which each is known."""

import itertools

import numpy as np
import pytest

from pipeline.data.arrow_store import store_from_arrays
from pipeline.evaluation.backtest import evaluate, make_task
from pipeline.evaluation.ranking import geometric_mean, rank, relative_scores, undefined, win_rates


def off_by(errors):
    """One evaluation a data set: series k is forecast `errors[k]` too low; its seasonal error and its mean are 2."""
    history = np.tile([1.0, 3.0], 12)
    series = [np.r_[history, 2.0, 2.0].astype(np.float32) for _ in errors]
    task = make_task("t", store_from_arrays(series), 2, 1, 1)
    return evaluate(task, lambda some, _: np.tile(2 - np.array(errors)[:, None, None], (1, 2, 9)), batch_size=100)


def test_relative_scores_divide_by_the_yardstick_and_average_geometrically():
    evaluations = {
        "a": {"naive": off_by([1.0, 3.0]), "m": off_by([1.0, 1.0])},
        "b": {"naive": off_by([0.5, 0.5]), "m": off_by([1.0, 3.0])},
    }
    of_a = relative_scores(evaluations["a"], "naive")
    assert of_a["m"]["MASE"].value == pytest.approx(0.5) and of_a["naive"]["MASE"].value == 1
    first, second = rank(evaluations, "naive")
    assert (first.model, second.model) == ("naive", "m")
    assert second.relative["MASE"].value == pytest.approx((0.5 * 4) ** 0.5)
    assert second.relative["WQL"].value == pytest.approx((0.5 * 4) ** 0.5)
    assert second.win_rate == {"WQL": 0.5, "MASE": 0.5}


def test_intervals_are_those_of_drawing_series_anew():
    """With three series there are 27 draws, so that the exact distribution of the ratio is at hand."""
    naive, model = np.array([1.0, 2.0, 4.0]), np.array([2.0, 1.0, 1.0])
    estimate = relative_scores({"naive": off_by(naive), "m": off_by(model)}, "naive")["m"]["MASE"]
    exact = sorted(model[list(draw)].sum() / naive[list(draw)].sum() for draw in itertools.product(range(3), repeat=3))
    assert estimate.value == pytest.approx(4 / 7)
    assert (estimate.low, estimate.high) == pytest.approx((exact[0], exact[-1]))
    assert np.isnan(relative_scores({"naive": off_by([1.0]), "m": off_by([2.0])}, "naive")["m"]["WQL"].low)


def test_intervals_over_data_sets_hold_the_mean_and_narrow_with_their_number():
    def ranks(n_sets):
        rng = np.random.default_rng(0)
        sets = {str(k): {"naive": off_by([1.0]), "m": off_by([float(rng.uniform(0.5, 1.5))])} for k in range(n_sets)}
        return {one.model: one for one in rank(sets, "naive")}["m"].relative["MASE"]

    few, many = ranks(5), ranks(50)
    assert few.low < few.value < few.high and many.low < many.value < many.high
    assert many.high - many.low < 0.6 * (few.high - few.low)


def test_the_one_data_set_is_ranked_by_its_series():
    best, *_ = rank({"a": {"naive": off_by([1.0, 1.0, 1.0]), "m": off_by([0.5, 0.5, 3.0])}}, "naive")
    assert best.model == "naive" and best.win_rate["MASE"] == pytest.approx(1 / 3)


def test_a_tie_is_half_a_win_and_an_unknown_score_no_pair():
    scores = np.array([[1.0, 1.0, 2.0], [3.0, np.nan, 2.0]])
    assert win_rates(scores) == pytest.approx([(0.5 + 1 + 0) / 3, (0.5 + 1) / 2, (0 + 0 + 1) / 3])
    assert np.isnan(win_rates(np.array([[1.0]]))).all()


def test_a_geometric_mean_takes_a_nought_for_a_hundredth():
    found = geometric_mean(np.array([[2.0, 0.0], [8.0, 1.0]]))
    np.testing.assert_allclose(found, [4.0, 0.1])
    with_unknown, with_infinite = geometric_mean(np.array([[np.nan, np.inf], [1.0, 1.0]]))
    assert np.isnan(with_unknown) and with_infinite == np.inf


def test_a_data_set_whose_yardstick_is_exact_is_in_no_mean():
    exact = {"naive": off_by([0.0]), "m": off_by([1.0])}
    others = {"a": {"naive": off_by([1.0]), "m": off_by([0.5])}, "b": {"naive": off_by([1.0]), "m": off_by([0.8])}}
    with_it, without = rank({**others, "exact": exact}, "naive"), rank(others, "naive")
    assert [one.model for one in with_it] == ["m", "naive"]
    assert (
        with_it[0].relative["WQL"].value == pytest.approx(without[0].relative["WQL"].value) == pytest.approx(0.4**0.5)
    )
    assert undefined({**others, "exact": exact}, "naive") == {"WQL": ["exact"], "MASE": ["exact"]}
    assert all(np.isnan(one.relative["WQL"].value) for one in rank({"exact": exact, "again": exact}, "naive"))


def test_a_model_without_numbers_loses_every_pair_and_its_interval_is_infinite():
    best, worst = rank({"a": {"naive": off_by([1.0, 1.0, 1.0]), "broken": off_by([0.5, np.nan, np.nan])}}, "naive")
    assert (best.model, best.win_rate["WQL"]) == ("naive", pytest.approx(2 / 3))
    assert worst.relative["WQL"].value == worst.relative["MASE"].high == np.inf
    assert worst.relative["MASE"].low == pytest.approx(0.5)  # one draw in 27 holds the good series alone
