"""The cache of converted sources: one store per source. Beyond a size, the least recently used stores are removed."""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar
from weakref import WeakSet

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write
from pipeline.core.locks import remove
from pipeline.core.series import Series
from pipeline.data.arrow_store import NotAStore, Store, open_store, write_store
from pipeline.data.column_formats import ColumnFormats
from pipeline.data.rows import SourceLocation

_GIGABYTE = 10**9
logger = logging.getLogger(__name__)


class Cache:
    """A folder of stores named by a hash of their sources.

    A JSON file beside each store has the key, the hash of the store, and the warnings about its source. A store that
    does not match it is not used. Only the owner of the folder can read it.
    """

    _in_use: ClassVar[WeakSet[Store]] = WeakSet()
    """Stores of this process, which its workers open again by their paths."""

    def __init__(self, folder: str | Path, size: float = float("inf")) -> None:
        """Use a folder, which is created when a store is written.

        Args:
            size: maximum size of the folder in GB.
        """
        self.folder = Path(os.path.abspath(folder))
        self._size = size

    def write(
        self, key: str, series: Iterable[Series], formats: ColumnFormats, location: SourceLocation
    ) -> tuple[Store, list[str]]:
        """Write a store and the warnings about its source, return both, and remove old stores of a large cache.

        Raises:
            UserError: a row of the source is invalid, or the folder cannot be written.
        """
        path, record = self._paths(key)
        with _report_errors(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_private()
            for existing in (path, record):
                if not _is_file(existing):  # a link would be followed, and a folder not replaced
                    remove(existing)
        write_store(path, series, formats)
        store, warnings = open_store(path), location.warnings  # complete, as all series are read
        with atomic_write(record) as temporary:
            temporary.write_text(json.dumps({"key": key, "store": store.fingerprint, "warnings": warnings}))
        self._in_use.add(store)
        self._remove_old()
        return store, warnings

    def open(self, key: str) -> tuple[Store, list[str]] | None:
        """Return a store and the warnings about its source; None if it is missing or not as it was written."""
        path, record = self._paths(key)
        # The record is written last: a store without one was interrupted, or is being written by another process.
        if not (os.path.lexists(path) and os.path.lexists(record)):
            return None
        try:
            self._make_private()
            if not (_is_file(path) and _is_file(record)):
                raise ValueError("the store or its record is not a file")
            content = json.loads(record.read_text())
            store = open_store(path)
            if content["key"] != key or content["store"] != store.fingerprint:
                raise ValueError("its content has changed")
            os.utime(record)  # the time of the last use
            self._in_use.add(store)
            return store, [str(warning) for warning in content["warnings"]]
        except (NotAStore, OSError, ValueError, RecursionError, KeyError, TypeError) as error:
            logger.warning("the store %s is made again: %s", path, error)
            return None

    def clear(self) -> tuple[int, int]:
        """Remove all stores, log their names, and return the number of removed files and bytes.

        Raises:
            UserError: a file cannot be removed.
        """
        files = [file for suffix in ("arrow", "json") for file in self.folder.glob(f"*.{suffix}") if not file.is_dir()]
        n_bytes = sum(file.lstat().st_size for file in files)
        with _report_errors(self.folder):
            for file in files:
                file.unlink(missing_ok=True)
                logger.info("removed %s", file)
        return len(files), n_bytes

    def _paths(self, key: str) -> tuple[Path, Path]:
        return self.folder / f"{key}.arrow", self.folder / f"{key}.json"

    def _make_private(self) -> None:
        """Let only the owner use the folder. A folder of others, or one such as /tmp, stays as it is."""
        status = self.folder.stat()
        if status.st_uid == os.getuid() and not status.st_mode & stat.S_ISVTX:
            self.folder.chmod(0o700)

    def _remove_old(self) -> None:
        stores = []
        for store in filter(_is_file, self.folder.glob("*.arrow")):
            record = store.with_suffix(".json")
            with suppress(FileNotFoundError):  # another process has removed it
                last_use = (record if record.is_file() else store).stat().st_mtime
                stores.append((last_use, store.stat().st_size, store))
        total = sum(size for _, size, _ in stores)
        kept = {store.path for store in self._in_use}
        for _, size, store in sorted(stores):
            if total > self._size * _GIGABYTE and store not in kept:
                total -= size
                logger.info("the cache has more than %g GB (paths.cache_size): removing %s", self._size, store)
                remove(store)
                remove(store.with_suffix(".json"))


@contextmanager
def _report_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot change the cache {folder}: {error.strerror}: {error.filename}; "
            "name another folder with paths.data_dir"
        ) from error


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
