"""The recipe of a run: learning rate and number of steps, where the configuration says `auto`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.config import TrainingConfig
from pipeline.core.errors import UserError
from pipeline.models.checkpoint import Family

_RATES: dict[Family, dict[str, float]] = {
    "t5": {"full": 1e-4, "lora": 5e-4},
    "gpt2": {"full": 1e-4, "lora": 5e-4},
    "bolt": {"full": 1e-5, "lora": 1e-4},
    "chronos-2": {"full": 1e-6, "lora": 1e-5},
}
"""Published rates: AutoGluon's defaults for T5 and Bolt, and the defaults of `Chronos2Pipeline.fit`. For small models
docs/experiments/steady-tuning.md compares them with higher ones."""
_MIN_STEPS: dict[Family, int] = {"t5": 1000, "gpt2": 1000, "bolt": 300, "chronos-2": 1000}
"""The default of Chronos and AutoGluon, and fewer for Bolt: on eight public sets 300 steps ended with the base's
WQL, and 1,000 steps with 10% more (docs/experiments/steady-tuning.md)."""
_SMALL_CHRONOS_2 = 256
"""Below this width Chronos-2 has the rate and the steps of a Bolt. builtin:chronos2-synth, of width 128, hardly moves
at the published rate: 300 steps at 6e-6 lowered WQL by 0.5% in the median of four sets."""
_RATE_FROM_SCRATCH, _NANO_RATE_FROM_SCRATCH = 1e-3, 3e-3
"""The rate of the Chronos paper, and for nano sizes the best of three measured
(docs/experiments/from-random-weights.md)."""
_EPOCHS = 10
"""As in `ChronosTrainer.train_model`."""
_MIN_STEPS_FROM_SCRATCH = 3000
"""Random weights need about three times the steps of a trained base (docs/experiments/from-random-weights.md)."""
_WARMUP_FROM_SCRATCH = 0.05
"""A convention for training T5 from random weights."""
SCHEDULES_BY_SCORE = ("reduce_lr_on_plateau", "greedy")
"""Schedules of the Trainer that follow the validation score."""


@dataclass(frozen=True)
class Recipe:
    """Steps and learning rate of a run."""

    steps: int
    learning_rate: float
    warmup_fraction: float
    """Fraction of the steps over which the rate rises from zero."""
    description: str
    """A sentence on the steps and the learning rate, and why they are these."""


def make_recipe(
    training: TrainingConfig,
    epochs: float | str,
    *,
    family: Family,
    width: int,
    scratch_size: str | None,
    windows_per_epoch: int | None,
) -> Recipe:
    """Return the recipe with every `auto` of the training section resolved.

    Args:
        epochs: passes over the data, or `auto`; training.max_steps replaces them.
        width: the model's d_model.
        scratch_size: the size of a base with random weights; None for a trained base.
        windows_per_epoch: None if series are generated while training.

    Raises:
        UserError: epochs are given for data without an end.
    """
    tuned_as: Family = "bolt" if family == "chronos-2" and width < _SMALL_CHRONOS_2 else family
    per_epoch = windows_per_epoch / training.batch_size if windows_per_epoch else None
    if training.max_steps is not None:
        steps, reason = training.max_steps, "training.max_steps"
    elif epochs != "auto":
        if per_epoch is None:
            raise UserError(
                "training.epochs: series that are generated while training have no end; set training.max_steps instead"
            )
        steps, reason = math.ceil(float(epochs) * per_epoch), "training.epochs"
    else:
        min_steps = _MIN_STEPS[tuned_as] if scratch_size is None else _MIN_STEPS_FROM_SCRATCH
        default = math.ceil(_EPOCHS * (per_epoch or 0))
        steps = max(default, min_steps)
        reason = f"{_EPOCHS} epochs" if default >= min_steps else f"the minimum for {_start(scratch_size)}"
    if training.learning_rate != "auto":
        rate, rate_reason = training.learning_rate, "training.learning_rate"
    elif scratch_size is not None:
        rate = _NANO_RATE_FROM_SCRATCH if scratch_size.endswith("nano") else _RATE_FROM_SCRATCH
        rate_reason = f"for {_start(scratch_size)}"
    else:
        rate = _RATES[tuned_as][training.method]
        trained = (
            "low-rank adapters" if training.method == "lora" else "the weights" if training.freeze else "all weights"
        )
        rate_reason = f"for {trained} of a {family} model"
    amount = f"{steps / per_epoch:.1f} epochs" if per_epoch else "of generated series"
    warmup = 0.0 if scratch_size is None else _WARMUP_FROM_SCRATCH
    schedule = f"{f'after a warm-up over {warmup:.0%} of the steps ' if warmup else ''}falling linearly to zero"
    if training.trainer.keys() & {"lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "warmup_ratio"}:
        schedule = "on the schedule of training.trainer"
    description = (
        f"training for {steps} steps of {training.batch_size} windows ({amount}; {reason}) with learning rate {rate:g} "
        f"({rate_reason}), {schedule}"
    )
    return Recipe(int(steps), float(rate), warmup, description)


def _start(scratch_size: str | None) -> str:
    return "fine-tuning" if scratch_size is None else "random weights"
