import shlex

import pytest
from huggingface_hub import HfApi
from support.hub import REPOSITORY, Hub, connect

from pipeline.core.errors import UserError
from pipeline.models.upload import check_upload, upload


@pytest.fixture
def hub(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    hub = Hub(tmp_path / "empty")
    connect(monkeypatch, hub, tmp_path / "hub")
    yield hub
    hub.close()


@pytest.fixture
def arguments(tiny, csv):
    settings = {
        "base_model.output_path": tiny["bolt"],
        "data.train": csv,
        "training.max_steps": 1,
        "training.validation_windows": 6,
        "training.output_path": "trained",
        "training.push_to_hub": REPOSITORY,
    }
    return [part for key, value in settings.items() for part in (f"--{key}", value)]


def test_a_trained_checkpoint_is_uploaded_as_private_without_its_run(hub, arguments, run_script, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    code, _, err = run_script("train", *arguments)
    assert (code, err) == (0, "")
    assert hub.created["name"] == "chronos-nano" and hub.created["visibility"] == "private"
    assert {"config.json", "model.safetensors", "README.md", "training_info.json", "report.md"} <= set(hub.uploaded)
    assert not any(name.startswith(("checkpoints", "logs", "refit", ".lock")) for name in hub.uploaded)
    for name, content in hub.uploaded.items():
        assert (tmp_path / "trained" / name).read_bytes() == content


def test_a_run_that_is_stopped_while_it_uploads_continues_with_the_upload(
    hub, arguments, run_script, monkeypatch, tmp_path
):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setenv("HF_TOKEN", "hf_right")
    with monkeypatch.context() as patch:
        patch.setattr(HfApi, "upload_folder", stop)
        assert run_script("train", *arguments)[0] == 130
    assert not hub.uploaded and not (tmp_path / "trained" / "training_info.json").exists()
    assert run_script("train", *arguments)[0] == 0
    assert "model.safetensors" in hub.uploaded and (tmp_path / "trained" / "training_info.json").exists()


def test_a_failed_upload_leaves_the_saved_model(hub, arguments, run_script, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    monkeypatch.setattr(HfApi, "upload_folder", lambda *_, **__: 1 / 0)
    code, _, err = run_script("train", *arguments)
    assert code == 2 and "hf upload" in err and (tmp_path / "trained" / "training_info.json").exists()


def test_an_invalid_token_is_refused_before_training(hub, arguments, run_script, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    code, _, err = run_script("train", *arguments)
    assert (code, err.count("\n")) == (2, 1), err
    assert "training.push_to_hub" in err and not (tmp_path / "trained").exists()


def test_a_failed_upload_is_reported_with_the_command_to_repeat_it(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("connection lost")

    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: None)
    monkeypatch.setattr(HfApi, "upload_folder", fail)
    folder = tmp_path / "my model"
    (tmp_path / "staged" / "adapter").mkdir(parents=True)
    (tmp_path / "staged" / "config.json").touch()
    with pytest.raises(UserError, match="training.push_to_hub.*connection lost") as refused:
        upload(tmp_path / "staged", REPOSITORY, folder)
    message = str(refused.value)
    command = shlex.split(message[message.index("hf upload") :])
    assert command[:5] == ["hf", "upload", REPOSITORY, str(folder), "--private"]
    assert command[5:] == ["--include", "adapter/*", "--include", "config.json"]


@pytest.mark.parametrize("repository", ["/x", "owner/", "a b/c?d"])
def test_an_invalid_repository_name_is_refused_without_the_hub(repository):
    with pytest.raises(UserError, match="training.push_to_hub"):
        check_upload(repository)
