"""Muon for the matrices of a model's layers, and AdamW for its other weights, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments
from transformers.pytorch_utils import Conv1D

_BLOCKS = ("encoder.block.", "decoder.block.", "transformer.h.")
"""Parts of the names of layers: T5, Bolt and Chronos-2 have blocks, GPT-2 has `h`."""
_RATE_OF_MATRICES = 2.0
"""Learning rate of the matrices relative to that of other weights (docs/experiments/architectures.md)."""


class MuonWithAdamW(torch.optim.Optimizer):
    """Takes a step of Muon on some weights and one of AdamW on the others.

    Muon (https://kellerjordan.github.io/posts/muon) makes the momentum of a matrix orthogonal, so that all its
    directions change alike. Its steps are scaled to the size of AdamW's (arXiv 2502.16982).
    """

    def __init__(
        self, matrices: list[nn.Parameter], others: list[nn.Parameter], weight_decay: float = 0.0, **adamw: Any
    ) -> None:
        """Take the arguments of AdamW. Only matrices decay."""
        self._parts: list[torch.optim.Optimizer] = []
        if others:  # first: the learning rate of the first group is logged
            self._parts.append(torch.optim.AdamW(others, weight_decay=0.0, **adamw))
        if matrices:
            rate = _RATE_OF_MATRICES * adamw["lr"]
            muon = torch.optim.Muon(matrices, lr=rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            self._parts.append(muon)
        super().__init__([group for part in self._parts for group in part.param_groups], {})

    @classmethod
    def of(cls, model: nn.Module, arguments: TrainingArguments) -> MuonWithAdamW:
        """Return the optimizer of a model: Muon is for the matrices of its layers."""
        layers = [module for name, module in model.named_modules() if any(part in name for part in _BLOCKS)]
        in_layers = {id(layer.weight) for layer in layers if isinstance(layer, (nn.Linear, Conv1D))}
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        return cls(
            [weight for weight in trained if id(weight) in in_layers],
            [weight for weight in trained if id(weight) not in in_layers],
            lr=arguments.learning_rate,
            betas=(arguments.adam_beta1, arguments.adam_beta2),
            eps=arguments.adam_epsilon,
            weight_decay=arguments.weight_decay,
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step on every weight that has a gradient."""
        loss = None if closure is None else closure()
        # A checkpoint that is loaded replaces the groups and the state.
        for part, group in zip(self._parts, self.param_groups):
            part.param_groups, part.state = [group], self.state
            part.step()
        return loss
