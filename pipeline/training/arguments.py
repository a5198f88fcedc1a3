"""From a configuration to the arguments of the Hugging Face Trainer, and the arithmetic that the machine is good at."""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import Any, cast

import torch
from accelerate.utils import str_to_bool
from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations

from pipeline.config import Config
from pipeline.core.errors import UserError, one_line
from pipeline.core.files import to_serializable
from pipeline.core.processes import Processes
from pipeline.forecasting.forecaster import torch_device
from pipeline.models.checkpoint import Family
from pipeline.training.checkpointing import RunFolder
from pipeline.training.recipe import Recipe
from pipeline.windows.inputs import LABELS

_EVALUATIONS = 10
_NARROWEST_FOR_BF16_ON_CPU = 128  # below, the casts cost more than the products save
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
    "bf16": "training.precision",
    "fp16": "training.precision",
    "metric_for_best_model": "training.metric",
    "push_to_hub": "training.push_to_hub",
    "hub_model_id": "training.push_to_hub",
    "hub_token": "the environment variable HF_TOKEN, as this would stand in what is saved",
}
_SCHEDULES_BY_SCORE = ("reduce_lr_on_plateau", "greedy")
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
    "debug",  # which stops at the first NaN, and every missing value is one
    "use_liger_kernel",  # which knows no Chronos model
    "per_device_eval_batch_size",
    "eval_accumulation_steps",
    "bf16_full_eval",
    "fp16_full_eval",
)


