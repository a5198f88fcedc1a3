"""Preparation of a training run: windows, recipe and identity. Invalid input is refused here, before training."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from pipeline.config import Config, listed
from pipeline.core.errors import UserError
from pipeline.core.processes import Processes
from pipeline.data.arrow_store import Store
from pipeline.data.source import open_configured
from pipeline.models.checkpoint import STOCK_LEVELS, Checkpoint, read_formats, read_training_info, weights_fingerprint
from pipeline.synthetic.bank import Bank
from pipeline.training.base_checkpoint import BaseCheckpoint
from pipeline.training.checkpointing import differing_keys
from pipeline.training.previous import previous_windows
from pipeline.training.recipe import SCHEDULES_BY_SCORE, Recipe, make_recipe
from pipeline.windows.prepare import data_identity, make_windows
from pipeline.windows.seen import count_seen
from pipeline.windows.training_sets import TrainingSet
from pipeline.windows.training_windows import TrainingWindows
from pipeline.windows.validation_windows import ValidationWindows

if TYPE_CHECKING:
    from transformers import TrainingArguments

Epochs = float | Literal["auto"]
_NOT_IN_IDENTITY = ("resume", "overwrite", "output_path", "dummy_data", "push_to_hub", "refit", "keep_checkpoints")
"""Keys of the training section that the weights of the first training do not depend on."""
_HARMLESS_ARGUMENTS = ("dataloader_", "logging_", "log_", "report_to", "run_name", "save_total_limit", "disable_tqdm")
"""Beginnings of the Trainer's arguments that may change when a run is continued."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRun:
    """A prepared run: which model is trained, on which windows, and for how long."""

    config: Config
    base: BaseCheckpoint
    epochs: Epochs
    recipe: Recipe
    windows: TrainingWindows
    validation: ValidationWindows | None
    previous: ValidationWindows | str | None = None
    """The validation windows of the base's own training, or why they cannot be scored; None if the base was not trained
    by this package."""

    @cached_property
    def all_windows(self) -> TrainingWindows | None:
        """Training windows with the holdout among them; None if nothing is held out or training.refit is off."""
        return self.windows.include_holdout() if self.config.training.refit else None

    @cached_property
    def seen_by_base(self) -> list[dict[str, Any]]:
        """What the base has seen in its own training, as `pipeline.windows.seen` records it."""
        return read_training_info(self.base.checkpoint.path).get("seen", [])

    @cached_property
    def seen_validation(self) -> tuple[int, int]:
        """How many validation windows have steps that the base was trained on, and how many were compared."""
        n_seen = n_windows = 0
        if self.validation is not None and self.seen_by_base:
            for number, split in enumerate(self.validation.splits):
                of_split = self.validation.windows[self.validation.windows[:, 0] == number]
                counts = count_seen(self.seen_by_base, split.store, of_split[:, 1:3].tolist())
                n_seen, n_windows = n_seen + counts[0], n_windows + counts[1]
        return n_seen, n_windows

    @property
    def effective_config(self) -> Config:
        """The configuration that repeats the run: with its base, its steps and the steps that it leaves out."""
        base_model = dataclasses.replace(
            self.config.base_model, model_name=self.base.name, output_path=str(self.base.checkpoint.path)
        )
        data = dataclasses.replace(self.config.data, test_length=self.config.test_length())
        training = dataclasses.replace(self.config.training, epochs=self.epochs)
        if training.time_limit is not None:
            training = dataclasses.replace(training, time_limit=None, max_steps=self.recipe.steps)
        return dataclasses.replace(self.config, base_model=base_model, data=data, training=training)

    def identity(self, arguments: TrainingArguments) -> dict[str, Any]:
        """Return everything that the weights of the run depend on: settings, base, data and arithmetic."""
        training = self.config.as_dict()["training"]
        for key in _NOT_IN_IDENTITY:
            del training[key]
        training["freeze"] = listed(self.config.training.freeze)
        training["trainer"] = {
            key: value for key, value in training["trainer"].items() if not key.startswith(_HARMLESS_ARGUMENTS)
        }
        return {
            "training": training,
            "test_length": self.config.test_length(),
            "seed": self.config.chronos.seed,
            "base model": weights_fingerprint(self.base.checkpoint.path),
            "arithmetic": f"{arguments.mixed_precision} on {arguments.device.type}",
            "data": data_identity(self.windows),
            "steps": self.recipe.steps,
            "rate": self.recipe.learning_rate,
            # Absent in the runs of earlier releases.
            **({"cross learning": True} if self.config.inference.cross_learning else {}),
            **({"flip": True} if self.config.inference.flip is True else {}),
        }


