import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.hub import COMMIT, REPOSITORY, Hub, connect

from pipeline.config import Config, DataConfig
from pipeline.core.errors import UserError
from pipeline.models.checkpoint import _download_training_info, remembered_keys
from pipeline.models.find import check_model, find_model


@pytest.fixture
def hub(tiny, tmp_path, monkeypatch):
    hub = Hub(tiny["bolt"])
    connect(monkeypatch, hub, tmp_path / "hub")
    yield hub
    hub.close()


@pytest.fixture
def bucket(tiny, tmp_path, monkeypatch):
    """An S3 server with a checkpoint at s3://bucket/models/bolt."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    shutil.copytree(tiny["bolt"], tmp_path / "s3" / "bucket" / "models" / "bolt")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path / "s3"))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    server.shutdown()
    server.server_close()


def test_a_model_is_downloaded_once_and_then_read_from_the_cache(hub, tiny, tmp_path, run_script):
    code, _, err = run_script("base_model", "--base_model.model_name", REPOSITORY)
    assert (code, err) == (0, "")
    saved = tmp_path / "data" / "models" / "base"
    assert (saved / "model.safetensors").read_bytes() == (tiny["bolt"] / "model.safetensors").read_bytes()
    info = json.loads((saved / "model_info.json").read_text())
    assert (info["model_name"], info["commit"]) == (REPOSITORY, COMMIT)
    hub.close()
    folder = find_model(REPOSITORY)
    assert folder.is_relative_to(tmp_path / "hub") and (folder / "model.safetensors").is_file()


def test_pickled_weights_are_downloaded_if_there_are_no_others(hub):
    hub.files["pytorch_model.bin"] = hub.files.pop("model.safetensors")
    assert (find_model(REPOSITORY) / "pytorch_model.bin").is_file()


@pytest.mark.parametrize("name, revision", [("someone/else", None), (REPOSITORY, "v9")])
def test_an_unknown_repository_or_revision_is_refused_by_name(hub, name, revision):
    with pytest.raises(UserError, match=revision or name):
        find_model(name, revision)


def test_an_interrupted_download_leaves_no_model(hub, tmp_path, run_script, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client waits between its retries
    hub.breaks_off = True
    code, _, err = run_script("base_model", "--base_model.model_name", REPOSITORY)
    assert (code, err.count("\n")) == (2, 1), err
    assert REPOSITORY in err and not (tmp_path / "data").exists()


def test_an_unreachable_hub_is_reported_with_alternatives(hub):
    hub.close()
    with pytest.raises(UserError, match="HF_ENDPOINT.*builtin:bolt-synth"):
        find_model(REPOSITORY)


def test_a_model_under_an_s3_prefix_is_downloaded(bucket, tiny):
    folder = find_model("s3://bucket/models/bolt")
    assert (folder / "model.safetensors").read_bytes() == (tiny["bolt"] / "model.safetensors").read_bytes()


def test_an_s3_prefix_without_a_model_is_refused(bucket):
    with pytest.raises(UserError, match="s3://bucket/models/none.*config.json"):
        find_model("s3://bucket/models/none")


@pytest.mark.parametrize("name", ["s3://bucket", "s3://bucket/", "s3://"])
def test_an_s3_bucket_without_a_prefix_is_refused(name):
    with pytest.raises(UserError, match="s3://BUCKET/PREFIX"):
        find_model(name)


def test_only_models_on_this_machine_are_checked(tiny, tmp_path):
    for name in ("someone/else", "s3://bucket/model", "builtin:bolt-synth", str(tiny["bolt"])):
        check_model(name)
    for name in ("builtin:other", str(tmp_path / "none"), str(tmp_path), "./none"):
        with pytest.raises(UserError, match=name.removeprefix("./")):
            check_model(name)


@pytest.fixture
def asked_once():
    """Forget what other tests have asked the Hub."""
    _download_training_info.cache_clear()
    yield
    _download_training_info.cache_clear()


def test_a_model_of_others_on_the_hub_remembers_nothing(hub, asked_once):
    assert remembered_keys(REPOSITORY) == {}


def test_a_model_on_the_hub_remembers_its_columns_and_horizon(hub, asked_once):
    config = Config(data=DataConfig(target="sold"))
    hub.files["training_info.json"] = json.dumps({"horizon": 5, "config": config.as_dict()}).encode()
    keys = remembered_keys(REPOSITORY)
    assert (keys["data.target"], keys["inference.prediction_length"]) == ("sold", 5)
