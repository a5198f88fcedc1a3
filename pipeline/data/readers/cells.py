"""Columns of cells of any type, as JSON and workbooks have them."""

import pyarrow as pa

from pipeline.data.numbers import neutral_text


def to_column(cells: list, are_numbers: bool = False) -> pa.Array:
    """Return cells as int64 or float64 if all are numbers, as null type if all are missing, else as strings.

    Args:
        are_numbers: whether texts among the cells may be numbers too. Then numbers are written so that only the texts
            tell the decimal separator.
    """
    types = {type(cell) for cell in cells if cell is not None}
    if types == {int} and all(cell is None or -(2**63) <= cell < 2**63 for cell in cells):
        return pa.array(cells, pa.int64())
    if float in types and types <= {int, float}:
        return pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())
    text = number_text if are_numbers else cell_text
    return pa.array(map(text, cells), pa.string() if types else pa.null())


def number_text(cell: object) -> str | None:
    """Return a cell of a column of numbers as text, a number in a form without a decimal separator."""
    if isinstance(cell, float) and not cell.is_integer():
        return neutral_text(cell)
    return cell_text(cell)


def cell_text(cell: object) -> str | None:
    """Return a cell as text, a whole number without a fraction, None for NaN."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        if cell != cell:
            return None
        return str(int(cell)) if cell.is_integer() else repr(cell)
    return None if cell is None else str(cell)
