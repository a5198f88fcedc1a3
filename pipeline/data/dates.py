"""Timestamps of a column: their format, decided from all values, and their conversion to datetime64[s]."""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError
from pipeline.data.date_styles import FORMS, Times, read_texts, read_typed, suggest_format
from pipeline.data.rows import SourceLocation, distinct, is_text, refuse_rows

_TENTATIVE = (
    "excel",
    "iso_week",
    *(f"format:{form}" for form in ("%y%m", "%y%m%d", "%Y%j", "%y%m%d%H%M", "%y%m%d%H%M%S")),
)
"""Styles that are read only if data.timestamp_format names them. Without it, digits that fit them are ambiguous."""
# Seconds from 1973 to 2029, milliseconds from 2001 to 2029: digits that begin with 19 or 20 may be a date and an hour.
_LIKELY = {"unix_s": r"^(?:-?\d{9}|1[0-8]\d{8})(?:\.\d+)?$", "unix_ms": r"^1[0-8]\d{11}(?:\.\d+)?$"}
_PREFERRED = {"timestamp": {"iso"}, "year": {"steps", "format:%y%m"}, "period": {"steps", "iso_week"}}
"""Styles that are preferred to those in their sets if both fit."""
_DATES_NOT_STEPS = {"period", "format:%y%m%d", "format:%Y%j"}
"""Styles of six or seven digits. Few step numbers fit them by chance."""
_WORDS = {
    "timestamp": "dates",
    "iso": "ISO dates",
    "named month": "dates with names of months",
    "period": "months, quarters or weeks",
    "digits": "dates without separators",
    "year": "years",
    "steps": "step numbers",
    "unix_s": "seconds since 1970",
    "unix_ms": "milliseconds since 1970",
    "excel": "day numbers of Excel",
    "iso_week": "ISO weeks as 202405",
    "none": "",
    "local": " with time zone, kept as local time",
    "utc": " with time zone, kept as UTC",
}
_SHORT_YEAR = r"(?i)(?:\d\d?[ ./-])?(?:\d\d?|[a-z]{3,9})[ ./-]\d\d(?:[ T].*)?"
_MIN_YEAR, _MAX_YEAR = 1678, 2261  # those of pandas
FIRST_SECOND, AFTER_LAST_SECOND = np.datetime64(f"{_MIN_YEAR}", "s"), np.datetime64(f"{_MAX_YEAR + 1}", "s")
_FIRST_UNCLEAR_YEAR = 2040  # strptime takes 68 for 2068, but series of 1968 are as likely as those
_FIRST_VALUES = 100  # enough to exclude most styles, so that few are tried on the other values
_FINANCIAL_YEAR = r"(?P<year>\d{4})[/-](?P<next>\d{2})"


@dataclass(frozen=True)
class TimeFormat:
    """How the timestamps of a column are read."""

    style: str
    """`timestamp` for a typed column, a key of `FORMS`, or `format:` followed by a strptime format."""
    zone: Literal["none", "local", "utc"] = "none"
    """Whether the timestamps have a time zone, and are kept as local time or as UTC."""

    def describe(self) -> str:
        """Return the format in words."""
        return _WORDS.get(self.style, "dates, " + self.style.replace("format:", "format ")) + _WORDS[self.zone]


