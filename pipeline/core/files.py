"""Atomic files and folders, JSON, and fingerprints of files."""

import ctypes
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import xxhash

from pipeline.core.errors import UserError, to_one_line
from pipeline.core.locks import temporary_path

_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""Last bytes of an Arrow IPC stream, from its specification."""
STAGING = ".finished"
"""Name of the folder of files that are not yet in their place."""
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_DISK_MESSAGES = (*map(os.strerror, _DISK_ERRORS), "inline_container.cc", "iostream error")
"""Parts of the messages of disk errors. torch and safetensors raise them without an errno."""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename the written file to `path` at the end.

    The file is fsynced before it is renamed. If the block raises, the temporary file is removed and an existing file at
    `path` stays as it is. If `path` is a link, the file that it points to is written.

    Raises:
        UserError: `path` is a folder or another thing that is not a file, or cannot be written.
    """
    given, path = path, Path(path)
    with _report_os_errors(path):
        path = _resolve(path)
        if path.is_dir():
            raise UserError(f"{given} is a folder; give the path of a file")
        if path.exists() and not path.is_file():
            raise UserError(f"{given} is not an ordinary file; give the path of a file")
        path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with _report_os_errors(path):
            temporary = stack.enter_context(temporary_path(path))
        with report_disk_errors(path):
            yield temporary
        with _report_os_errors(path):
            fsync_files([temporary])
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, and rename it to `path` at the end, in place of an existing folder.

    The files in it are fsynced before it is renamed. If the block raises, the temporary folder is removed and an
    existing folder at `path` stays as it is.

    Raises:
        UserError: `path` is a file, or cannot be written.
    """
    given, path = path, Path(path)
    with _report_os_errors(path):
        path = _resolve(path)
        if path.exists() and not path.is_dir():
            raise UserError(f"{given} is a file; give the path of a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with _report_os_errors(path):
            temporary = stack.enter_context(temporary_path(path, is_folder=True))
        with report_disk_errors(path):
            yield temporary
        with _report_os_errors(path):
            finish_files(temporary.rglob("*"))
            temporary.chmod(0o777 & ~_umask())
            _replace_folder(temporary, path)


def _resolve(path: Path) -> Path:
    """Return the path with links followed.

    Raises:
        UserError: the links form a loop.
    """
    resolved = Path(os.path.realpath(path))
    if resolved.is_symlink():
        raise UserError(f"{path} is a loop of links; choose another path")
    return resolved


def _replace_folder(new: Path, path: Path) -> None:
    """Rename a folder to `path`; an existing folder at `path` gets the other name, in the same step if possible."""
    if path.exists() and not _exchange(new, path):
        with temporary_path(path, is_folder=True) as between:
            path.replace(between)
            try:
                new.replace(path)
            except OSError:
                between.replace(path)
                raise
    elif not path.exists():
        new.replace(path)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step, and return whether the system can do this."""
    libc, here, exchange = ctypes.CDLL(None), -100, 2  # AT_FDCWD; RENAME_EXCHANGE, on macOS RENAME_SWAP
    if hasattr(libc, "renameat2"):
        return libc.renameat2(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0
    return hasattr(libc, "renamex_np") and libc.renamex_np(os.fsencode(first), os.fsencode(second), exchange) == 0


@contextmanager
def staged_files(folder: Path, last: str, unfinished: str | None = None) -> Iterator[Path]:
    """Yield a new folder in a folder, and move its files up at the end of the block, the file `last` last.

    So a folder that has this file is whole. The caller has locked the folder.

    Args:
        unfinished: content of the file while the others are moved; None removes an earlier file.

    Raises:
        UserError: the folder cannot be written.
    """
    staging = folder / STAGING
    with _report_os_errors(folder):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    try:
        with report_disk_errors(folder):
            yield staging
        with _report_os_errors(folder):
            finish_files(staging.rglob("*"))
            if unfinished is None:
                (folder / last).unlink(missing_ok=True)
            else:
                with atomic_write(folder / last) as temporary:
                    temporary.write_text(unfinished, encoding="utf-8")
            for file in sorted(staging.iterdir(), key=lambda file: file.name == last):
                target = folder / file.name
                if file.is_dir() and target.is_dir():
                    shutil.rmtree(target)
                file.replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


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


def check_stream_end(stream: Any, name: object) -> None:
    """Check that an Arrow stream has its end-of-stream mark; pyarrow reads a truncated stream without an error.

    Raises:
        UserError: the file is truncated.
    """
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - len(_END_OF_STREAM)))
    if stream.read() != _END_OF_STREAM:
        raise UserError(f"{name} is truncated: its end-of-stream mark is missing; create the file again")


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
