"""Steps of a calendar: which timestamp is `k` steps after another, for every pandas frequency.

Months, quarters and years are counted in months from the series' own start, and weeks in seven days, so a series keeps
its own anchor whatever day it starts on. Timestamps are numpy datetime64 in seconds throughout.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from pandas.tseries.offsets import (
    BusinessDay,
    Day,
    MonthBegin,
    MonthEnd,
    QuarterBegin,
    QuarterEnd,
    Tick,
    Week,
    YearBegin,
    YearEnd,
)

from pipeline.core.errors import UserError

UNKNOWN = ""
"""The frequency of data that came without timestamps: steps are then only counted."""

_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAY, _WEEK, _YEAR = 86400, 7 * 86400, 52 * 7 * 86400
_BUSINESS_DAYS_A_WEEK = 5


@lru_cache
def parse_freq(freq: str) -> pd.offsets.BaseOffset:
    """Return the pandas offset of an alias such as `h`, `30min`, `D`, `W-MON`, `MS`, `QE` or `B`.

    Raises:
        UserError: pandas does not know the alias, or its steps are finer than a second.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            offset = pd.tseries.frequencies.to_offset(freq)
    except ValueError as error:
        raise UserError(f"data.freq: {freq!r} is no pandas frequency; write h, 30min, D, W, MS, QS, YS or B") from error
    if offset.n <= 0:
        raise UserError(f"data.freq: {freq!r} must step forward")
    if isinstance(offset, Tick) and offset.nanos % 10**9:
        raise UserError(f"data.freq: {freq!r} is finer than a second, the resolution of the Arrow store")
    return offset


def ends_only(freq: str) -> str:
    """Return in words, for a message, that the steps of a frequency are ends of periods, nothing of any other."""
    ends = isinstance(parse_freq(freq), (MonthEnd, QuarterEnd, YearEnd))
    return " (its steps are the last days of periods; MS, QS and YS are the first ones)" if ends else ""


def seasonality(freq: str) -> int:
    """Return the number of steps in the season that a seasonal naive forecast repeats; 1 where there is none.

    A day for hours and minutes, a week for days, a year for weeks, months and quarters. (GluonTS says 1 for days.)
    """
    if freq == UNKNOWN:
        return 1
    offset = parse_freq(freq)
    months, seconds = _months(offset), _seconds(offset)
    if months:
        return _whole(12, months)
    if seconds is None:
        return _BUSINESS_DAYS_A_WEEK if isinstance(offset, BusinessDay) else 1
    if seconds >= _WEEK:
        return _whole(_YEAR, seconds)
    if seconds >= _DAY:
        return _whole(_WEEK, seconds)
    return _whole(_DAY if seconds >= 60 else 3600, seconds)


def timestamps(starts: np.ndarray, freq: str, steps: np.ndarray) -> np.ndarray:
    """Return the timestamps `steps` steps after `starts`.

    Args:
        starts: datetime64[s], [n].
        steps: int64, [n, h]; 0 is the start itself.

    Returns:
        datetime64[s], [n, h].
    """
    offset = parse_freq(freq)
    months, seconds = _months(offset), _seconds(offset)
    starts = starts[:, None]
    if seconds is not None:
        return starts + (steps * seconds).astype("m8[s]")
    if months:
        return _add_months(starts, steps * months, at_month_end=isinstance(offset, (MonthEnd, QuarterEnd, YearEnd)))
    if isinstance(offset, BusinessDay):
        days = starts.astype("M8[D]")
        return np.busday_offset(days, steps * offset.n, roll="forward").astype("M8[s]") + (starts - days)
    moved = [[pd.Timestamp(start) + int(k) * offset for k in row] for (start,), row in zip(starts, steps)]
    return np.array(moved, dtype="M8[s]").reshape(steps.shape)


