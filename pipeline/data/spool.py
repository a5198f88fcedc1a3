"""A queue of Arrow tables: in memory while they are small, otherwise in a temporary file."""

from collections.abc import Generator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pyarrow as pa

from pipeline.core.files import report_disk_errors

_BYTES_IN_MEMORY = 1 << 26


class Spool:
    """A list of tables that are written once and read once, in order."""

    def __init__(self, folder: Path | None, bytes_in_memory: int = _BYTES_IN_MEMORY) -> None:
        """Start an empty list.

        Args:
            folder: folder of the unnamed temporary file; None is that of the system.
        """
        self._folder, self._limit = folder, bytes_in_memory
        self._tables: list[pa.Table] = []
        self._n_bytes = 0
        self._file: Any = None

    def append(self, table: pa.Table) -> None:
        """Add a table.

        Raises:
            UserError: the disk is full.
        """
        self._tables.append(table)
        self._n_bytes += table.nbytes
        if self._n_bytes > self._limit:
            self._flush()

    def drain(self) -> Generator[pa.Table, None, None]:
        """Yield the tables in order, and remove them."""
        if self._file is not None:
            self._flush()
            end = self._file.seek(0, 2)
            self._file.seek(0)
            while self._file.tell() < end:
                # A stream ends where the schema or a dictionary changed.
                for batch in pa.ipc.open_stream(self._file):
                    yield pa.Table.from_batches([batch])
            self._file.close()
        while self._tables:
            yield self._tables.pop(0)

    def _flush(self) -> None:
        with report_disk_errors(self._folder or Path("the temporary folder")):
            if self._file is None:
                if self._folder is not None:
                    self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = TemporaryFile(dir=self._folder)
            for table in self._tables:
                with pa.ipc.new_stream(self._file, table.schema) as writer:
                    writer.write_table(table)
        self._tables, self._n_bytes = [], 0
