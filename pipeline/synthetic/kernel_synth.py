"""KernelSynth: draws from Gaussian processes whose kernels are random sums and products of a bank.

The recipe is that of the Chronos paper (Ansari et al., 2024, algorithm 2): up to five kernels of a bank of 33, combined
from left to right by a random + or x, and one draw on a regular grid over [0, 1]. The draw here is as exact and far
cheaper than one from the dense covariance, because nothing in the bank needs it:

- Every composite is a sum of products of kernels of the bank, and draws of independent terms add up.
- A smooth kernel has low rank: k = F' F with some 20 features F [rank, length], to the last bit that counts.
- A product of kernels has the products of their features, row by row. With the factors in two halves A and B, a draw is
  the sum over rows of (Z A) * B for a standard normal Z: nothing of the size of the product is made.
- White noise is a diagonal, and so is any product with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from pipeline.core.errors import UserError
from pipeline.synthetic.draws import Draws, keys_of

_TOLERANCE = 1e-9  # variance left out, as a share of the greatest: float32 rounds off more


@dataclass(frozen=True)
class Periodic:
    """exp(-2 sin^2(pi d / p)), where p is `steps` / length of the unit interval."""

    steps: float

    def __call__(self, x: np.ndarray, y: np.ndarray, length: int) -> np.ndarray:
        return np.exp(-2 * np.sin(np.pi * (x - y) * length / self.steps) ** 2)


@dataclass(frozen=True)
class DotProduct:
    """sigma^2 + x y: a random line."""

    sigma: float

    def __call__(self, x: np.ndarray, y: np.ndarray, length: int) -> np.ndarray:
        return self.sigma**2 + x * y


@dataclass(frozen=True)
class SquaredExponential:
    """exp(-d^2 / (2 scale^2)), smooth to any order."""

    scale: float

    def __call__(self, x: np.ndarray, y: np.ndarray, length: int) -> np.ndarray:
        return np.exp(-((x - y) ** 2) / (2 * self.scale**2))


@dataclass(frozen=True)
class RationalQuadratic:
    """(1 + d^2 / (2 alpha))^-alpha: a mixture of squared exponentials of many scales."""

    alpha: float

    def __call__(self, x: np.ndarray, y: np.ndarray, length: int) -> np.ndarray:
        return (1 + (x - y) ** 2 / (2 * self.alpha)) ** -self.alpha


@dataclass(frozen=True)
class Constant:
    """1: a random level."""

    def __call__(self, x: np.ndarray, y: np.ndarray, length: int) -> np.ndarray:
        return np.ones(np.broadcast_shapes(x.shape, y.shape))


@dataclass(frozen=True)
class White:
    """`level` on the diagonal and nothing beside it."""

    level: float


Smooth: TypeAlias = Periodic | DotProduct | SquaredExponential | RationalQuadratic | Constant
Kernel: TypeAlias = Smooth | White
Term: TypeAlias = tuple[Kernel, ...]
"""Kernels that are multiplied."""

_PERIODS = (24, 48, 96, 168, 336, 672, 7, 14, 30, 60, 365, 730, 4, 26, 52, 4, 6, 12, 4, 40, 10)
BANK: tuple[Kernel, ...] = (
    *map(Periodic, _PERIODS),
    *map(DotProduct, (0.0, 1.0, 10.0)),
    *map(SquaredExponential, (0.1, 1.0, 10.0)),
    *map(RationalQuadratic, (0.1, 1.0, 10.0)),
    *map(White, (0.1, 1.0)),
    Constant(),
)


def kernel_synth(n_series: int, length: int = 1024, max_kernels: int = 5, seed: int = 0) -> np.ndarray:
    """Draw series from random Gaussian processes: float32, [n_series, length].

    Series k is a function of (seed, k) alone, whatever `n_series` is.

    Args:
        length: steps in a series; the kernels' periods are in steps, their other scales in shares of the length.
        max_kernels: a series combines between one and so many kernels.

    Raises:
        UserError: an argument is out of its range.
    """
    for name, value, least in (("n_series", n_series, 0), ("length", length, 1), ("max_kernels", max_kernels, 1)):
        if value < least:
            raise UserError(f"kernel_synth: {name} must be at least {least}, got {value}")
    return composite_draws(Draws(keys_of(seed, np.arange(n_series))), length, max_kernels)


def composite_draws(draws: Draws, length: int, max_kernels: int) -> np.ndarray:
    """Return one draw for each row, from a composite kernel of its own: float32, [n, length]."""
    values = np.empty((len(draws), length), np.float32)

    def draw(row: int, rng: np.random.Generator) -> None:
        values[row] = draw_terms(random_terms(max_kernels, rng), length, rng)

    draws.each_row(draw)
    return values


def random_terms(max_kernels: int, rng: np.random.Generator) -> list[Term]:
    """Combine up to `max_kernels` kernels of the bank from left to right by a random + or x; expand it into a sum."""
    chosen = rng.integers(len(BANK), size=rng.integers(1, max_kernels, endpoint=True))
    terms: list[Term] = [(BANK[chosen[0]],)]
    for index, multiply in zip(chosen[1:], rng.integers(2, size=len(chosen) - 1)):
        # (a + b) c = a c + b c
        terms = [(*term, BANK[index]) for term in terms] if multiply else [*terms, (BANK[index],)]
    return terms


def draw_terms(terms: Sequence[Term], length: int, rng: np.random.Generator) -> np.ndarray:
    """Return one draw of the Gaussian process whose kernel is the sum of the terms: float32, [length]."""
    total = np.zeros(length, np.float32)
    for term in terms:
        total += _draw_product(term, length, rng)
    return total


def _draw_product(term: Term, length: int, rng: np.random.Generator) -> np.ndarray:
    levels = [kernel.level for kernel in term if isinstance(kernel, White)]
    smooth = [kernel for kernel in term if not isinstance(kernel, White)]
    if levels:
        x = _grid(length)
        variance = np.full(length, math.prod(levels))
        for kernel in smooth:
            variance *= kernel(x, x, length)
        return np.sqrt(variance) * rng.standard_normal(length, dtype=np.float32)
    by_rank = sorted(smooth, key=lambda kernel: len(_smooth_features(kernel, length)))
    left, right = _features(by_rank[::2], length), _features(by_rank[1::2], length)
    if left is None or right is None:
        return _draw_dense(smooth, length, rng)
    weights = rng.standard_normal((len(left), len(right)), dtype=np.float32)
    return np.einsum("rt,rt->t", weights @ right, left)


def _features(factors: Sequence[Smooth], length: int) -> np.ndarray | None:
    """Return features of a product, float32 [rank, length]; None where a dense factorisation is cheaper.

    Products of features that hold too little variance at every step to matter, all together, are left out.
    """
    features = np.ones((1, length), np.float32)
    for kernel in factors:
        more = _smooth_features(kernel, length)
        strength = np.square(features).max(axis=1)[:, None] * np.square(more).max(axis=1)
        first, second = np.nonzero(strength > _TOLERANCE * strength.max())
        if len(first) > 8 * length:
            return None
        features = features[first] * more[second]
    return features


@lru_cache(maxsize=256)
def _smooth_features(kernel: Smooth, length: int) -> np.ndarray:
    """Return F with F' F the kernel on the grid, its rows orthogonal and falling: float32, [rank, length]."""
    x = _grid(length)
    left = kernel(x, x, length)
    enough = _TOLERANCE * left.max()
    rows: list[np.ndarray] = []
    # Cholesky with pivots (Harbrecht et al., 2012), which meets only the columns that it takes.
    while len(rows) < length and left.max() > enough:
        pivot = int(left.argmax())
        taken = np.array(rows).reshape(-1, length)
        row = (kernel(x, x[pivot], length) - taken[:, pivot] @ taken) / np.sqrt(left[pivot])
        rows.append(row)
        left = np.maximum(left - row**2, 0.0)
        left[pivot] = 0.0
    _, strength, directions = np.linalg.svd(np.array(rows), full_matrices=False)
    return (strength[:, None] * directions).astype(np.float32)


def _draw_dense(factors: Sequence[Smooth], length: int, rng: np.random.Generator) -> np.ndarray:
    x = _grid(length)
    covariance = np.ones((length, length))
    for kernel in factors:
        covariance *= kernel(x[:, None], x, length)
    variance, directions = np.linalg.eigh(covariance)
    return directions @ (np.sqrt(np.maximum(variance, 0.0)) * rng.standard_normal(length))


def _grid(length: int) -> np.ndarray:
    return np.linspace(0.0, 1.0, length)
