"""Placement of sorted rows on the regular grid of each series: frequency, duplicates, gaps, and checks of values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.core.errors import UserError, first_few
from pipeline.core.series import Series, Variates
from pipeline.data.columns import Columns
from pipeline.data.frequency import (
    UNKNOWN,
    infer_freq,
    infer_series_freq,
    is_own_frequency,
    parse_freq,
    period_end_hint,
    steps_between,
    timestamps,
)
from pipeline.data.rows import SourceLocation
from pipeline.data.sorting import Rows, RowSorter

EPOCH = np.datetime64(0, "s")
"""Start of a series without timestamps. A numbered step is one second after it."""
_MAX_SERIES_FOR_FREQ = 1000  # enough for a majority vote, and fast
# A longer series with fewer than one value in 1,000 steps is refused, because a year may be mistyped.
_MAX_SPARSE_LENGTH, _MAX_SPARSITY = 1_000_000, 1000
# float32 has fewer than 100 values between the minimum and the maximum of a series with a smaller range.
_MIN_RELATIVE_RANGE = 100 * 2.0**-23
_MAX_COARSE_DENSITY = 0.75  # a series with more of the steps has the common frequency; business days are 5 of 7 days
_MIN_COARSE_VALUES = 8  # fewer values may have another frequency by chance


def build_series(
    sorter: RowSorter,
    names: Sequence[str],
    columns: Columns,
    location: SourceLocation,
    freq: str | None,
    kind: str,
    variates: Variates,
) -> Iterator[Series]:
    """Yield the series of sorted rows, in order of first appearance, with NaN at missing steps.

    Args:
        names: the item ID of each code.
        freq: pandas alias; None infers it from the timestamps.
        kind: `none`, `steps` for numbered steps, or `dates`.
        variates: names and categories of the values.

    Raises:
        UserError: a timestamp is repeated or off the grid, a series has another frequency, or the frequency cannot be
            inferred.
    """
    checks = SeriesChecks(columns, variates, location)
    may_differ = False
    if kind == "dates":
        if freq is not None:
            parse_freq(freq)
        else:
            freq, may_differ = _infer_common_freq(sorter), True
            if freq is None:
                for rows in sorter.partitions():
                    _merge_duplicates(rows, names, columns, location)  # repeated rows are a more likely fault
                raise UserError(
                    f"{location}: no series has three timestamps to infer the frequency from; set data.freq"
                )
    elif kind == "steps":
        _check_numbered_steps(sorter, freq, location)
        freq = UNKNOWN
    freq = freq or UNKNOWN
    for rows in sorter.partitions():
        if not len(rows.codes):
            continue
        if kind == "none":
            begins = np.flatnonzero(np.diff(rows.codes, prepend=-1))
            steps = np.arange(len(rows.codes)) - np.repeat(begins, np.diff([*begins, len(rows.codes)]))
            starts = np.full(len(begins), EPOCH)
        else:
            rows = _merge_duplicates(rows, names, columns, location)
            begins = np.flatnonzero(np.diff(rows.codes, prepend=-1))
            starts = rows.stamps[begins].view("M8[s]")
            steps = _grid_steps(rows, begins, freq, names, location)
        ends = [*begins[1:].tolist(), len(steps)]
        for begin, end, start in zip(begins.tolist(), ends, starts):
            name, series_steps = names[rows.codes[begin]], steps[begin:end]
            if may_differ:
                checks.check_frequency(name, rows.stamps[begin:end].view("M8[s]"), int(series_steps[-1]) + 1, freq)
            target = _fill_gaps(rows.values[begin:end].T, series_steps, name, location)
            if columns.wide and (known := ~np.isnan(target[0])).any():
                first = int(known.argmax())
                start, target = timestamps(np.array([start]), freq, np.array([[first]]))[0, 0], target[:, first:]
            yield Series(name, start, freq, checks.finish(name, target), variates)
    checks.report(freq)


class SeriesChecks:
    """Checks of the values of each series, with one warning for all series at the end."""

    def __init__(self, columns: Columns, variates: Variates, location: SourceLocation) -> None:
        self._columns, self._location = columns, location
        self._n_targets, self._is_single = len(variates.targets), len(variates) == 1
        self._empty: list[str] = []
        self._rounded: list[str] = []
        self._common_freq = ""
        self._other_freq: list[str] = []
        self._perhaps_other_freq: list[str] = []
        self._n_filled = 0

    def finish(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return the values of a series as float32, with missing targets filled if configured.

        Args:
            values: float64, [n_variates, length].

        Returns:
            [length] for a single variate, else [n_variates, length].
        """
        targets = values[: self._n_targets]
        if not values.shape[1]:
            self._empty.append(name)
        if targets.size:
            low, high = np.fmin.reduce(targets, axis=1), np.fmax.reduce(targets, axis=1)
            largest = np.fmax(np.abs(low), np.abs(high))
            if np.isnan(high).all():
                self._empty.append(name)
            elif self._columns.fill_missing is not None and (missing := np.isnan(targets)).any():
                self._n_filled += int(missing.sum())
                values = values.copy()  # they may be those of a file, or read again
                targets = values[: self._n_targets]
                targets[missing] = self._columns.fill_missing
            if ((high > low) & (high - low < _MIN_RELATIVE_RANGE * largest)).any():
                self._check_rounding(name, targets, largest)
        result = values.astype(np.float32)
        return result[0] if self._is_single else result

    def _check_rounding(self, name: str, targets: np.ndarray, largest: np.ndarray) -> None:
        """Record a series whose variation float32 cannot represent, such as 2,000,000,000 plus or minus 40."""
        known = ~np.isnan(targets)
        if (targets[known].astype(np.float32) != targets[known]).any():
            self._rounded.append(f"{name} (in steps of {np.spacing(np.float32(largest.max())):g})")

    def check_frequency(self, name: str, stamps: np.ndarray, length: int, freq: str) -> None:
        """Record a series whose timestamps are regular at a coarser frequency than the common one.

        Args:
            stamps: ascending datetime64[s], [n].
            length: number of its steps on the common grid.
        """
        if len(stamps) < 3 or len(stamps) > _MAX_COARSE_DENSITY * length:
            self._common_freq = self._common_freq or name
            return
        series_freq = infer_series_freq(stamps)
        if series_freq != freq and is_own_frequency(stamps, series_freq):
            is_other = len(stamps) >= _MIN_COARSE_VALUES and series_freq != "B"  # a shop may be closed at weekends
            (self._other_freq if is_other else self._perhaps_other_freq).append(f"{name} ({series_freq})")

    def report(self, freq: str) -> None:
        """Warn about all series together.

        Raises:
            UserError: series have another frequency than the others.
        """
        advice = "write a separate file for each frequency, or set data.freq if the steps between are missing values"
        if self._other_freq:
            raise UserError(
                f"{self._location}: series {self._common_freq} has the frequency {freq!r}, but "
                f"{len(self._other_freq)} of the series have another: {first_few(self._other_freq)}; {advice}"
            )
        warn = self._location.warn_once
        if self._perhaps_other_freq:
            warn(
                f"{len(self._perhaps_other_freq)} series may have another frequency than {freq!r}: "
                f"{first_few(self._perhaps_other_freq)}; {advice}"
            )
        if self._empty:
            warn(f"{len(self._empty)} series have no value: {first_few(self._empty)}")
        if self._rounded:
            warn(
                f"{len(self._rounded)} series vary too little for their level, so that float32 rounds them: "
                f"{first_few(self._rounded)}; subtract a constant from their values"
            )
        if self._n_filled:
            warn(f"{self._n_filled} missing values are filled with {self._columns.fill_missing:g} (data.fill_missing)")


