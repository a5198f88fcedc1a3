"""Relative scores, win rates, ties and their intervals, from known errors."""

import itertools

import numpy as np
import pytest

from pipeline.data.arrow_store import store_from_arrays
from pipeline.evaluation.backtest import evaluate_task, make_task
from pipeline.evaluation.ranking import (
    datasets_without_ratio,
    geometric_mean,
    rank,
    relative_scores,
    tied_with_best,
    win_rates,
)


def with_errors(errors):
    """Return an evaluation in which series k is forecast `errors[k]` too low; its scale and its mean |y| are 2."""
    history = np.tile([1.0, 3.0], 12)
    task = make_task("t", store_from_arrays([np.r_[history, 2.0, 2.0] for _ in errors]), 2, 1, 1)
    forecast = np.tile(2 - np.array(errors)[:, None, None], (1, 2, 9))
    return evaluate_task(task, lambda histories, _: forecast, batch_size=100)


def test_relative_scores_are_divided_by_the_baselines_and_averaged_geometrically():
    evaluations = {
        "a": {"naive": with_errors([1.0, 3.0]), "m": with_errors([1.0, 1.0])},
        "b": {"naive": with_errors([0.5, 0.5]), "m": with_errors([1.0, 3.0])},
    }
    relative = relative_scores(evaluations["a"], "naive")
    assert relative["m"]["MASE"].value == pytest.approx(0.5) and relative["naive"]["MASE"].value == 1
    first, second = rank(evaluations, "naive")
    assert (first.model, second.model) == ("naive", "m")
    assert second.relative["MASE"].value == pytest.approx((0.5 * 4) ** 0.5)
    assert second.relative["WQL"].value == pytest.approx((0.5 * 4) ** 0.5)
    assert second.win_rate == {"WQL": 0.5, "MASE": 0.5}


def test_intervals_are_those_of_drawn_series():
    """Three series have 27 draws, so the exact distribution of the ratio is known."""
    naive, model = np.array([1.0, 2.0, 4.0]), np.array([2.0, 1.0, 1.0])
    estimate = relative_scores({"naive": with_errors(naive), "m": with_errors(model)}, "naive")["m"]["MASE"]
    draws = itertools.product(range(3), repeat=3)
    exact = sorted(model[list(draw)].sum() / naive[list(draw)].sum() for draw in draws)
    assert estimate.value == pytest.approx(4 / 7)
    assert (estimate.low, estimate.high) == pytest.approx((exact[0], exact[-1]))
    single = relative_scores({"naive": with_errors([1.0]), "m": with_errors([2.0])}, "naive")
    assert np.isnan(single["m"]["WQL"].low)


def test_intervals_over_data_sets_contain_the_mean_and_narrow_with_their_number():
    def estimate(n_sets):
        rng = np.random.default_rng(0)
        errors = [float(rng.uniform(0.5, 1.5)) for _ in range(n_sets)]
        sets = {str(k): {"naive": with_errors([1.0]), "m": with_errors([error])} for k, error in enumerate(errors)}
        return {entry.model: entry for entry in rank(sets, "naive")}["m"].relative["MASE"]

    few, many = estimate(5), estimate(50)
    assert few.low < few.value < few.high and many.low < many.value < many.high
    assert many.high - many.low < 0.6 * (few.high - few.low)


def test_win_rates_on_a_single_data_set_are_over_its_series():
    best, *_ = rank({"a": {"naive": with_errors([1.0, 1.0, 1.0]), "m": with_errors([0.5, 0.5, 3.0])}}, "naive")
    assert best.model == "naive" and best.win_rate["MASE"] == pytest.approx(1 / 3)


def test_a_tie_is_half_a_win_and_an_unknown_score_is_no_pair():
    scores = np.array([[1.0, 1.0, 2.0], [3.0, np.nan, 2.0]])
    assert win_rates(scores) == pytest.approx([(0.5 + 1 + 0) / 3, (0.5 + 1) / 2, (0 + 0 + 1) / 3])
    assert np.isnan(win_rates(np.array([[1.0]]))).all()


def test_the_minimum_ratio_of_a_geometric_mean_is_a_hundredth():
    np.testing.assert_allclose(geometric_mean(np.array([[2.0, 0.0], [8.0, 1.0]])), [4.0, 0.1])
    with_unknown, with_infinite = geometric_mean(np.array([[np.nan, np.inf], [1.0, 1.0]]))
    assert np.isnan(with_unknown) and with_infinite == np.inf


def test_means_leave_out_a_data_set_where_the_baseline_is_exact():
    exact = {"naive": with_errors([0.0]), "m": with_errors([1.0])}
    others = {
        "a": {"naive": with_errors([1.0]), "m": with_errors([0.5])},
        "b": {"naive": with_errors([1.0]), "m": with_errors([0.8])},
    }
    with_exact, without = rank({**others, "exact": exact}, "naive"), rank(others, "naive")
    assert [entry.model for entry in with_exact] == ["m", "naive"]
    assert with_exact[0].relative["WQL"].value == pytest.approx(without[0].relative["WQL"].value)
    assert with_exact[0].relative["WQL"].value == pytest.approx(0.4**0.5)
    assert datasets_without_ratio({**others, "exact": exact}, "naive") == {"WQL": ["exact"], "MASE": ["exact"]}
    only_exact = rank({"exact": exact, "also exact": exact}, "naive")
    assert all(np.isnan(entry.relative["WQL"].value) for entry in only_exact)


def test_a_model_with_nan_forecasts_loses_every_pair_and_has_an_infinite_interval():
    evaluations = {"a": {"naive": with_errors([1.0] * 3), "broken": with_errors([0.5, np.nan, np.nan])}}
    best, worst = rank(evaluations, "naive")
    assert (best.model, best.win_rate["WQL"]) == ("naive", pytest.approx(2 / 3))
    assert worst.relative["WQL"].value == worst.relative["MASE"].high == np.inf
    assert worst.relative["MASE"].low == pytest.approx(0.5)  # one of 27 draws has the good series alone
    assert tied_with_best(evaluations, [best, worst]) == []


def test_models_that_the_best_does_not_clearly_beat_are_tied():
    errors = {
        "best": [1.0, 1.1, 0.9, 1.0, 1.2],
        "close": [0.9, 1.3, 0.8, 1.2, 1.1],
        "worse": [1.5, 1.6, 1.5, 1.4, 1.9],
        "naive": [2.0] * 5,
    }
    evaluations = {"a": {name: with_errors(values) for name, values in errors.items()}}
    ranks = rank(evaluations, "naive")
    assert ranks[0].model == "best" and tied_with_best(evaluations, ranks) == ["close"]
    single = {"a": {"naive": with_errors([2.0]), "m": with_errors([1.0])}}
    assert tied_with_best(single, rank(single, "naive")) == ["naive"]
