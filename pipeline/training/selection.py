"""Selection: which weights a run saves. Pure functions of the scores on the validation windows.

The candidates are the base and the trained model. docs/experiments/steady-tuning.md has the runs that the rule was
chosen on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.comparison import Comparison

SCORES = ("wql", "mase", "loss")
MIN_FLIP_GAIN = 0.005
"""Minimum share by which flip must lower the score, as it doubles the time of a forecast. Set by hand."""


@dataclass(frozen=True)
class Candidate:
    """A model that may be saved, with its scores on the validation windows."""

    step: int
    """Steps that it has been trained for; 0 for the base."""
    scores: Mapping[str, float]

    @property
    def name(self) -> str:
        """The candidate's name in reports."""
        return f"step {self.step}" if self.step else "base"

    def describe(self) -> str:
        """Return a line with the scores."""
        wql, mase, loss = (self.scores[name] for name in SCORES)
        return f"{self.name}: validation WQL {wql:.4f}, MASE {mase:.4f}, loss {loss:.4f}"

    def row(self) -> dict[str, Any]:
        """Return the name and the scores as training_info.json has them."""
        return {"candidate": self.name, **score_columns(self.scores)}


@dataclass(frozen=True)
class Selection:
    """The base and the trained model, and which of them is selected."""

    base: Candidate
    trained: Candidate
    is_trained: bool
    """Whether the trained model is selected, to be saved or to be retrained on all data."""

    @property
    def candidates(self) -> tuple[Candidate, Candidate]:
        """The base and the trained model."""
        return self.base, self.trained

    @property
    def winner(self) -> Candidate:
        """The selected candidate."""
        return self.trained if self.is_trained else self.base


@dataclass(frozen=True)
class Refit:
    """The base, trained on all data for the same number of steps as the trained model."""

    steps: int
    scores: Mapping[str, float]
    """Scores on the validation windows, which the retrained model has seen: a check that training worked, no
    estimate."""
    saved: bool
    """Whether it is saved: it scores no worse than the winner on the windows that it has seen."""

    def row(self) -> dict[str, Any]:
        """Return the retraining as training_info.json has it."""
        seen = {"scores on seen windows": score_columns(self.scores), "saved": self.saved}
        return {"steps": self.steps, **seen}


def select(base: Candidate, trained: Candidate, metric: str) -> Selection:
    """Select the trained model if its score is lower than the base's, else the base.

    Args:
        metric: the score to compare by.
    """
    return Selection(base, trained, bool(trained.scores[metric] < base.scores[metric]))


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
    base, winner = selection.base, selection.winner
    (name,) = score_columns({metric: 0.0})
    if not selection.is_trained:
        return f"No: fine-tuning did not lower {name} on the validation windows. The base itself is saved."
    change = 100 * (1 - winner.scores[metric] / base.scores[metric])
    by_metric = f"{name} {change:.1f}% lower than the base's"
    result = f"Fine-tuned: {by_metric} on the validation windows."
    if comparison is not None:
        answer = "Yes" if comparison.low > 0 else "No" if comparison.high < 0 else "Unclear"
        result = f"{answer}: {comparison.describe()}, against the base on the validation windows."
    details = [f"Selected: {winner.name}, by {name} ({change:.1f}% lower)."]
    if refit is not None and refit.saved:
        details.append(
            "The saved model was trained from the base on all data, for as many steps; it has no held-out score."
        )
    elif refit is not None:
        details.append("Retraining on all data made it worse, so it is saved as selected.")
    return " ".join([result, *details])


def score_columns(scores: Mapping[str, float]) -> dict[str, float]:
    """Return scores by the names of their columns: WQL, MASE, loss."""
    return {name if name == "loss" else name.upper(): score for name, score in scores.items()}
