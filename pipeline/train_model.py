"""Training: a base checkpoint and series in, a native checkpoint out, as the best on held-out steps was trained."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import logging
import math
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from pipeline.config import Config, listed
from pipeline.core.errors import UserError
from pipeline.core.files import fingerprint, write_json
from pipeline.core.processes import Processes
from pipeline.core.series import UNIVARIATE
from pipeline.data.arrow_store import Store
from pipeline.data.source import open_configured
from pipeline.evaluation.backtest import ArrayWindows, backtest
from pipeline.forecasting.plots import curve_figure, save_figure
from pipeline.models.checkpoint import STOCK_LEVELS, TRAINING_INFO, Checkpoint, Family, read_checkpoint, weight_files
from pipeline.synthetic import dummy_array
from pipeline.synthetic.bank import Bank
from pipeline.training.checkpointing import RunFolder, differing_keys
from pipeline.training.plan import Plan
from pipeline.training.recipe import Recipe, recipe_of
from pipeline.training.report import run_report, training_card
from pipeline.windows.prepare import identity_of, training_windows
from pipeline.windows.sampling import TrainingWindows, ValidationWindows
from pipeline.windows.training_sets import TrainingSet

# What loads torch and transformers, which takes seconds, is imported where it is used: wrong data are refused before.
if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from transformers import TrainingArguments

    from pipeline.training.base_checkpoint import BaseCheckpoint
    from pipeline.training.selection import Candidate, Refit
    from pipeline.training.trainer import ScoringTrainer
    from pipeline.training.training_run import TrainingRun

# Arguments of the Trainer that may change while a run is continued: its weights do not depend on them.
_HARMLESS = ("dataloader_", "logging_", "log_", "report_to", "run_name", "save_total_limit", "disable_tqdm")
logger = logging.getLogger(__name__)


class ChronosTrainer:
    """Fine-tunes the checkpoint in a folder: prepare, train, save, evaluate."""

    config = Config()
    """All settings; a script puts its own here before anything else is called."""
    run_folder: RunFolder | None = None
    """Where checkpoints and logs go, so that a killed run can be continued; None keeps them only while training."""

    def __init__(self, base_model_path: str) -> None:
        self.base_model_path = base_model_path
        self.checkpoint: Checkpoint = read_checkpoint(base_model_path)
        self.model: Any = None
        self.candidates: list[Candidate] = []
        self.verdict = ""
        self.recipe: Recipe | None = None
        self.history: list[dict[str, Any]] = []
        self.steps_trained = 0
        self._epochs: float | Literal["auto"] = "auto"
        self.adapter: tuple[Any, dict[str, Any]] | None = None
        self.identity: dict[str, Any] = {}
        self.variates = UNIVARIATE
        self.drawn: Figure | None = None
        self.refit: Refit | None = None

    def generate_dummy_data(self, n_samples: int = 1000) -> np.ndarray:
        """Return synthetic series of the configured patterns and length: float32, [n_samples, length]."""
        dummy = self.config.training.dummy_data
        return dummy_array(n_samples, dummy.n_series, dummy.length, dummy.patterns, self.config.chronos.seed)

    def prepare_training_data(self, data: np.ndarray | pd.DataFrame | Sequence[Store | Bank | TrainingSet]) -> tuple:
        """Part series into training and validation windows.

        Args:
            data: an array [n_series, length]; a long DataFrame with the columns that the configuration names; or what
                windows are drawn from: stores and synthetic banks, each with a weight or all alike.

        Returns:
            (TrainingWindows, ValidationWindows), the second None where training.validation_split is 0.

        Raises:
            UserError: no series can be trained on, or the horizon is beyond what the model's head forecasts.
        """
        given: Sequence[Store | Bank | TrainingSet]
        if isinstance(data, (np.ndarray, pd.DataFrame)):
            given = [open_configured(self.config, data)]
        else:
            given = data if isinstance(data, Sequence) else [data]
        if not given or not all(isinstance(one, (Store, Bank, TrainingSet)) for one in given):
            raise UserError(
                "data must be an array [n_series, length], a long DataFrame, or a list of what open_source gives"
            )
        sets = [one if isinstance(one, TrainingSet) else TrainingSet(one, 1.0) for one in given]
        start = self._start()
        horizon = start.horizon(
            [one.series for one in sets if isinstance(one.series, Store)], self.config.data.test_length
        )
        if horizon < self.checkpoint.prediction_length and self.config.training.prediction_length is None:
            logger.info("horizon: %d steps; name the one that you forecast with training.prediction_length", horizon)
        return training_windows(sets, self.config, self.checkpoint.family, start.context_length, horizon)

    def train_model(self, train_data: tuple, epochs: float | Literal["auto"] = 10) -> None:
        """Train, and keep what wins on the validation windows: a checkpoint, a blend with the base, or the base.

        With training.refit the winner is then trained again as it was, on the held-out steps too, and what comes of it kept
        where it does no worse on them.

        Raises:
            UserError: an argument of training.trainer is wrong, or the run folder holds another run.
        """
        self.model, self.adapter, self.verdict = None, None, ""
        self.candidates, self.refit, self.drawn, self._epochs = [], None, None, epochs
        with tempfile.TemporaryDirectory(prefix="chronos-run-") as temporary:
            run = self._run_folder(temporary)
            fitting = self._fitting(train_data, epochs)
            again = fitting.with_holdout
            self.recipe, self.variates = fitting.recipe, fitting.windows.variates
            arguments = fitting.arguments(run, steps=self.recipe.steps, compared=fitting.validation is not None)
            if again is not None:
                again.arguments(run.refit, steps=self.recipe.steps, compared=False)  # refused now, if at all
            logger.info(self.recipe.words)
            _say_of_idle_gpus(arguments.device.type)
            _say_of_idle_processors(arguments.device.type)
            _say_of_stock_levels(self.config.training.quantiles, self.checkpoint.family)
            self.identity = self._identity(train_data, arguments)
            _check_agreement(self.identity)
            model = fitting.model(arguments)
            fitting.check(model, arguments)
            fitting.fit_batch(model, arguments)
            with contextlib.ExitStack() as lock:
                with arguments.main_process_first(local=False):
                    if arguments.process_index == 0:
                        lock.enter_context(run.locked())
                        run.claim(
                            self.identity,
                            resume=self.config.training.resume,
                            overwrite=self.config.training.overwrite,
                        )
                trainer = fitting.train(model, run, arguments)
                self.history, self.steps_trained = trainer.state.log_history, trainer.state.global_step
                model, winner = trainer.unwrapped_model(), None
                if fitting.validation is not None:
                    winner = self._decide(trainer, model, fitting.start)
                del trainer
                if again is not None and winner is not None and winner.share > 0:
                    model = self._refit(again, run.refit, winner) or model
                self._conclude(model, winner)

    def plan(self, train_data: tuple, epochs: float | Literal["auto"] = 10) -> Plan:
        """Say what `train_model` would do, without training.

        Raises:
            UserError: as `train_model`.
        """
        from pipeline.training.memory import step_memory

        fitting = self._fitting(train_data, epochs)
        recipe, windows, validation = fitting.recipe, fitting.windows, fitting.validation
        again = fitting.with_holdout
        with tempfile.TemporaryDirectory(prefix="chronos-run-") as temporary:
            self._run_folder(temporary)  # for what it refuses: nothing is written there
            run = RunFolder(Path(temporary))
            arguments = fitting.arguments(run, steps=recipe.steps, compared=validation is not None)
            if again is not None:
                again.arguments(run.refit, steps=recipe.steps, compared=False)
        model = fitting.model(arguments)
        fitting.check(model, arguments)
        if arguments.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        held, every = arguments.per_device_train_batch_size, float(arguments.eval_steps or 0)
        return Plan(
            config=self._of_this_base(),
            recipe=recipe,
            family=self.checkpoint.family,
            n_weights=sum(parameter.numel() for parameter in model.parameters()),
            n_trained=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
            context_length=windows.context_length,
            prediction_length=windows.prediction_length,
            n_series=sum(source.n_series for source in windows.sources),
            windows_per_epoch=windows.windows_per_epoch(),
            n_validation=0 if validation is None else len(validation),
            evaluated_every=math.ceil(every * recipe.steps if every < 1 else every),
            processes=arguments.world_size,
            batch=held,
            accumulated=arguments.gradient_accumulation_steps,
            refit=again is not None,
            bf16=arguments.bf16,
            device=arguments.device.type,
            memory=step_memory(model, partial(fitting.widest_inputs, model), held, arguments.bf16),
        )

    def save_trained_model(self, output_path: str) -> None:
        """Write the native checkpoint with training_info.json and a model card; in a run folder it ends the run.

        Raises:
            UserError: nothing has been trained, or the folder is taken.
        """
        import yaml

        from pipeline.models.adapt import save_adapter

        if self.model is None:
            raise UserError("nothing has been trained yet; call train_model first")
        if Processes().rank:
            return
        run = RunFolder(Path(output_path))
        if self.run_folder is None or self.run_folder.path.resolve() != run.path.resolve():
            run.check(resume=False, overwrite=self.config.training.overwrite)
            run.check_apart(Path(self.base_model_path))
            if run.path.is_dir():
                run.clear()
        with run.publishing() as folder:
            self.model.save_pretrained(folder)
            if self.adapter is not None:
                save_adapter(self.adapter, folder / "adapter")
            info = self._training_info()
            pictures = {"training.png": curve_figure(self.history)} if self.history else {}
            if self.drawn is not None:
                pictures["forecasts.png"] = self.drawn
            for name, figure in pictures.items():
                save_figure(figure, folder / name)
            assert self.recipe is not None
            report = run_report(info, self.recipe.words, list(pictures), run.path / "config.yaml")
            (folder / "report.md").write_text(report, encoding="utf-8")
            (folder / "config.yaml").write_text(
                yaml.safe_dump(self._told().as_dict(), sort_keys=False), encoding="utf-8"
            )
            (folder / "README.md").write_text(training_card(info), encoding="utf-8")
            write_json(folder / TRAINING_INFO, info)

    def evaluate_model(self, test_data: tuple) -> dict:
        """Score the trained model, or the base where nothing has been trained.

        Args:
            test_data: what `prepare_training_data` gave, then its validation windows are scored, which a model that was
                trained again on all steps has seen; or (context
                [n, context_length], target [n, prediction_length]), two arrays.

        Returns:
            The scores of `pipeline.core.metrics.SCORES`.
        """
        from pipeline.models.load import read_model
        from pipeline.training.trainer import forecaster_of

        forecast = forecaster_of(self.model or read_model(self.base_model_path).float(), self.config.chronos.seed)
        context, target = test_data
        if isinstance(target, ValidationWindows):
            return backtest(target, forecast).scores()
        return backtest(
            ArrayWindows(np.asarray(context, np.float32), np.asarray(target, np.float32)), forecast
        ).scores()

    def _run_folder(self, temporary: str) -> RunFolder:
        if self.run_folder is None and Processes().count > 1:
            raise UserError("several processes need one folder for their run: give the trainer a run_folder")
        run = self.run_folder or RunFolder(Path(temporary))
        if self.run_folder is not None:
            run.check(self.config.training.resume, self.config.training.overwrite)
        run.check_apart(Path(self.base_model_path))
        return run

    def _start(self) -> BaseCheckpoint:
        from pipeline.training.base_checkpoint import BaseCheckpoint

        return BaseCheckpoint(self.checkpoint, self.config.training)

    def _fitting(self, train_data: tuple, epochs: float | Literal["auto"]) -> TrainingRun:
        from pipeline.training.training_run import TrainingRun

        said = self.config.training.epochs
        if said not in ("auto", epochs):
            raise UserError(
                f"training.epochs says {said}, and train_model {epochs}, its default being 10; give both the same"
            )
        if not (isinstance(train_data, tuple) and len(train_data) == 2 and isinstance(train_data[0], TrainingWindows)):
            raise UserError("train_model takes what prepare_training_data gives: training and validation windows")
        windows, validation = train_data
        start = self._start()
        recipe = recipe_of(
            self.config.training,
            epochs,
            family=self.checkpoint.family,
            width=self.checkpoint.width,
            scratch_size=start.scratch_size,
            windows_per_epoch=windows.windows_per_epoch(),
        )
        return TrainingRun(self.config, start, recipe, windows, validation)

    def _decide(self, trainer: ScoringTrainer, model: Any, start: BaseCheckpoint) -> Candidate:
        """Give the model, which the Trainer has trained, the weights of the candidate that wins, and return which it is."""
        from pipeline.training.selection import choose

        training = self.config.training
        careful = trainer.trained_again and start.supports_blend_cap
        self.candidates, winner = choose(
            trainer, model, start.base(), training.blends, training.metric, careful=careful
        )
        if trainer.args.process_index == 0:
            self.drawn = trainer.picture_of(model)
        return winner

    def _refit(self, again: TrainingRun, run: RunFolder, winner: Candidate) -> Any | None:
        """Return the base trained as the winner was, on the held-out steps too; None where it does worse on them."""
        from accelerate.utils.memory import clear_device_cache

        from pipeline.training.selection import Blend, Refit

        logger.info("training again for %d steps, with the held-out steps among the others", winner.step)
        clear_device_cache(garbage_collection=True)
        arguments = again.arguments(run, steps=winner.step, compared=False)
        # A tracker would take it for the first training, begun anew.
        arguments.report_to = ["tensorboard"] if "tensorboard" in (arguments.report_to or []) else []
        model = again.model(arguments)
        again.fit_batch(model, arguments)
        trainer = again.train(model, run, arguments)
        model, metric = trainer.unwrapped_model(), self.config.training.metric
        Blend(model, again.start.base()).set(winner.share)
        scores = trainer.score(model)
        self.refit = Refit(winner, scores, saved=scores[metric] <= winner.scores[metric])
        logger.info("trained again: WQL %.4f on the held-out steps, which it has seen", scores["wql"])
        return model if self.refit.saved else None

    def _conclude(self, model: Any, winner: Candidate | None) -> None:
        """Keep the model that is to be saved, low-rank adapters merged into its weights and beside it, and say why it is."""
        from pipeline.training.selection import verdict

        assert self.recipe is not None
        if winner is None:
            self.verdict = f"Trained for {self.recipe.steps} steps; nothing was held out, so nothing was compared."
        else:
            self.verdict = verdict(winner, self.candidates, self.config.training.metric, self.refit)
        self.model, self.adapter = model, None
        if self.config.training.method == "lora":
            if winner is None or winner.share > 0:
                self.adapter = self._adapter(model)
            self.model = model.merge_and_unload()

    def _adapter(self, model: Any) -> tuple[Any, dict[str, Any]] | None:
        """Return the adapters as they fit on the base, None where the model has another head than that."""
        from pipeline.models.adapt import adapter_of

        shape = model.config.chronos_config
        longer = self.checkpoint.family == "bolt" and shape["prediction_length"] != self.checkpoint.prediction_length
        if longer or shape.get("quantiles") != self.checkpoint.quantiles:
            logger.warning("the adapter is merged and not kept beside: its head does not fit on the base's")
            return None
        base, revision = self._start().on_the_hub or (str(Path(self.base_model_path).resolve()), None)
        return adapter_of(model, base, revision)

    def _identity(self, train_data: tuple, arguments: TrainingArguments) -> dict[str, Any]:
        """Return what makes a run the same run: settings that its weights depend on, the base, the data, the arithmetic."""
        assert self.recipe is not None
        base = Path(self.base_model_path)
        training = self.config.as_dict()["training"]
        for key in ("resume", "overwrite", "output_path", "dummy_data", "push_to_hub", "refit"):
            del training[key]
        training["freeze"] = listed(self.config.training.freeze)
        training["trainer"] = {
            key: value for key, value in training["trainer"].items() if not key.startswith(_HARMLESS)
        }
        return {
            "training": training,
            "test_length": self.config.data.test_length,
            "seed": self.config.chronos.seed,
            "base model": fingerprint([*weight_files(base), base / "config.json"]),
            "arithmetic": f"{arguments.mixed_precision} on {arguments.device.type}",
            "data": identity_of(train_data[0]),
            "steps": self.recipe.steps,
            "rate": self.recipe.learning_rate,
        }

    def _told(self) -> Config:
        """Return the configuration with what was told in Python beside it: the base and the epochs."""
        training = dataclasses.replace(
            self.config.training, epochs=self._epochs, overwrite=False, push_to_hub=None  # asked for once, and done
        )
        return dataclasses.replace(self._of_this_base(), training=training)

    def _of_this_base(self) -> Config:
        """Return the configuration with the base that training starts from, whatever it names."""
        base = dataclasses.replace(
            self.config.base_model, model_name=self._start().name, output_path=str(self.base_model_path)
        )
        return dataclasses.replace(self.config, base_model=base)

    def _training_info(self) -> dict[str, Any]:
        assert self.recipe is not None
        libraries = ("torch", "transformers", "accelerate", "chronos-forecasting", "peft", "numpy")
        return {
            "verdict": self.verdict,
            "base_model": self._start().name,
            "steps": self.recipe.steps,
            "steps trained": self.steps_trained,
            "learning_rate": self.recipe.learning_rate,
            "candidates": [candidate.row() for candidate in self.candidates],
            "refit": self.refit and self.refit.row(),
            "history": self.history,
            "identity": self.identity,
            "variates": dataclasses.asdict(self.variates),
            "config": self._told().as_dict(),
            "versions": {library: importlib.metadata.version(library) for library in libraries},
        }


def _gpu_is_there() -> bool:
    import torch

    return torch.cuda.is_available()


def _say_of_idle_gpus(device: str) -> None:
    if device == "cpu" and _gpu_is_there():
        logger.warning(
            "training on the CPU, as chronos.device says, while a GPU is idle; --chronos.device auto takes it"
        )


def _say_of_idle_processors(device: str) -> None:
    import torch

    processors = Processes().cpus_per_process
    if device == "cpu" and "OMP_NUM_THREADS" in os.environ and torch.get_num_threads() == 1 < processors:
        logger.warning(
            "training on one of %d processors: OMP_NUM_THREADS is 1, as accelerate launch and torchrun set it where nobody "
            "does; set it to up to %d",
            processors,
            processors,
        )


def _say_of_stock_levels(levels: Sequence[float] | None, family: Family) -> None:
    missing = [level for level in STOCK_LEVELS.get(family, ()) if levels is not None and level not in levels]
    if missing:
        logger.warning(
            "training.quantiles has no %s: stock Chronos loads the checkpoint, and forecasts by those levels or not at all",
            ", ".join(map(str, missing)),
        )


def _check_agreement(identity: dict[str, Any]) -> None:
    """Refuse processes that were started with other configurations, models or data than the first.

    Raises:
        UserError: they differ.
    """
    from accelerate.utils import gather_object

    first, *others = gather_object([identity])
    differing = sorted({key for other in others for key in differing_keys(first, other)})
    if differing:
        raise UserError(f"the processes disagree in {', '.join(differing)}; start all with the same command and files")
