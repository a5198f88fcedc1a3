"""The memory of a training step: estimated before a run, and found by trial on a GPU."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object

from pipeline.core.errors import UserError

if TYPE_CHECKING:
    from transformers import TrainingArguments

_ADAM_MOMENTS = 2
"""Values that AdamW keeps for each trained weight."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepMemory:
    """Bytes that one process uses during a training step."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """The total of all parts."""
        return self.weights + self.gradients + self.optimizer + self.activations


def step_memory(
    model: torch.nn.Module, inputs_of: Callable[[int], dict[str, Any]], n_windows: int, bf16: bool
) -> StepMemory:
    """Estimate the memory of a step with AdamW from forward passes over one window and over two.

    Args:
        inputs_of: returns the model's inputs for a number of windows.
        n_windows: windows of a forward pass.
        bf16: whether the passes run in bfloat16 under autocast.
    """
    model.train()
    of_one, of_two = (_saved_bytes(model, inputs_of(count), bf16) for count in (1, 2))
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    return StepMemory(
        weights=sum(parameter.nbytes for parameter in model.parameters()),
        gradients=trained,
        optimizer=_ADAM_MOMENTS * trained,
        # Copies of the weights, in bfloat16 or joined, are saved once, whatever the number of windows.
        activations=of_one + (n_windows - 1) * (of_two - of_one),
    )


def _saved_bytes(model: torch.nn.Module, inputs: dict[str, Any], bf16: bool) -> int:
    """Return the bytes that a forward pass saves for the backward pass, without the weights themselves."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        loss = model(**inputs).loss
    del loss
    return sum(saved.values())


def fit_batch(arguments: TrainingArguments, attempt: Callable[[int], None]) -> None:
    """Lower the windows of a forward pass until a step fits into memory, and accumulate more passes into a step.

    Args:
        arguments: changed in place; the windows of an optimizer step stay the same.
        attempt: takes a training step with a number of windows, or raises torch.OutOfMemoryError.

    Raises:
        UserError: a single window does not fit.
    """
    while True:
        size = arguments.per_device_train_batch_size
        try:
            attempt(size)
            fits = True
        except torch.OutOfMemoryError:
            fits = False
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if all(gather_object([fits])):
            return
        if size == 1:
            raise UserError(
                "one training window does not fit into memory; lower training.context_length, or set "
                "training.method lora"
            )
        factor = next(divisor for divisor in range(2, size + 1) if size % divisor == 0)
        arguments.per_device_train_batch_size = size // factor
        arguments.gradient_accumulation_steps *= factor
        logger.warning(
            "%d windows per forward pass do not fit into memory; trying %d, accumulated %d times",
            size,
            arguments.per_device_train_batch_size,
            arguments.gradient_accumulation_steps,
        )


def take_step(model: torch.nn.Module, inputs: dict[str, Any], device: torch.device, bf16: bool) -> None:
    """Run the parts of a training step that take memory, and leave the weights as they are.

    Raises:
        torch.OutOfMemoryError: the device's memory is too small.
    """
    with torch.random.fork_rng():
        model.to(device).train()
        moved = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        moments = [torch.empty_like(parameter) for parameter in trained for _ in range(_ADAM_MOMENTS)]
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = model(**moved).loss
            loss.backward()
        finally:
            moments.clear()
            model.zero_grad(set_to_none=True)
