"""What a time series is, everywhere in this package."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Variates:
    """What the rows of an item are, in this order: targets, covariates of the past, covariates known beyond it too."""

    targets: tuple[str, ...] = ("target",)
    past: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of each categorical covariate its categories; the row holds their positions."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all rows."""
        return self.targets + self.past + self.known

    @property
    def names_by_role(self) -> tuple[tuple[str, ...], ...]:
        """Names of targets, covariates of the past, and known ones."""
        return self.targets, self.past, self.known

    @property
    def columns(self) -> tuple[str, ...]:
        """What the columns of a table of them are called in this package: `target` the first, so that none has two names."""
        return ("target", *(f"variate {name}" for name in self.names[1:]))

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of the rows that are not forecast."""
        return self.past + self.known


UNIVARIATE = Variates()


@dataclass(frozen=True)
class Series:
    """One item: a time series on a regular grid, alone or with others that belong to it."""

    item_id: str
    """Its name, unique within a data set."""
    start: np.datetime64
    """Timestamp of the first value, datetime64[s]."""
    freq: str
    """Pandas alias of the step; empty where the data came without timestamps."""
    target: np.ndarray
    """float32, [length], or [n_variates, length]; NaN where a value is missing."""
    variates: Variates = UNIVARIATE


class Panel(NamedTuple):
    """The history of an item of several variates, and what is known beyond it."""

    past: np.ndarray
    """float32, [n_variates, length]."""
    future: np.ndarray
    """float32, [n_variates, prediction_length]; NaN where nothing is known."""
    variates: Variates


History = np.ndarray | Panel
"""What a forecast starts from: values [length], or a panel."""


def target_rows(histories: Iterable[History]) -> list[np.ndarray]:
    """Return the histories of all targets, each [length], those of an item one after the other."""
    rows: list[np.ndarray] = []
    for history in histories:
        rows += list(history.past[: len(history.variates.targets)]) if isinstance(history, Panel) else [history]
    return rows
