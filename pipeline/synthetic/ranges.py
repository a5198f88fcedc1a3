"""Types of the ranges that priors and effects draw their parameters from.

The annotation of an argument holds the bounds that bank.py checks the range against.
"""

from dataclasses import dataclass
from typing import Annotated, TypeAlias


@dataclass(frozen=True)
class Bounds:
    """The bounds of both ends of a range."""

    description: str
    """The bounds in words, for error messages."""
    low: float = float("-inf")
    """Smallest value, included."""
    below: float = float("inf")
    """Largest value, excluded."""
    whole: bool = False
    """Only whole numbers are valid."""

    def contains(self, value: float) -> bool:
        """Return whether one end of a range is within the bounds."""
        return self.low <= value < self.below and (not self.whole or value == int(value))


# Zero has no logarithm, and ranges of positive values are mostly drawn log-uniformly. Any tiny number serves.
_SMALLEST_POSITIVE = 1e-12

Range: TypeAlias = Annotated[tuple[float, float], Bounds("finite numbers")]
Positive: TypeAlias = Annotated[tuple[float, float], Bounds("above 0", low=_SMALLEST_POSITIVE)]
PositiveShare: TypeAlias = Annotated[
    tuple[float, float], Bounds("above 0 and below 1", low=_SMALLEST_POSITIVE, below=1.0)
]
Share: TypeAlias = Annotated[tuple[float, float], Bounds("at least 0 and below 1", low=0.0, below=1.0)]
# A prior makes one array per count, so the upper bound limits its memory and time.
Count: TypeAlias = Annotated[tuple[int, int], Bounds("whole and at least 0", low=0, below=1000, whole=True)]
Period: TypeAlias = Annotated[tuple[float, float], Bounds("at least 2 steps", low=2.0)]
