"""Any source of series as an Arrow store: converted once, and cached by a hash of its content."""

import logging
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.config import Config
from pipeline.core.errors import UserError, to_one_line
from pipeline.core.files import fingerprint
from pipeline.core.series import UNIVARIATE, Series
from pipeline.data.arrow_store import NotAStore, Store, open_store, store_from_arrays, write_store
from pipeline.data.columns import Columns
from pipeline.data.formats import gluonts_freq, hub_commit, read_tables, source_files, standardize_tables
from pipeline.data.frequency import UNKNOWN
from pipeline.data.numbers import array_to_float32
from pipeline.data.rows import SourceLocation
from pipeline.data.tabular import NotInOrder, build_series, stream_series

# Limits of the search for missing values, so that opening a large store stays fast.
_MAX_CHECKED_SERIES = 10_000
_MAX_CHECKED_STEPS = 1 << 24
_LAYOUT = 8  # increase it when the result of a conversion changes, so that cached ones are not used
_NAMES_PER_CHUNK = 65_536  # an Arrow array takes less memory than a list of strings
logger = logging.getLogger(__name__)


def open_source(
    source: str | Path | pd.DataFrame | np.ndarray,
    cache_dir: str | Path = "data/cache",
    columns: Columns = Columns(),
    freq: str | None = None,
) -> Store:
    """Open series in any common format as an Arrow store.

    Args:
        source: a file (CSV, Excel, Parquet, JSON Lines, Arrow, Feather), a folder of files, a GluonTS or `datasets`
            folder, the name of a data set on the Hub (`owner/name` or `owner/name:subset`), a long DataFrame, or an
            array [n_series, length].
        cache_dir: folder of converted sources; a source that is a store already is opened without conversion.
        columns: names of the columns of the source.
        freq: pandas alias; None takes it from the source, or infers it.

    Raises:
        UserError: the source is missing, does not parse, or contains invalid rows.
    """
    if isinstance(source, np.ndarray):
        return _open_array(source, freq)
    if isinstance(source, pd.DataFrame):
        return _open_frame(source, cache_dir, columns, freq)
    return _open_path(str(source), cache_dir, columns, freq)


def open_configured(config: Config, source: str | pd.DataFrame | np.ndarray | None, freq: str | None = None) -> Store:
    """Open a source with the column names, frequency and cache of a configuration.

    Args:
        source: as in `open_source`; None is the generated dummy data.
        freq: pandas alias; None is data.freq.

    Raises:
        UserError: the source is missing or invalid.
    """
    if source is None:
        source = str(config.dummy_path())
        if not config.dummy_path().is_file():
            raise UserError(
                f"no data is given, and {source} does not exist; name a file, or run scripts/generate_data.py"
            )
    return open_source(source, config.cache_path(), columns_from_config(config), freq or config.data.freq)


def open_stores(config: Config, source: str | None) -> list[Store]:
    """Open a source as stores: a folder of stores file by file, any other source as one.

    Args:
        source: a path or the name of a data set on the Hub; None is the generated dummy data.

    Raises:
        UserError: the source is missing or invalid.
    """
    if source is not None and config.data.freq is None and Path(source).is_dir():
        columns = columns_from_config(config)
        stores = []
        try:
            for file in source_files(source):
                stores.append(open_store(file))
                _check_variates(stores[-1], columns)
            return stores
        except NotAStore:
            pass
    return [open_configured(config, source)]


def columns_from_config(config: Config) -> Columns:
    """Return the names of the columns of sources in a configuration."""
    data = config.data
    ids = data.id_column if isinstance(data.id_column, str) else tuple(data.id_column)
    return Columns(ids, data.timestamp_column, data.variates(), data.wide, data.decimal, data.encoding, data.sheet)


def _check_variates(store: Store, columns: Columns) -> None:
    """Check that a store opened without conversion has the requested variates.

    A single target may have any name, and default columns accept any variates.

    Raises:
        UserError: other variates are requested.
    """
    wanted, given = columns.variates, store.variates
    single = len(wanted) == len(given) == len(wanted.targets) == len(given.targets) == 1
    if not single and wanted != UNIVARIATE and wanted.names_by_role != given.names_by_role:
        raise UserError(
            f"{store.path} is a store of {', '.join(given.names)}, but data.target and the covariates name "
            f"{', '.join(wanted.names)}; give the table with these columns in place of the store"
        )


def _open_array(source: np.ndarray, freq: str | None) -> Store:
    if source.ndim != 2:
        raise UserError(f"an array of series must have the shape [n_series, length], got {list(source.shape)}")
    if not len(source):
        raise UserError("the array has no series; give one of the shape [n_series, length]")
    return store_from_arrays(array_to_float32(source, "the array"), freq or "")


def _open_frame(source: pd.DataFrame, cache_dir: str | Path, columns: Columns, freq: str | None) -> Store:
    if source.empty:
        raise UserError("the DataFrame has no rows")
    if isinstance(source.index, pd.DatetimeIndex) and source.index.name is None:
        raise UserError("the DataFrame's index of dates has no name; give it the name of data.timestamp_column")
    try:
        content = pd.util.hash_pandas_object(source, index=True).to_numpy().tobytes()
        table = pa.Table.from_pandas(source)  # named levels of the index become columns
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UserError(f"the DataFrame has a column of an unsupported type: {to_one_line(error)}") from error
    types = [str(dtype) for dtype in source.dtypes]
    names = [*source.index.names, *source.columns]
    cached = _cache_file(cache_dir, fingerprint([], _LAYOUT, columns, freq, names, types, content))
    if not cached.is_file():
        _convert(lambda: iter([table]), SourceLocation("the DataFrame"), cached, columns, freq)
    return _open_converted(cached, "the DataFrame")


