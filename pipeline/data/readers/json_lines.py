"""Reading of JSON Lines, and of a JSON array of objects."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from pipeline.core.errors import UserError, to_one_line
from pipeline.data.columns import Columns, select_columns
from pipeline.data.readers.cells import number_text, to_column
from pipeline.data.readers.files import DataFile
from pipeline.data.rows import SourceLocation

# Sizes of the tables that are read at a time. They bound memory.
_ROWS, _CHARS = 4096, 1 << 23
_MAX_ARRAY = 1 << 29  # characters; as Python objects, they take up to ten times the memory
_FLOATS = pa.list_(pa.float64())
_HINT = "write one object per line, or one array of objects"


def read_json(file: DataFile, columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    """Yield the objects of a file as rows, a bounded number at a time; an absent field is null.

    A column has lists, numbers if all its values in the table are numbers, or strings.

    Raises:
        UserError: the file has anything other than objects, an object has a key twice, or a value is an object.
    """
    if columns.wide:
        raise UserError(f"{file}: data.wide is for tables with rows and columns, not for JSON")
    fields: dict[str, None] = {}  # of all rows so far, since a row may leave out a field without a value
    types: dict[str, pa.DataType] = {}
    for records in _blocks(file, columns.encoding):
        fields |= dict.fromkeys(name for record in records for name in record)
        try:
            selected = select_columns(list(fields), columns, file, location)
        except UserError:  # a column that no row has, or none of the first rows
            fields |= dict.fromkeys(name for block in _blocks(file, columns.encoding) for row in block for name in row)
            selected = select_columns(list(fields), columns, file, location)
        table = {}
        for name in selected:
            values = [record.get(name) for record in records]
            if any(isinstance(value, dict) for value in values):
                raise UserError(f"{file}: a value of {name!r} is an object; write one object per row")
            if any(isinstance(value, list) for value in values):
                is_target = name == columns.target
                column = _to_lists(file, values) if is_target else pa.array(values)
            else:
                column = to_column(values, name in columns.variates.names)
                if pa.types.is_null(column.type):
                    column = column.cast(types.get(name, pa.string()))
            table[name], types[name] = column, column.type
        yield pa.table(table)


def _blocks(file: DataFile, encoding: str) -> Iterator[list[dict]]:
    """Yield the objects of a file in order, a bounded number at a time; an array is in memory as a whole."""
    with file.open_text(encoding) as text:
        is_array = text.read(1024).lstrip().startswith("[")
    with file.open_text(encoding) as text:
        items = _read_array(file, text.read(_MAX_ARRAY)) if is_array else _read_lines(file, file.lines(text))
        block: list[dict] = []
        n_chars = 0
        for place, item, length in items:
            if not isinstance(item, dict):
                raise UserError(f"{file}, {place}: not a JSON object; {_HINT}")
            block.append(item)
            n_chars += length
            if len(block) == _ROWS or n_chars > _CHARS:
                yield block
                block, n_chars = [], 0
        if block:
            yield block


def _read_lines(file: DataFile, lines: Iterable[str]) -> Iterator[tuple[str, Any, int]]:
    """Yield the place of each line in words, its JSON value, and its number of characters."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"line {number}", _parse(line, f"{file}, line {number}"), len(line)


def _read_array(file: DataFile, text: str) -> Iterator[tuple[str, Any, int]]:
    """Yield the place of each item of an array, the item, and its mean number of characters."""
    if len(text) == _MAX_ARRAY:
        raise UserError(f"{file} is an array of more than {_MAX_ARRAY >> 20} MB; write one object per line")
    items = _parse(text, str(file))
    return ((f"item {number}", item, len(text) // len(items)) for number, item in enumerate(items, 1))


def _parse(text: str, place: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_to_object)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not valid JSON ({to_one_line(error)}); {_HINT}") from error


def _to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        [(key, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"an object has the key {key!r} twice")
    return record


def _to_lists(file: DataFile, series: list) -> pa.Array:
    """Return the targets of rows as lists of numbers, or of texts if a value is one; GluonTS writes NaN as a string."""
    for values in series:
        if values is not None and not isinstance(values, list):
            raise UserError(f"{file}: one target is a list, another is not: {values}; write a list for every series")
    lists = [values and [math.nan if value == "NaN" else value for value in values] for values in series]
    kinds = {type(value) for values in lists for value in values or () if value is not None}
    if not kinds <= {int, float, bool, str}:
        kind, *_ = kinds - {int, float, bool, str}
        raise UserError(f"{file}: a target contains a value that is not a number: a {kind.__name__}")
    if str in kinds:
        return pa.array([values and list(map(number_text, values)) for values in lists], pa.list_(pa.string()))
    return pa.array([values and [None if v is None else float(v) for v in values] for values in lists], _FLOATS)
