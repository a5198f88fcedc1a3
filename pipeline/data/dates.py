"""Parsing of timestamps; the format is inferred from all values of a column together."""

import contextlib
import re
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.data.rows import SourceLocation, distinct_values, refuse_rows, to_text

_ZONE = r"(?<=:\d{2})(?P<fraction>\.\d+)?\s*(?P<zone>[Zz]|(?P<sign>[+-])(?P<hours>\d{2})(?::?(?P<minutes>\d{2}))?)$"
_DOTTED = r"^\d{1,2}\."
_SLASHED = r"^(\d{1,2})[/.-](\d{1,2})[/.-](\d{4})"

_MONTHS = "January February March April May June July August September October November December".split()
_MONTH = r"(?P<month>{})\.?".format("|".join(rf"{name[:3]}(?:{name[3:]})?" for name in _MONTHS))
_UNNAMED_MONTH = _MONTH.replace("?P<month>", "?:")

PERIOD_PATTERN = (
    r"(?i:\d{4}[ -]?(?:Q[1-4]|M(?:0?[1-9]|1[0-2])|W(?:0?[1-9]|[1-4]\d|5[0-3]))|Q[1-4][ -]\d{4}"
    rf"|{_UNNAMED_MONTH}[ -]\d{{4}}|\d{{4}}[ -]{_UNNAMED_MONTH})|(?:19|20)\d{{2}}(?:0[1-9]|1[0-2])"
)
"""Quarters, months and ISO weeks as in Eurostat (2024Q1, 2024M01, 2024W01), and months as Jan 2024 or 202401."""
DAY_PATTERNS = (
    rf"(?i)^(?:[a-z]{{3,9}}\.?,? )?(?P<day>\d{{1,2}})[ -]{_MONTH},?[ -](?P<year>\d{{4}})(?P<time>(?: \d[\d:.]*)?)$",
    rf"(?i)^(?:[a-z]{{3,9}}\.?,? )?{_MONTH} (?P<day>\d{{1,2}}),? (?P<year>\d{{4}})(?P<time>(?: \d[\d:.]*)?)$",
)
"""Days with the name of the month, with or without a time: `31 Jan 2024` and `Wed, Jan 31, 2024`."""
# Seconds from 1973 to 2029, milliseconds from 2001 to 2029: digits that begin with 19 or 20 may be a date and an hour.
_UNIX = {"s": r"(-?\d{9}|1[0-8]\d{8})(\.0+)?", "ms": r"1[0-8]\d{11}(\.0+)?"}
_DIGITS = r"(?P<day>(?:19|20)\d{6})(?P<hour>\d\d)(?P<minute>\d\d)?(?P<second>\d\d)?"
"""Date and hour in digits, with or without minutes and seconds: `2024013113`."""


def parse_timestamps(column: pa.ChunkedArray, rows: np.ndarray, location: SourceLocation) -> np.ndarray:
    """Return the timestamps of a column without a time zone: datetime64[s], [n].

    Timestamps with a time zone become local time if all are midnights, else UTC, which has no repeated hours.

    Args:
        rows: number of each row in the source, for messages, [n].

    Raises:
        UserError: a value is missing, not a date, ambiguous, or finer than a second; the message names the row.
    """
    refuse_rows(column.is_null().to_numpy(), rows, location, "has no timestamp")
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        stamps = column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).to_pandas()
        if stamps.dt.tz is not None:
            local = stamps.dt.tz_localize(None)
            stamps = local if _all_midnights(local) else stamps.dt.tz_convert("UTC").dt.tz_localize(None)
    else:
        # Series share their timestamps, so there are few distinct strings to parse.
        texts = to_text(column)
        distinct, first = distinct_values(texts)
        index = texts.combine_chunks().dictionary_encode().indices.to_numpy()
        stamps = _parse_texts(distinct.to_pandas(), rows[first], location).iloc[index]
    values = stamps.to_numpy().astype("M8[us]")
    seconds = values.astype("M8[s]")
    problem = "has a timestamp finer than a second, the resolution of the Arrow store"
    refuse_rows(values != seconds, rows, location, problem)
    return seconds


def _all_midnights(stamps: pd.Series) -> bool:
    return bool((stamps == stamps.dt.normalize()).all())


