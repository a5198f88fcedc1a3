"""Formats of the columns of a source: decided once from whole columns, and applied to every later table of a model."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import UserError
from pipeline.core.series import Variates
from pipeline.data.date_styles import FORMS
from pipeline.data.dates import TimeEvidence, TimeFormat
from pipeline.data.frequency import parse_freq
from pipeline.data.numbers import (
    CURRENCIES,
    MISSING,
    NumberEvidence,
    NumberFormat,
    decide_numbers,
    parse_numbers,
    plain_text,
)
from pipeline.data.rows import ROW, SourceLocation, is_text

_BOOLEANS = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
_NOT_CATEGORIES = ("nan", "NaN", "NAN", "null", "Null", "NULL", "<NA>")
"""Texts that mean a missing category. Other words of `MISSING`, such as none, may be categories."""
_WORDS_MISSING = [case(word) for word in MISSING for case in (str.lower, str.upper, str.capitalize)]
"""Texts that mean a missing boolean."""
_MIN_NUMBERS, _NUMBER_SHARE = 10, 0.9
"""Minimum number and share of distinct numbers in a column of numbers with some words. A column with fewer numbers has
categories, such as the sizes S, 36 and 38."""
_WITH_UNIT = re.compile(rf"\(?[+\-\u2212\u2013]?{CURRENCIES}? ?\d[\d.,' ]*(?:%| ?{CURRENCIES}| ?\u00b0[cf]?)?[-)]?")
"""Numbers that may have another minus, parentheses, or a sign of percents, degrees or a currency: no categories, and
refused as numbers."""
_MAX_DISTINCT = 100_000  # bounds the memory of the evidence of a column


@dataclass(frozen=True)
class LabelFormat:
    """A column of categories, or of the booleans true and false in upper or lower case."""

    kind: Literal["category", "boolean"]

    def describe(self) -> str:
        """Return the format in words."""
        return self.kind


ValueFormat = NumberFormat | LabelFormat
_VALUE_FORMATS = (LabelFormat("category"), LabelFormat("boolean"), *map(NumberFormat, (None, ".", ",")))


@dataclass(frozen=True)
class ColumnFormats:
    """The format of the timestamps and of each column of values, as kept with a store and a checkpoint."""

    timestamp: TimeFormat | None = None
    """None for series without timestamps."""
    values: Mapping[str, ValueFormat] = field(default_factory=dict)
    """Formats by column name. A single target is called `target`, whatever its name in the table."""
    freq: str | None = None
    """Frequency of the series that a model was trained on, for a table that is too short to infer it from."""

    def describe(self, variates: Variates) -> str:
        """Return the formats in words, such as `target: number, decimal point; promo: category of none, flyer`."""
        parts = []
        for name, value_format in self.values.items():
            categories = variates.categories.get(name, ())
            shown = f" of {', '.join(categories[:5])}{', ...' if len(categories) > 5 else ''}"
            is_category = isinstance(value_format, LabelFormat) and value_format.kind == "category"
            parts.append(f"{name}: {value_format.describe()}{shown if is_category else ''}")
        if self.timestamp is not None:
            parts.append(f"timestamp: {self.timestamp.describe()}")
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the formats as a dictionary of JSON values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> ColumnFormats:
        """Return the formats of a dictionary that `to_dict` made; an empty one has none.

        Raises:
            UserError: the dictionary has another form.
        """
        try:
            time, freq = fields.get("timestamp"), fields.get("freq")
            values = {
                name: LabelFormat(**value) if "kind" in value else NumberFormat(**value)
                for name, value in fields.get("values", {}).items()
            }
            formats = ColumnFormats(TimeFormat(**time) if time else None, values, freq)
            is_valid = all(value in _VALUE_FORMATS for value in values.values())
            if formats.timestamp is not None:
                is_valid &= formats.timestamp.style.partition(":")[0] in ("timestamp", "format", *FORMS)
                is_valid &= formats.timestamp.zone in ("none", "local", "utc")
            if freq:
                parse_freq(freq)
        except (AttributeError, TypeError):
            is_valid = False
        if not is_valid:
            raise UserError(f"the formats of columns are damaged: {str(fields)[:200]}; convert or train again")
        return formats


def common_formats(formats: Sequence[ColumnFormats]) -> ColumnFormats:
    """Return the formats that several sources share; the format of another column is decided anew in later tables."""
    if not formats:
        return ColumnFormats()
    first, *others = formats
    values = {
        name: value for name, value in first.values.items() if all(other.values.get(name) == value for other in others)
    }
    same_timestamp = all(other.timestamp == first.timestamp for other in others)
    return ColumnFormats(first.timestamp if same_timestamp else None, values)


class FormatEvidence:
    """Collect evidence of the formats of all columns of a source, table by table."""

    def __init__(
        self,
        variates: Variates,
        location: SourceLocation,
        timestamp_format: str | None,
        missing: Collection[str],
        remembered: ColumnFormats,
    ) -> None:
        self._location, self._remembered = location, remembered
        self._time = TimeEvidence(location, timestamp_format, remembered.timestamp)
        self._has_timestamps = False
        self._numbers = {name: NumberEvidence(name, missing) for name in format_names(variates)}
        self._labels = {
            name: _LabelEvidence(missing)
            for name in variates.covariates
            if name not in remembered.values  # otherwise the remembered format applies
        }

    def add(self, table: pa.Table) -> None:
        """Add a table with the column `value NAME` for each name of `format_names`."""
        rows = table[ROW].to_numpy()
        if "timestamp" in table.column_names:
            self._has_timestamps = True
            self._time.add(table["timestamp"], rows)
        for name, evidence in self._numbers.items():
            evidence.add(table[f"value {name}"], rows)
        for name, labels in self._labels.items():
            labels.add(table[f"value {name}"])

    def decide(self, decimal: Literal["auto", ".", ","]) -> ColumnFormats:
        """Return the format of each column.

        Raises:
            UserError: a column is ambiguous, or contradicts its remembered format.
        """
        remembered = self._remembered
        known = {name: found for name, found in remembered.values.items() if isinstance(found, LabelFormat)}
        labels = {name: LabelFormat(kind) for name, found in self._labels.items() if (kind := found.decide())} | known
        numbers = {name: evidence for name, evidence in self._numbers.items() if name not in labels}
        known_numbers = {name: found for name, found in remembered.values.items() if isinstance(found, NumberFormat)}
        values = labels | decide_numbers(numbers, decimal, known_numbers, self._location)
        time = self._time.decide() if self._has_timestamps else None
        return ColumnFormats(time, {name: values[name] for name in self._numbers})


def format_names(variates: Variates) -> list[str]:
    """Return the names of the columns of values in `ColumnFormats`."""
    return ["target"] if len(variates) == len(variates.targets) == 1 else list(variates.names)


def parse_values(
    column: pa.ChunkedArray,
    value_format: ValueFormat,
    categories: dict[str, int],
    rows: np.ndarray,
    location: SourceLocation,
    name: str,
    missing: Collection[str],
) -> np.ndarray:
    """Return a column as numbers, a category as its position: float64, [n], NaN for a missing value.

    Args:
        categories: positions of the categories found so far; new ones are added.
        rows: number of each row in the source, [n].
        missing: further texts that mean a missing value.

    Raises:
        UserError: a value does not have the format; the message names the row.
    """
    if isinstance(value_format, NumberFormat):
        return parse_numbers(column, value_format, rows, location, name, missing)
    is_boolean = value_format.kind == "boolean"
    texts = _label_texts(column, (*missing, *_WORDS_MISSING) if is_boolean else missing)
    encoded = texts.combine_chunks().dictionary_encode()
    labels = encoded.dictionary.to_pylist()
    if is_boolean:
        invalid = [label for label in labels if label.lower() not in _BOOLEANS]
        if invalid:
            row = rows[texts.to_pylist().index(invalid[0])]
            raise UserError(
                f"{location}: {location.describe_row(int(row))} has the {name} {invalid[0]!r}, but the other rows or "
                "the history have true and false; write true or false"
            )
        labels = ["true" if _BOOLEANS[label.lower()] else "false" for label in labels]
        categories.update({"false": 0, "true": 1})
    codes = [categories.setdefault(plain_text(label), len(categories)) for label in labels]
    return np.array([*codes, np.nan])[encoded.indices.fill_null(len(codes)).to_numpy()]


class _LabelEvidence:
    """Collect evidence whether a covariate has numbers, booleans or categories."""

    def __init__(self, missing: Collection[str]) -> None:
        self._missing = missing
        self._is_category = False
        self._has_booleans = self._has_typed_numbers = False
        self._words: set[str] = set()
        self._numbers: set[str] = set()

    def add(self, column: pa.ChunkedArray) -> None:
        kind = column.type
        if pa.types.is_dictionary(kind):
            self._is_category = True
        elif pa.types.is_boolean(kind):
            self._has_booleans = True
        elif not is_text(kind):
            self._has_typed_numbers = self._has_typed_numbers or not pa.types.is_null(kind)
            is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
            if is_number and len(self._numbers) < _MAX_DISTINCT:
                distinct = pa.chunked_array([pc.unique(column)[:_MAX_DISTINCT]])
                self._numbers.update(_label_texts(distinct, self._missing).drop_null().to_pylist())
        elif len(self._words) + len(self._numbers) < _MAX_DISTINCT:
            texts = pc.unique(_label_texts(column, self._missing)).drop_null()
            try:
                texts.cast(pa.float64())  # the most frequent case, and fast
                self._numbers.update(texts[:_MAX_DISTINCT].to_pylist())
            except pa.ArrowInvalid:
                labels = texts.to_pandas()
                is_number = pd.to_numeric(_plain_numbers(labels), errors="coerce").notna()
                self._numbers.update(labels[is_number])
                self._words.update(labels[~is_number])

    def decide(self) -> Literal["category", "boolean"] | None:
        """Return the kind of label, None for numbers."""
        if self._is_category:
            return "category"
        words = {word.lower() for word in self._words}
        booleans = words - set(MISSING)
        if booleans and booleans <= _BOOLEANS.keys() and self._numbers <= _BOOLEANS.keys():
            return "boolean"
        if self._has_booleans and not words and not self._has_typed_numbers:
            return "boolean"
        with_unit = set(filter(_WITH_UNIT.fullmatch, words))
        n_words, n_numbers = len(words - with_unit - set(MISSING)), len(self._numbers | with_unit)
        if n_numbers or self._has_typed_numbers:
            is_number = n_words == 0 or n_numbers >= max(_MIN_NUMBERS, _NUMBER_SHARE * (n_words + n_numbers))
            return None if is_number else "category"
        return "category" if self._words else None


def _plain_numbers(texts: pd.Series) -> pd.Series:
    """Return texts whose numbers pandas can parse, in any locale."""
    return texts.str.replace(r"(?<=\d)[.,' \u00a0\u202f\u2019](?=\d)", ".", n=1, regex=True).str.replace(
        r"(?<=\d)[,' \u00a0\u202f\u2019](?=\d)", "", regex=True
    )


def _label_texts(column: pa.ChunkedArray, missing: Collection[str]) -> pa.ChunkedArray:
    """Return a column as texts without outer spaces, whole floats without a fraction, null for missing values."""
    if pa.types.is_floating(column.type):
        values = column.to_numpy()
        known = values[~np.isnan(values)]
        if (known == np.round(known)).all() and (np.abs(known) < 2**53).all():
            column = pa.chunked_array([pa.array(values, from_pandas=True).cast(pa.int64())])
    texts = pc.utf8_trim_whitespace(column.cast(pa.string()))
    is_missing = pc.is_in(texts, pa.array([*map(str.strip, missing), "", *_NOT_CATEGORIES], pa.string()))
    return pc.if_else(is_missing, pa.scalar(None, pa.string()), texts)
