"""Series from the partitions of a Spark DataFrame or a Ray Dataset, each with all rows of its series.

A partition must not decide by itself how it is read, since others might decide differently. Therefore the columns,
formats and frequency come from a model or a sample, and a partition that needs a decision of its own is refused.
"""

from __future__ import annotations

import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.arguments import name_arguments, with_options
from pipeline.config import Config, listed
from pipeline.core.checks import check_writable_folder
from pipeline.core.errors import UserError, first_few
from pipeline.core.files import fingerprint
from pipeline.data.arrow_store import Store, open_store, write_store
from pipeline.data.column_formats import ColumnFormats, format_names
from pipeline.data.dates import TimeFormat
from pipeline.data.frequency import UNKNOWN, parse_freq
from pipeline.data.nested import is_nested
from pipeline.data.numbers import NumberFormat
from pipeline.data.rows import is_list, is_text
from pipeline.data.source import open_configured

_DDL = {pa.string(): "STRING", pa.float32(): "FLOAT", pa.int64(): "BIGINT"}
_DDL |= {pa.timestamp("us"): "TIMESTAMP_NTZ", pa.timestamp("us", "UTC"): "TIMESTAMP"}


@dataclass(frozen=True)
class Reading:
    """How every partition of a table is read."""

    config: Config
    """Names of the columns, and how their cells are read."""
    freq: str
    """Frequency of all series; `UNKNOWN` for counted steps."""
    formats: ColumnFormats
    """Formats of the columns of texts."""

    @staticmethod
    def of(config: Config, formats: ColumnFormats, freq: str | None) -> Reading:
        """Return the reading with formats and a frequency that are known beforehand.

        Args:
            freq: frequency of the series; None if it is unknown, which only counted steps can have.

        Raises:
            UserError: the timestamps are dates, and their frequency is unknown.
        """
        style = config.data.timestamp_format or (formats.timestamp.style if formats.timestamp else None)
        if style == "steps":
            return Reading(config, UNKNOWN, formats)
        freq = config.data.freq or freq
        if freq is None:
            raise UserError(
                "data.freq: give the frequency, such as 'D', since a partition may be too short to infer it"
            )
        if freq != UNKNOWN:
            parse_freq(freq)
        if style is None and freq != UNKNOWN:
            formats = replace(formats, timestamp=TimeFormat("timestamp"))
        return Reading(config, freq, formats)

    @property
    def zone(self) -> str | None:
        """Time zone of the timestamps, None for local times."""
        return "UTC" if self.formats.timestamp is not None and self.formats.timestamp.zone == "utc" else None

    def open(self, table: pa.Table) -> Store:
        """Return the series of a partition.

        Raises:
            UserError: a row is invalid, or the partition would have to decide how it is read.
        """
        data = self.config.data
        ids, stamps = listed(data.id_column), listed(data.timestamp_column)
        lacking = [name for name in ids if name not in table.column_names]
        if not data.wide and not is_nested(table, data.variates()):
            lacking += [name for name in stamps if name not in table.column_names]
        if lacking:
            raise UserError(
                f"the partition has no column {lacking[0]!r}, only {first_few(table.column_names, 20)}, and its rows "
                "have no order; name the columns with data.id_column and data.timestamp_column"
            )
        if data.wide and set(stamps) <= set(table.column_names):
            raise UserError(
                "data.wide: a table with a column per series has no partitions by series; give a long table"
            )
        try:
            store = open_configured(self.config, table, self.freq or None, self.formats)
        except UserError as error:
            raise UserError(_with_series(str(error), table, ids)) from error
        self._check_decisions(store, table)
        return store

    def _check_decisions(self, store: Store, table: pa.Table) -> None:
        """Refuse a partition whose content has decided its formats or its frequency.

        Raises:
            UserError: it has.
        """
        data, found, known = self.config.data, store.formats, self.formats
        if store.freq != self.freq:
            raise UserError(
                f"data.freq: {first_few(store.item_ids)} have the frequency {store.freq!r}, not {self.freq!r}"
            )
        columns = list(zip(format_names(data.variates()), data.variates().names))
        if data.wide:
            columns = [("target", name) for name in table.column_names if name not in listed(data.id_column)]
        for name, column in columns:
            kind = table.schema.field(column).type
            is_read_alike = found.values.get(name) in (NumberFormat(), known.values.get(name, NumberFormat()))
            if is_text(kind.value_type if is_list(kind) else kind) and not (is_read_alike or data.decimal != "auto"):
                raise UserError(
                    f"the column {column!r} has texts, which another partition may read differently; make it numbers, "
                    "set data.decimal, or give a sample or a model of such series"
                )
        if found.timestamp is None:
            return
        kinds = [table.schema.field(name).type for name in listed(data.timestamp_column) if name in table.column_names]
        is_typed = all(pa.types.is_timestamp(kind) or pa.types.is_date(kind) or is_list(kind) for kind in kinds)
        expected = known.timestamp or TimeFormat(found.timestamp.style)
        is_other = found.timestamp.style != expected.style and data.timestamp_format is None and not is_typed
        if is_other or found.timestamp.zone != expected.zone:
            raise UserError(
                f"the timestamps are {found.timestamp.describe()}, and those of the other partitions may be "
                f"{expected.describe()}; cast them to one type, or set data.timestamp_format"
            )


