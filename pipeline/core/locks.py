"""Locks on outputs and on temporary files. A lock ends with its process, however that ends."""

import fcntl
import glob
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO

from pipeline.core.errors import UserError

logger = logging.getLogger(__name__)


@contextmanager
def locked(output: Path, key: str, file: Path | None = None, *, wait: bool = False) -> Iterator[None]:
    """Lock an output against other processes while the block runs.

    Folders that are made for the lock file, and are empty at the end, are removed. The lock file of a killed process
    stays until a block ends without an error.

    Args:
        output: a file or folder.
        key: the key of the configuration that names the output, for the message.
        file: the lock file, which contains the ID of the process; None is a hidden file beside the output.
        wait: wait for another process that has the lock.

    Raises:
        UserError: another process has the lock, or the lock file cannot be written or locked.
    """
    file = file or output.with_name(f".{output.name}.lock")
    was_there = file.exists()  # a killed process left it
    new_folders = [folder for folder in (file.parent, *file.parent.parents) if not folder.exists()]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = _open_locked(file, output, key, wait)
    except OSError as error:
        raise UserError(f"{key}: {output} cannot be locked ({error.strerror}); choose another path") from error
    # A forked worker would keep the lock until it notices that this process was killed.
    os.register_at_fork(after_in_child=stream.close)
    with stream:
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        try:
            yield
        except BaseException:
            if not was_there:
                _remove_lock(file, new_folders)
            raise
        _remove_lock(file, new_folders)


def _remove_lock(file: Path, new_folders: list[Path]) -> None:
    file.unlink(missing_ok=True)
    with suppress(OSError):  # a folder is not empty
        for folder in new_folders:
            folder.rmdir()


def _open_locked(file: Path, output: Path, key: str, wait: bool) -> IO[str]:
    """Return the locked lock file."""
    while True:
        stream = open(file, "a+", encoding="ascii", errors="replace")
        try:
            _lock(stream, output, key, wait)
            with suppress(FileNotFoundError):  # the process that had the lock has removed the file
                if os.path.samestat(os.fstat(stream.fileno()), file.stat()):
                    return stream
        except BaseException:
            stream.close()
            raise
        stream.close()


def _lock(stream: IO[str], output: Path, key: str, wait: bool) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.seek(0)
        process = f"process {stream.read(20)}".strip()
        if not wait:
            raise UserError(
                f"{key}: {process} is writing to {output}; wait until it ends, or choose another path"
            ) from None
        logger.info("waiting for %s, which is writing to %s", process, output)
        fcntl.flock(stream, fcntl.LOCK_EX)


@contextmanager
def temporary_path(path: Path, *, is_folder: bool = False) -> Iterator[Path]:
    """Yield a new file or folder beside `path`, which is removed at the end of the block if it still has its name.

    It is locked in the block. Those that killed processes left are not locked, and are removed first.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.tmp-*"):
        with suppress(OSError):
            handle = os.open(leftover, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(leftover)
            finally:
                os.close(handle)
    temporary, handle = _create_locked(path, is_folder)
    try:
        yield temporary
    finally:
        with suppress(OSError):
            remove(temporary)
        os.close(handle)


def temporary_folder() -> AbstractContextManager[Path]:
    """Yield a new folder in the temporary folder of the system, as `temporary_path` does."""
    return temporary_path(Path(tempfile.gettempdir(), "chronos-native"), is_folder=True)


def _create_locked(path: Path, is_folder: bool) -> tuple[Path, int]:
    prefix = f".{path.name}.tmp-"
    while True:
        if is_folder:
            name = tempfile.mkdtemp(prefix=prefix, dir=path.parent)
        else:
            created, name = tempfile.mkstemp(prefix=prefix, dir=path.parent)
            os.close(created)
        with suppress(FileNotFoundError):  # another process has taken it for a leftover
            handle = os.open(name, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # as above
                os.close(handle)
                continue
            except OSError:  # the file system has no locks, so nobody takes it for a leftover
                pass
            if os.path.exists(name):
                return Path(name), handle
            os.close(handle)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
