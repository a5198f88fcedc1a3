"""Training: a base checkpoint and series in, a native checkpoint out that validates no worse than the base."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.arrow_store import Store, store_of_arrays
from pipeline.checkpoint import MODEL_INFO, TRAINING_INFO, Checkpoint, read_checkpoint, weight_files
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.files import fingerprint, read_json, write_json
from pipeline.frequency import seasonality
from pipeline.metrics import WQL_LEVELS
from pipeline.plan import Plan
from pipeline.recipes import Recipe, recipe_of
from pipeline.report.cards import run_report, training_card
from pipeline.report.figures import curve_figure, save_figure
from pipeline.run_folder import RunFolder, differing_keys
from pipeline.series import UNIVARIATE, History, target_rows
from pipeline.synthetic import dummy_array
from pipeline.synthetic.bank import Bank
from pipeline.training_sets import identity_of, training_windows
from pipeline.training_sources import TrainingSet
from pipeline.windows import TrainingWindows, ValidationWindows

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from transformers import TrainingArguments

    from pipeline.guard import GuardedTrainer

_LONGEST_DEFAULT_HORIZON = 64
_HORIZONS_IN_A_SERIES = 4
_LONGEST_DEFAULT_CONTEXT_FROM_SCRATCH = 512
_WINDOWS_MEASURED = 2
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
        self.candidates: list[dict[str, Any]] = []
        self.verdict = ""
        self.recipe: Recipe | None = None
        self.history: list[dict[str, Any]] = []
        self.adapter: tuple[Any, dict[str, Any]] | None = None
        self.identity: dict[str, Any] = {}
        self.variates = UNIVARIATE
        self.drawn: Figure | None = None

    def generate_dummy_data(self, n_samples: int = 1000) -> np.ndarray:
        """Return synthetic series of the configured patterns and length: float32, [n_samples, length]."""
        dummy = self.config.training.dummy_data
        return dummy_array(n_samples, dummy.n_series, dummy.length, dummy.patterns, self.config.chronos.seed)

    def prepare_training_data(self, data: np.ndarray | Sequence[Store | Bank | TrainingSet]) -> tuple:
        """Part series into training and validation windows.

        Args:
            data: an array [n_series, length], or what windows are drawn from: stores and synthetic banks, each with a
                weight or all alike.

        Returns:
            (TrainingWindows, ValidationWindows), the second None where training.validation_split is 0.

        Raises:
            UserError: no series can be trained on, or the horizon is beyond what the model's head forecasts.
        """
        given = [store_of_arrays(data)] if isinstance(data, np.ndarray) else data
        sets = [one if isinstance(one, TrainingSet) else TrainingSet(one, 1.0) for one in given]
        horizon = self.config.training.prediction_length or self._default_horizon(sets)
        return training_windows(sets, self.config, self.checkpoint.family, self._context_length(), horizon)

    def train_model(self, train_data: tuple, epochs: float | Literal["auto"] = 10) -> None:
        """Train, and keep the best candidate on the validation windows: a checkpoint, a blend with the base, or the base.

        Raises:
            UserError: an argument of training.trainer is wrong, or the run folder holds another run.
        """
        import transformers

        windows, validation = train_data
        training = self.config.training
        with tempfile.TemporaryDirectory(prefix="chronos-run-") as temporary:
            run = self.run_folder or RunFolder(Path(temporary))
            self.recipe, arguments = self._settled(train_data, epochs, run)
            logger.info(self.recipe.words)
            self.identity = self._identity(train_data)
            _check_agreement(self.identity)
            transformers.set_seed(self.config.chronos.seed)
            model = self._tuned(arguments)
            if arguments.device.type == "cuda" and not arguments.fsdp:
                self._fit_batch(model, arguments, windows)
            with contextlib.ExitStack() as lock:
                with arguments.main_process_first(local=False):
                    if arguments.process_index == 0:
                        lock.enter_context(run.locked())
                        run.claim(self.identity, overwrite=training.overwrite)
                trainer = self._trainer(model, run, arguments, train_data)
                last = run.last_checkpoint()
                if last is not None:
                    logger.info("continuing from %s", last)
                # Not by evaluate() before train(): the Trainer would take the model for prepared and leave out DDP.
                arguments.eval_on_start = validation is not None and last is None
                trainer.train(resume_from_checkpoint=str(last) if last else False)
                self._decide(trainer)

    def plan(self, train_data: tuple, epochs: float | Literal["auto"] = "auto") -> Plan:
        """Say what `train_model` would do, without training.

        Raises:
            UserError: as `train_model`.
        """
        from pipeline.memory import step_memory

        windows, validation = train_data
        with tempfile.TemporaryDirectory(prefix="chronos-run-") as temporary:
            recipe, arguments = self._settled(train_data, epochs, RunFolder(Path(temporary)))
        model = self._tuned(arguments)
        inputs = self._widest_inputs(model, windows, _WINDOWS_MEASURED)
        held = arguments.per_device_train_batch_size
        return Plan(
            config=self.config,
            recipe=recipe,
            family=self.checkpoint.family,
            n_weights=sum(parameter.numel() for parameter in model.parameters()),
            n_trained=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
            context_length=windows.context_length,
            prediction_length=windows.prediction_length,
            n_series=sum(source.n_series for source in windows.sources),
            windows_per_epoch=windows.windows_per_epoch(),
            n_validation=0 if validation is None else len(validation),
            evaluated_every=int(arguments.eval_steps or 0),
            processes=arguments.world_size,
            batch=held,
            accumulated=arguments.gradient_accumulation_steps,
            bf16=arguments.bf16,
            memory=step_memory(model, inputs, held / _WINDOWS_MEASURED, arguments.bf16),
        )

    def _settled(
        self, train_data: tuple, epochs: float | Literal["auto"], run: RunFolder
    ) -> tuple[Recipe, TrainingArguments]:
        from pipeline.training_arguments import training_arguments

        windows, validation = train_data
        family, config = self.checkpoint.family, self.checkpoint.config
        width = config["d_model" if family != "gpt2" else "n_embd"]
        recipe = recipe_of(
            self.config.training,
            epochs,
            family=family,
            width=width,
            scratch_size=self._scratch_size(),
            windows_per_epoch=windows.windows_per_epoch(),
        )
        arguments = training_arguments(
            self.config,
            recipe,
            run,
            family=family,
            width=width,
            with_validation=validation is not None,
        )
        return recipe, arguments

    def _fit_batch(self, model: Any, arguments: TrainingArguments, windows: TrainingWindows) -> None:
        from pipeline.memory import fit_batch, take_step

        def attempt(n_windows: int) -> None:
            take_step(model, self._widest_inputs(model, windows, n_windows), arguments.device, arguments.bf16)

        fit_batch(arguments, attempt)

    def _widest_inputs(self, model: Any, windows: TrainingWindows, n_windows: int) -> dict[str, Any]:
        """Return what a model takes of the first windows, with as long a context as any batch can have."""
        context, target = windows.batch(range(n_windows))
        padding = np.full((len(context), windows.context_length - context.shape[1]), np.nan, np.float32)
        whole = np.concatenate([padding, context], axis=1)
        import torch

        return self._to_inputs(model, windows)(torch.from_numpy(whole), torch.from_numpy(target))

    def _to_inputs(self, model: Any, windows: TrainingWindows) -> Callable[[Any, Any], dict[str, Any]]:
        from pipeline.training_data import inputs_of

        chronos_config, horizon = model.config.chronos_config, windows.prediction_length
        return inputs_of(self.checkpoint.family, chronos_config, horizon, windows.variates)

    def save_trained_model(self, output_path: str) -> None:
        """Write the native checkpoint with training_info.json and a model card; in a run folder it ends the run.

        Raises:
            UserError: nothing has been trained, or the folder is taken.
        """
        import yaml

        from pipeline.tuning import save_adapter

        if self.model is None:
            raise UserError("nothing has been trained yet; call train_model first")
        if int(os.environ.get("RANK", 0)):
            return
        run = RunFolder(Path(output_path))
        if self.run_folder is None or self.run_folder.path != run.path:
            run.check(resume=False, overwrite=False)
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
            report = run_report(info, self.recipe.words, list(pictures))
            (folder / "report.md").write_text(report, encoding="utf-8")
            (folder / "config.yaml").write_text(
                yaml.safe_dump(self.config.as_dict(), sort_keys=False), encoding="utf-8"
            )
            (folder / "README.md").write_text(training_card(info), encoding="utf-8")
            write_json(folder / TRAINING_INFO, info)

    def evaluate_model(self, test_data: tuple) -> dict:
        """Score the trained model, or the base where nothing has been trained.

        Args:
            test_data: what `prepare_training_data` gave, then its validation windows are scored; or (context
                [n, context_length], target [n, prediction_length]), two arrays.

        Returns:
            `MASE`, `WQL` and `coverage_80`.
        """
        from pipeline.base_model import load_model
        from pipeline.metrics import WindowErrors, seasonal_error, window_errors

        forecast = _forecaster_of(self.model or load_model(self.base_model_path).float(), self.config.chronos.seed)
        first, second = test_data
        histories: list[History]
        target: Callable[[range], np.ndarray]
        if isinstance(second, ValidationWindows):
            histories = [second.history(index) for index in range(len(second))]
            seasons, target = [seasonality(second.freq(index)) for index in range(len(second))], second.targets
        else:
            histories, seasons = list(np.asarray(first, np.float32)), [1] * len(first)
            target = partial(np.take, np.asarray(second, np.float32), axis=0)
        parts = []
        for start in range(0, len(histories), 64):
            batch = range(start, min(start + 64, len(histories)))
            some, known = [histories[index] for index in batch], target(batch)
            rows = target_rows(some)
            of_rows = np.repeat([seasons[index] for index in batch], len(rows) // len(some))
            scale = np.array([seasonal_error(row, season) for row, season in zip(rows, of_rows)])
            parts.append(window_errors(known, forecast(some, known.shape[1]), scale))
        return WindowErrors.joined(parts).scores()

    def _context_length(self) -> int:
        longest = self.checkpoint.context_length
        if self._scratch_size() is not None:
            longest = min(longest, _LONGEST_DEFAULT_CONTEXT_FROM_SCRATCH)
        return self.config.training.context_length or longest

    def _default_horizon(self, sets: Sequence[TrainingSet]) -> int:
        """Return the model's horizon, or a shorter one where most series are too short for it."""
        longest = min(self.checkpoint.prediction_length, _LONGEST_DEFAULT_HORIZON)
        lengths = [one.series.lengths - self.config.data.test_length for one in sets if isinstance(one.series, Store)]
        fitting = int(np.median(np.concatenate(lengths))) // _HORIZONS_IN_A_SERIES if lengths else longest
        if fitting < longest:
            longest = max(1, fitting)
            logger.info(
                "horizon: %d steps, as the series are short; name the one that you forecast with training.prediction_length",
                longest,
            )
        return longest

    def _base(self) -> Any:
        """Return the base model in the shape that is asked for: what training starts from, and is compared with."""
        from pipeline.base_model import load_model
        from pipeline.tuning import reshape, set_context_length

        training = self.config.training
        model = load_model(self.base_model_path).float()
        reshape(
            model,
            self.checkpoint.family,
            context_length=training.context_length,
            prediction_length=training.prediction_length,
            quantiles=training.quantiles,
        )
        if self._scratch_size() is not None:
            set_context_length(model, self._context_length())
        return model

    def _tuned(self, arguments: TrainingArguments) -> Any:
        """Return the model with what is to be trained of it."""
        from pipeline.cpu import for_cpu
        from pipeline.tuning import freeze, with_adapters

        training, model = self.config.training, self._base()
        if training.method == "lora":
            model = with_adapters(model, self.checkpoint.family, training.lora)
        freeze(model, training.freeze)
        if arguments.device.type == "cpu":
            for_cpu(model, arguments.bf16)
        return model

    def _trainer(self, model: Any, run: RunFolder, arguments: TrainingArguments, train_data: tuple) -> GuardedTrainer:
        from transformers import EarlyStoppingCallback
        from transformers.integrations import TensorBoardCallback
        from transformers.trainer_callback import PrinterCallback, ProgressCallback

        from pipeline.callbacks import Bar, ForecastPictures, Lines
        from pipeline.guard import BaseIsFirstBest, GuardedTrainer
        from pipeline.training_data import WindowDataset, whole_batch

        windows, validation = train_data
        training = self.config.training
        to_inputs = self._to_inputs(model, windows)
        self.variates = windows.variates
        trainer = GuardedTrainer(
            model=model,
            args=arguments,
            data_collator=whole_batch,
            train_dataset=WindowDataset(windows, arguments.max_steps * training.batch_size, to_inputs),
            eval_dataset=None if validation is None else WindowDataset(validation, len(validation), to_inputs),
            validation=validation,
            seasons=[seasonality(split.store.freq) for split in validation.splits] if validation else [],
            forecaster_of=partial(_forecaster_of, seed=self.config.chronos.seed),
        )
        for callback in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(callback)
        if not arguments.disable_tqdm:
            trainer.add_callback(Bar())
        if trainer.pop_callback(TensorBoardCallback) is not None:
            trainer.add_callback(ForecastPictures(str(run.logs), trainer.picture))
        trainer.add_callback(BaseIsFirstBest(training.metric))
        trainer.add_callback(Lines())
        if training.patience is not None:
            trainer.add_callback(EarlyStoppingCallback(training.patience))
        return trainer

    def _scratch_size(self) -> str | None:
        """Return the size of a base that has random weights, None for one that has been trained."""
        name = self._base_name()
        return name.removeprefix("scratch:") if name.startswith("scratch:") else None

    def _base_name(self) -> str:
        info_file = Path(self.base_model_path) / MODEL_INFO
        return read_json(info_file)["model_name"] if info_file.is_file() else str(self.base_model_path)

    def _decide(self, trainer: GuardedTrainer) -> None:
        """Choose what is saved: the best checkpoint, which the Trainer has loaded, a blend of it with the base, or the base.

        Where no checkpoint beat the base, the blends are of the last step.
        """
        from pipeline.tuning import Blend, adapter_of

        state, metric = trainer.state, self.config.training.metric
        self.history = state.log_history
        model = trainer.whole_model()
        scores = {int(entry["step"]): _scores_of(entry) for entry in state.log_history if "eval_wql" in entry}
        self.candidates = [_candidate(_step(step), scores[step]) for step in sorted(scores)]
        if scores:
            best = int(state.best_global_step or 0) if state.best_model_checkpoint else 0
            shares, found = {_step(best): 1.0 if best else 0.0}, {_step(best): scores[best]}
            blend = Blend(model, self._base())
            for share in self.config.training.blends:
                blend.set(share)
                name = f"{_step(0)} + {share:g} ({_step(best or state.global_step)} - {_step(0)})"
                shares[name], found[name] = share, trainer.score(model)
                self.candidates.append(_candidate(name, found[name]))
                logger.info("%s: validation WQL %.4f", name, found[name]["wql"])
            chosen = min(found, key=lambda name: found[name][metric])
            blend.set(shares[chosen])
            if trainer.args.process_index == 0:
                self.drawn = trainer.picture_of(model)
            self.verdict = _verdict(chosen, found[chosen], scores[0], metric)
        else:
            chosen = _step(state.global_step)
            self.verdict = f"Trained for {state.global_step} steps; nothing was held out, so nothing was compared."
        if self.config.training.method == "lora":
            self.adapter = None if chosen == _step(0) else adapter_of(model, self._base_name())
            model = model.merge_and_unload()
        self.model = model

    def _identity(self, train_data: tuple) -> dict[str, Any]:
        """Return what makes a run the same run: settings that its weights depend on, the base's weights, the data."""
        assert self.recipe is not None
        training = dataclasses.asdict(self.config.training)
        for key in ("resume", "overwrite", "output_path", "dummy_data", "push_to_hub"):
            del training[key]
        return {
            "training": training,
            "test_length": self.config.data.test_length,
            "seed": self.config.chronos.seed,
            "base model": fingerprint(weight_files(Path(self.base_model_path))),
            "data": identity_of(train_data[0]),
            "steps": self.recipe.steps,
            "rate": self.recipe.learning_rate,
        }

    def _training_info(self) -> dict[str, Any]:
        assert self.recipe is not None
        libraries = ("torch", "transformers", "accelerate", "chronos-forecasting", "peft", "numpy")
        return {
            "verdict": self.verdict,
            "base_model": self._base_name(),
            "steps": self.recipe.steps,
            "learning_rate": self.recipe.learning_rate,
            "candidates": self.candidates,
            "history": self.history,
            "identity": self.identity,
            "variates": dataclasses.asdict(self.variates),
            "config": self.config.as_dict(),
            "versions": {library: importlib.metadata.version(library) for library in libraries},
        }


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


