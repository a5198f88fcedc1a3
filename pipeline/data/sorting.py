"""Rows sorted by series and time; rows that do not fit into memory are kept in a temporary file."""

import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.core.files import check_writable_folder, report_disk_errors

_MEMORY_LIMIT = 32 << 20  # bytes; chosen by timing: larger runs are slower to sort, and smaller ones take more reads
_PARTITIONS_PER_RUN = 4  # chosen by timing: rows of a small partition stay in the cache while they are sorted
_TYPES = (np.int32, np.int64, np.int64, np.float64)


class Rows(NamedTuple):
    """Rows of a source; every field has an entry per row."""

    codes: np.ndarray
    """Numbers of the series, dense from 0: int32, [n]."""
    stamps: np.ndarray
    """Seconds since 1970, or steps: int64, [n]."""
    numbers: np.ndarray
    """Numbers of the rows in the source: int64, [n]."""
    values: np.ndarray
    """Values: float64, [n, n_values]."""


class RowSorter:
    """Sort rows by series and time in bounded memory.

    Rows stay in memory up to a limit. Beyond it, they are written to a temporary file in runs. Each run is sorted by
    series. Then the series are divided into partitions: the rows of a partition are read from all runs, and sorted.
    """

    def __init__(self, n_values: int, folder: Path | None = None, memory_limit: int = _MEMORY_LIMIT) -> None:
        """Create a sorter.

        Args:
            n_values: number of values per row.
            folder: folder of the unnamed temporary file; None is that of the system.
            memory_limit: bytes of rows in memory. Sorting takes up to three times as much, or more if a single series
                is larger.
        """
        self.n_rows = 0
        """Number of rows added."""
        self._n_values = n_values
        self._max_rows = memory_limit // (20 + 8 * n_values)
        self._folder = Path(tempfile.gettempdir()) if folder is None else folder
        self._pending: list[Rows] = []
        self._n_pending = 0
        self._n_rows_by_code = np.zeros(0, np.int64)
        self._runs: _Runs | None = None

    def add(self, rows: Rows) -> None:
        """Add rows in any order.

        Raises:
            UserError: the temporary file cannot be written.
        """
        if len(rows.codes):
            self._pending.append(rows)
            self._n_pending += len(rows.codes)
            self.n_rows += len(rows.codes)
        if self._n_pending > self._max_rows:
            self._write_run()

    def partitions(self) -> Iterator[Rows]:
        """Yield all rows, sorted by code, stamp and number; all rows of a series are in the same partition.

        Partitions can be read several times.

        Raises:
            UserError: the temporary file cannot be written.
        """
        if self._runs and self._pending:
            self._write_run()
        if self._runs:
            bounds = _divide_codes(self._n_rows_by_code, self._max_rows // _PARTITIONS_PER_RUN)
            yield from map(_sort_rows, self._runs.read(bounds, self._n_values))
        elif self._pending:
            self._pending = [Rows(*_join_fields(self._pending))]
            self._pending = [_sort_rows(self._pending[0])]  # for the next call
            yield self._pending[0]

    def _write_run(self) -> None:
        codes = np.concatenate([rows.codes for rows in self._pending], dtype=np.int32)
        parts, self._pending, self._n_pending = self._pending, [], 0
        n_rows_by_code = np.bincount(codes, minlength=len(self._n_rows_by_code))
        n_rows_by_code[: len(self._n_rows_by_code)] += self._n_rows_by_code
        self._n_rows_by_code = n_rows_by_code
        order = _sort_keys(codes.astype(np.int64))
        with report_disk_errors(self._folder):
            self._runs = self._runs or _Runs(self._folder)
            if order is None:
                self._runs.write(list(zip(*parts)))
            else:
                self._runs.write([field.take(order, axis=0)] for field in _join_fields(parts))


class _Runs:
    """Runs of rows sorted by code, in a temporary file without a name. Each run is stored field by field."""

    def __init__(self, folder: Path) -> None:
        check_writable_folder(folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)
        weakref.finalize(self, self._file.close)
        self._starts: list[list[int]] = []  # of the fields of each run, in bytes

    def write(self, fields: Iterable[Sequence[np.ndarray]]) -> None:
        """Append a run, of which every field is given in parts."""
        starts = []
        for parts, kind in zip(fields, _TYPES):
            starts.append(self._file.seek(0, os.SEEK_END))
            for part in parts:
                data = part.astype(kind, "C", copy=False).reshape(-1).view(np.uint8).data
                while data:
                    data = data[self._file.write(data) :]
        self._starts.append(starts)

    def read(self, bounds: np.ndarray, n_values: int) -> Iterator[Rows]:
        """Yield the rows of the codes from each bound to the next, run by run.

        Args:
            bounds: ascending codes, int32, [n_partitions + 1].
            n_values: number of values per row.
        """
        runs = (self._read_into(np.empty((end - start) // 4, np.int32), start) for start, end, *_ in self._starts)
        positions = np.array([np.searchsorted(codes, bounds) for codes in runs]).T
        for begins, ends in pairwise(positions.tolist()):
            yield self._read_rows(begins, ends, n_values)

    def _read_rows(self, begins: list[int], ends: list[int], n_values: int) -> Rows:
        """Return the rows of each run from the position `begins` to the position `ends`."""
        n_rows, first = sum(ends) - sum(begins), 0
        fields = [*(np.empty(n_rows, kind) for kind in _TYPES[:3]), np.empty((n_rows, n_values))]
        for starts, begin, end in zip(self._starts, begins, ends):
            for field, start in zip(fields, starts):
                self._read_into(field[first : first + end - begin], start + begin * field.strides[0])
            first += end - begin
        return Rows(*fields)

    def _read_into(self, array: np.ndarray, start: int) -> np.ndarray:
        """Fill an array with the bytes from a position of the file, and return it."""
        data = array.reshape(-1).view(np.uint8).data
        self._file.seek(start)
        while data:
            data = data[self._file.readinto(data) :]
        return array


def _join_fields(parts: list[Rows]) -> Iterator[np.ndarray]:
    """Yield the fields of the rows in a list, and empty the list, so that the memory of each field can be reused."""
    fields = list(zip(*parts))
    parts.clear()
    for kind in _TYPES:
        yield np.concatenate(fields.pop(0), dtype=kind)


def _divide_codes(n_rows: np.ndarray, max_rows: int) -> np.ndarray:
    """Return the bounds of ranges of codes with at most `max_rows` rows, or a single code: int32, [n_ranges + 1]."""
    n_before, bounds = np.concatenate([[0], np.cumsum(n_rows)]), [0]
    while bounds[-1] < len(n_rows):
        last = int(np.searchsorted(n_before, n_before[bounds[-1]] + max_rows, side="right")) - 1
        bounds.append(max(last, bounds[-1] + 1))
    return np.array(bounds, np.int32)


def _sort_rows(rows: Rows) -> Rows:
    order = _order(rows.codes, rows.stamps)
    return rows if order is None else Rows(*(field.take(order, axis=0) for field in rows))


def _order(codes: np.ndarray, stamps: np.ndarray) -> np.ndarray | None:
    """Return the positions of rows in the order of code and stamp, or None if they are in it.

    Rows with the same code and stamp keep their order.
    """
    is_same = codes[1:] == codes[:-1]
    if ((codes[1:] > codes[:-1]) | is_same & (stamps[1:] >= stamps[:-1])).all():
        return None
    keys, offsets = codes.astype(np.int64), stamps - stamps.min()
    keys -= keys.min()
    offsets //= np.gcd.reduce(offsets) or 1
    stamp_bits = int(offsets.max()).bit_length()
    fits = int(keys.max()).bit_length() + stamp_bits + len(keys).bit_length() < 64
    if not fits or offsets.min() < 0:  # it is negative if the difference of two stamps overflows
        return np.lexsort((stamps, codes))
    keys <<= stamp_bits
    keys |= offsets
    del offsets
    return _sort_keys(keys)


def _sort_keys(keys: np.ndarray) -> np.ndarray | None:
    """Sort keys in place, and return their former positions, or None if they were sorted.

    Keys with the position in the lowest bits are sorted several times faster than by np.argsort.
    """
    if (keys[1:] >= keys[:-1]).all():
        return None
    position_bits = len(keys).bit_length()
    keys <<= position_bits
    keys |= np.arange(len(keys))
    keys.sort()
    order = keys & ((1 << position_bits) - 1)
    keys >>= position_bits
    return order
