"""What may be saved at the end of training: the base, checkpoints, and blends of the best of them with the base."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.tuning import Blend

if TYPE_CHECKING:
    from pipeline.guard import GuardedTrainer

_SCORES = ("wql", "mase", "loss")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """Weights that may be saved, base + share (the model at `step` - base), and their scores on the validation windows."""

    step: int
    share: float
    scores: dict[str, float]

    @property
    def name(self) -> str:
        """What it is called in reports."""
        if self.share == 0:
            return "base"
        return f"step {self.step}" if self.share == 1 else f"base + {self.share:g} (step {self.step} - base)"

    def row(self) -> dict[str, Any]:
        """Return name and scores as they stand in training_info.json."""
        return {"candidate": self.name, **{shown(name): self.scores[name] for name in _SCORES}}


def candidates_of(trainer: GuardedTrainer, model: Any, base: Any, blends: Sequence[float]) -> list[Candidate]:
    """Return all that may be saved after training, the base first.

    Blends are of the best checkpoint, which the Trainer has loaded into the model; where no checkpoint beat the base, of
    the last step.
    """
    state = trainer.state
    checkpoints = [
        Candidate(int(entry["step"]), float(entry["step"] > 0), {name: entry[f"eval_{name}"] for name in _SCORES})
        for entry in sorted(state.log_history, key=lambda entry: entry["step"])
        if "eval_wql" in entry
    ]
    blended = int(state.best_global_step or 0) if state.best_model_checkpoint else 0
    found, blend = [], Blend(model, base)
    for share in blends:
        blend.set(share)
        found.append(Candidate(blended or state.global_step, share, trainer.score(model)))
        logger.info("%s: validation WQL %.4f", found[-1].name, found[-1].scores["wql"])
    blend.set(1)
    return [*checkpoints, *found]


def verdict(winner: Candidate, base: Candidate, metric: str, refitted: bool) -> str:
    """Say in a sentence what is saved, and why."""
    before, after = base.scores[metric], winner.scores[metric]
    if winner.share == 0:
        return f"No candidate beat the base (validation {shown(metric)} {before:.4f}), so the base itself is saved."
    what = f"The checkpoint of {winner.name}" if winner.share == 1 else f"The blend {winner.name}"
    return (
        f"{what} is saved{', refitted on all steps' if refitted else ''}: validation {shown(metric)} {after:.4f} where the "
        f"base has {before:.4f}, {1 - after / before:.1%} lower."
    )


def shown(metric: str) -> str:
    """Return a metric's name as it is printed."""
    return metric if metric == "loss" else metric.upper()
