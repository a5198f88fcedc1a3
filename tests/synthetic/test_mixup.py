"""TSMixup: sums of series whose terms and weights can be recovered from the values."""

import numpy as np
import pytest
from scipy import stats

from pipeline.data.arrow_store import store_from_arrays
from pipeline.synthetic.draws import make_keys
from pipeline.synthetic.mixup import Mixup, Pool
from pipeline.windows.samplers import MixupSampler
from pipeline.windows.splits import split_store, training_pool


def pool(arrays):
    store = store_from_arrays(arrays)
    return Pool.of(store, np.arange(len(store)), store.lengths)


def waves(length, orders):
    """Sines of whole periods: orthogonal, and with the same mean absolute value."""
    return [np.sin(2 * np.pi * order * (np.arange(length) + 0.5) / length) for order in orders]


def solve_weights(mixed, arrays):
    """Weight of each scaled array in each sum, by least squares."""
    basis = np.stack([array / np.abs(array).mean() for array in arrays], axis=1)
    weights, _, _, _ = np.linalg.lstsq(basis, mixed.T.astype(np.float64), rcond=None)
    np.testing.assert_allclose(basis @ weights, mixed.T, atol=1e-4)
    return weights.T


def test_a_sum_has_up_to_three_scaled_series_with_weights_that_sum_to_1():
    arrays = [scale * wave for scale, wave in zip([1, 1e6, 1e-6, 30, 2, 7, 3, 9, 4, 5], waves(256, range(1, 11)))]
    weights = solve_weights(Mixup([pool(arrays)], [1.0]).series(3000, 256, seed=0), arrays)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-4)
    assert weights.min() > -1e-4
    number = (weights > 1e-3).sum(axis=1)
    assert set(number) == {1, 2, 3} and (weights > 0.999).any(axis=1).mean() > 0.3
    assert stats.chisquare((weights > 1e-3).sum(axis=0)).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.5, 1.5, 20.0])
def test_weights_are_dirichlet(alpha):
    """A series is rarely drawn twice for a sum; the weights of two terms are Beta(alpha, alpha)."""
    arrays = waves(512, range(1, 201))
    weights = solve_weights(Mixup([pool(arrays)], [1.0], max_series=2, alpha=alpha).series(1500, 512, seed=1), arrays)
    largest = weights.max(axis=1)
    pairs = largest[largest < 0.9999]
    folded = lambda x: stats.beta(alpha, alpha).cdf(x) - stats.beta(alpha, alpha).cdf(1 - x)  # noqa: E731
    assert stats.kstest(pairs, folded).pvalue > 1e-3 and abs(len(pairs) - 750) < 100 + 300 * (alpha < 1)


def test_segments_begin_uniformly_in_series_that_are_long_enough():
    """Series rise by 1 per step, so the ratio of the first value to the step is the begin of the segment."""
    arrays = [np.arange(1, 1 + length, dtype=np.float64) for length in (50, 80, 20, 79)]
    mixup = Mixup([pool(arrays)], [1.0], max_series=1)
    values = mixup.draw(make_keys(0, np.arange(4000)), np.full(4000, 60), 70).astype(np.float64)
    assert (values[:, 60:] == 0).all()
    begin = np.round(values[:, 0] / (values[:, 1] - values[:, 0])).astype(int)
    np.testing.assert_allclose(values[:, :60].mean(axis=1), 1, rtol=1e-5)
    assert set(begin) == set(range(1, 22))
    counts = np.bincount(begin)[1:]
    expected = 4000 * (np.r_[np.full(21, 1 / 21)] / 2 + np.r_[np.full(20, 1 / 20), 0] / 2)
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_lengths_are_uniform_up_to_the_longest_series():
    mixup = Mixup([pool(waves(300, [1])), pool(waves(900, [1]))], [1.0, 1.0], min_length=128, max_length=2048)
    lengths = mixup.draw_lengths(make_keys(0, np.arange(20000)))
    assert lengths.min() == 128 and lengths.max() == 900
    assert stats.kstest((lengths - 127.5) / 773, "uniform").pvalue > 1e-3
    short = Mixup([pool(waves(30, [1]))], [1.0])
    assert set(short.draw_lengths(make_keys(0, np.arange(50)))) == {30}


