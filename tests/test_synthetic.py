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


def test_the_seed_changes_everything():
    assert not np.isclose(dummy_array(5, 5, 60, ALL, 0), dummy_array(5, 5, 60, ALL, 1)).any(axis=1).all()


def test_values_are_finite_and_of_the_asked_shape():
    data = dummy_array(64, 64, 300, ALL, 0)
    assert data.shape == (64, 300) and data.dtype == np.float32 and np.isfinite(data).all()
    assert (data.std(axis=1) > 0).all()


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
