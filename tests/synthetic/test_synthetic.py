import numpy as np
import pytest

from pipeline.synthetic import dummy_array, dummy_series

ALL = ("trend", "seasonal", "noise")


def test_series_are_the_same_for_any_number_of_processes():
    one = list(dummy_series(600, 7, 50, ALL, seed=3))
    three = list(dummy_series(600, 7, 50, ALL, seed=3, num_processes=3))
    assert [series.item_id for series in one] == [series.item_id for series in three]
    assert all(np.array_equal(a.target, b.target) for a, b in zip(one, three))


def test_a_series_does_not_depend_on_how_many_are_made():
    np.testing.assert_array_equal(dummy_array(10, 4, 60, ALL, 0), dummy_array(300, 4, 60, ALL, 0)[:10])


def test_the_first_of_many_are_the_same_for_any_number_of_processes():
    few = dummy_array(10, 4, 60, ALL, 0)
    many = list(dummy_series(600, 4, 60, ALL, seed=0, num_processes=3))
    np.testing.assert_array_equal(few, np.stack([one.target for one in many[:10]]))
    assert len({one.target.tobytes() for one in many}) == 600


def test_no_global_generator_is_read():
    np.random.seed(0)
    one = dummy_array(5, 2, 50, ALL, 0)
    np.random.seed(1)
    np.testing.assert_array_equal(one, dummy_array(5, 2, 50, ALL, 0))


def test_series_are_named_and_dated():
    series = list(dummy_series(5, 2, 50, ALL, seed=0))
    assert [one.item_id for one in series] == [f"process{k % 2}_path{k}" for k in range(5)]
    assert {(one.freq, str(one.start)) for one in series} == {("h", "2020-01-01T00:00:00")}


@pytest.mark.parametrize("patterns", [["trend"], ["seasonal"], ["noise"], ALL])
def test_the_seed_changes_every_series(patterns):
    one, other = (dummy_array(20, 5, 60, patterns, seed) for seed in (0, 1))
    assert (np.isclose(one, other, rtol=1e-4).mean(axis=1) < 0.1).all()


def test_values_are_finite_and_of_the_asked_shape():
    data = dummy_array(64, 64, 300, ALL, 0)
    assert data.shape == (64, 300) and data.dtype == np.float32 and np.isfinite(data).all()
    assert (data.std(axis=1) > 0).all()


@pytest.mark.parametrize("length", [2, 3, 10, 23, 47])
def test_short_series_are_no_larger_than_long_ones(length):
    data = np.abs(dummy_array(200, 200, length, ALL, 0))
    assert np.isfinite(data).all() and data.max() < 1e4


@pytest.mark.parametrize("n_series", [1, 3, 8])
def test_a_season_alone_shows_as_many_processes_as_asked(n_series):
    """Paths of one process differ in where they begin, so over whole weeks they hold the same values."""
    data = np.sort(dummy_array(16, n_series, 168 * 2, ["seasonal"], 4), axis=1)
    for a in range(16):
        for b in range(a):
            assert np.allclose(data[a], data[b], rtol=1e-4, atol=1e-3) == (a % n_series == b % n_series)


def test_a_trend_alone_has_no_season():
    data = dummy_array(60, 60, 400, ["trend"], 0).astype(float)
    for series in data:
        level = series[::12]
        step = np.diff(level)
        turns = np.diff(np.sign(step[np.abs(step) > 1e-4 * np.ptp(level)]))
        assert (turns != 0).sum() <= 3


def test_the_order_of_the_patterns_changes_nothing():
    one, other = dummy_array(6, 3, 80, ALL, 0), dummy_array(6, 3, 80, ALL[::-1], 0)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)


def test_paths_of_one_process_have_noise_of_their_own():
    data = dummy_array(30, 1, 500, ["noise"], 0).astype(float)
    correlation = np.corrcoef(data)[np.triu_indices(30, 1)]
    assert np.abs(correlation).max() < 0.5 and np.abs(correlation.mean()) < 0.05


def test_some_noise_remembers_and_some_has_heavy_tails():
    data = dummy_array(60, 60, 3000, ["noise"], 0).astype(float)
    centred = (data - data.mean(axis=1, keepdims=True)) / data.std(axis=1, keepdims=True)
    memory = (centred[:, 1:] * centred[:, :-1]).mean(axis=1)
    tails = (centred**4).mean(axis=1)
    assert 5 < (memory > 0.4).sum() < 40 and (memory > 0.99).sum() == 0
    assert 5 < ((tails > 4) & (memory < 0.1)).sum() < 40 and ((tails < 3.5) & (memory < 0.1)).sum() > 5


def test_a_season_alone_repeats_exactly():
    data = dummy_array(20, 20, 400, ["seasonal"], 0).astype(float)
    np.testing.assert_allclose(data[:, 168:], data[:, :-168], rtol=1e-4, atol=1e-3 * data.std())


def test_a_trend_alone_is_smooth():
    data = dummy_array(20, 20, 400, ["trend"], 0).astype(float)
    step = np.abs(np.diff(data)).max(axis=1)
    assert (step < 0.05 * np.ptp(data, axis=1)).all()


def test_noise_alone_has_no_season():
    data = dummy_array(50, 50, 2000, ["noise"], 0)
    centred = (data - data.mean(axis=1, keepdims=True)) / data.std(axis=1, keepdims=True)
    at_the_season = (centred[:, 168:] * centred[:, :-168]).mean(axis=1)
    assert np.abs(at_the_season).max() < 0.15


def test_patterns_add_up():
    parts = [dummy_array(6, 6, 100, [name], 5).astype(float) for name in ("trend", "seasonal")]
    both = dummy_array(6, 6, 100, ["trend", "seasonal"], 5).astype(float)
    trend_and_season = np.diff(parts[0]) + np.diff(parts[1])
    np.testing.assert_allclose(np.diff(both), trend_and_season, atol=1e-3 * both.std())


@pytest.mark.parametrize("n_series", [1, 3])
def test_paths_of_one_process_share_its_season(n_series):
    data = dummy_array(6, n_series, 24 * 60, ["seasonal"], 2)
    spectra = np.abs(np.fft.rfft(data - data.mean(axis=1, keepdims=True)))
    shape = (spectra > 0.05 * spectra.max(axis=1, keepdims=True)).astype(int)
    same = [[bool((shape[a] == shape[b]).all()) for b in range(6)] for a in range(6)]
    assert all(same[a][b] for a in range(6) for b in range(6) if a % n_series == b % n_series)
    if n_series == 1:
        assert np.allclose(spectra, spectra[0], rtol=0.05, atol=0.02 * spectra.max())


def test_paths_differ_even_without_noise():
    data = dummy_array(4, 1, 100, ["seasonal"], 0)
    assert len({row.tobytes() for row in data}) == 4
