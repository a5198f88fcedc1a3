"""CSV files as people and spreadsheets write them: any delimiter, encoding and decimal mark, lines before the header."""

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
from pipeline.data.numbers import DecimalMark, with_points
from pipeline.data.rows import SourceLocation

_SEPARATOR = re.compile(r"sep=([ -~\t])")  # the line that spreadsheets look for before the header
_BLOCK_BYTES = 1 << 22


def read_csv(path: Path, columns: Columns, where: SourceLocation) -> Iterator[pa.Table]:
    """Yield the rows of a CSV file as texts, numbers with a decimal point, a bounded number at a time.

    Raises:
        UserError: it has no header or lacks a column, or what its numbers mean cannot be told.
    """
    import pyarrow.csv as pacsv

    head = _head_of(path, columns.encoding)
    wanted = select_columns(head.names, columns, path, where)
    with pa.input_stream(str(path), compression="detect") as stream:
        reader = pacsv.open_csv(
            stream,
            read_options=pacsv.ReadOptions(
                column_names=head.names, skip_rows=head.n_lines, block_size=_BLOCK_BYTES, encoding=head.encoding
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=head.delimiter,
                newlines_in_values=True,
                ignore_empty_lines=len(head.names) > 1,  # of one column an empty line is a missing value
            ),
            # Read as text and converted later, where a value that is no number can be named with its row.
            convert_options=pacsv.ConvertOptions(
                include_columns=wanted,
                column_types=dict.fromkeys(wanted, pa.string()),
                strings_can_be_null=True,
                null_values=[""],  # "NA" is a name, of Namibia for one
            ),
        )
        values: Sequence[str] = columns.variates.names
        if columns.wide:
            values = [name for name in wanted if name not in (*columns.item_ids, columns.timestamp)]
        mark, n_rows = DecimalMark(path, head.delimiter), 0
        for batch in reader:
            table = pa.Table.from_batches([batch])
            decimal = columns.decimal
            if decimal == "auto":
                decimal = mark.told([table[name] for name in values])
            yield with_points(table, values, decimal, path, n_rows + 1)
            n_rows += len(table)


class _Head(NamedTuple):
    """How a CSV file begins."""

    names: list[str]
    """Of its columns; one without a name is called by its position, as pandas does: `Unnamed: 0`."""
    delimiter: str
    encoding: str
    n_lines: int
    """LogCallback before its first row."""


def _head_of(path: Path, encoding: str) -> _Head:
    with pa.input_stream(str(path), compression="detect") as stream:
        if stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            encoding = "utf-16"
    delimiters, header, n_lines = ",;\t|", "", 0
    with pa.input_stream(str(path), compression="detect") as stream:
        for line in io.TextIOWrapper(io.BufferedReader(stream), encoding):
            header, n_lines = (header + line).removeprefix("\ufeff"), n_lines + 1
            if header.count('"') % 2:  # a name with a line break
                continue
            header = header.strip(" \r\n")
            said = _SEPARATOR.fullmatch(header)
            if said is not None:
                delimiters, header = said[1], ""
            elif header:
                break
        else:
            raise UserError(f"{path} holds no header; its first line names the columns")
    delimiter = max(delimiters, key=re.sub(r'"[^"]*"', "", header).count)
    names = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [""])
    names = [name.strip() or f"{UNNAMED}{position}" for position, name in enumerate(names)]
    return _Head(names, delimiter, encoding, n_lines)
