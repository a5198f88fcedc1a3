"""Windows made into what each family's model takes: the dataset that the Trainer reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from chronos import ChronosConfig
from torch.utils.data import Dataset

from pipeline.core.series import UNIVARIATE, Variates
from pipeline.data.covariates import encoded
from pipeline.models.checkpoint import Family
from pipeline.windows.tokens import Tokens

LABELS: dict[Family, str] = {"t5": "labels", "gpt2": "labels", "bolt": "target", "chronos-2": "future_target"}
"""The input that each family's forward computes its loss from."""
_IGNORED = -100

Inputs = dict[str, Any]


class Windows(Protocol):
    """What gives windows by their index, a batch at a time."""

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return context [n, at most context_length] and target [n, prediction_length], float32, a row a variate."""


class WindowDataset(Dataset):
    """A map-style dataset of windows that is fetched by whole batches: `dataset.__getitems__(indices)` is the batch."""

    def __init__(
        self, windows: Windows, n_windows: int, to_inputs: Callable[[torch.Tensor, torch.Tensor], Inputs]
    ) -> None:
        self.windows = windows
        self.n_windows = n_windows
        self.to_inputs = to_inputs

    def __len__(self) -> int:
        return self.n_windows

    def __getitem__(self, index: int) -> Inputs:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Inputs:
        context, target = self.windows.batch(indices)
        return self.to_inputs(torch.from_numpy(context), torch.from_numpy(target))


def whole_batch(batch: Inputs) -> Inputs:
    """Collate what `WindowDataset` fetched: it is a batch already."""
    return batch


def inputs_of(
    family: Family, chronos_config: dict[str, Any], prediction_length: int, variates: Variates = UNIVARIATE
) -> Callable[[torch.Tensor, torch.Tensor], Inputs]:
    """Return the function from context [n, c] and target [n, prediction_length] to the inputs of a family's forward.

    Raises:
        AssertionError: `prediction_length` is beyond what the model's head forecasts, or there are several variates and the
            model takes one (checks of our own callers).
    """
    assert family == "chronos-2" or len(variates) == 1
    match family:
        case "t5" | "gpt2":
            return partial(_seq2seq if family == "t5" else _causal, Tokens(ChronosConfig(**chronos_config)))
        case "bolt":
            assert prediction_length <= chronos_config["prediction_length"]
            return _bolt
        case "chronos-2":
            return partial(_chronos_2, -(-prediction_length // chronos_config["output_patch_size"]), variates)


def whole_contexts(
    context_length: int, to_inputs: Callable[[torch.Tensor, torch.Tensor], Inputs]
) -> Callable[[torch.Tensor, torch.Tensor], Inputs]:
    """Return the same function with every context padded on the left to `context_length` first."""

    def padded(context: torch.Tensor, target: torch.Tensor) -> Inputs:
        missing = context_length - context.shape[1]
        return to_inputs(
            torch.nn.functional.pad(context, (missing, 0), value=math.nan).contiguous(), target.contiguous()
        )

    return padded


def _seq2seq(tokens: Tokens, context: torch.Tensor, target: torch.Tensor) -> Inputs:
    """Return `input_ids, attention_mask` [n, c + 1] and `labels` [n, prediction_length + 1], both ending in EOS."""
    n, width = context.shape
    values = np.zeros((n, width + target.shape[1] + 2), np.float32)
    values[:, :width], values[:, width + 1 : -1] = context.numpy(), target.numpy()
    ids, known = tokens.of(values, tokens.scale(context))
    ids[:, [width, -1]] = tokens.eos
    labels, to_learn = np.ascontiguousarray(ids[:, width + 1 :]), known[:, width + 1 :]
    labels[~(to_learn & to_learn[:, :-1].any(axis=1, keepdims=True))] = _IGNORED
    of_context = slice(0, width + 1)
    return {
        "input_ids": torch.from_numpy(ids[:, of_context]),
        "attention_mask": torch.from_numpy(known[:, of_context]),
        "labels": torch.from_numpy(labels),
    }


def _causal(tokens: Tokens, context: torch.Tensor, target: torch.Tensor) -> Inputs:
    """Return `input_ids, attention_mask, labels` [n, c + prediction_length + 1]: context, horizon, EOS, padding.

    Absolute positions want the padding on the right, and a causal model cannot skip a missing value: inside the window it
    is filled with the last known one, and no loss is taken from it.
    """
    end = torch.zeros(len(context), 1)
    window = torch.cat([context, target, end], dim=1)
    known = ~window.isnan()
    filled = _forward_filled(window)
    found, _ = tokens.of(filled.numpy(), tokens.scale(filled[:, : context.shape[1]]))
    ids = torch.from_numpy(found)
    ids[:, -1] = tokens.eos
    started = known.cumsum(dim=1) > 0
    labels = torch.where(known & ~target.isnan().all(dim=1, keepdim=True), ids, _IGNORED)
    order = torch.argsort((~started).long(), dim=1, stable=True)
    attention_mask = started.gather(1, order)
    return {
        "input_ids": torch.where(attention_mask, ids.gather(1, order), tokens.pad),
        "attention_mask": attention_mask,
        "labels": torch.where(attention_mask, labels.gather(1, order), _IGNORED),
    }


def _bolt(context: torch.Tensor, target: torch.Tensor) -> Inputs:
    """Return `context` [n, c] and `target` [n, prediction_length] as they are: the model masks NaN itself."""
    return {"context": context, "target": target}


def _chronos_2(num_output_patches: int, variates: Variates, context: torch.Tensor, target: torch.Tensor) -> Inputs:
    """Return `context` [n, c], `future_target` [n, prediction_length] and the number of patches that covers it.

    Of several variates also `future_covariates` [n, prediction_length], NaN where nothing is known, and `group_ids` [n],
    which tell the rows of one window from those of another.
    """
    inputs: Inputs = {"context": context, "future_target": target, "num_output_patches": num_output_patches}
    if len(variates) == 1:
        return inputs
    n_rows, n_targets, n_known = len(variates), len(variates.targets), len(variates.known)
    past, future = (part.numpy().reshape(-1, n_rows, part.shape[1]) for part in (context, target))
    past, covariates = encoded(past, future, variates)
    covariates = np.where(np.arange(n_rows)[:, None] < n_rows - n_known, np.nan, covariates).astype(np.float32)
    future_target = np.where(np.arange(n_rows)[:, None] < n_targets, future, np.nan).astype(np.float32)
    return inputs | {
        "context": torch.from_numpy(past.reshape(-1, past.shape[2])),
        "future_target": torch.from_numpy(future_target.reshape(-1, target.shape[1])),
        "future_covariates": torch.from_numpy(covariates.reshape(-1, target.shape[1])),
        "group_ids": torch.arange(len(past)).repeat_interleave(n_rows),
    }


def _forward_filled(values: torch.Tensor) -> torch.Tensor:
    """Replace each NaN by the last known value of its row; those before the first stay NaN."""
    step = torch.arange(values.shape[1]).expand_as(values)
    last = torch.where(values.isnan(), 0, step).cummax(dim=1).values
    return values.gather(1, last)
