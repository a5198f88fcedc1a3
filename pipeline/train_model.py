"""`ChronosTrainer`: a base checkpoint and series in, a native checkpoint out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipeline.config import Config
from pipeline.core.errors import UserError
from pipeline.core.locks import temporary_folder
from pipeline.core.processes import Processes
from pipeline.data.arrow_store import Store
from pipeline.models.checkpoint import read_checkpoint
from pipeline.synthetic import dummy_array
from pipeline.synthetic.bank import Bank
from pipeline.training.checkpointing import RunFolder
from pipeline.training.plan import Plan, make_plan
from pipeline.training.prepare import Epochs, prepare_run, prepare_windows
from pipeline.windows.training_sets import TrainingSet

if TYPE_CHECKING:
    from pipeline.training.result import TrainingResult


class ChronosTrainer:
    """Fine-tunes the base checkpoint in a folder: prepare, train, save, evaluate."""

    def __init__(
        self, base_model_path: str, *, config: Config = Config(), run_folder: str | Path | None = None
    ) -> None:
        """Read the configuration of the base checkpoint.

        Args:
            config: all settings.
            run_folder: folder of checkpoints and logs, so that a killed run can be continued; None keeps them only
                while training.

        Raises:
            UserError: the folder has no whole Chronos checkpoint.
        """
        self.base_model_path = base_model_path
        self.config = config
        self.checkpoint = read_checkpoint(base_model_path)
        self.run_folder = None if run_folder is None else RunFolder(Path(run_folder))
        self.result: TrainingResult | None = None
        """The trained model with its scores; None before `train_model`."""

    def generate_dummy_data(self, n_samples: int = 1000) -> np.ndarray:
        """Return synthetic series with the configured patterns and length: float32, [n_samples, length]."""
        dummy = self.config.training.dummy_data
        return dummy_array(n_samples, dummy.n_series, dummy.length, dummy.patterns, self.config.chronos.seed)

    def prepare_training_data(self, data: np.ndarray | pd.DataFrame | Sequence[Store | Bank | TrainingSet]) -> tuple:
        """Split series into training and validation windows, as `training.prepare.prepare_windows` says."""
        return prepare_windows(self.config, self.checkpoint, data)

    def train_model(self, train_data: tuple, epochs: Epochs = 10) -> None:
        """Train, and keep the model that `training.run.train` selects in `result`.

        Args:
            train_data: the windows that `prepare_training_data` returns.

        Raises:
            UserError: an argument of training.trainer is wrong, or the run folder has another run.
        """
        from pipeline.training.run import train
        from pipeline.training.time_limit import limit_steps

        self.result, begin = None, time.monotonic()
        with temporary_folder() as temporary:
            folder = self._checked_folder() or RunFolder(temporary)
            run = prepare_run(self.config, self.checkpoint, train_data, epochs)
            self.result = train(limit_steps(run, folder, begin), folder)

    def plan(self, train_data: tuple, epochs: Epochs = 10) -> Plan:
        """Return what `train_model` would do, without training. Raises the same errors."""
        self._checked_folder()
        return make_plan(prepare_run(self.config, self.checkpoint, train_data, epochs))

    def save_trained_model(self, output_path: str) -> None:
        """Write the native checkpoint with training_info.json, a report and a model card. In a run folder it ends the
        run.

        Raises:
            UserError: nothing has been trained, or the folder has other files.
        """
        from pipeline.training.run import save

        if self.result is None:
            raise UserError("no model has been trained; call train_model first")
        folder = RunFolder(Path(output_path))
        if self.run_folder is None or self.run_folder.path.resolve() != folder.path.resolve():
            folder.make_room(Path(self.base_model_path), overwrite=self.config.training.overwrite)
        save(self.result, folder)

    def evaluate_model(self, test_data: tuple) -> dict:
        """Score the trained model, or the base before training.

        Args:
            test_data: the windows that `prepare_training_data` returns, of which the validation windows are scored (a
                model that was retrained on all data has seen them); or two arrays (context [n, context_length], target
                [n, prediction_length]).

        Returns:
            the scores of `pipeline.core.metrics.SCORES`.
        """
        from pipeline.evaluation.backtest import ArrayWindows, backtest
        from pipeline.models.load import read_model
        from pipeline.training.trainer import forecast_function
        from pipeline.windows.validation_windows import ValidationWindows

        model = read_model(self.base_model_path).float() if self.result is None else self.result.model
        context, target = test_data
        if target is None:
            raise UserError("there are no validation windows to score; set training.validation_split above 0")
        flip = self.config.inference.flip is True if self.result is None else self.result.flip
        forecast = forecast_function(model, self.config.chronos.seed, flip)
        if isinstance(target, ValidationWindows):
            return backtest(target, forecast, target.batch_size).scores()
        windows = ArrayWindows(np.asarray(context, np.float32), np.asarray(target, np.float32))
        return backtest(windows, forecast).scores()

    def _checked_folder(self) -> RunFolder | None:
        """Return the run folder after checking that this run may write to it.

        Raises:
            UserError: it may not, or there are several processes and no run folder.
        """
        if self.run_folder is None:
            if Processes().count > 1:
                raise UserError("several processes need one folder for their run; give the trainer a run_folder")
            return None
        self.run_folder.check(self.config.training.resume, self.config.training.overwrite)
        self.run_folder.check_apart(Path(self.base_model_path))
        return self.run_folder
