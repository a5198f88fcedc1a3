"""Numbers in columns: the decimal separator of texts, decided from whole columns, and conversion to float64."""

import contextlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError
from pipeline.data.rows import SourceLocation, is_text, refuse_rows

Mark = Literal[".", ","]

MISSING = ("", "na", "n/a", "nan", "null", "none", "-")
"""Texts, in lower case, that mean a missing number: those of pandas, R and spreadsheets."""
MAX_MAGNITUDE, MIN_MAGNITUDE = 1e18, 1e-18
"""Magnitudes that models can scale: they compute a mean of squares in float32, whose limits are 1e-38 and 3e38."""
_ROWS_AT_ONCE = 1024  # keeps the float64 copies of an array small
_FIRST_ROWS = 1000  # most columns of fractions show their decimal separator here, so that later rows cost nothing

_OTHER: dict[Mark, Mark] = {".": ",", ",": "."}
_SPACES, _QUOTES = " \u00a0\u2009\u202f", "'\u2019"  # separate thousands with either decimal separator
_PLAIN = r"(?:\d+(?:MARK\d*)?|MARK\d+)(?:[eE][+-]?\d+)?|(?i:inf(?:inity)?|nan(?:\(\w*\))?)"
_GROUPED = rf"[1-9]\d{{0,2}}(?:(?:OTHER\d{{3}})+|(?:[{_SPACES}]\d{{3}})+|(?:[{_QUOTES}]\d{{3}})+)(?:MARK\d*)?"
_INDIAN = r"[1-9]\d?(?:,\d\d)+,\d{3}(?:\.\d*)?"  # 12,34,567: groups of two beyond the first thousand
_FORMS: dict[Mark, str] = {
    ".": rf"^[+-]?(?:{_PLAIN}|{_GROUPED}|{_INDIAN})$".replace("MARK", r"\.").replace("OTHER", ","),
    ",": rf"^[+-]?(?:{_PLAIN}|{_GROUPED})$".replace("MARK", ",").replace("OTHER", r"\."),
}
"""Texts that are numbers, for each decimal separator."""
_AMBIGUOUS = r"^[+-]?[1-9]\d{0,2}[.,]\d{3}$"
_UNPROVEN = r"^[+-]?(?:\d+|[1-9]\d{0,2}[.,]\d{3})$"
_LISTED_NUMBER = r"(?i)[+-]?(?:\d+(?:[.,]\d*)?(?:e[+-]?\d+)?|inf)"
CURRENCIES = "[$\u20ac\u00a3\u00a5\u20b9\u20bd\u20a9\u00a2]"
_ADVICE = {
    CURRENCIES: "remove the {}",
    "%": "write 12% as 12 or 0.12",
    "^(?i:true|false)$": "write 1 or 0",
    r"^\(": "write (5) as -5",
    "[\u2212\u2013]": "write the minus sign as a hyphen: -5",
    r"\d ?-$": "write 5- as -5",
    r"\d": "write only the number",
    "": "leave the cell empty if the value is missing, or list it in data.missing_values",
}
"""How to fix a text that is not a number, by the first form that occurs in it."""
NUMBER_TYPES = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)
"""Checks of the types that are numbers, of which booleans are 0 and 1."""


@dataclass(frozen=True)
class NumberFormat:
    """How the numbers of a column are read."""

    decimal: Mark | None = None
    """Decimal separator; None if the column is typed, or if no text has a point or comma."""

    def describe(self) -> str:
        """Return the format in words."""
        return {".": "number, decimal point", ",": "number, decimal comma", None: "number"}[self.decimal]


class NumberEvidence:
    """Find the first text of a column that can be a number with only one of the two decimal separators."""

    def __init__(self, name: str, missing: Collection[str] = ()) -> None:
        """Start without evidence; `missing` are the texts of `parse_numbers`."""
        self.name, self._missing = name, missing
        self.decimal: Mark | None = None
        """The decimal separator that a text shows."""
        self.example: str | None = None
        """The text that shows it, or the first ambiguous text; None if no text has a point or comma."""
        self.row = 0
        """The row of the example."""

    def add(self, column: pa.ChunkedArray | pa.Array, rows: np.ndarray | int) -> None:
        """Examine the next batch of the column; a typed batch has no evidence.

        Args:
            rows: number of each row in the source, or of the first one if they are consecutive, for messages.
        """
        for part in (slice(0, _FIRST_ROWS), slice(_FIRST_ROWS, len(column))):
            if self.decimal is None and is_text(column.type):
                texts = column[part].cast(pa.string())
                if _any(texts, ".") or _any(texts, ","):
                    numbers = rows + np.arange(len(column)) if np.ndim(rows) == 0 else np.asarray(rows)
                    self._search(_known_texts(texts, self._missing), numbers[part])

    def _search(self, texts: pa.ChunkedArray | pa.Array, rows: np.ndarray) -> None:
        positions = np.flatnonzero(~_matches(texts, _UNPROVEN))
        others = texts.take(positions)
        point, comma = _matches(others, _FORMS["."]), _matches(others, _FORMS[","])
        ambiguous = _matches(texts, _AMBIGUOUS)
        if (point != comma).any():
            proof = int((point != comma).argmax())
            self.decimal = "." if point[proof] else ","
            self.example, self.row = others[proof].as_py(), int(rows[positions[proof]])
        elif self.example is None and ambiguous.any():
            self.example, self.row = texts[int(ambiguous.argmax())].as_py(), int(rows[ambiguous.argmax()])


