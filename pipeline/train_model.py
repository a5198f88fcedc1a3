"""Training: a base checkpoint and series in, a native checkpoint out that validates no worse than the base."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.arrow_store import Store, store_of_arrays
from pipeline.checkpoint import MODEL_INFO, TRAINING_INFO, Checkpoint, read_checkpoint, weight_files
from pipeline.config import Config, MixupConfig
from pipeline.data_source import TrainingSet, store_fingerprint
from pipeline.errors import UserError
from pipeline.files import fingerprint, read_json, write_json
from pipeline.frequency import seasonality
from pipeline.metrics import WQL_LEVELS
from pipeline.report import training_card
from pipeline.run_folder import RunFolder
from pipeline.synthetic import dummy_array
from pipeline.synthetic.bank import Bank
from pipeline.synthetic.mixup import Mixup
from pipeline.windows import (
    MixedSource,
    SeriesSource,
    Source,
    Split,
    SyntheticSource,
    TrainingWindows,
    ValidationWindows,
    held_out,
    pool_of,
    split_store,
)

if TYPE_CHECKING:
    from transformers import TrainingArguments

_LONGEST_DEFAULT_HORIZON = 64
_LONGEST_DEFAULT_CONTEXT_FROM_SCRATCH = 512
_EPOCHS = 10
_WARM_UP_FROM_SCRATCH = 0.05
_LEAST_STEPS, _LEAST_STEPS_FROM_SCRATCH = 1000, 3000
_VALIDATION_WINDOWS = {"t5": 64, "gpt2": 64, "bolt": 512, "chronos-2": 512}
_EVALUATIONS = 10
_LORA_TARGETS = {
    "t5": ["q", "k", "v", "o"],
    "gpt2": ["c_attn", "c_proj"],
    "bolt": ["q", "k", "v", "o", "output_patch_embedding.output_layer"],
    "chronos-2": ["q", "k", "v", "o", "output_patch_embedding.output_layer"],
}
_SET_ELSEWHERE = {
    "output_dir": "training.output_path",
    "max_steps": "training.max_steps",
    "num_train_epochs": "training.epochs",
    "per_device_train_batch_size": "training.batch_size",
    "learning_rate": "training.learning_rate",
    "seed": "chronos.seed",
    "data_seed": "chronos.seed",
    "use_cpu": "chronos.device",
    "resume_from_checkpoint": "training.resume",
}
_FIXED = (
    "remove_unused_columns",
    "label_names",
    "prediction_loss_only",
    "train_sampling_strategy",
    "eval_strategy",
    "save_strategy",
    "load_best_model_at_end",
    "metric_for_best_model",
    "greater_is_better",
    "dataloader_drop_last",
    "ignore_data_skip",
    "auto_find_batch_size",
    "save_only_model",
    "eval_delay",
    "eval_on_start",
)
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
        self.steps = 0
        self.learning_rate = 0.0
        self.identity: dict[str, Any] = {}

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
        training, seed = self.config.training, self.config.chronos.seed
        given = [store_of_arrays(data)] if isinstance(data, np.ndarray) else data
        sets = [one if isinstance(one, TrainingSet) else TrainingSet(one, 1.0) for one in given]
        context_length, prediction_length = self._lengths()
        lengths = {"context_length": context_length, "prediction_length": prediction_length}
        banks = [
            self._bank(one.series, context_length + prediction_length) for one in sets if isinstance(one.series, Bank)
        ]
        bank_weights = [one.weight for one in sets if isinstance(one.series, Bank)]
        splits = [self._split(one.series, prediction_length) for one in sets if isinstance(one.series, Store)]
        weights = [one.weight for one in sets if isinstance(one.series, Store)]
        sources: list[Source] = [SeriesSource(split, training.min_past) for split in splits]
        if self.config.data.mixup:
            if not splits:
                raise UserError("data.mixup: there are no series to mix; name some in data.train")
            mixup = Mixup(
                [pool_of(split) for split in splits], weights, **dataclasses.asdict(self.config.synthetic.mixup)
            )
            sources, weights = [MixedSource(splits, mixup, training.min_past)], [sum(weights)]
        windows = TrainingWindows(
            [*sources, *banks],
            weights + bank_weights,
            drop_prob=training.drop_prob,
            seed=seed,
            **lengths,
        )
        if training.validation_split == 0:
            return windows, None
        most = training.validation_windows or _VALIDATION_WINDOWS[self.checkpoint.family]
        made = [held_out(bank, most, seed=seed, **lengths) for bank in banks]
        validation = ValidationWindows(splits + made, **lengths, max_windows=most)
        if not len(validation):
            raise UserError("no held-out step is known, so nothing can be validated; set training.validation_split 0")
        return windows, validation

    def train_model(self, train_data: tuple, epochs: float | Literal["auto"] = 10) -> None:
        """Train, and keep the best candidate on the validation windows: one of the checkpoints, or the base itself.

        Raises:
            UserError: an argument of training.trainer is wrong, or the run folder holds another run.
        """
        import transformers
        from transformers import EarlyStoppingCallback
        from transformers.integrations import TensorBoardCallback
        from transformers.trainer_callback import PrinterCallback, ProgressCallback

        from pipeline.base_model import load_model
        from pipeline.guard import Bar, BaseIsFirstBest, GuardedTrainer, Lines
        from pipeline.training_data import WindowDataset, inputs_of, whole_batch

        windows, validation = train_data
        training, family = self.config.training, self.checkpoint.family
        per_epoch = windows.windows_per_epoch()
        steps_per_epoch = per_epoch / training.batch_size if per_epoch else None
        self.steps = training.max_steps or self._steps(epochs, steps_per_epoch)
        self.learning_rate = self._learning_rate()
        logger.info(
            "training for %d steps of %d windows (%s) with learning rate %g",
            self.steps,
            training.batch_size,
            f"{self.steps / steps_per_epoch:.1f} epochs" if steps_per_epoch else "of series made as they are needed",
            self.learning_rate,
        )
        with tempfile.TemporaryDirectory(prefix="chronos-run-") as temporary:
            run = self.run_folder or RunFolder(Path(temporary))
            arguments = self._arguments(run, with_validation=validation is not None)
            self.identity = self._identity(train_data)
            if arguments.process_index == 0:
                run.claim(self.identity, overwrite=training.overwrite)
            transformers.set_seed(self.config.chronos.seed)
            model = load_model(self.base_model_path).float()
            if self._scratch_size() is not None:
                _set_context_length(model, windows.context_length)
            if training.method == "lora":
                model = self._with_adapters(model)
            to_inputs = inputs_of(family, self.checkpoint.config["chronos_config"], windows.prediction_length)
            trainer = GuardedTrainer(
                model=model,
                args=arguments,
                data_collator=whole_batch,
                train_dataset=WindowDataset(windows, self.steps * training.batch_size, to_inputs),
                eval_dataset=None if validation is None else WindowDataset(validation, len(validation), to_inputs),
                validation=validation,
                seasons=[seasonality(split.store.freq) for split in validation.splits] if validation else [],
                forecaster_of=partial(_forecaster_of, seed=self.config.chronos.seed),
            )
            for callback in (PrinterCallback, ProgressCallback):
                trainer.remove_callback(callback)
            if not arguments.disable_tqdm:
                trainer.add_callback(Bar())
            trainer.add_callback(BaseIsFirstBest())
            trainer.add_callback(Lines(training.batch_size))
            if training.patience is not None:
                trainer.add_callback(EarlyStoppingCallback(training.patience))
            for callback in trainer.callback_handler.callbacks:
                if isinstance(callback, TensorBoardCallback):
                    callback.logging_dir = str(run.logs)
            last = run.last_checkpoint()
            if last is not None:
                logger.info("continuing from %s", last)
            # Not by evaluate() before train(): the Trainer would take the model for prepared and leave out DDP.
            arguments.eval_on_start = validation is not None and last is None
            trainer.train(resume_from_checkpoint=str(last) if last else False)
            self._decide(trainer)

    def save_trained_model(self, output_path: str) -> None:
        """Write the native checkpoint with training_info.json and a model card; in a run folder it ends the run.

        Raises:
            UserError: nothing has been trained, or the folder is taken.
        """
        if self.model is None:
            raise UserError("nothing has been trained yet; call train_model first")
        if int(os.environ.get("RANK", 0)):
            return
        run = RunFolder(Path(output_path))
        if self.run_folder is None or self.run_folder.path != run.path:
            run.check(resume=False, overwrite=False)
        with run.publishing() as folder:
            self.model.save_pretrained(folder)
            info = self._training_info()
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
        if isinstance(second, ValidationWindows):
            contexts = [second.history(index) for index in range(len(second))]
            seasons = [seasonality(second.freq(index)) for index in range(len(second))]
            _, target = second.batch(range(len(second)))
        else:
            contexts, target = list(np.asarray(first, np.float32)), np.asarray(second, np.float32)
            seasons = [1] * len(contexts)
        parts = []
        for start in range(0, len(contexts), 64):
            batch = slice(start, start + 64)
            scale = np.array([seasonal_error(context, m) for context, m in zip(contexts[batch], seasons[batch])])
            parts.append(window_errors(target[batch], forecast(contexts[batch], target.shape[1]), scale))
        return WindowErrors.joined(parts).scores()

    def _lengths(self) -> tuple[int, int]:
        training, checkpoint = self.config.training, self.checkpoint
        longest = checkpoint.context_length
        if self._scratch_size() is not None:
            longest = min(longest, _LONGEST_DEFAULT_CONTEXT_FROM_SCRATCH)
        context_length = training.context_length or longest
        prediction_length = training.prediction_length or min(checkpoint.prediction_length, _LONGEST_DEFAULT_HORIZON)
        if context_length > checkpoint.context_length:
            raise UserError(
                f"training.context_length: {context_length} is beyond the {checkpoint.context_length} steps of "
                f"{self.base_model_path}; give at most that"
            )
        if prediction_length > checkpoint.prediction_length:
            raise UserError(
                f"training.prediction_length: {prediction_length} is beyond the {checkpoint.prediction_length} steps that "
                f"{self.base_model_path} forecasts in one go; give at most that, and forecast any horizon with the result"
            )
        return context_length, prediction_length

    def _bank(self, bank: Bank, longest: int) -> SyntheticSource:
        bank.check_length(longest)
        return SyntheticSource(bank, self.config.training.min_past)

    def _split(self, store: Store, prediction_length: int) -> Split:
        training = self.config.training
        split = split_store(
            store, training.validation_split, prediction_length, training.min_past, self.config.data.test_length
        )
        _report_unusable(split)
        return split

    def _steps(self, epochs: float | Literal["auto"], steps_per_epoch: float | None) -> int:
        least = _LEAST_STEPS if self._scratch_size() is None else _LEAST_STEPS_FROM_SCRATCH
        if epochs == "auto":
            return max(math.ceil(_EPOCHS * (steps_per_epoch or 0)), least)
        if steps_per_epoch is None:
            raise UserError(
                "training.epochs: series made as they are needed have no end; give training.max_steps instead"
            )
        return math.ceil(epochs * steps_per_epoch)

    def _learning_rate(self) -> float:
        if self.config.training.learning_rate != "auto":
            return self.config.training.learning_rate
        size = self._scratch_size()
        if size is None:
            return 1e-5 if self.checkpoint.family == "chronos-2" else 1e-4
        return 3e-3 if size.endswith("nano") else 1e-3

    def _scratch_size(self) -> str | None:
        """Return the size of a base that has random weights, None for one that has been trained."""
        name = self._base_name()
        return name.removeprefix("scratch:") if name.startswith("scratch:") else None

    def _base_name(self) -> str:
        info_file = Path(self.base_model_path) / MODEL_INFO
        return read_json(info_file)["model_name"] if info_file.is_file() else str(self.base_model_path)

    def _arguments(self, run: RunFolder, with_validation: bool) -> TrainingArguments:
        from transformers import TrainingArguments

        from pipeline.forecasting import torch_device
        from pipeline.training_data import LABELS

        training, own = self.config.training, self.config.training.trainer
        known = {field.name for field in dataclasses.fields(TrainingArguments)}
        for key in own:
            if key in _SET_ELSEWHERE:
                raise UserError(f"training.trainer.{key}: set it with {_SET_ELSEWHERE[key]}")
            if key in _FIXED:
                raise UserError(f"training.trainer.{key}: the pipeline depends on its value, so it cannot be set")
            if key not in known:
                raise UserError(f"training.trainer.{key}: transformers.TrainingArguments has no such field")
        shares = int(os.environ.get("WORLD_SIZE", 1)) * own.get("gradient_accumulation_steps", 1)
        if training.batch_size % shares:
            raise UserError(
                f"training.batch_size: {training.batch_size} windows cannot be shared evenly by {shares} "
                "(processes times gradient_accumulation_steps)"
            )
        if own.get("eval_steps", own.get("save_steps")) != own.get("save_steps", own.get("eval_steps")):
            raise UserError("training.trainer: eval_steps and save_steps must be equal, so that the best can be saved")
        every = own.get("eval_steps", own.get("save_steps", max(1, self.steps // _EVALUATIONS)))
        settings: dict[str, Any] = {
            "output_dir": str(run.checkpoints),
            "max_steps": self.steps,
            "per_device_train_batch_size": training.batch_size // shares,
            "per_device_eval_batch_size": 64,
            "learning_rate": self.learning_rate,
            "warmup_steps": 0 if self._scratch_size() is None else _WARM_UP_FROM_SCRATCH,
            "seed": self.config.chronos.seed,
            "use_cpu": torch_device(self.config.chronos.device) == "cpu",
            "train_sampling_strategy": "sequential",  # window i is random already
            "remove_unused_columns": False,
            "label_names": [LABELS[self.checkpoint.family]],
            "prediction_loss_only": True,
            "ddp_find_unused_parameters": False,
            "dataloader_pin_memory": self.config.chronos.device != "cpu",
            "logging_steps": max(1, self.steps // 20),
            "report_to": "tensorboard",
            "disable_tqdm": not sys.stderr.isatty(),
            "save_strategy": "steps",
            "save_steps": every,
            "save_total_limit": 3,
        }
        if with_validation:
            settings |= {
                "eval_strategy": "steps",
                "eval_steps": every,
                "load_best_model_at_end": True,
                "metric_for_best_model": "wql",
                "greater_is_better": False,
            }
        try:
            arguments = TrainingArguments(**{**settings, **own})
        except (TypeError, ValueError, ImportError) as error:
            raise UserError(f"training.trainer: {' '.join(str(error).split())}") from error
        if arguments.n_gpu > 1:
            raise UserError(
                f"this one process sees {arguments.n_gpu} GPUs; start one process a GPU with accelerate launch, "
                "or show it one with CUDA_VISIBLE_DEVICES=0"
            )
        return arguments

    def _with_adapters(self, model: Any) -> Any:
        from peft import LoraConfig, get_peft_model

        lora = self.config.training.lora
        targets = _LORA_TARGETS[self.checkpoint.family]
        return get_peft_model(
            model, LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)
        )

    def _decide(self, trainer: Any) -> None:
        """Choose what is saved: the best checkpoint, which the Trainer has loaded, or the base where none beat it."""
        from pipeline.base_model import load_model

        state = trainer.state
        model = trainer.accelerator.unwrap_model(trainer.model)
        self.model = model.merge_and_unload() if self.config.training.method == "lora" else model
        logged = {entry["step"]: entry for entry in state.log_history if "eval_wql" in entry}
        if not logged:
            self.verdict = f"Trained for {state.global_step} steps; nothing was held out, so nothing was compared."
            return
        self.candidates = [_candidate(f"step {step}" if step else "base", logged[step]) for step in sorted(logged)]
        base_wql, best_wql = logged[0]["eval_wql"], state.best_metric
        if state.best_model_checkpoint is not None:
            self.verdict = (
                f"The checkpoint of step {state.best_global_step} is saved: validation WQL {best_wql:.4f} "
                f"where the base has {base_wql:.4f}, {1 - best_wql / base_wql:.1%} lower."
            )
        else:
            self.model = load_model(self.base_model_path)
            self.verdict = f"No checkpoint beat the base (validation WQL {base_wql:.4f}), so the base itself is saved."

    def _identity(self, train_data: tuple) -> dict[str, Any]:
        """Return what makes a run the same run: settings that its weights depend on, the base's weights, the data."""
        training = dataclasses.asdict(self.config.training)
        for key in ("resume", "overwrite", "output_path", "dummy_data"):
            del training[key]
        return {
            "training": training,
            "test_length": self.config.data.test_length,
            "seed": self.config.chronos.seed,
            "base model": fingerprint(weight_files(Path(self.base_model_path))),
            "data": self._data_identity(train_data),
            "steps": self.steps,
        }

    def _data_identity(self, train_data: tuple) -> list[dict[str, Any]]:
        windows = train_data[0]
        shares = np.diff(windows.bounds, prepend=0.0)
        return [
            {"fingerprint": _source_fingerprint(source), "share": round(float(share), 6)}
            for source, share in zip(windows.sources, shares)
        ]

    def _training_info(self) -> dict[str, Any]:
        libraries = ("torch", "transformers", "accelerate", "chronos-forecasting", "peft", "numpy")
        return {
            "verdict": self.verdict,
            "base_model": self._base_name(),
            "steps": self.steps,
            "learning_rate": self.learning_rate,
            "candidates": self.candidates,
            "identity": self.identity,
            "config": self.config.as_dict(),
            "versions": {library: importlib.metadata.version(library) for library in libraries},
        }


