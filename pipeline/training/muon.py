"""An optimizer that trains the matrices of a model's layers by Muon, and its other weights by AdamW."""

from __future__ import annotations

import math
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
_MOMENTUM = 0.95
_COEFFICIENTS, _ITERATIONS, _SMALLEST_NORM = (3.4445, -4.775, 2.0315), 5, 1e-7
"""The quintic Newton-Schulz iteration of https://kellerjordan.github.io/posts/muon."""


class MuonWithAdamW(torch.optim.Optimizer):
    """Takes a step of Muon on some weights and one of AdamW on the others.

    Muon (https://kellerjordan.github.io/posts/muon) orthogonalizes the momentum of a matrix. Its steps are scaled to
    the root mean square of AdamW's (arXiv 2502.16982).
    """

    def __init__(
        self,
        matrices: list[nn.Parameter],
        others: list[nn.Parameter],
        weight_decay: float = 0.0,
        bf16: bool = False,
        **adamw: Any,
    ) -> None:
        """Take the weights and the arguments of AdamW, with `lr`. The matrices decay, and nothing else.

        With `bf16`, the momentum is orthogonalized in bfloat16, as torch.optim.Muon always does: a CPU without
        instructions for it takes many times as long as in float32.
        """
        self._parts: list[torch.optim.Optimizer] = []
        if others:  # first, since the Trainer logs the learning rate of the first group
            self._parts.append(torch.optim.AdamW(others, weight_decay=0.0, **adamw))
        if matrices:
            rate = _RATE_OF_MATRICES * adamw["lr"]
            self._parts.append(_Muon(matrices, rate, weight_decay, torch.bfloat16 if bf16 else torch.float32))
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
            bf16=arguments.bf16,
        )

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step on every weight that has a gradient."""
        loss = None if closure is None else closure()
        # Loading a checkpoint replaces the groups and the state, so they are passed on at every step.
        for part, group in zip(self._parts, self.param_groups):
            part.param_groups, part.state = [group], self.state
            part.step()
        return loss


class _Muon(torch.optim.Optimizer):
    """torch.optim.Muon with Nesterov's momentum, whose orthogonalization runs in a given precision."""

    def __init__(self, matrices: list[nn.Parameter], lr: float, weight_decay: float, dtype: torch.dtype) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step on every matrix that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                momentum = state["momentum_buffer"].lerp_(matrix.grad, 1 - _MOMENTUM)
                update = _orthogonalized(matrix.grad.lerp(momentum, _MOMENTUM).to(self._dtype))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(matrix.shape)))


def _orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """Return a matrix [rows, columns] with the same singular vectors and singular values near one."""
    if matrix.size(0) > matrix.size(1):
        return _orthogonalized(matrix.T).T
    first, third, fifth = _COEFFICIENTS
    result = matrix / matrix.norm().clamp(min=_SMALLEST_NORM)
    for _ in range(_ITERATIONS):
        square = result @ result.T
        result = torch.addmm(result, torch.addmm(square, square, square, beta=third, alpha=fifth), result, beta=first)
    return result
