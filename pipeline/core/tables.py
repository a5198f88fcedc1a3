"""Tables as Markdown, as CSV and in Excel."""

from __future__ import annotations

import csv
import datetime as dt
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import visible
from pipeline.core.files import atomic_write

Row = dict[str, Any]
FORMULA = r"^([=+\-@\t\r])"
"""First characters that make a spreadsheet take a text for a formula (OWASP, CSV injection)."""
_FIRST_EXCEL_YEAR = 1901  # Excel has no earlier dates than 1900, of which it takes 29 February for one
_MARKUP = str.maketrans({character: f"\\{character}" for character in "\\`*|[]"} | {"<": "&lt;"})


def markdown_table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Return rows as a Markdown table; columns are padded so that it is readable as plain text. Cells are no markup."""
    cells = [[_format_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max([len(column), *(len(row[i]) for row in cells)]) for i, column in enumerate(columns)]
    is_numeric = [all(_is_numeric(row.get(column)) for row in rows) for column in columns]

    def line(values: Sequence[str]) -> str:
        padded = [value.rjust(w) if right else value.ljust(w) for value, w, right in zip(values, widths, is_numeric)]
        return "| " + " | ".join(padded) + " |"

    # The colon of a rule is at the side that the column is aligned to.
    rules = ["-" * (w + 1) + ":" if right else ":" + "-" * (w + 1) for w, right in zip(widths, is_numeric)]
    return "\n".join([line(columns), f"|{'|'.join(rules)}|", *map(line, cells)]) + "\n"


def escape_markdown(text: str) -> str:
    """Return Markdown that shows a text as it is, in one line."""
    return visible(text).translate(_MARKUP)


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write rows with the same keys, in full precision. Texts that spreadsheets take for formulas get an apostrophe.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({key: _not_a_formula(value) for key, value in row.items()} for row in rows)


def _not_a_formula(value: object) -> object:
    return re.sub(FORMULA, r"'\1", value) if isinstance(value, str) else value


def _is_numeric(value: object) -> bool:
    return value is None or isinstance(value, (int, float))


def _format_cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}" if value.is_integer() else f"{value:.4f}"
    return escape_markdown(str(value))


def write_cell(sheet: Any, row: int, column: int, value: object) -> None:
    """Write a cell of a sheet of xlsxwriter: no cell for a missing value, a text for an infinite one."""
    if isinstance(value, str):
        sheet.write_string(row, column, value)
    elif isinstance(value, bool):
        sheet.write_boolean(row, column, value)
    elif isinstance(value, dt.datetime) and value.year < _FIRST_EXCEL_YEAR:
        sheet.write_string(row, column, value.replace(tzinfo=None).isoformat(" "))
    elif isinstance(value, dt.datetime):
        sheet.write_datetime(row, column, value.replace(tzinfo=None))
    elif isinstance(value, (int, float)) and math.isinf(value):
        sheet.write_string(row, column, str(value))
    elif isinstance(value, (int, float)) and not math.isnan(value):
        sheet.write_number(row, column, value)
