"""Tables of sources, for the tests of readers."""

from pipeline.data.columns import Columns
from pipeline.data.readers import read_tables
from pipeline.data.rows import SourceLocation


def read(source, columns=Columns()):
    """Return the tables of a source, and its location."""
    location = SourceLocation(source)
    return list(read_tables(str(source), columns, location)), location


def read_rows(source, columns=Columns()):
    """Return all rows of a source as tuples."""
    return [tuple(row.values()) for table in read(source, columns)[0] for row in table.to_pylist()]