def training_arguments(
    config: Config,
    recipe: Recipe,
    run: RunFolder,
    *,
    family: Family,
    width: int,
    with_validation: bool,
) -> TrainingArguments:
    """Return the Trainer's arguments for a run.

    Args:
        width: the model's d_model, which decides whether bfloat16 pays on a CPU.

    Raises:
        UserError: an argument of training.trainer is wrong, or the machine cannot do what is asked for.
    """
    training, own = config.training, config.training.trainer
    _check_own(own)
    accumulated = own.get("gradient_accumulation_steps", 1)
    if not isinstance(accumulated, int) or accumulated < 1:
        raise UserError(
            f"training.trainer.gradient_accumulation_steps must be a whole number from 1 on, got {accumulated!r}"
        )
    shares = Processes().count * accumulated
    if training.batch_size % shares:
        raise UserError(
            f"training.batch_size: {training.batch_size} windows cannot be shared evenly by {shares} "
            "(processes times gradient_accumulation_steps)"
        )
    every = own.get("eval_steps", own.get("save_steps", max(1, recipe.steps // _EVALUATIONS)))
    if not with_validation and own.get("lr_scheduler_type") in _SCHEDULES_BY_SCORE:
        raise UserError(
            f"training.trainer.lr_scheduler_type: {own['lr_scheduler_type']} goes by validation scores, of which a second "
            "training has none; set training.refit false, and hold something out with training.validation_split"
        )
    device = torch_device(config.chronos.device)
    settings: dict[str, Any] = {
        "output_dir": str(run.checkpoints),
        "max_steps": recipe.steps,
        "per_device_train_batch_size": training.batch_size // shares,
        "learning_rate": recipe.learning_rate,
        "warmup_steps": recipe.warmup_share,
        "seed": config.chronos.seed,
        "use_cpu": device == "cpu",
        "bf16": uses_bf16(training.precision, device, width),
        "train_sampling_strategy": "sequential",  # window i is random already
        "remove_unused_columns": False,
        "label_names": [LABELS[family]],
        "prediction_loss_only": True,
        "ddp_find_unused_parameters": False,
        "dataloader_pin_memory": device != "cpu",
        "logging_steps": max(1, recipe.steps // 20),
        "report_to": "tensorboard",
        "log_level_replica": "error",  # else louder than the first process
        "disable_tqdm": not sys.stderr.isatty(),
        "save_strategy": "steps",
        "save_steps": every,
        "save_total_limit": 3 if with_validation else 2,  # two, for where the last is torn
    }
    if device == "cuda" and torch.cuda.get_device_capability() >= (8, 0):
        settings["tf32"] = True
    if with_validation:
        settings |= {
            "eval_strategy": "steps",
            "eval_steps": every,
            "load_best_model_at_end": True,
            "metric_for_best_model": training.metric,
            "greater_is_better": False,
        }
    try:
        arguments = TrainingArguments(**to_serializable({**settings, **own}))
    except (TypeError, ValueError, ImportError, KeyError, AttributeError) as error:
        raise UserError(f"training.trainer: {one_line(error)}") from error
    if arguments.device.type != device:
        raise UserError(
            f"chronos.device: {device} is asked for, and accelerate launch was started for the {arguments.device.type}; "
            "start it with another file of config/accelerate, or leave chronos.device at cpu"
        )
    # The Trainer would else take what `accelerate launch` was started with.
    arguments.mixed_precision = "bf16" if arguments.bf16 else "no"
    missing = sorted(set(cast(list[str], arguments.report_to)) - set(get_available_reporting_integrations()) - {"none"})
    if missing:
        raise UserError(
            f"training.trainer.report_to: {', '.join(missing)} is not installed; install it with pip, or leave it out"
        )
    if is_sharded(arguments) and training.method == "lora":
        raise UserError("training.method lora: low-rank adapters are small enough for DDP; do not shard them with FSDP")
    if arguments.n_gpu > 1:
        raise UserError(
            f"this one process sees {arguments.n_gpu} GPUs; start one process a GPU with accelerate launch, "
            "or show it one with CUDA_VISIBLE_DEVICES=0"
        )
    return arguments


def is_sharded(arguments: TrainingArguments) -> bool:
    """Return whether FSDP is on, by an argument of the Trainer or by a configuration of Accelerate."""
    return bool(arguments.fsdp) or str_to_bool(os.environ.get("ACCELERATE_USE_FSDP", "false")) == 1


def is_compiled(arguments: TrainingArguments) -> bool:
    """Return whether torch.compile is on, by an argument of the Trainer or of `accelerate launch`."""
    return bool(arguments.torch_compile) or os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() != "no"


def uses_bf16(precision: str, device: str, width: int) -> bool:
    """Return whether to train in bfloat16 under autocast.

    `auto` is yes on a GPU of compute capability 8.0 or more, and on a CPU with AVX512-BF16 or AMX for models at least 128
    wide.
    """
    if precision != "auto":
        return precision == "bf16"
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device == "cpu" and fast and width >= _NARROWEST_FOR_BF16_ON_CPU


def _check_own(own: dict[str, Any]) -> None:
    known = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}
    whole = {field.name for field in dataclasses.fields(TrainingArguments) if field.type in (int, int | None)}
    for key, value in own.items():
        if key in _SET_ELSEWHERE:
            raise UserError(f"training.trainer.{key}: set it with {_SET_ELSEWHERE[key]}")
        if key in _FIXED:
            raise UserError(f"training.trainer.{key}: the pipeline depends on its value, so it cannot be set")
        if key not in known:
            raise UserError(f"training.trainer.{key}: transformers.TrainingArguments has no such field")
        if isinstance(known[key], bool):
            right, kind = isinstance(value, bool), "true or false"
        elif key in whole:
            left_open = value is None and known[key] is None
            right, kind = left_open or (isinstance(value, int) and not isinstance(value, bool)), "a whole number"
        elif isinstance(known[key], (int, float)):
            right, kind = isinstance(value, (int, float)) and not isinstance(value, bool), "a number"
        else:
            continue
        if not right:
            raise UserError(f"training.trainer.{key} must be {kind}, got {value!r}")
    if own.get("eval_steps", own.get("save_steps")) != own.get("save_steps", own.get("eval_steps")):
        raise UserError("training.trainer: eval_steps and save_steps must be equal, so that the best can be saved")
