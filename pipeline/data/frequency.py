"""Calendar arithmetic for every pandas frequency: the timestamp `k` steps after another, and the reverse.

Months, quarters and years are counted in months from the start of a series, and weeks in seven days. Thus a series may
start on any day. Timestamps are datetime64[s].
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from pandas.tseries.offsets import FY5253, BusinessDay, FY5253Quarter, MonthEnd, QuarterEnd, Tick, Week, YearEnd

from pipeline.core.errors import UserError

UNKNOWN = ""
"""The frequency of data whose steps are counted: step k has the timestamp k seconds after 1970."""

_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAY, _WEEK, _YEAR = 86400, 7 * 86400, 52 * 7 * 86400
_BUSINESS_DAYS_A_WEEK = 5
_BUSINESS_MONTHS = {"BusinessMonthBegin": 1, "BusinessMonthEnd": 1, "BQuarterBegin": 3, "BQuarterEnd": 3}
_UNITS = (("D", _DAY), ("h", 3600), ("min", 60), ("s", 1))


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
    except (ValueError, OverflowError) as error:
        raise UserError(
            f"data.freq: {freq!r} is not a pandas frequency; write h, 30min, D, W, MS, QS, YS or B"
        ) from error
    if freq.endswith("m"):
        raise UserError(f"data.freq: {freq!r} may be months or minutes; write {freq[:-1]}ME or {freq}in")
    if isinstance(offset, (FY5253, FY5253Quarter)):
        raise UserError(
            f"data.freq: {freq!r} is a calendar of 52 or 53 weeks, which is not supported; write step "
            "numbers in place of the dates"
        )
    if offset.n <= 0:
        raise UserError(f"data.freq: {freq!r} must be positive")
    if isinstance(offset, Tick) and offset.nanos % 10**9:
        raise UserError(f"data.freq: {freq!r} is finer than a second, the resolution of the Arrow store")
    return offset


def period_end_hint(freq: str) -> str:
    """Return a hint for messages about a frequency of period ends, such as `ME`; empty for any other frequency."""
    ends = isinstance(parse_freq(freq), (MonthEnd, QuarterEnd, YearEnd))
    return f" ({freq} has the last days of periods; MS, QS and YS have the first days)" if ends else ""


def seasonality(freq: str) -> int:
    """Return the number of steps in the season that a seasonal naive forecast repeats, 1 if there is none.

    The season is an hour for seconds, a day for minutes and hours, a week for days and business days, and a year for
    weeks, months and quarters. GluonTS has 1 for days and weeks.
    """
    if freq == UNKNOWN:
        return 1
    offset = parse_freq(freq)
    months, seconds = _months_per_step(offset), _seconds_per_step(offset)
    months = months or _BUSINESS_MONTHS.get(type(offset).__name__, 0) * offset.n
    if months:
        return _steps_per_season(12, months)
    if seconds is None:
        return _steps_per_season(_BUSINESS_DAYS_A_WEEK, offset.n) if isinstance(offset, BusinessDay) else 1
    season = _YEAR if seconds >= _WEEK else _WEEK if seconds >= _DAY else _DAY if seconds >= 60 else 3600
    return _steps_per_season(season, seconds)


def timestamps(starts: np.ndarray, freq: str, steps: np.ndarray) -> np.ndarray:
    """Return the timestamps `steps` steps after `starts`.

    Args:
        starts: datetime64[s], [n].
        steps: int64, [n, h]; 0 is the start itself.

    Returns:
        datetime64[s], [n, h].
    """
    starts = starts[:, None]
    if freq == UNKNOWN:
        return starts + steps.astype("m8[s]")
    offset = parse_freq(freq)
    months, seconds = _months_per_step(offset), _seconds_per_step(offset)
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
    """Return the number of steps from a start to each of `stamps`, -1 for a stamp off the grid: int64, [n].

    The inverse of `timestamps`.

    Args:
        starts: datetime64[s], one for all stamps or [n]; not later than its stamp.
        stamps: datetime64[s], [n].
    """
    starts = np.broadcast_to(starts, stamps.shape)
    if freq == UNKNOWN:
        return (stamps - starts).astype(np.int64)
    offset = parse_freq(freq)
    months, seconds = _months_per_step(offset), _seconds_per_step(offset)
    if seconds is not None:
        after = (stamps - starts).astype(np.int64)
        steps = after // seconds
        return np.where(steps * seconds == after, steps, -1)
    if months:
        steps = (stamps.astype("M8[M]") - starts.astype("M8[M]")).astype(np.int64) // months
    elif isinstance(offset, BusinessDay):
        steps = np.busday_count(starts.astype("M8[D]"), stamps.astype("M8[D]")) // offset.n
    else:
        steps = np.empty(len(stamps), np.int64)
        for start in np.unique(starts):
            mask = starts == start
            grid = pd.date_range(start, stamps[mask].max(), freq=offset).to_numpy().astype("M8[s]")
            # Off the grid, many stamps have one step, and its timestamp takes pandas 0.1 ms.
            found, positions = np.unique(np.searchsorted(grid, stamps[mask]), return_inverse=True)
            expected = timestamps(np.array([start]), freq, found[None])[0, positions]
            steps[mask] = np.where(expected == stamps[mask], found[positions], -1)
        return steps
    on_grid = timestamps(starts, freq, steps[:, None])[:, 0] == stamps
    return np.where(on_grid, steps, -1)


def align_starts(starts: np.ndarray, freq: str) -> tuple[str, np.ndarray]:
    """Return a frequency and starts on its grid, for series that are given as a start and values.

    GluonTS names a frequency by the ends of its periods, and a start may be any day of a period. For months, the
    frequency becomes one that counts from the starts. Other starts move to the next step, as in `pandas.Period`.

    Args:
        starts: datetime64[s], [n].
    """
    if freq == UNKNOWN or not len(starts) or (steps_between(starts, starts, freq) == 0).all():
        return freq, starts
    offset = parse_freq(freq)
    months = _months_per_step(offset)
    if months:
        return _month_freq(months, int(starts[0].astype("M8[M]").astype(np.int64)), "S"), starts
    return freq, np.array([offset.rollforward(pd.Timestamp(start)) for start in starts], dtype="M8[s]")


def infer_freq(groups: Sequence[np.ndarray], expected: str | None = None) -> str | None:
    """Return the frequency whose grid contains all series, or None if no series has three timestamps.

    Unlike `pandas.infer_freq`, it allows for missing timestamps. If no frequency fits all series, it returns the most
    common one, and the caller refuses the rows that do not fit.

    Args:
        groups: ascending datetime64[s] of each series; a series of fewer than three points has no vote.
        expected: frequency of other series of this kind, which decides between days and business days.
    """
    # Series share their timestamps, so there are few distinct ones.
    numbers = Counter(stamps.tobytes() for stamps in groups if len(stamps))
    groups = [np.frombuffer(stamps, "M8[s]") for stamps in numbers]
    votes: Counter[str] = Counter()
    for stamps, number in zip(groups, numbers.values()):
        if len(stamps) >= 3:
            votes[infer_series_freq(stamps)] += number
    if not votes:
        return None
    # A business-day series of less than a week looks daily. A daily series that has weekends does not fit B.
    if expected == "B" and "D" in votes:
        votes["B"] += 0  # a candidate that no series voted for
    candidates = [freq for freq, _ in sorted(votes.most_common(), key=lambda vote: vote[0] == "D" and "B" in votes)]
    anchorless = {freq.split("-")[0] for freq in candidates}
    if len(anchorless) == 1 and len(candidates) > 1:
        return anchorless.pop()
    for freq in candidates:
        if all((steps_between(stamps[0], stamps, freq) >= 0).all() for stamps in groups):
            return freq
    return candidates[0]


def is_own_frequency(stamps: np.ndarray, freq: str) -> bool:
    """Return whether timestamps fill at least 90% of the grid of a frequency.

    Args:
        stamps: ascending datetime64[s], [n].
    """
    steps = steps_between(stamps[0], stamps, freq)
    return bool((steps >= 0).all() and len(stamps) >= 0.9 * (int(steps[-1]) + 1))


def infer_series_freq(stamps: np.ndarray) -> str:
    """Return the frequency of one series: calendar months, weekdays, or the most common difference.

    Args:
        stamps: ascending datetime64[s], at least three.
    """
    days = stamps.astype("M8[D]")
    months = stamps.astype("M8[M]")
    month_steps = np.diff(months.astype(np.int64))
    if len(np.unique(stamps - days)) == 1 and month_steps.min() >= 1:
        step, first_month = int(np.gcd.reduce(month_steps)), int(months[0].astype(np.int64))
        first, last = months.astype("M8[D]"), (months + 1).astype("M8[D]") - 1
        # As in `timestamps`, a month without the day of the start has its last day.
        on_one_day = days == np.minimum(first + (days[0] - first[0]), last)
        for edge, on_edge in (
            ("E", days == last),
            ("S", on_one_day),
            ("BE", days == np.busday_offset(last, 0, roll="backward")),
            ("BS", days == np.busday_offset(first, 0, roll="forward")),
        ):
            if on_edge.all():
                return _month_freq(step, first_month, edge)
    steps, counts = np.unique(np.diff(stamps).astype(np.int64), return_counts=True)
    step = int(steps[counts.argmax()])
    weekday = (days.astype(np.int64) + 3) % 7
    if step == 86400 and weekday.max() < 5 and days[-1] - days[0] >= np.timedelta64(7, "D"):
        return "B"
    if step == 7 * 86400:
        return f"W-{_WEEKDAYS[weekday[0]]}"
    unit, seconds = next(pair for pair in _UNITS if step % pair[1] == 0)
    return unit if step == seconds else f"{step // seconds}{unit}"


def _month_freq(step: int, first_month: int, edge: str) -> str:
    """Return the alias of steps of months: `edge` is S or E, the start or end of a month, after B its business day."""
    anchor = first_month % 12
    if step % 12 == 0:
        base, count, name = "Y", step // 12, f"-{_MONTHS[anchor]}"
    elif step % 3 == 0:
        base, count, name = "Q", step // 3, f"-{_MONTHS[anchor % 3 if edge[-1] == 'S' else 9 + anchor % 3]}"
    else:
        base, count, name = "M", step, ""
    return ("" if count == 1 else str(count)) + edge[:-1] + base + edge[-1] + name


def _months_per_step(offset: pd.offsets.BaseOffset) -> int | None:
    per_step = {"MonthBegin": 1, "MonthEnd": 1, "QuarterBegin": 3, "QuarterEnd": 3, "YearBegin": 12, "YearEnd": 12}
    months = per_step.get(type(offset).__name__)
    return None if months is None else months * offset.n


def _seconds_per_step(offset: pd.offsets.BaseOffset) -> int | None:
    if isinstance(offset, Week):
        return 7 * 86400 * offset.n
    return int(offset.nanos // 10**9) if isinstance(offset, Tick) else None


def _add_months(starts: np.ndarray, months: np.ndarray, at_month_end: bool) -> np.ndarray:
    first = starts.astype("M8[M]")
    within = starts - first.astype("M8[s]")
    moved = first + months.astype("m8[M]")
    last_day = (moved + 1).astype("M8[D]") - 1
    if not at_month_end:
        # A month without a 31st has its last day instead.
        days = np.minimum(within.astype("m8[D]"), last_day - moved.astype("M8[D]"))
        return (moved.astype("M8[D]") + days).astype("M8[s]") + (within - within.astype("m8[D]"))
    return last_day.astype("M8[s]") + (starts - starts.astype("M8[D]"))


def _steps_per_season(season: int, step: int) -> int:
    return season // step if season % step == 0 else 1
