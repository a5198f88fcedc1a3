"""The backtest, compared with a plain loop over numbers."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.core.metrics import WQL_LEVELS
from pipeline.core.processes import Processes
from pipeline.data.arrow_store import store_from_arrays
from pipeline.evaluation.backtest import evaluate_task, make_task
from pipeline.evaluation.baselines import naive_forecast


def plain_scores(series, prediction_length, windows, season, forecast):
    """Return WQL, MASE and coverage by the definition, one number at a time."""
    loss = scale = covered = known = 0.0
    mase = []
    for target in series:
        for origin in range(windows, 0, -1):
            start = len(target) - origin * prediction_length
            if start <= 0:
                continue
            history, future = target[:start], target[start : start + prediction_length]
            quantiles = forecast(history)
            errors = []
            for step, value in enumerate(future):
                if np.isnan(value):
                    continue
                for level, quantile in zip(WQL_LEVELS, quantiles[step]):
                    loss += 2 * (level if value >= quantile else 1 - level) * abs(value - quantile) / len(WQL_LEVELS)
                scale += abs(value)
                errors.append(abs(value - quantiles[step][4]))
                covered += quantiles[step][0] <= value <= quantiles[step][-1]
                known += 1
            steps = [abs(a - b) for a, b in zip(history[season:], history) if not np.isnan(a - b)]
            if errors and steps and np.mean(steps) > 0:
                mase.append(np.mean(errors) / np.mean(steps))
    return loss / scale, np.mean(mase), covered / known


def around_last(history):
    """Return quantiles spread around the last known value, for six steps."""
    last = history[~np.isnan(history)][-1]
    return np.array([[last + 3 * (level - 0.5) for level in WQL_LEVELS]] * 6)


def zeros(histories, prediction_length):
    return np.zeros((len(histories), prediction_length, 9))


@pytest.mark.parametrize("windows", [1, 3])
def test_scores_are_those_of_a_plain_loop(windows):
    rng = np.random.default_rng(0)
    series = [rng.normal(5, 1, length).astype(np.float32) for length in (40, 25, 9, 70)]
    series[0][[5, 36, 37]] = np.nan
    task = make_task("t", store_from_arrays(series), 6, 4, windows)
    evaluation = evaluate_task(task, lambda histories, _: np.stack([*map(around_last, histories)]), batch_size=2)
    scores = evaluation.scores()
    expected = plain_scores(series, 6, windows, 4, around_last)
    assert [scores[name] for name in ("WQL", "MASE", "coverage_80")] == pytest.approx(expected)


def test_a_forecast_sees_only_the_steps_before_its_origin():
    series = np.arange(50, dtype=np.float32)
    lengths: list[int] = []

    def forecast(histories, prediction_length):
        lengths.extend(len(history) for history in histories)
        return naive_forecast(1)(histories, prediction_length)

    evaluate_task(make_task("t", store_from_arrays([series]), 7, 1, 3), forecast)
    assert sorted(lengths) == [29, 36, 43]


def test_a_data_set_without_windows_is_refused():
    for series, fact in ((np.ones(5), "evaluation.prediction_length"), (np.r_[1.0, [np.nan] * 6], "last 6 steps")):
        with pytest.raises(UserError, match=fact):
            evaluate_task(make_task("t", store_from_arrays([series]), 6, 1, 1), naive_forecast(1))


def test_a_series_without_values_has_no_window():
    assert len(make_task("s", store_from_arrays([np.array([1.0, 5.0, 2.0]), np.array([])]), 1, None, 1)) == 1


def test_scores_by_series_and_by_step_are_those_of_their_windows():
    """Forecasts are zero, so the error of each series is its own constant, and that of each step is its value."""
    series = [np.r_[np.arange(20.0), np.full(6, float(k))] for k in (1, 2, 3)]
    series.append(np.r_[np.arange(30.0), np.arange(1.0, 7)])
    task = make_task("t", store_from_arrays(series), 3, 1, 2)
    evaluation = evaluate_task(task, zeros, batch_size=3)
    indices, scores = evaluation.by_series()
    assert indices.tolist() == [0, 1, 2, 3] and scores["WAPE"] == pytest.approx(1.0)
    scales = [np.abs(np.diff(values[: len(values) - back])).mean() for values in series for back in (6, 3)]
    errors = [np.abs(values[len(values) - back :][:3]).mean() for values in series for back in (6, 3)]
    np.testing.assert_allclose(scores["MASE"], (np.array(errors) / scales).reshape(4, 2).mean(axis=1))
    steps = evaluation.by_step()
    assert len(steps) == 3 and np.mean([step["MASE"] for step in steps]) == pytest.approx(evaluation.scores()["MASE"])
    last = evaluate_task(make_task("t", store_from_arrays([series[3]]), 3, 1, 1), zeros)
    assert [step["MASE"] for step in last.by_step()] == pytest.approx([4 / scales[7], 5 / scales[7], 6 / scales[7]])


class ThreadProcesses(Processes):
    """Two processes as threads, which exchange their parts as `gather` does."""

    slots: list[list] = [[], []]
    barrier_of_both = Barrier(2, timeout=10)

    def __init__(self, rank):
        super().__init__()
        self.count, self.rank, self.own = 2, rank, []

    def gather(self, items, device):
        self.own += items
        self.slots[self.rank] = items
        self.barrier_of_both.wait()
        together = self.slots[0] + self.slots[1]
        self.barrier_of_both.wait()
        return together


@pytest.mark.parametrize("batches_per_round", [1, 16])
def test_processes_share_the_batches_and_each_gets_all_forecasts_in_order(monkeypatch, batches_per_round):
    """Seven series in batches of two are four batches: two exchanges of one batch of each process, or one of two."""
    task, sizes = make_task("t", store_from_arrays([np.arange(20.0) + k for k in range(7)]), 4, 1, 1), []
    monkeypatch.setattr("pipeline.evaluation.backtest._BATCHES_PER_ROUND", batches_per_round)

    def run(processes):
        kept: list[tuple[list[int], np.ndarray]] = []

        def forecast(histories, length):
            sizes.append(len(histories))
            return naive_forecast(1)(histories, length)

        keep = lambda indices, quantiles: kept.append((list(indices), quantiles))  # noqa: E731
        return evaluate_task(task, forecast, 2, processes, keep=keep), kept

    whole, kept = run(None)
    assert sizes == [2, 2, 2, 1] and [indices for indices, _ in kept] == [[0, 1], [2, 3], [4, 5], [6]]
    assert np.concatenate([quantiles for _, quantiles in kept])[:, 0, 0].tolist() == [15.0 + k for k in range(7)]
    processes = [ThreadProcesses(0), ThreadProcesses(1)]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(run, processes))
    assert sorted(sizes) == sorted([2, 2, 2, 1] * 2)
    assert [[part[0] for part in process.own] for process in processes] == [[0, 2], [1, 3]]
    for together, kept_too in results:
        np.testing.assert_array_equal(together.errors.pinball, whole.errors.pinball)
        for (indices, quantiles), (expected_indices, expected) in zip(kept_too, kept, strict=True):
            assert indices == expected_indices and (quantiles == expected).all()


def test_scores_by_window_are_those_of_each_window():
    series = [np.r_[np.arange(20.0), np.full(3, 1.0), np.full(3, 4.0)], np.arange(30.0)]
    evaluation = evaluate_task(make_task("t", store_from_arrays(series), 3, 1, 2), zeros, batch_size=3)
    indices, starts, scores = evaluation.by_window()
    assert list(zip(indices, starts)) == [(0, 20), (0, 23), (1, 24), (1, 27)]
    scales = [np.abs(np.diff(series[0][:start])).mean() for start in (20, 23)]
    assert scores["MASE"][:2] == pytest.approx([1 / scales[0], 4 / scales[1]]) and scores["WQL"].shape == (4,)
