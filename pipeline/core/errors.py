"""The error for invalid input of the user, and helpers for its messages."""

from collections.abc import Sequence


class UserError(ValueError):
    """The user's input is invalid.

    The message is one line: what is wrong, where, and what to type. Scripts print it and exit with code 2.
    """


def to_one_line(error: BaseException) -> str:
    """Return the message of another library's error in one line."""
    return " ".join(str(error).split())


def first_few(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names, separated by commas, and the number of the others."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
