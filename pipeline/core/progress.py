"""Progress bars for long loops, and loops in two threads."""

import os
import sys
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")


def progress(iterable: Any, total: int, unit: str, description: str | None = None, delay: float = 0) -> Any:
    """Wrap an iterable in a progress bar: a widget in a notebook, a line in a terminal, and nothing in a log.

    Args:
        total: number of steps until the bar is full.
        unit: name of a step.
        description: text before the bar.
        delay: seconds before the bar appears.
    """
    from tqdm.auto import tqdm

    return tqdm(iterable, total=total, unit=unit, desc=description, delay=delay, disable=not shows_bars())


def shows_bars() -> bool:
    """Return whether a person sees progress bars: in a notebook, or if standard error is a terminal."""
    return "TQDM_DISABLE" not in os.environ and ("ipykernel" in sys.modules or sys.stderr.isatty())


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


@contextmanager
def without_library_bars() -> Iterator[None]:
    """Hide the bars by which transformers shows that it reads and writes weights. It can be used as a decorator too."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()
