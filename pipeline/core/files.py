"""Files and folders that appear under their name only when they are whole."""

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

from pipeline.core.errors import UserError, one_line

_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_DAY = 24 * 3600.0
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_DISK_FULL = (*map(os.strerror, _DISK_ERRORS), "inline_container.cc", "iostream error")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; what is written there takes the name `path` at the end.

    The file is fsynced before it is renamed. Where the block raises, the temporary file is removed and whatever stood
    under `path` is untouched.

    Raises:
        UserError: `path` is a folder, or cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the path of a file")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        with report_disk_errors(path):
            yield temporary
        with _writing(path):
            sync([temporary])
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; at the end it takes the name `path`, in place of what stood there.

    Its files are fsynced before it is renamed.

    Raises:
        UserError: `path` is a file, or cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; give the path of a folder")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        with report_disk_errors(path):
            yield temporary
        with _writing(path):
            sync(temporary.rglob("*"))
            temporary.chmod(0o777 & ~_umask())
            if path.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
                path.replace(old)
                try:
                    temporary.replace(path)
                except OSError:
                    old.replace(path)
                    raise
                shutil.rmtree(old)
            else:
                temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def report_disk_errors(path: Path) -> Iterator[None]:
    """Name `path` where the block finds no room on its disk, or may not write; other errors are let through.

    Raises:
        UserError: the disk is full, or read-only.
    """
    try:
        yield
    except Exception as error:  # safetensors and torch have errors of their own for it, without a number
        if getattr(error, "errno", None) not in _DISK_ERRORS and not any(said in str(error) for said in _DISK_FULL):
            raise
        said = getattr(error, "strerror", None) or one_line(error)
        raise UserError(f"cannot write {path}: {said}; choose another path or make room") from error


def sync(paths: Iterable[Path]) -> None:
    """Wait until the files among some paths are on disk."""
    for path in paths:
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def check_folder(path: str | Path) -> None:
    """Refuse, before long work is done, a folder that could not be made or written to.

    Raises:
        UserError: it, or what it would lie in, is a file or not writable, or it is a link to nothing.
    """
    existing = Path(path).absolute()
    if existing.is_symlink() and not existing.exists():
        raise UserError(f"{existing} is a link to {existing.readlink()}, which is not there; choose another path")
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise UserError(f"{existing} is a file where a folder is to be; choose another path")
    if not os.access(existing, os.W_OK):
        raise UserError(f"{existing} cannot be written to; choose another path or change its permissions")


def check_file(path: str | Path) -> None:
    """Refuse, before long work is done, a file that could not be written.

    Raises:
        UserError: it is a folder, or lies in what cannot be written to.
    """
    if Path(path).is_dir():
        raise UserError(f"{path} is a folder; give the path of a file")
    check_folder(Path(path).parent)


def to_serializable(value: Any) -> Any:
    """Return a value as YAML and JSON write it: without NumPy's numbers, paths and enumerations, which Python may give."""
    if isinstance(value, dict):
        return {key: to_serializable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_serializable(one) for one in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    return value.item() if hasattr(value, "item") else value


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is no valid JSON ({error}); it may be half-written: make it anew") from error


def fingerprint(paths: Iterable[Path], *options: object) -> str:
    """Return a hash of the content of files, their names within the list left out, and of options: 24 hex digits."""
    short = tuple(hashlib.blake2b(one).digest() if isinstance(one, bytes) else one for one in options)
    digest = hashlib.blake2b(repr(short).encode(), digest_size=12)
    for path in paths:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def check_stream_end(path: Path) -> None:
    """Refuse an Arrow stream whose end-of-stream mark is missing: pyarrow would read what is there without a word.

    Raises:
        UserError: the file is cut short.
    """
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - len(_END_OF_STREAM)))
        if file.read() != _END_OF_STREAM:
            raise UserError(f"{path} is cut short: its end-of-stream mark is missing; make the file anew")


def _remove_leftovers(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` left there; one that still writes is younger."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if temporary.is_file() and time.time() - temporary.stat().st_mtime > _DAY:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Name `path` where it cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another path or make room") from error