def _forecaster_of(model: Any, seed: int) -> Any:
    from pipeline.forecasting import Forecaster

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.eval()
    forecaster = Forecaster.of_model(base, seed)
    return lambda contexts, prediction_length: forecaster.quantiles(contexts, prediction_length, WQL_LEVELS)[0]


def _set_context_length(model: Any, context_length: int) -> None:
    """Let a model that has learned no longer context say so, in its configuration and where it reads it from."""
    model.config.chronos_config["context_length"] = context_length
    if hasattr(model, "chronos_config"):
        model.chronos_config.context_length = context_length


def _source_fingerprint(source: Source) -> str:
    if isinstance(source, SyntheticSource):
        return fingerprint([], source.bank)
    if isinstance(source, MixedSource):
        settings = [getattr(source.mixup, field.name) for field in dataclasses.fields(MixupConfig)]
        return fingerprint(
            [], source.mixup.weights, settings, [store_fingerprint(split.store) for split in source.splits]
        )
    assert isinstance(source, SeriesSource)
    return store_fingerprint(source.split.store)


def _candidate(name: str, scores: dict[str, float]) -> dict[str, Any]:
    return {"candidate": name, "WQL": scores["eval_wql"], "MASE": scores["eval_mase"], "loss": scores["eval_loss"]}


def _report_unusable(split: Split) -> None:
    names = split.store.item_ids
    where = split.store.path or "the array"
    for reason, series in split.unusable.items():
        shown = ", ".join(names[index] for index in series[:5]) + (
            f" and {len(series) - 5} more" if len(series) > 5 else ""
        )
        logger.warning(
            "%s: %d of %d series are %s and are skipped: %s", where, len(series), len(split.store), reason, shown
        )
    if not len(split.usable):
        reasons = "; ".join(f"{len(series)} are {reason}" for reason, series in split.unusable.items())
        raise UserError(
            f"data.train: no series of {where} can be trained on ({reasons}); give longer series, "
            "or lower training.min_past or training.validation_split"
        )
