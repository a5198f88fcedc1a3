"""KernelSynth against the kernels of scikit-learn: the bank, the composites, and the covariance of many draws."""

import operator

import numpy as np
import pytest

from benchmarks.synthetic import scikit_learn_kernel
from pipeline.core.errors import UserError
from pipeline.synthetic import kernel_synth
from pipeline.synthetic.kernel_synth import (
    BANK,
    Constant,
    DotProduct,
    Periodic,
    RationalQuadratic,
    SquaredExponential,
    White,
    draw_terms,
    random_terms,
)

PAPER_PERIODS = [24, 48, 96, 24 * 7, 48 * 7, 96 * 7, 7, 14, 30, 60, 365, 365 * 2, 4, 26, 52, 4, 6, 12, 4, 4 * 10, 10]
LENGTH = 20


def covariance(terms, length):
    """Kernel matrix of a sum of products, from scikit-learn."""
    return scikit_learn_kernel(terms, length)(np.linspace(0, 1, length)[:, None])


def test_the_bank_is_that_of_the_paper():
    assert BANK[:21] == tuple(map(Periodic, PAPER_PERIODS))
    assert BANK[21:] == (
        *(DotProduct(sigma) for sigma in (0.0, 1.0, 10.0)),
        *(SquaredExponential(scale) for scale in (0.1, 1.0, 10.0)),
        *(RationalQuadratic(alpha) for alpha in (0.1, 1.0, 10.0)),
        *(White(level) for level in (0.1, 1.0)),
        Constant(),
    )


@pytest.mark.parametrize(
    "terms",
    [
        *([(kernel,)] for kernel in BANK[6:33:4]),
        [(Periodic(6), SquaredExponential(0.1))],
        [(Periodic(4), DotProduct(1.0), RationalQuadratic(1.0))],
        [(Periodic(4), Periodic(10), Periodic(7), SquaredExponential(1.0))],
        [(Periodic(12), White(1.0), White(0.1))],
        [(DotProduct(10.0),), (Periodic(7), White(1.0)), (Periodic(7), Periodic(24))],
        [(Periodic(4), Periodic(6), Periodic(7), Periodic(10), Periodic(12), Periodic(14), SquaredExponential(0.1))],
    ],
    ids=str,
)  # fmt: skip
def test_draws_have_the_covariance_of_the_dense_kernel(terms):
    n, rng = 3000, np.random.default_rng(0)
    sample = np.stack([draw_terms(terms, LENGTH, rng) for _ in range(n)]).astype(np.float64)
    expected = covariance(terms, LENGTH)
    error = np.sqrt((expected**2 + np.outer(np.diag(expected), np.diag(expected))) / n)
    assert (np.abs(sample.T @ sample / n - expected) <= 4.5 * error + 1e-6).all()
    assert (np.abs(sample.mean(axis=0)) <= 4.5 * np.sqrt(np.diag(expected) / n) + 1e-6).all()


@pytest.mark.parametrize("length", [5, 300])
def test_draws_are_a_root_of_the_kernel(length):
    """A draw is linear in its random numbers, so a unit impulse as the numbers gives one row of the root."""
    for term in [*zip(BANK[:31:4]), (Periodic(24), Periodic(48), DotProduct(10.0))]:
        root, expected = root_of([term], length), covariance([term], length)
        assert np.abs(root.T @ root - expected).max() <= 1e-5 * expected.max()


class UnitImpulse(np.random.Generator):
    """A generator whose k-th number is 1 and all others 0."""

    def __init__(self, k):
        super().__init__(np.random.PCG64(0))
        self.k, self.n_drawn = k, 0

    def standard_normal(self, size, dtype=np.float64):  # type: ignore[override]  # one of the overloads
        numbers = np.zeros(size, dtype)
        if self.n_drawn <= self.k < self.n_drawn + numbers.size:
            numbers.flat[self.k - self.n_drawn] = 1
        self.n_drawn += numbers.size
        return numbers


def root_of(terms, length):
    generator = UnitImpulse(-1)
    draw_terms(terms, length, generator)
    return np.stack([draw_terms(terms, length, UnitImpulse(k)) for k in range(generator.n_drawn)]).astype(np.float64)


def test_kernels_combine_from_left_to_right():
    seen = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        chosen = rng.integers(len(BANK), size=rng.integers(1, 5, endpoint=True))
        operators = [(operator.add, operator.mul)[product] for product in rng.integers(2, size=len(chosen) - 1)]
        folded = scikit_learn_kernel([(BANK[chosen[0]],)], 12)
        for combine, index in zip(operators, chosen[1:]):
            folded = combine(folded, scikit_learn_kernel([(BANK[index],)], 12))
        terms = random_terms(5, np.random.default_rng(seed))
        np.testing.assert_allclose(covariance(terms, 12), folded(np.linspace(0, 1, 12)[:, None]))
        seen.add((len(chosen), *operators))
    assert {len(key) for key in seen} == {1, 2, 3, 4, 5}


def test_the_number_of_kernels_their_choice_and_their_operators_are_uniform():
    rng = np.random.default_rng(1)
    drawn = [random_terms(2, rng) for _ in range(6000)]
    alone = [terms[0][0] for terms in drawn if terms == [terms[0]] and len(terms[0]) == 1]
    products = sum(len(terms) == 1 and len(terms[0]) == 2 for terms in drawn)
    assert abs(len(alone) - 3000) < 4 * np.sqrt(1500) and abs(products - 1500) < 4 * np.sqrt(1125)
    counts = [sum(kernel is single for single in alone) for kernel in BANK]
    assert min(counts) > 40 and max(counts) < 150


def test_series_k_depends_on_the_seed_and_k_only():
    many = kernel_synth(40, length=64, seed=3)
    assert many.shape == (40, 64) and many.dtype == np.float32 and np.isfinite(many).all()
    np.testing.assert_array_equal(many[:7], kernel_synth(7, length=64, seed=3))
    assert not (many == kernel_synth(40, length=64, seed=4)).all(axis=1).any()
    assert kernel_synth(0).shape == (0, 1024) and kernel_synth(2, length=1).shape == (2, 1)


def test_single_kernel_series_have_the_mean_covariance_of_the_bank():
    sample = kernel_synth(12000, length=16, max_kernels=1, seed=0).astype(np.float64)
    expected = np.mean([covariance([(kernel,)], 16) for kernel in BANK], axis=0)
    squares = np.einsum("ni,nj->nij", sample, sample)
    error = squares.std(axis=0) / np.sqrt(len(sample))
    assert (np.abs(squares.mean(axis=0) - expected) <= 4.5 * error).all()


@pytest.mark.parametrize("arguments", [{"n_series": -1}, {"length": 0}, {"length": -5}, {"max_kernels": 0}])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(UserError, match=next(iter(arguments))):
        kernel_synth(**{"n_series": 1, **arguments})
