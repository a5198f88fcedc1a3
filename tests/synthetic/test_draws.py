"""Keyed random numbers: independence of the rows, and the distributions."""

import numpy as np
import pytest
from scipy import stats

from pipeline.synthetic.draws import Draws, make_keys

N = 4000


def draws(rows=slice(None), seed=0):
    return Draws(make_keys(seed, np.arange(N))[rows])


def draw_all_kinds(stream):
    """One draw of each kind, as one array per row."""
    counts = []
    stream.each_row(lambda row, rng: counts.append(rng.poisson(3.0, 4)))
    columns = [
        stream.uniform(-1, 2),
        stream.log_uniform(1, 100, 150),
        stream.integers(3, 9),
        stream.normal(2),
        stream.gamma(1.5),
        stream.chance(0.3),
        stream.choice(np.array([5.0, 6.0, 7.0]), np.array([1, 0, 3])),
        stream.white(7),
        counts,
        stream.fork().uniform(0, 1, 3),
        stream.fork().white(3),
    ]
    return np.concatenate([np.asarray(column, np.float64) for column in columns], axis=1)


def test_numbers_of_a_row_do_not_depend_on_the_other_rows():
    rows = np.array([3999, 0, 17, 17])
    np.testing.assert_array_equal(draw_all_kinds(draws(rows)), draw_all_kinds(draws())[rows])


def test_numbers_of_other_seeds_rows_and_calls_are_uncorrelated():
    columns = np.concatenate([draw_all_kinds(draws()), draw_all_kinds(draws(seed=1))], axis=1)
    continuous = columns[:, [0, *range(1, 151), 152, 153, 154]]
    other = columns[:, columns.shape[1] // 2 :][:, [0, 1, 2]]
    correlation = np.corrcoef(np.concatenate([continuous, other], axis=1).T)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 5.5 / np.sqrt(N)
    assert len(np.unique(continuous[:, 0])) == N


@pytest.mark.parametrize(
    "draw, distribution",
    [
        (lambda s: s.uniform(-1, 2), stats.uniform(-1, 3)),
        (lambda s: s.log_uniform(0.1, 50), stats.loguniform(0.1, 50)),
        (lambda s: s.normal(), stats.norm()),
        (lambda s: s.gamma(1.5), stats.gamma(1.5)),
        (lambda s: s.white(9)[:, 4], stats.norm()),
        (lambda s: s.fork().uniform(), stats.uniform()),
    ],
)
def test_continuous_numbers_have_their_distribution(draw, distribution):
    assert stats.kstest(draw(draws()).ravel(), distribution.cdf).pvalue > 1e-3


def test_discrete_numbers_have_their_distribution():
    numbers = draws().integers(3, 6).ravel()
    assert stats.chisquare(np.bincount(numbers)[3:]).pvalue > 1e-3 and set(numbers) == {3, 4, 5, 6}
    chosen = draws().choice(np.array([[1, 2], [3, 4], [5, 6]]), np.array([1.0, 0.0, 3.0]))
    assert chosen.shape == (N, 2) and set(map(tuple, chosen)) == {(1, 2), (5, 6)}
    assert abs((chosen[:, 0] == 5).mean() - 0.75) < 4 * np.sqrt(0.1875 / N)
    assert abs(draws().chance(0.2).mean() - 0.2) < 4 * np.sqrt(0.16 / N)


def test_noise_is_a_prefix_of_longer_noise():
    np.testing.assert_array_equal(draws().white(5), draws().white(50)[:, :5])
