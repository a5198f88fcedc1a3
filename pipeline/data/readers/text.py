"""Reading of CSV files with any delimiter and encoding, and with lines above the header."""

import csv
import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError
from pipeline.data.columns import UNNAMED, Columns, select_columns
from pipeline.data.readers.files import DataFile
from pipeline.data.rows import SourceLocation

SAMPLE_ROWS = 50
"""Number of rows among which a header is looked for."""
_DELIMITERS = ",;\t|"
_SEPARATOR_LINE = re.compile(r"sep=([ -~\t])")  # spreadsheets write the delimiter in a line above the header
_RAGGED_ROW = re.compile(r"Expected (\d+) columns, got (\d+): (.*)", re.DOTALL)  # pyarrow's message
# A block becomes a table. Blocks of 1 to 8 MB are equally fast for 3 columns; for many, a table needs a hundred rows.
_MIN_BLOCK, _MAX_BLOCK = 1 << 22, 1 << 26
_BYTES_PER_COLUMN = 100 * 8  # 100 rows of a short number and its delimiter
_MAX_HEADER = 1 << 24  # characters, of 1.5 million dates
_NUMBER = re.compile(r"\s*[+-]?[\d.,]*\d[\d.,]*(?:[eE][+-]?\d+)?\s*")
_BLOCKS_AHEAD = 4
_FIRST_ROWS = 1000


class _Header(NamedTuple):
    """The header of a CSV file, the n-th line. A column without a name is called by its position, as in pandas."""

    names: list[str]
    delimiter: str
    encoding: str
    n_lines: int
    n_chars: int


