"""Progress bars for long loops."""

from typing import Any


def progress(iterable: Any, total: int, unit: str) -> Any:
    """Wrap an iterable in a progress bar on standard error.

    Args:
        total: number of steps until the bar is full.
        unit: name of a step.
    """
    from tqdm import tqdm

    return tqdm(iterable, total=total, unit=unit)
