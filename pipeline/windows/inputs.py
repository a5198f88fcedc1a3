"""Model inputs of windows for each model family, and the dataset that the Trainer reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from chronos import ChronosConfig
from torch.utils.data import Dataset

from pipeline.core.series import KNOWN, TARGET, UNIVARIATE, Variates
from pipeline.data.covariates import encode_categories
from pipeline.models.checkpoint import Family
from pipeline.windows.gather import Batch
from pipeline.windows.tokenizer import Tokenizer

LABELS: dict[Family, str] = {"t5": "labels", "gpt2": "labels", "bolt": "target", "chronos-2": "future_target"}
"""Name of the input from which the forward pass of each family computes its loss."""
_IGNORED_LABEL = -100
"""Label that the cross-entropy of transformers skips."""

Inputs = dict[str, Any]
InputFunction = Callable[[torch.Tensor, torch.Tensor], Inputs]
"""Function of context [n, c] and target [n, prediction_length] to the keyword arguments of a model's forward pass."""


class Windows(Protocol):
    """Windows with random access by batches."""

    def grouped_batch(self, indices: Sequence[int]) -> Batch:
        """Return the windows with the given indices."""


class WindowDataset(Dataset):
    """A map-style dataset of model inputs, which loads a whole batch at once by `__getitems__`."""

    def __init__(self, windows: Windows, n_windows: int, to_inputs: InputFunction) -> None:
        self.windows = windows
        self.n_windows = n_windows
        self.to_inputs = to_inputs

    def __len__(self) -> int:
        return self.n_windows

    def __getitem__(self, index: int) -> Inputs:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Inputs:
        context, target, groups, roles = self.windows.grouped_batch(indices)
        inputs = self.to_inputs(torch.from_numpy(context), torch.from_numpy(target))
        # Only Chronos-2 takes groups and covariates.
        if groups is not None:
            ids = np.unique(groups, return_inverse=True)[1].repeat(len(context) // len(groups))
            inputs["group_ids"] = torch.from_numpy(ids)
        if roles is not None:
            inputs |= _split_roles(target, roles)
        return inputs


def identity_collate(batch: Inputs) -> Inputs:
    """Return the argument: `WindowDataset.__getitems__` returns collated batches."""
    return batch


def input_function(
    family: Family, chronos_config: dict[str, Any], prediction_length: int, variates: Variates = UNIVARIATE
) -> InputFunction:
    """Return the function from windows to the model inputs of a family.

    Raises:
        AssertionError: the model's head is too short for `prediction_length`, or the model takes one variate and there
            are several. Callers check both before.
    """
    assert family == "chronos-2" or len(variates) == 1
    match family:
        case "t5" | "gpt2":
            return partial(_t5_inputs if family == "t5" else _gpt2_inputs, Tokenizer(ChronosConfig(**chronos_config)))
        case "bolt":
            assert prediction_length <= chronos_config["prediction_length"]
            return _bolt_inputs
        case "chronos-2":
            return partial(_chronos_2_inputs, chronos_config["output_patch_size"], variates)


def pad_contexts(context_length: int, to_inputs: InputFunction) -> InputFunction:
    """Return the same input function for contexts that it first pads on the left to `context_length` columns."""

    def padded(context: torch.Tensor, target: torch.Tensor) -> Inputs:
        n_missing = context_length - context.shape[1]
        return to_inputs(
            torch.nn.functional.pad(context, (n_missing, 0), value=math.nan).contiguous(), target.contiguous()
        )

    return padded


def _t5_inputs(tokenizer: Tokenizer, context: torch.Tensor, target: torch.Tensor) -> Inputs:
    """Return `input_ids, attention_mask` [n, c + 1] and `labels` [n, prediction_length + 1], each ending in EOS."""
    n, width = context.shape
    # Context, EOS, target and EOS are encoded together; the zeros are placeholders of EOS.
    values = np.zeros((n, width + target.shape[1] + 2), np.float32)
    values[:, :width], values[:, width + 1 : -1] = context.numpy(), target.numpy()
    ids, known = tokenizer.encode(values, tokenizer.scale(context))
    ids[:, [width, -1]] = tokenizer.eos
    labels, label_known = np.ascontiguousarray(ids[:, width + 1 :]), known[:, width + 1 :]
    has_target = label_known[:, :-1].any(axis=1, keepdims=True)
    labels[~(label_known & has_target)] = _IGNORED_LABEL
    return {
        "input_ids": torch.from_numpy(ids[:, : width + 1]),
        "attention_mask": torch.from_numpy(known[:, : width + 1]),
        "labels": torch.from_numpy(labels),
    }


def _gpt2_inputs(tokenizer: Tokenizer, context: torch.Tensor, target: torch.Tensor) -> Inputs:
    """Return `input_ids, attention_mask, labels` [n, c + prediction_length + 1]: context, horizon, EOS, padding.

    The padding is on the right, because GPT-2 has absolute positions. A missing value inside the window is filled with
    the last known one, because a causal model cannot skip it, and its label is ignored.
    """
    eos_placeholder = torch.zeros(len(context), 1)
    window = torch.cat([context, target, eos_placeholder], dim=1)
    known = ~window.isnan()
    filled = _forward_fill(window)
    encoded, _ = tokenizer.encode(filled.numpy(), tokenizer.scale(filled[:, : context.shape[1]]))
    ids = torch.from_numpy(encoded)
    ids[:, -1] = tokenizer.eos
    has_target = ~target.isnan().all(dim=1, keepdim=True)
    labels = torch.where(known & has_target, ids, _IGNORED_LABEL)
    has_started = known.cumsum(dim=1) > 0
    order = torch.argsort((~has_started).long(), dim=1, stable=True)  # moves the padding to the right
    attention_mask = has_started.gather(1, order)
    return {
        "input_ids": torch.where(attention_mask, ids.gather(1, order), tokenizer.pad),
        "attention_mask": attention_mask,
        "labels": torch.where(attention_mask, labels.gather(1, order), _IGNORED_LABEL),
    }


def _bolt_inputs(context: torch.Tensor, target: torch.Tensor) -> Inputs:
    """Return `context` [n, c] and `target` [n, prediction_length] unchanged; the model masks NaN itself."""
    return {"context": context, "target": target}


def _chronos_2_inputs(patch_size: int, variates: Variates, context: torch.Tensor, target: torch.Tensor) -> Inputs:
    """Return `context` [n, c], `future_target` [n, prediction_length] and the number of patches that covers it.

    For several variates also `future_covariates` [n, prediction_length], NaN if unknown, and `group_ids` [n], the
    index of each row's window.
    """
    inputs: Inputs = {
        "context": context,
        "future_target": target,
        "num_output_patches": -(-target.shape[1] // patch_size),
    }
    if len(variates) == 1:
        return inputs
    n_rows = len(variates)
    past, future = (part.numpy().reshape(-1, n_rows, part.shape[1]) for part in (context, target))
    past, covariates = encode_categories(past, future, variates)
    return inputs | {
        "context": torch.from_numpy(past.reshape(-1, past.shape[2])),
        "group_ids": torch.arange(len(past)).repeat_interleave(n_rows),
        **_split_roles(covariates.reshape(target.shape), np.tile(variates.roles, len(past))),
    }


def _split_roles(future: np.ndarray, roles: np.ndarray) -> Inputs:
    """Return `future_target` and `future_covariates`, [n_rows, prediction_length]: NaN in rows of another role."""
    return {
        name: torch.from_numpy(np.where(roles[:, None] == role, future, np.nan).astype(np.float32))
        for name, role in (("future_target", TARGET), ("future_covariates", KNOWN))
    }


def _forward_fill(values: torch.Tensor) -> torch.Tensor:
    """Replace each NaN by the last known value of its row; leading NaN remain."""
    step = torch.arange(values.shape[1]).expand_as(values)
    last_known = torch.where(values.isnan(), 0, step).cummax(dim=1).values
    return values.gather(1, last_known)
