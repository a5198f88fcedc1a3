"""The kinds of ranges that priors and effects draw their parameters from. The annotation of an argument is its check."""

from dataclasses import dataclass
from typing import Annotated, TypeAlias


@dataclass(frozen=True)
class Bounds:
    """What the two ends of a range must satisfy."""

    words: str
    low: float = float("-inf")
    below: float = float("inf")
    whole: bool = False

    def admit(self, value: float) -> bool:
        """Return whether one end is allowed."""
        return self.low <= value < self.below and (not self.whole or value == int(value))


_TINY = 1e-12

Range: TypeAlias = Annotated[tuple[float, float], Bounds("finite numbers")]
Positive: TypeAlias = Annotated[tuple[float, float], Bounds("above 0", low=_TINY)]
Share: TypeAlias = Annotated[tuple[float, float], Bounds("at least 0 and below 1", low=0.0, below=1.0)]
Count: TypeAlias = Annotated[tuple[int, int], Bounds("whole and at least 0", low=0, below=1000, whole=True)]
Period: TypeAlias = Annotated[tuple[float, float], Bounds("at least 2 steps", low=2.0)]
