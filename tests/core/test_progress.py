"""Loops in two threads."""

import gc
import threading

import pytest

from pipeline.core.progress import prefetch


def test_prefetch_yields_the_items_in_order_from_another_thread():
    threads = []

    def numbers():
        for number in range(5):
            threads.append(threading.current_thread())
            yield number

    assert list(prefetch(numbers())) == [0, 1, 2, 3, 4]
    assert len(set(threads)) == 1 and threads[0] is not threading.current_thread()


def test_an_error_of_the_generator_comes_after_the_items_before_it():
    def numbers():
        yield 1
        raise ValueError("second")

    items = prefetch(numbers())
    assert next(items) == 1
    with pytest.raises(ValueError, match="second"):
        next(items)


def test_the_generator_is_closed_in_its_thread_if_the_loop_ends_early():
    closed = []

    def numbers():
        try:
            yield from range(100)
        finally:
            closed.append(threading.current_thread())

    for _ in prefetch(numbers()):
        break
    gc.collect()
    assert len(closed) == 1 and closed[0] is not threading.current_thread()
