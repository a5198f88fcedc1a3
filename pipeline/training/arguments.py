"""The arguments of the Hugging Face Trainer, from a configuration and the machine."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, cast

import torch
from accelerate.utils import str_to_bool
from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations

from pipeline.config import Config, TrainingConfig
from pipeline.core.errors import UserError, to_one_line
from pipeline.core.files import to_serializable
from pipeline.core.processes import Processes
from pipeline.core.progress import shows_bars
from pipeline.forecasting.forecaster import torch_device
from pipeline.models.checkpoint import Family
from pipeline.training.checkpointing import RunFolder
from pipeline.training.recipe import SCHEDULES_BY_SCORE, Recipe
from pipeline.windows.inputs import LABELS

_SAVES, _EVALUATIONS = 10, 4
"""Checkpoints and evaluations of a run. An evaluation only shows the course of training, and takes longer."""
_MIN_WIDTH_FOR_BF16_ON_CPU = 128
"""Measured: below this d_model the casts cost more than the matrix products save."""
_LOGS = 20
"""Lines of training loss in a run."""
_CONFIGURED_BY = {
    "output_dir": "training.output_path",
    "max_steps": "training.max_steps",
    "num_train_epochs": "training.epochs",
    "per_device_train_batch_size": "training.batch_size",
    "learning_rate": "training.learning_rate",
    "seed": "chronos.seed",
    "data_seed": "chronos.seed",
    "use_cpu": "chronos.device",
    "resume_from_checkpoint": "training.resume",
    "bf16": "training.precision",
    "fp16": "training.precision",
    "metric_for_best_model": "training.metric",
    "push_to_hub": "training.push_to_hub",
    **dict.fromkeys(
        ("hub_model_id", "hub_strategy", "hub_private_repo", "hub_always_push", "hub_revision"), "training.push_to_hub"
    ),
    "hub_token": "the environment variable HF_TOKEN, since a value here would be saved with the model",
}
"""Arguments that a key of the configuration sets, or the environment."""
_FIXED = (
    "remove_unused_columns",
    "label_names",
    "prediction_loss_only",
    "train_sampling_strategy",
    "eval_strategy",
    "save_strategy",
    "load_best_model_at_end",
    "greater_is_better",
    "dataloader_drop_last",
    "ignore_data_skip",
    "auto_find_batch_size",
    "save_only_model",
    "eval_delay",
    "eval_on_start",
    "label_smoothing_factor",
    "accelerator_config",
    "debug",  # stops at the first NaN, and every missing value is a NaN
    "use_liger_kernel",  # supports no Chronos model
    "per_device_eval_batch_size",
    "eval_accumulation_steps",
    "bf16_full_eval",
    "fp16_full_eval",
    "do_train",
    "do_eval",
    "do_predict",
    "batch_eval_metrics",
    "include_for_metrics",
    "eval_do_concat_batches",
    "eval_use_gather_object",
)
"""Arguments that the pipeline depends on."""


def training_arguments(
    config: Config,
    recipe: Recipe,
    run: RunFolder,
    *,
    family: Family,
    width: int,
    with_validation: bool,
) -> TrainingArguments:
    """Return the Trainer's arguments.

    Args:
        run: the folder of the checkpoints.
        width: the model's d_model, which decides whether bfloat16 is faster on a CPU.
        with_validation: whether checkpoints are scored on validation windows.

    Raises:
        UserError: an argument of training.trainer is wrong, or the machine cannot do what is configured.
    """
    training, overrides = config.training, config.training.trainer
    _check_overrides(overrides)
    if training.optimizer == "muon" and (unused := sorted(key for key in overrides if key.startswith("optim"))):
        raise UserError(f"training.trainer.{unused[0]} has no effect with training.optimizer muon; remove one of them")
    shares = _count_shares(training.batch_size, overrides.get("gradient_accumulation_steps", 1))
    device = torch_device(config.chronos.device)
    settings: dict[str, Any] = {
        "output_dir": str(run.checkpoints),
        "max_steps": recipe.steps,
        "per_device_train_batch_size": training.batch_size // shares,
        "learning_rate": recipe.learning_rate,
        "warmup_steps": recipe.warmup_fraction,
        "seed": config.chronos.seed,
        "use_cpu": device == "cpu",
        "bf16": uses_bf16(training.precision, device, width),
        "train_sampling_strategy": "sequential",  # window i is random already
        "remove_unused_columns": False,
        "label_names": [LABELS[family]],
        "prediction_loss_only": True,
        "ddp_find_unused_parameters": False,
        "dataloader_pin_memory": device != "cpu",
        "logging_steps": max(1, recipe.steps // _LOGS),
        "report_to": "tensorboard",
        "log_level_replica": "error",  # the default is louder than the first process
        "disable_tqdm": not shows_bars(),
        "save_strategy": "steps",
        "save_steps": max(1, recipe.steps // _SAVES),
        "save_total_limit": 2,  # the last one, and one if that is torn
    }
    if device == "cuda" and torch.cuda.get_device_capability() >= (8, 0):
        settings["tf32"] = True
    if with_validation:
        settings |= {"eval_strategy": "steps", "eval_steps": max(1, recipe.steps // _EVALUATIONS)}
        if overrides.get("lr_scheduler_type") in SCHEDULES_BY_SCORE:
            settings |= {"metric_for_best_model": training.metric, "greater_is_better": False}
    try:
        arguments = TrainingArguments(**to_serializable({**settings, **overrides}))
    except (TypeError, ValueError, ImportError, KeyError, AttributeError) as error:
        raise UserError(f"training.trainer: {to_one_line(error)}") from error
    # Without this the Trainer would use the precision that `accelerate launch` was started with.
    arguments.mixed_precision = "bf16" if arguments.bf16 else "no"
    _check_machine(arguments, device, training)
    return arguments


def _count_shares(batch_size: int, accumulated: Any) -> int:
    """Return the number of forward passes that share the windows of one optimizer step.

    Raises:
        UserError: the windows cannot be shared evenly.
    """
    if not isinstance(accumulated, int) or accumulated < 1:
        raise UserError(
            f"training.trainer.gradient_accumulation_steps must be a whole number of at least 1, got {accumulated!r}"
        )
    shares = Processes().count * accumulated
    if batch_size % shares:
        raise UserError(
            f"training.batch_size: {batch_size} windows cannot be shared evenly by {shares} forward passes "
            f"({Processes().count} processes x {accumulated} gradient_accumulation_steps); give a multiple"
        )
    return shares


def _check_machine(arguments: TrainingArguments, device: str, training: TrainingConfig) -> None:
    """Refuse a device, a tracker or a way of sharding that this process cannot use.

    Raises:
        UserError: it cannot.
    """
    if arguments.device.type != device:
        raise UserError(
            f"chronos.device is {device}, but accelerate launch was started for {arguments.device.type}; "
            "use another file of config/accelerate, or set chronos.device to cpu"
        )
    missing = sorted(set(cast(list[str], arguments.report_to)) - set(get_available_reporting_integrations()) - {"none"})
    if missing:
        raise UserError(
            f"training.trainer.report_to: {', '.join(missing)} is not installed; install it with pip, or remove it"
        )
    if is_sharded(arguments) and training.optimizer == "muon":
        raise UserError("training.optimizer muon needs whole matrices, which FSDP splits; use DDP, or adamw")
    if is_sharded(arguments) and training.method == "lora":
        raise UserError("training.method lora does not work with FSDP; low-rank adapters are small enough for DDP")
    if arguments.n_gpu > 1:
        raise UserError(
            f"this process sees {arguments.n_gpu} GPUs; start one process per GPU with accelerate launch, "
            "or select one with CUDA_VISIBLE_DEVICES=0"
        )


def is_sharded(arguments: TrainingArguments) -> bool:
    """Return whether FSDP is on, by an argument of the Trainer or by Accelerate's configuration."""
    return bool(arguments.fsdp) or str_to_bool(os.environ.get("ACCELERATE_USE_FSDP", "false")) == 1