def _with_series(message: str, table: pa.Table, id_columns: list[str]) -> str:
    """Return a message with the item ID of the row that it names; a number in a partition says little."""
    row = re.search(r"\brow (\d+)\b", message)
    if row is None or int(row[1]) > len(table):
        return message
    return f"{message} (series {'/'.join(str(table[name][int(row[1]) - 1]) for name in id_columns)})"


@lru_cache(maxsize=1)
def _seen(identity: str) -> dict[str, int]:
    """Return the hash of the values of each series that this process has been given by a function."""
    return {}


@dataclass(frozen=True)
class PartitionFunction(ABC):
    """A function of one partition, for `mapInArrow` and `applyInArrow` of Spark and `map_batches` of Ray.

    It takes and returns a pyarrow Table, or an iterator of the record batches of one partition. It can be pickled.
    """

    reading: Reading
    schema: pa.Schema
    """Arrow schema of the result."""
    identity: str = field(default_factory=lambda: uuid4().hex)
    """Tells apart functions that the same process runs."""
    __name__ = "partition_function"  # for Ray
    __signature__ = Signature([Parameter("data", Parameter.POSITIONAL_OR_KEYWORD)])  # Spark counts the arguments

    @property
    def ddl(self) -> str:
        """The schema of the result for Spark."""
        columns = ((column.name.replace("`", "``"), _DDL[column.type]) for column in self.schema)
        return ", ".join(f"`{name}` {kind}" for name, kind in columns)

    def __call__(self, data: Any) -> Any:
        """Return the result for a table, or an iterator of record batches for an iterator of record batches.

        Raises:
            UserError: a row is invalid, or the partition does not have all rows of its series.
        """
        return self._run(data) if isinstance(data, pa.Table) else self._run_batches(data)

    def _run_batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        if rows := list(batches):
            yield from self._run(pa.Table.from_batches(rows)).to_batches()

    @name_arguments
    def _run(self, table: pa.Table) -> pa.Table:
        if not len(table):
            return self.schema.empty_table()
        store = self.reading.open(table)
        self._refuse_cut_series(store)
        return self.apply(store).cast(self.schema)

    def _refuse_cut_series(self, store: Store) -> None:
        """Refuse a series that this process has seen with other values; a retried partition has the same ones."""
        seen = _seen(self.identity)
        for index, name in enumerate(store.item_ids):
            content = hash((int(store.starts[index].astype("i8")), store.rows(index).tobytes()))
            if seen.setdefault(name, content) != content:
                raise UserError(
                    f"series {name} is in two partitions or batches with different rows; repartition by the item ID, "
                    "with batch_size=None. For other data, make a new function"
                )

    @abstractmethod
    def apply(self, store: Store) -> pa.Table:
        """Return the result for the series of a partition."""


