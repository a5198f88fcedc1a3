"""Signals that stop a program: SIGINT, which Ctrl-C sends, and SIGTERM."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import active_children
from threading import Thread, current_thread, main_thread
from types import FrameType

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_SECONDS = 4
"""Time after a signal in which the program may clean up; its user waits at the terminal meanwhile."""


class Interrupted(KeyboardInterrupt):
    """The process got a signal that stops it."""


@contextmanager
def interruptible(message: str | None) -> Iterator[list[int]]:
    """Let SIGINT and SIGTERM raise Interrupted in the block, print the message, and exit with 130 or 143.

    A library may lose the exception and raise another one, which is then taken for an interruption too.

    The block runs in the main thread. If the process has not ended four seconds after a signal, for example because a
    library waits for something, or if it gets a second signal, it ends at once, with its child processes.

    Args:
        message: None prints nothing.

    Yields:
        the list of the signals so far.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    received: list[int] = []
    messages = [] if message is None else [message]

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            raise Interrupted

    handlers = {number: signal.signal(number, stop) for number in _STOPPING}
    hook, sys.unraisablehook = sys.unraisablehook, _report_unraisable
    wakeup = sender.detach()  # it stays open after a signal, until the process has ended
    before = signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    Thread(target=_end_after_signal, args=(receiver, messages), daemon=True).start()
    try:
        yield received
    except (KeyboardInterrupt, Exception) as error:
        if not received and not isinstance(error, KeyboardInterrupt):
            raise
        if messages:
            print(messages.pop(), file=sys.stderr)
        sys.exit(128 + (received[0] if received else signal.SIGINT))  # pyarrow raises it without a signal
    finally:
        for number, handler in handlers.items():
            # While the interpreter ends, it would let a second signal kill the process.
            signal.signal(number, signal.SIG_IGN if received else handler)
        if not received:
            sys.unraisablehook = hook
            signal.set_wakeup_fd(before)
            os.close(wakeup)


def _report_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Print an exception that nothing can catch, unless it is that of a signal."""
    if not isinstance(unraisable.exc_value, Interrupted):
        sys.__unraisablehook__(unraisable)


def _end_after_signal(receiver: socket.socket, messages: list[str]) -> None:
    """Wait for a signal, give the main thread time to end the process, and end it.

    Args:
        messages: what remains to be printed.
    """
    received = receiver.recv(1)
    while received and received[0] not in _STOPPING:
        received = receiver.recv(1)
    if not received:  # the block ended without a signal
        receiver.close()
        return
    receiver.settimeout(_SECONDS)
    with suppress(TimeoutError):
        while receiver.recv(1)[0] not in _STOPPING:
            pass
    for child in active_children():
        child.kill()
    while messages:
        print(messages.pop(), file=sys.stderr, flush=True)
    os._exit(128 + received[0])


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Hold signals back while child processes are started in the block, so that each is started completely.

    The child processes never get SIGINT, which a terminal sends to all processes: each would print a traceback. Their
    parent ends them.
    """
    held: list[tuple[int, FrameType | None]] = []
    is_main = current_thread() is main_thread()  # the only one in which handlers run
    handlers = {number: signal.signal(number, lambda *call: held.append(call)) for number in _STOPPING if is_main}
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(signal.Signals(held[0][0]))
