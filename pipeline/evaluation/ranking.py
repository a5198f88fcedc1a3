"""Which model is best over all: relative scores, how sure they are, and who wins how often."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.core.metrics import WindowErrors
from pipeline.evaluation.backtest import Evaluation

RANKED_BY = ("WQL", "MASE")
_DRAWS = 1000
_LEAST = 0.01
_CONFIDENCE = (2.5, 97.5)

Evaluations = Mapping[str, Mapping[str, Evaluation]]
"""By data set, then by model."""


@dataclass(frozen=True)
class Estimate:
    """A number and its bootstrap interval, 95% wide; NaN where there is too little to draw from."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Rank:
    """How one model stands among all."""

    model: str
    relative: dict[str, Estimate]
    """By score: geometric mean, over the data sets where the baseline's is above 0, of the score over the baseline's."""
    win_rate: dict[str, float]
    """By score: share of the (data set, other model) pairs in which this model's is lower, a tie for half a win. With one
    data set its series stand in for data sets."""


def rank(evaluations: Evaluations, baseline: str, seed: int = 0) -> list[Rank]:
    """Return how the models stand, the lowest relative WQL first."""
    models = list(next(iter(evaluations.values())))
    relative = {score: _overall(evaluations, models, baseline, score, seed) for score in RANKED_BY}
    wins = {score: win_rates(_units(evaluations, models, score)) for score in RANKED_BY}
    ranks = [
        Rank(
            model,
            {score: relative[score][position] for score in RANKED_BY},
            {score: float(wins[score][position]) for score in RANKED_BY},
        )
        for position, model in enumerate(models)
    ]
    return sorted(ranks, key=lambda one: np.nan_to_num(one.relative["WQL"].value, nan=np.inf))


def relative_scores(of_set: Mapping[str, Evaluation], baseline: str, seed: int = 0) -> dict[str, dict[str, Estimate]]:
    """Return each model's scores over the baseline's on one data set, by model and score.

    The intervals are of drawing the set's series anew, the same for all models.
    """
    models = list(of_set)
    values = {score: _column(of_set, models, score) for score in RANKED_BY}
    drawn = _drawn_series(of_set, models, seed)
    found: dict[str, dict[str, Estimate]] = {model: {} for model in models}
    for score in RANKED_BY:
        base = models.index(baseline)
        ratio, ratios = _ratio(values[score], base), _ratio(drawn[score], base)
        for position, model in enumerate(models):
            found[model][score] = _estimate(float(ratio[position]), ratios[:, position])
    return found


def geometric_mean(ratios: np.ndarray) -> np.ndarray:
    """Return the geometric mean over the first axis; NaN where a ratio is not defined.

    A ratio below 0.01 counts as that, as on fev's leaderboards: what is forecast to the last digit says little of the rest.
    """
    return np.exp(np.log(np.maximum(ratios, _LEAST)).mean(axis=0))


def win_rates(scores: np.ndarray) -> np.ndarray:
    """Return the share of (unit, other model) pairs that each model wins: [n_units, n_models] to [n_models].

    A tie is half a win; a unit in which either has no score is no pair. An infinite score, of forecasts that are no numbers,
    loses to any other.
    """
    n_models = scores.shape[1]
    one, other = scores[:, :, None], scores[:, None, :]
    pairs = ~(np.isnan(one) | np.isnan(other)) & ~np.eye(n_models, dtype=bool)
    wins = np.where(one < other, 1.0, np.where(one == other, 0.5, 0.0))
    with np.errstate(invalid="ignore"):
        return (wins * pairs).sum(axis=(0, 2)) / pairs.sum(axis=(0, 2))


