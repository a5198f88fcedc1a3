"""The real Hub client against a small server on this machine."""

import base64
import hashlib
import json
import shlex
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support import ROOT
from support.series import long_frame

from pipeline.core.errors import UserError
from pipeline.models.upload import check_upload, upload

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "someone/chronos-nano"


def described(name, content):
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


class Hub:
    """Serves the files of one repository the way the Hub does."""

    def __init__(self, folder, kind="models"):
        self.files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.uploaded, self.created = {}, None
        self.broken_off = False
        api = f"/api/{kind}/{REPOSITORY}"
        files = f"/{'datasets/' if kind == 'datasets' else ''}{REPOSITORY}/resolve/"
        resolve = f"{files}{COMMIT}/"
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer(with_body=False)

            def do_GET(self):
                self.answer(with_body=True)

            def answer(self, with_body):
                path = self.path.split("?")[0]
                if path == "/api/whoami-v2" and self.headers.get("Authorization") == "Bearer hf_right":
                    self.send(json.dumps({"name": "someone", "type": "user"}).encode(), True)
                elif path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
                    siblings = [{"rfilename": name} for name in hub.files]
                    self.send(json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}).encode(), True)
                elif path.startswith(f"{api}/tree/"):
                    self.send(
                        json.dumps([described(name, content) for name, content in hub.files.items()]).encode(), True
                    )
                elif path.startswith(resolve) and path.removeprefix(resolve) in hub.files:
                    self.send(hub.files[path.removeprefix(resolve)], with_body)
                else:
                    self.refuse("RevisionNotFound" if path.startswith(f"{api}/revision") else "RepoNotFound", path)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                path = self.path.split("?")[0]
                if path == "/api/repos/create":
                    hub.created = json.loads(body)
                    self.send(json.dumps({"url": f"{hub.address}/{REPOSITORY}"}).encode(), True)
                elif path.startswith(f"{api}/preupload/"):
                    listed = [
                        {**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]
                    ]
                    self.send(json.dumps({"files": listed}).encode(), True)
                elif path.startswith(f"{api}/commit/"):
                    for line in map(json.loads, body.splitlines()):
                        if line["key"] == "file":
                            hub.uploaded[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                    url = f"{hub.address}/{REPOSITORY}/commit/{COMMIT}"
                    self.send(json.dumps({"commitUrl": url, "commitOid": COMMIT}).encode(), True)
                else:
                    self.send(b"{}", True)

            def refuse(self, code, path):
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound" if path.startswith(files) else code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def send(self, content, with_body):
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.end_headers()
                if with_body:
                    broken = hub.broken_off and len(content) > 100_000
                    self.wfile.write(content[: len(content) // 2] if broken else content)
                    if broken:
                        self.close_connection = True

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hub(nano):
    hub = Hub(nano["bolt"])
    yield hub
    hub.close()


def environment(hub, tmp_path):
    return {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_ETAG_TIMEOUT": "2",
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }


def fetch(hub, tmp_path, *arguments):
    """Run scripts/base_model.py in a process of its own, with its own cache: the client reads its settings at import."""
    command = [sys.executable, str(ROOT / "scripts" / "base_model.py"), *arguments]
    return subprocess.run(command, cwd=tmp_path, env=environment(hub, tmp_path), capture_output=True, text=True)


def test_a_model_is_downloaded_once_and_then_found_in_the_cache_with_the_hub_gone(hub, nano, tmp_path):
    first = fetch(hub, tmp_path, "--base_model.model_name", REPOSITORY)
    assert first.returncode == 0, first.stderr
    saved = tmp_path / "data" / "models" / "base"
    assert (saved / "model.safetensors").read_bytes() == (nano["bolt"] / "model.safetensors").read_bytes()
    info = json.loads((saved / "model_info.json").read_text())
    assert (info["model_name"], info["commit"]) == (REPOSITORY, COMMIT)
    hub.close()
    second = fetch(hub, tmp_path, "--base_model.model_name", REPOSITORY, "--base_model.output_path", "again")
    assert second.returncode == 0, second.stderr
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (saved / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--base_model.model_name", "someone/else"], "no model someone/else"),
        (["--base_model.model_name", REPOSITORY, "--base_model.revision", "v9"], "no revision v9"),
    ],
)
def test_what_the_hub_does_not_have_is_said_in_one_line(hub, tmp_path, arguments, said):
    done = fetch(hub, tmp_path, *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert said in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_download_that_breaks_off_leaves_no_model(hub, tmp_path):
    hub.broken_off = True
    done = fetch(hub, tmp_path, "--base_model.model_name", REPOSITORY)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert REPOSITORY in done.stderr and not (tmp_path / "data").exists()


def test_a_hub_that_cannot_be_reached_is_said_with_ways_on(hub, tmp_path):
    hub.close()
    done = fetch(hub, tmp_path, "--base_model.model_name", REPOSITORY)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "builtin:" in done.stderr and "HF_ENDPOINT" in done.stderr


def test_a_data_set_of_the_hub_is_a_source(tmp_path):
    (tmp_path / "repository").mkdir()
    long_frame(n_series=2).to_parquet(tmp_path / "repository" / "train.parquet")
    hub = Hub(tmp_path / "repository", kind="datasets")
    code = f"from pipeline.data.source import open_source; print(len(open_source('{REPOSITORY}', 'store')))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment(hub, tmp_path), capture_output=True, text=True)
    hub.close()
    assert done.stdout.strip() == "2", done.stderr


def train(hub, nano, tmp_path, token):
    long_frame().to_csv(tmp_path / "series.csv", index=False)
    settings = {
        "base_model.output_path": nano["bolt"],
        "data.train": "series.csv",
        "training.max_steps": 1,
        "training.validation_windows": 6,
        "training.output_path": "trained",
        "training.push_to_hub": REPOSITORY,
    }
    arguments = [str(part) for key, value in settings.items() for part in (f"--{key}", value)]
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *arguments]
    variables = {**environment(hub, tmp_path), "HF_TOKEN": token}
    return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)


def test_a_trained_checkpoint_is_uploaded_in_private_and_its_run_is_not(hub, nano, tmp_path):
    done = train(hub, nano, tmp_path, "hf_right")
    assert done.returncode == 0, done.stderr
    assert hub.created["name"] == "chronos-nano" and hub.created["visibility"] == "private"
    assert {"config.json", "model.safetensors", "README.md", "training_info.json", "report.md"} <= set(hub.uploaded)
    assert not any(name.startswith(("checkpoints", "logs", "refit", ".lock")) for name in hub.uploaded)
    for name, content in hub.uploaded.items():
        assert (tmp_path / "trained" / name).read_bytes() == content


def test_an_upload_that_cannot_succeed_is_refused_before_training(hub, nano, tmp_path):
    done = train(hub, nano, tmp_path, "hf_wrong")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "push_to_hub" in done.stderr and not (tmp_path / "trained").exists()


def test_after_an_upload_that_failed_the_command_that_makes_up_for_it_is_told(tmp_path, monkeypatch):
    from huggingface_hub import HfApi

    def broken(*_, **__):
        raise OSError("connection lost")

    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: None)
    monkeypatch.setattr(HfApi, "upload_folder", broken)
    folder = tmp_path / "my model"
    with pytest.raises(UserError, match="connection lost") as refused:
        upload(folder, REPOSITORY)
    told = shlex.split(str(refused.value).partition("when that is mended: ")[2])
    assert told[:5] == ["hf", "upload", REPOSITORY, str(folder), "--private"]
    excluded = [pattern for option, pattern in zip(told, told[1:]) if option == "--exclude"]
    assert set(excluded) >= {"checkpoints/*", "logs/*", "refit/*"}


@pytest.mark.parametrize("repository", ["/x", "owner/", "a b/c?d"])
def test_a_repository_that_the_hub_would_not_make_is_refused_before_anything_is_asked_of_it(repository):
    with pytest.raises(UserError, match="push_to_hub"):
        check_upload(repository)
