"""Reading of JSON Lines, and of a JSON array of objects."""

import io
import json
import re
from collections.abc import Iterator

import pyarrow as pa

from pipeline.core.errors import UserError, to_one_line
from pipeline.data.columns import Columns, select_columns
from pipeline.data.readers.cells import to_column
from pipeline.data.readers.files import DataFile
from pipeline.data.rows import SourceLocation

# Sizes of the tables that are read at a time. They bound memory.
_ROWS, _CHARS = 4096, 1 << 23
_HINT = "write one object per line, or one array of objects"
_BETWEEN_ITEMS = re.compile(r"\s*,?\s*")


def read_json(file: DataFile, columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    """Yield the objects of a file as rows, a bounded number at a time; an absent field is null.

    A column has lists, numbers if all its values in the table are numbers, or strings.

    Raises:
        UserError: the file has anything other than objects, or a value is an object.
    """
    if columns.wide:
        raise UserError(f"{file}: data.wide is for tables with rows and columns, not for JSON")
    fields: dict[str, None] = {}  # of all rows so far, since a row may leave out a field without a value
    types: dict[str, pa.DataType] = {}
    for records in _blocks(file, columns.encoding):
        fields |= dict.fromkeys(name for record in records for name in record)
        table = {}
        for name in select_columns(list(fields), columns, file, location):
            values = [record.get(name) for record in records]
            if any(isinstance(value, dict) for value in values):
                raise UserError(f"{file}: a value of {name!r} is an object; write one object per row")
            if any(isinstance(value, list) for value in values):
                is_target = name == columns.target
                column = _to_floats(file, values) if is_target else pa.array(values)
            else:
                column = to_column(values)
                if pa.types.is_null(column.type):
                    column = column.cast(types.get(name, pa.string()))
            table[name], types[name] = column, column.type
        yield pa.table(table)


def _blocks(file: DataFile, encoding: str) -> Iterator[list[dict]]:
    """Yield the objects of a file in order, a bounded number at a time."""
    with file.open_text(encoding) as text:
        is_array = text.read(1024).lstrip().startswith("[")
    with file.open_text(encoding) as text:
        block: list[dict] = []
        n_chars = 0
        for record, length in _read_array(file, text) if is_array else _read_lines(file, text):
            block.append(record)
            n_chars += length
            if len(block) == _ROWS or n_chars > _CHARS:
                yield block
                block, n_chars = [], 0
        if block:
            yield block


def _read_lines(file: DataFile, text: io.TextIOWrapper) -> Iterator[tuple[dict, int]]:
    """Yield the object of each line, and its number of characters."""
    for number, line in enumerate(text, 1):
        if line.strip():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{file}, line {number}: not valid JSON ({to_one_line(error)}); {_HINT}") from error
            if not isinstance(record, dict):
                raise UserError(f"{file}, line {number}: not a JSON object; {_HINT}")
            yield record, len(line)


def _read_array(file: DataFile, text: io.TextIOWrapper) -> Iterator[tuple[dict, int]]:
    """Yield the items of an array, and their numbers of characters."""
    decoder, number = json.JSONDecoder(), 0
    buffer = text.read(_CHARS)
    position = buffer.index("[") + 1
    while True:
        position = _BETWEEN_ITEMS.match(buffer, position).end()  # type: ignore[union-attr]
        if buffer.startswith("]", position):
            break
        try:
            record, end = decoder.raw_decode(buffer, position)
        except (ValueError, RecursionError) as error:  # the item may continue after the buffer
            more = text.read(max(_CHARS, len(buffer)))
            if not more:
                problem = f"item {number + 1} of its array is not valid JSON ({to_one_line(error)})"
                raise UserError(f"{file}: {problem}; {_HINT}") from error
            buffer, position = buffer[position:] + more, 0
            continue
        number += 1
        if not isinstance(record, dict):
            raise UserError(f"{file}: item {number} of its array is not a JSON object; {_HINT}")
        yield record, end - position
        position = end
    if (buffer[position + 1 :] + text.read(_CHARS)).strip():
        raise UserError(f"{file}: text follows its array; {_HINT}")


def _to_floats(file: DataFile, series: list) -> pa.Array:
    """Return the targets of rows as lists of numbers; GluonTS writes NaN as a string."""
    for values in series:
        if values is not None and not isinstance(values, list):
            raise UserError(f"{file}: one target is a list, another is not: {values}; write a list for every series")
    try:
        floats = [values and [None if value is None else float(value) for value in values] for values in series]
    except (TypeError, ValueError) as error:
        raise UserError(f"{file}: a target contains a value that is not a number ({to_one_line(error)})") from error
    return pa.array(floats, pa.list_(pa.float64()))
