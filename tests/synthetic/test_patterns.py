"""Dummy series: independence of numbers and processes, and the properties of trend, season and noise."""

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.synthetic import dummy_array, dummy_series
from pipeline.synthetic.patterns import promotions

ALL = ("trend", "seasonal", "noise")


def test_series_do_not_depend_on_the_number_of_series_and_processes():
    few = dummy_array(10, 7, 50, ALL, seed=3)
    single, parallel = (list(dummy_series(600, 7, 50, ALL, seed=3, num_processes=n)) for n in (1, 2))
    np.testing.assert_array_equal(few, np.stack([series.target for series in single[:10]]))
    assert [series.item_id for series in single] == [series.item_id for series in parallel]
    assert all(np.array_equal(a.target, b.target) for a, b in zip(single, parallel))
    assert len({series.target.tobytes() for series in single}) == 600


def test_the_global_generator_is_not_used():
    np.random.seed(0)
    first = dummy_array(5, 2, 50, ALL, 0)
    np.random.seed(1)
    np.testing.assert_array_equal(first, dummy_array(5, 2, 50, ALL, 0))


def test_series_have_names_dates_and_a_frequency():
    series = list(dummy_series(5, 2, 50, ALL, seed=0))
    assert [path.item_id for path in series] == [f"process{k % 2}_path{k}" for k in range(5)]
    assert {(path.freq, str(path.start)) for path in series} == {("h", "2020-01-01T00:00:00")}


@pytest.mark.parametrize("patterns", [["trend"], ["seasonal"], ["noise"], ALL])
def test_the_seed_changes_every_series(patterns):
    first, second = (dummy_array(20, 5, 60, patterns, seed) for seed in (0, 1))
    assert (np.isclose(first, second, rtol=1e-4).mean(axis=1) < 0.1).all()


def test_values_are_finite_float32_that_vary():
    data = dummy_array(64, 64, 300, ALL, 0)
    assert data.shape == (64, 300) and data.dtype == np.float32 and np.isfinite(data).all()
    assert (data.std(axis=1) > 0).all()


@pytest.mark.parametrize("length", [2, 3, 10, 23, 47])
def test_values_of_short_series_are_bounded(length):
    data = np.abs(dummy_array(200, 200, length, ALL, 0))
    assert np.isfinite(data).all() and data.max() < 1e4


@pytest.mark.parametrize("n_series", [1, 3, 8])
def test_seasons_have_as_many_processes_as_n_series(n_series):
    """Paths of one process start at different steps, so over whole weeks their sorted values agree."""
    data = np.sort(dummy_array(16, n_series, 168 * 2, ["seasonal"], 4), axis=1)
    for a in range(16):
        for b in range(a):
            assert np.allclose(data[a], data[b], rtol=1e-4, atol=1e-3) == (a % n_series == b % n_series)


def test_paths_of_a_process_without_noise_differ():
    data = dummy_array(4, 1, 100, ["seasonal"], 0)
    assert len({row.tobytes() for row in data}) == 4


def test_a_trend_is_smooth_and_has_at_most_three_turns():
    data = dummy_array(60, 60, 400, ["trend"], 0).astype(float)
    assert (np.abs(np.diff(data)).max(axis=1) < 0.05 * np.ptp(data, axis=1)).all()
    for series in data:
        level = series[::12]
        step = np.diff(level)
        turns = np.diff(np.sign(step[np.abs(step) > 1e-4 * np.ptp(level)]))
        assert (turns != 0).sum() <= 3


def test_a_season_repeats_exactly():
    data = dummy_array(20, 20, 400, ["seasonal"], 0).astype(float)
    np.testing.assert_allclose(data[:, 168:], data[:, :-168], rtol=1e-4, atol=1e-3 * data.std())


def test_noise_has_no_season():
    data = dummy_array(50, 50, 2000, ["noise"], 0)
    standardized = (data - data.mean(axis=1, keepdims=True)) / data.std(axis=1, keepdims=True)
    seasonal_correlation = (standardized[:, 168:] * standardized[:, :-168]).mean(axis=1)
    assert np.abs(seasonal_correlation).max() < 0.15


def test_noise_of_paths_is_independent():
    data = dummy_array(30, 1, 500, ["noise"], 0).astype(float)
    correlation = np.corrcoef(data)[np.triu_indices(30, 1)]
    assert np.abs(correlation).max() < 0.5 and np.abs(correlation.mean()) < 0.05


def test_noise_is_white_autoregressive_or_heavy_tailed():
    data = dummy_array(60, 60, 3000, ["noise"], 0).astype(float)
    standardized = (data - data.mean(axis=1, keepdims=True)) / data.std(axis=1, keepdims=True)
    memory = (standardized[:, 1:] * standardized[:, :-1]).mean(axis=1)
    kurtosis = (standardized**4).mean(axis=1)
    assert 5 < (memory > 0.4).sum() < 40 and (memory > 0.99).sum() == 0
    assert 5 < ((kurtosis > 4) & (memory < 0.1)).sum() < 40 and ((kurtosis < 3.5) & (memory < 0.1)).sum() > 5


def test_the_order_of_the_patterns_does_not_matter():
    forward, backward = dummy_array(6, 3, 80, ALL, 0), dummy_array(6, 3, 80, ALL[::-1], 0)
    np.testing.assert_allclose(forward, backward, rtol=1e-4, atol=1e-3)


def test_patterns_are_added():
    trend, season = (dummy_array(6, 6, 100, [name], 5).astype(float) for name in ("trend", "seasonal"))
    both = dummy_array(6, 6, 100, ["trend", "seasonal"], 5).astype(float)
    np.testing.assert_allclose(np.diff(both), np.diff(trend) + np.diff(season), atol=1e-3 * both.std())


def test_promotions_raise_the_target_by_the_same_amount_in_every_path_of_a_process():
    patterns = [*ALL, "promotion"]
    plain = dummy_array(60, 3, 400, ALL, seed=1)
    lifts = []
    for k, series in enumerate(dummy_series(60, 3, 400, patterns, seed=1)):
        target, promotion = series.target
        assert series.variates.known == ("promotion",) and set(np.unique(promotion)) == {0.0, 1.0}
        np.testing.assert_array_equal(promotion, promotions(k, 0, 400, seed=1))
        np.testing.assert_array_equal(target[promotion == 0], plain[k][promotion == 0])
        raised = (target - plain[k])[promotion == 1]
        np.testing.assert_allclose(raised, raised[0], rtol=1e-2, atol=1e-3)
        lifts.append(raised.mean())
    np.testing.assert_allclose(lifts[3:], np.tile(lifts[:3], 19), rtol=1e-3)
    assert min(lifts) > 0 and len(set(np.round(lifts, 3))) == 3


def test_promotions_go_on_after_the_series():
    whole = promotions(5, 0, 500, seed=2)
    np.testing.assert_array_equal(promotions(5, 400, 500, seed=2), whole[400:])
    changes = np.flatnonzero(np.diff(whole))
    lengths = np.diff(changes)[int(whole[0]) :: 2]  # of the promotions that begin and end within the series
    assert 0.05 < whole.mean() < 0.4 and len(lengths) and lengths.min() >= 6
    assert not np.array_equal(whole, promotions(6, 0, 500, seed=2))


def test_arrays_with_promotions_are_refused():
    with pytest.raises(UserError, match="training.dummy_data.patterns"):
        dummy_array(5, 2, 50, ["trend", "promotion"], 0)
