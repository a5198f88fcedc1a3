"""The cache of converted sources: one store per source. Beyond a size, the least recently used stores are removed."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write
from pipeline.core.series import Series
from pipeline.data.arrow_store import NotAStore, Store, open_store, write_store
from pipeline.data.column_formats import ColumnFormats
from pipeline.data.rows import SourceLocation

_GIGABYTE = 10**9
logger = logging.getLogger(__name__)


class Cache:
    """A folder of stores named by a hash of their sources, each with a JSON file of the warnings about its source."""

    def __init__(self, folder: str | Path, size: float = float("inf")) -> None:
        """Use a folder, which is created when a store is written.

        Args:
            size: maximum size of the folder in GB.
        """
        self.folder = Path(folder)
        self._size = size

    def has(self, key: str) -> bool:
        """Return whether the cache has a store."""
        return self._store(key).is_file() and self._warnings(key).is_file()

    def write(self, key: str, series: Iterable[Series], formats: ColumnFormats, location: SourceLocation) -> None:
        """Write a store and the warnings about its source, and remove old stores if the folder is too large.

        Args:
            location: has the warnings once all series are read.

        Raises:
            UserError: a row of the source is invalid, or the folder cannot be written.
        """
        write_store(self._store(key), series, formats)
        with atomic_write(self._warnings(key)) as temporary:
            temporary.write_text(json.dumps(location.warnings))
        self._remove_old(key)

    def open(self, key: str) -> tuple[Store, list[str]]:
        """Open a store, and return it with the warnings about its source."""
        try:
            store = open_store(self._store(key))
            warnings = json.loads(self._warnings(key).read_text())
        except (NotAStore, ValueError) as error:
            raise UserError(f"{self._store(key)} is not a store of this program; delete it") from error
        os.utime(self._warnings(key))  # the time of the last use
        return store, warnings

    def clear(self) -> tuple[int, int]:
        """Remove all stores, log their names, and return the number of removed files and bytes."""
        files = [*self.folder.glob("*.arrow"), *self.folder.glob("*.json")]
        n_bytes = sum(file.stat().st_size for file in files)
        for file in files:
            file.unlink()
            logger.info("removed %s", file)
        return len(files), n_bytes

    def _store(self, key: str) -> Path:
        return self.folder / f"{key}.arrow"

    def _warnings(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _remove_old(self, newest: str) -> None:
        by_use = sorted(self.folder.glob("*.arrow"), key=_last_use)
        size = sum(file.stat().st_size for file in by_use)
        for file in by_use:
            if size <= self._size * _GIGABYTE:
                return
            if file.stem != newest:
                size -= file.stat().st_size
                logger.info("the cache has more than %g GB (paths.cache_size): removing %s", self._size, file)
                file.unlink()
                file.with_suffix(".json").unlink(missing_ok=True)


def _last_use(store: Path) -> float:
    warnings = store.with_suffix(".json")
    return (warnings if warnings.is_file() else store).stat().st_mtime
