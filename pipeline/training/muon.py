"""An optimizer that trains the matrices of a model's layers by Muon, and its other weights by AdamW."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments
from transformers.pytorch_utils import Conv1D

_BLOCKS = ("encoder.block.", "decoder.block.", "transformer.h.")
"""Parts of the names of layer weights: `block` in T5, Bolt and Chronos-2, `h` in GPT-2."""
_RATE_OF_MATRICES = 2.0
"""Learning rate of the matrices relative to that of other weights: the ratio of a good run in
docs/experiments/architectures.md."""


class MuonWithAdamW(torch.optim.Optimizer):
    """Takes a step of Muon on some weights and one of AdamW on the others.

    Muon (https://kellerjordan.github.io/posts/muon) orthogonalizes the momentum of a matrix. Its steps are scaled to
    the root mean square of AdamW's (arXiv 2502.16982).
    """

    def __init__(
        self, matrices: list[nn.Parameter], others: list[nn.Parameter], weight_decay: float = 0.0, **adamw: Any
    ) -> None:
        """Take the weights and the arguments of AdamW, with `lr`. The matrices decay, and nothing else."""
        self._parts: list[torch.optim.Optimizer] = []
        if others:  # first, since the Trainer logs the learning rate of the first group
            self._parts.append(torch.optim.AdamW(others, weight_decay=0.0, **adamw))
        if matrices:
            rate = _RATE_OF_MATRICES * adamw["lr"]
            muon = torch.optim.Muon(matrices, lr=rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            self._parts.append(muon)
        super().__init__([group for part in self._parts for group in part.param_groups], {})

    @classmethod
    def of(cls, model: nn.Module, arguments: TrainingArguments) -> MuonWithAdamW:
        """Return the optimizer of a model. Embeddings, norms and biases are no matrices of its layers."""
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

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step on every weight that has a gradient."""
        loss = None if closure is None else closure()
        # Loading a checkpoint replaces the groups and the state, so they are passed on at every step.
        for part, group in zip(self._parts, self.param_groups):
            part.param_groups, part.state = [group], self.state
            part.step()
        return loss