def steps_between(starts: np.datetime64 | np.ndarray, stamps: np.ndarray, freq: str) -> np.ndarray:
    """Return how many steps each of `stamps` (datetime64[s], [n]) lies after its start; -1 where off the grid.

    The inverse of `timestamps`.

    Args:
        starts: one for all stamps or for each, none of them later than its stamp.
    """
    starts = np.broadcast_to(starts, stamps.shape)
    offset = parse_freq(freq)
    months, seconds = _months(offset), _seconds(offset)
    if seconds is not None:
        after = (stamps - starts).astype(np.int64)
        return np.where(after % seconds == 0, after // seconds, -1)
    if months:
        steps = (stamps.astype("M8[M]") - starts.astype("M8[M]")).astype(np.int64) // months
    elif isinstance(offset, BusinessDay):
        steps = np.busday_count(starts.astype("M8[D]"), stamps.astype("M8[D]")) // offset.n
    else:
        steps = np.empty(len(stamps), np.int64)
        for start in np.unique(starts):
            own = starts == start
            grid = pd.date_range(start, stamps[own].max(), freq=offset).to_numpy().astype("M8[s]")
            steps[own] = np.searchsorted(grid, stamps[own])
    back = timestamps(starts, freq, steps[:, None])[:, 0]
    return np.where(back == stamps, steps, -1)


def on_own_grid(starts: np.ndarray, freq: str) -> tuple[str, np.ndarray]:
    """Return a frequency and starts that lie on its grid, for series that come as a start and values.

    GluonTS names the end of a period and writes any day of it: months that do not start at their ends are counted
    from where they start, and other starts are moved to the next step of the grid, as `pandas.Period` does.

    Args:
        starts: datetime64[s], [n].
    """
    if freq == UNKNOWN or not len(starts) or (steps_between(starts, starts, freq) == 0).all():
        return freq, starts
    offset = parse_freq(freq)
    months = _months(offset)
    if months:
        return _month_freq(months, int(starts[0].astype("M8[M]").astype(np.int64)), "S"), starts
    return freq, np.array([offset.rollforward(pd.Timestamp(start)) for start in starts], dtype="M8[s]")


def infer_freq(groups: Sequence[np.ndarray]) -> str | None:
    """Return the one frequency on whose grid all the series lie, gaps allowed, or None where too few points tell.

    Args:
        groups: ascending datetime64[s] of each series; those of fewer than three points have no say.

    Unlike `pandas.infer_freq`, it looks through missing timestamps. Where no frequency fits all series, the commonest is
    returned, and it is for the caller to name the rows that do not fit.
    """
    votes = Counter(_freq_of(stamps) for stamps in groups if len(stamps) >= 3)
    if not votes:
        return None
    candidates = [freq for freq, _ in votes.most_common()]
    anchorless = {freq.split("-")[0] for freq in candidates}
    if len(anchorless) == 1 and len(candidates) > 1:
        return anchorless.pop()
    for freq in candidates:
        if all((steps_between(stamps[0], stamps, freq) >= 0).all() for stamps in groups if len(stamps)):
            return freq
    return candidates[0]


def _freq_of(stamps: np.ndarray) -> str:
    days = stamps.astype("M8[D]")
    months = stamps.astype("M8[M]").astype(np.int64)
    day_of_month = (days - stamps.astype("M8[M]").astype("M8[D]")).astype(np.int64)
    at_end = ((days + 1).astype("M8[M]") != stamps.astype("M8[M]")).all()
    of_day = np.unique(stamps - days)
    month_steps = np.diff(months)
    if len(of_day) == 1 and month_steps.min() >= 1 and (at_end or (day_of_month == day_of_month[0]).all()):
        return _month_freq(int(np.gcd.reduce(month_steps)), int(months[0]), "E" if at_end else "S")
    steps, counts = np.unique(np.diff(stamps).astype(np.int64), return_counts=True)
    step = int(steps[counts.argmax()])
    weekday = (days.astype(np.int64) + 3) % 7
    if step == 86400 and weekday.max() < 5 and days[-1] - days[0] >= np.timedelta64(7, "D"):
        return "B"
    if step == 7 * 86400:
        return f"W-{_WEEKDAYS[weekday[0]]}"
    for unit, seconds in (("D", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if step % seconds == 0:
            count = step // seconds
            return unit if count == 1 else f"{count}{unit}"
    raise AssertionError("a step of whole seconds is a multiple of one second")


def _month_freq(step: int, first_month: int, edge: str) -> str:
    anchor = first_month % 12
    if step % 12 == 0:
        base, count, name = "Y", step // 12, _MONTHS[anchor]
    elif step % 3 == 0:
        base, count, name = "Q", step // 3, _MONTHS[anchor % 3 if edge == "S" else 9 + anchor % 3]
    else:
        return ("" if step == 1 else str(step)) + f"M{edge}"
    return ("" if count == 1 else str(count)) + f"{base}{edge}-{name}"


def _months(offset: pd.offsets.BaseOffset) -> int | None:
    per_step = {MonthBegin: 1, MonthEnd: 1, QuarterBegin: 3, QuarterEnd: 3, YearBegin: 12, YearEnd: 12}
    months = per_step.get(type(offset))
    return None if months is None else months * offset.n


def _seconds(offset: pd.offsets.BaseOffset) -> int | None:
    if isinstance(offset, Week):
        return 7 * 86400 * offset.n
    if isinstance(offset, Day):
        return 86400 * offset.n
    return int(offset.nanos // 10**9) if isinstance(offset, Tick) else None


def _add_months(starts: np.ndarray, months: np.ndarray, at_month_end: bool) -> np.ndarray:
    first = starts.astype("M8[M]")
    within = starts - first.astype("M8[s]")
    moved = first + months.astype("m8[M]")
    last_day = (moved + 1).astype("M8[D]") - 1
    if not at_month_end:
        # The 31st of a shorter month is its last day.
        days = np.minimum(within.astype("m8[D]"), last_day - moved.astype("M8[D]"))
        return (moved.astype("M8[D]") + days).astype("M8[s]") + (within - within.astype("m8[D]"))
    return last_day.astype("M8[s]") + (starts - starts.astype("M8[D]"))


def _whole(season: int, step: int) -> int:
    return season // step if season % step == 0 else 1
