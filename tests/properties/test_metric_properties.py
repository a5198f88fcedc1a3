"""Scores of any forecasts against plain loops, fev and GluonTS, and their invariants."""

import math

import numpy as np
import pytest
from gluonts.ev.metrics import MASE, ND, MeanWeightedSumQuantileLoss
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.core.metrics import (
    INTERVALS,
    SCORES,
    WQL_LEVELS,
    WindowErrors,
    seasonal_error,
    seasonal_naive,
    window_errors,
)

fev_metrics = pytest.importorskip("fev.metrics")
finite = st.floats(-1e6, 1e6, width=32).map(lambda value: 0.0 if abs(value) < 1e-6 else value)
values = finite | st.integers(-3, 3).map(float)
values_or_missing = values | st.just(np.nan)


@st.composite
def forecasts(draw, target=values_or_missing, history=values_or_missing):
    """Histories [n, length], a season, targets [n, h] and rising quantiles [n, h, 9]."""
    n, horizon, length = draw(st.integers(1, 6)), draw(st.integers(1, 5)), draw(st.integers(1, 20))
    targets = draw(hnp.arrays(np.float64, (n, horizon), elements=target, fill=target))
    quantiles = draw(hnp.arrays(np.float64, (n, horizon, 9), elements=values, fill=values))
    histories = draw(hnp.arrays(np.float32, (n, length), elements=history, fill=history))
    return histories, draw(st.integers(1, 8)), targets, np.sort(quantiles, axis=2)


def errors_of(histories, season, targets, quantiles):
    scale = np.array([seasonal_error(history, season) for history in histories])
    return window_errors(targets, quantiles, scale)


def mean(items):
    return math.fsum(items) / len(items) if items else math.nan


def ratio(numerator, denominator):
    return numerator / denominator if denominator > 0 else math.nan


def loop_scores(histories, season, targets, quantiles):
    """The scores by their definitions, one value after the other."""
    losses, magnitudes, mases, rmsses = [], [], [], []
    absolute: list[float] = []
    inside: dict[int, list[bool]] = {interval: [] for interval in INTERVALS}
    for history, target, forecast in zip(histories.tolist(), targets.tolist(), quantiles.tolist()):
        pairs = [now - before for before, now in zip(history, history[season:])]
        pairs = [pair for pair in pairs if pair == pair]
        window = []
        for y, levels in zip(target, forecast):
            if y != y:
                continue
            window.append(y - levels[4])
            magnitudes.append(abs(y))
            losses += [2 * max(a * (y - q), (a - 1) * (y - q)) / 9 for a, q in zip(WQL_LEVELS, levels)]
            for k, interval in enumerate(INTERVALS):
                inside[interval].append(levels[k] <= y <= levels[8 - k])
        absolute += map(abs, window)
        mases.append(ratio(mean([abs(e) for e in window]), mean([abs(pair) for pair in pairs])))
        rmsses.append(ratio(mean([e * e for e in window]), mean([pair * pair for pair in pairs])) ** 0.5)
    scores = {
        "WQL": ratio(math.fsum(losses), math.fsum(magnitudes)),
        "MASE": mean([score for score in mases if score == score]),
        "WAPE": ratio(math.fsum(absolute), math.fsum(magnitudes)),
        "RMSSE": mean([score for score in rmsses if score == score]),
    }
    return scores | {f"coverage_{interval}": mean(inside[interval]) for interval in INTERVALS}


@given(forecasts())
def test_scores_equal_their_definitions(case):
    assert errors_of(*case).scores() == pytest.approx(loop_scores(*case), rel=1e-9, nan_ok=True)
    known = ~np.isnan(case[2])
    shares = [(case[2] <= case[3][:, :, k])[known].mean() if known.any() else np.nan for k in range(9)]
    assert errors_of(*case).calibration() == pytest.approx(shares, rel=1e-12, nan_ok=True)


def fev_score(metric, histories, season, targets, quantiles):
    return metric.compute(
        y_true=targets[:, :, None],
        y_pred=quantiles[:, :, 4, None],
        y_past=histories.reshape(-1, 1).astype(np.float64),
        y_past_lengths=np.full(len(histories), histories.shape[1]),
        q_pred=quantiles[:, :, None, :],
        seasonality=season,
        quantile_levels=list(WQL_LEVELS),
    )


@given(forecasts())
def test_wql_and_wape_are_those_of_fev(case):
    assume(np.nansum(np.abs(case[2])) > 0)
    scores = errors_of(*case).scores()
    assert scores["WQL"] == pytest.approx(fev_score(fev_metrics.WQL(), *case), rel=1e-9)
    assert scores["WAPE"] == pytest.approx(fev_score(fev_metrics.WAPE(), *case), rel=1e-9)


