"""What is trained of a model, and in what shape: another horizon, levels or context; adapters; frozen weights; dropout."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.config import LoraConfig
from pipeline.core.errors import UserError
from pipeline.models.checkpoint import Family, horizon_of

_LORA_TARGETS: dict[Family, list[str]] = {
    "t5": ["q", "k", "v", "o"],
    "gpt2": ["c_attn", "c_proj"],
    "bolt": ["q", "k", "v", "o", "output_patch_embedding.output_layer"],
    "chronos-2": ["q", "k", "v", "o", "output_patch_embedding.output_layer"],
}


def reshape(
    model: Any,
    family: Family,
    *,
    context_length: int | None = None,
    prediction_length: int | None = None,
    quantiles: Sequence[float] | None = None,
) -> None:
    """Give a model a longer context, a longer horizon or other quantile levels, in its weights and its configuration.

    The rows of a Bolt model's head belong to a level and a step; a new one starts as a copy of the nearest level's, and of
    the last step's. A token model forecasts any horizon step by step, and keeps its tokenizer.

    Raises:
        UserError: the family cannot take it.
    """
    chronos = model.config.chronos_config
    if context_length is not None and context_length > chronos["context_length"]:
        chronos["context_length"] = context_length
    horizon = horizon_of(model.config.to_dict())
    wanted = max(prediction_length or 0, horizon)
    longer = wanted > horizon
    other = quantiles is not None and list(quantiles) != chronos.get("quantiles")
    if longer and family == "chronos-2":
        chronos["max_output_patches"] = -(-wanted // chronos["output_patch_size"])
    elif longer and family in ("t5", "gpt2"):
        chronos["prediction_length"] = wanted
    if family == "gpt2" and chronos["context_length"] + chronos["prediction_length"] >= model.config.n_positions:
        raise UserError(
            f"training.context_length and training.prediction_length: {chronos['context_length']} and "
            f"{chronos['prediction_length']} steps do not fit into the {model.config.n_positions} positions of the model"
        )
    if other and family in ("t5", "gpt2"):
        raise UserError("training.quantiles: a token model forecasts samples and has no levels; leave the key null")
    if (longer and family == "bolt") or other:
        steps = chronos["output_patch_size"] if family == "chronos-2" else horizon
        new_steps = wanted if family == "bolt" else steps
        levels = list(quantiles) if quantiles is not None else chronos["quantiles"]
        _copy_rows(model.output_patch_embedding, _nearest(chronos["quantiles"], steps, levels, new_steps))
        chronos["quantiles"] = levels
        if family == "bolt":
            chronos["prediction_length"] = new_steps
        model.num_quantiles = len(levels)
        model.quantiles = torch.tensor(levels, dtype=model.quantiles.dtype)
    if hasattr(model, "chronos_config"):
        for name in ("context_length", "prediction_length", "max_output_patches", "quantiles"):
            if hasattr(model.chronos_config, name):
                setattr(model.chronos_config, name, chronos[name])


def set_context_length(model: Any, context_length: int) -> None:
    """Let a model that has learned no longer context say so, in its configuration and where it reads it from."""
    model.config.chronos_config["context_length"] = context_length
    if hasattr(model, "chronos_config"):
        model.chronos_config.context_length = context_length


def with_adapters(model: Any, family: Family, lora: LoraConfig) -> Any:
    """Wrap a model in low-rank adapters of its attention and its head.

    Raises:
        UserError: peft is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise UserError("training.method lora needs peft; install it with: pip install peft") from error
    settings = peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=_LORA_TARGETS[family]
    )
    return peft.get_peft_model(model, settings)


def adapter_of(model: Any, base: str, revision: str | None) -> tuple[Any, dict[str, torch.Tensor]]:
    """Return the configuration and the weights of a model's adapters, which `save_adapter` takes.

    Args:
        base: folder, or id on the Hub, of the model that they belong to.
        revision: its branch, tag or commit on the Hub.
    """
    from peft import get_peft_model_state_dict

    settings = model.peft_config["default"]
    settings.base_model_name_or_path, settings.revision = base, revision
    # Without a task type, peft finds the base's class by this.
    kind = type(model.get_base_model())
    settings.auto_mapping = {"base_model_class": kind.__name__, "parent_library": kind.__module__}
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    return settings, {name: tensor.cpu().clone() for name, tensor in weights.items()}


def save_adapter(adapter: tuple[Any, dict[str, torch.Tensor]], folder: Path) -> None:
    """Write adapters to a folder that peft loads."""
    from safetensors.torch import save_file

    folder.mkdir()
    settings, weights = adapter
    settings.save_pretrained(folder)
    save_file(weights, folder / "adapter_model.safetensors")


def freeze(model: Any, patterns: Sequence[str]) -> None:
    """Keep parameters as they are whose name is a pattern, begins with it and a dot, or matches it as a shell would.

    Raises:
        UserError: a pattern fits no parameter, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in names):
            begins = dict.fromkeys(name.partition(".")[0] for name in names)
            raise UserError(
                f"training.freeze: no weight is named like {pattern!r}; names begin with {', '.join(begins)}"
            )
    for name, parameter in model.named_parameters():
        if any(_fits(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("training.freeze leaves no weight to train; freeze fewer")


def _nearest(levels: Sequence[float], steps: int, new_levels: Sequence[float], new_steps: int) -> torch.Tensor:
    """Return, for each row of a new head, the row of the old one that is nearest."""
    level = np.abs(np.subtract.outer(new_levels, levels)).argmin(axis=1)
    step = np.minimum(np.arange(new_steps), steps - 1)
    return torch.from_numpy((level[:, None] * steps + step).ravel())


def _copy_rows(head: Any, rows: torch.Tensor) -> None:
    for name in ("output_layer", "residual_layer"):
        old = getattr(head, name)
        new = nn.Linear(old.in_features, len(rows), dtype=old.weight.dtype)
        with torch.no_grad():
            new.weight.copy_(old.weight[rows])
            new.bias.copy_(old.bias[rows])
        setattr(head, name, new)


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or name.startswith(f"{pattern}.") or fnmatchcase(name, pattern)
