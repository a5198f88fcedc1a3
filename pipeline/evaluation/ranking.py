"""The ranking of models: relative scores with bootstrap intervals, win rates, and ties with the best model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.evaluation.backtest import Evaluation
from pipeline.evaluation.comparison import DRAWS, DRAWS_PER_BLOCK, PERCENTILES, compare_evaluations

RANKED_BY = ("WQL", "MASE")
"""Scores that models are ranked by; the order of the ranking follows the first."""
_MIN_RATIO = 0.01
"""Minimum ratio in a geometric mean, as on fev's leaderboards: one nearly exact forecast must not decide the mean."""

Evaluations = Mapping[str, Mapping[str, Evaluation]]
"""Evaluations by data set, then by model."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% bootstrap interval, whose ends are NaN if there is only one unit to draw."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Rank:
    """The entry of one model in the ranking."""

    model: str
    relative: dict[str, Estimate]
    """By score: geometric mean over data sets of the score relative to the baseline's. A data set is left
    out if the baseline's score is 0."""
    win_rate: dict[str, float]
    """By score: share of the pairs (data set, other model) in which this model's score is lower; a tie is half a win.
    With a single data set, its series take the place of data sets."""


def rank(evaluations: Evaluations, baseline: str, seed: int = 0) -> list[Rank]:
    """Return the ranking of the models, the lowest relative WQL first."""
    models = list(next(iter(evaluations.values())))
    relative = _overall_scores(evaluations, models, baseline, seed)
    wins = {score: win_rates(_unit_scores(evaluations, models, score)) for score in RANKED_BY}
    ranks = [
        Rank(
            model,
            relative[model],
            {score: float(wins[score][position]) for score in RANKED_BY},
        )
        for position, model in enumerate(models)
    ]
    return sorted(ranks, key=lambda entry: np.nan_to_num(entry.relative["WQL"].value, nan=np.inf))


def tied_with_best(evaluations: Evaluations, ranks: Sequence[Rank]) -> list[str]:
    """Return the models that the first of the ranking does not clearly beat, in the order of the ranking.

    The interval of the paired difference in WQL includes zero, or there is none since the data are a single series.
    """
    best = [by_model[ranks[0].model] for by_model in evaluations.values()]
    tied = []
    for entry in ranks[1:]:
        comparison = compare_evaluations(best, [by_model[entry.model] for by_model in evaluations.values()])
        if comparison is not None and not comparison.low > 0:
            tied.append(entry.model)
    return tied


def relative_scores(by_model: Mapping[str, Evaluation], baseline: str, seed: int = 0) -> dict[str, dict[str, Estimate]]:
    """Return each model's scores relative to the baseline's on one data set, by model and score.

    The bootstrap draws the series of the data set, the same for all models.
    """
    models = list(by_model)
    values = {score: _scores_of_models(by_model, models, score) for score in RANKED_BY}
    draws = _draw_series(by_model, models, seed)
    relative: dict[str, dict[str, Estimate]] = {model: {} for model in models}
    for score in RANKED_BY:
        base = models.index(baseline)
        ratio, ratios = _ratio(values[score], base), _ratio(draws[score], base)
        for position, model in enumerate(models):
            relative[model][score] = _estimate(float(ratio[position]), ratios[:, position])
    return relative


def geometric_mean(ratios: np.ndarray) -> np.ndarray:
    """Return the geometric mean over the first axis; NaN if a ratio is not defined. The minimum ratio is 0.01."""
    return np.exp(np.log(np.maximum(ratios, _MIN_RATIO)).mean(axis=0))


def win_rates(scores: np.ndarray) -> np.ndarray:
    """Return the share of pairs (unit, other model) that each model wins: [n_units, n_models] to [n_models].

    A tie is half a win. A pair is left out if either model has no score. An infinite score, of NaN forecasts, loses to
    any other.
    """
    n_models = scores.shape[1]
    first, second = scores[:, :, None], scores[:, None, :]
    pairs = ~(np.isnan(first) | np.isnan(second)) & ~np.eye(n_models, dtype=bool)
    wins = np.where(first < second, 1.0, np.where(first == second, 0.5, 0.0))
    with np.errstate(invalid="ignore"):
        return (wins * pairs).sum(axis=(0, 2)) / pairs.sum(axis=(0, 2))


def datasets_without_ratio(evaluations: Evaluations, baseline: str) -> dict[str, list[str]]:
    """Return, by score, the data sets that relative scores leave out: the baseline's score is 0 or not defined."""
    return {
        score: [name for name, by_model in evaluations.items() if not by_model[baseline].scores()[score] > 0]
        for score in RANKED_BY
    }