def test_pools_are_drawn_by_weight_if_they_are_long_enough():
    arrays = waves(100, [1, 2, 3])
    pools = [pool(arrays[:1]), pool(arrays[1:2]), pool([arrays[2][:60]])]
    weights = solve_weights(Mixup(pools, [1.0, 3.0, 50.0], max_series=1).series(4000, 100, seed=0), arrays[:2])
    assert abs((weights[:, 1] > 0.5).mean() - 0.75) < 4 * np.sqrt(0.1875 / 4000)


def test_a_missing_value_is_missing_in_the_sum_and_left_out_of_the_scale():
    array = np.full(40, 8.0)
    array[[3, 4]] = np.nan
    mixed = Mixup([pool([array])], [1.0], max_series=1).series(5, 40, seed=0)
    np.testing.assert_array_equal(
        mixed, np.where(np.isnan(array), np.nan, 1.0)[None].repeat(5, axis=0).astype(np.float32)
    )


def test_segments_of_zeros_are_not_scaled():
    assert (Mixup([pool([np.zeros(30)])], [1.0]).series(5, 20, seed=0) == 0).all()


def test_a_sum_does_not_depend_on_the_other_sums():
    mixup = Mixup([pool(np.random.default_rng(0).normal(size=(20, 300)))], [1.0])
    keys = make_keys(2, np.arange(100))
    lengths = mixup.draw_lengths(keys)
    together = mixup.draw(keys, lengths, 300)
    for i in (0, 33, 99):
        np.testing.assert_array_equal(mixup.draw(keys[i : i + 1], lengths[i : i + 1], 300)[0], together[i])


def test_a_mixed_window_of_short_series_has_a_minimum_past():
    split = split_store(store_from_arrays([np.arange(7.0) % 3 for _ in range(4)]), 0.0, 8, 4)
    sampler = MixupSampler([split], Mixup([training_pool(split)], [1.0], min_length=7))
    context, target = sampler.draw(make_keys(0, np.arange(50)), make_keys(1, np.arange(50)), 20, 8)
    assert ((~np.isnan(context)).sum(axis=1) == 4).all() and ((~np.isnan(target)).sum(axis=1) == 3).all()


def test_mixed_windows_have_training_steps_only_and_all_context_lengths():
    """Steps outside of training are negative."""
    arrays = [np.r_[np.full(200, 3.0) + np.arange(200) % 7, np.full(60, -50.0)] for _ in range(5)]
    split = split_store(store_from_arrays(arrays), 0.0, 8, 4, test_length=60)
    sampler = MixupSampler([split], Mixup([training_pool(split)], [1.0]))
    context, target = sampler.draw(make_keys(0, np.arange(800)), make_keys(1, np.arange(800)), 100, 8)
    assert context.shape == (800, 100) and target.shape == (800, 8)
    assert np.nanmin(context) > 0 and np.nanmin(target) > 0 and not np.isnan(target).any()
    known = (~np.isnan(context)).sum(axis=1)
    assert known.min() >= 4 and known.max() == 100


@pytest.mark.parametrize("max_series", [1, 3])
def test_a_tiny_alpha_gives_a_single_series(max_series):
    """Gamma numbers of this shape are too small for float64."""
    arrays = waves(256, range(1, 20))
    values = Mixup([pool(arrays)], [1.0], max_series=max_series, alpha=1e-4).series(200, 256, seed=1)
    weights = solve_weights(values, arrays)
    assert (weights.max(axis=1) > 0.999).mean() > 0.99
