"""Servers on this machine: of files over HTTP, S3 and Google Cloud Storage, and PostgreSQL."""

import base64
import hashlib
import json
import os
import pwd
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
"""The installed versions of PostgreSQL, as on Debian."""


class FileHandler(SimpleHTTPRequestHandler):
    """Serve the files of a folder, and lists of them, with the faults of `self.server.faults`."""

    def send_head(self):
        faults = self.server.faults  # type: ignore[attr-defined]
        self.server.requests.append(self.path)  # type: ignore[attr-defined]
        if "status" in faults:
            self.send_error(faults["status"])
        elif "token" in faults and f"token={faults['token']}" not in self.path:
            self.send_error(403)
        elif "login" in faults and self.headers.get("Authorization") != faults["login"]:
            self.send_error(401)
        elif "no_head" in faults and self.command == "HEAD":
            self.send_error(403)  # like a URL that is signed for GET
        else:
            return super().send_head()

    def end_headers(self):
        for name, value in self.server.faults.get("headers", {}).items():  # type: ignore[attr-defined]
            self.send_header(name, value)
        super().end_headers()

    def send_header(self, keyword, value):
        if keyword not in self.server.faults.get("without", ()):  # type: ignore[attr-defined]
            super().send_header(keyword, value)

    def copyfile(self, source, outputfile):
        content = source.read()
        breaks_off = "breaks_off" in self.server.faults  # type: ignore[attr-defined]
        outputfile.write(content[: len(content) // 2] if breaks_off else content)

    def log_message(self, *_):
        pass


class S3Handler(SimpleHTTPRequestHandler):
    """Serve the folders of a folder as buckets, with S3's lists of objects."""

    def do_GET(self):
        self.answer()

    def do_HEAD(self):
        self.answer()

    def answer(self):
        address = urlsplit(self.path)
        bucket, _, key = unquote(address.path).lstrip("/").partition("/")
        folder = Path(self.directory, bucket)
        self.server.requests.append(self.headers.get("Authorization"))  # type: ignore[attr-defined]
        if not folder.is_dir():
            return self.reply(404, b"<Error><Code>NoSuchBucket</Code><Message>no bucket</Message></Error>")
        if self.server.faults.get("status") == 403:  # type: ignore[attr-defined]
            return self.reply(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
        if key:
            if not (folder / key).is_file():
                return self.reply(404, b"<Error><Code>NoSuchKey</Code><Message>no key</Message></Error>")
            content = (folder / key).read_bytes()
            return self.reply(200, content, {"ETag": f'"{hashlib.md5(content).hexdigest()}"'})
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        self.reply(200, self.list_objects(folder, query.get("prefix", ""), query.get("delimiter")).encode())

    def list_objects(self, folder, prefix, delimiter):
        files = ""
        keys, folders = objects_below(folder, prefix, delimiter)
        for key in keys:
            content = (folder / key).read_bytes()
            files += f"<Contents><Key>{escape(key)}</Key><Size>{len(content)}</Size>"
            files += f'<ETag>"{hashlib.md5(content).hexdigest()}"</ETag>'
            files += "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
        prefixes = "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders)
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{files}{prefixes}</ListBucketResult>"

    def reply(self, status, content, headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


class GCSHandler(SimpleHTTPRequestHandler):
    """Serve the folders of a folder as buckets, with the JSON lists of Google Cloud Storage."""

    def do_GET(self):
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        bucket, _, key = address.path.partition("/b/")[2].partition("/o")
        folder, key = Path(self.directory, bucket), unquote(key.lstrip("/"))
        if key and not (folder / key).is_file():
            return self.reply(404, {"error": {"code": 404, "message": "no such object"}})
        if key and query.get("alt") == "media":
            return self.reply(200, (folder / key).read_bytes())
        if key:
            return self.reply(200, self.describe(folder, key))
        keys, folders = objects_below(folder, query.get("prefix", ""), query.get("delimiter"))
        self.reply(200, {"items": [self.describe(folder, key) for key in keys], "prefixes": sorted(folders)})

    def describe(self, folder, key):
        content = (folder / key).read_bytes()
        checksum = base64.b64encode(hashlib.md5(content).digest()).decode()
        return {"name": key, "bucket": folder.name, "size": str(len(content)), "md5Hash": checksum}

    def reply(self, status, content):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def objects_below(folder, prefix, delimiter):
    """The keys of a bucket that begin with a prefix, and those cut at the delimiter, as both stores list them."""
    keys, folders = [], set()
    for key in sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()):
        rest = key.removeprefix(prefix)
        if key.startswith(prefix) and delimiter and delimiter in rest:
            folders.add(prefix + rest.split(delimiter)[0] + delimiter)
        elif key.startswith(prefix):
            keys.append(key)
    return keys, folders


@contextmanager
def serve(folder, handler=FileHandler):
    """Serve a folder; the server has `address`, the list of `requests`, and `faults` that a test sets."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    server.faults, server.requests = {}, []  # type: ignore[attr-defined]
    server.address = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def postgres(password):
    """Start PostgreSQL with the user `tester`, as an unprivileged user, and yield the folder of its socket."""
    programs = POSTGRES[-1].parent
    account = pwd.getpwnam("nobody") if os.getuid() == 0 else None
    user: dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}

    def run(*command):
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, **user)

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "password").write_text(password)
        if account:
            os.chown(folder, account.pw_uid, account.pw_gid)
        options = ["--auth=scram-sha-256", f"--pwfile={folder}/password", "--no-sync", "--locale=C", "-EUTF8"]
        run(programs / "initdb", "-D", f"{folder}/data", "-U", "tester", *options)
        control = [programs / "pg_ctl", "-D", f"{folder}/data", "-w", "-l", f"{folder}/log"]
        run(*control, "-o", f"-k {folder} -c listen_addresses= -c fsync=off -c shared_buffers=16MB", "start")
        try:
            yield folder
        finally:
            run(*control, "-m", "immediate", "stop")
