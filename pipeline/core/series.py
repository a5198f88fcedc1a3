"""The definition of a time series, its variates and its history, for all packages."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

TARGET, PAST, KNOWN = range(3)
"""Roles of rows: forecast, covariate up to the present, covariate known in the horizon too."""


@dataclass(frozen=True)
class Variates:
    """The names of the rows of an item, in this order: targets, past covariates, known covariates.

    Known covariates have values in the horizon too.
    """

    # The names of the fields are in the hashes of converted sources and in training_info.json.
    targets: tuple[str, ...] = ("target",)
    past: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The categories of each categorical covariate; its row contains their positions."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all rows."""
        return self.targets + self.past + self.known

    @property
    def names_by_role(self) -> tuple[tuple[str, ...], ...]:
        """Names of the targets, of the past covariates, and of the known covariates."""
        return self.targets, self.past, self.known

    @property
    def roles(self) -> np.ndarray:
        """Role of each row: TARGET, PAST or KNOWN, int64, [n_variates]."""
        return np.repeat((TARGET, PAST, KNOWN), [*map(len, self.names_by_role)])

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of the rows that are not forecast."""
        return self.past + self.known


UNIVARIATE = Variates()


@dataclass(frozen=True)
class Series:
    """One item: a time series on a regular grid, alone or with further variates."""

    item_id: str
    """The item ID, unique within a data set."""
    start: np.datetime64
    """Timestamp of the first value, datetime64[s]."""
    freq: str
    """Frequency, a pandas alias; empty if the data have no timestamps."""
    target: np.ndarray
    """float32, [length], or [n_variates, length]; NaN for a missing value."""
    variates: Variates = UNIVARIATE
    group: str | None = None
    """Name of the group, within which series see each other; None if there are no groups."""


class Panel(NamedTuple):
    """The history of an item of several variates or of a group, and the known part of its future."""

    past: np.ndarray
    """float32, [n_variates, length]."""
    future: np.ndarray
    """float32, [n_variates, prediction_length]; NaN if unknown."""
    variates: Variates
    group: int | None = None
    """Number of the group: Chronos-2 forecasts histories of the same number together; None is forecast alone."""


History = np.ndarray | Panel
"""The input of a forecast: values [length], or a panel."""


def target_rows(histories: Iterable[History]) -> list[np.ndarray]:
    """Return the histories of all targets, [length] each; the targets of an item follow each other."""
    rows: list[np.ndarray] = []
    for history in histories:
        rows += list(history.past[: len(history.variates.targets)]) if isinstance(history, Panel) else [history]
    return rows
