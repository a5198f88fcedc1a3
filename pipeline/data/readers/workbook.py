"""Reading of workbooks of Excel and OpenDocument, one sheet each."""

import io
import json
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

import pyarrow as pa

from pipeline.core.errors import UserError, first_few
from pipeline.data.columns import UNNAMED, Columns, select_columns
from pipeline.data.readers.cells import cell_text, number_text, to_column
from pipeline.data.readers.files import DataFile
from pipeline.data.readers.isolated import run_isolated
from pipeline.data.readers.text import SAMPLE_ROWS, refuse_early_header
from pipeline.data.rows import SourceLocation

_ROWS_PER_TABLE = 65_536
# Prints the names of the sheets and whether each is visible, and then blocks of rows of one of them, as JSON. Only the
# first empty rows are printed. The format has at most 1,048,576 rows.
_PRINT_SHEET = """
import datetime, io, itertools, json
def show(cell):
    if isinstance(cell, datetime.datetime):  # a fraction of a day, which formulas round
        whole = (cell + datetime.timedelta(milliseconds=500)).replace(microsecond=0)
        return str(whole if abs(cell - whole) <= datetime.timedelta(milliseconds=5) else cell)
    return f"{cell} 00:00:00" if isinstance(cell, datetime.date) else str(cell)
from python_calamine import CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum
workbook = CalamineWorkbook.from_filelike(io.BytesIO(sys.stdin.buffer.read()))
sheets = [sheet for sheet in workbook.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
sheets = {sheet.name: sheet.visible == SheetVisibleEnum.Visible for sheet in sheets}
print(json.dumps(sheets))
name = sys.argv[1] or next(filter(sheets.get, sheets), None)
sheet = workbook.get_sheet_by_name(name) if name in sheets else None
if sheet and sheet.total_height > 1 << 20:
    sys.exit(f"it has a value in row {sheet.total_height + 1:,}")
rows = enumerate(sheet.iter_rows() if sheet else ())
rows = (row for number, row in rows if number < int(sys.argv[2]) or any(cell != "" for cell in row))
while block := list(itertools.islice(rows, 4096)):
    print(json.dumps(block, default=show))
"""


def read_workbook(file: DataFile, columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    """Yield the rows of a sheet without the empty ones.

    A column has numbers if all its cells are numbers, else texts, with dates in the ISO format. A formula gives its
    saved result. The library gives an error such as #N/A as an empty cell, which becomes null.

    Raises:
        UserError: python-calamine is missing, the file is not a workbook, or the sheet is missing, empty or lacks a
            column.
    """
    try:
        import python_calamine  # noqa: F401
    except ImportError as error:
        raise UserError(f"{file}: a package for workbooks is missing: pip install python-calamine") from error
    n_top = columns.skip_rows + SAMPLE_ROWS
    lines = io.BytesIO(run_isolated(file, _PRINT_SHEET, columns.sheet or "", str(n_top)))
    _check_sheets(json.loads(lines.readline()), file, columns.sheet, location)
    rows = ([_clean(cell) for cell in row] for line in lines for row in json.loads(line))
    top = list(islice(rows, n_top))
    numbered = (
        (number, row) for number, row in enumerate(chain(top, rows), 1) if any(cell is not None for cell in row)
    )
    line, header = next((item for item in numbered if item[0] > columns.skip_rows), (0, []))
    if not header:
        raise UserError(f"{file}: the sheet is empty; write the names of the columns in its first row")
    names = [cell_text(name) or f"{UNNAMED}{position}" for position, name in enumerate(header)]
    while names and names[-1] == f"{UNNAMED}{len(names) - 1}":  # columns that have a format but no content
        names.pop()
    try:
        wanted = select_columns(names, columns, file, location)
    except UserError:
        refuse_early_header(file, names, line, [[str(cell) for cell in row if cell is not None] for row in top])
        raise
    values = {*wanted} - {*columns.item_ids, *columns.timestamps} if columns.wide else {*columns.variates.names}
    by_name = {name: position for position, name in reversed([*enumerate(names)])}
    positions = [by_name[name] for name in wanted]
    blocks: list[list[pa.Array]] = []
    while block := [row for _, row in islice(numbered, _ROWS_PER_TABLE)]:
        cells = ((name, [row[position] for row in block]) for name, position in zip(wanted, positions))
        blocks.append([to_column(column, name in values) for name, column in cells])
    chunks = {name: _unify(arrays, name in values) for name, arrays in zip(wanted, zip(*blocks))}
    targets = {*columns.variates.targets} or values  # a table of the future has no targets
    filled = values if columns.wide else targets
    if blocks and all(array.null_count == len(array) for name in filled for array in chunks[name]):
        raise UserError(f"{file} contains no value; if it has formulas, save it in Excel, which stores their results")
    for index in range(len(blocks)):
        file.fraction_read = lambda: (index + 1) / len(blocks)
        yield pa.table({name: arrays[index] for name, arrays in chunks.items()})


def _check_sheets(sheets: dict[str, bool], file: DataFile, name: str | None, location: SourceLocation) -> None:
    """Refuse a missing sheet, and warn if there are several to choose from."""
    visible = [sheet for sheet, is_visible in sheets.items() if is_visible]
    if name is not None and name not in sheets:
        raise UserError(f"data.sheet: {file} has no sheet {name!r}, only {first_few(list(sheets))}")
    if name is None and not visible:
        raise UserError(f"{file} has no visible sheet; choose a hidden one with data.sheet")
    if name is None and len(visible) > 1:
        others = first_few(visible[1:])
        location.warn_once(f"reading sheet {visible[0]!r} of {file}; to read another ({others}), set data.sheet")


def _unify(arrays: Sequence[pa.Array], are_numbers: bool) -> list[pa.Array]:
    """Return the parts of a column as numbers if all are, else as texts."""
    types = {array.type for array in arrays} - {pa.null()}
    if types and pa.string() not in types:
        return [array.cast(pa.float64()) if pa.types.is_null(array.type) else array for array in arrays]
    text = number_text if are_numbers else cell_text
    return [pa.array(map(text, array.to_pylist()), pa.string()) for array in arrays]


def _clean(cell: Any) -> Any:
    """Return a cell, None for an empty one, a whole float as an integer."""
    if isinstance(cell, str):
        return cell.strip() or None
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell
