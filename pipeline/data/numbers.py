"""Columns of any type made numbers; of texts, with a decimal point or comma, with a mark between thousands or without."""

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
MISSING = ("", "na", "n/a", "nan", "null", "none", "-")
"""Texts, in lower case, that say that a value is missing."""
LARGEST, SMALLEST = 1e18, 1e-18
"""Models scale a series by a mean of squares, which float32 cannot hold of values beyond the first or all below the second."""
_ROWS_AT_ONCE = 1024
_DECIMAL_COMMA = r"^[+-]?[\d.]*,\d+$"


class DecimalMark:
    """The mark that fractions begin with in the texts of a file, told from as many of its blocks as it takes."""

    def __init__(self, where: object, delimiter: str) -> None:
        self._where = where
        self._delimiter = delimiter
        self._mark: Decimal = "auto"
        self._ungrouped = self._small = False

    def told(self, columns: Sequence[pa.ChunkedArray]) -> Decimal:
        """Return it as far as the blocks up to this one say: auto while none has a fraction or a mark between thousands.

        Raises:
            UserError: 1.006 among whole numbers below a thousand may be one and a bit, or a thousand and six.
        """
        if self._mark == "auto":
            chunks = [chunk for one in columns for chunk in pc.utf8_trim_whitespace(one).chunks]
            self._mark = self._of(pa.chunked_array(chunks, pa.string()))
        return self._mark

    def _of(self, texts: pa.ChunkedArray) -> Decimal:
        self._ungrouped = self._ungrouped or _any(pc.match_substring_regex(texts, r"^[+-]?\d{4,}$"))
        self._small = self._small or _any(pc.match_substring_regex(texts, r"^[+-]?\d{1,3}$"))
        marks = [mark for mark in _MARKS if _any(pc.match_substring(texts, mark))]
        grouped = {mark: _like(texts, _GROUPED, mark) for mark in marks}
        for mark in marks:
            if _any(pc.and_not(_like(texts, _FRACTION, mark), grouped[mark])):
                return mark
        for mark in marks:
            if _any(grouped[mark]):
                # Where a comma begins fractions, values are parted by semicolons.
                if self._ungrouped or (mark == "." and not self._small and self._delimiter != ";"):
                    return mark
                first = texts.filter(grouped[mark])[0]
                raise UserError(
                    f"{self._where}: {first} may be a fraction or a thousand and more; say with data.decimal which mark "
                    f"begins a fraction: '{mark}', or '{_OTHER[mark]}'"
                )
        return "auto"


def with_points(table: pa.Table, names: Sequence[str], decimal: Decimal, where: object, first_row: int) -> pa.Table:
    """Return a table whose named columns of texts have numbers with a decimal point, and no mark between thousands.

    Texts that are no numbers stay as they are.

    Args:
        decimal: what fractions begin with in them; with auto there are none.
        first_row: the number of its first row, for messages.

    Raises:
        UserError: a fraction begins with the other mark.
    """
    if decimal == "auto":
        return table
    other, row = _OTHER[decimal], np.arange(first_row, first_row + len(table))
    for name in names:
        if decimal == "." and not _any(pc.match_substring(table[name], ",")):
            continue  # as most tables are
        text = pc.utf8_trim_whitespace(table[name])
        number = pc.or_(_like(text, _FRACTION, decimal), _like(text, _GROUPED, other))
        wrong = pc.and_not(_like(text, _FRACTION, other), number).to_numpy()
        what = f"has a {name} whose fraction does not begin with {decimal!r} as the others' do; mend it, or set data.decimal"
        refuse_rows(wrong, row, SourceLocation(where), what, text)
        plain = pc.replace_substring(pc.replace_substring(text, other, ""), decimal, ".")
        table = table.set_column(table.column_names.index(name), name, pc.if_else(number, plain, text))
    return table


def float32_of(column: pa.ChunkedArray, row: np.ndarray, where: SourceLocation, name: str = "target") -> np.ndarray:
    """Return the numbers of a column, NaN where none is known: float32, [n].

    Raises:
        UserError: a value is no number, infinite, or beyond `LARGEST`; the message names the row.
    """
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        values = column.cast(pa.float64(), safe=False).to_numpy()
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        text = pc.utf8_trim_whitespace(column)
        try:
            values = text.cast(pa.float64()).to_numpy()
        except pa.ArrowInvalid:
            read = pd.to_numeric(text.to_pandas(), errors="coerce")
            wrong = (read.isna() & text.is_valid().to_pandas() & ~text.to_pandas().str.lower().isin(MISSING)).to_numpy()
            comma = pc.match_substring_regex(text, _DECIMAL_COMMA).fill_null(False).to_numpy()
            hint = " (write its decimals with a point)" if (wrong & comma).any() else ""
            refuse_rows(wrong, row, where, f"has a {name} that is no number{hint}", text)
            values = read.to_numpy(np.float64)
    else:
        raise UserError(
            f"{where}: the {name} column is of type {kind}, which is no number; name another with data.target"
        )
    refuse_rows(np.isinf(values), row, where, f"has an infinite {name}; leave it empty if it is missing")
    refuse_rows(np.abs(values) > LARGEST, row, where, f"has a {name} beyond {LARGEST:g}; divide the series")
    return values.astype(np.float32)


def too_large(values: np.ndarray) -> str | None:
    """Say in words what is wrong with values that no model can scale, None where nothing is."""
    if not (np.abs(values) > LARGEST).any():
        return None
    if np.isinf(values).any():
        return "holds an infinite value; write a missing one as NaN"
    return f"holds a value beyond {LARGEST:g}; divide the series"


def float32_of_array(values: np.ndarray, where: str) -> np.ndarray:
    """Return series of numbers, [n_series, length], as float32, NaN where they are masked.

    Raises:
        UserError: they are no numbers, or one is infinite, or beyond `LARGEST`; the message names its series.
    """
    if values.dtype.kind not in "iuf":
        raise UserError(f"{where} must hold numbers, got {values.dtype}")
    narrow = np.empty(values.shape, np.float32)
    for begin in range(0, len(values), _ROWS_AT_ONCE):
        some = slice(begin, begin + _ROWS_AT_ONCE)
        wide = np.ma.filled(values[some].astype(np.float64), np.nan)
        if (wrong := too_large(wide)) is not None:
            series = begin + int((np.abs(wide) > LARGEST).any(axis=1).argmax())
            raise UserError(f"{where}: series {series} {wrong}")
        narrow[some] = wide
    return narrow


def _like(texts: pa.ChunkedArray, form: str, mark: str) -> pa.ChunkedArray:
    pattern = form.replace("MARK", mark).replace("OTHER", _OTHER[mark])
    return pc.match_substring_regex(texts, pattern).fill_null(False)


def _any(found: pa.ChunkedArray) -> bool:
    return bool(pc.any(found).as_py())