def decide_numbers(
    evidence: Mapping[str, NumberEvidence],
    decimal: Literal["auto", ".", ","],
    remembered: Mapping[str, NumberFormat],
    location: SourceLocation,
) -> dict[str, NumberFormat]:
    """Return the format of each column of numbers of a source.

    The decimal separator is the first of: `data.decimal`, the one that the column shows, the one that other columns
    show, the remembered one.

    Args:
        evidence: of every batch, by column.
        decimal: data.decimal.
        remembered: formats of the same columns in the model's or the history's table.

    Raises:
        UserError: all numbers of a column are ambiguous, or they contradict the remembered format.
    """
    proven = {found.decimal for found in evidence.values() if found.decimal}
    shared = proven.pop() if len(proven) == 1 else None
    formats = {}
    for name, found in evidence.items():
        known = remembered.get(name, NumberFormat()).decimal
        mark = (found.decimal or shared or known) if decimal == "auto" else decimal
        if found.example is None:
            mark = known
        elif mark is None:
            readings = re.sub("[.,]", ".", found.example), re.sub("[.,]", "", found.example)
            raise UserError(
                f"{location}: {location.describe_row(found.row)} has a {found.name} that may be {' or '.join(readings)}"
                f": {found.example}; set data.decimal to '.' or ','"
            )
        elif decimal == "auto" and known and mark != known:
            raise UserError(
                f"{location}: {location.describe_row(found.row)} has a {found.name} with the decimal separator "
                f"{mark!r}: {found.example}; the model or history has {known!r}: write both alike, or set "
                f"data.decimal {mark!r}"
            )
        formats[name] = NumberFormat(mark)
    return formats


def listed_numbers(missing: Collection[str]) -> list[float]:
    """Return the numbers among the texts that mean a missing value."""
    return [float(text.replace(",", ".")) for text in missing if re.fullmatch(_LISTED_NUMBER, text.strip())]


def parse_numbers(
    column: pa.ChunkedArray | pa.Array,
    number_format: NumberFormat,
    rows: np.ndarray,
    location: SourceLocation,
    name: str = "target",
    missing: Collection[str] = (),
) -> np.ndarray:
    """Return a column as numbers, NaN for a missing value and 1 or 0 for a boolean: float64, [n].

    Args:
        rows: number of each row in the source, for messages, [n].
        name: name of the column, for messages.
        missing: texts that mean a missing value, beside `MISSING`; numbers among them are missing in typed columns too.

    Raises:
        UserError: a value is not a number, infinite, or beyond `MAX_MAGNITUDE`; the message names the row.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    column = pa.chunked_array([column] if isinstance(column, pa.Array) else column.chunks, column.type).cast(kind)
    if is_text(kind):
        values = _parse_texts(column.cast(pa.string()), number_format.decimal or ".", missing, name, rows, location)
    elif any(check(kind) for check in NUMBER_TYPES):
        values = to_float64(column).to_numpy()
    else:
        raise UserError(
            f"{location}: the column {name} has the type {kind}, not numbers; convert it, or name another column with "
            f"{'data.target' if name == 'target' else 'the key that names it'}"
        )
    if numbers := listed_numbers(missing):
        listed = np.array(numbers, np.float32 if pa.types.is_float32(kind) else np.float64)
        values = np.where(np.isin(values, listed), np.nan, values)
    advice = "leave the cell empty if it is missing"
    refuse_rows(np.isinf(values), rows, location, f"has an infinite {name}", advice=advice)
    too_large = np.abs(values) > MAX_MAGNITUDE
    refuse_rows(
        too_large, rows, location, f"has a {name} beyond {MAX_MAGNITUDE:g}", advice="divide the series by a constant"
    )
    return values


def to_float64(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of one of `NUMBER_TYPES` as float64."""
    if pa.types.is_decimal(column.type):  # pyarrow's cast of decimals to float64 is not exact
        column = column.cast(pa.string())
    return column.cast(pa.float64(), safe=False)