def _infer_common_freq(sorter: RowSorter) -> str | None:
    """Return the frequency that fits most of the first series, None if no series has three timestamps."""
    groups: list[np.ndarray] = []
    n_voting = 0
    for rows in sorter.partitions():
        begins = np.flatnonzero(np.diff(rows.codes, prepend=-1))[1:]
        for stamps in np.split(rows.stamps.view("M8[s]"), begins):
            stamps = stamps[np.diff(stamps, prepend=stamps[:1] - 1).astype(np.int64) > 0]  # without duplicates
            n_voting += len(stamps) >= 3
            groups.append(stamps)
            if n_voting >= _MAX_SERIES_FOR_FREQ:
                break
        if n_voting >= _MAX_SERIES_FOR_FREQ:
            break
    return infer_freq(groups)


def _check_numbered_steps(sorter: RowSorter, freq: str | None, location: SourceLocation) -> None:
    """Refuse numbered steps that are more than one apart, and a frequency for them.

    Raises:
        UserError: as described.
    """
    if freq is not None:
        raise UserError(f"{location}: the timestamps are step numbers, which have no frequency; remove data.freq")
    spacing = 0
    for rows in sorter.partitions():
        within = np.diff(rows.codes) == 0
        spacing = int(np.gcd.reduce(np.diff(rows.stamps)[within], initial=spacing))
        if spacing == 1:
            return
    if spacing > 1:
        raise UserError(
            f"{location}: the numbered steps are {spacing} apart; number them 1, 2, 3, or set data.timestamp_format if "
            "they are dates"
        )