@dataclass(frozen=True)
class StoreWriter(PartitionFunction):
    """Writes the series of each partition to a store, and returns a row for each store: `path`, `series`, `steps`."""

    folder: Path = Path()
    """Folder of the stores after `commit`."""

    @property
    def staging(self) -> Path:
        """Folder of the stores before `commit`."""
        return self.folder.with_name(f".{self.folder.name}.parts")

    def apply(self, store: Store) -> pa.Table:
        """Write a store that is named by its series, so that a repeated partition replaces the file by the same one.

        Raises:
            UserError: a covariate has categories, or the folder cannot be written.
        """
        for name, categories in store.variates.categories.items():
            if set(categories) != {"false", "true"}:  # otherwise each partition has positions of its own
                raise UserError(f"the covariate {name} has categories such as {categories[0]!r}; make it a number")
        path = self.staging / f"{fingerprint([], sorted(store.item_ids))}.arrow"
        write_store(path, store.series(), store.formats)
        counts = {"path": [str(path)], "series": [len(store)], "steps": [int(store.lengths.sum())]}
        return pa.table(counts, schema=self.schema)

    @name_arguments
    def commit(self, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Check the stores of all partitions, and move them to the folder; training does not see them before.

        Args:
            rows: the result of all partitions: `collect()` of Spark or `take_all()` of Ray.

        Raises:
            UserError: there are no stores, or a series is in two of them.
        """
        paths = {Path(row["path"]) for row in rows}
        if not paths or not all(path.is_file() for path in paths):
            missing = next((path for path in paths if not path.is_file()), self.staging)
            raise UserError(f"{missing} is missing; write at least a series, to a disk that all machines share")
        ids = pa.chunked_array([pa.array(open_store(path).item_ids[:], pa.string()) for path in sorted(paths)])
        if pc.count_distinct(ids).as_py() < len(ids):
            repeated = next(found["values"] for found in pc.value_counts(ids).to_pylist() if found["counts"] > 1)
            raise UserError(f"series {repeated} is in two partitions; repartition by the item ID, and write again")
        for file in set(self.staging.iterdir()) - paths:  # of an attempt whose result was not used
            file.unlink()
        self.staging.rename(self.folder)
        return self.folder


@name_arguments
def store_partitions(folder: str | Path, like: Any = None, **options: Any) -> StoreWriter:
    """Return a function that writes each partition of a Spark DataFrame or Ray Dataset to a store.

    A partition has all rows of its series, or a row for each series with a list of values. After the job,
    `commit(rows)` moves the stores to the folder, which `data.train` takes.

    Args:
        folder: a new or empty folder on a disk that all machines share.
        like: some whole series, as `open_source` takes them, whose frequency and formats all partitions have; needed
            for columns of texts.
        options: keys of the section `data`, such as `id_column="shop"`; `freq` is needed without `like`.

    Raises:
        UserError: an option or the folder is wrong, or the frequency is unknown.
    """
    config = with_options(Config(), options, "data")
    formats, freq = ColumnFormats(), None
    if like is not None:
        sample = open_configured(config, like)
        formats, freq = sample.formats, sample.freq
    schema = pa.schema([("path", pa.string()), ("series", pa.int64()), ("steps", pa.int64())])
    writer = StoreWriter(Reading.of(config, formats, freq), schema, folder=Path(folder).absolute())
    check_writable_folder(writer.folder)
    if writer.folder.exists() and any(writer.folder.iterdir()):
        raise UserError(f"{folder} has files; choose a new folder, or remove them")
    shutil.rmtree(writer.staging, ignore_errors=True)  # of a job that failed
    return writer