def _parse_texts(text: pd.Series, rows: np.ndarray, location: SourceLocation) -> pd.Series:
    """Return strings as timestamps; those with time zones as local time if all are midnights, else in UTC."""
    zones = text.str.extract(_ZONE)
    has_zone = zones["zone"].notna().to_numpy()
    problem = "has a time zone, unlike the first row" if not has_zone[0] else "has no time zone, unlike the first row"
    refuse_rows(has_zone != has_zone[0], rows, location, problem, text, "write all timestamps in the same way")
    if not has_zone[0]:
        return _parse_dates(text, rows, location)
    local = _parse_dates(text.str.replace(_ZONE, r"\g<fraction>", regex=True), rows, location)
    if _all_midnights(local):
        return local
    minutes = zones["hours"].fillna("0").astype(int) * 60 + zones["minutes"].fillna("0").astype(int)
    return local - pd.to_timedelta(minutes.where(zones["sign"] != "-", -minutes), unit="min")


def _parse_dates(text: pd.Series, rows: np.ndarray, location: SourceLocation) -> pd.Series:
    """Return strings without time zones as timestamps, by the one format that fits all of them."""
    with contextlib.suppress(ValueError):  # the most frequent format, which no other one can be mistaken for
        return pd.to_datetime(text, format="ISO8601")
    for unit, pattern in _UNIX.items():
        if text.str.fullmatch(pattern).all():
            return pd.to_datetime(text.astype("float64").astype("int64"), unit=unit)
    normal = _to_iso(text)
    options: dict[str, Any] = {"format": "ISO8601"}
    if (day_first := _is_day_first(normal, location)) is not None:
        options = {"dayfirst": day_first}
    try:
        return pd.to_datetime(normal, **options)
    except ValueError:
        invalid = pd.to_datetime(normal, errors="coerce", **options).isna().to_numpy()
        advice = "write it as 2024-01-31 13:00:00"
        if normal.str.fullmatch(r"\d+").all():
            advice += ", or leave the column out if it only counts steps"
        refuse_rows(invalid, rows, location, "has a timestamp that is not a date", text, advice)
        raise AssertionError("pandas parses every timestamp alone, but not together") from None


def _to_iso(text: pd.Series) -> pd.Series:
    """Return dates with named months, dates in digits and periods in the format of ISO 8601, others as they are."""
    for pattern in DAY_PATTERNS:
        text = text.str.replace(pattern, _format_named_day, regex=True)
    if text.str.fullmatch(_DIGITS).all():
        text = text.str.replace(_DIGITS, r"\g<day>T\g<hour>\g<minute>\g<second>", regex=True)
    period = text.str.fullmatch(PERIOD_PATTERN)
    return text.mask(period, text[period].map(_first_day)) if period.any() else text


def _is_day_first(text: pd.Series, location: SourceLocation) -> bool | None:
    """Return whether dates such as 31/1/2024 start with the day, None if not all dates are of this form.

    Raises:
        UserError: both orders are possible.
    """
    slashed = text.str.extract(_SLASHED).astype(float)
    if not slashed[0].notna().all():
        return None
    day_first, month_first = bool((slashed[0] > 12).any()), bool((slashed[1] > 12).any())
    # Dates with dots have the day first by convention; slashes and dashes are used for both orders.
    day_first = day_first or (not month_first and bool(text.str.contains(_DOTTED).all()))
    if day_first == month_first:
        raise UserError(f"{location}: timestamps such as {text.iloc[0]} can mean two days; write them as 2024-01-31")
    return day_first


def _format_named_day(match: re.Match[str]) -> str:
    return f"{match['year']}-{_month_number(match['month']):02}-{int(match['day']):02}{match['time']}"


def _month_number(name: str) -> int:
    return 1 + [month[:3] for month in _MONTHS].index(name[:3].title())


def _first_day(period: str) -> str:
    """Return the first day of a period, or the string itself if there is no such period."""
    year = int(re.findall(r"\d{4}", period)[0])
    month = re.findall("[A-Za-z]{3,}", period)
    if month:
        kind, number = "M", _month_number(month[0])
    elif period.isdigit():
        kind, number = "M", int(period[4:])
    else:
        kind, number = next((kind, int(number)) for kind, number in re.findall(r"([QMW])(\d{1,2})", period.upper()))
    try:
        if kind == "W":
            return date.fromisocalendar(year, number, 1).isoformat()
        return date(year, 3 * number - 2 if kind == "Q" else number, 1).isoformat()
    except ValueError:
        return period
