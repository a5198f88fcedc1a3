"""The memory that a training step takes: estimated beforehand, and found by trying where a GPU may be too small."""

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
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepMemory:
    """Bytes that one process holds during a training step."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.weights + self.gradients + self.optimizer + self.activations


def step_memory(
    model: torch.nn.Module, inputs_of: Callable[[int], dict[str, Any]], n_windows: int, bf16: bool
) -> StepMemory:
    """Estimate the memory of a step with AdamW from forward passes over one window and over two.

    Args:
        inputs_of: gives what the model takes of so many windows.
        n_windows: how many a step has.
    """
    model.train()
    of_one, of_two = (_saved_bytes(model, inputs_of(count), bf16) for count in (1, 2))
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    return StepMemory(
        weights=sum(parameter.nbytes for parameter in model.parameters()),
        gradients=trained,
        optimizer=_ADAM_MOMENTS * trained,
        # Copies of weights, in another precision or joined, are of no window.
        activations=of_one + (n_windows - 1) * (of_two - of_one),
    )


def _saved_bytes(model: torch.nn.Module, inputs: dict[str, Any], bf16: bool) -> int:
    """Return the bytes that a forward pass keeps for the backward one, the weights themselves left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
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
    """Lower the windows that a process takes at once until they fit, and accumulate as many more batches into a step.

    Args:
        attempt: takes a training step with so many windows, or raises torch.OutOfMemoryError.

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
            raise UserError("one training window does not fit into memory; lower training.context_length, or use lora")
        factor = next(divisor for divisor in range(2, size + 1) if size % divisor == 0)
        arguments.per_device_train_batch_size = size // factor
        arguments.gradient_accumulation_steps *= factor
        logger.warning(
            "%d windows at once do not fit into memory: trying %d, accumulated %d times",
            size,
            arguments.per_device_train_batch_size,
            arguments.gradient_accumulation_steps,
        )


def take_step(model: torch.nn.Module, inputs: dict[str, Any], device: torch.device, bf16: bool) -> None:
    """Do all of a training step that takes memory, and leave the model as it was.

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
