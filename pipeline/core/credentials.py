"""Passwords of URLs, which come from the environment only."""

import os
import re

from pipeline.core.errors import UserError
from pipeline.core.urls import VARIABLE, has_password, redact


def check_database_url(url: str) -> None:
    """Refuse the URL of a database that has a password.

    Raises:
        UserError: as described.
    """
    if has_password(url):
        raise UserError(
            f"the URL {redact(url)} has a password; give it in PGPASSWORD or ~/.pgpass for PostgreSQL, or write "
            "${NAME} in its place and set that environment variable"
        )


def fill_variables(url: str) -> str:
    """Return a URL with each `${NAME}` replaced by the environment variable, quoted before an @.

    Raises:
        UserError: a variable is not set.
    """

    def value(match: re.Match) -> str:
        if not (text := os.environ.get(match[1])):
            raise UserError(f"{redact(url)}: the environment variable {match[1]} is not set; set it in your shell")
        return text.replace("%", "%25").replace("@", "%40") if "@" in url[match.end() :] else text

    return VARIABLE.sub(value, url)
