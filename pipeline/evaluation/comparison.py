"""Comparison of two models on the same windows, with a paired bootstrap interval over series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core.metrics import WindowErrors
from pipeline.evaluation.backtest import Evaluation

DRAWS = 1000
"""Bootstrap draws: the ends of a 95% interval move by about 1% of its width between two seeds."""
DRAWS_PER_BLOCK = 50
"""Draws computed together, which bounds the memory for many series."""
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Comparison:
    """WQL of a model relative to a baseline on the same windows."""

    reduction: float
    """Reduction of WQL in per cent; negative if the model's WQL is higher than the baseline's."""
    low: float
    """Lower end of the 95% interval of the reduction; NaN for a single series."""
    high: float
    """Upper end of the interval; NaN for a single series."""
    n_better: int
    """Number of series on which the model's WQL is lower."""
    n_series: int
    """Number of series that have a WQL."""

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0

    @property
    def is_identical(self) -> bool:
        """Whether the scores are the same in every sample of series, so that the forecasts are."""
        return self.reduction == 0 and self.n_better == 0 and not self.low < 0 and not self.high > 0

    def describe(self) -> str:
        """Return the comparison as a clause: `WQL 4.4% lower (95% interval 2.1 to 6.3), better on 37 of 40 series`."""
        direction = "lower" if self.reduction >= 0 else "higher"
        return f"WQL {self.percent()} {direction}{self.interval()}, better on {self.n_better} of {self.n_series} series"

    def percent(self) -> str:
        """Return the change without its sign: `4.4%`."""
        return f"{abs(self.reduction):.1f}%"

    def interval(self) -> str:
        """Return the interval with the sign of the change: ` (95% interval 2.1 to 6.3)`; empty for a single series."""
        if not np.isfinite(self.low):
            return ""
        low, high = (self.low, self.high) if self.reduction >= 0 else (-self.high, -self.low)
        return f" (95% interval {low:.1f} to {high:.1f})"


def conclude(
    comparison: Comparison | None,
    n_windows: int,
    model: str = "the fine-tuned model",
    base: str = "the base",
    has_seen: bool = False,
) -> str:
    """Answer in two sentences whether fine-tuning helped, and name the model to use.

    Example: `Fine-tuning lowered WQL by 4.4% (95% interval 2.1 to 6.3) against the base on 40 series, 3 windows each;
    better on 37. Use the fine-tuned model.`

    Args:
        comparison: the fine-tuned model relative to its base; None if WQL does not compare them.
        n_windows: number of windows of all series together.
        model: name of the fine-tuned model.
        base: name of the base.
        has_seen: whether the fine-tuned model has seen scored steps, so that the comparison decides nothing.
    """
    if comparison is None:
        return f"No comparison of {model} with {base}: WQL is not defined or not finite on these windows."
    if comparison.is_identical:
        return f"{model[0].upper()}{model[1:]} forecasts exactly as {base} does: training saved it unchanged."
    verb = "lowered" if comparison.reduction >= 0 else "raised"
    per_series, rest = divmod(n_windows, comparison.n_series)
    each = " each" if comparison.n_series > 1 and not rest else ""
    number = n_windows if rest else per_series
    windows = f"{number} window{'s' if number > 1 else ''}{each}"
    change = (
        f"{verb} WQL by {comparison.percent()}{comparison.interval()} against {base} on {comparison.n_series} series, "
        f"{windows}; better on {comparison.n_better}."
    )
    if has_seen:
        return (
            f"No answer, since the model has seen scored steps: fine-tuning {change} Score steps that it has not seen."
        )
    if comparison.is_clear:
        return f"Fine-tuning {change} Use {model if comparison.reduction > 0 else base}."
    hint = "More series or windows may show one." if comparison.n_series > 1 else "One series gives no interval."
    return f"No clear difference: fine-tuning {change} {hint}"


def compare(model: WindowErrors, baseline: WindowErrors, series: np.ndarray, dataset: np.ndarray) -> Comparison | None:
    """Compare two models by the mean of their WQL over data sets.

    Returns None if WQL is not defined or not finite, or that of the baseline is 0.

    The interval is a percentile bootstrap that draws whole series, the same for both models.

    Args:
        model: the errors of every window, n rows.
        baseline: the errors of the other model on the same windows.
        series: the series of each row, int64, [n]; equal numbers in different data sets are different series.
        dataset: the data set of each row, int64, [n].
    """
    losses = np.stack([np.nansum(errors.pinball, axis=1) for errors in (model, baseline)])
    return _compare(losses, np.nansum(model.magnitude, axis=1), series, dataset)


def compare_evaluations(model: Sequence[Evaluation], baseline: Sequence[Evaluation]) -> Comparison | None:
    """Compare the evaluations of two models on the same tasks, whose horizons may differ. See `compare`."""
    pairs = [(first.errors, second.errors) for first, second in zip(model, baseline, strict=True)]
    losses = np.concatenate([[np.nansum(errors.pinball, axis=1) for errors in pair] for pair in pairs], axis=1)
    magnitude = np.concatenate([np.nansum(errors.magnitude, axis=1) for errors, _ in pairs])
    series = np.concatenate([evaluation.series for evaluation in model])
    dataset = np.repeat(np.arange(len(model)), [len(evaluation.series) for evaluation in model])
    return _compare(losses, magnitude, series, dataset)


def _compare(
    row_losses: np.ndarray, row_magnitude: np.ndarray, series: np.ndarray, dataset: np.ndarray
) -> Comparison | None:
    """Compare a model and a baseline by their losses in each row: [2, n], with the sums of |target|, [n]."""
    keys, group = np.unique(np.stack([dataset, series]), axis=1, return_inverse=True)
    n_series = keys.shape[1]
    losses = np.stack(
        [np.bincount(group.ravel(), values, minlength=n_series) for values in row_losses]
    )  # [2, n_series]
    magnitude = np.bincount(group.ravel(), row_magnitude, minlength=n_series)
    if not np.isfinite(losses).all() or not (magnitude > 0).any():
        return None
    _, position = np.unique(keys[0], return_inverse=True)
    in_dataset = np.eye(position.max() + 1)[position]  # [n_series, n_datasets]
    reduction = _reduction(np.ones((1, n_series)), losses, magnitude, in_dataset)[0]
    if not np.isfinite(reduction):  # the baseline's WQL is 0
        return None
    low = high = float("nan")
    if n_series > 1:
        rng, draws = np.random.default_rng(0), []
        for _ in range(DRAWS // DRAWS_PER_BLOCK):
            counts = rng.multinomial(n_series, np.full(n_series, 1 / n_series), size=DRAWS_PER_BLOCK)
            draws.append(_reduction(counts, losses, magnitude, in_dataset))
        low, high = np.nanpercentile(np.concatenate(draws), PERCENTILES)
    known = magnitude > 0
    n_better = int((losses[0] < losses[1])[known].sum())
    return Comparison(float(reduction), float(low), float(high), n_better, int(known.sum()))


def _reduction(counts: np.ndarray, losses: np.ndarray, magnitude: np.ndarray, in_dataset: np.ndarray) -> np.ndarray:
    """Return the reduction of WQL in per cent for each draw: counts of the series [n_draws, n_series] to [n_draws]."""
    total = (counts * magnitude) @ in_dataset  # [n_draws, n_datasets]
    defined = total > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        model, baseline = (
            np.where(defined, (counts * loss) @ in_dataset / total, 0.0).sum(axis=1) / defined.sum(axis=1)
            for loss in losses
        )
        return 100 * (1 - model / baseline)
