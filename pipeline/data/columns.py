"""Names of the columns of a source, and selection of the columns to read."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from pipeline.core.errors import UserError, first_few
from pipeline.core.series import UNIVARIATE, Variates
from pipeline.data.rows import SourceLocation
from pipeline.data.wide import step_columns

UNNAMED, _PANDAS_INDEX = "Unnamed: ", "__index_level_"
"""Prefixes of the names of columns without one, each followed by its position, as pandas writes them."""
_KEYS = (
    "data.target, data.id_column, data.timestamp_column, data.group_column, data.past_covariates and "
    "data.known_covariates"
)


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a source, and how its cells are read."""

    item_id: str | tuple[str, ...] = "item_id"
    """Column of the item ID, or several columns whose values form it, joined by a slash."""
    timestamp: str | tuple[str, ...] = "timestamp"
    """Column of the timestamps, or several columns whose texts form them, joined by a space."""
    variates: Variates = UNIVARIATE
    """Columns of the values."""
    group: tuple[str, ...] = ()
    """Columns whose values form the name of a series' group, joined by a slash; none for no groups."""
    wide: bool = False
    """Whether the table has one column per series, or one column per time step with its date or number as name."""
    decimal: Literal["auto", ".", ","] = "auto"
    """Decimal separator of numbers in texts; auto decides each column from all its values."""
    encoding: str = "utf-8"
    """Encoding of text files; a byte order mark of UTF-16 takes precedence."""
    sheet: str | None = None
    """Sheet of a workbook; None is the first visible one."""
    timestamp_format: str | None = None
    """strptime format of the timestamps, `unix_s`, `unix_ms`, `steps`, `iso_week` or `excel`; None decides it from all
    values."""
    skip_rows: int = 0
    """Lines above the header of a text file or sheet."""
    missing_values: tuple[str, ...] = ()
    """Further texts that mean a missing value."""
    fill_missing: float | None = None
    """Value of missing targets between the first and the last step of a series; None keeps them missing."""
    duplicates: Literal["error", "first", "last", "sum", "mean"] = "error"
    """How several rows of a series with the same timestamp are merged; `error` refuses them."""

    @property
    def target(self) -> str:
        """The first column of the values."""
        return self.variates.names[0]

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The columns of the item ID."""
        return (self.item_id,) if isinstance(self.item_id, str) else self.item_id

    @property
    def timestamps(self) -> tuple[str, ...]:
        """The columns of the timestamps."""
        return (self.timestamp,) if isinstance(self.timestamp, str) else self.timestamp


def select_columns(names: list[str], columns: Columns, file: object, location: SourceLocation) -> list[str]:
    """Return the columns of a table that are read.

    Args:
        names: all columns of the table.
        file: the file or table, for messages.
        location: the source, for warnings about dropped columns.

    Raises:
        UserError: a column is missing or appears twice.
    """
    counts = Counter(names)
    named = (*columns.item_ids, *columns.timestamps, *columns.variates.names, *columns.group)
    for name in counts if columns.wide else named:
        if counts[name] > 1:
            raise UserError(f"{file} has {counts[name]} columns named {name!r}; keep one of them")
    if columns.wide:
        return _select_wide_columns(names, columns, file, location)
    # The values, and every column with a name that the user chose.
    required, default = [*columns.variates.names, *columns.group], Columns()
    required += columns.item_ids if columns.item_ids != default.item_ids else ()
    required += columns.timestamps if columns.timestamps != default.timestamps else ()
    for name in (*required, *columns.item_ids, *columns.timestamps):
        near = _find_near(name, names) if name not in counts else None
        if near is not None and near not in named:
            raise UserError(f"{file} has no column {name!r}, but {near!r}; rename it, or set its name with {_KEYS}")
        if name not in counts and name in required:
            hint = "; its header looks like that of a wide table" if _looks_wide(names) else ""
            raise UserError(
                f"{file} has no column {name!r}, only {first_few(names, 20)}{hint}; set the column names with {_KEYS}, "
                "or set data.wide: true for a table with one column per series or per time step"
            )
    wanted = dict.fromkeys((*named, *(name for name in ("start", "freq") if counts[name] == 1)))
    location.unused_columns = [name for name in names if name not in wanted]
    return [name for name in wanted if name in counts]


def _looks_wide(names: list[str]) -> bool:
    try:
        return len(step_columns(names)) > 2
    except UserError:  # several groups of numbered columns
        return True


def _find_near(name: str, names: list[str]) -> str | None:
    """Return the column that differs from a name only by case, spaces or punctuation."""
    plain = re.sub(r"[\W_]", "", name).casefold()
    return next((other for other in names if re.sub(r"[\W_]", "", other).casefold() == plain), None)


def _select_wide_columns(names: list[str], columns: Columns, file: object, location: SourceLocation) -> list[str]:
    series = [name for name in names if name not in columns.timestamps]
    all_named = all(name and not name.startswith((UNNAMED, _PANDAS_INDEX)) for name in series)
    has_timestamps = set(columns.timestamps) <= set(names)
    if has_timestamps and len(columns.item_ids) == 1 and series and all_named:
        if (item_id := columns.item_ids[0]) in names:
            raise UserError(
                f"{file} has the columns {first_few(columns.timestamps)} and {item_id!r}; remove data.wide if it has a "
                f"row for each value, or the column {item_id!r} if it has one column per series"
            )
        return names
    others = [name for name in names if name not in columns.item_ids]
    steps = dict.fromkeys(step_columns(others, columns.timestamp_format) if not has_timestamps else [])
    if steps and set(columns.item_ids) <= set(names):
        if dropped := [name for name in others if name not in steps]:
            location.warn_once(f"columns that are not named by a date or number are dropped: {first_few(dropped)}")
        return [*columns.item_ids, *steps]
    raise UserError(
        f"{file} has the columns {first_few(names)}; data.wide needs the column "
        f"{' and '.join(map(repr, columns.timestamps))} (data.timestamp_column) and one named column per series, or "
        f"the columns {' and '.join(map(repr, columns.item_ids))} (data.id_column) and one column per time step, named "
        "by its date or number"
    )