def is_compiled(arguments: TrainingArguments) -> bool:
    """Return whether torch.compile is on, by an argument of the Trainer or of `accelerate launch`."""
    return bool(arguments.torch_compile) or os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() != "no"


def uses_bf16(precision: str, device: str, width: int) -> bool:
    """Return whether to train in bfloat16 under autocast.

    auto is true on a GPU of compute capability 8.0 or more, and on a CPU with AVX512-BF16 or AMX for a width of at
    least 128.
    """
    if precision != "auto":
        return precision == "bf16"
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device == "cpu" and fast and width >= _MIN_WIDTH_FOR_BF16_ON_CPU


def _check_overrides(overrides: dict[str, Any]) -> None:
    """Refuse fields of training.trainer that are unknown, set elsewhere, or of the wrong type.

    Raises:
        UserError: there is such a field; the message names it.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}
    integers = {field.name for field in dataclasses.fields(TrainingArguments) if field.type in (int, int | None)}
    for key, value in overrides.items():
        if key in _CONFIGURED_BY:
            raise UserError(f"training.trainer.{key}: set it with {_CONFIGURED_BY[key]}")
        if key in _FIXED:
            raise UserError(f"training.trainer.{key} cannot be set, since the pipeline depends on it; remove it")
        if key not in defaults:
            raise UserError(f"training.trainer.{key}: transformers.TrainingArguments has no such field")
        default, is_number = defaults[key], isinstance(value, (int, float)) and not isinstance(value, bool)
        if isinstance(default, bool):
            valid, expected = isinstance(value, bool), "true or false"
        elif key in integers:
            unset = value is None and default is None
            valid, expected = unset or (is_number and isinstance(value, int)), "a whole number"
        elif isinstance(default, (int, float)):
            valid, expected = is_number, "a number"
        else:
            continue
        if not valid:
            raise UserError(f"training.trainer.{key} must be {expected}, got {value!r}")
