"""Styles of timestamps: the forms of their texts, and how each is read as datetime64[s]."""

import re
from contextlib import suppress
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError, to_one_line

# Parts of regular expressions of pyarrow and Python. Their groups are the fields that `_compose` reads.
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAME = (
    r"(?P<name>(?i:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?))\.?"
)
_YEAR, _RECENT_YEAR = r"(?P<year>\d{4})", r"(?P<year>(?:19|20)\d\d)"
_MONTH, _DAY, _HOUR = r"(?P<month>0?[1-9]|1[0-2])", r"(?P<day>0?[1-9]|[12]\d|3[01])", r"(?P<hour>[01]?\d|2[0-3])"
_MM, _DD, _HH = _MONTH.replace("0?", "0"), _DAY.replace("0?", "0"), _HOUR.replace("]?", "]")
_MINUTE, _SECOND, _FRACTION = r"(?P<minute>[0-5]\d)", r"(?P<second>[0-5]\d)", r"(?:[.,](?P<fraction>\d+))?"
_ZONE = r"(?: ?(?P<zone>[Zz]|UTC|GMT|(?P<sign>[+-])(?P<zone_hour>0\d|1[0-4])(?::?(?P<zone_minute>[0-5]\d))?))?"
_TIME = rf"(?:(?:T|:|,? +){_HOUR}(?::{_MINUTE}(?::{_SECOND}{_FRACTION})?)?(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?{_ZONE})?"
_WEEKDAY = r"(?:(?i:mon|tues?|wed(?:nes)?|thu(?:rs?)?|fri|sat(?:ur)?|sun)(?i:day)?\.?,? )?"
DAY_PATTERNS = (
    rf"{_WEEKDAY}{_DAY}[ /-]?{_NAME},?[ /-]?{_YEAR}{_TIME}",
    rf"{_WEEKDAY}{_NAME} {_DAY},? {_YEAR}{_TIME}",
    rf"{_YEAR}[ /-]{_NAME}[ /-]{_DAY}{_TIME}",
)
"""Days with the name of the month, with or without a time: `31 Jan 2024` and `Wed, Jan 31, 2024`."""
_PERIODS = (
    rf"{_YEAR}[ -]?[Qq](?P<quarter>[1-4])",
    rf"[Qq](?P<quarter>[1-4])[ -]{_YEAR}",
    rf"{_YEAR}[ -]?[Mm]{_MONTH}",
    rf"{_YEAR}[ -]?[Ww](?P<week>0?[1-9]|[1-4]\d|5[0-3])",
    rf"{_NAME}[ -]?{_YEAR}",
    rf"{_YEAR}[ -]?{_NAME}",
    rf"{_YEAR}[/-]{_MONTH}",
    rf"{_MONTH}[/-]{_YEAR}",
    _RECENT_YEAR + _MM,
)
PERIOD_PATTERN = "|".join(re.sub(r"\?P<\w+>", "?:", form) for form in _PERIODS)
"""Quarters, months and ISO weeks as in Eurostat (2024Q1, 2024M01, 2024W01), and months as Jan 2024 or 202401."""
_DIGITS = _RECENT_YEAR + _MM + _DD
FORMS: dict[str, tuple[str, ...]] = {
    "iso": (rf"{_YEAR}[/.-]{_MONTH}[/.-]{_DAY}{_TIME}", rf"{_YEAR}-{_MM}-{_DD} {_HH}-{_MINUTE}-{_SECOND}"),
    "day first": (rf"{_DAY}[/.-]{_MONTH}[/.-]{_YEAR}{_TIME}",),
    "month first": (rf"{_MONTH}[/.-]{_DAY}[/.-]{_YEAR}{_TIME}",),
    "named month": DAY_PATTERNS,
    "period": _PERIODS,
    "digits": (_DIGITS + _TIME, rf"{_DIGITS}[T ]?{_HH}(?:{_MINUTE}{_SECOND}?)?{_ZONE}"),
    "year": (r"(?P<year>1[7-9]\d\d|2[01]\d\d)",),
    "unix_s": (r"(?P<number>-?\d{1,11})" + _FRACTION,),
    "unix_ms": (r"(?P<number>-?\d{1,14})" + _FRACTION,),
    "steps": (r"(?P<number>-?\d{1,7})",),
    "excel": (r"(?P<number>[2-5]\d{4}|60000)(?:[.,](?P<day_fraction>\d+))?",),
    "iso_week": (_RECENT_YEAR + r"(?P<week>0[1-9]|[1-4]\d|5[0-3])",),
}
"""Forms of the texts of each style."""
_ROUNDED_SECONDS = 0.005
"""Difference of a fraction of a day from whole seconds that is a rounding of Excel's formulas."""
_EXCEL_EPOCH = 25569  # the day number of 1970-01-01
_FIRST_VALUES = 100  # pyarrow takes long to refuse many values