def _merge_duplicates(rows: Rows, names: Sequence[str], columns: Columns, location: SourceLocation) -> Rows:
    """Return rows with one row for each timestamp of a series.

    Raises:
        UserError: a timestamp is repeated, and data.duplicates is `error`.
    """
    is_repeated = np.zeros(len(rows.codes), bool)
    is_repeated[1:] = (rows.codes[1:] == rows.codes[:-1]) & (rows.stamps[1:] == rows.stamps[:-1])
    if not is_repeated.any():
        return rows
    if columns.duplicates == "error":
        _refuse_duplicate(rows, int(is_repeated.argmax()), names, columns, location)
    first = np.flatnonzero(~is_repeated)
    values = rows.values[first]
    n_targets = len(columns.variates.targets)
    if columns.duplicates == "last":
        values = rows.values[np.append(first[1:], len(is_repeated)) - 1]
    elif columns.duplicates != "first":
        targets = rows.values[:, :n_targets]
        n_known = np.add.reduceat((~np.isnan(targets)).astype(np.float64), first)
        sums = np.add.reduceat(np.nan_to_num(targets), first)
        total = sums if columns.duplicates == "sum" else sums / np.maximum(n_known, 1)
        values[:, :n_targets] = np.where(n_known > 0, total, np.nan)
    location.count(f"rows with a repeated timestamp are merged (data.duplicates {columns.duplicates})", is_repeated)
    return Rows(rows.codes[first], rows.stamps[first], rows.numbers[first], values)


def _refuse_duplicate(rows: Rows, index: int, names: Sequence[str], columns: Columns, location: SourceLocation) -> None:
    first, second = (location.describe_row(int(rows.numbers[position])) for position in (index - 1, index))
    is_same = np.array_equal(rows.values[index - 1], rows.values[index], equal_nan=True)
    advice = "to drop the second, set data.duplicates first" if is_same else "set data.duplicates to first, sum or mean"
    if location.has_item_ids:
        advice = f"name all columns of the item ID with data.id_column '[a, b]', or {advice}"
    elif location.unused_columns:
        advice = (
            f"if {first_few(location.unused_columns)} has the item ID of several series, name it with data.id_column, "
            f"or {advice}"
        )
    else:
        advice = f"remove one of them, or {advice}"
    raise UserError(
        f"{location}: series {names[rows.codes[index]]} has timestamp {rows.stamps.view('M8[s]')[index]} "
        f"twice, in {first} and {second}; {advice}"
    )


def _grid_steps(
    rows: Rows, begins: np.ndarray, freq: str, names: Sequence[str], location: SourceLocation
) -> np.ndarray:
    """Return the number of steps of each row from the start of its series: int64, [n].

    Args:
        begins: the first row of each series.

    Raises:
        UserError: a timestamp is not on the grid of its series.
    """
    counts = np.diff([*begins, len(rows.codes)])
    starts = np.repeat(rows.stamps[begins], counts)
    steps = steps_between(starts.view("M8[s]"), rows.stamps.view("M8[s]"), freq)
    if (steps < 0).any():
        index = int((steps < 0).argmax())
        code, stamps = rows.codes[index], rows.stamps.view("M8[s]")
        series_stamps = stamps[rows.codes == code]
        frequency = infer_series_freq(series_stamps) if len(series_stamps) >= 3 else freq
        other = ""
        if frequency != freq and is_own_frequency(series_stamps, frequency):
            other = f" (the series seems to have the frequency {frequency!r}: write it to a separate file)"
        raise UserError(
            f"{location}: {location.describe_row(int(rows.numbers[index]))}, series {names[code]}: timestamp "
            f"{stamps[index]} is not on the grid of {freq!r} that starts at {series_stamps[0]}{other}; set data.freq "
            f"to another frequency{period_end_hint(freq)}, fix the row, or aggregate irregular rows, such as to hours"
        )
    return steps


def _fill_gaps(values: np.ndarray, steps: np.ndarray, name: str, location: SourceLocation) -> np.ndarray:
    """Return the values of a series on its grid, NaN at missing steps: float64, [n_variates, length].

    Args:
        values: [n_variates, n].
        steps: ascending int64, [n].
    """
    length = int(steps[-1]) + 1
    if length == len(steps):
        return values
    if length > _MAX_SPARSE_LENGTH and length > _MAX_SPARSITY * len(steps):
        raise UserError(
            f"{location}: series {name} has {len(steps)} values in {length} steps; check for a mistyped timestamp"
        )
    full = np.full((len(values), length), np.nan)
    full[:, steps] = values
    return full
