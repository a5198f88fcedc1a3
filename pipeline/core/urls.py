"""URLs without their secrets, for messages, names and stored configurations."""

import re
from typing import Any

VARIABLE = re.compile(r"\$\{(\w+)\}")
"""Name of an environment variable in a URL."""
_PASSWORD = re.compile(r"(?<=://)([^/?#@:]*):(?!\d*(?:[/?#]|$)).+@")
"""User and password. A number before a slash or the end is a port, and the last @ ends a password."""
_WEB_USER = re.compile(r"^(https?://)[^/?#@]+@", re.IGNORECASE)
"""User of a web address, which may be an access token."""
_QUERY_PASSWORD = re.compile(r"\?.*(password|passwd|pwd)(=|%3D)[^&;]", re.IGNORECASE)

_URL = re.compile(r"""([a-zA-Z][\w+.-]{1,30}):/{1,2}([^\s'"]+?)(?=[]}),.;:]{0,3}(?:[\s'"]|$))""")
"""A URL in a text, without the punctuation after it."""


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
    """Return a text with each URL in it redacted, also where `Path` has taken one of its slashes away."""

    def without_secrets(match: re.Match) -> str:
        url = f"{match[1]}://{match[2]}"
        redacted = redact(url)
        return match[0] if redacted == url else redacted

    return _URL.sub(without_secrets, text)


def redact_addresses(value: Any) -> Any:
    """Return a value in which web addresses have no query, since that may be a signature."""
    if isinstance(value, dict):
        return {key: redact_addresses(item) for key, item in value.items()}
    if isinstance(value, list):
        return [redact_addresses(item) for item in value]
    return redact(value) if isinstance(value, str) and is_web_address(value) else value


def has_password(url: str) -> bool:
    """Return whether a URL has a password, other than a variable `${NAME}`; the query of a web address may have one."""
    url = VARIABLE.sub("", url)
    in_query = _QUERY_PASSWORD.search(url) is not None and not is_web_address(url)
    return in_query or _PASSWORD.search(url) is not None or _WEB_USER.search(url) is not None
