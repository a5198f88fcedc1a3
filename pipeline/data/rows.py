"""Helpers for table columns: conversion to text, distinct values, and errors that name the source, file and row."""

import numpy as np
import pyarrow as pa

from pipeline.core.errors import UserError, to_one_line

ROW = "row number\0"
"""Column of the number of each row from 1; no column of a file has this name."""


class SourceLocation:
    """Name a source in messages, and the file that each of its rows comes from."""

    def __init__(self, name: object) -> None:
        self._name = str(name)
        self._n_rows_before: dict[str, int] = {}
        self._warnings: dict[str, None] = {}
        self.fraction_read = 0.0
        """Share of the source that has been read, from 0 to 1."""
        self.unused_columns: list[str] = []
        """Columns of the last table that are not read."""
        self.has_types = True
        """Whether a column has the same type in all its tables."""
        self.has_item_ids = True
        """Whether the source has the columns of the item ID."""
        self.is_utc = False
        """Whether its timestamps had a time zone and are UTC now."""

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

    def file_numbers(self, rows: np.ndarray) -> np.ndarray:
        """Return the position of the file of each row: rows as in `describe_row` [n] to int64, [n]."""
        return np.searchsorted(list(self._n_rows_before.values()), rows)

    @property
    def warnings(self) -> list[str]:
        """The warnings so far."""
        return list(self._warnings)

    def warn_once(self, message: str) -> None:
        """Keep a warning about the source, once even if it is given again."""
        self._warnings.setdefault(message)


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column has texts, dictionary-encoded or not."""
    value_type = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(check(value_type) for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def is_list(kind: pa.DataType) -> bool:
    """Return whether the values of a column are lists, of any of Arrow's list types."""
    return any(check(kind) for check in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def checked_types(table: pa.Table, location: SourceLocation) -> pa.Table:
    """Return a table without nulls in the dictionaries of its columns, which crash functions of pyarrow.

    Periods of pandas become the dates that they start with.

    Raises:
        UserError: a column has neither texts, numbers, dates and the like, nor lists of them, or a period is no date.
    """
    kinds = set(table.schema.types)
    refused = {kind for kind in kinds if not _is_supported(kind.value_type if is_list(kind) else kind)}
    changes = refused or any(pa.types.is_dictionary(kind) or _is_period(kind) for kind in kinds)
    for position, field in enumerate(table.schema) if changes else ():
        name, kind, column = field.name, field.type, table[position]
        if kind in refused:
            raise UserError(f"{location}: the column {name} has the type {kind}; convert it to text, numbers or dates")
        if _is_period(kind):
            try:
                table = table.set_column(position, name, pa.array(column.to_pandas().dt.to_timestamp()))
            except ValueError as error:
                raise UserError(f"{location}: a period cannot be a date: {to_one_line(error)}") from error
        if pa.types.is_dictionary(kind) and any(chunk.dictionary.null_count for chunk in column.chunks):
            is_empty = pa.types.is_null(kind.value_type)
            table = table.set_column(position, name, pa.nulls(len(table)) if is_empty else column.cast(kind.value_type))
    return table


def _is_supported(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        try:
            pa.lib.string_to_tzinfo(kind.tz)
        except (KeyError, ValueError, OSError):  # that of zoneinfo is a KeyError
            return False
    if is_text(kind) or _is_period(kind):
        return True
    checks = (
        pa.types.is_primitive,
        pa.types.is_decimal,
        pa.types.is_null,
        pa.types.is_binary,
        pa.types.is_large_binary,
    )
    return any(check(kind) for check in checks)


def _is_period(kind: pa.DataType) -> bool:
    return getattr(kind, "extension_name", "") == "pandas.period"


def distinct(column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """Return the distinct values of a column without nulls, in order of appearance, and the position of each row's."""
    encoded = column.dictionary_encode().unify_dictionaries().combine_chunks()
    used = encoded.indices.dictionary_encode()  # a dictionary may have any order, and values of other rows
    return encoded.dictionary.take(used.dictionary), used.indices.to_numpy()


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
