"""Each effect against its definition."""

import numpy as np
import pytest
from scipy import stats

from pipeline.synthetic.draws import Draws, make_keys
from pipeline.synthetic.effects import EFFECTS


def apply(name, values, lengths=None, **ranges):
    lengths = np.full((len(values), 1), values.shape[1]) if lengths is None else lengths
    return EFFECTS[name](Draws(make_keys(9, np.arange(len(values)))), values, lengths, **ranges)


@pytest.fixture(scope="module")
def x():
    values = np.random.default_rng(0).normal(5, 2, (300, 400))
    values.flags.writeable = False
    return values


def test_skew_makes_values_positive_and_right_skewed(x):
    skewed = apply("skew", x)
    assert (skewed > 0).all() and (stats.skew(skewed, axis=1) > stats.skew(x, axis=1)).all()


def test_level_moves_the_mean_by_standard_deviations_and_rarely_below_zero(x):
    moved = apply("level", x, height=(3, 3))
    np.testing.assert_allclose(np.abs(moved.mean(axis=1)), 3 * x.std(axis=1), rtol=1e-6)
    assert 0 < (moved.mean(axis=1) < 0).mean() < 0.15


def test_outliers_move_their_share_of_values(x):
    moved = apply("outliers", x, share=(0.01, 0.01), size=(10, 10)) != x
    assert abs(moved.mean() - 0.01) < 0.002


def test_censoring_clips_at_its_distance_from_the_mean(x):
    clipped = apply("censoring", x, bound=(1, 1))
    at_top = np.isclose(clipped, clipped.max(axis=1, keepdims=True))
    at_bottom = np.isclose(clipped, clipped.min(axis=1, keepdims=True))
    assert (np.abs((at_top | at_bottom).mean(axis=1) - stats.norm.sf(1)) < 0.08).all()


def test_positive_clips_series_that_are_mostly_positive(x):
    assert (apply("positive", x) == np.maximum(x, 0)).all() and (apply("positive", x - 20) == x - 20).all()


def test_rounding_rounds_to_its_grid(x):
    rounded = apply("rounding", x, resolution=(2, 2)) / (x.std(axis=1, keepdims=True) / 2)
    np.testing.assert_allclose(rounded, np.round(rounded), atol=1e-6)


def test_unit_multiplies_by_a_scale_in_its_range(x):
    scale = apply("unit", x, scale=(0.1, 1000)) / x
    assert np.allclose(scale, scale[:, :1]) and scale.min() < 1 and scale.max() > 100


def test_missing_values_are_their_share_in_gaps_or_single_steps(x):
    missing = np.isnan(apply("missing", x, share=(0.2, 0.2), stretches=(2, 2)))
    n_gaps = (np.diff(missing.astype(int), axis=1) == 1).sum(axis=1) + missing[:, 0]
    assert abs(missing.mean() - 0.2) < 0.03 and 0.3 < (n_gaps <= 2).mean() < 0.7 and n_gaps.max() > 20


@pytest.mark.parametrize("name", ["skew", "level", "censoring", "rounding"])
def test_moments_are_those_within_the_length(x, name):
    values = x[:40, :100].copy()
    values[:, 50:] = 1e6
    inside = apply(name, values, np.full((40, 1), 50))[:, :50]
    np.testing.assert_allclose(inside, apply(name, values[:, :50]), rtol=1e-9)


def test_counts_are_poisson_numbers_of_the_series_as_rate():
    values = np.where(np.arange(1000) % 2, 1.0, -1.0) * np.ones((200, 1))
    x = apply("counts", values, mean=(20, 20), contrast=(0.5, 0.5))
    assert (x == np.round(x)).all() and (x >= 0).all()
    for part, rate in ((x[:, 0::2], 10), (x[:, 1::2], 30)):
        assert abs(part.mean() - rate) < 0.1 and abs(part.var() / rate - 1) < 0.05


def test_a_series_may_have_no_stretch_of_missing_values(x):
    changed = np.isnan(apply("missing", x, share=(0.3, 0.3), stretches=(0, 0)))
    assert 0.3 < (~changed.any(axis=1)).mean() < 0.7 and 0.1 < changed.mean() < 0.2
