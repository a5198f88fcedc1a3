from functools import partial

import numpy as np
import pytest
import torch
from support.runs import prepared
from transformers import TrainingArguments

from pipeline.core.errors import UserError
from pipeline.training.checkpointing import RunFolder
from pipeline.training.fit import Phase, batch_inputs, build_trainer, fit, phase_arguments
from pipeline.training.memory import fit_batch, step_memory, take_step
from pipeline.training.prepare import prepare_run


class Product(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(10, 20, bias=False)
        self.frozen = torch.nn.Parameter(torch.zeros(50), requires_grad=False)

    def forward(self, x):
        return type("Out", (), {"loss": self.layer(x).exp().sum()})


def limited_to(largest):
    """Return a step that runs out of memory with more windows than the largest batch."""

    def attempt(n_windows):
        if n_windows > largest:
            raise torch.OutOfMemoryError("no more")

    return attempt


def test_memory_is_that_of_a_calculation_by_hand():
    memory = step_memory(Product(), lambda count: {"x": torch.zeros(count, 10)}, n_windows=12, bf16=False)
    assert (memory.weights, memory.gradients, memory.optimizer) == (4 * 250, 4 * 200, 8 * 200)
    # The backward pass needs the input of the layer, and the output of exp.
    assert memory.activations == 12 * (4 * 10 + 4 * 20)
    assert memory.total == 1000 + 800 + 1600 + 3 * 480


@pytest.mark.parametrize("family", ["bolt", "t5", "chronos-2"])
@pytest.mark.parametrize("bf16", [True, False])
def test_the_memory_of_a_batch_is_extrapolated_from_two_windows(tiny, family, bf16):
    trainer, windows = prepared(tiny[family], data=np.random.default_rng(0).normal(size=(4, 200)))
    run = prepare_run(trainer.config, trainer.checkpoint, windows, "auto")
    model = run.base.trainable_model(seed=0, cpu_layers=True)
    inputs = partial(batch_inputs, run, model, widest=True)
    extrapolated = step_memory(model, inputs, 16, bf16).activations
    counted = step_memory(model, lambda count: inputs(16 * count), 1, bf16).activations
    assert extrapolated == pytest.approx(counted, rel=0.1)


@pytest.mark.parametrize("size, largest, expected", [
    (32, 100, (32, 2)), (32, 9, (8, 8)), (9, 4, (3, 6)), (7, 6, (1, 14)), (12, 5, (3, 8)),
])  # fmt: skip
def test_a_batch_is_divided_until_it_fits_and_a_step_keeps_its_windows(tmp_path, size, largest, expected):
    arguments = TrainingArguments(str(tmp_path), per_device_train_batch_size=size, gradient_accumulation_steps=2)
    fit_batch(arguments, limited_to(largest))
    assert (arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps) == expected
    assert expected[0] * expected[1] == 2 * size


def test_a_window_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UserError, match="context_length"):
        fit_batch(TrainingArguments(str(tmp_path), per_device_train_batch_size=4), limited_to(0))


def test_a_tried_step_changes_neither_the_model_nor_random_numbers():
    class Drawing(Product):
        def forward(self, x):
            return super().forward(x + torch.rand(1))

    model = Drawing()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    take_step(model, {"x": torch.ones(4, 10)}, torch.device("cpu"), bf16=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_step_of_smaller_batches_is_the_same_step(tiny, tmp_path):
    trainer, windows = prepared(tiny["bolt"], learning_rate=1e-2)
    run = prepare_run(trainer.config, trainer.checkpoint, windows, "auto")
    losses = []
    for largest in (8, 2):
        phase = Phase(run.windows, RunFolder(tmp_path / str(largest)), scored=True)
        arguments = phase_arguments(run, phase)
        fit_batch(arguments, limited_to(largest))
        assert arguments.per_device_train_batch_size == largest
        stock = build_trainer(run, phase, arguments)
        fit(run, phase, stock)
        losses.append([entry["eval_loss"] for entry in stock.state.log_history if "eval_loss" in entry])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert losses[0][0] != losses[0][-1]
