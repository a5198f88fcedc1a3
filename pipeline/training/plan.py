"""The plan of a training run, for `train.py --dry_run`: what the run would do, with every `auto` filled in."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Config
from pipeline.core.locks import temporary_folder
from pipeline.models.base import base_folder
from pipeline.training.checkpointing import RunFolder
from pipeline.training.run import prepare

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from pipeline.training.memory import StepMemory
    from pipeline.training.prepare import TrainingRun

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The sizes of a run."""

    run: TrainingRun
    arguments: TrainingArguments
    n_weights: int
    n_trained: int
    """Weights that are trained."""
    memory: StepMemory

    @property
    def n_series(self) -> int:
        """Series that training windows are drawn from; 0 if all are synthetic."""
        return sum(sampler.n_series for sampler in self.run.windows.samplers)

    @property
    def evaluated_every(self) -> int:
        """Steps from one evaluation to the next; 0 if nothing is held out."""
        if self.run.validation is None:
            return 0
        every = float(self.arguments.eval_steps or 0)
        return math.ceil(every * self.run.recipe.steps if every < 1 else every)

    def lines(self, output: Path) -> Iterator[str]:
        """Yield the plan, one fact a line.

        Args:
            output: folder of the trained model.
        """
        run, arguments = self.run, self.arguments
        parts = ("weights", "gradients", "optimizer", "activations")
        memory = ", ".join(f"{part} {_megabytes(getattr(self.memory, part))}" for part in parts)
        per_epoch = run.windows.windows_per_epoch()
        epoch = "without an end" if per_epoch is None else f"{per_epoch:,} windows an epoch"
        series = f"{self.n_series:,} series" if self.n_series else "synthetic series"
        precision = "bfloat16 under autocast" if arguments.bf16 else "float32"
        n_validation = 0 if run.validation is None else len(run.validation)
        validation = f"{n_validation:,} windows, every {self.evaluated_every} steps" if n_validation else "none"
        refit = "none"
        if run.all_windows is not None:
            refit = (
                f"on all data, the holdout included, for {run.recipe.steps} more steps if the trained model is selected"
            )
        limit = run.config.training.time_limit
        facts = {
            "model": f"{run.base.checkpoint.family}, {self.n_weights:,} weights, {self.n_trained:,} of them trained",
            "window": f"context {run.windows.context_length}, horizon {run.windows.prediction_length}",
            "data": f"{series}, {epoch}",
            "training": run.recipe.description,
            **({} if limit is None else {"time limit": f"{limit:g} s; fewer steps if a measurement says so"}),
            "step": f"{arguments.world_size} process(es) x {arguments.per_device_train_batch_size} windows x "
            f"{arguments.gradient_accumulation_steps} accumulated, in {precision} on {arguments.device.type}",
            "validation": validation,
            "retraining": refit,
            "output": str(output),
            "memory": f"about {_megabytes(self.memory.total)} a process with AdamW: {memory}",
        }
        yield from (f"{name:<12}{fact}" for name, fact in facts.items())


def make_plan(run: TrainingRun) -> Plan:
    """Return the plan of a run; nothing is trained, and nothing is written to the run's folder.

    Raises:
        UserError: as training would.
    """
    from pipeline.training.fit import batch_inputs, first_phase, phase_arguments, trainable_model
    from pipeline.training.memory import step_memory

    with temporary_folder() as folder:
        arguments = phase_arguments(run, first_phase(run, RunFolder(folder)))
    model = trainable_model(run, arguments)
    if arguments.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    inputs = partial(batch_inputs, run, model, widest=True)
    return Plan(
        run=run,
        arguments=arguments,
        n_weights=sum(parameter.numel() for parameter in model.parameters()),
        n_trained=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        memory=step_memory(model, inputs, arguments.per_device_train_batch_size, arguments.bf16),
    )


def print_plan(config: Config) -> None:
    """Log the plan of a run. Whatever the plan needs is written to a temporary folder: converted series, and the base.

    Raises:
        UserError: as training would.
    """
    with temporary_folder() as folder:
        base = config.base_model
        if not base_folder(config).is_dir():
            base = replace(base, output_path=str(folder / "base"))
        training = replace(config.training, overwrite=True)  # nothing is written, so a finished run may be there
        paths = replace(config.paths, data_dir=str(folder / "data"))
        package, level = logging.getLogger("pipeline"), logging.getLogger("pipeline").level
        package.setLevel(logging.WARNING)  # temporary files are not worth a line
        try:
            plan = make_plan(prepare(replace(config, base_model=base, training=training, paths=paths))[0])
        finally:
            package.setLevel(level)
        for line in plan.lines(config.trained_path()):
            logger.info("%s", line)


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.0f} MB"