@given(forecasts(target=values))
def test_the_mase_of_known_targets_is_that_of_fev(case):
    """fev weights windows by their known steps; without missing targets both means are the same."""
    errors = errors_of(*case)
    assume((errors.scale > 0).any())
    defined = errors.scale > 0  # fev takes 0 / 0 and 1 / 0 as undefined only after it has warned of them
    case = (case[0][defined], case[1], case[2][defined], case[3][defined])
    assert errors.scores()["MASE"] == pytest.approx(fev_score(fev_metrics.MASE(), *case), rel=1e-9)


@given(forecasts(target=values, history=finite))
def test_scores_are_those_of_gluonts(case):
    histories, season, targets, quantiles = case
    errors = errors_of(*case)
    assume(np.abs(targets).sum() > 0 and (errors.scale > 0).all())
    data = {str(level): quantiles[:, :, k] for k, level in enumerate(WQL_LEVELS)}
    data |= {"label": targets, "seasonal_error": errors.scale[:, None], "mean": quantiles[:, :, 4]}

    def gluonts(metric):
        evaluator = metric(axis=None)
        evaluator.update(data)
        return float(evaluator.get())

    scores = errors.scores()
    assert scores["WQL"] == pytest.approx(gluonts(MeanWeightedSumQuantileLoss(list(WQL_LEVELS))), rel=1e-9)
    assert scores["MASE"] == pytest.approx(gluonts(MASE()), rel=1e-9)
    assert scores["WAPE"] == pytest.approx(gluonts(ND()), rel=1e-9)


@given(forecasts(), st.integers(-20, 20).map(lambda power: 2.0**power))
def test_scores_do_not_depend_on_the_unit(case, factor):
    histories, season, targets, quantiles = case
    scaled = errors_of(histories * np.float32(factor), season, targets * factor, quantiles * factor)
    assert scaled.scores() == pytest.approx(errors_of(*case).scores(), rel=1e-12, nan_ok=True)


@given(forecasts(), st.data())
def test_scores_do_not_depend_on_the_order_or_the_batches_of_windows(case, data):
    histories, season, targets, quantiles = case
    errors = errors_of(*case)
    order = data.draw(st.permutations(range(len(targets))))
    cut = data.draw(st.integers(1, len(targets)))
    parts = [order[:cut], order[cut:]] if cut < len(targets) else [order]
    moved = WindowErrors.concatenate([errors_of(histories[p], season, targets[p], quantiles[p]) for p in parts])
    assert moved.scores() == pytest.approx(errors.scores(), rel=1e-12, nan_ok=True)
    assert moved.calibration() == pytest.approx(errors.calibration(), nan_ok=True)
    for step in range(targets.shape[1]):
        alone = errors_of(histories, season, targets[:, [step]], quantiles[:, [step]])
        assert errors.at_step(step).scores() == pytest.approx(alone.scores(), rel=1e-12, nan_ok=True)


@given(forecasts())
def test_scores_are_in_their_ranges_and_intervals_are_nested(case):
    errors = errors_of(*case)
    scores = errors.scores()
    assert tuple(scores) == SCORES and all(not score < 0 for score in scores.values())
    coverage = [scores[f"coverage_{interval}"] for interval in INTERVALS]
    calibration = errors.calibration()
    if np.isnan(case[2]).all():
        assert np.isnan([*scores.values(), *calibration]).all()
        return
    assert 1 >= coverage[0] and all(wide >= narrow for wide, narrow in zip(coverage, coverage[1:]))
    assert (np.diff(calibration) >= 0).all() and 0 <= calibration[0] and calibration[-1] <= 1


@given(forecasts())
def test_a_forecast_of_the_targets_has_no_error(case):
    histories, season, targets, _ = case
    exact = np.repeat(np.nan_to_num(targets)[:, :, None], 9, axis=2)
    scores = errors_of(histories, season, targets, exact).scores()
    assert all(scores[name] in (0, pytest.approx(math.nan, nan_ok=True)) for name in ("WQL", "MASE", "WAPE", "RMSSE"))
    assert all(scores[f"coverage_{interval}"] == 1 for interval in INTERVALS) or np.isnan(targets).all()


@given(hnp.arrays(np.float32, st.integers(0, 40), elements=values_or_missing), st.integers(1, 12), st.integers(1, 30))
def test_the_seasonal_naive_forecast_walks_back_in_whole_seasons(history, season, horizon):
    known = history[~np.isnan(history)].tolist()
    expected = []
    for step in range(len(history), len(history) + horizon):
        past = [history[t] for t in range(step - season, -1, -season) if t < len(history) and history[t] == history[t]]
        expected.append(past[0] if past else known[-1] if known else 0.0)
    np.testing.assert_array_equal(seasonal_naive(history, horizon, season), expected)
