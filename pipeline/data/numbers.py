"""Conversion of columns of any type to float32, of strings with either decimal separator and thousands separators."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError
from pipeline.data.rows import SourceLocation, refuse_rows

Decimal = Literal["auto", ".", ","]

_MARKS: tuple[Decimal, Decimal] = (".", ",")
_OTHER: dict[str, Decimal] = {".": ",", ",": "."}
_FRACTION = r"^[+-]?(\d+|\d{1,3}([OTHER]\d{3})+)?[MARK]\d+([eE][+-]?\d+)?$"
_GROUPED = r"^[+-]?[1-9]\d{0,2}([MARK]\d{3})+$"
_DECIMAL_COMMA = r"^[+-]?[\d.]*,\d+$"
MISSING = ("", "na", "n/a", "nan", "null", "none", "-")
"""Strings, in lower case, that mean a missing value: those of pandas, R and spreadsheets."""
MAX_MAGNITUDE, MIN_MAGNITUDE = 1e18, 1e-18
"""Magnitudes that models can scale: they compute a mean of squares in float32, whose limits are 1e-38 and 3e38."""
_ROWS_AT_ONCE = 1024  # keeps the float64 copies of an array small


class DecimalDetector:
    """Detect the decimal separator of a CSV file from as many of its blocks as needed."""

    def __init__(self, file: object, delimiter: str) -> None:
        self._file = file
        self._delimiter = delimiter
        self._mark: Decimal = "auto"
        self._has_ungrouped = self._has_small = False

    def detect(self, columns: Sequence[pa.ChunkedArray]) -> Decimal:
        """Return the decimal separator that the next block, or an earlier one, shows; auto while none shows any.

        Args:
            columns: the columns of numbers of the block, as strings.

        Raises:
            UserError: the numbers are ambiguous: among whole numbers below 1000, 1.006 may be 1.006 or 1006.
        """
        if self._mark == "auto":
            chunks = [chunk for column in columns for chunk in pc.utf8_trim_whitespace(column).chunks]
            self._mark = self._detect_mark(pa.chunked_array(chunks, pa.string()))
        return self._mark

    def _detect_mark(self, texts: pa.ChunkedArray) -> Decimal:
        self._has_ungrouped = self._has_ungrouped or _any(pc.match_substring_regex(texts, r"^[+-]?\d{4,}$"))
        self._has_small = self._has_small or _any(pc.match_substring_regex(texts, r"^[+-]?\d{1,3}$"))
        marks = [mark for mark in _MARKS if _any(pc.match_substring(texts, mark))]
        grouped = {mark: _matches(texts, _GROUPED, mark) for mark in marks}
        for mark in marks:
            if _any(pc.and_not(_matches(texts, _FRACTION, mark), grouped[mark])):
                return mark
        for mark in marks:
            if _any(grouped[mark]):
                # If other numbers above 999 have no thousands separator, the mark is none. Files with decimal commas
                # are delimited by semicolons, so in other files 1.006 is a fraction if there are no whole numbers.
                if self._has_ungrouped or (mark == "." and not self._has_small and self._delimiter != ";"):
                    return mark
                first = texts.filter(grouped[mark])[0]
                raise UserError(
                    f"{self._file}: {first} may be a fraction or a number above 999; set data.decimal to the decimal "
                    f"separator, '{mark}' or '{_OTHER[mark]}'"
                )
        return "auto"


def normalize_decimals(
    table: pa.Table, names: Sequence[str], decimal: Decimal, file: object, first_row: int
) -> pa.Table:
    """Return a table whose numbers, as strings, have a decimal point and no thousands separators.

    Strings that are not numbers are left as they are.

    Args:
        names: the columns of numbers.
        decimal: the decimal separator of the table; auto if its numbers have no fractions.
        file: the file, for messages.
        first_row: number of the first row, for messages.

    Raises:
        UserError: a fraction has the other decimal separator.
    """
    if decimal == "auto":
        return table
    other, rows = _OTHER[decimal], np.arange(first_row, first_row + len(table))
    for name in names:
        if decimal == "." and not _any(pc.match_substring(table[name], ",")):
            continue  # the most frequent case, and already normal
        text = pc.utf8_trim_whitespace(table[name])
        number = pc.or_(_matches(text, _FRACTION, decimal), _matches(text, _GROUPED, other))
        invalid = pc.and_not(_matches(text, _FRACTION, other), number).to_numpy()
        problem = f"has a {name} with the decimal separator {other!r}, where others have {decimal!r}"
        refuse_rows(invalid, rows, SourceLocation(file), problem, text, "fix the row, or set data.decimal")
        normal = pc.replace_substring(pc.replace_substring(text, other, ""), decimal, ".")
        table = table.set_column(table.column_names.index(name), name, pc.if_else(number, normal, text))
    return table


def to_float32(column: pa.ChunkedArray, rows: np.ndarray, location: SourceLocation, name: str = "target") -> np.ndarray:
    """Return a column as numbers, NaN for a missing value: float32, [n].

    Args:
        rows: number of each row in the source, for messages, [n].
        name: name of the column, for messages.

    Raises:
        UserError: a value is not a number, infinite, or beyond `MAX_MAGNITUDE`; the message names the row.
    """
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        values = column.cast(pa.float64(), safe=False).to_numpy()
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values = _parse_numbers(pc.utf8_trim_whitespace(column), rows, location, name)
    else:
        raise UserError(
            f"{location}: the {name} column has the type {kind}, not numbers; name another column with data.target"
        )
    refuse_rows(
        np.isinf(values), rows, location, f"has an infinite {name}", advice="leave the cell empty if it is missing"
    )
    too_large = np.abs(values) > MAX_MAGNITUDE
    refuse_rows(too_large, rows, location, f"has a {name} beyond {MAX_MAGNITUDE:g}", advice="divide the series")
    return values.astype(np.float32)


def _parse_numbers(text: pa.ChunkedArray, rows: np.ndarray, location: SourceLocation, name: str) -> np.ndarray:
    """Return strings as numbers, NaN for those in `MISSING`: float64, [n].

    Raises:
        UserError: a string is not a number; the message names the row.
    """
    try:
        return text.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        strings = text.to_pandas()
        numbers = pd.to_numeric(strings, errors="coerce")
        invalid = (numbers.isna() & text.is_valid().to_pandas() & ~strings.str.lower().isin(MISSING)).to_numpy()
        comma = pc.match_substring_regex(text, _DECIMAL_COMMA).fill_null(False).to_numpy()
        advice = "leave the cell empty if the value is missing"
        if (invalid & comma).any():
            advice = "write a decimal point, not a comma"
        refuse_rows(invalid, rows, location, f"has a {name} that is not a number", text, advice)
        return numbers.to_numpy(np.float64)


def find_extreme_value(values: np.ndarray) -> str | None:
    """Return a description of a value that no model can scale, None if there is none."""
    if not (np.abs(values) > MAX_MAGNITUDE).any():
        return None
    if np.isinf(values).any():
        return "contains an infinite value; write NaN for a missing value"
    return f"contains a value beyond {MAX_MAGNITUDE:g}; divide the series"


def array_to_float32(values: np.ndarray, location: str) -> np.ndarray:
    """Return an array of series as float32, NaN for masked values: [n_series, length].

    Args:
        values: [n_series, length].
        location: name of the array, for messages.

    Raises:
        UserError: the values are not numbers, infinite, or beyond `MAX_MAGNITUDE`; the message names the series.
    """
    if values.dtype.kind not in "iuf":
        raise UserError(f"{location} must contain numbers, got {values.dtype}")
    converted = np.empty(values.shape, np.float32)
    for begin in range(0, len(values), _ROWS_AT_ONCE):
        block = slice(begin, begin + _ROWS_AT_ONCE)
        wide = np.ma.filled(values[block].astype(np.float64), np.nan)
        if (problem := find_extreme_value(wide)) is not None:
            series = begin + int((np.abs(wide) > MAX_MAGNITUDE).any(axis=1).argmax())
            raise UserError(f"{location}: series {series} {problem}")
        converted[block] = wide
    return converted


def _matches(texts: pa.ChunkedArray, form: str, mark: str) -> pa.ChunkedArray:
    pattern = form.replace("MARK", mark).replace("OTHER", _OTHER[mark])
    return pc.match_substring_regex(texts, pattern).fill_null(False)


def _any(values: pa.ChunkedArray) -> bool:
    return bool(pc.any(values).as_py())
