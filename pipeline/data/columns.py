"""How the columns of a source are named, and which of them are read."""

from dataclasses import dataclass

from pipeline.core.errors import UserError, first_few
from pipeline.core.series import UNIVARIATE, Variates
from pipeline.data import wide
from pipeline.data.numbers import Decimal
from pipeline.data.rows import SourceLocation

UNNAMED = "Unnamed: "
"""What a column without a name is called by, before its position."""
_KEYS = "data.target, data.id_column, data.timestamp_column, data.past_covariates and data.known_covariates"


@dataclass(frozen=True)
class Columns:
    """How the columns of a source are named, and how its texts are written."""

    item_id: str | tuple[str, ...] = "item_id"
    """Column that names a series, or several whose values do so together, joined by a slash."""
    timestamp: str = "timestamp"
    variates: Variates = UNIVARIATE
    """Columns of the values."""
    wide: bool = False
    """A column a series, which its header names, or a column a time step, whose date it does; else a row a value, or a row
    with lists."""
    decimal: Decimal = "auto"
    """What fractions begin with in a CSV file; auto tells it from the values."""
    encoding: str = "utf-8"
    """Of CSV files; one that begins with a byte order mark of UTF-16 is read as that."""
    sheet: str | None = None
    """Of Excel workbooks; None is the first that is not hidden."""

    @property
    def target(self) -> str:
        """The first column of the values."""
        return self.variates.names[0]

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The columns that name a series."""
        return (self.item_id,) if isinstance(self.item_id, str) else self.item_id


def select_columns(names: list[str], columns: Columns, file: object, where: SourceLocation) -> list[str]:
    """Return the columns of a table that are read, of all the names that it has; `where` tells of those that may be missed.

    Raises:
        UserError: one that is asked for is not among them, or comes twice.
    """
    default = Columns()
    required = list(columns.variates.names)
    required += columns.item_ids if columns.item_ids != default.item_ids else []
    required += [columns.timestamp] if columns.timestamp != default.timestamp else []
    for name in names if columns.wide else (*columns.item_ids, columns.timestamp, *columns.variates.names):
        if names.count(name) > 1:
            raise UserError(f"{file} has {names.count(name)} columns named {name!r}; keep one of them")
    if columns.wide:
        return _select_wide_columns(names, columns, file, where)
    for name in required:
        if name not in names:
            raise UserError(
                f"{file} has no column {name!r}, only {first_few(names, 20)}; name the right ones with {_KEYS}; a table with "
                "a column a series is read with data.wide true"
            )
    wanted = dict.fromkeys((*columns.item_ids, columns.timestamp, "start", "freq", *columns.variates.names))
    return [name for name in wanted if name in names]


def _select_wide_columns(names: list[str], columns: Columns, file: object, where: SourceLocation) -> list[str]:
    series = [name for name in names if name != columns.timestamp]
    named = all(name and not name.startswith(UNNAMED) for name in series)
    if columns.timestamp in names and len(columns.item_ids) == 1 and series and named:
        return names
    dates = wide.dated(names)
    if columns.timestamp not in names and dates and set(columns.item_ids) <= set(names):
        others = [name for name in names if name not in dates and name not in columns.item_ids]
        if others:
            where.warn(f"columns that are named by no date are left out: {first_few(others)}")
        return [*columns.item_ids, *dates]
    raise UserError(
        f"{file} has the columns {first_few(names)}: data.wide wants {columns.timestamp!r}, or what data.timestamp_column "
        f"says, and a column a series, each with a name; or {' and '.join(map(repr, columns.item_ids))}, or what "
        "data.id_column says, and a column a time step, each named by a date"
    )
