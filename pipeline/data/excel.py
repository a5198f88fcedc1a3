"""Reading of Excel workbooks, one sheet each."""

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

_ROWS_PER_TABLE = 65_536  # bounds memory


def read_excel(path: Path, columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    """Yield the rows of a sheet as strings, a bounded number at a time; a formula gives its saved result.

    Raises:
        UserError: openpyxl is missing, the file is not a workbook, or the sheet is missing, empty or lacks a column.
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
                f"cannot read {path}: not an Excel workbook, or protected by a password; "
                "save it as .xlsx without a password"
            ) from error
        sheet = _find_sheet(workbook, path, columns.sheet, location)
        sheet.reset_dimensions()  # some programs write wrong ones
        rows = ([_cell_text(value) for value in row] for row in sheet.iter_rows(values_only=True))
        yield from _read_rows(filter(any, rows), path, columns, location)


def _find_sheet(workbook: Any, path: Path, name: str | None, location: SourceLocation) -> Any:
    sheets = {sheet.title: sheet for sheet in workbook.worksheets}
    if name is not None:
        if name not in sheets:
            raise UserError(f"data.sheet: {path} has no sheet {name!r}, only {first_few(list(sheets))}")
        return sheets[name]
    visible = [title for title, sheet in sheets.items() if sheet.sheet_state == "visible"]
    if not visible:
        raise UserError(f"{path} has no visible sheet; choose a hidden one with data.sheet")
    if len(visible) > 1:
        location.warn_once(
            f"reading sheet {visible[0]!r} of {path.name}; to read another ({first_few(visible[1:])}), set data.sheet"
        )
    return sheets[visible[0]]


def _read_rows(
    rows: Iterator[list[str | None]], path: Path, columns: Columns, location: SourceLocation
) -> Iterator[pa.Table]:
    """Yield the selected columns of a sheet, whose first row is the header."""
    header = next(rows, [])
    if not header:
        raise UserError(f"{path}: the sheet is empty; write the names of the columns in its first row")
    names = [name or f"{UNNAMED}{position}" for position, name in enumerate(header)]
    while names[-1] == f"{UNNAMED}{len(names) - 1}":  # columns that have a format but no content
        names.pop()
    wanted = select_columns(names, columns, path, location)
    positions = [names.index(name) for name in wanted]
    numeric = {*wanted} - {*columns.item_ids, columns.timestamp} if columns.wide else {columns.target}
    empty = True
    while block := list(islice(rows, _ROWS_PER_TABLE)):
        table = pa.table({name: _column(block, position) for name, position in zip(wanted, positions)})
        empty = empty and all(table[name].null_count == len(table) for name in numeric)
        yield table
    if empty:
        raise UserError(f"{path} contains no value; if it has formulas, save it in Excel, which stores their results")


def _column(rows: list[list[str | None]], position: int) -> pa.Array:
    # A row ends with its last value, so it may be shorter than the header.
    return pa.array([row[position] if position < len(row) else None for row in rows], pa.string())


def _cell_text(value: object) -> str | None:
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return None if value is None else str(value).strip() or None
