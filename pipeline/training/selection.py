"""Selection: which weights a run saves. Pure functions of the scores on the validation windows.

The candidates are the base (step 0), every checkpoint, and blends of one checkpoint with the base. docs/design.md says
how the rules were chosen, and docs/experiments holds the runs that they were compared on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.evaluation.comparison import Comparison

SCORES = ("wql", "mase", "loss")
MIN_GAIN_FRACTION = 0.8
"""A run that retrains on all data keeps the latest checkpoint with this share of the best checkpoint's gain over the
base: more data bear more steps. Chosen on the ten real sets, among 0.5 to 1."""
MIN_AGREEMENT = 0.2
"""Minimum ratio of the smallest to the largest relative gain in WQL, MASE and loss for the metrics to agree."""
CHANCE = 0.02
"""Relative gains that differ by less agree: so much is chance on a few hundred windows."""
MAX_ALPHA = 0.5
"""Maximum interpolation weight of a checkpoint when the metrics disagree. Chosen with the two above on 51 runs."""
MIN_FLIP_GAIN = 0.005
"""Minimum share by which flip must lower the score, as it doubles the time of a forecast. Set by hand."""

Reason = Literal["best", "longest", "disagree", "base"]


@dataclass(frozen=True)
class Candidate:
    """Weights that may be saved, base + alpha (checkpoint at `step` - base), with their scores on the validation
    windows."""

    step: int
    alpha: float
    scores: Mapping[str, float]

    @property
    def name(self) -> str:
        """The candidate's name in reports."""
        if self.alpha == 0:
            return "base"
        return f"step {self.step}" if self.alpha == 1 else f"base + {self.alpha:g} (step {self.step} - base)"

    def row(self) -> dict[str, Any]:
        """Return the name and the scores as training_info.json has them."""
        return {"candidate": self.name, **score_columns(self.scores)}


@dataclass(frozen=True)
class Selection:
    """The candidate that is saved, or retrained on all data, and why it was selected."""

    candidates: Sequence[Candidate]
    """All candidates, the base first."""
    winner: Candidate
    reason: Reason
    """best: it has the best score. longest: its gain is nearly the best, after more steps. disagree: the metrics
    disagree on the checkpoint, so a blend near the base takes its place. base: no candidate beat the base."""


@dataclass(frozen=True)
class Refit:
    """The winner, retrained on all data for the same number of steps."""

    winner: Candidate
    scores: Mapping[str, float]
    """Scores on the validation windows, which the retrained model has seen: a check that training worked, no
    estimate."""
    saved: bool
    """Whether it is saved: it scores no worse than the winner on the windows that it has seen."""

    def row(self) -> dict[str, Any]:
        """Return the retraining as training_info.json has it."""
        seen = {"scores on seen windows": score_columns(self.scores), "saved": self.saved}
        return {"steps": self.winner.step, "alpha": self.winner.alpha, **seen}


def candidates_from_log(log_history: Sequence[Mapping[str, Any]]) -> list[Candidate]:
    """Return the base and the checkpoints that the Trainer's log has scores of, in the order of their steps."""
    return [
        Candidate(int(entry["step"]), float(entry["step"] > 0), {name: entry[f"eval_{name}"] for name in SCORES})
        for entry in log_history
        if "eval_wql" in entry
    ]


def checkpoint_to_keep(scored: Sequence[Candidate], metric: str, *, will_refit: bool) -> Candidate:
    """Return the checkpoint that is blended with the base, or the base where no checkpoint has a lower score.

    Args:
        scored: the base, then checkpoints by step.
        metric: the score to compare by.
        will_refit: whether the winner is retrained on all data: then the latest checkpoint that has `MIN_GAIN_FRACTION`
            of the best one's gain is kept, else the best one.
    """
    base = scored[0]
    best = min(scored, key=lambda candidate: candidate.scores[metric])
    if best is base or not will_refit:
        return best
    bound = base.scores[metric] - MIN_GAIN_FRACTION * (base.scores[metric] - best.scores[metric])
    return next(
        candidate
        for candidate in reversed(scored)
        if candidate is best or candidate.scores[metric] <= max(bound, best.scores[metric])
    )


def select(
    scored: Sequence[Candidate], kept: Candidate, blends: Sequence[Candidate], metric: str, *, cap_blends: bool
) -> Selection:
    """Select the winner among the base, the kept checkpoint and its blends.

    Args:
        scored: the base, then checkpoints by step.
        kept: the checkpoint whose weights can be saved.
        blends: blends of the kept checkpoint with the base.
        metric: the score to compare by.
        cap_blends: whether a checkpoint whose metrics disagree gives way to its best blend of at most `MAX_ALPHA`.
    """
    base, candidates = scored[0], [*scored, *blends]
    winner = min((base, kept, *blends), key=lambda candidate: candidate.scores[metric])
    best = min(candidates, key=lambda candidate: candidate.scores[metric])
    if winner is base:
        return Selection(candidates, base, "base")
    if cap_blends and winner is kept and not _metrics_agree(winner.scores, base.scores):
        near = [blend for blend in blends if blend.alpha <= MAX_ALPHA and blend.scores[metric] < base.scores[metric]]
        if near:
            return Selection(candidates, min(near, key=lambda blend: blend.scores[metric]), "disagree")
    return Selection(candidates, winner, "best" if winner.scores[metric] <= best.scores[metric] else "longest")


def _metrics_agree(scores: Mapping[str, float], base: Mapping[str, float]) -> bool:
    """Return whether the relative gains in the metrics that are defined are alike."""
    gains = [1 - scores[name] / base[name] for name in SCORES if base[name] > 0]
    return max(gains) - min(gains) <= CHANCE or min(gains) >= MIN_AGREEMENT * max(gains)


def describe(selection: Selection | None, comparison: Comparison | None, refit: Refit | None, metric: str) -> str:
    """Say in a few sentences whether training helped and which model is saved.

    Args:
        selection: None if nothing was held out.
        comparison: the winner beside the base on the validation windows; None if WQL is not defined.
        refit: None if the winner was not retrained.
        metric: the score that candidates were compared by.
    """
    if selection is None:
        return "Nothing was held out, so nothing was compared: the last step is saved."
    base, winner = selection.candidates[0], selection.winner
    (name,) = score_columns({metric: 0.0})
    if winner is base:
        return f"No: no candidate has a lower {name} than the base on the validation windows. The base itself is saved."
    change = 100 * (1 - winner.scores[metric] / base.scores[metric])
    by_metric = f"{name} {change:.1f}% lower than the base's"
    result = f"Fine-tuned: {by_metric} on the validation windows."
    if comparison is not None:
        answer = "Yes" if comparison.low > 0 else "No" if comparison.high < 0 else "Unclear"
        result = f"{answer}: {comparison.describe()}, against the base on the validation windows."
    details = [f"Selected: {winner.name}, by {name} ({change:.1f}% lower)."]
    if selection.reason == "longest":
        details.append("An earlier step scored slightly better, but more data allow more steps.")
    if selection.reason == "disagree":
        details.append("WQL, MASE and loss disagree on the checkpoint, so its blend with the base takes its place.")
    if refit is not None and refit.saved:
        details.append("The saved model is this one, retrained on all data; it has no held-out score.")
    elif refit is not None:
        details.append("Retraining on all data made it worse, so it is saved as selected.")
    return " ".join([result, *details])


def score_columns(scores: Mapping[str, float]) -> dict[str, float]:
    """Return scores by the names of their columns: WQL, MASE, loss."""
    return {name if name == "loss" else name.upper(): score for name, score in scores.items()}