def _forecaster_of(model: Any, seed: int) -> Any:
    from pipeline.forecasting import Forecaster

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.eval()
    forecaster = Forecaster.of_model(base, seed)
    return lambda contexts, prediction_length: forecaster.quantiles(contexts, prediction_length, WQL_LEVELS)[0]


def _step(step: int) -> str:
    return f"step {step}" if step else "base"


def _verdict(chosen: str, score: dict[str, float], base: dict[str, float], metric: str) -> str:
    name = metric if metric == "loss" else metric.upper()
    before, after = base[metric], score[metric]
    if chosen == _step(0):
        return f"No candidate beat the base (validation {name} {before:.4f}), so the base itself is saved."
    what = f"The checkpoint of {chosen}" if chosen.startswith("step") else f"The blend {chosen}"
    return f"{what} is saved: validation {name} {after:.4f} where the base has {before:.4f}, {1 - after / before:.1%} lower."


def _scores_of(entry: dict[str, float]) -> dict[str, float]:
    return {name: entry[f"eval_{name}"] for name in ("loss", "wql", "mase")}


def _candidate(name: str, scores: dict[str, float]) -> dict[str, Any]:
    return {"candidate": name, "WQL": scores["wql"], "MASE": scores["mase"], "loss": scores["loss"]}
