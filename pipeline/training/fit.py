"""One training by the Trainer: from the base, or from the last checkpoint of a killed run, to its last step."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerState, TrainingArguments
from transformers.integrations import MLflowCallback, TensorBoardCallback
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK, TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_pt_utils import safe_globals

from pipeline.core.errors import UserError, to_one_line
from pipeline.core.files import report_disk_errors
from pipeline.core.locks import temporary_folder
from pipeline.models import training_schema
from pipeline.models.checkpoint import check_safetensors
from pipeline.models.json_objects import read_object
from pipeline.training.arguments import is_compiled, is_sharded, training_arguments
from pipeline.training.callbacks import (
    CheckpointCallback,
    LogCallback,
    MLflowMetrics,
    ProgressBar,
    TensorBoardForecasts,
)
from pipeline.training.checkpointing import RunFolder
from pipeline.training.memory import fit_batch, take_step
from pipeline.training.prepare import TrainingRun
from pipeline.training.trainer import ScoringTrainer
from pipeline.windows.inputs import WindowDataset, identity_collate, input_function, pad_contexts
from pipeline.windows.training_windows import TrainingWindows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Phase:
    """One of the two trainings of a run: the first is scored on the validation windows, the second has them in its
    data."""

    windows: TrainingWindows
    folder: RunFolder
    scored: bool
    """Whether checkpoints are scored on the validation windows."""


def first_phase(run: TrainingRun, folder: RunFolder) -> Phase:
    """Return the training that is scored, if anything is held out."""
    return Phase(run.windows, folder, scored=run.validation is not None)


def phase_arguments(run: TrainingRun, phase: Phase) -> TrainingArguments:
    """Return the Trainer's arguments for a phase.

    Raises:
        UserError: an argument of training.trainer is wrong, or the machine cannot do what is configured.
    """
    checkpoint = run.base.checkpoint
    arguments = training_arguments(
        run.config,
        run.recipe,
        phase.folder,
        family=checkpoint.family,
        width=checkpoint.width,
        with_validation=phase.scored,
    )
    if not phase.scored:
        # Other trackers would log the second training as a restart of the first.
        arguments.report_to = [name for name in arguments.report_to or () if name in ("tensorboard", "mlflow")]
    return arguments


def trainable_model(run: TrainingRun, arguments: TrainingArguments) -> Any:
    """Return a copy of the base, ready to be trained.

    Raises:
        UserError: the model cannot have the configured shape, or has nothing to train.
    """
    # The layers for a CPU would break a compiled model into many pieces.
    cpu_layers = arguments.device.type == "cpu" and not is_compiled(arguments)
    model = run.base.trainable_model(run.config.chronos.seed, cpu_layers)
    if arguments.gradient_checkpointing and not model.supports_gradient_checkpointing:
        raise UserError(
            "training.trainer.activation_checkpointing: this model does not support it; lower training.batch_size"
        )
    return model


def build_trainer(run: TrainingRun, phase: Phase, arguments: TrainingArguments) -> ScoringTrainer:
    """Return the Trainer of a phase, its settings checked; nothing is written to the run's folder.

    On a GPU that is too small for a batch, more and smaller batches make a step.

    Raises:
        UserError: an optimizer, a schedule or a loader cannot be made from training.trainer, or not one window fits.
    """
    model = trainable_model(run, arguments)
    if arguments.device.type == "cuda" and not is_sharded(arguments):
        if arguments.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        inputs = partial(batch_inputs, run, model, widest=True)
        fit_batch(arguments, lambda n_windows: take_step(model, inputs(n_windows), arguments.device, arguments.bf16))
    # Compiled code is made for one shape and takes a minute for each, so contexts are then padded to one length.
    to_inputs = _to_inputs(run, model, padded=is_compiled(arguments))
    validation = run.validation
    n_windows = run.recipe.steps * run.config.training.batch_size
    checkpoints = str(arguments.output_dir)
    try:
        # The Trainer makes its output folder at once, and nothing may be written before the run has claimed its own.
        with temporary_folder() as folder:
            arguments.output_dir = str(folder)
            trainer = ScoringTrainer(
                model=model,
                args=arguments,
                data_collator=identity_collate,
                train_dataset=WindowDataset(phase.windows, n_windows, to_inputs),
                eval_dataset=None if validation is None else WindowDataset(validation, len(validation), to_inputs),
                validation=validation,
                metric=run.config.training.metric,
                flip=run.config.inference.flip is True,
                muon=run.config.training.optimizer == "muon",
            )
            trainer.check_settings()
    except (TypeError, ValueError, ImportError, KeyError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"training.trainer: {to_one_line(error)}") from error
    finally:
        arguments.output_dir = checkpoints
    _set_callbacks(trainer, phase)
    return trainer


def fit(run: TrainingRun, phase: Phase, trainer: ScoringTrainer) -> None:
    """Train to the last step, continuing a killed run where it stopped.

    The base is scored at step 0, before anything is trained.
    """
    arguments = trainer.args
    last = last_readable_checkpoint(phase.folder, arguments)
    # Not by evaluate() before train(): the Trainer would take the model for prepared and leave out DDP.
    arguments.eval_on_start = phase.scored and last is None
    if last is not None:
        logger.info("continuing from %s", last)
        n_processes = len(list(last.glob("rng_state*.pth")))
        if n_processes != arguments.world_size:
            logger.warning(
                "the run began on %d process(es) and continues on %d: the windows are the same, dropout is not",
                n_processes,
                arguments.world_size,
            )
    with report_disk_errors(phase.folder.path):
        trainer.train(resume_from_checkpoint=str(last) if last else False)


def last_readable_checkpoint(folder: RunFolder, arguments: TrainingArguments) -> Path | None:
    """Return the Trainer's latest whole checkpoint whose files can be read, None if there is none.

    Later ones are deleted with a warning. Their files are not as the Trainer wrote them, and running on from one would
    end in an error: the Trainer unpickles tensors and numbers only, and so does this check.
    """
    with arguments.main_process_first(local=False), report_disk_errors(folder.path):
        while (last := folder.last_checkpoint()) is not None and (fault := _find_fault(last)):
            logger.warning("deleted %s, which cannot be read: %s", last, fault)
            shutil.rmtree(last)
        return last


def _find_fault(checkpoint: Path) -> str | None:
    """Return why the Trainer cannot continue from a checkpoint, None if it can."""
    state_file = checkpoint / TRAINER_STATE_NAME
    try:
        read_object(state_file, training_schema.TrainerStateKeys)
        TrainerState.load_from_json(str(state_file))
        for file in checkpoint.glob("*.safetensors"):
            check_safetensors(file)
        for file in (*checkpoint.glob("*.pt"), *checkpoint.glob("*.pth")):
            with safe_globals():
                content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            if not isinstance(content, dict):
                return f"{file.name} has no dictionary"
    except Exception as error:  # of any kind: the files may be anybody's
        return to_one_line(error)
    return None


def batch_inputs(run: TrainingRun, model: Any, n_windows: int, first: int = 0, *, widest: bool) -> dict[str, Any]:
    """Return the model's inputs of consecutive training windows, with the longest possible context if `widest`."""
    context, target = run.windows.batch(range(first, first + n_windows))
    return _to_inputs(run, model, padded=widest)(torch.from_numpy(context), torch.from_numpy(target))


def _to_inputs(run: TrainingRun, model: Any, *, padded: bool) -> Callable[[Any, Any], dict[str, Any]]:
    windows = run.windows
    to_inputs = input_function(
        run.base.checkpoint.family, model.config.chronos_config, windows.prediction_length, windows.variates
    )
    return pad_contexts(windows.context_length, to_inputs) if padded else to_inputs


def _set_callbacks(trainer: ScoringTrainer, phase: Phase) -> None:
    for callback in (PrinterCallback, DEFAULT_PROGRESS_CALLBACK):  # the second one depends on whether a notebook runs
        trainer.remove_callback(callback)
    if not trainer.args.disable_tqdm:
        trainer.add_callback(ProgressBar(phase.folder.logs.name))
    if trainer.pop_callback(TensorBoardCallback) is not None:
        trainer.add_callback(TensorBoardForecasts(str(phase.folder.logs), trainer.scored))
    if trainer.pop_callback(MLflowCallback) is not None:
        trainer.add_callback(MLflowMetrics(phase.folder.logs.name))
    trainer.add_callback(CheckpointCallback(after_save=trainer.restart_clock))
    trainer.add_callback(LogCallback())
