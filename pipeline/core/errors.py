"""The error for invalid input of the user, and helpers for messages."""

import copy
import logging
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from numbers import Number

from pipeline.core.urls import redact_text


class UserError(ValueError):
    """The user's input is invalid.

    The message is one line: what is wrong, where, and what to type. Scripts print it and exit with code 2. URLs in it
    are shown without passwords and queries.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redact_text(message))


def visible(text: str) -> str:
    """Return a text with escapes such as \\x1b for characters that a terminal obeys or does not show.

    These are control characters, line breaks, marks of the writing direction, spaces other than the usual one, and
    lone surrogates.
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def to_one_line(error: BaseException) -> str:
    """Return the message of an error in one line of at most 2,000 characters, without control characters."""
    text = visible(" ".join(str(error).split()))
    return text if len(text) <= 2000 else f"{text[:1500]} ... {text[-490:]}"


def first_few(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names, separated by commas, and the number of the others."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


class VisibleFormatter(logging.Formatter):
    """Formats log records without control characters. Line breaks stay in the messages, but not in their arguments."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        record = copy.copy(record)
        if isinstance(record.args, tuple):
            record.args = tuple(arg if isinstance(arg, Number) else visible(str(arg)) for arg in record.args)
        return "\n".join(map(visible, super().format(record).split("\n")))


def print_any_text() -> None:
    """Let standard output and error print escapes for characters that their encoding lacks, in place of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
