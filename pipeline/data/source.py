"""Opening of any source as an Arrow store. A file is converted once and cached. Data in memory stay in memory."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.arguments import name_arguments, with_options
from pipeline.config import Config, Source, SqlSource, listed, source_name
from pipeline.core.errors import UserError, to_one_line
from pipeline.core.files import fingerprint
from pipeline.core.processes import Processes
from pipeline.core.series import UNIVARIATE, Series
from pipeline.data.arrow_store import NotAStore, Store, open_store, store_from_arrays, store_from_series
from pipeline.data.cache import Cache
from pipeline.data.column_formats import ColumnFormats, common_formats
from pipeline.data.columns import Columns, select_columns
from pipeline.data.convert import convert
from pipeline.data.frequency import UNKNOWN, parse_freq
from pipeline.data.item_ids import refuse_repeated_ids
from pipeline.data.numbers import array_to_float32, listed_numbers
from pipeline.data.readers import gluonts_freq, hub_commit, read_tables, source_files
from pipeline.data.readers.arrow import validated
from pipeline.data.rows import SourceLocation

# Limits of the search for missing values, so that opening a large store stays fast.
_MAX_CHECKED_SERIES = 10_000
_MAX_CHECKED_STEPS = 1 << 20
_LAYOUT = 17  # increase it when the result of a conversion changes, so that cached ones are not used
_ROWS_FOR_THREADS = 100_000
_OTHER_KEYS = {"train", "test_length"}  # of the section data
logger = logging.getLogger(__name__)


@name_arguments
def open_source(
    source: Any,
    cache_dir: str | Path = "data/cache",
    columns: Columns | None = None,
    freq: str | None = None,
    formats: ColumnFormats = ColumnFormats(),
    **options: Any,
) -> Store:
    """Open series in any common format as an Arrow store.

    Args:
        source: a file (CSV, Excel, Parquet, JSON Lines, Arrow, Feather, Monash), a folder of files, a remote path, a
            GluonTS or `datasets` folder, the name of a data set on the Hub (`owner/name` or `owner/name:subset`), a
            long DataFrame of pandas or polars, a pyarrow table, an array [n_series, length], or a store.
        cache_dir: folder of converted files; data in memory, and a file that is a store already, are not written there.
        columns: names of the columns of the source; None takes them from the options.
        freq: pandas alias; None takes it from the source, or infers it.
        formats: formats of the model or history that the source belongs to.
        options: keys of the section `data` of the configuration, such as `target="sales", id_column="shop"`.

    Raises:
        UserError: the source is missing, does not parse, or contains invalid rows; or an option has no effect.
    """
    if unused := sorted(options if columns else options.keys() & _OTHER_KEYS):
        where = "beside columns; give it to Columns" if columns else "on open_source; remove it"
        raise UserError(f"{', '.join(unused)} has no effect {where}")
    columns = columns or columns_from_config(with_options(Config(), options, "data"))
    return _open(source, Cache(cache_dir), columns, freq, formats)


def open_configured(
    config: Config,
    source: Any = None,
    freq: str | None = None,
    formats: ColumnFormats = ColumnFormats(),
    columns: Columns | None = None,
) -> Store:
    """Open a source with the column names, frequency and cache of a configuration.

    Args:
        source: as in `open_source`; None is the generated dummy data.
        freq: pandas alias; None is data.freq.
        formats: as in `open_source`.
        columns: other columns than those of the configuration.

    Raises:
        UserError: the source is missing or invalid.
    """
    if source is None:
        source = str(config.dummy_path())
        if not config.dummy_path().is_file():
            advice = "name a file, or run chronos-native generate"
            raise UserError(f"no data is given, and {source} does not exist; {advice}")
    cache = Cache(config.cache_path(), config.paths.cache_size)
    return _open(source, cache, columns or columns_from_config(config), freq or config.data.freq, formats)


def open_stores(config: Config, source: Source | None, formats: ColumnFormats = ColumnFormats()) -> list[Store]:
    """Open a source as stores: a folder of stores file by file, any other source as one.

    Args:
        source: a path or the name of a data set on the Hub; None is the generated dummy data.
        formats: as in `open_source`.

    Raises:
        UserError: the source is missing or invalid.
    """
    columns = columns_from_config(config)
    if isinstance(source, str) and Path(source).is_dir() and not _must_convert(columns, config.data.freq):
        with suppress(NotAStore), _report_errors(source):
            return [_open_as_it_is(file, columns) for file in source_files(source)]
    return [open_configured(config, source, formats=formats)]


def _must_convert(columns: Columns, freq: str | None) -> bool:
    """Return whether the values or the frequency of a store are not used as they are."""
    return freq is not None or columns.fill_missing is not None or bool(listed_numbers(columns.missing_values))


def _open_as_it_is(file: Path, columns: Columns) -> Store:
    """Open a file that is a store.

    Raises:
        NotAStore: it is not.
        UserError: the store is empty, or lacks the requested variates or groups.
    """
    store = open_store(file)
    if not len(store):
        raise UserError(f"{file} has no series; remove the file, or write it again")
    _check_variates(store, columns)
    return store


def columns_from_config(config: Config) -> Columns:
    """Return the names of the columns of sources in a configuration, and how their cells are read."""
    data = config.data
    item_id, timestamp = (
        names if isinstance(names, str) else tuple(names) for names in (data.id_column, data.timestamp_column)
    )
    same = "wide decimal encoding sheet timestamp_format skip_rows fill_missing duplicates".split()
    missing, group = tuple(listed(data.missing_values)), tuple(listed(data.group_column or []))
    settings = {name: getattr(data, name) for name in same}
    return Columns(item_id, timestamp, data.variates(), group, missing_values=missing, **settings)


def _check_variates(store: Store, columns: Columns) -> None:
    """Check that a store opened without conversion has the requested variates and groups.

    A single target may have any name, and default columns accept any variates and groups.
    """
    if columns.group and store.groups is None:
        raise UserError(
            f"{store.path or 'the data'} is a store without groups, but data.group_column names "
            f"{', '.join(columns.group)}; give the table with this column in place of the store"
        )
    wanted, given = columns.variates, store.variates
    single = len(wanted) == len(given) == len(wanted.targets) == len(given.targets) == 1
    if not single and wanted != UNIVARIATE and wanted.names_by_role != given.names_by_role:
        raise UserError(
            f"{store.path or 'the data'} is a store of {', '.join(given.names)}, but data.target and the covariates "
            f"name {', '.join(wanted.names)}; give the table with these columns in place of the store"
        )


def _open(source: Any, cache: Cache, columns: Columns, freq: str | None, formats: ColumnFormats) -> Store:
    source = str(source) if isinstance(source, Path) else source
    is_path = isinstance(source, (str, SqlSource))
    name = "the DataFrame" if isinstance(source, pd.DataFrame) else "the table"
    location = SourceLocation(source_name(source) if is_path else name)
    with _report_errors(location):
        if not isinstance(freq, str | None):
            raise UserError(f"data.freq must be the text of a pandas frequency, such as 'D', got {freq!r}")
        if freq:
            parse_freq(freq)
        if is_path:
            return _open_path(source, cache, columns, freq, formats, location)
        if isinstance(source, Store):
            _check_variates(source, columns)
            return source
        if isinstance(source, np.ndarray):
            return _open_array(source, freq, columns)
        table = _to_table(source)
        table = table.select(select_columns(table.column_names, columns, location, location))
        found, series = convert([table], columns, location, freq, formats)
        store = store_from_series(series, found)
        _log_findings(store, str(location), location.warnings)
        return store


@contextmanager
def _report_errors(source: object) -> Iterator[None]:
    """Raise a UserError of one line that names the source if the block fails because of its input."""
    try:
        yield
    except UserError as error:  # names of files, columns and series may have line breaks
        raise UserError(to_one_line(error)) from error
    except (OSError, MemoryError, RecursionError, OverflowError, UnicodeError, pa.ArrowException) as error:
        problem = getattr(error, "strerror", None) or str(error) or type(error).__name__
        is_forbidden = isinstance(error, PermissionError)
        advice = "change its permissions" if is_forbidden else "check that it is complete and of the right types"
        message = ValueError(f"cannot read {source}: {problem}; {advice}")
        raise UserError(to_one_line(message)) from error


def _open_array(source: np.ndarray, freq: str | None, columns: Columns) -> Store:
    if len(columns.variates) > 1 or columns.group or columns.wide:
        raise UserError(
            "an array has series of one target, without names; for data.wide, data.group_column, covariates or several "
            "targets, give a DataFrame"
        )
    if source.ndim != 2:
        raise UserError(f"an array of series must have the shape [n_series, length], got {list(source.shape)}")
    if not len(source):
        raise UserError("the array has no series; give one of the shape [n_series, length]")
    values = array_to_float32(source, "the array", listed_numbers(columns.missing_values))
    if columns.fill_missing is not None:
        is_padding = np.logical_and.accumulate(np.isnan(values), axis=1)  # in front of a shorter series
        values[np.isnan(values) & ~is_padding] = columns.fill_missing
    return store_from_arrays(values, freq or "")


def _to_table(source: Any) -> pa.Table:
    """Return a table in memory, of pandas, polars, pyarrow or any library with Arrow's PyCapsule interface."""
    if not isinstance(source, (pd.DataFrame, pa.Table)) and not hasattr(source, "__arrow_c_stream__"):
        raise UserError(f"a source is a path, a DataFrame, an Arrow table or an array, got {type(source).__name__}")
    if not isinstance(source, pd.DataFrame):
        try:
            return validated(pa.table(source))
        except Exception as error:  # of pyarrow, or of the library of the table
            raise UserError(f"the table has a column of an unsupported type: {to_one_line(error)}") from error
    if source.empty:
        raise UserError("the DataFrame has no rows")
    source = _with_index_as_columns(source)
    for position, (name, dtype) in enumerate(source.dtypes.items()):
        if dtype == object:
            _check_objects(name, source.iloc[:, position])  # two columns may have the same name
    try:
        # For few rows, starting threads takes longer than the conversion.
        threads = None if len(source) > _ROWS_FOR_THREADS else 1
        return pa.Table.from_pandas(source, nthreads=threads, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UserError(f"the DataFrame has a column of an unsupported type: {to_one_line(error)}") from error


def _with_index_as_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a DataFrame with the named levels of its index as columns.

    Raises:
        UserError: an index of dates or of texts, or a level of it, has no name.
    """
    index = frame.index
    levels = index.levels if isinstance(index, pd.MultiIndex) else [index]
    for name, level in zip(index.names, levels):
        if name is None and isinstance(level, (pd.DatetimeIndex, pd.PeriodIndex)):
            raise UserError("the DataFrame's index of dates has no name; give it the name of data.timestamp_column")
        is_text = not (pd.api.types.is_numeric_dtype(level.dtype) or level.empty)
        if name is None and (is_text or (isinstance(index, pd.MultiIndex) and level.dtype.kind == "f")):
            raise UserError(
                f"the DataFrame's index that has {level[0]!r} has no name; give it the name of a column, such as that "
                "of data.id_column, or remove it with reset_index(drop=True)"
            )
    columns = {
        name: index.get_level_values(name)
        for name in index.names
        if name is not None and index.names.count(name) == 1 and name not in frame.columns
    }
    return frame.assign(**{str(name): values for name, values in columns.items()}) if columns else frame


def _check_objects(name: object, column: pd.Series) -> None:
    """Refuse a column of Python objects whose types Arrow would make alike without a word.

    Raises:
        UserError: it has dates beside times, times with and without a time zone, or texts beside numbers.
    """
    kind = pd.api.types.infer_dtype(column, skipna=True)
    problem, values = "", column.dropna()
    if kind in ("date", "datetime", "mixed"):
        if len({isinstance(value, datetime) for value in values if isinstance(value, date)}) > 1:
            problem = "dates and times"
        elif len({value.tzinfo is None for value in values if isinstance(value, datetime)}) > 1:
            problem = "times with and without a time zone"
    elif kind == "mixed-integer":
        has_texts = any(isinstance(value, str) for value in values)
        problem = f"numbers and {'texts' if has_texts else 'other values'}"
    if problem:
        raise UserError(f"the column {name!r} of the DataFrame has {problem}; make them alike, such as all texts")


def _open_path(
    source: Source, cache: Cache, columns: Columns, freq: str | None, formats: ColumnFormats, location: SourceLocation
) -> Store:
    """Return the store of a source, converted unless it is in the cache."""
    identity: object = None  # of the content; None converts it at each call, in the first process
    if isinstance(source, SqlSource):
        from pipeline.data.readers.sql import read_query

        key = fingerprint([], _LAYOUT, columns, freq, source.url.encode(), source.query, formats)
        tables = read_query(source.query, source.url, columns, location)
    else:
        files = source_files(source)
        if files and all(file.suffix == ".arrow" for file in files):
            with suppress(NotAStore):
                if _must_convert(columns, freq):
                    _refuse_several_variates(files)
                elif len(files) > 1:
                    return _open_joined(files, columns, cache, location)
                else:
                    store = _open_as_it_is(files[0], columns)
                    _log_findings(store, source, [])
                    return store
        if "://" in source:
            from pipeline.data.readers import remote

            listing = remote.list_files(source)
            freq, identity = freq or listing.gluonts_freq(), listing.identity()
        elif not files:
            identity = hub_commit(source)
        freq = freq or gluonts_freq(source)
        # Item IDs may be the names of files and folders. A URL may have a secret, so its hash is taken.
        names = [str(file.relative_to(source)) for file in files] or source.encode()
        key = fingerprint(files, _LAYOUT, columns, freq, names, identity, formats)
        tables, identity = read_tables(source, columns, location, cache.folder), files or identity
    may_be_outdated = identity is None and Processes().rank == 0
    opened = None if may_be_outdated else cache.open(key)
    if opened is None:
        logger.info("converting %s", location)
        found, series = convert(tables, columns, location, freq, formats, cache.folder)
        opened = cache.write(key, series, found, location)
    store, warnings = opened
    _log_findings(store, str(location), warnings)
    return store


def _refuse_several_variates(files: Sequence[Path]) -> None:
    """Refuse a store of several variates or of groups, whose values or frequency cannot be changed.

    Raises:
        NotAStore: a file is not a store.
        UserError: as described.
    """
    for file in files:
        store = open_store(file)
        if len(store.variates) > 1 or store.groups is not None:
            raise UserError(
                f"{file} is a store of several variates or of groups; convert its table again to use data.freq, "
                "data.fill_missing or data.missing_values"
            )


def _open_joined(files: Sequence[Path], columns: Columns, cache: Cache, location: SourceLocation) -> Store:
    """Return one store of the series of several, of which one at a time is open.

    Raises:
        NotAStore: a file is not a store.
        UserError: they differ in frequency, variates or groups, or two series have the same item ID.
    """
    ids, formats, kinds = [], [], []
    for file in files:
        store = _open_as_it_is(file, columns)
        ids.append(pa.array(store.item_ids[:], pa.string()))
        formats.append(store.formats)
        kinds.append((store.freq, store.variates, store.groups is not None))
        if kinds[-1] != kinds[0]:
            raise UserError(
                f"{file} has another frequency, or other columns, categories or groups than {files[0]}; put them in "
                "separate folders"
            )
    refuse_repeated_ids(ids, location)
    key = fingerprint(files, _LAYOUT)
    store, warnings = cache.open(key) or cache.write(key, _series_of(files), common_formats(formats), location)
    _log_findings(store, str(location), warnings)
    return store


def _series_of(files: Sequence[Path]) -> Iterator[Series]:
    """Yield the series of stores, with values of their own, so that a store can be closed."""
    for file in files:
        for series in open_store(file).series():
            yield replace(series, target=series.target.copy())


def _log_findings(store: Store, source: str, warnings: list[str]) -> None:
    """Log the formats of the columns of a store, the warnings of its conversion, and its missing values."""
    if len(store) == 0:
        raise UserError(f"{source} has no series")
    if store.formats != ColumnFormats():
        logger.info("%s: %s", source, store.formats.describe(store.variates))
    for warning in warnings:
        logger.warning("%s: %s", source, warning)
    if store.freq == UNKNOWN and store.formats.timestamp is None:
        logger.warning(
            "%s has no timestamps, so its steps are counted in the order of the rows; if a column has the timestamps, "
            "name it with data.timestamp_column",
            source,
        )
    _warn_about_missing_values(store, source)


def _warn_about_missing_values(store: Store, source: str) -> None:
    """Warn about series that end with missing values, and if most steps of the first series are missing."""
    not_empty = np.flatnonzero(store.lengths[:_MAX_CHECKED_SERIES])
    last_values = store.values[(store.offsets + store.lengths)[not_empty] - 1]
    missing_steps = [_count_missing_at_end(store.target(index)) for index in not_empty[np.isnan(last_values)]]
    lengths = store.lengths[:_MAX_CHECKED_SERIES]
    lengths = lengths[: 1 + int(np.searchsorted(np.cumsum(lengths), _MAX_CHECKED_STEPS))]
    n_steps = int(lengths.sum())
    n_known = sum(int(np.count_nonzero(~np.isnan(store.target(index)))) for index in range(len(lengths)))
    if missing_steps:
        logger.warning(
            "%s: %d series end with missing values, of at most %d steps; forecasts start after these steps, so delete "
            "rows of the future",
            source,
            len(missing_steps),
            max(missing_steps),
        )
    if 2 * n_known < n_steps:
        advice = "set data.fill_missing 0 if a missing value means zero, or data.freq to a coarser frequency"
        share = f"{100 * n_known / n_steps:.0f}%"
        logger.warning("%s: only %s of the steps of frequency %r have a value; %s", source, share, store.freq, advice)


def _count_missing_at_end(values: np.ndarray) -> int:
    return int(np.argmin(np.isnan(values[::-1]))) or len(values)
