"""Reading of `.tsf` files, the format of the Monash forecasting archive: a header, and a series on each line."""

import io
import re
from collections.abc import Iterator, Mapping
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError, first_few, to_one_line
from pipeline.data.columns import Columns, select_columns
from pipeline.data.readers.arrow import NESTED_ROWS
from pipeline.data.readers.files import DataFile
from pipeline.data.rows import SourceLocation

_ITEM_ID = "series_name"
_VALUES_PER_TABLE = 1 << 20  # bounds memory
# Months, quarters and years are counted from the start of a series. A week is seven days, since W names a weekday.
_FREQS = {"half_hourly": "30min", "minutely": "min", "hourly": "h", "daily": "D", "weekly": "7D", "monthly": "MS"}
_FREQS |= {"quarterly": "QS", "yearly": "YS"}
_UNITS = {"second": "s", "minute": "min", "hour": "h", "day": "D", "month": "MS", "year": "YS"}
_COUNTED_FREQ = re.compile(rf"(\d+)_({'|'.join(_UNITS)})s?")

Row = tuple[dict[str, object], pa.Array]
"""The attributes of a series, and its values."""


def read_monash(file: DataFile, columns: Columns, location: SourceLocation) -> Iterator[pa.Table]:
    """Yield a row for each series: its attributes, start and list of values, with the frequency as metadata `freq`.

    The attribute `series_name` is the item ID, or T1, T2, ... if there is none; its column has the configured name if
    no other attribute may be meant. An attribute of dates is the start.

    Raises:
        UserError: a line does not have the format; the message has its number.
    """
    if columns.wide:
        raise UserError(f"{file} has one row per series with all its values; remove data.wide")
    attributes: dict[str, str] = {}
    metadata: dict[str, str] = {}
    selected: dict[str, str] = {}
    rows: list[Row] = []
    n_series = n_values = 0
    with file.open() as stream:
        for number, line in enumerate(file.lines(io.BufferedReader(stream)), 1):
            if not line.strip() or line.startswith(b"#"):  # comments may have another encoding
                continue
            text = line.decode(columns.encoding).strip()
            try:
                if not selected and text.lower() == "@data":
                    names = _column_names(attributes, columns, file)
                    wanted = select_columns(list(names), columns, file, location)
                    selected = {name: names[name] for name in wanted}
                elif not selected:
                    _read_header_line(text, attributes, metadata)
                else:
                    n_series += 1
                    rows.append(_read_series(text, n_series, attributes))
                    n_values += len(rows[-1][1])
            except UserError:
                raise
            except ValueError as error:  # also those of pyarrow
                raise UserError(f"{file}, line {number}: {to_one_line(error)}; fix this line") from error
            if len(rows) == NESTED_ROWS or n_values > _VALUES_PER_TABLE:
                yield _to_table(rows, selected, metadata)
                rows, n_values = [], 0
    if not selected:
        raise UserError(f"{file} has no line @data, which precedes the series; check that it is a complete .tsf file")
    if rows:
        yield _to_table(rows, selected, metadata)


def _column_names(attributes: Mapping[str, str], columns: Columns, file: DataFile) -> dict[str, str]:
    """Return the attribute of each column, "" for the column of the values."""
    names = {name: name for name in attributes}
    dates = [name for name, kind in attributes.items() if kind == "date"]
    if not set(columns.timestamps) & attributes.keys():
        if len(dates) > 1:
            raise UserError(f"{file} has several dates, {first_few(dates)}; name the start with data.timestamp_column")
        names |= {"start": name for name in dates}
    has_others = bool(attributes.keys() - {_ITEM_ID, *dates})
    is_default = columns.item_ids == Columns().item_ids
    if not set(columns.item_ids) <= attributes.keys() and (is_default or not has_others):
        names[columns.item_ids[0]] = _ITEM_ID
    return names | {columns.target: ""}


def _read_header_line(line: str, attributes: dict[str, str], metadata: dict[str, str]) -> None:
    """Add the attribute or the frequency of a line of the header."""
    keyword, *words = line.split()
    match keyword.lower(), *words:
        case "@attribute", name, kind if kind.lower() in ("string", "numeric", "date"):
            attributes[name] = kind.lower()
        case "@attribute", *_:
            raise ValueError("an attribute has a name and one of the types string, numeric and date")
        case "@frequency", *words:
            word = "_".join(words).lower()
            counted = _COUNTED_FREQ.fullmatch(word)
            if not counted and word not in _FREQS:
                raise ValueError(f"unknown frequency {word!r}; known are {', '.join(_FREQS)}, 10_minutes and the like")
            metadata["freq"] = counted[1] + _UNITS[counted[2]] if counted else _FREQS[word]
        case word, *_ if not word.startswith("@"):
            raise ValueError("a series is before the line @data")


def _read_series(line: str, number: int, attributes: Mapping[str, str]) -> Row:
    """Return the series of a line. Without a name, it is called T and its number among the series."""
    *parts, text = line.split(":")
    if len(parts) != len(attributes):
        raise ValueError(f"{len(parts)} attributes for {len(attributes)} in the header; a colon separates them")
    cells: dict[str, object] = {_ITEM_ID: f"T{number}"}
    for part, (name, kind) in zip(parts, attributes.items()):
        cells[name] = datetime.strptime(part, "%Y-%m-%d %H-%M-%S") if kind == "date" else part
    values = pc.utf8_trim_whitespace(pa.array(text.split(",")))
    return cells, pc.if_else(pc.equal(values, "?"), None, values).cast(pa.float64())


def _to_table(rows: list[Row], selected: Mapping[str, str], metadata: Mapping[str, str]) -> pa.Table:
    """Return the selected columns of series, by the attribute of each column."""
    offsets = pa.array([0, *pc.cumulative_sum(pa.array([len(values) for _, values in rows])).to_pylist()], pa.int32())
    target = pa.ListArray.from_arrays(offsets, pa.concat_arrays([values for _, values in rows]))
    table = {
        name: pa.array([cells[attribute] for cells, _ in rows]) if attribute else target
        for name, attribute in selected.items()
    }
    return pa.table(table).replace_schema_metadata(dict(metadata))