class TimeEvidence:
    """Find the styles that fit all timestamps of a column, batch by batch."""

    def __init__(
        self, location: SourceLocation, timestamp_format: str | None = None, remembered: TimeFormat | None = None
    ) -> None:
        """Start without evidence.

        Args:
            timestamp_format: data.timestamp_format: a strptime format, or a style such as `unix_s` or `steps`.
            remembered: format of the timestamps in the model's or the history's table.
        """
        self._location, self._explicit, self._remembered = location, timestamp_format, remembered
        known = [] if remembered is None else [remembered.style]
        self._styles = list(dict.fromkeys((*known, "timestamp", *FORMS, *_TENTATIVE)))
        if timestamp_format is not None:
            self._styles = ["timestamp", ("" if timestamp_format in FORMS else "format:") + timestamp_format]
        self._example: str | None = None
        self._swapped: str | None = None  # the first date that differs between day first and month first
        self._zoned = False
        self._midnights = True
        self._begins: set[np.timedelta64] = set()  # up to two times of day
        self._lengths: set[np.timedelta64] = set()  # up to two times from these to what is read as a time zone
        self._n_texts = 0
        self._like_dates = {style: (0, "") for style in ("year", *_DATES_NOT_STEPS)}  # count and first text of each
        self._financial_years: set[str] | None = set()  # two texts like 2000/01; None if another text has another form

    def add(self, column: pa.ChunkedArray | pa.Array, rows: np.ndarray) -> None:
        """Examine the next batch of the column; missing values prove nothing.

        Args:
            rows: number of each row in the source, for messages, [n].

        Raises:
            UserError: no style fits a row together with the rows before it, or only some of them have a time zone.
        """
        column = _to_chunks(column)
        rows, column = rows[column.is_valid().to_numpy()], column.drop_null()
        if not len(column):
            return
        if _is_typed(column.type):
            times = read_typed(column)
            times_by_style = {style: times for style in self._styles if style in ("timestamp", "iso")}
            self._narrow(times_by_style, times.local, rows)
            return
        texts, index = _distinct_texts(column, self._location)
        known = np.flatnonzero(pc.not_equal(texts, ""))
        if self._financial_years is not None and len(known):
            years = texts.take(known)
            self._financial_years |= set(years[:2].to_pylist())
            self._financial_years = self._financial_years if _are_financial_years(years) else None
        first_rows = np.empty(len(texts), np.int64)
        first_rows[index[::-1]] = rows[::-1]
        for positions in (known[:_FIRST_VALUES], known[_FIRST_VALUES:]):
            if len(positions):
                part = texts.take(positions)
                times_by_style = {style: self._read(part, style) for style in self._styles if style != "timestamp"}
                if "steps" in self._styles and self._explicit is None:
                    self._count_dates(part)
                self._narrow(times_by_style, part, first_rows[positions])

    def _count_dates(self, texts: pa.Array) -> None:
        """Count the texts that may be dates as well as step numbers."""
        self._n_texts += len(texts)
        for style, (count, first) in self._like_dates.items():
            fits = ~np.isnat(read_texts(texts, style).local)
            if fits.any():
                self._like_dates[style] = count + int(fits.sum()), first or texts[int(fits.argmax())].as_py()

    def _read(self, texts: pa.Array, style: str) -> Times:
        times = read_texts(texts, style)
        likely = _LIKELY.get(style) if self._explicit is None else None
        if style in ("day first", "month first"):  # spreadsheets mix the orders with other separators
            separator = re.sub(r"^\d*(\D?).*", r"[\1]", self._example or str(texts[0]))
            likely = rf"^\d+{separator}\d+{separator}"
        if likely:
            is_likely = pc.match_substring_regex(texts, likely).to_numpy(zero_copy_only=False)
            times.local[~is_likely] = np.datetime64("NaT")
        return times

    def _narrow(self, times_by_style: dict[str, Times], values: pa.Array | np.ndarray, rows: np.ndarray) -> None:
        """Keep the styles that fit all values."""
        fits = {style: ~np.isnat(times.local) for style, times in times_by_style.items()}
        self._styles = [style for style, fit in fits.items() if fit.all()]
        if not self._styles:  # name the first value that no style fits together with the values before it
            position = max((int(fit.argmin()) for fit in fits.values()), default=0)
            self._refuse(str(values[position]), self._example or str(values[0]), rows[position])
        times = times_by_style[self._styles[0]]
        if self._example is None:
            self._example, self._zoned = str(values[0]), bool(times.zoned[0])
        problem = f"has a timestamp with{'out' if self._zoned else ' a'} time zone, unlike the rows before it"
        refuse_rows(times.zoned != self._zoned, rows, self._location, problem, values, "write all timestamps alike")
        begins = times.local - times.local.astype("M8[D]")
        self._midnights = self._midnights and not begins.astype(np.int64).any()
        if self._zoned and isinstance(values, pa.Array):
            lengths = (-times.offset - begins) % np.timedelta64(1, "D")
            self._begins |= set(np.unique(begins)[:2])
            self._lengths |= set(np.unique(lengths)[:2])
        if {"day first", "month first"} <= set(self._styles):
            swapped = times_by_style["day first"].local != times_by_style["month first"].local
            if self._swapped is None and swapped.any():
                self._swapped = str(values[int(swapped.argmax())])

    def _refuse(self, text: str, first: str, row: int) -> None:
        problem = "has a timestamp that is not a date" + (f" of the same form as {first}" if text != first else "")
        advice = "write it as 2024-01-31 13:00:00, or set data.timestamp_format, such as '%d/%m/%Y %H:%M'"
        if self._explicit is not None:
            problem = f"has a timestamp that does not fit data.timestamp_format {self._explicit!r}"
            advice = "correct the row or the format"
        elif text == first and re.fullmatch(_SHORT_YEAR, text):
            form = suggest_format(text)
            forms = [form]
            if "%d" in form and "%m" in form and "." not in text:
                forms.append(re.sub(r"%d(\W)%m", r"%m\1%d", form))
            if re.match(r"\d\d-\d\d-\d\d", text):
                forms.append(form.replace("%d-%m-%y", "%y-%m-%d"))
            names = " or ".join(map(repr, forms))
            advice = f"for years of two digits, set data.timestamp_format, such as {names}"
        elif re.fullmatch(r"-?\d{8,14}", text) and re.fullmatch(r"-?\d{8,14}", first):
            advice = "for seconds or milliseconds since 1970, set data.timestamp_format to 'unix_s' or 'unix_ms'"
        refuse_rows(np.array([True]), np.array([row]), self._location, problem, [text], advice)

    def decide(self) -> TimeFormat:
        """Return the format of the column.

        Raises:
            UserError: several formats fit, or the one that fits contradicts the remembered one.
        """
        remembered = self._remembered
        if self._example is None:
            return remembered or TimeFormat("timestamp")
        if remembered is not None and self._zoned == (remembered.zone == "none"):
            here, there = ("a", "no") if self._zoned else ("no", "a")
            raise UserError(
                f"{self._location}: its timestamps, such as {self._example}, have {here} time zone, and those of the "
                f"model or history have {there} time zone; write both alike"
            )
        is_settled = self._explicit is not None or (remembered is not None and remembered.style in self._styles)
        if len(self._financial_years or ()) > 1 and not is_settled:
            raise UserError(
                f"{self._location}: timestamps such as {self._example} may be financial years or months; write a year "
                f"as {self._example[:4]}, or set data.timestamp_format '%Y{self._example[4]}%m' for months"
            )
        style = self._styles[0] if self._explicit is not None else self._decide_style(self._example)
        if not self._zoned:
            return TimeFormat(style)
        if self._explicit is None and len(self._begins) > 1 and len(self._lengths) == 1:
            raise UserError(
                f"{self._location}: timestamps such as {self._example} are periods of a day rather than times with a "
                "time zone; keep only the first time of each"
            )
        # Midnights may be the future of an hourly history, which is kept as UTC.
        keep_utc = not self._midnights or (remembered is not None and remembered.zone == "utc")
        return TimeFormat(style, "utc" if keep_utc else "local")

    def _decide_style(self, example: str) -> str:
        left, known = set(self._styles), self._remembered.style if self._remembered else ""
        if known in left and not (known == "steps" and left & _DATES_NOT_STEPS):
            return known
        for style, others in _PREFERRED.items():
            left -= others if style in left else set()
        if left == {"steps"}:  # a mistyped row does not turn dates into steps
            for style, (count, first) in self._like_dates.items():
                if count and (first == example or 2 * count > self._n_texts):
                    example, left = first, left | {style}
        if {"day first", "month first"} <= left:
            # Dates with dots have the day first by convention; slashes and dashes are used for both orders.
            if self._swapped is None or re.match(r"\d+\.", example):
                left.remove("month first")
            else:
                example = self._swapped
        ordered = sorted(left)
        keys = " or ".join(repr(suggest_format(example, style)) for style in ordered)
        if len(ordered) > 1 or ordered[0] in _TENTATIVE:
            readings = [read_texts(pa.array([example]), style).local[0] for style in ordered]
            words = [f"step {example}" if style == "steps" else str(time) for style, time in zip(ordered, readings)]
            raise UserError(
                f"{self._location}: timestamps such as {example} may mean {' or '.join(words)}; set "
                f"data.timestamp_format to {keys}"
            )
        if {ordered[0], known} == {"day first", "month first"}:
            raise UserError(
                f"{self._location}: its dates are {ordered[0]}, but those of the model or history are {known}; write "
                f"both alike, or set data.timestamp_format to {keys}"
            )
        return ordered[0]