def _open_path(source: str, cache_dir: str | Path, columns: Columns, freq: str | None) -> Store:
    files = source_files(source)
    if len(files) == 1 and files[0].suffix == ".arrow" and freq is None:
        try:
            store = open_store(files[0])
        except NotAStore:
            pass
        else:
            _check_variates(store, columns)
            _check_content(store, source)
            return store
    freq = freq or gluonts_freq(source)
    commit = None if files else hub_commit(source)
    # The item IDs of several files may be the names of the files.
    names = [] if len(files) == 1 else [str(file.relative_to(source)) for file in files] or source
    cached = _cache_file(cache_dir, fingerprint(files, _LAYOUT, columns, freq, names, commit))
    may_be_outdated = not files and commit is None
    if may_be_outdated or not cached.is_file():
        logger.info("converting %s to %s", source, cached)
        location = SourceLocation(source)
        _convert(partial(read_tables, source, columns, location), location, cached, columns, freq)
    return _open_converted(cached, source)


def _cache_file(cache_dir: str | Path, name: str) -> Path:
    return Path(cache_dir, f"{name}.arrow")


def _open_converted(path: Path, source: str) -> Store:
    store = open_store(path)
    if store.freq == UNKNOWN:
        logger.warning(
            "%s has no timestamps, so its steps are counted in the order of the rows; if a column has the timestamps, "
            "name it with data.timestamp_column",
            source,
        )
    _check_content(store, source)
    return store


def _convert(
    read: Callable[[], Iterator[pa.Table]], location: SourceLocation, path: Path, columns: Columns, freq: str | None
) -> None:
    """Write a source to a store while it is read if its rows are in order, else read it again and sort it."""
    options = location, freq, columns.variates
    try:
        series = stream_series(standardize_tables(read(), columns, location), *options)
        write_store(path, _refuse_duplicate_ids(series, location))
    except (NotInOrder, UserError):
        # Errors are raised from the second reading, since a row may be valid only together with later ones.
        tables = standardize_tables(read(), columns, location)
        series = build_series(tables, *options, temporary_folder=path.parent)
        write_store(path, _refuse_duplicate_ids(series, location))


def _refuse_duplicate_ids(series: Iterable[Series], location: SourceLocation) -> Iterator[Series]:
    """Yield the series, and refuse duplicate item IDs at the end; a million IDs take about 20 MB.

    Raises:
        UserError: two series have the same item ID.
    """
    hashes, names, chunks = array("q"), [], []
    for item in series:
        hashes.append(hash(item.item_id))
        names.append(item.item_id)
        if len(names) == _NAMES_PER_CHUNK:
            chunks.append(pa.array(names))
            names = []
        yield item
    id_hashes = np.frombuffer(hashes, np.int64)
    if (np.diff(np.sort(id_hashes)) == 0).any():
        order = np.argsort(id_hashes, kind="stable")
        same_hash = np.flatnonzero(np.diff(id_hashes[order]) == 0)
        all_names = pa.chunked_array([*chunks, pa.array(names, pa.string())])
        for first, second in zip(order[same_hash].tolist(), order[same_hash + 1].tolist()):
            if all_names[first] == all_names[second]:
                raise UserError(f"{location}: two series have the item_id {all_names[first]}; make it unique")


def _check_content(store: Store, source: str) -> None:
    """Refuse a store without series, and warn about missing values.

    Raises:
        UserError: the store has no series.
    """
    if len(store) == 0:
        raise UserError(f"{source} has no series")
    _warn_about_missing_ends(store, source)
    _warn_about_sparse_series(store, source)


def _warn_about_missing_ends(store: Store, source: str) -> None:
    begins, lengths = store.offsets[:_MAX_CHECKED_SERIES], store.lengths[:_MAX_CHECKED_SERIES]
    ends = begins + lengths
    n_missing = [
        int(np.argmin(np.isnan(store.values[begin:end][::-1]))) or int(end - begin)
        for begin, end in zip(begins.tolist(), ends.tolist())
        if end > begin and np.isnan(store.values[end - 1])
    ]
    if n_missing:
        logger.warning(
            "%s: %d series end with missing values, of at most %d steps; forecasts start after these steps, so leave "
            "out rows of the future",
            source,
            len(n_missing),
            max(n_missing),
        )


def _warn_about_sparse_series(store: Store, source: str) -> None:
    """Warn about series with a coarser frequency than the store, and if most steps are missing."""
    n_steps = n_known = 0
    strides: dict[str, int] = {}
    for index in range(min(len(store), _MAX_CHECKED_SERIES)):
        if n_steps > _MAX_CHECKED_STEPS:
            break
        known = np.flatnonzero(~np.isnan(store.target(index)))
        n_steps, n_known = n_steps + int(store.lengths[index]), n_known + len(known)
        if len(known) > 2 and (stride := int(np.gcd.reduce(np.diff(known)))) > 1:
            strides[store.item_ids[index]] = stride
    if strides and store.freq != UNKNOWN:
        name, stride = next(iter(strides.items()))
        logger.warning(
            "%s: %d series have a coarser frequency than %r: %s has a value every %d steps; set data.freq, or write "
            "series of another frequency to a separate file",
            source,
            len(strides),
            store.freq,
            name,
            stride,
        )
    if 2 * n_known < n_steps:
        logger.warning(
            "%s: only %.0f%% of the steps of frequency %r have a value, and missing values are not zeros; write zeros "
            "if these are meant, or set data.freq",
            source,
            100 * n_known / n_steps,
            store.freq,
        )
