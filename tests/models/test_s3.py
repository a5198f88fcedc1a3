"""The real S3 client against a server of files on this machine."""

import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support import ROOT

from pipeline.core.errors import UserError
from pipeline.models.find import find_model


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def load(nano, tmp_path):
    """Run scripts/base_model.py where s3://bucket/models/bolt is a checkpoint, in a process with its own cache."""
    shutil.copytree(nano["bolt"], tmp_path / "s3" / "bucket" / "models" / "bolt")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "s3"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{server.server_address[1]}",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    script = [sys.executable, str(ROOT / "scripts" / "base_model.py"), "--base_model.model_name"]
    yield lambda name: subprocess.run(
        [*script, name], cwd=tmp_path, env={**os.environ, **settings}, capture_output=True, text=True
    )
    server.shutdown()
    server.server_close()


def test_a_model_behind_an_s3_prefix_is_a_base(load, nano, tmp_path):
    done = load("s3://bucket/models/bolt")
    assert done.returncode == 0, done.stderr
    saved = tmp_path / "data" / "models" / "base" / "model.safetensors"
    assert saved.read_bytes() == (nano["bolt"] / "model.safetensors").read_bytes()


def test_a_prefix_without_a_model_is_refused(load, tmp_path):
    done = load("s3://bucket/models/none")
    assert done.returncode == 2 and "no model at s3://bucket/models/none" in done.stderr.splitlines()[-1], done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["s3://bucket", "s3://bucket/", "s3://"])
def test_a_bucket_without_a_prefix_is_refused(name):
    with pytest.raises(UserError, match="write s3://BUCKET/PREFIX"):
        find_model(name)