class _Throttle:
    """Let pyarrow read a stream only a few blocks ahead of the tables that were taken; by itself, it reads 32 ahead."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self._allowed = threading.Semaphore(_BLOCKS_AHEAD)
        self._lock = threading.Lock()
        self.closed = False
        self._n_lines, self._end = 0, b""

    def read(self, n_bytes: int) -> bytes:
        # pyarrow makes a table of each block. The timeout is for the case that a table needs more.
        self._allowed.acquire(timeout=10)
        with self._lock:
            block = b"" if self.closed else self._stream.read(n_bytes)
            self._n_lines += block.count(b"\n") - block.count(b"\n\n") - block.count(b"\n\r\n")
            self._end = block[-1:] or self._end
            return block

    def n_lines(self) -> int:
        """Return the number of lines that were read, without most of the empty ones."""
        return self._n_lines + (self._end not in (b"", b"\n"))

    def allow_block(self) -> None:
        self._allowed.release()

    def close(self) -> None:
        with self._lock:
            self.closed = True
        self._allowed.release(100)  # more than pyarrow reads ahead


def read_csv(file: DataFile, columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    """Yield the rows of a CSV file as strings, null for an empty cell, one block of the file at a time.

    Item IDs and timestamps are dictionary-encoded.

    Raises:
        UserError: the file has no header, lacks a column, or has a row of another length.
    """
    import pyarrow.csv as pacsv

    header = _read_header(file, columns)
    try:
        wanted = select_columns(header.names, columns, file, location)
    except UserError:
        _refuse_early_header(file, header, columns)
        raise
    # pyarrow's threads encode the columns with repeated texts.
    repeated = () if columns.wide else (*columns.item_ids, *columns.timestamps)
    types = {name: pa.dictionary(pa.int32(), pa.string()) if name in repeated else pa.string() for name in wanted}
    block_size = min(max(_MIN_BLOCK, _BYTES_PER_COLUMN * len(header.names)), _MAX_BLOCK) + 4 * header.n_chars
    read = pacsv.ReadOptions(
        column_names=header.names, skip_rows=header.n_lines, block_size=block_size, encoding=header.encoding
    )
    # In a single column, an empty line is a missing value.
    parse = pacsv.ParseOptions(
        delimiter=header.delimiter, newlines_in_values=True, ignore_empty_lines=len(header.names) > 1
    )
    # "NA" may be an item ID, such as the country code of Namibia.
    to_columns = pacsv.ConvertOptions(
        include_columns=wanted, column_types=types, strings_can_be_null=True, null_values=[""]
    )
    n_rows = 0
    with file.open() as stream:
        throttle = _Throttle(stream)
        try:
            for batch in pacsv.open_csv(pa.PythonFile(throttle, "r"), read, parse, to_columns):
                throttle.allow_block()
                if not n_rows:
                    _refuse_spaces_before_quotes(file, batch)
                n_rows += len(batch)
                yield pa.Table.from_batches([batch])
            if throttle.n_lines() > header.n_lines + n_rows:  # values have several lines, or lines are empty
                _refuse_swallowed_rows(file, header, columns)
        except pa.ArrowInvalid as error:
            if str(error).startswith(("Empty CSV file", "Could not skip")):  # it has a header but no rows
                return
            if ragged := _RAGGED_ROW.search(str(error)):
                if columns.wide or len(header.names) == 1:  # otherwise the header has all columns that are read
                    _refuse_early_header(file, header, columns)
                raise UserError(
                    f"{file}: a row has {ragged[2]} values for {ragged[1]} columns: {' '.join(ragged[3].split())}; "
                    "write one value per column, and quote values that contain the delimiter"
                ) from error
            if "straddling" not in str(error):
                raise
            problem = f"a row is longer than {block_size >> 20} MB"
            raise UserError(f"{file}: {problem}; check for a quote that is not closed") from error
        finally:
            throttle.close()


def _refuse_spaces_before_quotes(file: DataFile, batch: pa.RecordBatch) -> None:
    """Refuse a quoted value after a space, whose quotes would be part of it; only the first rows are examined."""
    for name, column in zip(batch.schema.names, batch[:_FIRST_ROWS].columns):
        texts = column.dictionary if pa.types.is_dictionary(column.type) else column
        if pc.any(pc.match_substring_regex(texts, '^\\s+".*"\\s*$')).as_py():
            raise UserError(f"{file}: the column {name} has spaces before its quotes; remove these spaces")


def _refuse_swallowed_rows(file: DataFile, header: _Header, columns: Columns) -> None:
    """Refuse a quoted value that contains whole rows: a quote before them is not closed.

    Raises:
        UserError: a value has a line with as many cells as the header, and a number in the first column of values.
    """
    names = [name for name in columns.variates.names if name in header.names]
    position = -1 if columns.wide or not names else header.names.index(names[0])

    def is_row(line: str) -> bool:
        cells = next(csv.reader([line], delimiter=header.delimiter), [])
        return len(cells) == len(header.names) > 1 and _NUMBER.fullmatch(cells[position]) is not None

    with file.open_text(columns.encoding) as text:
        for _ in range(header.n_lines):
            text.readline()
        row = 0
        try:
            for row, cells in enumerate(csv.reader(text, delimiter=header.delimiter), 1):
                if any(is_row(line) for cell in cells for line in cell.splitlines()[1:]):
                    break
            else:
                return
        except csv.Error:  # the next value is too long
            row += 1
    raise UserError(
        f"{file}: row {row} has a quote that is not closed, so that later rows are part of its value; close the quote, "
        "or remove it"
    )


def _read_header(file: DataFile, columns: Columns) -> _Header:
    delimiters, lines, n_lines, n_chars, in_quotes = _DELIMITERS, "", 0, 0, False
    with file.open_text(columns.encoding) as text:
        encoding = "utf-8" if text.encoding == "utf-8-sig" else text.encoding  # pyarrow reads UTF-8 itself
        for line in file.lines(text):
            n_lines, n_chars = n_lines + 1, n_chars + len(line)
            if n_chars > _MAX_HEADER:
                break
            if separator := _SEPARATOR_LINE.fullmatch(line.strip(" \r\n")):
                delimiters = separator[1]
            elif n_lines > columns.skip_rows and (lines or line.strip(" \r\n")):
                lines += line
                in_quotes ^= line.count('"') % 2 == 1  # a name with a line break continues in the next line
                if not in_quotes:
                    break
    header = lines.strip(" \r\n")
    if not header or in_quotes:
        problem = "a quote in the header is not closed" if in_quotes else "it has no header"
        raise UserError(f"{file}: {problem}; write the names of the columns in its first line")
    unquoted = re.sub(r'"[^"]*"', "", header)
    wanted = {*columns.item_ids, *columns.timestamps, *columns.variates.names, *columns.group}

    def split(mark: str) -> list[str]:
        with suppress(csv.Error):  # a quoted name has a line break, and the mark is not the delimiter
            return [*map(str.strip, next(csv.reader([header], delimiter=mark, skipinitialspace=True), [""]))]
        return [""]

    delimiter = max(delimiters, key=lambda mark: (len(wanted.intersection(split(mark))), unquoted.count(mark)))
    names = split(delimiter)
    names = [name or f"{UNNAMED}{position}" for position, name in enumerate(names)]
    return _Header(names, delimiter, encoding, n_lines, n_chars)


def _refuse_early_header(file: DataFile, header: _Header, columns: Columns) -> None:
    """Raise an error if a line below looks like the header."""
    with file.open_text(columns.encoding) as text:
        lines = [text.readline(_MAX_BLOCK // SAMPLE_ROWS) for _ in range(SAMPLE_ROWS)]
    by_delimiter = [[next(csv.reader([line], delimiter=mark), []) for line in lines] for mark in _DELIMITERS]
    refuse_early_header(file, header.names, header.n_lines, max(by_delimiter, key=lambda rows: _most_cells(rows)[1]))


def refuse_early_header(file: DataFile, names: list[str], line: int, rows: Sequence[Sequence[str | None]]) -> None:
    """Raise an error that proposes data.skip_rows if a row below looks like the header, since most rows are as long.

    Args:
        names: names of the columns in the header that was found.
        line: line of this header, from 1.
        rows: cells of the first rows of the file.

    Raises:
        UserError: as described.
    """
    n_cells = _most_cells(rows)[0]
    like_header = (index for index, row in enumerate(rows) if len(row) == n_cells and sum(not cell for cell in row) < 2)
    first = next(like_header, 0)
    n_named = sum(not name.startswith(UNNAMED) for name in names)
    if first >= line and n_named < n_cells:
        raise UserError(
            f"{file}: its header in line {line} names {n_named} of the {n_cells} columns that most lines have; if line "
            f"{first + 1} is the header, set data.skip_rows: {first}; otherwise name every column"
        )


def _most_cells(rows: Sequence[Sequence[str | None]]) -> tuple[int, int]:
    """Return the most frequent number of cells in a row, from two cells, and its frequency."""
    return max(Counter(len(row) for row in rows if len(row) > 1).items(), key=lambda item: item[1], default=(0, 0))
