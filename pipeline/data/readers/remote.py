"""Remote files: listed through fsspec by the rules for local folders, and downloaded one at a time."""

import json
import mimetypes
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote

from pipeline.core.credentials import fill_variables
from pipeline.core.errors import UserError, to_one_line
from pipeline.core.files import atomic_write
from pipeline.core.urls import has_password, is_web_address, redact, redact_text
from pipeline.data.readers.files import SUFFIXES, is_data_file, is_ignored, metadata_freq

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws (FSSPEC_S3_ANON=true for a public bucket)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, the path of a key file",
    "hf": "HF_TOKEN, or hf auth login",
    "http": "~/.netrc",
}
_STAMPS = "ETag etag md5Hash Content-MD5 Digest blob_id Last-Modified LastModified last_modified mtime created".split()
"""Names of checksums and times of change in the information of the file systems, the more reliable first."""
_METADATA = ("metadata.json", "dataset_info.json", "dataset_dict.json", "state.json")
"""Files of GluonTS and datasets folders that contain no series."""
_CONNECT_SECONDS, _READ_SECONDS = 30, 60
"""Maximum waits for a connection and for the next block of a file."""


class Listing(NamedTuple):
    """The files of a remote file, folder or glob, by the rules for local folders, in order of their names."""

    source: str
    filesystem: Any
    files: dict[str, dict[str, Any]]
    """fsspec's information on each file by its path below the source, or by its name if it is the only one."""
    metadata: str | None = None
    """Path of the metadata of a GluonTS folder."""
    left_out: Sequence[str] = ()
    """Names of other files in a folder that may have series."""

    def sizes(self) -> list[int]:
        """Return the size of each file, 0 if the server does not report it."""
        return [info.get("size") or 0 for info in self.files.values()]

    def identity(self) -> list[str] | None:
        """Return the name, size and checksum or time of change of each file; None if one has neither."""
        stamps = [next((info[key] for key in _STAMPS if info.get(key)), None) for info in self.files.values()]
        if None in stamps:
            return None
        return [f"{name} {info.get('size')} {stamp}" for (name, info), stamp in zip(self.files.items(), stamps)]

    def gluonts_freq(self) -> str | None:
        """Return the frequency in the metadata of a GluonTS folder, None for any other source.

        Raises:
            UserError: the metadata are invalid or cannot be read.
        """
        with _report_errors(self.source):
            return metadata_freq(json.loads(self.filesystem.cat_file(self.metadata))) if self.metadata else None

    def download(self, folder: Path) -> Iterator[Path]:
        """Download the files into a folder under their names, and yield each when it is complete.

        The next file is downloaded after the caller has read, and removed, the one before.

        Raises:
            UserError: a download breaks off or the disk is full.
        """
        for name, info in self.files.items():
            with _report_errors(self.source), atomic_write(folder / name) as temporary:
                self.filesystem.get_file(info["name"], str(temporary))
                if info.get("size") not in (None, size := temporary.stat().st_size):
                    raise UserError(
                        f"{redact(self.source)}: {size} of {info['size']} bytes of {name} arrived; try again"
                    )
            yield folder / name


def list_files(source: str) -> Listing:
    """Return the files of a remote file, folder or glob.

    Raises:
        UserError: the source does not exist, cannot be reached, or has no file of a known format.
    """
    if has_password(source):
        raise UserError(f"{redact(source)}: the URL has a password or token; remove it, and set {_credentials(source)}")
    with _report_errors(source):
        filesystem, path = _connect(fill_variables(source))
        is_web = is_web_address(path)
        wildcard = re.search(r"^[^?]*?[*[]" if is_web else r"^.*?[*?[]", path)
        if wildcard:
            folder, metadata = wildcard[0].rpartition("/")[0], None
            infos = filesystem.glob(path, detail=True).values()
        elif not (is_web and path.endswith("/")) and (info := filesystem.info(path))["type"] == "file":
            return Listing(source, filesystem, {_file_name(path, info): info})
        else:
            folder, infos, metadata = _list_folder(filesystem, path, source)
        infos_by_path = {PurePosixPath(_name_below(folder, info["name"])): info for info in infos}
        files = {
            str(path): info
            for path, info in sorted(infos_by_path.items())
            if info["type"] == "file" and is_data_file(path) and path.name not in _METADATA
        }
        if is_web:  # a page with links has neither sizes nor checksums
            files = {name: filesystem.info(info["name"]) for name, info in files.items()}
    if not files:
        problem = "no data file matches" if wildcard else "has no data file, and its subfolders are not read"
        raise UserError(f"{redact(source)}: {problem}; known formats are {', '.join(SUFFIXES)}")
    others = [] if wildcard or is_web else [path for path in sorted(infos_by_path) if str(path) not in files]
    left_out = [str(path) for path in others if infos_by_path[path]["type"] == "file" and not is_ignored(path)]
    return Listing(source, filesystem, files, metadata, [name for name in left_out if name not in _METADATA])