class Times(NamedTuple):
    """Values as read by one style."""

    local: np.ndarray  # local time, NaT for a value that does not fit: datetime64[s], [n]
    offset: np.ndarray  # local time minus UTC: timedelta64[s], [n]
    zoned: np.ndarray  # whether the value has a time zone: bool, [n]
    finer: np.ndarray  # whether the value has a fraction of a second: bool, [n]


def read_typed(column: pa.ChunkedArray) -> Times:
    """Return a column of the type timestamp or date."""
    column = column.cast(pa.timestamp("s"), safe=False) if pa.types.is_date(column.type) else column
    exact = column.cast(pa.timestamp(column.type.unit)).to_numpy()  # UTC if the type has a time zone
    utc, zoned = exact.astype("M8[s]"), column.type.tz is not None
    offset = np.broadcast_to(np.timedelta64(0, "s"), len(utc))
    local = utc
    if zoned:
        local = column.to_pandas().dt.tz_localize(None).to_numpy().astype("M8[s]")
        offset = local - utc
    return Times(local, offset, np.broadcast_to(zoned, len(utc)), exact != utc)


def read_texts(texts: pa.Array, style: str) -> Times:
    """Return texts as read by a style: a key of `FORMS`, or `format:` followed by a strptime format.

    Raises:
        UserError: pandas does not know the format.
    """
    if style.startswith("format:"):
        return _read_strptime(texts, style.removeprefix("format:"))
    padded, iso = r"^(\d\d)[/.-](\d\d)[/.-](\d{4})", {"day first": r"\3-\2-\1", "month first": r"\3-\1-\2"}.get(style)
    with suppress(pa.ArrowInvalid):  # the fast way
        if style == "iso":
            return _read_plain_iso(texts)
        if iso and pc.all(pc.match_substring_regex(texts, padded)).as_py():
            return _read_plain_iso(pc.replace_substring_regex(texts, padded, iso))
    times = _no_times(len(texts))
    for form in FORMS[style]:
        fields = pc.extract_regex(texts, f"^(?:{form})$")
        positions = np.flatnonzero(fields.is_valid())
        if len(positions):
            for result, values in zip(times, _compose(fields.drop_null(), style)):
                result[positions] = values
    return times


def _no_times(n: int) -> Times:
    return Times(np.full(n, "NaT", "M8[s]"), np.zeros(n, "m8[s]"), np.zeros(n, bool), np.zeros(n, bool))


def _read_plain_iso(texts: pa.Array) -> Times:
    """Return texts of the most frequent form, fast."""
    utc = re.search(r":\d\d(?:\.\d+)?(Z|[+]00:?00)$", str(texts[0]))
    is_utc = (
        utc is not None and pc.all(pc.match_substring_regex(texts, rf":\d\d(?:\.\d+)?{re.escape(utc[1])}$")).as_py()
    )
    plain = pc.utf8_slice_codeunits(texts, 0, -len(utc[1])) if utc and is_utc else texts
    plain[:_FIRST_VALUES].cast(pa.timestamp("us"))
    exact = plain.cast(pa.timestamp("us")).to_numpy()
    local = exact.astype("M8[s]")
    return Times(local, np.zeros(len(local), "m8[s]"), np.full(len(local), is_utc), exact != local)


def _read_strptime(texts: pa.Array, form: str) -> Times:
    import pandas as pd

    zoned, strings = "%z" in form, texts.to_pandas()
    try:
        if "%Z" in form or "%z" in form.rstrip()[:-2]:
            raise ValueError("a time zone is %z, an offset such as +0100, at its end")
        if "%p" in form and "%H" in form:
            raise ValueError("%p needs hours from 1 to 12, %I")
        utc = pd.to_datetime(strings, format=form, errors="coerce", utc=zoned).dt.tz_localize(None)
        if not re.search("%[YyGcDx]", form):
            raise ValueError("it has no year, such as %Y or %y")
        if zoned:  # the zone is at the end
            strings = strings.str.replace(r"\s*(?:Z|UTC|[+-]\d\d:?\d\d)$", "", regex=True)
        local = pd.to_datetime(strings, format=re.sub(r"\s*%z$", "", form), errors="coerce")
    except ValueError as error:
        raise UserError(
            f"data.timestamp_format {form!r} is not a strptime format: {to_one_line(error)}; "
            "write one such as '%d/%m/%Y', or unix_s, unix_ms, steps, iso_week or excel"
        ) from error
    local = local.where(utc.notna())
    if re.fullmatch("(?:%[YmdHMSyj])+", form):  # without separators, a number with fewer digits may be another date
        width = len(form) + 2 * form.count("%Y") + form.count("%j")
        local = local.where(strings.str.len() == width)
    seconds = local.to_numpy().astype("M8[s]")
    offset = (local - utc).to_numpy().astype("m8[s]")
    return Times(seconds, offset, np.full(len(seconds), zoned), local.to_numpy() != seconds)


