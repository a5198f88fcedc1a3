"""Selection: which weights a run saves. Pure functions of the scores on the validation windows.

The candidates are the base, the trained model, and the blend halfway between them. docs/experiments/steady-tuning.md
has the runs that the rule was chosen on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.comparison import Comparison

SCORES = ("wql", "mase", "loss")
HALF = 0.5
"""Interpolation weight of the blend. On 43 sets the blend had lower WQL and MASE than the trained model, and did less
than half of its harm where training did harm."""
MIN_FURTHER_GAIN = 0.2
"""Share of the base's score by which the trained model must be better than the blend to be selected, as from random
weights. Set by hand: on the 43 sets the largest such difference was 0.11, and differences did not tell which of the two
is better on the next steps."""
MIN_FLIP_GAIN = 0.005
"""Minimum share by which flip must lower the score, as it doubles the time of a forecast. Set by hand."""


@dataclass(frozen=True)
class Candidate:
    """Weights that may be saved, base + alpha (weights at `step` - base), with their scores on the validation
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

    def describe(self) -> str:
        """Return a line with the scores."""
        wql, mase, loss = (self.scores[name] for name in SCORES)
        return f"{self.name}: validation WQL {wql:.4f}, MASE {mase:.4f}, loss {loss:.4f}"

    def row(self) -> dict[str, Any]:
        """Return the name and the scores as training_info.json has them."""
        return {"candidate": self.name, **score_columns(self.scores)}


@dataclass(frozen=True)
class Selection:
    """The candidates, and the one that is saved or retrained on all data."""

    candidates: Sequence[Candidate]
    """The base, the blend and the trained model."""
    winner: Candidate


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


def select(candidates: Sequence[Candidate], metric: str) -> Selection:
    """Select the blend if its score is lower than the base's, and the trained model only if its score is far lower.

    Args:
        candidates: the base, the blend and the trained model.
        metric: the score to compare by.
    """
    base, blend, trained = candidates
    winner = blend if blend.scores[metric] < base.scores[metric] else base
    if trained.scores[metric] < winner.scores[metric] - MIN_FURTHER_GAIN * base.scores[metric]:
        winner = trained
    return Selection(candidates, winner)


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
        return f"No: fine-tuning did not lower {name} on the validation windows. The base itself is saved."
    change = 100 * (1 - winner.scores[metric] / base.scores[metric])
    by_metric = f"{name} {change:.1f}% lower than the base's"
    result = f"Fine-tuned: {by_metric} on the validation windows."
    if comparison is not None:
        answer = "Yes" if comparison.low > 0 else "No" if comparison.high < 0 else "Unclear"
        result = f"{answer}: {comparison.describe()}, against the base on the validation windows."
    details = [f"Selected: {winner.name}, by {name} ({change:.1f}% lower)."]
    if refit is not None and refit.saved:
        details.append("The saved model is this one, retrained on all data; it has no held-out score.")
    elif refit is not None:
        details.append("Retraining on all data made it worse, so it is saved as selected.")
    return " ".join([result, *details])


def score_columns(scores: Mapping[str, float]) -> dict[str, float]:
    """Return scores by the names of their columns: WQL, MASE, loss."""
    return {name if name == "loss" else name.upper(): score for name, score in scores.items()}
