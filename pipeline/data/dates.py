"""Timestamps in any form that tables have them in, told from all values together."""

import contextlib
import re
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.data.rows import SourceLocation, distinct_of, refuse_rows, text_of

_ZONE = r"(?<=:\d{2})(?P<fraction>\.\d+)?\s*(?P<zone>[Zz]|(?P<sign>[+-])(?P<hours>\d{2})(?::?(?P<minutes>\d{2}))?)$"
_DOTTED = r"^\d{1,2}\."
_SLASHED = r"^(\d{1,2})[/.-](\d{1,2})[/.-](\d{4})"

_MONTHS = "January February March April May June July August September October November December".split()
_MONTH = r"(?P<month>{})\.?".format("|".join(rf"{name[:3]}(?:{name[3:]})?" for name in _MONTHS))
_UNNAMED_MONTH = _MONTH.replace("?P<month>", "?:")

PERIOD = (
    r"(?i:\d{4}[ -]?(?:Q[1-4]|M(?:0?[1-9]|1[0-2])|W(?:0?[1-9]|[1-4]\d|5[0-3]))|Q[1-4][ -]\d{4}"
    rf"|{_UNNAMED_MONTH}[ -]\d{{4}}|\d{{4}}[ -]{_UNNAMED_MONTH})|(?:19|20)\d{{2}}(?:0[1-9]|1[0-2])"
)
"""2024Q1, 2024M01 and 2024W01, as Eurostat and others name quarters, months and ISO weeks; Jan 2024, 2024 Jan and 202401."""
NAMED_DAYS = (  # 31 Jan 2024 and Wed, Jan 31, 2024, with a time behind them or without
    rf"(?i)^(?:[a-z]{{3,9}}\.?,? )?(?P<day>\d{{1,2}})[ -]{_MONTH},?[ -](?P<year>\d{{4}})(?P<time>(?: \d[\d:.]*)?)$",
    rf"(?i)^(?:[a-z]{{3,9}}\.?,? )?{_MONTH} (?P<day>\d{{1,2}}),? (?P<year>\d{{4}})(?P<time>(?: \d[\d:.]*)?)$",
)
# From 1973 to 2029, or for milliseconds from 2001: what begins with 19 or 20 may be a year, month, day and hour.
_UNIX = {"s": r"(-?\d{9}|1[0-8]\d{8})(\.0+)?", "ms": r"1[0-8]\d{11}(\.0+)?"}
_DIGITS = r"(?P<day>(?:19|20)\d{6})(?P<hour>\d\d)(?P<minute>\d\d)?(?P<second>\d\d)?"
"""2024013113, with minutes and seconds or without."""


def seconds_of(column: pa.ChunkedArray, row: np.ndarray, where: SourceLocation) -> np.ndarray:
    """Return datetime64[s] without a time zone: local time for whole days, UTC where a zone has hours that come twice.

    Raises:
        UserError: a value is no date, may mean two days, or is finer than a second; the message names the row.
    """
    refuse_rows(column.is_null().to_numpy(), row, where, "has no timestamp")
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        stamps = column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).to_pandas()
        if stamps.dt.tz is not None:
            local = stamps.dt.tz_localize(None)
            daily = (local == local.dt.normalize()).all()
            stamps = local if daily else stamps.dt.tz_convert("UTC").dt.tz_localize(None)
    else:
        # Series share their timestamps, so that few texts are parsed for many rows.
        texts = text_of(column)
        distinct, first = distinct_of(texts)
        index = texts.combine_chunks().dictionary_encode().indices.to_numpy()
        stamps = _parsed_stamps(distinct.to_pandas(), row[first], where).iloc[index]
    values = stamps.to_numpy().astype("M8[us]")
    seconds = values.astype("M8[s]")
    refuse_rows(values != seconds, row, where, "has a timestamp finer than a second, the resolution of the Arrow store")
    return seconds


def _parsed_stamps(text: pd.Series, row: np.ndarray, where: SourceLocation) -> pd.Series:
    """Return what texts say: where they name time zones and are not all midnights, in UTC."""
    zones = text.str.extract(_ZONE)
    has_zone = zones["zone"].notna().to_numpy()
    first = "has a time zone, which the first has not" if not has_zone[0] else "has no time zone, which the first has"
    refuse_rows(has_zone != has_zone[0], row, where, f"{first}; write all in one way", text)
    if not has_zone[0]:
        return _dates(text, row, where)
    local = _dates(text.str.replace(_ZONE, r"\g<fraction>", regex=True), row, where)
    if (local == local.dt.normalize()).all():
        return local
    minutes = zones["hours"].fillna("0").astype(int) * 60 + zones["minutes"].fillna("0").astype(int)
    return local - pd.to_timedelta(minutes.where(zones["sign"] != "-", -minutes), unit="min")


def _dates(text: pd.Series, row: np.ndarray, where: SourceLocation) -> pd.Series:
    with contextlib.suppress(ValueError):  # most are written so, and none of the other forms is this one
        return pd.to_datetime(text, format="ISO8601")
    for unit, pattern in _UNIX.items():
        if text.str.fullmatch(pattern).all():
            return pd.to_datetime(text.astype("float64").astype("int64"), unit=unit)
    written = text
    for pattern in NAMED_DAYS:
        text = text.str.replace(pattern, _iso_of, regex=True)
    if text.str.fullmatch(_DIGITS).all():
        text = text.str.replace(_DIGITS, r"\g<day>T\g<hour>\g<minute>\g<second>", regex=True)
    period = text.str.fullmatch(PERIOD)
    if period.any():
        text = text.mask(period, text[period].map(_first_day))
    slashed = text.str.extract(_SLASHED).astype(float)
    how: dict[str, Any] = {"format": "ISO8601"}
    if slashed[0].notna().all():
        day_first, month_first = bool((slashed[0] > 12).any()), bool((slashed[1] > 12).any())
        # Who parts dates by points has the day first; slashes and dashes are used both ways.
        day_first = day_first or (not month_first and bool(text.str.contains(_DOTTED).all()))
        if day_first == month_first:
            raise UserError(f"{where}: timestamps like {text.iloc[0]} can mean two days; write them as 2024-01-31")
        how = {"dayfirst": day_first}
    try:
        return pd.to_datetime(text, **how)
    except ValueError:
        wrong = pd.to_datetime(text, errors="coerce", **how).isna().to_numpy()
        counted = ", or leave the column out where it only counts steps" if text.str.fullmatch(r"\d+").all() else ""
        say = f"has a timestamp that is no date; write it as 2024-01-31 13:00:00{counted}"
        refuse_rows(wrong, row, where, say, written)
        raise AssertionError("a timestamp that does not parse has been named") from None


def _iso_of(named: re.Match[str]) -> str:
    return f"{named['year']}-{_month_of(named['month']):02}-{int(named['day']):02}{named['time']}"


def _month_of(name: str) -> int:
    return 1 + [month[:3] for month in _MONTHS].index(name[:3].title())


def _first_day(period: str) -> str:
    """Return the date that a period begins with; itself where there is no such period."""
    year = int(re.findall(r"\d{4}", period)[0])
    month = re.findall("[A-Za-z]{3,}", period)
    if month:
        kind, number = "M", _month_of(month[0])
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