def _compose(fields: pa.StructArray, style: str) -> Times:
    """Return the times of the fields of texts, NaT for a date that does not exist, such as 30 February."""
    names = [field.name for field in fields.type]

    def text(name: str) -> pa.Array:
        return pc.utf8_lower(fields.field(name)) if name in names else pa.repeat("", len(fields))

    def number(name: str, default: int = 0) -> np.ndarray:
        return pc.if_else(pc.equal(text(name), ""), str(default), text(name)).cast(pa.int64()).to_numpy()

    finer = np.asarray(pc.match_substring_regex(text("fraction"), "[1-9]"))
    if "number" in names:
        count = number("number")
        seconds = {"unix_ms": count // 1000, "excel": (count - _EXCEL_EPOCH) * 86400}.get(style, count)
        finer |= (count % 1000 != 0) & (style == "unix_ms")
        if "day_fraction" in names:
            fraction = pc.binary_join_element_wise("0.", text("day_fraction"), "0", "").cast(pa.float64()).to_numpy()
            seconds = seconds + np.rint(fraction * 86400).astype(np.int64)
            finer |= np.abs(fraction * 86400 - np.rint(fraction * 86400)) > _ROUNDED_SECONDS
        return _no_times(len(fields))._replace(local=seconds.astype("M8[s]"), finer=finer)
    month = 3 * number("quarter") - 2 if "quarter" in names else number("month", 1)
    if "name" in names:
        month = pc.index_in(pc.utf8_slice_codeunits(text("name"), 0, 3), value_set=pa.array(_MONTHS)).to_numpy() + 1
    year = number("year") - 1970
    first = year.astype("M8[Y]").astype("M8[M]") + (month - 1)
    date = first.astype("M8[D]") + (number("day", 1) - 1)
    is_date = date.astype("M8[M]") == first
    if "week" in names:
        fourth = date + 3  # 4 January is in the first week
        date = fourth - (fourth.astype(np.int64) + 3) % 7 + 7 * (number("week") - 1)
        is_date = (date + 3).astype("M8[Y]").astype(np.int64) == year
    hour, half, zone = number("hour"), text("half"), text("zone")
    has_half, zoned = np.asarray(pc.not_equal(half, "")), np.asarray(pc.not_equal(zone, ""))
    is_date &= ~has_half | ((hour >= 1) & (hour <= 12))
    is_date &= ~zoned | np.asarray(pc.not_equal(text("minute"), ""))  # 13-05 may be 13:05
    hour = np.where(has_half, hour % 12 + 12 * np.asarray(pc.equal(half, "p")), hour)
    seconds = 3600 * hour + 60 * number("minute") + number("second")
    offset = (3600 * number("zone_hour") + 60 * number("zone_minute")) * np.where(pc.equal(text("sign"), "-"), -1, 1)
    local = np.where(is_date, date.astype("M8[s]") + seconds, np.datetime64("NaT", "s"))
    return Times(local, offset.astype("m8[s]"), zoned, finer)


def suggest_format(text: str, style: str = "") -> str:
    """Return the data.timestamp_format that reads a text by a style, by default one with a year of two digits."""
    if style in ("period", "digits"):
        return "%Y%m%d%H%M%S"[: len(text) - 2]
    parts = re.findall(r"[A-Za-z]{3,}|\d+", text)
    month = "%b" if parts[1:] and parts[1].isalpha() else "%m"
    short = ("%b", "%y") if parts[0].isalpha() else (month, "%y") if len(parts) == 2 else ("%d", month, "%y")
    orders = {"day first": ("%d", "%m", "%Y"), "month first": ("%m", "%d", "%Y"), "": short}
    if style not in orders:
        return style.removeprefix("format:")
    has_half = re.search("(?i)[ap]m", text)
    fields = chain(orders[style], ("%I" if has_half else "%H", "%M", "%S"))
    text = re.sub(r"(?<=\d:\d\d) ?(?:Z|UTC|[+-]\d\d:?\d\d)$", "%z", text)
    text = re.sub(r"(?i)[a-z]{3,}|\d+", lambda part: next(fields, "%f"), text)
    return re.sub(r"(?i)[ap]m$", "%p", text)
