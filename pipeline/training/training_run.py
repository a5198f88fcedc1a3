"""A run of the Trainer: from the base, or from where a killed run stood, to its last step."""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from transformers import Trainer, TrainerState, TrainingArguments, set_seed
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from pipeline.config import Config
from pipeline.core.errors import UserError, one_line
from pipeline.core.files import report_disk_errors
from pipeline.training.arguments import is_compiled, is_sharded, training_arguments
from pipeline.training.base_checkpoint import BaseCheckpoint
from pipeline.training.callbacks import Bar, LogCallback, TensorBoardForecasts
from pipeline.training.checkpointing import RunFolder
from pipeline.training.memory import fit_batch, take_step
from pipeline.training.recipe import Recipe
from pipeline.training.trainer import BaseIsFirstBest, Patience, ScoringTrainer
from pipeline.windows.inputs import WindowDataset, inputs_of, whole_batch, whole_contexts
from pipeline.windows.sampling import TrainingWindows, ValidationWindows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRun:
    """What is trained, on what, and how."""

    config: Config
    start: BaseCheckpoint
    recipe: Recipe
    windows: TrainingWindows
    validation: ValidationWindows | None

    @cached_property
    def with_holdout(self) -> TrainingRun | None:
        """The same with the held-out steps among the others, None where none are held out, or it is not wanted."""
        everything = self.windows.include_holdout() if self.config.training.refit else None
        return None if everything is None else replace(self, windows=everything)

    def arguments(self, run: RunFolder, *, steps: int, compared: bool) -> TrainingArguments:
        """Return the Trainer's arguments for so many steps of the recipe.

        Args:
            compared: whether checkpoints are scored on the validation windows on the way.

        Raises:
            UserError: an argument of training.trainer is wrong, or the machine cannot do what is asked for.
        """
        checkpoint = self.start.checkpoint
        return training_arguments(
            self.config,
            replace(self.recipe, steps=steps),
            run,
            family=checkpoint.family,
            width=checkpoint.width,
            with_validation=compared,
        )

    def model(self, arguments: TrainingArguments) -> Any:
        """Return the model as training starts with it.

        Raises:
            UserError: it cannot have the shape that is asked for, or nothing of it is to be trained.
        """
        set_seed(self.config.chronos.seed)
        # The layers for a CPU would break a compiled model into many pieces.
        return self.start.to_train(cpu_layers=arguments.device.type == "cpu" and not is_compiled(arguments))

    def check(self, model: Any, arguments: TrainingArguments) -> None:
        """Refuse, before anything is written, what the Trainer would refuse when it trains.

        Raises:
            UserError: an optimizer, a schedule or a loader cannot be made as training.trainer says.
        """
        if arguments.gradient_checkpointing and not model.supports_gradient_checkpointing:
            raise UserError("training.trainer.activation_checkpointing: this model cannot; lower training.batch_size")
        windows = WindowDataset(self.windows, arguments.max_steps * self.config.training.batch_size, lambda *_: {})
        tried = copy.copy(arguments)
        try:
            with tempfile.TemporaryDirectory(prefix="chronos-run-") as tried.output_dir:
                trainer = Trainer(model=model, args=tried, train_dataset=windows, eval_dataset=windows)
                trainer.create_optimizer_and_scheduler(self.recipe.steps)
                trainer.get_train_dataloader()
        except (TypeError, ValueError, ImportError, KeyError, AttributeError) as error:
            raise UserError(f"training.trainer: {one_line(error)}") from error

    def fit_batch(self, model: Any, arguments: TrainingArguments) -> None:
        """Lower what a GPU takes at once until it has the memory; more batches then make a step.

        Raises:
            UserError: there is not enough for one window.
        """

        def attempt(n_windows: int) -> None:
            take_step(model, self.widest_inputs(model, n_windows), arguments.device, arguments.bf16)

        if arguments.device.type == "cuda" and not is_sharded(arguments):
            if arguments.gradient_checkpointing:
                model.gradient_checkpointing_enable()
            fit_batch(arguments, attempt)

    def train(self, model: Any, run: RunFolder, arguments: TrainingArguments) -> ScoringTrainer:
        """Train, at the rates of the whole recipe however few the steps, and return the Trainer when it is done."""
        last, compared = run.last_checkpoint(), arguments.eval_strategy != "no"
        # Not by evaluate() before train(): the Trainer would take the model for prepared and leave out DDP.
        arguments.eval_on_start = compared and last is None
        patience = None
        if self.config.training.patience is not None and compared:
            patience = Patience(self.config.training.metric, self.config.training.patience)
        if last is not None:
            logger.info("continuing from %s", last)
            before = len(list(last.glob("rng_state*.pth")))
            if before != arguments.world_size:
                logger.warning(
                    "begun on %d process(es) and continued on %d: the windows are the same, dropout is not",
                    before,
                    arguments.world_size,
                )
            state = TrainerState.load_from_json(str(last / "trainer_state.json"))
            if patience is not None and patience.is_lost(state):
                arguments.max_steps = state.global_step
        trainer = self._trainer(model, run, arguments)
        if patience is not None:
            trainer.add_callback(patience)
        with report_disk_errors(run.path):
            trainer.train(resume_from_checkpoint=str(last) if last else False)
        return trainer

    def widest_inputs(self, model: Any, n_windows: int) -> dict[str, Any]:
        """Return what a model takes of the first windows, with as long a context as any batch can have."""
        context, target = self.windows.batch(range(n_windows))
        return self._to_inputs(model, whole=True)(torch.from_numpy(context), torch.from_numpy(target))

    def _to_inputs(self, model: Any, *, whole: bool) -> Callable[[Any, Any], dict[str, Any]]:
        windows = self.windows
        to_inputs = inputs_of(
            self.start.checkpoint.family, model.config.chronos_config, windows.prediction_length, windows.variates
        )
        return whole_contexts(windows.context_length, to_inputs) if whole else to_inputs

    def _trainer(self, model: Any, run: RunFolder, arguments: TrainingArguments) -> ScoringTrainer:
        training, validation = self.config.training, self.validation
        # Compiled code is made for one shape, and takes a minute for each: contexts as long as the longest of their batch
        # would have it made over and over.
        to_inputs = self._to_inputs(model, whole=is_compiled(arguments))
        trainer = ScoringTrainer(
            model=model,
            args=arguments,
            data_collator=whole_batch,
            train_dataset=WindowDataset(self.windows, arguments.max_steps * training.batch_size, to_inputs),
            eval_dataset=None if validation is None else WindowDataset(validation, len(validation), to_inputs),
            validation=validation,
            scheduled_steps=self.recipe.steps,
            trained_again=arguments.eval_strategy != "no" and self.with_holdout is not None,
        )
        for callback in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(callback)
        if not arguments.disable_tqdm:
            trainer.add_callback(Bar())
        if trainer.pop_callback(TensorBoardCallback) is not None:
            trainer.add_callback(TensorBoardForecasts(str(run.logs), trainer.picture))
        trainer.add_callback(BaseIsFirstBest(training.metric))
        trainer.add_callback(LogCallback())
        return trainer
