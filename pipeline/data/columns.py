"""Names of the columns of a source, and the choice of those that are read."""

from dataclasses import dataclass

from pipeline.core.errors import UserError, first_few
from pipeline.core.series import UNIVARIATE, Variates
from pipeline.data.numbers import Decimal
from pipeline.data.rows import SourceLocation
from pipeline.data.wide import date_columns

UNNAMED = "Unnamed: "
"""Prefix of the name of a column without one, followed by its position, as pandas writes it."""
_KEYS = "data.target, data.id_column, data.timestamp_column, data.past_covariates and data.known_covariates"


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a source, and the format of its text."""

    item_id: str | tuple[str, ...] = "item_id"
    """Column of the item ID, or several columns whose values form it, joined by a slash."""
    timestamp: str = "timestamp"
    variates: Variates = UNIVARIATE
    """Columns of the values."""
    wide: bool = False
    """Whether the table has one column per series, or one column per time step with its date as name."""
    decimal: Decimal = "auto"
    """Decimal separator of CSV files; auto infers it from the values."""
    encoding: str = "utf-8"
    """Encoding of CSV files; a byte order mark of UTF-16 takes precedence."""
    sheet: str | None = None
    """Sheet of an Excel workbook; None is the first visible one."""

    @property
    def target(self) -> str:
        """The first column of the values."""
        return self.variates.names[0]

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The columns of the item ID."""
        return (self.item_id,) if isinstance(self.item_id, str) else self.item_id


def select_columns(names: list[str], columns: Columns, file: object, location: SourceLocation) -> list[str]:
    """Return the columns of a table that are read.

    Args:
        names: all columns of the table.
        file: the file or table, for messages.
        location: the source, for warnings about columns that are left out.

    Raises:
        UserError: a column is missing or appears twice.
    """
    for name in names if columns.wide else (*columns.item_ids, columns.timestamp, *columns.variates.names):
        if names.count(name) > 1:
            raise UserError(f"{file} has {names.count(name)} columns named {name!r}; keep one of them")
    if columns.wide:
        return _select_wide_columns(names, columns, file, location)
    for name in _required_columns(columns):
        if name not in names:
            raise UserError(
                f"{file} has no column {name!r}, only {first_few(names, 20)}; set the column names with {_KEYS}, or "
                "set data.wide: true for a table with one column per series"
            )
    wanted = dict.fromkeys((*columns.item_ids, columns.timestamp, "start", "freq", *columns.variates.names))
    return [name for name in wanted if name in names]


def _required_columns(columns: Columns) -> list[str]:
    """Return the columns that a long table must have: the values, and every column with a name that the user chose."""
    default = Columns()
    required = list(columns.variates.names)
    required += columns.item_ids if columns.item_ids != default.item_ids else []
    required += [columns.timestamp] if columns.timestamp != default.timestamp else []
    return required


def _select_wide_columns(names: list[str], columns: Columns, file: object, location: SourceLocation) -> list[str]:
    series = [name for name in names if name != columns.timestamp]
    all_named = all(name and not name.startswith(UNNAMED) for name in series)
    if columns.timestamp in names and len(columns.item_ids) == 1 and series and all_named:
        return names
    dates = date_columns(names)
    if columns.timestamp not in names and dates and set(columns.item_ids) <= set(names):
        others = [name for name in names if name not in dates and name not in columns.item_ids]
        if others:
            location.warn_once(f"columns without a date as name are left out: {first_few(others)}")
        return [*columns.item_ids, *dates]
    raise UserError(
        f"{file} has the columns {first_few(names)}; data.wide needs the column {columns.timestamp!r} "
        "(data.timestamp_column) and one named column per series, or the columns "
        f"{' and '.join(map(repr, columns.item_ids))} (data.id_column) and one column per time step, named by its date"
    )
