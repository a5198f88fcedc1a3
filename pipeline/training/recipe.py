"""What `auto` means: learning rate and steps for a family, a method and the data at hand, and why, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.config import TrainingConfig
from pipeline.core.errors import UserError
from pipeline.models.checkpoint import Family

# Published starting points: the Chronos paper and AutoGluon's defaults for T5 and Bolt, Chronos-2's own `fit`.
_RATES: dict[Family, dict[str, float]] = {
    "t5": {"full": 1e-4, "lora": 5e-4},
    "gpt2": {"full": 1e-4, "lora": 5e-4},
    "bolt": {"full": 1e-5, "lora": 1e-4},
    "chronos-2": {"full": 1e-6, "lora": 1e-5},
}
# Bolt's are for the width of its base size and go with one over the width, as Adam's do that suit all sizes (Yang et al.,
# Tensor Programs V, 2022): a small model hardly moves at the rate of a large one.
_BOLT_WIDTH = 768
_RATE_FROM_SCRATCH, _RATE_OF_NANO_FROM_SCRATCH = 1e-3, 3e-3
_EPOCHS = 10
_LEAST_STEPS, _LEAST_STEPS_FROM_SCRATCH = 1000, 3000
_WARM_UP_FROM_SCRATCH = 0.05


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train."""

    steps: int
    learning_rate: float
    warmup_share: float
    words: str


def recipe_of(
    training: TrainingConfig,
    epochs: float | str,
    *,
    family: Family,
    width: int,
    scratch_size: str | None,
    windows_per_epoch: int | None,
) -> Recipe:
    """Resolve every `auto` of the training section.

    Args:
        epochs: passes over the data, or `auto`; training.max_steps takes its place.
        width: the model's d_model.
        scratch_size: the size of a base of random weights, None for one that has been trained.
        windows_per_epoch: None where series are made as they are needed.

    Raises:
        UserError: epochs are asked for where there is no end of the data.
    """
    per_epoch = windows_per_epoch / training.batch_size if windows_per_epoch else None
    if training.max_steps is not None:
        steps, why = training.max_steps, "as training.max_steps says"
    elif epochs != "auto":
        if per_epoch is None:
            raise UserError(
                "training.epochs: series made as they are needed have no end; give training.max_steps instead"
            )
        steps, why = math.ceil(float(epochs) * per_epoch), "as training.epochs says"
    else:
        least = _LEAST_STEPS if scratch_size is None else _LEAST_STEPS_FROM_SCRATCH
        wanted = math.ceil(_EPOCHS * (per_epoch or 0))
        steps = max(wanted, least)
        why = f"{_EPOCHS} epochs" if wanted >= least else f"the least for {_start(scratch_size)}"
    if training.learning_rate != "auto":
        rate, chosen = training.learning_rate, "as training.learning_rate says"
    elif scratch_size is not None:
        rate = _RATE_OF_NANO_FROM_SCRATCH if scratch_size.endswith("nano") else _RATE_FROM_SCRATCH
        chosen = f"for {_start(scratch_size)}"
    else:
        rate = float(f"{_RATES[family][training.method] * (_BOLT_WIDTH / width if family == 'bolt' else 1):.12g}")
        trained = (
            "low-rank adapters" if training.method == "lora" else "the weights" if training.freeze else "all weights"
        )
        chosen = f"for {trained} of a {family} model"
    amount = f"{steps / per_epoch:.1f} epochs" if per_epoch else "of series made as they are needed"
    warmup = 0.0 if scratch_size is None else _WARM_UP_FROM_SCRATCH
    schedule = f"{f'after a warm-up over {warmup:.0%} of the steps ' if warmup else ''}falling linearly to zero"
    if training.trainer.keys() & {"lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "warmup_ratio"}:
        schedule = "on the schedule that training.trainer sets"
    words = (
        f"training for {steps} steps of {training.batch_size} windows ({amount}; {why}) with learning rate {rate:g} "
        f"({chosen}), {schedule}"
    )
    return Recipe(int(steps), float(rate), warmup, words)


def _start(scratch_size: str | None) -> str:
    return "fine-tuning" if scratch_size is None else "random weights"
