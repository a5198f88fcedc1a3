import numpy as np
import pytest
import torch
from packaging.version import Version
from support.runs import logged, same, trained, unfinish, weights, without_dropout

from pipeline.core.errors import UserError


@pytest.mark.parametrize("training, fact", [
    ({"trainer": {"optim": "magic"}}, "magic"),
    ({"trainer": {"adam_beta1": 2}}, "training.trainer.*beta"),
    ({"trainer": {"log_level": "foo"}}, "foo"),
    ({"trainer": {"optim": "galore_adamw"}}, "training.trainer: "),
    ({"trainer": {"lr_scheduler_type": "warmup_stable_decay"}}, "training.trainer: "),
    ({"trainer": {"lr_scheduler_kwargs": {"foo": 1}}}, "foo"),
    ({"trainer": {"dataloader_num_workers": -1}}, "num_workers"),
    ({"freeze": ["encoder"], "method": "lora"}, "training.freeze"),
    ({"freeze": ["incoder"]}, "training.freeze.*incoder"),
    ({"freeze": ["*"]}, "training.freeze"),
])  # fmt: skip
def test_a_setting_that_cannot_train_is_refused_before_the_folder_is_written(tiny, tmp_path, training, fact):
    with pytest.raises(UserError, match=fact):
        trained(tiny["bolt"], tmp_path / "out", **training)
    assert not (tmp_path / "out").exists()


def test_activation_checkpointing_is_refused_for_a_model_without_it(tiny, tmp_path):
    with pytest.raises(UserError, match="activation_checkpointing"):
        trained(tiny["chronos-2"], tmp_path / "out", trainer={"activation_checkpointing": True})
    assert not (tmp_path / "out").exists()


def test_arguments_of_the_trainer_reach_it(tiny, tmp_path):
    trained(tiny["bolt"], tmp_path / "default", max_steps=2)
    for name, value in {"weight_decay": 0.5, "lr_scheduler_type": "constant"}.items():
        trained(tiny["bolt"], tmp_path / name, max_steps=2, trainer={name: value, "warmup_steps": 0})
        assert not same(weights(tmp_path / "default"), weights(tmp_path / name))


@pytest.mark.parametrize("family", ["bolt", "t5", "gpt2"])
def test_accumulated_batches_are_the_same_step(tiny, tmp_path, family):
    base = without_dropout(tiny[family], tmp_path / "base")
    settings = {"max_steps": 2, "prediction_length": 4}
    for name, accumulated in (("whole", 1), ("accumulated", 2)):
        steps = {"gradient_accumulation_steps": accumulated, "logging_steps": 1}
        trained(base, tmp_path / name, trainer=steps, **settings)
    for key in ("loss", "grad_norm", "eval_loss"):
        np.testing.assert_allclose(logged(tmp_path / "whole", key), logged(tmp_path / "accumulated", key), rtol=1e-4)


def test_bfloat16_changes_the_arithmetic_and_hardly_the_scores(tiny, tmp_path):
    runs = [trained(tiny["bolt"], tmp_path / name, precision=name, max_steps=2) for name in ("bf16", "fp32")]
    scores = [run.result.selection.candidates[1].scores["wql"] for run in runs]
    assert scores[0] == pytest.approx(scores[1], rel=0.05)
    assert not same(weights(tmp_path / "bf16"), weights(tmp_path / "fp32"))


def test_the_precision_is_the_configured_one_whatever_accelerate_was_started_with(tiny, tmp_path, monkeypatch):
    from accelerate.state import AcceleratorState

    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    trainer = trained(tiny["bolt"], tmp_path / "out", precision="fp32", max_steps=1)
    assert trainer.result.identity["arithmetic"] == "no on cpu"
    assert AcceleratorState().mixed_precision == "no"


@pytest.mark.filterwarnings("default::DeprecationWarning", "default:The .grad attribute:UserWarning")
@pytest.mark.parametrize("family", ["bolt", "t5", "chronos-2"])
def test_a_compiled_model_trains_alike_and_is_compiled_once(tiny, tmp_path, family):
    settings = {"batch_size": 2, "max_steps": 3, "prediction_length": 4, "context_length": 100}
    compiled = {"torch_compile": True, "torch_compile_backend": "eager"}
    once = family != "t5" or Version(torch.__version__) >= Version("2.13")  # torch 2.8 to 2.11 compile T5 twice
    with torch._dynamo.config.patch(error_on_recompile=once):
        first = trained(tiny[family], tmp_path / "compiled", trainer=compiled, **settings)
    second = trained(tiny[family], tmp_path / "plain", **settings)
    losses = [run.result.selection.candidates[-1].scores["loss"] for run in (first, second)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert weights(tmp_path / "compiled").keys() == weights(tmp_path / "plain").keys()


def test_a_run_that_began_on_more_processes_is_continued_with_a_warning(tiny, tmp_path, caplog):
    trained(tiny["bolt"], tmp_path / "out")
    unfinish(tmp_path / "out")
    last = tmp_path / "out" / "checkpoints" / "checkpoint-4"
    (last / "rng_state_1.pth").write_bytes((last / "rng_state.pth").read_bytes())
    caplog.clear()
    trained(tiny["bolt"], tmp_path / "out")
    assert any("2 process" in record.getMessage() and "on 1" in record.getMessage() for record in caplog.records)