def prepare_windows(
    config: Config, checkpoint: Checkpoint, data: np.ndarray | pd.DataFrame | Sequence[Store | Bank | TrainingSet]
) -> tuple[TrainingWindows, ValidationWindows | None]:
    """Split series into training and validation windows; the second is None if training.validation_split is 0.

    Args:
        data: an array [n_series, length]; a long DataFrame with the configured columns; or stores and synthetic banks,
            each with a weight or all alike.

    Raises:
        UserError: no series can be trained on, or the horizon is beyond what the model's head forecasts.
    """
    members: Sequence[Store | Bank | TrainingSet]
    if isinstance(data, (np.ndarray, pd.DataFrame)):
        members = [open_configured(config, data, formats=read_formats(checkpoint.path))]
    else:
        members = data if isinstance(data, Sequence) else [data]
    if not members or not all(isinstance(member, (Store, Bank, TrainingSet)) for member in members):
        raise UserError(
            "data must be an array [n_series, length], a long DataFrame, or a list of what open_source returns"
        )
    sets = [member if isinstance(member, TrainingSet) else TrainingSet(member, 1.0) for member in members]
    base = BaseCheckpoint(checkpoint, config.training)
    stores = [training_set.series for training_set in sets if isinstance(training_set.series, Store)]
    horizon = base.horizon(stores, config.test_length())
    if config.training.prediction_length is None:
        logger.warning(
            "no horizon is set, so the model is trained for %d steps; set horizon to those you need", horizon
        )
    longest = max((int(store.lengths.max()) - config.test_length() for store in stores), default=horizon + 1)
    if horizon >= longest:
        raise UserError(
            f"training.prediction_length: the horizon of {horizon} steps leaves nothing to learn from, since the "
            f"longest series has {longest} steps before the test steps; set a shorter horizon"
        )
    return make_windows(sets, config, checkpoint.family, base.context_length, horizon)


def prepare_run(config: Config, checkpoint: Checkpoint, windows: tuple, epochs: Epochs) -> TrainingRun:
    """Return the run that trains a checkpoint on prepared windows.

    Args:
        windows: the training and validation windows that `prepare_windows` returns.
        epochs: passes over the data; training.max_steps takes their place.

    Raises:
        UserError: `windows` are not those of `prepare_windows`, or training.epochs contradicts `epochs`.
    """
    configured = config.training.epochs
    if configured not in ("auto", epochs):
        raise UserError(
            f"training.epochs is {configured}, and train_model got epochs={epochs}; give both the same value"
        )
    if not (isinstance(windows, tuple) and len(windows) == 2 and isinstance(windows[0], TrainingWindows)):
        raise UserError(
            "train_model takes the tuple of training and validation windows that prepare_training_data returns"
        )
    training, validation = windows
    base = BaseCheckpoint(checkpoint, config.training)
    recipe = make_recipe(
        config.training,
        epochs,
        family=checkpoint.family,
        width=checkpoint.width,
        scratch_size=base.scratch_size,
        windows_per_epoch=training.windows_per_epoch(),
    )
    run = TrainingRun(config, base, epochs, recipe, training, validation, previous_windows(config, checkpoint.path))
    schedule = config.training.trainer.get("lr_scheduler_type")
    if schedule in SCHEDULES_BY_SCORE and (validation is None or run.all_windows is not None):
        raise UserError(
            f"training.trainer.lr_scheduler_type: {schedule} follows validation scores, which retraining on all data "
            "does not have; set training.refit false, and hold out data with training.validation_split"
        )
    return run


def warn_about_setup(run: TrainingRun, device: str) -> None:
    """Warn about an idle GPU, idle processors, validation windows that the base has seen, and quantile levels without
    which stock Chronos does not forecast."""
    import torch

    n_seen, n_windows = run.seen_validation
    if n_seen:
        logger.warning(
            "the base was trained on %d of %d validation windows, which favours it; compare the two by evaluate on "
            "test steps that neither has seen",
            n_seen,
            n_windows,
        )
    cpus = Processes().cpus_per_process
    if device == "cpu" and torch.cuda.is_available():
        logger.warning("training on the CPU, by chronos.device, while a GPU is idle; use it with --chronos.device auto")
    if device == "cpu" and "OMP_NUM_THREADS" in os.environ and torch.get_num_threads() == 1 < cpus:
        logger.warning(
            "training on one of %d processors, since OMP_NUM_THREADS is 1 (the default of accelerate launch and "
            "torchrun); set it to up to %d",
            cpus,
            cpus,
        )
    levels = run.config.training.quantiles
    stock = STOCK_LEVELS.get(run.base.checkpoint.family, ())
    missing = [level for level in stock if levels is not None and level not in levels]
    if missing:
        logger.warning(
            "training.quantiles lacks %s: stock Chronos loads the checkpoint, but cannot forecast its default levels",
            ", ".join(map(str, missing)),
        )


def check_agreement(identity: dict[str, Any]) -> None:
    """Refuse processes that were started with different configurations, models or data.

    Raises:
        UserError: they differ; the message names the keys.
    """
    from accelerate.utils import gather_object

    first, *others = gather_object([identity])
    differing = sorted({key for other in others for key in differing_keys(first, other)})
    if differing:
        raise UserError(f"the processes differ in {', '.join(differing)}; start all with the same command and files")
