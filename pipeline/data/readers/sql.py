"""The result of a SQL query as Arrow tables, streamed through SQLAlchemy."""

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.core.credentials import check_database_url, fill_variables
from pipeline.core.errors import UserError, to_one_line
from pipeline.core.urls import redact
from pipeline.data.columns import Columns, select_columns
from pipeline.data.rows import SourceLocation

_READS = re.compile(r"(\s|\(|--.*\n|/\*[\s\S]*?\*/)*(select|with|values|table)\b", re.IGNORECASE)
"""The beginning of a query that reads, after comments and parentheses."""
_FIRST_ROWS, _MAX_ROWS, _BLOCK_BYTES = 1_000, 65_536, 1 << 22
"""Rows of the first block, and limits of the others. A row in Python takes about ten times its bytes in Arrow."""
_NUMBERS = {int, float, Decimal}
_ARROW_TYPES = {bool, str, bytes, list, dt.date, dt.datetime, dt.time, dt.timedelta}
"""The values of other types, such as UUIDs, become texts."""


def read_query(query: str, url: str, columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    """Yield the result of a query in order, in tables with a bounded number of rows and bytes.

    The query runs at every call, because its tables may change at any time. PostgreSQL and SQLite refuse to write. For
    any database, the query must begin with a word that reads.

    Args:
        query: begins with SELECT, WITH, VALUES or TABLE.
        url: of the database, as SQLAlchemy takes it, such as postgresql://host/database or sqlite:///file.db. A
            variable `${NAME}` is filled from the environment. PostgreSQL also reads PGPASSWORD and ~/.pgpass.

    Raises:
        UserError: the URL has a password, a package is missing, the database cannot be reached, the query fails, lacks
            a column, or has a column of values of several types.
    """
    if not _READS.match(query):
        raise UserError(f"{location}: the query must begin with SELECT, WITH, VALUES or TABLE, got {query[:40]!r}")
    with _connect(url, location) as connection:
        result = connection.exec_driver_sql(query)
        names = list(result.keys())
        selected = select_columns(names, columns, location, location)
        positions = [names.index(name) for name in selected]
        types: dict[str, pa.DataType] = {}
        n_rows = _FIRST_ROWS
        while rows := result.fetchmany(n_rows):
            values = list(zip(*rows))
            arrays = [_to_array(values[position], names[position], types, location) for position in positions]
            yield (table := pa.table(arrays, selected))
            n_rows = max(1, min(_MAX_ROWS, _BLOCK_BYTES * len(table) // max(1, table.nbytes)))


@contextmanager
def _connect(url: str, location: SourceLocation) -> Iterator[Any]:
    """Open a connection that streams results and, to PostgreSQL and SQLite, does not write.

    The causes of errors are cut off, since their messages may have the URL.
    """
    check_database_url(url)
    try:
        import sqlalchemy as sa
    except ImportError as error:
        raise UserError(f"{location}: a package is missing: pip install 'chronos-native[sql]'") from error
    filled = fill_variables(url)
    try:
        address = sa.make_url(filled)
    except (sa.exc.ArgumentError, ValueError):
        raise UserError(f"{location}: the URL is not valid; write postgresql://host/database") from None
    if address.drivername == "postgresql":
        address = address.set(drivername="postgresql+psycopg")  # the default differs between versions of SQLAlchemy
    is_sqlite = address.get_backend_name() == "sqlite"
    file = address.database or ""
    if is_sqlite and not file.startswith("file:") and not Path(file).is_file():  # SQLite would create it
        raise UserError(f"{location}: no such file: {file or redact(url)}")
    try:
        engine = sa.create_engine(address, poolclass=sa.NullPool)
        with engine.connect() as connection:
            if is_sqlite:
                connection.exec_driver_sql("PRAGMA query_only = ON")
            # Without no_parameters, a percent sign in the query would begin a placeholder.
            yield connection.execution_options(stream_results=True, no_parameters=True, postgresql_readonly=True)
    except ImportError as error:
        packages = f"pip install 'chronos-native[sql]' for PostgreSQL, or {error.name}"
        raise UserError(f"{location}: the driver of the database is missing: {packages}") from None
    except sa.exc.SQLAlchemyError as error:
        message = to_one_line(getattr(error, "orig", None) or error)
        if address.password:
            message = message.replace(address.password, "***")
        raise UserError(f"{location}: {message}; check the query and the URL") from None


def _to_array(values: Sequence[Any], name: str, known: dict[str, pa.DataType], location: SourceLocation) -> pa.Array:
    """Return the values of a column of a block, with the type of earlier blocks if all are NULL."""
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return pa.nulls(len(values), known.get(name))
    if len(kinds) > 1 and not kinds <= _NUMBERS:
        raise _refusal(name, " and ".join(sorted(kind.__name__ for kind in kinds)), location)
    try:
        if not kinds <= _NUMBERS | _ARROW_TYPES:
            values = [None if value is None else str(value) for value in values]
        array = pa.array(values)
    except (TypeError, ValueError, OverflowError):  # a Decimal NaN, or an integer beyond 64 bits
        if not kinds <= _NUMBERS:
            raise _refusal(name, "that Arrow lacks", location) from None
        convert = Decimal if kinds == {int} else float
        array = pa.array([None if value is None else convert(value) for value in values])
    earlier = known.setdefault(name, array.type)
    if _family(earlier) != _family(array.type):
        raise _refusal(name, f"{earlier} and {array.type}", location)
    return array


def _family(kind: pa.DataType) -> int:
    """Return the ID of a type, the same for all types of numbers."""
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return pa.float64().id if is_number else kind.id


def _refusal(name: str, kinds: str, location: SourceLocation) -> UserError:
    return UserError(
        f"{location}: the column {name} has values of types {kinds}; write CAST({name} AS TYPE) in the query"
    )
