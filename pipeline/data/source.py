"""Any source of series opened as an Arrow store: converted once, kept by the fingerprint of its content."""

import logging
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.config import Config
from pipeline.core.errors import UserError, one_line
from pipeline.core.files import fingerprint
from pipeline.core.series import UNIVARIATE, Series
from pipeline.data.arrow_store import NotAStore, Store, open_store, store_from_arrays, write_store
from pipeline.data.columns import Columns
from pipeline.data.formats import gluonts_freq, hub_commit, named_tables, read_tables, source_files
from pipeline.data.frequency import UNKNOWN
from pipeline.data.numbers import float32_of_array
from pipeline.data.rows import SourceLocation
from pipeline.data.tabular import NotInOrder, series_in_order, series_of_tables

_LOOKED_AT = 10_000
_STEPS_LOOKED_AT = 1 << 24
_LAYOUT = 8  # raise it when what a conversion gives changes, so that older ones are not taken
_NAMES_AT_ONCE = 65_536
logger = logging.getLogger(__name__)


def open_source(
    source: str | Path | pd.DataFrame | np.ndarray,
    cache_dir: str | Path = "data/cache",
    columns: Columns = Columns(),
    freq: str | None = None,
) -> Store:
    """Open series in any common format as an Arrow store.

    Args:
        source: a file (CSV, Excel, Parquet, JSON LogCallback, Arrow, Feather), a folder of files, a GluonTS or `datasets` folder, the
            name of a data set on the Hub (`owner/name` or `owner/name:subset`), a long DataFrame, or an array
            [n_series, length].
        cache_dir: where conversions are kept; a source already in the form of a store is opened where it lies.
        freq: pandas alias; None takes it from the source, or infers it.

    Raises:
        UserError: the source is missing, does not parse, or holds rows that cannot be used.
    """
    if isinstance(source, np.ndarray):
        if source.ndim != 2:
            raise UserError(f"an array of series must have the shape [n_series, length], got {list(source.shape)}")
        if not len(source):
            raise UserError("the array holds no series; give one of shape [n_series, length]")
        return store_from_arrays(float32_of_array(source, "the array"), freq or "")
    if isinstance(source, pd.DataFrame):
        if source.empty:
            raise UserError("the DataFrame holds no rows")
        if isinstance(source.index, pd.DatetimeIndex) and source.index.name is None:
            raise UserError("the DataFrame's index of dates has no name; name it as data.timestamp_column says")
        try:
            hashed = pd.util.hash_pandas_object(source, index=True).to_numpy().tobytes()
            rows = pa.Table.from_pandas(source)  # named levels of its index become columns
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise UserError(f"the DataFrame has a column of no plain type: {one_line(error)}") from error
        kinds = [str(kind) for kind in source.dtypes]
        names = [*source.index.names, *source.columns]
        cached = _cached(cache_dir, fingerprint([], _LAYOUT, columns, freq, names, kinds, hashed))
        if not cached.is_file():
            _convert(lambda: iter([rows]), SourceLocation("the DataFrame"), cached, columns, freq)
        return _converted(cached, "the DataFrame")
    return _open_path(str(source), cache_dir, columns, freq)


def open_configured(config: Config, source: str | pd.DataFrame | np.ndarray | None, freq: str | None = None) -> Store:
    """Open one source by the column names, frequency and cache of a configuration; None is the generated dummy data.

    Raises:
        UserError: the source is missing or wrong.
    """
    if source is None:
        source = str(config.dummy_path())
        if not config.dummy_path().is_file():
            raise UserError(f"no data is named and {source} is not there; name a file, or run scripts/generate_data.py")
    return open_source(source, config.cache_path(), columns_of(config), freq or config.data.freq)


def open_stores(config: Config, source: str | None) -> list[Store]:
    """Open a source as stores: a folder of stores file by file, any other source as one; None is the generated dummy data.

    Raises:
        UserError: the source is missing or wrong.
    """
    if source is not None and config.data.freq is None and Path(source).is_dir():
        try:
            return [holding(open_store(file), columns_of(config)) for file in source_files(source)]
        except NotAStore:
            pass
    return [open_configured(config, source)]


def columns_of(config: Config) -> Columns:
    """Return how a configuration names the columns of sources."""
    data = config.data
    ids = data.id_column if isinstance(data.id_column, str) else tuple(data.id_column)
    return Columns(ids, data.timestamp_column, data.variates(), data.wide, data.decimal, data.encoding, data.sheet)


def holding(store: Store, columns: Columns) -> Store:
    """Return a store that is opened where it lies, whose variates are its own; a target alone goes by any name.

    Raises:
        UserError: others are asked for.
    """
    wanted, found = columns.variates, store.variates
    alone = len(wanted) == len(found) == len(wanted.targets) == len(found.targets) == 1
    if not alone and wanted != UNIVARIATE and wanted.names_by_role != found.names_by_role:
        raise UserError(
            f"{store.path} is a store of {', '.join(found.names)}; of {', '.join(wanted.names)}, which data.target and its "
            "covariates name, make one from the table"
        )
    return store


