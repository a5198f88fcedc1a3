"""The one error that is the user's to mend, and what its messages are made of."""

from collections.abc import Sequence


class UserError(ValueError):
    """Something in the user's input is wrong.

    The message is one line: what is wrong, where, and how to mend it. Scripts print it and exit with 2.
    """


def one_line(error: BaseException) -> str:
    """Return what an error of another library says, in one line."""
    return " ".join(str(error).split())


def first_few(names: Sequence[str], most: int = 5) -> str:
    """Return the first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