def _overall_scores(
    evaluations: Evaluations, models: list[str], baseline: str, seed: int
) -> dict[str, dict[str, Estimate]]:
    """Return the relative scores of each model over all data sets, by model and score: geometric means, or those of a
    single data set."""
    if len(evaluations) == 1:
        return relative_scores(next(iter(evaluations.values())), baseline, seed)
    means = {score: _mean_ratios(evaluations, models, baseline, score, seed) for score in RANKED_BY}
    return {model: {score: means[score][position] for score in RANKED_BY} for position, model in enumerate(models)}


def _mean_ratios(evaluations: Evaluations, models: list[str], baseline: str, score: str, seed: int) -> list[Estimate]:
    """Return the geometric mean over data sets of the relative score of each model."""
    base = models.index(baseline)
    ratios = np.stack([_ratio(_scores_of_models(by_model, models, score), base) for by_model in evaluations.values()])
    ratios = ratios[~np.isnan(ratios[:, base])]
    if not len(ratios):
        return [_estimate(float("nan"), np.empty(0))] * len(models)
    draws = np.random.default_rng(seed).integers(len(ratios), size=(DRAWS, len(ratios)))
    means, drawn = geometric_mean(ratios), geometric_mean(ratios[draws].swapaxes(0, 1))
    return [_estimate(float(means[position]), drawn[:, position]) for position in range(len(models))]


def _unit_scores(evaluations: Evaluations, models: list[str], score: str) -> np.ndarray:
    """Return the scores in each data set, or in each series of a single data set: [n_units, n_models]."""
    if len(evaluations) > 1:
        return np.stack([_scores_of_models(by_model, models, score) for by_model in evaluations.values()])
    (by_model,) = evaluations.values()
    return np.stack([by_model[model].by_series()[1][score] for model in models], axis=1)


def _scores_of_models(by_model: Mapping[str, Evaluation], models: list[str], score: str) -> np.ndarray:
    """Return the score of each model on one data set: [n_models]."""
    return np.array([by_model[model].errors.scores()[score] for model in models])


def _draw_series(by_model: Mapping[str, Evaluation], models: list[str], seed: int) -> dict[str, np.ndarray]:
    """Return bootstrap scores over drawn series, by score: [n_draws, n_models], without draws for a single series."""
    rng, n_series = np.random.default_rng(seed), len(np.unique(by_model[models[0]].series))
    terms = [_score_terms(by_model[model]) for model in models]
    draws: dict[str, list[np.ndarray]] = {score: [np.empty((0, len(models)))] for score in RANKED_BY}
    for _ in range(DRAWS // DRAWS_PER_BLOCK if n_series > 1 else 0):
        series = [rng.integers(n_series, size=n_series) for _ in range(DRAWS_PER_BLOCK)]
        counts = np.stack([np.bincount(row, minlength=n_series) for row in series]).astype(np.float64)
        for score in RANKED_BY:
            numerator, denominator = (np.stack(sums, axis=1) for sums in zip(*(term[score] for term in terms)))
            is_infinite = np.isinf(numerator)  # 0 times infinity is NaN
            total = np.where(counts @ is_infinite > 0, np.inf, counts @ np.where(is_infinite, 0.0, numerator))
            with np.errstate(divide="ignore", invalid="ignore"):
                draws[score].append(np.where((drawn := counts @ denominator) > 0, total / drawn, np.nan))
    return {score: np.concatenate(blocks) for score, blocks in draws.items()}


def _score_terms(evaluation: Evaluation) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return numerator and denominator of each score by series, [n_series] each, whose sums give the score."""
    errors, (_, series) = evaluation.errors, np.unique(evaluation.series, return_inverse=True)
    mase = errors.mase_by_window()
    defined = ~np.isnan(mase)
    terms = {
        "WQL": (np.nansum(errors.pinball, axis=1), np.nansum(errors.magnitude, axis=1)),
        "MASE": (np.where(defined, mase, 0.0), defined),
    }
    return {score: (np.bincount(series, top), np.bincount(series, bottom)) for score, (top, bottom) in terms.items()}


def _ratio(scores: np.ndarray, base: int) -> np.ndarray:
    """Return scores [..., n_models] relative to those of model `base`; NaN if that score is 0."""
    base_scores = scores[..., [base]]
    with np.errstate(divide="ignore", invalid="ignore"):
        return scores / np.where(base_scores > 0, base_scores, np.nan)


def _estimate(value: float, draws: np.ndarray) -> Estimate:
    known = draws[~np.isnan(draws)]
    if not len(known):
        return Estimate(value, float("nan"), float("nan"))
    with np.errstate(invalid="ignore"):  # interpolation between two infinite draws
        low, high = np.nan_to_num(np.percentile(known, PERCENTILES), nan=np.inf, posinf=np.inf)
    return Estimate(value, float(low), float(high))
