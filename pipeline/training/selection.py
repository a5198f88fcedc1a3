"""What may be saved at the end of training: the base, checkpoints, and blends of one of them with the base."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pipeline.training.trainer import ScoringTrainer

SCORES = ("wql", "mase", "loss")
AGREEMENT = 0.2
"""Share of a checkpoint's largest gain over the base, of its three, that the smallest must have for the scores to agree."""
CHANCE = 0.02
"""Part of the base's scores by which gains may differ anyway, as they do by chance."""
MAX_ALPHA = 0.5
"""How much of the way to a checkpoint is gone at most where they do not."""
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
        return {"candidate": self.name, **shown(self.scores)}


class Blend:
    """A model's weights anywhere between those of its base and those it has been trained to.

    Of low-rank adapters the second factor is scaled, which scales what they add; the first is made finite at the base, where
    zero times what it has become would be no number.
    """

    def __init__(self, model: nn.Module, base: nn.Module) -> None:
        self.trained = {
            name: (parameter, parameter.detach().clone())
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        start = dict(base.named_parameters())
        self.start = {}
        for name, (_, tuned) in self.trained.items():
            if "lora_A" in name:
                self.start[name] = tuned.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
            elif "lora_B" in name:
                self.start[name] = torch.zeros_like(tuned)
            else:
                self.start[name] = start[name].detach().to(tuned.device, copy=True)

    @torch.no_grad()
    def set(self, share: float) -> None:
        """Set the weights to base + share (trained - base); at 0 and 1 they are those of either, to the last bit."""
        for name, (parameter, tuned) in self.trained.items():
            start = self.start[name]
            parameter.copy_(start if share == 0 else tuned if share == 1 else start.lerp(tuned, share))


def choose(
    trainer: ScoringTrainer, model: Any, base: Any, blends: Sequence[float], metric: str, *, careful: bool
) -> tuple[list[Candidate], Candidate]:
    """Return all candidates, the base first, and the one that won, whose weights the model has then.

    It is the best of the base, the checkpoint that the Trainer holds, which it has loaded into the model, and the blends of
    that one; where none beat the base, blends are of the last step.

    Args:
        careful: whether a checkpoint whose scores do not agree gives way to the best of its blends that go half of the way
            at most and beat the base.
    """
    state = trainer.state
    scored = [
        Candidate(int(entry["step"]), float(entry["step"] > 0), {name: entry[f"eval_{name}"] for name in SCORES})
        for entry in state.log_history
        if "eval_wql" in entry
    ]
    # Where the best checkpoint was lost, torn when the run was killed, the model has the weights of the last step too.
    held = int(state.best_global_step or 0) if state.best_model_checkpoint else 0
    held = held or state.global_step
    mixed, blend = [], Blend(model, base)
    for share in blends:
        blend.set(share)
        mixed.append(Candidate(held, share, trainer.score(model)))
        log_scores(mixed[-1].name, mixed[-1].scores)
    at_hand = [candidate for candidate in scored if candidate.step in (0, held)] + mixed
    winner = min(at_hand, key=lambda candidate: candidate.scores[metric])
    if careful and winner.share == 1 and not _agree(winner, scored[0]):
        half = [one for one in mixed if one.share <= MAX_ALPHA and one.scores[metric] < scored[0].scores[metric]]
        winner = min(half, key=lambda candidate: candidate.scores[metric], default=winner)
    blend.set(winner.share)
    return scored + mixed, winner


def _agree(candidate: Candidate, base: Candidate) -> bool:
    """Return whether the scores that are defined gain parts of the base's that are not too unlike."""
    gains = [1 - candidate.scores[name] / base.scores[name] for name in SCORES if base.scores[name] > 0]
    return max(gains) - min(gains) <= CHANCE or min(gains) >= AGREEMENT * max(gains)


@dataclass(frozen=True)
class Refit:
    """What came of training the winner again, on the held-out steps too."""

    winner: Candidate
    scores: dict[str, float]
    """On the validation windows, which it has seen: they prove nothing but that it learned them as well as the winner."""
    saved: bool

    def row(self) -> dict[str, Any]:
        """Return it as it stands in training_info.json."""
        seen = {"scores on steps it has seen": shown(self.scores), "saved": self.saved}
        return {"steps": self.winner.step, "share": self.winner.share, **seen}


def verdict(winner: Candidate, candidates: Sequence[Candidate], metric: str, refit: Refit | None) -> str:
    """Say in a few sentences what is saved, and why.

    Args:
        candidates: all of them, the base first.
    """
    (name,), before, after = shown({metric: 0.0}), candidates[0].scores[metric], winner.scores[metric]
    if winner.share == 0:
        return f"No candidate beat the base (validation {name} {before:.4g}), so the base itself is saved."
    what = f"The checkpoint of {winner.name}" if winner.share == 1 else f"The blend {winner.name}"
    less = 100 * (1 - after / before)
    decimals, digits = (1, 4) if less >= 1 else (4, 8)
    better = f"validation {name} {after:.{digits}g} where the base has {before:.{digits}g}, {less:.{decimals}f}% lower."
    best = min(candidates, key=lambda candidate: candidate.scores[metric])
    if refit is not None and best.scores[metric] < after:
        why = "what is trained on more data bears more steps"
        if best.step == winner.step:
            why = "its WQL, MASE and loss disagree, so that half of the way is gone at most"
        better += f" Step {best.step} has {best.scores[metric]:.{digits}g}, but {why}."
    if refit is None:
        return f"{what} is saved: {better}"
    if refit.saved:
        return f"{what} won: {better} What is saved was trained in the same way again, on the held-out steps too."
    return f"{what} is saved: {better} Trained again, on the held-out steps too, it came out worse on them."


def log_scores(name: str, scores: dict[str, float]) -> None:
    """Say how a candidate did on the validation windows."""
    logger.info("%s: validation WQL %.4f, MASE %.4f, loss %.4f", name, *(scores[score] for score in SCORES))


def shown(scores: dict[str, float]) -> dict[str, float]:
    """Return scores by the names that they are printed with."""
    return {name if name == "loss" else name.upper(): score for name, score in scores.items()}
