"""A Hub on this machine for the real client: the server, and the client's settings."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import huggingface_hub
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "someone/chronos-nano"


def entry(name, content):
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


class Hub:
    """A server with the protocol of the Hub for one repository: the files of a folder, and uploads to it."""

    def __init__(self, folder, kind="models", token="hf_right"):
        self.files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.uploaded: dict[str, bytes] = {}
        self.created: dict[str, Any] | None = None
        self.breaks_off = False
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
                path = self.path.split("?")[0].replace("/resolve/main/", f"/resolve/{COMMIT}/")
                if path == "/api/whoami-v2" and self.headers.get("Authorization") == f"Bearer {token}":
                    self.send(json.dumps({"name": "someone", "type": "user"}).encode(), True)
                elif path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
                    siblings = [{"rfilename": name} for name in hub.files]
                    self.send(json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}).encode(), True)
                elif path.startswith(f"{api}/tree/"):
                    self.send(json.dumps([entry(name, content) for name, content in hub.files.items()]).encode(), True)
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
                    modes = [
                        {**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]
                    ]
                    self.send(json.dumps({"files": modes}).encode(), True)
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
                    truncate = hub.breaks_off and len(content) > 10_000
                    self.wfile.write(content[: len(content) // 2] if truncate else content)
                    if truncate:
                        self.close_connection = True

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def connect(monkeypatch, hub, cache):
    """Point the client, which reads its settings at import, to a server and an empty cache."""
    settings = {
        "ENDPOINT": hub.address,
        "HUGGINGFACE_CO_URL_TEMPLATE": f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_ETAG_TIMEOUT": 2,
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    huggingface_hub.close_session()  # its connections belong to the server of another test
