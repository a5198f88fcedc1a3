"""Progress bars for long loops, and loops in two threads."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")


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


def prefetch(items: Generator[T, None, None]) -> Iterator[T]:
    """Yield the items of a generator. A thread computes the next one while the current one is used."""
    with ThreadPoolExecutor(1) as thread:
        try:
            following = thread.submit(list, islice(items, 1))
            while item := following.result():
                following = thread.submit(list, islice(items, 1))
                yield item[0]
        finally:
            thread.submit(items.close)  # in the same thread, as a connection to SQLite requires
