"""Adapt a model before training: horizon, quantile levels, context, adapters, frozen weights."""

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
from pipeline.models.checkpoint import Family, model_horizon

_LORA_TARGETS: dict[Family, list[str]] = {
    "t5": ["q", "k", "v", "o"],
    "gpt2": ["c_attn", "c_proj"],
    "bolt": ["q", "k", "v", "o", "output_patch_embedding.output_layer"],
    "chronos-2": ["q", "k", "v", "o", "output_patch_embedding.output_layer"],
}
"""Modules with adapters: those of `Chronos2Pipeline.fit` in chronos-forecasting; in token models, attention only."""

Adapter = tuple[Any, dict[str, torch.Tensor]]
"""The configuration and the weights of low-rank adapters."""


def resize(
    model: Any,
    family: Family,
    *,
    context_length: int | None = None,
    prediction_length: int | None = None,
    quantiles: Sequence[float] | None = None,
) -> None:
    """Give a model a longer context, a longer horizon or other quantile levels.

    Each row of the head belongs to a level and a step. The row of a new level starts as a copy of the nearest level's
    row, the row of a new step as a copy of the last step's row. Token models forecast any horizon step by step and keep
    their tokenizer. Shorter lengths change nothing.

    Args:
        model: the model, changed in place.
        family: its family.
        context_length: maximum number of history steps.
        prediction_length: horizon in steps; Chronos-2 rounds it up to whole output patches.
        quantiles: quantile levels, in place of the model's.

    Raises:
        UserError: the family does not support the change.
    """
    chronos = model.config.chronos_config
    if context_length is not None and context_length > chronos["context_length"]:
        chronos["context_length"] = context_length
    horizon = model_horizon(model.config.to_dict())
    new_horizon = max(prediction_length or 0, horizon)
    levels = chronos.get("quantiles")
    new_levels = levels if quantiles is None else sorted(quantiles)
    if family in ("t5", "gpt2"):
        if new_horizon > horizon:
            chronos["prediction_length"] = new_horizon
        if family == "gpt2":
            _check_positions(model.config)
        if new_levels != levels:
            raise UserError("training.quantiles: a token model samples and has no quantile levels. Remove the key")
    elif family == "bolt":
        if new_horizon > horizon or new_levels != levels:
            _resize_head(model, _nearest_rows(levels, horizon, new_levels, new_horizon), new_levels)
            chronos["prediction_length"] = new_horizon
    else:
        patch = chronos["output_patch_size"]
        if new_horizon > horizon:
            chronos["max_output_patches"] = -(-new_horizon // patch)
        if new_levels != levels:
            _resize_head(model, _nearest_rows(levels, patch, new_levels, patch), new_levels)
    _copy_chronos_config(model)


def set_context_length(model: Any, context_length: int) -> None:
    """Set the context length in the configuration, for a model that was trained on no longer context."""
    model.config.chronos_config["context_length"] = context_length
    _copy_chronos_config(model)


def add_adapters(model: Any, family: Family, lora: LoraConfig) -> Any:
    """Return a model with low-rank adapters on its attention and its head; only the adapters are trained.

    Raises:
        UserError: peft is not installed, or the rank is above that of any weight.
    """
    try:
        import peft
    except ImportError as error:
        raise UserError("training.method lora needs peft. Install it with: pip install peft") from error
    largest = max(min(weight.shape) for weight in model.parameters() if weight.ndim == 2)
    if lora.rank > largest:
        raise UserError(f"training.lora.rank is {lora.rank}; set at most {largest}, the rank of the largest weight")
    settings = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_LORA_TARGETS[family],
        fan_in_fan_out=family
        == "gpt2",  # GPT-2 stores its weights transposed; peft corrects the setting with a warning
    )
    return peft.get_peft_model(model, settings)


def extract_adapter(model: Any, base: str, revision: str | None) -> Adapter:
    """Return the configuration and a copy of the weights of a model's adapters.

    Args:
        model: a model with adapters.
        base: folder or Hub ID of the adapters' base.
        revision: branch, tag or commit of the base on the Hub.
    """
    from peft import get_peft_model_state_dict

    settings = model.peft_config["default"]
    settings.base_model_name_or_path, settings.revision = base, revision
    # An adapter without a task type names the class of its base here: peft needs it to load both.
    base_class = type(model.get_base_model())
    settings.auto_mapping = {"base_model_class": base_class.__name__, "parent_library": base_class.__module__}
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    return settings, {name: tensor.cpu().clone() for name, tensor in weights.items()}


def save_adapter(adapter: Adapter, folder: Path) -> None:
    """Write adapters to a new folder that peft loads."""
    from safetensors.torch import save_file

    folder.mkdir()
    settings, weights = adapter
    settings.save_pretrained(folder)
    save_file(weights, folder / "adapter_model.safetensors")


def freeze(model: Any, patterns: Sequence[str]) -> None:
    """Exclude parameters from training by name.

    Args:
        model: the model, changed in place.
        patterns: a full name, the start of a name up to a dot, or a shell pattern.

    Raises:
        UserError: a pattern matches no parameter, or no trainable parameter is left.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in names):
            prefixes = dict.fromkeys(name.partition(".")[0] for name in names)
            raise UserError(
                f"training.freeze: no parameter matches {pattern!r}. The names start with {', '.join(prefixes)}"
            )
    for name, parameter in model.named_parameters():
        if any(_matches(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("training.freeze leaves no parameter to train. Remove a pattern")


def _check_positions(config: Any) -> None:
    """Check that the context and the horizon of a GPT-2 model fit into its positions."""
    context, horizon = config.chronos_config["context_length"], config.chronos_config["prediction_length"]
    if context + horizon >= config.n_positions:
        raise UserError(
            f"training.context_length {context} and training.prediction_length {horizon} do not fit into the "
            f"{config.n_positions} positions of the model. Set one of them lower"
        )


def _nearest_rows(levels: Sequence[float], steps: int, new_levels: Sequence[float], new_steps: int) -> torch.Tensor:
    """Return the old head's nearest row for each row of a new head: [len(new_levels) * new_steps]."""
    level = np.abs(np.subtract.outer(new_levels, levels)).argmin(axis=1)
    step = np.minimum(np.arange(new_steps), steps - 1)
    return torch.from_numpy((level[:, None] * steps + step).ravel())


def _resize_head(model: Any, rows: torch.Tensor, levels: list[float]) -> None:
    """Replace the head by the given rows of it, and its quantile levels."""
    head = model.output_patch_embedding
    for name in ("output_layer", "residual_layer"):
        old = getattr(head, name)
        new = nn.Linear(old.in_features, len(rows), dtype=old.weight.dtype)
        with torch.no_grad():
            new.weight.copy_(old.weight[rows])
            new.bias.copy_(old.bias[rows])
        setattr(head, name, new)
    model.config.chronos_config["quantiles"] = levels
    model.num_quantiles = len(levels)
    model.quantiles = torch.tensor(levels, dtype=model.quantiles.dtype)


def _copy_chronos_config(model: Any) -> None:
    """Copy the lengths and levels of the configuration to the object that Bolt and Chronos-2 read them from."""
    if hasattr(model, "chronos_config"):
        for name in ("context_length", "prediction_length", "max_output_patches", "quantiles"):
            if hasattr(model.chronos_config, name):
                setattr(model.chronos_config, name, model.config.chronos_config[name])


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or name.startswith(f"{pattern}.") or fnmatchcase(name, pattern)
