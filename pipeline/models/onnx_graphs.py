"""Models as graphs for ONNX: the stock classes, without Python branches on sizes and values.

A graph takes batches, contexts and horizons of any size. Its quantiles equal those of the stock classes up to rounding.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from chronos import Chronos2Model
from chronos.chronos2.model import Chronos2Encoder
from chronos.chronos_bolt import ChronosBoltModelForForecasting
from torch import nn

_EXAMPLE_ROWS, _EXAMPLE_LENGTH, _EXAMPLE_HORIZON = 3, 100, 40
"""Sizes of the inputs that a graph is traced with: no two are equal, none is 1, and none a multiple of a patch."""
_ANY = 1 << 31
"""Upper bound of all sizes, for the exporter."""


class BoltGraph(nn.Module):
    """Chronos-Bolt: contexts in, quantiles out."""

    def __init__(self, model: ChronosBoltModelForForecasting) -> None:
        """Take over a model, which is changed."""
        super().__init__()
        self.model = model
        self.context_length, self.patch_size = _unlimit(model)

    def forward(self, context: torch.Tensor) -> torch.Tensor:
        """Return quantiles [batch, n_levels, horizon of the model] of contexts [batch, length], NaN where missing."""
        return self.model(context=_last_patches(context, self.context_length, self.patch_size)).quantile_preds

    @staticmethod
    def example() -> tuple[dict[str, torch.Tensor], dict[str, dict[int, Any]]]:
        """Return inputs to trace, and the names of their axes."""
        batch, length = (torch.export.Dim(name, min=1, max=_ANY) for name in ("batch", "length"))
        return {"context": torch.randn(_EXAMPLE_ROWS, _EXAMPLE_LENGTH)}, {"context": {0: batch, 1: length}}


class Chronos2Graph(nn.Module):
    """Chronos-2: contexts, future values of covariates and groups in, quantiles out."""

    def __init__(self, model: Chronos2Model) -> None:
        """Take over a model, which is changed."""
        super().__init__()
        model.__class__ = _Chronos2Model
        model.encoder.__class__ = _Chronos2Encoder
        self.model = model
        self.context_length, self.patch_size = _unlimit(model)

    def forward(self, context: torch.Tensor, future: torch.Tensor, group_ids: torch.Tensor) -> torch.Tensor:
        """Forecast every row, which is a target or a covariate.

        Args:
            context: [rows, length], NaN where missing.
            future: values at the steps to forecast, [rows, horizon], NaN where unknown, as for targets.
            group_ids: [rows]; rows with the same number are forecast together.

        Returns:
            quantiles [rows, n_levels, horizon].
        """
        padded = _whole_patches(future, self.patch_size)
        quantiles = self.model(
            context=_last_patches(context, self.context_length, self.patch_size),
            group_ids=group_ids,
            future_covariates=padded,
            num_output_patches=padded.shape[1] // self.patch_size,
        ).quantile_preds
        return quantiles[:, :, : future.shape[1]]

    @staticmethod
    def example() -> tuple[dict[str, torch.Tensor], dict[str, dict[int, Any]]]:
        """Return inputs to trace, and the names of their axes."""
        rows, length, horizon = (torch.export.Dim(name, min=1, max=_ANY) for name in ("rows", "length", "horizon"))
        inputs = {
            "context": torch.randn(_EXAMPLE_ROWS, _EXAMPLE_LENGTH),
            "future": torch.full((_EXAMPLE_ROWS, _EXAMPLE_HORIZON), torch.nan),
            "group_ids": torch.tensor([0, 0, 1]),
        }
        return inputs, {"context": {0: rows, 1: length}, "future": {0: rows, 1: horizon}, "group_ids": {0: rows}}


class _Chronos2Model(Chronos2Model):
    def _prepare_patched_future(
        self,
        future_covariates: torch.Tensor | None,
        future_covariates_mask: torch.Tensor | None,
        loc_scale: tuple[torch.Tensor, torch.Tensor],
        num_output_patches: int,
        batch_size: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return patches of time, values and mask, and the mask; the stock method branches on the values."""
        assert future_covariates is not None
        patch_size = self.chronos_config.output_patch_size
        known = ~torch.isnan(future_covariates)
        scaled = self.instance_norm(future_covariates, loc_scale)[0]
        values = torch.where(known, scaled, 0.0).to(self.dtype).unflatten(1, (-1, patch_size))
        mask = known.to(self.dtype).unflatten(1, (-1, patch_size))
        times = torch.arange(num_output_patches * patch_size, dtype=torch.float32)
        times = (times / self.chronos_config.time_encoding_scale).unflatten(0, (-1, patch_size)).to(self.dtype)
        return torch.cat([times.expand(batch_size, -1, -1), values, mask], dim=-1), mask


class _Chronos2Encoder(Chronos2Encoder):
    @staticmethod
    def _construct_and_invert_group_time_mask(
        group_ids: torch.Tensor, attention_mask: torch.Tensor, floating_type: torch.dtype
    ) -> torch.Tensor:
        """Return what is added to the scores, [time, 1, rows, rows]; the stock method multiplies booleans."""
        same = (group_ids[:, None] == group_ids[None, :]).to(floating_type)
        visible = same * attention_mask.to(floating_type).T[:, None, None, :]
        return (1.0 - visible) * torch.finfo(floating_type).min


def _unlimit(model: Any) -> tuple[int, int]:
    """Let a model take contexts of any length, and return the limit that it had and the length of a patch."""
    chronos = model.chronos_config
    limit, chronos.context_length = chronos.context_length, sys.maxsize
    return limit, chronos.input_patch_size


def _last_patches(values: torch.Tensor, limit: int, patch_size: int) -> torch.Tensor:
    """Return the last `limit` steps of [rows, length], after NaN up to a multiple of the patch size."""
    length = values.shape[1]
    used = torch.sym_min(length, limit)
    width = (used + patch_size - 1) // patch_size * patch_size
    steps = torch.arange(width) + (length - width)
    return torch.where(steps >= length - used, values[:, steps.clamp(min=0)], torch.nan)


def _whole_patches(values: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Return [rows, length], followed by NaN up to a multiple of the patch size."""
    length = values.shape[1]
    steps = torch.arange((length + patch_size - 1) // patch_size * patch_size)
    return torch.where(steps < length, values[:, steps.clamp(max=length - 1)], torch.nan)
