"""Atomic files and folders, JSON, and fingerprints of files."""

import errno
import glob
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import xxhash

from pipeline.core.errors import UserError, to_one_line

_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""Last bytes of an Arrow IPC stream, from its specification."""
_LEFTOVER_AGE = 24 * 3600.0
"""Age in seconds from which a temporary file is a leftover; chosen to be longer than writing one file takes."""
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_DISK_MESSAGES = (*map(os.strerror, _DISK_ERRORS), "inline_container.cc", "iostream error")
"""Parts of the messages of disk errors. torch and safetensors raise them without an errno."""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename the written file to `path` at the end.

    The file is fsynced before it is renamed. If the block raises, the temporary file is removed and an existing file at
    `path` stays as it is.

    Raises:
        UserError: `path` is a folder, or cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the path of a file")
    with _report_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        with report_disk_errors(path):
            yield temporary
        with _report_os_errors(path):
            fsync_files([temporary])
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, and rename it to `path` at the end, in place of an existing folder.

    The files in it are fsynced before it is renamed. If the block raises, the temporary folder is removed and an
    existing folder at `path` stays as it is.

    Raises:
        UserError: `path` is a file, or cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; give the path of a folder")
    with _report_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        with report_disk_errors(path):
            yield temporary
        with _report_os_errors(path):
            finish_files(temporary.rglob("*"))
            temporary.chmod(0o777 & ~_umask())
            _replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace_folder(new: Path, path: Path) -> None:
    """Rename a folder to `path`; if this fails, an existing folder at `path` is restored."""
    if not path.exists():
        new.replace(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    path.replace(old)
    try:
        new.replace(path)
    except OSError:
        old.replace(path)
        raise
    shutil.rmtree(old)


@contextmanager
def report_disk_errors(path: Path) -> Iterator[None]:
    """Raise a UserError that names `path` if the block fails because of its disk; let other errors through.

    Raises:
        UserError: the disk is full or read-only.
    """
    try:
        yield
    except Exception as error:  # safetensors and torch raise their own types, without an errno
        has_disk_message = any(message in str(error) for message in _DISK_MESSAGES)
        if getattr(error, "errno", None) not in _DISK_ERRORS and not has_disk_message:
            raise
        reason = getattr(error, "strerror", None) or to_one_line(error)
        raise UserError(f"cannot write {path}: {reason}; choose another path or make room") from error


def fsync_files(paths: Iterable[Path]) -> None:
    """Wait until all files among the paths are on disk."""
    for path in paths:
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def finish_files(paths: Iterable[Path]) -> None:
    """Give all files among the paths the permissions of new files, and wait until they are on disk.

    safetensors writes files that only their owner can read.
    """
    files = [path for path in paths if path.is_file()]
    for path in files:
        path.chmod(0o666 & ~_umask())
    fsync_files(files)


def check_writable_folder(path: str | Path) -> None:
    """Check, before long work, that a folder can be created or written to.

    Raises:
        UserError: the folder or its nearest existing parent is a file or not writable, or the path is a broken link.
    """
    existing = Path(path).absolute()
    if existing.is_symlink() and not existing.exists():
        raise UserError(f"{existing} is a link to {existing.readlink()}, which does not exist; choose another path")
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise UserError(f"{existing} is a file, not a folder; choose another path")
    if not os.access(existing, os.W_OK):
        raise UserError(f"{existing} is not writable; choose another path or change its permissions")


def check_writable_file(path: str | Path) -> None:
    """Check, before long work, that a file can be written.

    Raises:
        UserError: the path is a folder, or its parent folder is not writable.
    """
    if Path(path).is_dir():
        raise UserError(f"{path} is a folder; give the path of a file")
    check_writable_folder(Path(path).parent)


def to_serializable(value: Any) -> Any:
    """Return a value with NumPy scalars, paths and enums replaced by types that YAML and JSON can write."""
    if isinstance(value, dict):
        return {key: to_serializable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_serializable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    return value.item() if hasattr(value, "item") else value


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or not valid JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); it may be half-written: create it again") from error


def fingerprint(paths: Iterable[Path], *options: object) -> str:
    """Return a hash of the content of files, in their order, and of options: 24 hex digits.

    File names are not part of the hash. Options enter by their `repr`, bytes by their hash.
    """
    hashable = tuple(hashlib.blake2b(option).digest() if isinstance(option, bytes) else option for option in options)
    digest = hashlib.blake2b(repr(hashable).encode(), digest_size=12)
    for path in paths:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, xxhash.xxh3_128).digest())  # several times faster than blake2b
    return digest.hexdigest()


def check_stream_end(path: Path) -> None:
    """Check that an Arrow stream has its end-of-stream mark; pyarrow reads a truncated stream without an error.

    Raises:
        UserError: the file is truncated.
    """
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - len(_END_OF_STREAM)))
        if file.read() != _END_OF_STREAM:
            raise UserError(f"{path} is truncated: its end-of-stream mark is missing; create the file again")


def _remove_leftovers(path: Path) -> None:
    """Remove old temporary files of `path` that killed processes left; a younger one may still be in use."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if temporary.is_file() and time.time() - temporary.stat().st_mtime > _LEFTOVER_AGE:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def _report_os_errors(path: Path) -> Iterator[None]:
    """Raise a UserError that names `path` for any OSError of the block."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another path or make room") from error
