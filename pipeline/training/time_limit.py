"""The number of steps that fit into training.time_limit, from a short measurement of a step and of an evaluation."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from typing import TYPE_CHECKING, Any, cast

from pipeline.core.errors import UserError
from pipeline.core.locks import temporary_folder
from pipeline.core.processes import Processes
from pipeline.forecasting.plots import forecast_figure, save_figure
from pipeline.training.checkpointing import RunFolder
from pipeline.training.prepare import TrainingRun
from pipeline.training.recipe import make_recipe
from pipeline.windows.validation_windows import ValidationWindows

if TYPE_CHECKING:
    from transformers import TrainingArguments

_MEASURED_STEPS = 4
"""Steps that are timed after one that is not: the first one allocates memory."""
_STEP_MARGIN = 1.15
"""Time of a training step relative to what is measured of it; chosen to cover AdamW and the loader."""
_SAVING = 0.03
"""Share of the limit that is kept for pictures and for saving the model."""
logger = logging.getLogger(__name__)


def limit_steps(run: TrainingRun, folder: RunFolder, begin: float) -> TrainingRun:
    """Return the run with at most as many steps as fit into training.time_limit, the retraining included.

    The learning rate falls to zero over these steps. A killed run is continued with the steps that it began with.

    Args:
        begin: value of `time.monotonic` at the start of the run.

    Raises:
        UserError: not a single step fits.
    """
    limit = run.config.training.time_limit
    if limit is None:
        return run
    from pipeline.training.fit import first_phase, phase_arguments

    arguments = phase_arguments(run, first_phase(run, folder))
    steps = folder.unfinished_steps(run.identity(arguments)) if run.config.training.resume else None
    if steps is None:
        step_seconds, scoring = _measure(run)
        passes = 1 if run.all_windows is None else 2
        used, per_step = time.monotonic() - begin, passes * _STEP_MARGIN * step_seconds
        steps = int(((1 - _SAVING) * limit - used - scoring) / per_step)
        used, scoring, steps = Processes().gather([(used, scoring, steps)], run.config.chronos.device)[0]
        if steps < 1:
            least = math.ceil((used + scoring + per_step) / (1 - _SAVING))
            raise UserError(
                f"training.time_limit: {limit:g} seconds are too few; {used:.0f} have passed, and scoring takes about "
                f"{scoring:.0f}. Give at least {least}, or lower training.validation_windows"
            )
        wanted = run.recipe.steps
        if steps >= wanted:
            return run
        seconds = (used + scoring + wanted * per_step) / (1 - _SAVING)
        logger.info("%d steps would take about %.0f seconds", wanted, seconds)
    elif steps == run.recipe.steps:
        return run
    recipe = make_recipe(
        dataclasses.replace(run.config.training, max_steps=steps),
        run.epochs,
        family=run.base.checkpoint.family,
        width=run.base.checkpoint.width,
        scratch_size=run.base.scratch_size,
        windows_per_epoch=run.windows.windows_per_epoch(),
    )
    reason = f"{limit:g} seconds; {run.recipe.steps} steps without the limit"
    description = recipe.description.replace("training.max_steps", reason)
    return dataclasses.replace(run, recipe=dataclasses.replace(recipe, description=description))


def _measure(run: TrainingRun) -> tuple[float, float]:
    """Return the seconds of a step without AdamW, and those of all scores of the run."""
    import torch

    from pipeline.training.fit import batch_inputs, build_trainer, first_phase, phase_arguments
    from pipeline.training.memory import take_step

    with temporary_folder() as folder:
        phase = first_phase(run, RunFolder(folder))
        trainer = build_trainer(run, phase, phase_arguments(run, phase))
        model, arguments = cast(Any, trainer.model), trainer.args
        size, n_passes = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps
        begin = 0.0
        for number in range(_MEASURED_STEPS + 1):
            if number == 1:
                begin = time.perf_counter()
            inputs = batch_inputs(run, model, size, number * size, widest=False)
            take_step(model, inputs, arguments.device, arguments.bf16)
            if arguments.device.type == "cuda":
                torch.cuda.synchronize()
        step_seconds = (time.perf_counter() - begin) / _MEASURED_STEPS * n_passes
        if run.config.training.optimizer == "muon":
            step_seconds += _optimizer_seconds(trainer)
        forgetting = _forgetting_seconds(run, model)
        if run.validation is None:
            return step_seconds, forgetting
        for _ in range(2):  # the first evaluation takes longer
            begin = time.perf_counter()
            drawn = trainer.score(model).drawn
            if drawn:
                save_figure(forecast_figure(drawn), folder / "forecasts.png")  # as TensorBoard does
        evaluation = time.perf_counter() - begin
    return step_seconds, _n_evaluations(run, arguments) * evaluation + forgetting


def _forgetting_seconds(run: TrainingRun, model: Any) -> float:
    """Return the seconds of `measure_forgetting`: of two models, from forecasts of a batch of their windows."""
    from pipeline.training.trainer import forecast_function

    if not isinstance(run.previous, ValidationWindows):
        return 0.0
    windows = run.previous
    n_windows = min(windows.batch_size, len(windows))
    forecast = forecast_function(model, run.config.chronos.seed, run.config.inference.flip is not False)
    begin = 0.0
    for _ in range(2):  # the first forecast takes longer
        begin = time.perf_counter()
        forecast(windows.histories(range(n_windows)), windows.prediction_length)
    return 2 * (time.perf_counter() - begin) * len(windows) / n_windows


def _optimizer_seconds(trainer: Any) -> float:
    """Return the seconds of a step of the optimizer; without gradients and at a rate of 0, it changes no weight."""
    import torch

    optimizer = trainer.create_optimizer()
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    begin = 0.0
    for number in range(_MEASURED_STEPS + 1):
        if number == 1:
            begin = time.perf_counter()
        optimizer.step()
        if trainer.args.device.type == "cuda":
            torch.cuda.synchronize()
    optimizer.zero_grad(set_to_none=True)
    trainer.optimizer = None
    return (time.perf_counter() - begin) / _MEASURED_STEPS


def _n_evaluations(run: TrainingRun, arguments: TrainingArguments) -> int:
    """Return how often a run scores all validation windows: the base, the checkpoints, the winner with flip, and the
    retrained model."""
    every = float(arguments.eval_steps or 0)
    n_checkpoints = 1 / every if 0 < every < 1 else run.recipe.steps / max(every, 1)
    n_flipped = 4 if run.config.inference.flip == "auto" else 0  # two models, and twice the time for each
    return math.ceil(n_checkpoints) + 1 + n_flipped + (run.all_windows is not None)
