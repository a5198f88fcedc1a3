"""Progress bars for long loops, and loops in two threads."""

import os
import sys
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
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
    # Without ipywidgets, a notebook shows the bar of a terminal.
    module = "tqdm.auto" if find_spec("ipywidgets") else "tqdm"
    return import_module(module).tqdm(
        iterable, total=total, unit=unit, desc=description, delay=delay, disable=not shows_bars()
    )


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
def quiet_transformers() -> Iterator[None]:
    """Hide the progress bars and the warnings of transformers. It can be used as a decorator too."""
    from transformers.utils import logging

    had_bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
