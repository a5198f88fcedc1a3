"""Progress bars for long loops."""

from typing import Any


def progress(iterable: Any, total: int, unit: str, description: str | None = None, delay: float = 0) -> Any:
    """Wrap an iterable in a progress bar on standard error.

    Args:
        total: number of steps until the bar is full.
        unit: name of a step.
        description: text before the bar.
        delay: seconds before the bar appears.
    """
    from tqdm import tqdm

    return tqdm(iterable, total=total, unit=unit, desc=description, delay=delay)
