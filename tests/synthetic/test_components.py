"""Building blocks of the priors against closed forms and plain loops."""

import numpy as np
import pytest

from pipeline.synthetic import components
from pipeline.synthetic.draws import Draws, make_keys


def stream(n, seed=0):
    return Draws(make_keys(seed, np.arange(n)))


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.95])
def test_autoregressive_noise_has_variance_1_and_the_given_autocorrelation(memory):
    x = components.autoregress(stream(400).white(1000), np.full((400, 1), memory)).astype(np.float64)
    assert abs(x[:, 0].var() - 1) < 0.3 and abs(x[:, -1].var() - 1) < 0.3
    for lag in (1, 3):
        assert abs((x[:, lag:] * x[:, :-lag]).mean() - memory**lag) < 0.05
    assert components.autoregress(np.ones((1, 3), np.float32), np.array([[0.6]])) == pytest.approx(
        np.array([[1, 0.6 + 0.8, 0.6 * 1.4 + 0.8]])
    )


def test_shapes_are_interpolated_linearly_and_repeat_bit_for_bit():
    shapes = components.draw_shapes(stream(5))
    np.testing.assert_allclose(shapes.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(shapes.std(axis=1), 1, atol=1e-5)
    phases = np.random.default_rng(0).random((5, 300)).astype(np.float32)
    expected = [np.interp(p, np.arange(513) / 512, [*s, s[0]]) for s, p in zip(shapes, phases)]
    np.testing.assert_allclose(components.interpolate_shapes(shapes, phases), expected, atol=1e-4)
    phases = components.phase(np.arange(2000), np.full((5, 1), 168.0), np.full((5, 1), 1234.5))
    values = components.interpolate_shapes(shapes, phases)
    np.testing.assert_array_equal(values[:, 168:], values[:, :-168])


def test_seasons_are_in_their_range_and_fit_twice():
    for low, high, length in ((2, 730, 400), (3, 30, 90), (10, 500, 64), (300, 700, 400)):
        short, long = components.draw_seasons(stream(500), np.full((500, 1), length), (low, high))
        assert (short <= min(high, max(length / 2, min(low, length / 2)))).all() and (long >= short).all()
        assert (short >= min(low, length // 2)).all() and (len(np.unique(short)) > 2 or low > length / 2)
    short, _ = components.draw_seasons(stream(2000), np.full((2000, 1), 1000), (2, 730), arbitrary=0.0)
    assert {24, 12, 7, 48, 4} <= set(short.ravel())


def test_segments_increase_to_a_number_of_changes_in_the_range():
    segment = components.draw_segments(stream(300), np.full((300, 1), 80), 80, (2, 5))
    steps = np.diff(segment, axis=1)
    assert (segment[:, 0] <= 1).all() and (steps >= 0).all()
    assert (segment[:, -1] >= 2).all() and (segment[:, -1] <= 5).all() and len(np.unique(segment[:, -1])) == 4


def test_slow_changes_are_piecewise_linear():
    values = components.draw_slow_changes(stream(200), np.full((200, 1), 120), 120, (1, 6)).astype(np.float64)
    bends = (np.abs(np.diff(values, 2, axis=1)) > 1e-3).sum(axis=1)
    assert bends.max() <= 2 * 6 and 0.4 < values[:, 0].std() < 1.6
