"""URLs without their secrets, for messages, names and stored configurations."""

import os
import re
from typing import Any

from pipeline.core.errors import UserError

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_PASSWORD = re.compile(r"(?<=://)([^/?#@:]*):(?!\d*(?:[/?#]|$)).+@")
"""User and password. A number before a slash or the end is a port, and the last @ ends a password."""
_WEB_USER = re.compile(r"^(https?://)[^/?#@]+@", re.IGNORECASE)
"""User of a web address, which may be an access token."""
_QUERY_PASSWORD = re.compile(r"\?.*(password|passwd|pwd)(=|%3D)[^&;]", re.IGNORECASE)


def is_web_address(url: str) -> bool:
    """Return whether a URL begins with http:// or https://."""
    return url.lower().startswith(("http://", "https://"))


def redact(url: str) -> str:
    """Return a URL without password, query and fragment, and a web address also without its user."""
    url = _WEB_USER.sub(r"\1", _PASSWORD.sub(r"\1@", url))
    if is_web_address(url):
        return re.split("[?#]", url)[0]
    return re.sub(r"\?.*=.*", "", url)  # without an equals sign, a question mark is a wildcard


def redact_text(text: str) -> str:
    """Return a text with each URL in it redacted."""
    return re.sub(r"""[a-zA-Z][\w+.-]*://[^\s'"]+""", lambda url: redact(url[0]), text)


def redact_addresses(value: Any) -> Any:
    """Return a value in which web addresses have no query, since that may be a signature."""
    if isinstance(value, dict):
        return {key: redact_addresses(item) for key, item in value.items()}
    if isinstance(value, list):
        return [redact_addresses(item) for item in value]
    return redact(value) if isinstance(value, str) and is_web_address(value) else value


def has_password(url: str) -> bool:
    """Return whether a URL has a password, other than a variable `${NAME}`; the query of a web address may have one."""
    url = _VARIABLE.sub("", url)
    in_query = _QUERY_PASSWORD.search(url) is not None and not is_web_address(url)
    return in_query or _PASSWORD.search(url) is not None or _WEB_USER.search(url) is not None


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

    return _VARIABLE.sub(value, url)
