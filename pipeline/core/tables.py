"""Tables as text and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.core.files import atomic_write

Row = dict[str, Any]


def markdown_table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Return rows as a Markdown table, its columns padded so that it reads well as plain text too."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[i]) for line in cells)) for i, column in enumerate(columns)]
    is_number = [all(_is_numeric(row.get(column)) for row in rows) for column in columns]

    def line(values: Sequence[str]) -> str:
        padded = [value.rjust(w) if right else value.ljust(w) for value, w, right in zip(values, widths, is_number)]
        return "| " + " | ".join(padded) + " |"

    rule = (
        "|"
        + "|".join("-" * (w + 1) + ":" if right else ":" + "-" * (w + 1) for w, right in zip(widths, is_number))
        + "|"
    )
    return "\n".join([line(columns), rule, *map(line, cells)]) + "\n"


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write rows, all with the same keys, in full precision.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _is_numeric(value: object) -> bool:
    return value is None or isinstance(value, (int, float))


def _cell(value: object) -> str:
    if value is None:
        return ""
    return (
        f"{value:.4f}"
        if isinstance(value, float) and not value.is_integer()
        else f"{value:g}" if isinstance(value, float) else str(value)
    )
