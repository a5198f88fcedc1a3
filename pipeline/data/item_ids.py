"""Item IDs of rows: their texts, the number of each series, and its group."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError, first_few
from pipeline.data.rows import ROW, SourceLocation, distinct, refuse_rows


def encode_ids(
    table: pa.Table, columns: Sequence[str], location: SourceLocation, kind: str = "item_id"
) -> tuple[list[str], np.ndarray] | None:
    """Return distinct item IDs, and the position of each row's ID among them; None if the table has none.

    Other columns of names, such as those of groups, are read in the same way.

    The values of several columns are joined by slashes. A backslash precedes a slash or backslash within a value, so
    that different values have different IDs. A missing value is empty.
    """
    parts = [table[name] for name in columns if name in table.column_names]
    if not parts:
        return None
    blanks = " \t" if len(parts) == 1 else " \t/"  # a slash within a value has a backslash before it
    parts = [pc.if_else(pc.is_nan(part), None, part) if pa.types.is_floating(part.type) else part for part in parts]
    try:
        missing = np.logical_and.reduce([part.is_null().to_numpy() for part in parts])
        refuse_rows(missing, table[ROW].to_numpy(), location, f"has no {kind}")
        if len(parts) > 1:
            texts = [pc.fill_null(_to_names(part), "") for part in parts]
            texts = [pc.replace_substring_regex(text, r"[\\/]", r"\\\0") for text in texts]
            parts = [pc.binary_join_element_wise(*texts, "/")]
        values, positions = distinct(parts[0])
        names = _to_names(values).to_pylist()
        blank = np.array([not name.strip(blanks) for name in names], bool)
        refuse_rows(blank[positions], table[ROW].to_numpy(), location, f"has no {kind}")
        return names, positions
    except pa.ArrowException as error:
        kinds = " and ".join(str(table.schema.field(name).type) for name in columns if name in table.column_names)
        raise UserError(f"{location}: the {kind} has the type {kinds}; convert it to text") from error


def _to_names(values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return values as texts: numbers without zeros at the end of a fraction, and a midnight as its date."""
    texts = values.cast(pa.string())
    if pa.types.is_decimal(values.type):
        return pc.replace_substring_regex(texts, r"^(-?\d+)(?:\.0*|(\.\d*[1-9])0*)$", r"\1\2")
    if pa.types.is_timestamp(values.type):
        return pc.replace_substring_regex(texts, r" 00:00:00(?:\.0+)?$", "")
    if not pa.types.is_floating(values.type):
        return texts
    whole = pc.and_(pc.equal(values, pc.floor(values)), pc.less(pc.abs(values), 2.0**53))
    return pc.coalesce(pc.if_else(whole, values, None).cast(pa.int64()).cast(pa.string()), texts)


def refuse_repeated_ids(parts: Sequence[pa.Array], location: SourceLocation) -> None:
    """Refuse series with the same item ID.

    Args:
        parts: the item IDs of all series.

    Raises:
        UserError: as described.
    """
    ids = pa.chunked_array(parts)
    if pc.count_distinct(ids).as_py() < len(ids):
        repeated = next(found for found in pc.value_counts(ids).to_pylist() if found["counts"] > 1)
        raise UserError(f"{location}: two series have the item ID {repeated['values']}; rename one of them")


class SeriesNumbers:
    """Number the series in the order of their first rows, and record the group of each."""

    def __init__(self, location: SourceLocation) -> None:
        self.codes: dict[str, int] = {}
        """The number of each item ID, in order."""
        self.location = location
        self._group_codes: dict[str, int] = {}
        self._groups = np.empty(0, np.int32)  # of each series

    def encode(self, table: pa.Table, columns: Sequence[str]) -> np.ndarray:
        """Return the number of the series of each row: int32, [n].

        Raises:
            UserError: a row has no item ID, or one that is not a text.
        """
        found = encode_ids(table, columns, self.location)
        if (found is None) != (not self.location.has_item_ids) and self.codes:
            row = self.location.describe_row(table[ROW][0].as_py())
            raise UserError(
                f"{self.location}: only some rows have an item_id, see {row} and those before it; write it in all or "
                "none"
            )
        if found is None:
            self.location.has_item_ids = False
            found = ["0"], np.zeros(len(table), np.int64)
        names, positions = found
        codes = [self.codes.setdefault(name, len(self.codes)) for name in names]
        return np.array(codes, np.int32)[positions]

    def add_groups(self, table: pa.Table, columns: Sequence[str], codes: np.ndarray) -> None:
        """Record the groups of the rows of a table.

        Args:
            codes: what `encode` returned, [n].

        Raises:
            UserError: a row has no group, or a series has rows of two groups.
        """
        name = "/".join(columns)
        found = encode_ids(table, columns, self.location, name)
        assert found is not None  # `select_columns` has checked it
        numbers = [self._group_codes.setdefault(group, len(self._group_codes)) for group in found[0]]
        groups = np.array(numbers, np.int32)[found[1]]
        n_new = len(self.codes) - len(self._groups)
        self._groups = np.append(self._groups, np.full(n_new, -1, np.int32)) if n_new else self._groups
        first = np.flatnonzero(self._groups[codes] < 0)[::-1]  # of several rows of a new series, the first counts
        self._groups[codes[first]] = groups[first]
        differs = self._groups[codes] != groups
        if differs.any():
            row = int(differs.argmax())
            item_id, names = list(self.codes)[codes[row]], list(self._group_codes)
            raise UserError(
                f"{self.location}: {self.location.describe_row(table[ROW][row].as_py())}: series {item_id} has the "
                f"{name} {names[groups[row]]!r}, and {names[self._groups[codes[row]]]!r} in a row before it; give each "
                "series one group, or name another column with data.group_column"
            )

    def groups(self) -> dict[str, str]:
        """Return the name of the group of each series, none if there are no groups."""
        names = list(self._group_codes)
        return {item_id: names[group] for item_id, group in zip(self.codes, self._groups.tolist())}

    def check_names(self) -> None:
        """Warn about item IDs and groups that differ only by spaces, invisible characters, or zeros of a number."""
        forms: dict[str, Callable[[str], str]] = {
            "spaces around them": str.strip,
            "invisible characters": _printable,
            "zeros around a number": _without_zeros,
        }
        for kind, codes in {"item IDs": self.codes, "groups": self._group_codes}.items():
            for difference, simplify in forms.items():
                same = [name for name, count in Counter(map(simplify, codes)).items() if count > 1]
                if same:
                    self.location.warn_once(
                        f"{len(same)} {kind} occur with and without {difference}, as separate ones: "
                        f"{first_few(same)}; write them alike if they are the same"
                    )


def _printable(name: str) -> str:
    return "".join(filter(str.isprintable, name))


def _without_zeros(name: str) -> str:
    match = re.fullmatch(r"(-?)0*(\d+)(?:\.0*|(\.\d*[1-9])0*)?", name)
    return f"{match[1]}{match[2]}{match[3] or ''}" if match else name
