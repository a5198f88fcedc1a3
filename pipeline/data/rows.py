"""What is done with columns of a table wherever they are read: texts, distinct values, rows that are refused."""

import numpy as np
import pyarrow as pa

from pipeline.errors import UserError


def text_of(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as texts."""
    return column if pa.types.is_string(column.type) else column.cast(pa.string())


def distinct_of(column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """Return the distinct values of a column in order of appearance, and the position of the first of each."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return encoded.dictionary, np.unique(encoded.indices.to_numpy(), return_index=True)[1]


def refuse_rows(wrong: np.ndarray, row: np.ndarray, where: str, what: str, values: object = None) -> None:
    """Refuse the first row where `wrong` is true.

    Args:
        row: the number of each row in its file.
        what: is wrong with it, in words.
        values: what the rows hold there, to be shown.

    Raises:
        UserError: there is such a row.
    """
    if wrong.any():
        at = int(wrong.argmax())
        value = "" if values is None else f": {values[at]}"  # type: ignore[index]
        more = int(wrong.sum()) - 1
        raise UserError(f"{where}: row {row[at]} {what}{value}" + (f" (and {more} more such rows)" if more else ""))
