"""Excel workbooks: the rows of one sheet."""

import zipfile
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.core.errors import UserError, first_few
from pipeline.data.columns import UNNAMED, Columns, select_columns
from pipeline.data.rows import SourceLocation

_ROWS = 65_536


def read_excel(path: Path, columns: Columns, where: SourceLocation) -> Iterator[pa.Table]:
    """Yield the rows of a sheet as texts, a bounded number at a time; of formulas what they came to.

    Raises:
        UserError: openpyxl is missing, the file is no workbook, or the sheet is not there, is empty or lacks a column.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise UserError(f"{path}: Excel files need openpyxl; install it with: pip install openpyxl") from error
    with path.open("rb") as file:
        try:
            workbook = openpyxl.load_workbook(file, read_only=True, data_only=True)
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raise UserError(
                f"cannot read {path}: it is no workbook, or has a password; save it as .xlsx without one"
            ) from error
        sheet = _sheet_of(workbook, path, columns.sheet, where)
        sheet.reset_dimensions()  # not all programs write the right ones
        rows = ([_text(value) for value in row] for row in sheet.iter_rows(values_only=True))
        yield from _tables(filter(any, rows), path, columns, where)


def _sheet_of(workbook: Any, path: Path, name: str | None, where: SourceLocation) -> Any:
    sheets = {sheet.title: sheet for sheet in workbook.worksheets}
    if name is not None:
        if name not in sheets:
            raise UserError(f"data.sheet: {path} has no sheet {name!r}, only {first_few(list(sheets))}")
        return sheets[name]
    seen = [title for title, sheet in sheets.items() if sheet.sheet_state == "visible"]
    if not seen:
        raise UserError(f"{path} has no sheet that is not hidden; name one with data.sheet")
    if len(seen) > 1:
        where.warn(
            f"of {path.name} the sheet {seen[0]!r} is read; another, {first_few(seen[1:])}, is named with data.sheet"
        )
    return sheets[seen[0]]


def _tables(
    rows: Iterator[list[str | None]], path: Path, columns: Columns, where: SourceLocation
) -> Iterator[pa.Table]:
    header = next(rows, [])
    if not header:
        raise UserError(f"{path}: the sheet is empty; its first row names the columns")
    names = [name or f"{UNNAMED}{position}" for position, name in enumerate(header)]
    while names[-1] == f"{UNNAMED}{len(names) - 1}":  # columns that were only formatted
        names.pop()
    wanted = select_columns(names, columns, path, where)
    places = [names.index(name) for name in wanted]
    values = {*wanted} - {*columns.item_ids, columns.timestamp} if columns.wide else {columns.target}
    empty = True
    while block := list(islice(rows, _ROWS)):
        table = pa.table({name: _texts(block, place) for name, place in zip(wanted, places)})
        empty = empty and all(table[name].null_count == len(table) for name in values)
        yield table
    if empty:
        raise UserError(f"{path} holds no value; what formulas come to is there once Excel has saved the file")


def _texts(rows: list[list[str | None]], place: int) -> pa.Array:
    # A row ends with its last value.
    return pa.array([row[place] if place < len(row) else None for row in rows], pa.string())


def _text(value: object) -> str | None:
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return None if value is None else str(value).strip() or None
