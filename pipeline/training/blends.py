"""Blends: weights between those of the base and those that it was trained to."""

from __future__ import annotations

import torch
from torch import nn


class Blend:
    """Sets a model's weights anywhere between those of its base and those it has been trained to.

    For low-rank adapters the second factor is scaled, which scales what they add. The first factor is made finite at
    the base, where zero times a diverged weight would be NaN. Wortsman et al. (2022), Robust fine-tuning of zero-shot
    models.
    """

    def __init__(self, model: nn.Module, base: nn.Module) -> None:
        self._tuned = {
            name: (parameter, parameter.detach().clone())
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        start = dict(base.named_parameters())
        self._start = {}
        for name, (_, tuned) in self._tuned.items():
            if "lora_A" in name:
                self._start[name] = tuned.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
            elif "lora_B" in name:
                self._start[name] = torch.zeros_like(tuned)
            else:
                self._start[name] = start[name].detach().to(tuned.device, copy=True)

    @torch.no_grad()
    def set(self, alpha: float) -> None:
        """Set the weights to base + alpha (tuned - base); at 0 and 1 they are exactly those of either."""
        for name, (parameter, tuned) in self._tuned.items():
            start = self._start[name]
            parameter.copy_(start if alpha == 0 else tuned if alpha == 1 else start.lerp(tuned, alpha))
