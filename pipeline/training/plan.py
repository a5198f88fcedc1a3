"""What a training run would do, in words, before it is begun."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.config import Config
from pipeline.models.checkpoint import Family
from pipeline.training.recipe import Recipe

if TYPE_CHECKING:
    from pipeline.training.memory import StepMemory


@dataclass(frozen=True)
class Plan:
    """The sizes of a run."""

    config: Config
    recipe: Recipe
    family: Family
    n_weights: int
    n_trained: int
    context_length: int
    prediction_length: int
    n_series: int
    """Series that training windows are drawn from; 0 where all are made as they are needed."""
    windows_per_epoch: int | None
    n_validation: int
    evaluated_every: int
    """Steps; 0 where nothing is held out."""
    processes: int
    batch: int
    """Windows that a process takes at once."""
    accumulated: int
    refit: bool
    bf16: bool
    device: str
    memory: StepMemory

    def resolved(self) -> Config:
        """Return the configuration with everything that was left to the pipeline filled in."""
        training = replace(
            self.config.training,
            max_steps=self.recipe.steps,
            learning_rate=self.recipe.learning_rate,
            context_length=self.context_length,
            prediction_length=self.prediction_length,
            precision="bf16" if self.bf16 else "fp32",
        )
        return replace(self.config, training=training)

    def lines(self) -> Iterator[str]:
        """Yield the plan, a line a fact."""
        memory = self.memory
        parts = (
            f"{part} {_megabytes(getattr(memory, part))}"
            for part in ("weights", "gradients", "optimizer", "activations")
        )
        epoch = "without an end" if self.windows_per_epoch is None else f"{self.windows_per_epoch:,} windows an epoch"
        facts = {
            "model": f"{self.family}, {self.n_weights:,} weights, {self.n_trained:,} of them trained",
            "window": f"context {self.context_length}, horizon {self.prediction_length}",
            "data": f"{f'{self.n_series:,} series' if self.n_series else 'synthetic series'}, {epoch}",
            "training": self.recipe.words,
            "step": f"{self.processes} process(es) x {self.batch} windows x {self.accumulated} accumulated, "
            f"in {'bfloat16 under autocast' if self.bf16 else 'float32'} on {self.device}",
            "validation": (
                f"{self.n_validation:,} windows, every {self.evaluated_every} steps" if self.n_validation else "none"
            ),
            "refit": (
                f"up to {self.recipe.steps} steps more, with the held-out steps among the others"
                if self.refit
                else "none"
            ),
            "memory": f"about {_megabytes(memory.total)} a process with AdamW: {', '.join(parts)}",
        }
        yield from (f"{name:<12}{fact}" for name, fact in facts.items())


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.0f} MB"