def _parse_texts(
    texts: pa.ChunkedArray, mark: Mark, missing: Collection[str], name: str, rows: np.ndarray, location: SourceLocation
) -> np.ndarray:
    if mark == "." and (values := _cast(texts)) is not None:  # the most frequent form
        return values
    texts = _known_texts(texts, missing)
    if mark == "." and (values := _cast(texts)) is not None:
        return values
    booleans = pc.index_in(pc.utf8_lower(texts), value_set=pa.array(["false", "true"]))
    if booleans.null_count < len(booleans):
        others = texts.filter(booleans.is_null()).drop_null()
        if pc.all(pc.is_in(others, value_set=pa.array(["0", "1"])), min_count=0).as_py():  # also if there are none
            texts = pc.coalesce(booleans.cast(pa.string()), texts)
    invalid = texts.is_valid().to_numpy() & ~_matches(texts, _FORMS[mark])
    if invalid.any():
        advice = _advise(texts[int(invalid.argmax())].as_py(), mark)
        refuse_rows(invalid, rows, location, f"has a {name} that is not a number", texts, advice)
    texts = pc.replace_substring_regex(texts, f"[{_OTHER[mark]}{_SPACES}{_QUOTES}]", "")
    return pc.replace_substring(texts, mark, ".").cast(pa.float64()).to_numpy()


def _cast(texts: pa.ChunkedArray) -> np.ndarray | None:
    with contextlib.suppress(pa.ArrowInvalid):
        texts.slice(0, _FIRST_ROWS).cast(pa.float64())  # pyarrow takes long to refuse many values
        return texts.cast(pa.float64()).to_numpy()
    return None


def neutral_text(number: int | float | Decimal | None) -> str | None:
    """Return a number as a text such as 1234e-3, which has one reading with either decimal separator."""
    if number is None or not Decimal(number).is_finite():
        return None if number is None else str(number)
    sign, digits, exponent = Decimal(str(number)).as_tuple()
    return f"{'-' * sign}{''.join(map(str, digits))}e{exponent}" if exponent else str(number)


def plain_text(text: str) -> str:
    """Return the text of a number that `neutral_text` wrote as people write it, such as 1.234; any other as it is."""
    if not re.fullmatch(r"-?\d+e-\d+", text):  # a whole number has no exponent, unlike a code such as 1e2
        return text
    plain = format(Decimal(text), "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _advise(text: str, mark: Mark) -> str:
    if re.search(_FORMS[_OTHER[mark]], text, re.ASCII):
        return f"the decimal separator of the column is {mark!r}: fix the row, or set data.decimal"
    if re.search(r"\d", text) and not re.search(r"\d", text, re.ASCII):
        return "write the digits 0 to 9"
    found = ((re.search(form, text), advice) for form, advice in _ADVICE.items())
    return next(advice.format(match[0]) for match, advice in found if match)


def _known_texts(texts: pa.ChunkedArray | pa.Array, missing: Collection[str]) -> pa.ChunkedArray | pa.Array:
    """Return texts without outer spaces, null for those that mean a missing value."""
    texts = pc.utf8_trim_whitespace(texts)
    words = pc.is_in(pc.utf8_lower(texts), value_set=pa.array(MISSING))
    listed = pc.is_in(texts, value_set=pa.array([text.strip() for text in missing], pa.string()))
    return pc.if_else(pc.or_(words, listed), pa.scalar(None, pa.string()), texts)


def _any(texts: pa.ChunkedArray | pa.Array, mark: str) -> bool:
    return bool(pc.any(pc.match_substring(texts, mark)).as_py())


def _matches(texts: pa.ChunkedArray | pa.Array, form: str) -> np.ndarray:
    return pc.match_substring_regex(texts, form).fill_null(False).to_numpy(zero_copy_only=False)


def find_extreme_value(values: np.ndarray) -> str | None:
    """Return a description of a value that no model can scale, None if there is none."""
    if not (np.abs(values) > MAX_MAGNITUDE).any():
        return None
    if np.isinf(values).any():
        return "contains an infinite value; write NaN for a missing value"
    return f"contains a value beyond {MAX_MAGNITUDE:g}; divide the series by a constant"


def array_to_float32(values: np.ndarray, location: str, missing: Collection[float] = ()) -> np.ndarray:
    """Return an array of series as float32, NaN for masked values: [n_series, length].

    Args:
        values: [n_series, length].
        location: name of the array, for messages.
        missing: numbers that mean a missing value.

    Raises:
        UserError: the values are not numbers, infinite, or beyond `MAX_MAGNITUDE`; the message names the series.
    """
    if values.dtype.kind not in "iuf":
        raise UserError(f"{location} must contain numbers, got {values.dtype}; convert it with .astype(float)")
    converted = np.empty(values.shape, np.float32)
    for begin in range(0, len(values), _ROWS_AT_ONCE):
        block = slice(begin, begin + _ROWS_AT_ONCE)
        wide = np.ma.filled(values[block].astype(np.float64), np.nan)
        if missing:
            with np.errstate(over="ignore"):  # a number beyond float32
                listed = np.array(missing).astype(values.dtype if values.dtype.kind == "f" else np.float64)
            wide[np.isin(wide, listed.astype(np.float64))] = np.nan
        if (problem := find_extreme_value(wide)) is not None:
            series = begin + int((np.abs(wide) > MAX_MAGNITUDE).any(axis=1).argmax())
            raise UserError(f"{location}: series {series} {problem}")
        converted[block] = wide
    return converted
