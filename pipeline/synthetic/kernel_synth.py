"""KernelSynth: draws from Gaussian processes with random composite kernels.

The method is algorithm 2 of the Chronos paper (Ansari et al., 2024). Up to five kernels of a bank of 33 are combined
from left to right by a random + or x. A series is one draw on a regular grid over [0, 1].

The draws here are exact, but need no dense covariance:

- A composite kernel is expanded into a sum of products of kernels. Draws of independent terms add up.
- A smooth kernel has low rank: k = F' F with about 20 features F [rank, length], to float32 precision.
- The features of a product are the products of the features. The factors are split into two halves with features A and
  B. A draw is the sum over rows of (Z A) * B, with Z standard normal, so the features of the product are never made.
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
from pipeline.synthetic.draws import Draws, make_keys

_TOLERANCE = 1e-9
"""Variance left out, relative to the largest. The rounding of float32, about 1e-7, is larger."""
_MAX_FEATURES_PER_STEP = 8
"""Features per step above which a product is drawn densely. This limits memory and time on short grids."""


@dataclass(frozen=True)
class Periodic:
    """exp(-2 sin^2(pi d / p)), with the period p = `steps` / length in units of the interval."""

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
    """exp(-d^2 / (2 scale^2)): infinitely smooth."""

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
    """`level` on the diagonal, 0 elsewhere: white noise."""

    level: float


Smooth: TypeAlias = Periodic | DotProduct | SquaredExponential | RationalQuadratic | Constant
Kernel: TypeAlias = Smooth | White
Term: TypeAlias = tuple[Kernel, ...]
"""Product of kernels."""

# Bank of the paper (Ansari et al., 2024). Some periods occur twice, as in the published code.
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

    Series k depends on (seed, k) only, not on `n_series`.

    Args:
        length: steps in a series. Periods of kernels are in steps, their other scales relative to the length.
        max_kernels: maximum number of kernels in a composite kernel.

    Raises:
        UserError: an argument is out of its range.
    """
    for name, value, minimum in (("n_series", n_series, 0), ("length", length, 1), ("max_kernels", max_kernels, 1)):
        if value < minimum:
            raise UserError(f"kernel_synth: {name} must be at least {minimum}, got {value}")
    return draw_composites(Draws(make_keys(seed, np.arange(n_series))), length, max_kernels)


def draw_composites(draws: Draws, length: int, max_kernels: int) -> np.ndarray:
    """Draw one series per row, each from its own random composite kernel: float32, [n, length]."""
    values = np.empty((len(draws), length), np.float32)

    def draw(row: int, rng: np.random.Generator) -> None:
        values[row] = draw_terms(random_terms(max_kernels, rng), length, rng)

    draws.each_row(draw)
    return values


def random_terms(max_kernels: int, rng: np.random.Generator) -> list[Term]:
    """Combine up to `max_kernels` kernels of the bank from left to right by a random + or x, expanded into a sum."""
    chosen = rng.integers(len(BANK), size=rng.integers(1, max_kernels, endpoint=True))
    terms: list[Term] = [(BANK[chosen[0]],)]
    for index, multiply in zip(chosen[1:], rng.integers(2, size=len(chosen) - 1)):
        # (a + b) c = a c + b c
        terms = [(*term, BANK[index]) for term in terms] if multiply else [*terms, (BANK[index],)]
    return terms


def draw_terms(terms: Sequence[Term], length: int, rng: np.random.Generator) -> np.ndarray:
    """Draw from the Gaussian process whose kernel is the sum of the terms: float32, [length]."""
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
    left, right = _product_features(by_rank[::2], length), _product_features(by_rank[1::2], length)
    if left is None or right is None:
        return _draw_dense(smooth, length, rng)
    weights = rng.standard_normal((len(left), len(right)), dtype=np.float32)
    return np.einsum("rt,rt->t", weights @ right, left)


def _product_features(factors: Sequence[Smooth], length: int) -> np.ndarray | None:
    """Return the features of a product of kernels: float32, [rank, length]; None if a dense factorization is cheaper.

    Features with a variance below the tolerance at every step are left out.
    """
    features = np.ones((1, length), np.float32)
    for kernel in factors:
        factor = _smooth_features(kernel, length)
        strength = np.square(features).max(axis=1)[:, None] * np.square(factor).max(axis=1)
        first, second = np.nonzero(strength > _TOLERANCE * strength.max())
        if len(first) > _MAX_FEATURES_PER_STEP * length:
            return None
        features = features[first] * factor[second]
    return features


@lru_cache(maxsize=256)
def _smooth_features(kernel: Smooth, length: int) -> np.ndarray:
    """Return F with F' F the kernel on the grid; rows are orthogonal, largest first: float32, [rank, length]."""
    x = _grid(length)
    residual = kernel(x, x, length)  # the variance that the rows so far leave out
    tolerance = _TOLERANCE * residual.max()
    rows: list[np.ndarray] = []
    # Pivoted Cholesky decomposition (Harbrecht et al., 2012), which evaluates only the columns of its pivots.
    while len(rows) < length and residual.max() > tolerance:
        pivot = int(residual.argmax())
        previous = np.array(rows).reshape(-1, length)
        row = (kernel(x, x[pivot], length) - previous[:, pivot] @ previous) / np.sqrt(residual[pivot])
        rows.append(row)
        residual = np.maximum(residual - row**2, 0.0)
        residual[pivot] = 0.0
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
