"""Columns of cells of any type, as JSON and workbooks have them."""

import re

import pyarrow as pa

_AMBIGUOUS = re.compile(r"-?\d{1,3}\.\d{3}")


def to_column(cells: list) -> pa.Array:
    """Return cells as int64 or float64 if all are numbers, as null type if all are missing, else as strings."""
    types = {type(cell) for cell in cells if cell is not None}
    if types == {int} and all(cell is None or -(2**63) <= cell < 2**63 for cell in cells):
        return pa.array(cells, pa.int64())
    if float in types and types <= {int, float}:
        return pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())
    return pa.array(map(cell_text, cells), pa.string() if types else pa.null())


def cell_text(cell: object) -> str | None:
    """Return a cell as text, a whole number without a fraction."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        text = str(int(cell)) if cell.is_integer() else repr(cell)
        return f"{text}0" if _AMBIGUOUS.fullmatch(text) else text  # beside texts, 1.234 might be a thousand
    return None if cell is None else str(cell)
