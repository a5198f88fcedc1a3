"""What is done with columns of a table wherever they are read: texts, distinct values, rows that are refused by name."""

import logging

import numpy as np
import pyarrow as pa

from pipeline.core.errors import UserError

logger = logging.getLogger(__name__)


class SourceLocation:
    """Where rows come from, in words: the name of a source, and which of its files a row lies in."""

    def __init__(self, name: object) -> None:
        self._name = str(name)
        self._files: dict[str, int] = {}
        self._said: set[str] = set()

    def __str__(self) -> str:
        return self._name

    def begins(self, file: str, n_before: int) -> None:
        """Note that so many rows of the source lie before those of one of its files."""
        self._files.setdefault(file, n_before)

    def row(self, number: int) -> str:
        """Return what a row of the source, counted from 1, is called."""
        n_before, file = 0, ""
        for name, before in self._files.items():
            if before < number:
                n_before, file = before, name
        return f"row {number - n_before}" + (f" of {file}" if file else "")

    def warn(self, message: str) -> None:
        """Log a warning of the source, once however often it is read."""
        if message not in self._said:
            self._said.add(message)
            logger.warning("%s: %s", self, message)


def text_of(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as texts."""
    return column if pa.types.is_string(column.type) else column.cast(pa.string())


def distinct_of(column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """Return the distinct values of a column in order of appearance, and the position of the first of each."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return encoded.dictionary, np.unique(encoded.indices.to_numpy(), return_index=True)[1]


def refuse_rows(wrong: np.ndarray, row: np.ndarray, where: SourceLocation, what: str, values: object = None) -> None:
    """Refuse the first row where `wrong` is true.

    Args:
        row: the number of each row in its source.
        what: is wrong with it, in words.
        values: what the rows hold there, to be shown.

    Raises:
        UserError: there is such a row.
    """
    if wrong.any():
        at = int(wrong.argmax())
        value = "" if values is None else f": {values[at]}"  # type: ignore[index]
        more = int(wrong.sum()) - 1
        raise UserError(
            f"{where}: {where.row(int(row[at]))} {what}{value}" + (f" (and {more} more such rows)" if more else "")
        )