def _are_financial_years(texts: pa.Array) -> bool:
    """Return whether all texts have a year and the last two digits of the next one."""
    years = pc.extract_regex(texts, f"^{_FINANCIAL_YEAR}$")
    if years.null_count:
        return False
    first, second = (pc.struct_field(years, name).cast(pa.int64()).to_numpy() for name in ("year", "next"))
    return bool(((first + 1) % 100 == second).all())


def parse_times(
    column: pa.ChunkedArray | pa.Array, time_format: TimeFormat, rows: np.ndarray, location: SourceLocation
) -> np.ndarray:
    """Return the timestamps of a column without a time zone, steps as seconds after 1970: datetime64[s], [n].

    Args:
        rows: number of each row in the source, for messages, [n].

    Raises:
        UserError: a value is missing, does not fit the format, or is finer than a second; the message names the row.
    """
    column = _to_chunks(column)
    if not len(column):
        return np.empty(0, "M8[s]")
    refuse_rows(column.is_null().to_numpy(), rows, location, "has no timestamp")
    values: pa.Array | np.ndarray
    index: np.ndarray | slice
    if _is_typed(column.type):
        times = read_typed(column)
        values, index = times.local, slice(None)
    else:
        values, index = _distinct_texts(column, location)
        refuse_rows(pc.equal(values, "").to_numpy(zero_copy_only=False)[index], rows, location, "has no timestamp")
        times = read_texts(values, "iso" if time_format.style == "timestamp" else time_format.style)
    years = times.local.astype("M8[Y]").astype(np.int64) + 1970
    is_unclear = ("%y" in time_format.style) & (years >= _FIRST_UNCLEAR_YEAR)
    refuse_rows(
        is_unclear[index],
        rows,
        location,
        "has a year of two digits that may be of either century",
        np.asarray(values)[index],
        "write years of four digits, and set data.timestamp_format to match, with %Y",
    )
    for problem, invalid in {
        "that is not a date": np.isnat(times.local),
        f"with{' a' if time_format.zone == 'none' else 'out'} time zone": times.zoned == (time_format.zone == "none"),
        "finer than a second, the resolution of the Arrow store": times.finer,
        f"outside the years {_MIN_YEAR} to {_MAX_YEAR}": (times.local < FIRST_SECOND)
        | (times.local >= AFTER_LAST_SECOND),
    }.items():
        if invalid.any():
            advice = f"the column has {time_format.describe()}"
            quoted = np.asarray(values)[index]
            refuse_rows(invalid[index], rows, location, f"has a timestamp {problem}", quoted, advice)
    return (times.local - times.offset if time_format.zone == "utc" else times.local)[index]


def _to_chunks(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray:
    column = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    if pa.types.is_dictionary(column.type) and not is_text(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string()) if pa.types.is_string_view(column.type) else column  # few functions take views


def _is_typed(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def _distinct_texts(column: pa.ChunkedArray, location: SourceLocation) -> tuple[pa.Array, np.ndarray]:
    """Return the distinct values as texts, in order of appearance, and the position of each row's value among them."""
    kind, is_number = column.type, pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)
    if not (is_number or pa.types.is_integer(kind) or is_text(kind)):
        raise UserError(f"{location}: the timestamp column has the type {kind}, not dates; set data.timestamp_column")
    values, positions = distinct(column)
    if is_number:
        numbers = values.cast(pa.float64(), safe=False).to_numpy()
        is_whole = (numbers == np.trunc(numbers)) & (np.abs(numbers) < 2**53)
        values = pa.array(numbers.astype(np.int64) if is_whole.all() else numbers.astype(str))
    texts = pc.utf8_trim_whitespace(values.cast(pa.string()))
    if pc.any(pc.ends_with(texts, ".0")).as_py():
        texts = pc.replace_substring_regex(texts, r"^(-?\d+)\.0$", r"\1")
    return texts, positions
