"""Helpers for table columns: conversion to text, distinct values, and errors that name the source, file and row."""

import logging

import numpy as np
import pyarrow as pa

from pipeline.core.errors import UserError

logger = logging.getLogger(__name__)


class SourceLocation:
    """Name a source in messages, and the file that each of its rows comes from."""

    def __init__(self, name: object) -> None:
        self._name = str(name)
        self._n_rows_before: dict[str, int] = {}
        self._warnings: set[str] = set()

    def __str__(self) -> str:
        return self._name

    def start_file(self, file: str, n_rows_before: int) -> None:
        """Record how many rows of the source precede those of a file."""
        self._n_rows_before.setdefault(file, n_rows_before)

    def describe_row(self, row: int) -> str:
        """Return the number of a row within its file and the file's name, such as `row 3 of a.csv`.

        Args:
            row: number of the row in the source, from 1.
        """
        n_before, file = 0, ""
        for name, n_rows in self._n_rows_before.items():
            if n_rows < row:
                n_before, file = n_rows, name
        return f"row {row - n_before}" + (f" of {file}" if file else "")

    def warn_once(self, message: str) -> None:
        """Log a warning about the source, once even if the source is read twice."""
        if message not in self._warnings:
            self._warnings.add(message)
            logger.warning("%s: %s", self, message)


def to_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column cast to strings."""
    return column if pa.types.is_string(column.type) else column.cast(pa.string())


def distinct_values(column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """Return the distinct values of a column in order of appearance, and the position of the first of each."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return encoded.dictionary, np.unique(encoded.indices.to_numpy(), return_index=True)[1]


def refuse_rows(
    invalid: np.ndarray,
    rows: np.ndarray,
    location: SourceLocation,
    problem: str,
    values: object = None,
    advice: str = "",
) -> None:
    """Raise an error that names the first invalid row and counts the others.

    Args:
        invalid: bool, [n].
        rows: number of each row in the source, from 1, [n].
        location: the source of the rows.
        problem: predicate of the message, such as `has no timestamp`.
        values: values of the rows, [n]; the message quotes the first invalid one.
        advice: how to fix the row.

    Raises:
        UserError: a row is invalid.
    """
    if not invalid.any():
        return
    first, n_others = int(invalid.argmax()), int(invalid.sum()) - 1
    message = f"{location}: {location.describe_row(int(rows[first]))} {problem}"
    if values is not None:
        message += f": {values[first]}"  # type: ignore[index]
    if n_others:
        message += f" (and {n_others} more such rows)"
    raise UserError(message + (f"; {advice}" if advice else ""))
