"""The one error that is the user's to mend."""


class UserError(ValueError):
    """Something in the user's input is wrong.

    The message is one line: what is wrong, where, and how to mend it. Scripts print it and exit with 2.
    """
