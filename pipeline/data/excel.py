"""Excel workbooks: the rows of the first sheet."""

import zipfile
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

import pyarrow as pa

from pipeline.data.columns import UNNAMED, Columns, present
from pipeline.data.rows import Place
from pipeline.errors import UserError, first_few

_ROWS = 65_536


def read_excel(path: Path, columns: Columns, where: Place) -> Iterator[pa.Table]:
    """Yield the rows of the first sheet as texts, a bounded number at a time; of formulas what they came to.

    Raises:
        UserError: openpyxl is missing, the file is no workbook, or its first sheet is empty or lacks a column.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise UserError(f"{path}: Excel files need openpyxl; install it with: pip install openpyxl") from error
    with path.open("rb") as file:
        try:
            workbook = openpyxl.load_workbook(file, read_only=True, data_only=True)
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raise UserError(f"cannot read {path}: it is no workbook, or has a password") from error
        first, *others = workbook.worksheets
        if others:
            names = first_few([sheet.title for sheet in others])
            where.warn(f"of {path.name} the first sheet is read, {first.title!r}, and not {names}")
        first.reset_dimensions()  # not all programs write the right ones
        rows = (row for row in first.iter_rows(values_only=True) if any(value is not None for value in row))
        yield from _tables(rows, path, columns)


def _tables(rows: Iterator[tuple[object, ...]], path: Path, columns: Columns) -> Iterator[pa.Table]:
    header = next(rows, ())
    if not header:
        raise UserError(f"the first sheet of {path} is empty; its first row names the columns")
    names = [_text(name) or f"{UNNAMED}{position}" for position, name in enumerate(header)]
    while names[-1] == f"{UNNAMED}{len(names) - 1}":  # columns that were only formatted
        names.pop()
    wanted = present(names, columns, path)
    places = [names.index(name) for name in wanted]
    while block := list(islice(rows, _ROWS)):
        yield pa.table({name: _texts(block, place) for name, place in zip(wanted, places)})


def _texts(rows: list[tuple[object, ...]], place: int) -> pa.Array:
    # A row ends with its last value.
    return pa.array([_text(row[place]) if place < len(row) else None for row in rows], pa.string())


def _text(value: object) -> str | None:
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return None if value is None or value == "" else str(value).strip()
