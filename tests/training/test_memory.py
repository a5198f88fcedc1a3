"""What a step takes in memory, and batches that are lowered until they fit."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from transformers import TrainingArguments

from pipeline.config import Config, TrainingConfig
from pipeline.core.errors import UserError
from pipeline.train_model import ChronosTrainer
from pipeline.training.memory import _saved_bytes, fit_batch, step_memory, take_step
from pipeline.training.training_run import TrainingRun


class Product(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(10, 20, bias=False)
        self.frozen = torch.nn.Parameter(torch.zeros(50), requires_grad=False)

    def forward(self, x):
        return type("Out", (), {"loss": self.layer(x).exp().sum()})


def test_memory_is_counted_as_by_hand():
    memory = step_memory(Product(), lambda count: {"x": torch.zeros(count, 10)}, n_windows=12, bf16=False)
    assert (memory.weights, memory.gradients, memory.optimizer) == (4 * 250, 4 * 200, 8 * 200)
    # Saved for the way back: the input of the layer, and the output of exp.
    assert memory.activations == 12 * (4 * 10 + 4 * 20)
    assert memory.total == 1000 + 800 + 1600 + 3 * 480


@pytest.mark.parametrize(
    ("batch", "most", "found"), [(32, 100, (32, 2)), (32, 9, (8, 8)), (9, 4, (3, 6)), (7, 6, (1, 14)), (12, 5, (3, 8))]
)
def test_the_batch_is_lowered_until_it_fits_and_a_step_has_as_many_windows(tmp_path, batch, most, found):
    arguments = TrainingArguments(str(tmp_path), per_device_train_batch_size=batch, gradient_accumulation_steps=2)

    def attempt(size):
        if size > most:
            raise torch.OutOfMemoryError("no more")

    fit_batch(arguments, attempt)
    assert (arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps) == found
    assert found[0] * found[1] == 2 * batch


def test_one_window_that_does_not_fit_is_refused(tmp_path):
    def attempt(size):
        raise torch.OutOfMemoryError("no more")

    with pytest.raises(UserError, match="context_length"):
        fit_batch(TrainingArguments(str(tmp_path), per_device_train_batch_size=4), attempt)


def test_a_trial_leaves_model_and_random_numbers_as_they_were():
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


def test_training_in_smaller_batches_ends_with_the_same_losses(nano, tmp_path, monkeypatch):
    """A step of 8 windows that fit by twos is a step of 8 windows."""
    data = np.sin(np.arange(120) / 5)[None].repeat(8, 0) + np.random.default_rng(0).normal(0, 0.1, (8, 120))
    losses, arguments_of = [], TrainingRun.arguments
    for most in (8, 2):
        trainer = ChronosTrainer(str(nano["bolt"]))
        config = Config()
        trainer.config = dataclasses.replace(
            config,
            training=dataclasses.replace(
                config.training,
                max_steps=3,
                batch_size=8,
                context_length=32,
                prediction_length=16,
                validation_windows=8,
            ),
        )

        def lowered(*arguments, most=most, **settings):
            found = arguments_of(*arguments, **settings)

            def attempt(size):
                if size > most:
                    raise torch.OutOfMemoryError("no more")

            fit_batch(found, attempt)
            return found

        monkeypatch.setattr(TrainingRun, "arguments", lowered)
        trainer.train_model(trainer.prepare_training_data(data))
        losses.append([candidate.scores["loss"] for candidate in trainer.candidates])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_a_plan_says_what_a_run_would_do(nano, run_script, csv, tmp_path):
    arguments = ["--base_model.output_path", nano["bolt"], "--data.train", csv, "--training.output_path", "out"]
    code, out, err = run_script(
        "train", "--dry_run", *arguments, "--training.batch_size", 24, "--training.method", "lora"
    )
    assert code == 0, err
    assert "learning_rate: 0.003" in out and "max_steps: 3000" in out and "context_length: 512" in out
    assert "24 windows x 1 accumulated" in out and "6 series" in out and "MB" in out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", ["bolt", "t5", "chronos-2"])
@pytest.mark.parametrize("bf16", [True, False])
def test_the_memory_of_a_batch_is_that_of_the_batch_itself(nano, family, bf16):
    trainer = ChronosTrainer(str(nano[family]))
    trainer.config = Config(training=TrainingConfig(context_length=64, prediction_length=16))
    fitting = trainer._fitting(trainer.prepare_training_data(np.random.default_rng(0).normal(size=(4, 200))), "auto")
    model = fitting.start.to_train(cpu_layers=True)
    estimated = step_memory(model, partial(fitting.widest_inputs, model), 16, bf16).activations
    measured = _saved_bytes(model, fitting.widest_inputs(model, 16), bf16)
    assert estimated == pytest.approx(measured, rel=0.1)
