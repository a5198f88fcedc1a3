"""Placement of sorted rows on the regular grid of each series: frequency, duplicates, gaps, and checks of values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

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

Kind = Literal["none", "steps", "columns", "dates"]
"""Timestamps: none, numbered steps, numbered columns (a series ends with its last value), or dates."""
EPOCH = np.datetime64(0, "s")
"""Start of a series without timestamps. A numbered step is one second after it."""
_MAX_SERIES_FOR_FREQ = 1000  # enough for a majority vote, and fast
# A longer series with fewer than one value in 1,000 steps is refused, because a year may be mistyped.
_MAX_SPARSE_LENGTH, _MAX_SPARSITY = 1_000_000, 1000
# So are series that together have more than 2^28 steps (1 GiB) and more than 20 for each row; events have about ten.
_MAX_SPARSE_STEPS, _MAX_GROWTH = 1 << 28, 20
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
    kind: Kind,
    variates: Variates,
    remembered_freq: str | None = None,
) -> Iterator[Series]:
    """Yield the series of sorted rows, in order of first appearance, with NaN at missing steps.

    Args:
        names: the item ID of each code.
        freq: pandas alias; None infers it from the timestamps.
        kind: how the timestamps are given.
        variates: names and categories of the values.
        remembered_freq: frequency of the model's series, for series that are too short to infer it from.

    Raises:
        UserError: a timestamp is repeated or off the grid, a series has another frequency, or the frequency cannot be
            inferred.
    """
    checks = SeriesChecks(columns, variates, location)
    may_differ = False
    if kind == "none" and freq:
        unused = f"; one of {first_few(location.unused_columns)} may have them" if location.unused_columns else ""
        raise UserError(
            f"{location} has no timestamps, but data.freq or its history has the frequency {freq!r}{unused}; name "
            "their column with data.timestamp_column, or remove data.freq"
        )
    if kind in ("steps", "columns"):
        _check_numbered_steps(sorter, freq, location)
        freq = UNKNOWN
    elif kind == "dates" and freq is not None:
        parse_freq(freq)
    elif kind == "dates":
        inferred = _infer_common_freq(sorter, remembered_freq)
        freq, may_differ = inferred or remembered_freq, inferred is not None
        if not freq:
            for rows in sorter.partitions():
                _merge_duplicates(rows, names, columns, location, kind)  # repeated rows are a more likely fault
            raise UserError(f"{location}: no series has three timestamps to infer the frequency from; set data.freq")
        if remembered_freq and freq != remembered_freq:
            trained = f"the model was trained on {remembered_freq!r}"
            location.warn_once(f"the series have the frequency {freq!r}, and {trained}")
    freq = freq or UNKNOWN
    n_kept = n_steps = 0
    for rows in sorter.partitions():
        rows = rows if kind == "none" else _merge_duplicates(rows, names, columns, location, kind)
        begins = np.flatnonzero(np.diff(rows.codes, prepend=-1))
        ends = np.append(begins[1:], len(rows.codes))
        if kind == "none":
            _check_single_file(rows, begins, ends, names, location)
            starts, steps = np.full(len(begins), EPOCH), np.arange(len(rows.codes)) - np.repeat(begins, ends - begins)
        else:
            starts = rows.stamps[begins].view("M8[s]")
            steps = _grid_steps(rows, np.repeat(starts, ends - begins), freq, names, location)
        lengths = steps[ends - 1] + 1
        n_kept, n_steps = n_kept + len(steps), n_steps + int(lengths.sum())
        series_names = [names[code] for code in rows.codes[begins].tolist()]
        checks.check_lengths(series_names, ends - begins, lengths, sorter.n_rows, freq)
        checks.check_values(series_names, rows.values, begins, ends)
        if may_differ:
            checks.check_frequencies(series_names, rows.stamps.view("M8[s]"), begins, ends, lengths, freq)
        values = rows.values.T.astype(np.float32)
        bounds = zip(begins.tolist(), ends.tolist(), lengths.tolist())
        for name, start, (begin, end, length) in zip(series_names, starts, bounds):
            target = values[:, begin:end]
            if length > end - begin:
                target = np.full((len(values), length), np.nan, np.float32)
                target[:, steps[begin:end]] = values[:, begin:end]
            if columns.wide and (known := np.flatnonzero(~np.isnan(target[0]))).size:
                target = target[:, known[0] : known[-1] + 1 if kind == "columns" else None]
                start = timestamps(np.array([start]), freq, known[:1, None])[0, 0]
            elif kind == "columns":
                target = target[:, :1]
            yield Series(name, start, freq, checks.fill_missing(target), variates)
    checks.report(freq)
    if not location.has_item_ids and location.unused_columns and (kind == "none" or n_steps > n_kept):
        detail = "in their order" if kind == "none" else f"with {n_steps - n_kept:,} missing steps between them"
        location.warn_once(
            f"all rows are one series, {detail}; if {first_few(location.unused_columns)} has the item ID of several "
            "series, name it with data.id_column"
        )
    if n_kept < sorter.n_rows:
        merged = f"{sorter.n_rows - n_kept:,} rows with a repeated timestamp are merged"
        location.warn_once(f"{merged} (data.duplicates {columns.duplicates})")


class SeriesChecks:
    """Checks of the values of each series, with one warning for all series at the end."""

    def __init__(self, columns: Columns, variates: Variates, location: SourceLocation) -> None:
        self._columns, self._location = columns, location
        self._names, self._n_targets, self._is_single = variates.names, len(variates.targets), len(variates) == 1
        self._empty: list[str] = []
        self._rounded: list[str] = []
        self._common_freq = ""
        self._other_freq: list[str] = []
        self._perhaps_other_freq: list[str] = []
        self._n_filled = self._n_steps = 0

    def check_lengths(
        self, names: Sequence[str], n_rows: np.ndarray, lengths: np.ndarray, n_all: int, freq: str
    ) -> None:
        """Refuse series whose grids have far more steps than they have rows.

        Args:
            names: item IDs, [n_series].
            n_rows, lengths: numbers of rows and steps of each series, int64, [n_series].
            n_all: number of rows of all series, also of other calls.

        Raises:
            UserError: one series, or all series together have too many steps.
        """
        sparse = (lengths > _MAX_SPARSE_LENGTH) & (lengths > _MAX_SPARSITY * n_rows)
        if sparse.any():
            index = int(sparse.argmax())
            problem = f"series {names[index]} has {n_rows[index]} values in {lengths[index]} steps"
            raise UserError(f"{self._location}: {problem}; check for a mistyped timestamp")
        self._n_steps += int(lengths.sum())
        if self._n_steps > max(_MAX_SPARSE_STEPS, _MAX_GROWTH * n_all):
            raise UserError(
                f"{self._location}: its {n_all:,} rows are in more than {self._n_steps:,} steps of frequency {freq!r}; "
                "set data.freq to a coarser frequency, aggregate the rows, or check for mistyped timestamps"
            )

    def check_values(self, names: Sequence[str], values: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> None:
        """Record the series without a value, and those whose variation float32 rounds (2,000,000,000 plus or minus 40).

        Args:
            names: item IDs, [n_series].
            values: of all series, float64, [n_rows, n_variates].
            begins, ends: the rows of each series, [n_series].
        """
        if not self._n_targets:  # a table of the future has covariates alone
            return
        filled = np.flatnonzero(ends > begins)
        low, high = np.full((2, len(names), values.shape[1]), np.nan)
        if len(filled):
            bounds = np.column_stack([begins[filled], ends[filled]]).ravel()
            bounds = bounds[: -1 if bounds[-1] == len(values) else None]
            low[filled], high[filled] = (
                extreme.reduceat(values, bounds, axis=0)[::2] for extreme in (np.fmin, np.fmax)
            )
        is_empty = np.isnan(high[:, : self._n_targets]).all(axis=1)
        self._empty += [names[index] for index in np.flatnonzero(is_empty).tolist()]
        largest = np.fmax(np.abs(low), np.abs(high))
        is_narrow = (high > low) & (high - low < _MIN_RELATIVE_RANGE * largest)
        for index, column in np.argwhere(is_narrow).tolist():
            rows = values[begins[index] : ends[index], column]
            known = rows[~np.isnan(rows)]
            if (known.astype(np.float32) != known).any():
                spacing = np.spacing(np.float32(largest[index, column]))
                of_column = "" if self._is_single else f", {self._names[column]}"
                self._rounded.append(f"{names[index]}{of_column} (in steps of {spacing:g})")

    def fill_missing(self, values: np.ndarray) -> np.ndarray:
        """Return the values of a series with missing targets filled if configured.

        Args:
            values: float32, [n_variates, length].

        Returns:
            [length] for a single variate, else [n_variates, length].
        """
        if self._columns.fill_missing is not None:
            is_missing = np.isnan(values[: self._n_targets])
            if not is_missing.all():
                self._n_filled += int(is_missing.sum())
                values[: self._n_targets][is_missing] = self._columns.fill_missing
        return values[0] if self._is_single else values

    def check_frequencies(
        self,
        names: Sequence[str],
        stamps: np.ndarray,
        begins: np.ndarray,
        ends: np.ndarray,
        lengths: np.ndarray,
        freq: str,
    ) -> None:
        """Record the series whose timestamps are regular at a coarser frequency than the common one.

        Args:
            names: item IDs, [n_series].
            stamps: of all series, each ascending, datetime64[s], [n_rows].
            begins, ends: the rows of each series, [n_series].
            lengths: number of steps of each series on the common grid, [n_series].
        """
        has_common_freq = (ends - begins < 3) | (ends - begins > _MAX_COARSE_DENSITY * lengths)
        if has_common_freq.any():
            self._common_freq = self._common_freq or names[int(has_common_freq.argmax())]
        for index in np.flatnonzero(~has_common_freq).tolist():
            series_stamps = stamps[begins[index] : ends[index]]
            series_freq = infer_series_freq(series_stamps)
            if series_freq != freq and is_own_frequency(series_stamps, series_freq):
                # A shop may be closed at weekends.
                is_other = len(series_stamps) >= _MIN_COARSE_VALUES and series_freq != "B"
                found = self._other_freq if is_other else self._perhaps_other_freq
                found.append(f"{names[index]} ({series_freq})")

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


def _infer_common_freq(sorter: RowSorter, expected: str | None) -> str | None:
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
                return infer_freq(groups, expected)
    return infer_freq(groups, expected)


def _check_numbered_steps(sorter: RowSorter, freq: str | None, location: SourceLocation) -> None:
    """Refuse numbered steps that are more than one apart, and a frequency for them."""
    if freq is not None:
        raise UserError(
            f"{location}: the timestamps are step numbers, but data.freq or its history has the frequency {freq!r}; "
            "write dates, or remove data.freq"
        )
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


def _check_single_file(
    rows: Rows, begins: np.ndarray, ends: np.ndarray, names: Sequence[str], location: SourceLocation
) -> None:
    """Refuse a series without timestamps that has rows in several files, whose order says nothing."""
    files = location.file_numbers(rows.numbers)
    first, last = np.minimum.reduceat(files, begins), np.maximum.reduceat(files, begins)
    if (first != last).any():
        begin, end = (bounds[int((first != last).argmax())] for bounds in (begins, ends))
        one, other = (location.describe_row(int(rows.numbers[begin:end][index])) for index in (0, -1))
        raise UserError(
            f"{location}: series {names[rows.codes[begin]]} has {one} and {other}, without timestamps that tell their "
            "order; name the column of the timestamps with data.timestamp_column, or write each series to one file"
        )


def _merge_duplicates(rows: Rows, names: Sequence[str], columns: Columns, location: SourceLocation, kind: Kind) -> Rows:
    """Return rows with one row for each timestamp of a series."""
    is_repeated = np.zeros(len(rows.codes), bool)
    is_repeated[1:] = (rows.codes[1:] == rows.codes[:-1]) & (rows.stamps[1:] == rows.stamps[:-1])
    if not is_repeated.any():
        return rows
    if columns.duplicates == "error":
        _refuse_duplicate(rows, int(is_repeated.argmax()), names, columns, location, kind)
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
    return Rows(rows.codes[first], rows.stamps[first], rows.numbers[first], values)


def _refuse_duplicate(
    rows: Rows, index: int, names: Sequence[str], columns: Columns, location: SourceLocation, kind: Kind
) -> None:
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
    step = rows.stamps[index]
    time = f"timestamp {step.view('M8[s]')}" if kind == "dates" else f"step {step}"
    raise UserError(
        f"{location}: series {names[rows.codes[index]]} has {time} twice, in {first} and {second}; {advice}"
    )


def _grid_steps(
    rows: Rows, starts: np.ndarray, freq: str, names: Sequence[str], location: SourceLocation
) -> np.ndarray:
    """Return the number of steps of each row from the start of its series: int64, [n]."""
    steps = steps_between(starts, rows.stamps.view("M8[s]"), freq)
    if (steps < 0).any():
        index = int((steps < 0).argmax())
        code, stamps = rows.codes[index], rows.stamps.view("M8[s]")
        series_stamps = stamps[rows.codes == code]
        frequency = infer_series_freq(series_stamps) if len(series_stamps) >= 3 else freq
        other = ""
        if frequency != freq and is_own_frequency(series_stamps, frequency):
            other = f" (the series seems to have the frequency {frequency!r}: write it to a separate file)"
        advice = f"set data.freq to another frequency{period_end_hint(freq)}, fix the row, or aggregate irregular rows"
        if location.is_utc:
            advice = f"remove the time zone, so that local times are kept in place of UTC, {advice}"
        raise UserError(
            f"{location}: {location.describe_row(int(rows.numbers[index]))}, series {names[code]}: timestamp "
            f"{stamps[index]} is not on the grid of {freq!r} that starts at {series_stamps[0]}{other}; {advice}, "
            "such as to hours"
        )
    return steps
