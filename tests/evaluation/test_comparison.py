"""The comparison of two models, compared with a plain loop and an independent bootstrap."""

import numpy as np
import pytest

from pipeline.core.metrics import WQL_LEVELS, WindowErrors, window_errors
from pipeline.evaluation.backtest import Evaluation
from pipeline.evaluation.comparison import Comparison, compare, compare_evaluations, conclude


def plain_wqls(targets, quantiles, dataset):
    """Return the WQL of each data set by the definition, one number at a time."""
    wqls = []
    for name in sorted(set(dataset)):
        loss = scale = 0.0
        for target, row, own in zip(targets, quantiles, dataset):
            for value, forecasts in zip(target, row):
                if own == name and not np.isnan(value):
                    scale += abs(value)
                    for level, forecast in zip(WQL_LEVELS, forecasts):
                        loss += 2 * (level if value >= forecast else 1 - level) * abs(value - forecast) / 9
        if scale:
            wqls.append(loss / scale)
    return wqls


class Case:
    """Targets of two data sets and the forecasts of two models; the first is better on most series."""

    def __init__(self, n_series=24, n_windows=2, horizon=3):
        rng = np.random.default_rng(0)
        self.series = np.repeat(np.arange(n_series) // 2, n_windows)  # series k of either data set
        self.dataset = np.repeat(np.arange(n_series) % 2, n_windows)
        n = len(self.series)
        self.target = rng.normal(10, 2, (n, horizon)) * (1 + self.dataset[:, None])
        self.target[rng.random((n, horizon)) < 0.2] = np.nan
        spread = np.array(WQL_LEVELS) - 0.5
        noise = rng.normal(0, 1, (2, n, horizon, 1)) * np.array([1.0, 1.3])[:, None, None, None]
        self.quantiles = np.nan_to_num(self.target, nan=10.0)[..., None] + noise + spread

    def errors(self, model, rows=slice(None)) -> WindowErrors:
        scale = np.ones((len(self.series), 2))
        return window_errors(self.target[rows], self.quantiles[model][rows], scale[rows])

    def compare(self, rows=slice(None)):
        return compare(self.errors(0, rows), self.errors(1, rows), self.series[rows], self.dataset[rows])

    def plain_reduction(self, rows):
        model, baseline = (plain_wqls(self.target[rows], q[rows], self.dataset[rows]) for q in self.quantiles)
        return 100 * (1 - np.mean(model) / np.mean(baseline))


@pytest.fixture(scope="module")
def case():
    return Case()


def test_the_reduction_and_the_better_series_are_those_of_a_plain_loop(case):
    comparison = case.compare()
    assert comparison.reduction == pytest.approx(case.plain_reduction(np.arange(len(case.series))))
    better = 0
    for key in set(zip(case.dataset, case.series)):
        rows = [row for row, own in enumerate(zip(case.dataset, case.series)) if own == key]
        better += case.plain_reduction(rows) > 0
    assert (comparison.n_better, comparison.n_series) == (better, 24)


def test_the_interval_is_that_of_an_independent_bootstrap_over_series(case):
    comparison, rng = case.compare(), np.random.default_rng(123)
    rows_by_series = [[2 * k, 2 * k + 1] for k in range(24)]
    draws = []
    for _ in range(300):
        rows = np.concatenate([rows_by_series[k] for k in rng.integers(24, size=24)])
        draws.append(case.plain_reduction(rows))
    low, high = np.percentile(draws, (2.5, 97.5))
    width = high - low
    assert (comparison.low, comparison.high) == pytest.approx((low, high), abs=0.15 * width)
    assert comparison.low < comparison.reduction < comparison.high


def test_a_single_series_has_no_interval(case):
    comparison = case.compare(rows=slice(0, 2))
    assert comparison.n_series == 1 and np.isnan(comparison.low) and np.isnan(comparison.high)
    assert not comparison.is_clear and comparison.reduction == pytest.approx(case.plain_reduction([0, 1]))


def test_a_series_without_known_targets_does_not_count(case):
    target = case.target.copy()
    case_without = Case()
    case_without.target[:2] = np.nan
    comparison = case_without.compare()
    assert comparison.n_series == 23
    assert comparison.reduction == pytest.approx(case.plain_reduction(np.arange(2, len(target))))


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_models_are_not_compared_without_a_wql(case, value):
    target = np.full_like(case.target, value)
    errors = window_errors(target, case.quantiles[0], np.ones((len(target), 2)))
    assert compare(errors, errors, case.series, case.dataset) is None
    exact = window_errors(np.ones((2, 1)), np.ones((2, 1, 9)), np.ones((2, 2)))
    assert compare(exact, exact, np.arange(2), np.zeros(2, np.int64)) is None
    failed = window_errors(np.ones((2, 1)), np.full((2, 1, 9), np.nan), np.ones((2, 2)))
    assert compare(failed, exact, np.arange(2), np.zeros(2, np.int64)) is None


def test_evaluations_of_tasks_with_different_horizons_are_compared(case):
    rows = [np.flatnonzero(case.dataset == dataset) for dataset in (0, 1)]
    evaluations = [
        [Evaluation(case.errors(model, own), case.series[own], np.zeros(len(own), np.int64), 1) for own in rows]
        for model in (0, 1)
    ]
    assert compare_evaluations(*evaluations) == case.compare()
    shorter = [
        [first, Evaluation(second.errors.at_step(0), second.series, second.starts, 1)] for first, second in evaluations
    ]
    comparison = compare_evaluations(*shorter)
    assert comparison is not None and comparison.n_series == 24
    assert comparison.reduction != case.compare().reduction


def test_the_description_has_the_numbers_and_their_direction():
    assert Comparison(4.4, 2.1, 6.3, 37, 40).describe() == (
        "WQL 4.4% lower (95% interval 2.1 to 6.3), better on 37 of 40 series"
    )
    assert Comparison(-3.0, -5.0, 1.0, 12, 40).describe() == (
        "WQL 3.0% higher (95% interval -1.0 to 5.0), better on 12 of 40 series"
    )
    assert "interval" not in Comparison(1.0, np.nan, np.nan, 1, 1).describe()


@pytest.mark.parametrize("comparison, facts, used", [
    (Comparison(4.4, 2.1, 6.3, 37, 40), ["lowered", "4.4%", "2.1 to 6.3", "40 series", "3 windows", "on 37"], "TUNED"),
    (Comparison(-4.4, -6.3, -2.1, 3, 40), ["raised", "4.4%", "2.1 to 6.3", "40 series", "3 windows", "on 3."], "BASE"),
    (Comparison(0.4, -1.2, 2.0, 21, 40), ["No clear difference", "lowered", "0.4%", "-1.2 to 2.0", "on 21"], None),
    (Comparison(-0.4, -2.0, 1.2, 19, 40), ["No clear difference", "raised", "0.4%", "-1.2 to 2.0", "on 19"], None),
    (Comparison(9.0, np.nan, np.nan, 1, 1), ["No clear difference", "9.0%", "1 series", "no interval"], None),
    (None, ["TUNED", "BASE", "not defined"], None),
])  # fmt: skip
def test_the_conclusion_has_the_numbers_and_the_model_to_use(comparison, facts, used):
    sentence = conclude(comparison, 3 * (comparison.n_series if comparison else 1), "TUNED", "BASE")
    assert all(fact in sentence for fact in facts)
    assert [name for name in ("TUNED", "BASE") if f"Use {name}." in sentence] == ([used] if used else [])


def test_a_conclusion_counts_windows_and_recommends_nothing_on_seen_steps_or_an_unchanged_base():
    comparison = Comparison(4.4, 2.1, 6.3, 37, 40)
    assert "on 40 series, 110 windows;" in conclude(comparison, 110)
    seen = conclude(comparison, 120, has_seen=True)
    assert "Use" not in seen and "seen scored steps" in seen and "4.4%" in seen
    for same in (Comparison(0.0, 0.0, 0.0, 0, 40), Comparison(0.0, np.nan, np.nan, 0, 1)):
        assert "exactly as the base" in conclude(same, 40)
    assert "exactly" not in conclude(Comparison(0.0, -1.0, 1.0, 20, 40), 40)