def _overall(evaluations: Evaluations, models: list[str], baseline: str, score: str, seed: int) -> list[Estimate]:
    """Return the geometric means over data sets; with one, its own scores."""
    if len(evaluations) == 1:
        of_set = relative_scores(next(iter(evaluations.values())), baseline, seed)
        return [of_set[model][score] for model in models]
    base = models.index(baseline)
    ratios = np.stack([_ratio(_column(of_set, models, score), base) for of_set in evaluations.values()])
    ratios = ratios[~np.isnan(ratios[:, base])]
    if not len(ratios):
        return [_estimate(float("nan"), np.empty(0))] * len(models)
    draws = np.random.default_rng(seed).integers(len(ratios), size=(_DRAWS, len(ratios)))
    means, drawn = geometric_mean(ratios), geometric_mean(ratios[draws].swapaxes(0, 1))
    return [_estimate(float(means[position]), drawn[:, position]) for position in range(len(models))]


def _units(evaluations: Evaluations, models: list[str], score: str) -> np.ndarray:
    """Return the score of each model in each data set, or in each series of the one data set: [n_units, n_models]."""
    if len(evaluations) > 1:
        return np.stack([_column(of_set, models, score) for of_set in evaluations.values()])
    (of_set,) = evaluations.values()
    return np.stack([of_set[model].by_series()[1][score] for model in models], axis=1)


def _column(of_set: Mapping[str, Evaluation], models: list[str], score: str) -> np.ndarray:
    return np.array([of_set[model].errors.scores()[score] for model in models])


def _drawn_series(of_set: Mapping[str, Evaluation], models: list[str], seed: int) -> dict[str, np.ndarray]:
    """Return the scores of each model over series drawn anew, by score: [n_draws, n_models]."""
    first = of_set[models[0]]
    _, series = np.unique(first.series, return_inverse=True)
    n_series, rng = int(series.max()) + 1, np.random.default_rng(seed)
    sums = {model: _Sums.of(of_set[model].errors) for model in models}
    drawn: dict[str, list[list[float]]] = {score: [] for score in RANKED_BY}
    for _ in range(_DRAWS if n_series > 1 else 0):
        times = np.bincount(rng.integers(n_series, size=n_series), minlength=n_series)[series]
        for score in RANKED_BY:
            drawn[score].append([sums[model].score(score, times) for model in models])
    return {score: np.array(rows).reshape(-1, len(models)) for score, rows in drawn.items()}


@dataclass(frozen=True)
class _Sums:
    """What WQL and MASE are ratios of, window by window, so that a thousand draws are a thousand products."""

    parts: dict[str, tuple[np.ndarray, np.ndarray]]

    @staticmethod
    def of(errors: WindowErrors) -> "_Sums":
        scaled = errors.scaled_error()
        defined = ~np.isnan(scaled)
        return _Sums(
            {
                "WQL": (np.nansum(errors.pinball, axis=1), np.nansum(errors.magnitude, axis=1)),
                "MASE": (np.where(defined, scaled, 0.0), defined.astype(np.float64)),
            }
        )

    def score(self, name: str, times: np.ndarray) -> float:
        above, below = self.parts[name]
        drawn = times > 0  # nought times infinity is no number
        under = float(times[drawn] @ below[drawn])
        return float(times[drawn] @ above[drawn]) / under if under > 0 else float("nan")


def _ratio(scores: np.ndarray, base: int) -> np.ndarray:
    """Return scores [..., n_models] over those of model `base`; NaN where that is 0."""
    under = scores[..., [base]]
    with np.errstate(divide="ignore", invalid="ignore"):
        return scores / np.where(under > 0, under, np.nan)


def _estimate(value: float, drawn: np.ndarray) -> Estimate:
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return Estimate(value, float("nan"), float("nan"))
    with np.errstate(invalid="ignore"):  # between two infinite draws
        low, high = np.nan_to_num(np.percentile(known, _CONFIDENCE), nan=np.inf, posinf=np.inf)
    return Estimate(value, float(low), float(high))


def undefined(evaluations: Evaluations, baseline: str) -> dict[str, list[str]]:
    """Return, by score, the data sets that are in no mean of relative scores: the baseline's is 0, or not defined."""
    return {
        score: [name for name, of_set in evaluations.items() if not of_set[baseline].scores()[score] > 0]
        for score in RANKED_BY
    }
