"""Measure series per second on one core: every prior, the bank, TSMixup, and KernelSynth beside scikit-learn.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/synthetic.py

Prints medians of repeated runs as Markdown tables; the seconds are those of the process, which other load on the
machine changes little. KernelSynth and `GaussianProcessRegressor(kernel).sample_y` draw
from the same composite kernels, in turn.
"""

import functools
import operator
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor, kernels

from pipeline.core.tables import markdown_table
from pipeline.data.arrow_store import store_from_arrays
from pipeline.synthetic import kernel_synth
from pipeline.synthetic.bank import default_bank
from pipeline.synthetic.kernel_synth import (
    Constant,
    DotProduct,
    Kernel,
    Periodic,
    RationalQuadratic,
    SquaredExponential,
    Term,
    White,
    draw_terms,
    random_terms,
)
from pipeline.synthetic.mixup import Mixup, Pool
from pipeline.synthetic.priors import PRIORS

LENGTH, REPEATS, BATCH_SIZE, COMPOSITES = 1024, 5, 256, 12
"""1,024 steps are the length of the published KernelSynth series. The other values keep a run short."""


def main() -> None:
    """Print both tables and the machine."""
    print(f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}")
    print(f"series of {LENGTH} steps, {BATCH_SIZE} at once, one core\n")
    rates = {
        name: _rate(functools.partial(default_bank().single_prior(name).series, BATCH_SIZE, LENGTH)) for name in PRIORS
    }
    rates["the bank"] = _rate(functools.partial(default_bank().series, BATCH_SIZE, LENGTH))
    rates["TSMixup"] = _rate(functools.partial(_make_mixup().series, BATCH_SIZE, LENGTH))
    rates["kernel_synth()"] = _rate(lambda seed: kernel_synth(BATCH_SIZE, LENGTH, seed=seed))
    rows = [{"generator": name, "series per second": round(rate)} for name, rate in rates.items()]
    print(markdown_table(rows, ("generator", "series per second")))

    rng = np.random.default_rng(0)
    composites = [random_terms(5, rng) for _ in range(COMPOSITES)]
    sample_y_rates, draw_terms_rates = [], []
    for _ in range(3):
        sample_y_rates.append(COMPOSITES / _seconds(lambda: [_sample_y(terms) for terms in composites]))
        draw_terms_rates.append(COMPOSITES / _seconds(lambda: [draw_terms(terms, LENGTH, rng) for terms in composites]))
    sample_y_rate = statistics.median(sample_y_rates)
    rows = [
        {"KernelSynth": "scikit-learn sample_y", "series per second": sample_y_rate, "ratio": 1.0},
        {
            "KernelSynth": f"draw_terms, the same {COMPOSITES} composites",
            "series per second": statistics.median(draw_terms_rates),
            "ratio": statistics.median(a / b for a, b in zip(draw_terms_rates, sample_y_rates)),
        },
        {
            "KernelSynth": "kernel_synth(), kernels drawn too",
            "series per second": rates["kernel_synth()"],
            "ratio": rates["kernel_synth()"] / sample_y_rate,
        },
    ]
    print(markdown_table(rows, ("KernelSynth", "series per second", "ratio")))


def scikit_learn_kernel(terms: list[Term], length: int) -> kernels.Kernel:
    """Return the kernel of scikit-learn that is the sum of the terms."""
    return functools.reduce(
        operator.add,
        (functools.reduce(operator.mul, (_scikit_learn_factor(kernel, length) for kernel in term)) for term in terms),
    )


def _scikit_learn_factor(kernel: Kernel, length: int) -> kernels.Kernel:
    match kernel:
        case Periodic(steps):
            return kernels.ExpSineSquared(periodicity=steps / length)
        case DotProduct(sigma):
            return kernels.DotProduct(sigma_0=sigma)
        case SquaredExponential(scale):
            return kernels.RBF(length_scale=scale)
        case RationalQuadratic(alpha):
            return kernels.RationalQuadratic(alpha=alpha)
        case White(level):
            return kernels.WhiteKernel(noise_level=level)
        case Constant():
            return kernels.ConstantKernel()


def _sample_y(terms: list[Term]) -> np.ndarray:
    grid = np.linspace(0, 1, LENGTH)[:, None]
    return GaussianProcessRegressor(scikit_learn_kernel(terms, LENGTH)).sample_y(grid, 1, random_state=0)


def _make_mixup() -> Mixup:
    arrays = np.random.default_rng(0).standard_normal((500, 3000)).astype(np.float32)
    store = store_from_arrays(arrays)
    return Mixup([Pool.of(store, np.arange(500), store.lengths)], [1.0])


def _rate(draw: Callable[[int], object]) -> float:
    draw(0)
    return BATCH_SIZE / statistics.median(_seconds(lambda: draw(seed)) for seed in range(1, 1 + REPEATS))


def _seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
