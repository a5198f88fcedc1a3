"""Numbers as texts: with a decimal point or a decimal comma, with a mark between thousands or without."""

from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import UserError

Decimal = Literal["auto", ".", ","]

_OTHER: dict[str, Decimal] = {".": ",", ",": "."}
_FRACTION = r"^[+-]?(\d+|\d{1,3}([OTHER]\d{3})+)?[MARK]\d+([eE][+-]?\d+)?$"
_GROUPED = r"^[+-]?[1-9]\d{0,2}([MARK]\d{3})+$"


def told_decimal(columns: Sequence[pa.ChunkedArray], where: object) -> Decimal:
    """Return the mark that fractions begin with in texts, a point where none has a fraction.

    Raises:
        UserError: 1.006 among whole numbers below a thousand may be one and a bit, or a thousand and six.
    """
    texts = pa.chunked_array([chunk for one in columns for chunk in pc.utf8_trim_whitespace(one).chunks], pa.string())
    grouped = {mark: _like(texts, _GROUPED, mark) for mark in _OTHER}
    for mark in _OTHER:
        if _any(pc.and_not(_like(texts, _FRACTION, mark), grouped[mark])):
            return "," if mark == "," else "."
    for mark, other in _OTHER.items():
        if _any(grouped[mark]):
            ungrouped = _any(pc.match_substring_regex(texts, r"^[+-]?\d{4,}$"))
            alone = not _any(pc.match_substring_regex(texts, r"^[+-]?\d{1,3}$"))
            if ungrouped or (alone and mark == "."):
                return "," if mark == "," else "."
            first = texts.filter(grouped[mark])[0]
            raise UserError(
                f"{where}: {first} may be a fraction or a thousand and more; say with data.decimal which mark begins a "
                f"fraction: '{mark}', or '{other}'"
            )
    return "."


def with_points(column: pa.ChunkedArray, decimal: Decimal) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return texts whose numbers have a decimal point and no mark between thousands, and which have the other mark's fractions.

    Texts that are no numbers stay as they are.
    """
    other = _OTHER[decimal]
    text = pc.utf8_trim_whitespace(column)
    number = pc.or_(_like(text, _FRACTION, decimal), _like(text, _GROUPED, other))
    plain = pc.replace_substring(pc.replace_substring(text, other, ""), decimal, ".")
    return pc.if_else(number, plain, text), pc.and_not(_like(text, _FRACTION, other), number)


def _like(texts: pa.ChunkedArray, form: str, mark: str) -> pa.ChunkedArray:
    pattern = form.replace("MARK", mark).replace("OTHER", _OTHER[mark])
    return pc.match_substring_regex(texts, pattern).fill_null(False)


def _any(found: pa.ChunkedArray) -> bool:
    return bool(pc.any(found).as_py())
