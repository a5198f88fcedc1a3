"""Training end to end on nano models: seeds, loaders, LoRA, arguments, precision, compiled models."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.runs import SHORT, info, logged, same, trained, weights, without_dropout
from support.series import long_frame, parse_config

from pipeline import train_model
from pipeline.config import Config, TrainingConfig
from pipeline.core.errors import UserError
from pipeline.core.processes import Processes
from pipeline.data.source import open_source
from pipeline.train_model import ChronosTrainer
from pipeline.training.recipe import recipe_of


def test_the_seed_reaches_data_and_dropout_and_equal_seeds_give_equal_weights(nano, tmp_path):
    for name in ("a", "b"):
        trained(nano["bolt"], tmp_path / name, tmp_path)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    store = open_source(long_frame(), tmp_path / "cache")
    windows = []
    for seed in (0, 1):
        trainer = ChronosTrainer(str(nano["bolt"]))
        trainer.config = replace(Config(), chronos=replace(Config().chronos, seed=seed))
        windows.append(trainer.prepare_training_data([store])[0].batch(range(8))[1])
    assert not np.array_equal(*windows, equal_nan=True)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_loader_workers_change_nothing(nano, tmp_path, num_workers):
    trained(nano["bolt"], tmp_path / "none", tmp_path)
    trained(nano["bolt"], tmp_path / "some", tmp_path, trainer={"dataloader_num_workers": num_workers})
    assert same(weights(tmp_path / "none"), weights(tmp_path / "some"))


@pytest.mark.parametrize("family", ["bolt", "t5"])
def test_lora_moves_only_what_it_adapts_and_is_merged(nano, tmp_path, family):
    trainer = trained(
        nano[family], tmp_path / "out", tmp_path, method="lora", learning_rate=1e-2, max_steps=10, validation_windows=6
    )
    before, after = weights(nano[family]), weights(tmp_path / "out")
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "is saved" in trainer.verdict and any(name.endswith(".q.weight") for name in moved)
    assert not any("layer_norm" in name or name == "shared.weight" or ".wi." in name for name in moved)
    checkpoints = tmp_path / "out" / "checkpoints"
    assert list(checkpoints.glob("checkpoint-*/adapter_model.safetensors"))


def test_the_log_holds_losses_and_scores(nano, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained(nano["bolt"], tmp_path / "out", tmp_path)
    events = EventAccumulator(str(tmp_path / "out" / "logs"))
    events.Reload()
    assert {"train/loss", "train/learning_rate", "eval/loss", "eval/wql", "eval/mase"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("eval/wql")] == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "training, said",
    [
        ({"trainer": {"learning_rate": 1.0}}, "training.learning_rate"),
        ({"trainer": {"remove_unused_columns": True}}, "cannot be set"),
        ({"trainer": {"lr": 1.0}}, "no such field"),
        ({"trainer": {"optim": "magic"}}, "magic"),
        ({"trainer": {"label_smoothing_factor": 0.1}}, "cannot be set"),
        ({"trainer": {"gradient_accumulation_steps": 3}}, "cannot be shared"),
        ({"trainer": {"gradient_accumulation_steps": 0}}, "from 1 on"),
        ({"trainer": {"gradient_accumulation_steps": "2"}}, "must be a whole number, got '2'"),
        ({"trainer": {"dataloader_num_workers": 1.5}}, "must be a whole number, got 1.5"),
        ({"trainer": {"use_liger_kernel": True}}, "cannot be set"),
        ({"context_length": 1}, "training.context_length must be at least 2"),
        ({"trainer": {"weight_decay": "abc"}}, "weight_decay must be a number"),
        ({"trainer": {"max_grad_norm": None}}, "max_grad_norm must be a number"),
        ({"trainer": {"torch_compile": "yes"}}, "must be true or false"),
        ({"trainer": {"adam_beta1": 2}}, "Invalid beta"),
        ({"trainer": {"log_level": "foo"}}, "foo"),
        ({"trainer": {"optim": "galore_adamw"}}, "training.trainer: "),
        ({"trainer": {"lr_scheduler_type": "warmup_stable_decay"}}, "training.trainer: "),
        ({"trainer": {"lr_scheduler_kwargs": {"foo": 1}}}, "foo"),
        ({"trainer": {"dataloader_num_workers": -1}}, "num_workers"),
        ({"trainer": {"per_device_eval_batch_size": 2}}, "cannot be set"),
        ({"patience": 3, "validation_split": 0.0}, "training.patience"),
        ({"trainer": {"eval_steps": 2, "save_steps": 3}}, "must be equal"),
        ({"blends": [1.5]}, "training.blends"),
        ({"quantiles": [0.5, 0.1]}, "must rise"),
        ({"quantiles": [0.5, 1.0]}, "between 0 and 1"),
        ({"freeze": ["encoder"], "method": "lora"}, "training.freeze"),
        ({"freeze": ["incoder"]}, "no weight is named like 'incoder'"),
        ({"freeze": ["*"]}, "leaves no weight"),
        ({"push_to_hub": "mine"}, "owner/name"),
    ],
)
def test_what_cannot_be_trained_with_is_refused_by_its_key(nano, tmp_path, training, said):
    with pytest.raises(UserError, match=said):
        trained(nano["bolt"], tmp_path / "out", tmp_path, **training)
    assert not (tmp_path / "out").exists()


def test_arguments_of_the_trainer_reach_it(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "a", tmp_path, trainer={"weight_decay": 0.5, "lr_scheduler_type": "constant"})
    trained(nano["bolt"], tmp_path / "b", tmp_path)
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "b"))


@pytest.mark.parametrize("family", ["bolt", "t5", "gpt2"])
def test_gradient_accumulation_gives_the_same_training(nano, tmp_path, family):
    base = without_dropout(nano[family], tmp_path / "base")
    settings = {"max_steps": 2, "validation_windows": 6}
    trained(base, tmp_path / "a", tmp_path, trainer={"gradient_accumulation_steps": 2}, **settings)
    trained(base, tmp_path / "b", tmp_path, **settings)
    for key in ("loss", "grad_norm", "eval_loss"):
        np.testing.assert_allclose(logged(tmp_path / "a", key), logged(tmp_path / "b", key), rtol=1e-4)


def test_bfloat16_is_chosen_where_it_pays():
    from pipeline.training.arguments import uses_bf16

    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert uses_bf16("auto", "cpu", 256) == fast and not uses_bf16("auto", "cpu", 64)
    assert uses_bf16("bf16", "cpu", 64) and not uses_bf16("fp32", "cpu", 768)


def test_precision_is_what_was_asked_for_whatever_accelerate_was_started_with(nano, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    trainer = trained(nano["bolt"], tmp_path / "out", tmp_path, precision="fp32", max_steps=1)
    assert trainer.identity["arithmetic"] == "no on cpu"
    from accelerate.state import AcceleratorState

    assert AcceleratorState().mixed_precision == "no"


def test_a_device_that_accelerate_was_not_started_for_is_refused(nano, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr("pipeline.training.arguments.torch_device", lambda _: "mps")
    with pytest.raises(
        UserError, match="chronos.device: mps is asked for, and accelerate launch was started for the cpu"
    ):
        trained(nano["bolt"], tmp_path / "out", tmp_path, max_steps=1)


def test_an_idle_gpu_is_told_of(nano, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(train_model, "_gpu_is_there", lambda: True)
    trained(nano["bolt"], tmp_path / "out", tmp_path, max_steps=1)
    assert "while a GPU is idle; --chronos.device auto" in caplog.text


@pytest.mark.parametrize(
    ("threads", "processors", "told"), [(1, 8, True), (1, 1, False), (4, 8, False), (None, 8, False)]
)
def test_processors_that_a_launcher_leaves_idle_are_told_of(
    nano, tmp_path, monkeypatch, caplog, threads, processors, told
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if threads is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    monkeypatch.setattr("torch.get_num_threads", lambda: threads or 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(processors), raising=False)
    trained(nano["bolt"], tmp_path / "out", tmp_path, max_steps=1)
    assert ("training on one of" in caplog.text) == told


def test_the_processors_of_a_machine_are_shared_by_its_processes(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8), raising=False)
    assert Processes().cpus_per_process == 8
    for name, value in {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert Processes().cpus_per_process == 4


@pytest.mark.filterwarnings("default::DeprecationWarning", "default:The .grad attribute:UserWarning")
@pytest.mark.parametrize("family", ["bolt", "t5", "chronos-2"])
def test_a_compiled_model_trains_like_another_and_is_compiled_once(nano, tmp_path, family):
    short = {"max_steps": 6, "validation_windows": 6, "refit": False, "batch_size": 2, "context_length": 100}
    compiled = {"torch_compile": True, "torch_compile_backend": "eager"}
    with torch._dynamo.config.patch(error_on_recompile=True):
        one = trained(nano[family], tmp_path / "compiled", tmp_path, trainer=compiled, **short)
    two = trained(nano[family], tmp_path / "plain", tmp_path, **short)
    assert one.candidates[1].scores["loss"] == pytest.approx(two.candidates[1].scores["loss"], rel=1e-3)
    assert weights(tmp_path / "compiled").keys() == weights(tmp_path / "plain").keys()


def test_bfloat16_trains(nano, tmp_path):
    one = trained(nano["bolt"], tmp_path / "bf16", tmp_path, precision="bf16", max_steps=2)
    two = trained(nano["bolt"], tmp_path / "fp32", tmp_path, precision="fp32", max_steps=2)
    assert one.candidates[1].scores["wql"] == pytest.approx(two.candidates[1].scores["wql"], rel=0.05)
    assert not same(weights(tmp_path / "bf16"), weights(tmp_path / "fp32"))


def test_layers_that_cannot_be_computed_again_are_refused(nano, tmp_path):
    with pytest.raises(UserError, match="activation_checkpointing"):
        trained(nano["chronos-2"], tmp_path / "out", tmp_path, trainer={"activation_checkpointing": True})
    assert not (tmp_path / "out").exists()


def test_what_is_saved_tells_how_it_was_trained_in_python(nano, tmp_path):
    trainer = ChronosTrainer(str(nano["bolt"]))
    trainer.config = Config(training=TrainingConfig(**SHORT | {"max_steps": None}, refit=False))
    trainer.train_model(trainer.prepare_training_data(np.random.default_rng(0).normal(size=(4, 200))), epochs=2)
    trainer.save_trained_model(str(tmp_path / "out"))
    told = parse_config(["--config", str(tmp_path / "out" / "config.yaml")])
    assert (told.training.epochs, told.base_model.output_path) == (2, str(nano["bolt"]))
    assert told.base_model.model_name == "scratch:bolt-nano"  # which the configuration never named
    assert f"--config {tmp_path / 'out' / 'config.yaml'}" in (tmp_path / "out" / "report.md").read_text()
    again = recipe_of(
        told.training, told.training.epochs, family="bolt", width=64, scratch_size=None, windows_per_epoch=100
    )
    assert again.steps == 25


def test_epochs_that_python_and_the_configuration_say_differently_are_refused(nano):
    trainer = ChronosTrainer(str(nano["bolt"]))
    trainer.config = Config(training=TrainingConfig(**SHORT | {"max_steps": None}, epochs=3))
    data = trainer.prepare_training_data(np.random.default_rng(0).normal(size=(4, 200)))
    for plan in (trainer.plan, trainer.train_model):
        with pytest.raises(UserError, match="training.epochs says 3, and train_model 10"):
            plan(data)
    assert trainer.plan(data, epochs=3).recipe.steps > 0


def test_a_run_that_stopped_early_tells_its_steps(nano, tmp_path):
    settings = {"max_steps": 10, "learning_rate": 10.0, "patience": 1, "refit": False, "validation_windows": 6}
    trained(nano["bolt"], tmp_path / "out", tmp_path, trainer={"eval_steps": 1, "save_steps": 1}, **settings)
    done = info(tmp_path / "out")["steps trained"]
    assert done < 10 == info(tmp_path / "out")["steps"]
    assert f"It stopped after {done} steps." in (tmp_path / "out" / "report.md").read_text()


def test_the_dry_run_counts_evaluations_that_are_given_as_a_share(nano):
    trainer = ChronosTrainer(str(nano["bolt"]))
    settings = {**SHORT, "max_steps": 20, "trainer": {"eval_steps": 0.5, "save_steps": 0.5}}
    trainer.config = Config(training=TrainingConfig(**settings))
    plan = trainer.plan(trainer.prepare_training_data(np.random.default_rng(0).normal(size=(4, 200))))
    assert plan.evaluated_every == 10


@pytest.mark.parametrize("place", [-1, -5, -30])
def test_an_infinite_value_anywhere_is_named(nano, tmp_path, place):
    data = np.random.default_rng(0).normal(size=(4, 200))
    data[2, place] = np.inf
    trainer = ChronosTrainer(str(nano["bolt"]))
    trainer.config = Config(training=TrainingConfig(**SHORT))
    with pytest.raises(UserError, match="series 2 holds an infinite value"):
        trainer.prepare_training_data(data)
