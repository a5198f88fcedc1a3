"""The real Hub client against a small server on this machine."""

import hashlib
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "someone/chronos-nano"


class Hub:
    """Serves the files of one repository the way the Hub does."""

    def __init__(self, folder):
        self.files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.broken_off = False
        self.requests = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer(with_body=False)

            def do_GET(self):
                self.answer(with_body=True)

            def answer(self, with_body):
                path = self.path.split("?")[0]
                hub.requests.append(path)
                for revision in ("main", COMMIT):
                    if path == f"/api/models/{REPOSITORY}/revision/{revision}":
                        siblings = [{"rfilename": name} for name in hub.files]
                        return self.send(
                            json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}).encode(), True
                        )
                    if path.startswith(f"/api/models/{REPOSITORY}/tree/{revision}"):
                        tree = [
                            {
                                "type": "file",
                                "path": name,
                                "size": len(content),
                                "oid": hashlib.sha1(content).hexdigest(),
                            }
                            for name, content in hub.files.items()
                        ]
                        return self.send(json.dumps(tree).encode(), True)
                prefix = f"/{REPOSITORY}/resolve/{COMMIT}/"
                if path.startswith(prefix) and path.removeprefix(prefix) in hub.files:
                    return self.send(hub.files[path.removeprefix(prefix)], with_body)
                code = "RevisionNotFound" if path.startswith(f"/api/models/{REPOSITORY}") else "RepoNotFound"
                self.send_response(404)
                self.send_header("X-Error-Code", code)
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


def fetch(hub, tmp_path, *arguments):
    """Run scripts/base_model.py in a process of its own, with its own cache: the client reads its settings at import."""
    environment = {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_ETAG_TIMEOUT": "2",
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(ROOT / "scripts" / "base_model.py"), *arguments]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)


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
    assert "scratch:" in done.stderr and "HF_ENDPOINT" in done.stderr