def _open_path(source: str, cache_dir: str | Path, columns: Columns, freq: str | None) -> Store:
    files = source_files(source)
    if len(files) == 1 and files[0].suffix == ".arrow" and freq is None:
        try:
            return _filled(holding(open_store(files[0]), columns), source)
        except NotAStore:
            pass
    freq = freq or gluonts_freq(source)
    commit = None if files else hub_commit(source)
    # Of several files the names may be those of their series.
    named = [] if len(files) == 1 else [str(file.relative_to(source)) for file in files] or source
    cached = _cached(cache_dir, fingerprint(files, _LAYOUT, columns, freq, named, commit))
    may_be_older = not files and commit is None
    if may_be_older or not cached.is_file():
        logger.info("converting %s to %s", source, cached)
        where = SourceLocation(source)
        _convert(partial(read_tables, source, columns, where), where, cached, columns, freq)
    return _converted(cached, source)


def _converted(path: Path, source: str) -> Store:
    store = open_store(path)
    if store.freq == UNKNOWN:
        logger.warning(
            "%s has no timestamps: its steps are counted in the order of its rows; where a column has them, name it with "
            "data.timestamp_column",
            source,
        )
    return _filled(store, source)


def _convert(
    read: Callable[[], Iterator[pa.Table]], where: SourceLocation, path: Path, columns: Columns, freq: str | None
) -> None:
    """Write a source to a store as it is read where its rows are in order; else it is read again, and sorted."""
    settings = where, freq, columns.variates
    try:
        write_store(path, _unique(series_in_order(named_tables(read(), columns, where), *settings), where))
    except (NotInOrder, UserError):
        # What is wrong with rows that are out of order, only all of them together say.
        tables = named_tables(read(), columns, where)
        write_store(path, _unique(series_of_tables(tables, *settings, room=path.parent), where))


def _unique(series: Iterable[Series], where: SourceLocation) -> Iterator[Series]:
    """Pass series on, and refuse names that come twice; a million of them take some twenty megabytes."""
    hashes, names, chunks = array("q"), [], []
    for one in series:
        hashes.append(hash(one.item_id))
        names.append(one.item_id)
        if len(names) == _NAMES_AT_ONCE:
            chunks.append(pa.array(names))
            names = []
        yield one
    found = np.frombuffer(hashes, np.int64)
    if (np.diff(np.sort(found)) == 0).any():
        order = np.argsort(found, kind="stable")
        alike = np.flatnonzero(np.diff(found[order]) == 0)
        all_names = pa.chunked_array([*chunks, pa.array(names, pa.string())])
        for first, second in zip(order[alike].tolist(), order[alike + 1].tolist()):
            if all_names[first] == all_names[second]:
                raise UserError(
                    f"{where}: two rows are named {all_names[first]}; give each series an item_id of its own"
                )


def _filled(store: Store, source: str) -> Store:
    if len(store) == 0:
        raise UserError(f"{source} holds no series")
    _tell_of_open_ends(store, source)
    _tell_of_few_values(store, source)
    return store


def _tell_of_open_ends(store: Store, source: str) -> None:
    """Say how many of the first ten thousand series end with missing values."""
    begins, lengths = store.offsets[:_LOOKED_AT], store.lengths[:_LOOKED_AT]
    ends = begins + lengths
    missing = [
        int(np.argmin(np.isnan(store.values[begin:end][::-1]))) or int(end - begin)
        for begin, end in zip(begins.tolist(), ends.tolist())
        if end > begin and np.isnan(store.values[end - 1])
    ]
    if missing:
        logger.warning(
            "%s: %d series end with missing values, at most %d steps of them; a forecast starts behind those: leave out rows "
            "that are yet to come",
            source,
            len(missing),
            max(missing),
        )


def _tell_of_few_values(store: Store, source: str) -> None:
    """Say where most steps of the first series are missing, and which of them have a frequency of their own."""
    n_steps = n_known = 0
    coarser: dict[str, int] = {}
    for index in range(min(len(store), _LOOKED_AT)):
        if n_steps > _STEPS_LOOKED_AT:
            break
        known = np.flatnonzero(~np.isnan(store.target(index)))
        n_steps, n_known = n_steps + int(store.lengths[index]), n_known + len(known)
        if len(known) > 2 and (apart := int(np.gcd.reduce(np.diff(known)))) > 1:
            coarser[store.item_ids[index]] = apart
    if coarser and store.freq != UNKNOWN:
        logger.warning(
            "%s: of %r, the steps of %d series between two values are missing throughout, as %s has one every %d steps; name "
            "another frequency with data.freq, or give series of another one a file of their own",
            source,
            store.freq,
            len(coarser),
            *next(iter(coarser.items())),
        )
    if 2 * n_known < n_steps:
        logger.warning(
            "%s: only %.0f%% of the steps of %r have a value; the others are unknown, which is not nought: write noughts "
            "where those are meant, or name another frequency with data.freq",
            source,
            100 * n_known / n_steps,
            store.freq,
        )


def _cached(cache_dir: str | Path, name: str) -> Path:
    return Path(cache_dir, f"{name}.arrow")