def _connect(source: str) -> tuple[Any, str]:
    """Return the file system of a URL, without remembered listings, and the path in it."""
    from fsspec.core import url_to_fs

    options: dict[str, Any] = {}
    if is_web_address(source):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
        # trust_env reads ~/.netrc and the proxies. A signature does not survive a second encoding.
        options = {"client_kwargs": {"trust_env": True, "timeout": timeout}, "encoded": "%" in source}
    filesystem, path = url_to_fs(source, **options)
    filesystem.invalidate_cache()
    return filesystem, path


def _list_folder(filesystem: Any, folder: str, source: str) -> tuple[str, Iterable[dict[str, Any]], str | None]:
    """Return the folder that has the data files, the entries in it, and the path of GluonTS metadata."""
    folder = folder.rstrip("/")
    entries = {_name_below(folder, info["name"]): info for info in filesystem.ls(f"{folder}/", detail=True)}
    if "_delta_log" in entries:  # some of its files contain deleted rows
        raise UserError(f"{redact(source)} is a Delta table; write its rows to Parquet files in another folder")
    if any(info["type"] == "directory" and "=" in name for name, info in entries.items()):
        return folder, filesystem.find(folder, detail=True).values(), None
    paths = (
        f"{folder}/{name}" for name in ("metadata/metadata.json", "metadata.json") if name.split("/")[0] in entries
    )
    metadata = next(filter(filesystem.exists, paths), None)
    if "train" in entries and (metadata or "dataset_dict.json" in entries):
        folder = f"{folder}/train"
        return folder, filesystem.ls(f"{folder}/", detail=True), metadata
    return folder, entries.values(), metadata


def _name_below(folder: str, path: str) -> str:
    """Return a path relative to a folder; that of a web address is decoded, without its query."""
    if is_web_address(path):
        folder, path = unquote(folder), unquote(redact(path))
    return path.removeprefix(folder).strip("/")


def _file_name(path: str, info: dict[str, Any]) -> str:
    """Return the name of a single file, with the suffix of its type if a web address has none that is known."""
    name = PurePosixPath(_name_below("", path)).name
    suffix = mimetypes.guess_extension(info.get("mimetype") or "") or ""
    return name if is_data_file(PurePosixPath(name)) or suffix not in SUFFIXES else name + suffix


def _credentials(source: str) -> str:
    """Return where the credentials of a URL belong."""
    protocol = source.partition("://")[0].lower()
    return next((text for name, text in _CREDENTIALS.items() if protocol.startswith(name)), "its usual credentials")


@contextmanager
def _report_errors(source: str) -> Iterator[None]:
    """Raise a UserError that names the source without its secrets if the block fails.

    The cause is cut off, since its message may have the whole URL.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # those of the file systems have no common base class
        raise UserError(f"{redact(source)}: {_explain(source, error)}") from None


def _explain(source: str, error: Exception) -> str:
    protocol = source.partition("://")[0].lower()
    if error.__cause__ is not None and is_web_address(source):
        error = error.__cause__  # type: ignore[assignment]  # fsspec calls every error of a web server a missing file
    name, message = type(error).__name__, redact_text(to_one_line(error))
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, ImportError) and protocol in _EXTRAS:
        return f"a package is missing: pip install 'chronos-native[{_EXTRAS[protocol]}]'"
    if isinstance(error, ImportError):
        return message
    if status in (401, 403) or isinstance(error, PermissionError) or "Credentials" in name:
        return f"access is denied; check the path, and set {_credentials(source)}"
    if status == 404 or isinstance(error, FileNotFoundError):
        private = f", or set {_credentials(source)} if it is private" if protocol == "hf" else ""
        return f"there is no such file or folder; check the path{private}"
    if isinstance(error, TimeoutError) or "Timeout" in name:
        return "the server does not answer in time; try again"
    return f"cannot be read: {message or name}; check the URL and the network"
