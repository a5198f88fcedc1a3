"""Reading of CSV files with any delimiter, encoding and decimal separator, and with lines before the header."""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.data.columns import UNNAMED, Columns, select_columns
from pipeline.data.numbers import DecimalDetector, normalize_decimals
from pipeline.data.rows import SourceLocation

_SEPARATOR_LINE = re.compile(r"sep=([ -~\t])")  # spreadsheets write the delimiter in a line before the header
_BLOCK_BYTES = 1 << 22  # bounds memory; a header must fit into one block


def read_csv(path: Path, columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    """Yield the rows of a CSV file as strings, numbers with a decimal point, one block of the file at a time.

    Raises:
        UserError: the file has no header, lacks a column, or has ambiguous numbers.
    """
    import pyarrow.csv as pacsv

    header = _read_header(path, columns.encoding)
    wanted = select_columns(header.names, columns, path, location)
    with pa.input_stream(str(path), compression="detect") as stream:
        reader = pacsv.open_csv(
            stream,
            read_options=pacsv.ReadOptions(
                column_names=header.names, skip_rows=header.n_lines, block_size=_BLOCK_BYTES, encoding=header.encoding
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=header.delimiter,
                newlines_in_values=True,
                ignore_empty_lines=len(header.names) > 1,  # in a single column, an empty line is a missing value
            ),
            # Values are converted to numbers later, where an error can name the row.
            convert_options=pacsv.ConvertOptions(
                include_columns=wanted,
                column_types=dict.fromkeys(wanted, pa.string()),
                strings_can_be_null=True,
                null_values=[""],  # "NA" may be an item ID, such as the country code of Namibia
            ),
        )
        numeric: Sequence[str] = columns.variates.names
        if columns.wide:
            numeric = [name for name in wanted if name not in (*columns.item_ids, columns.timestamp)]
        detector, n_rows = DecimalDetector(path, header.delimiter), 0
        for batch in reader:
            table = pa.Table.from_batches([batch])
            decimal = columns.decimal
            if decimal == "auto":
                decimal = detector.detect([table[name] for name in numeric])
            yield normalize_decimals(table, numeric, decimal, path, n_rows + 1)
            n_rows += len(table)


class _Header(NamedTuple):
    """The header of a CSV file."""

    names: list[str]
    """Names of the columns; a column without a name is called by its position, as in pandas: `Unnamed: 0`."""
    delimiter: str
    encoding: str
    n_lines: int
    """Number of lines before the first row."""


def _read_header(path: Path, encoding: str) -> _Header:
    with pa.input_stream(str(path), compression="detect") as stream:
        if stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            encoding = "utf-16"
    delimiters, header, n_lines = ",;\t|", "", 0
    with pa.input_stream(str(path), compression="detect") as stream:
        for line in io.TextIOWrapper(io.BufferedReader(stream), encoding):
            header, n_lines = (header + line).removeprefix("\ufeff"), n_lines + 1
            if header.count('"') % 2:  # a name with a line break continues in the next line
                continue
            header = header.strip(" \r\n")
            separator = _SEPARATOR_LINE.fullmatch(header)
            if separator is not None:
                delimiters, header = separator[1], ""
            elif header:
                break
        else:
            raise UserError(f"{path} has no header; write the names of the columns in its first line")
    delimiter = max(delimiters, key=re.sub(r'"[^"]*"', "", header).count)
    names = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [""])
    names = [name.strip() or f"{UNNAMED}{position}" for position, name in enumerate(names)]
    return _Header(names, delimiter, encoding, n_lines)
