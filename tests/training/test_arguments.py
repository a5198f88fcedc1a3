import pytest
import torch
from support.runs import trained

from pipeline.core.errors import UserError
from pipeline.training.arguments import uses_bf16


@pytest.mark.parametrize("training, fact", [
    ({"trainer": {"learning_rate": 1.0}}, "training.trainer.learning_rate.*training.learning_rate"),
    ({"trainer": {"remove_unused_columns": True}}, "training.trainer.remove_unused_columns"),
    ({"trainer": {"label_smoothing_factor": 0.1}}, "training.trainer.label_smoothing_factor"),
    ({"trainer": {"use_liger_kernel": True}}, "training.trainer.use_liger_kernel"),
    ({"trainer": {"per_device_eval_batch_size": 2}}, "training.trainer.per_device_eval_batch_size"),
    ({"trainer": {"lr": 1.0}}, "training.trainer.lr"),
    ({"trainer": {"gradient_accumulation_steps": 3}}, "training.batch_size.* 8 .* 3"),
    ({"trainer": {"gradient_accumulation_steps": 0}}, "gradient_accumulation_steps.* 0"),
    ({"trainer": {"gradient_accumulation_steps": "2"}}, "gradient_accumulation_steps.*'2'"),
    ({"trainer": {"dataloader_num_workers": 1.5}}, "dataloader_num_workers.* 1.5"),
    ({"trainer": {"optim": "sgd"}, "optimizer": "muon"}, "training.trainer.optim.*training.optimizer"),
    ({"trainer": {"weight_decay": "abc"}}, "weight_decay.*'abc'"),
    ({"trainer": {"max_grad_norm": None}}, "max_grad_norm.*None"),
    ({"trainer": {"torch_compile": "yes"}}, "torch_compile.*true or false.*'yes'"),
    ({"trainer": {"report_to": "comet_ml"}}, "report_to.*comet_ml"),
    ({"context_length": 1}, "training.context_length.* 2"),
    ({"quantiles": [0.5, 0.1]}, "training.quantiles"),
    ({"quantiles": [0.5, 1.0]}, "training.quantiles.* 0 .* 1"),
    ({"push_to_hub": "mine"}, "owner/name"),
])  # fmt: skip
def test_a_wrong_setting_is_refused_by_its_key_before_the_folder_is_written(tiny, tmp_path, training, fact):
    with pytest.raises(UserError, match=fact):
        trained(tiny["bolt"], tmp_path / "out", **training)
    assert not (tmp_path / "out").exists()


def test_bfloat16_is_chosen_for_wide_models_on_processors_with_fast_instructions():
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert uses_bf16("auto", "cpu", 256) == fast and not uses_bf16("auto", "cpu", 64)
    assert uses_bf16("bf16", "cpu", 64) and not uses_bf16("fp32", "cpu", 768)


@pytest.mark.parametrize(
    "training, key", [({"optimizer": "muon"}, "training.optimizer"), ({"method": "lora"}, "training.method")]
)
def test_what_fsdp_cannot_train_is_refused(tiny, tmp_path, monkeypatch, training, key):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match=f"{key}.*FSDP"):
        trained(tiny["bolt"], tmp_path / "out", **training)
    assert not (tmp_path / "out").exists()


def test_a_device_that_accelerate_was_not_started_for_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    with pytest.raises(UserError, match="chronos.device.*mps.*cpu"):
        trained(tiny["bolt"], tmp_path / "out", device="mps")
    assert not (tmp_path / "out").exists()
