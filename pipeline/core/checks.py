"""Checks of configuration values. Each raises a UserError that names the key."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.urls import has_password, redact, redact_text

_CREDENTIALS = "give it in the environment, ~/.pgpass or ~/.netrc, or write ${NAME} for an environment variable"


def check_at_least(key: str, value: float | None, minimum: float) -> None:
    """Refuse a value below the minimum; None passes."""
    if value is not None and not value >= minimum:
        raise UserError(f"{key} must be at least {minimum}, got {value}")


def check_above(key: str, value: float, bound: float) -> None:
    """Refuse a value that is not above the bound, or not finite."""
    if not bound < value < float("inf"):
        raise UserError(f"{key} must be above {bound}, got {value}")


def check_fraction(key: str, value: float) -> None:
    """Refuse a value outside 0 (included) to 1 (excluded)."""
    if not 0 <= value < 1:
        raise UserError(f"{key} must be at least 0 and below 1, got {value}")


def check_between_zero_and_one(key: str, values: list[float]) -> None:
    """Refuse values outside 0 to 1, both excluded."""
    if any(not 0 < value < 1 for value in values):
        raise UserError(f"{key} must be between 0 and 1, got {values}")


def check_levels(key: str, levels: list[float]) -> None:
    """Refuse quantile levels that are missing, outside 0 to 1, or repeated."""
    if not levels:
        raise UserError(f"{key} is empty; name at least one level between 0 and 1")
    check_between_zero_and_one(key, levels)
    if len(set(levels)) < len(levels):
        raise UserError(f"{key} has a level twice: {levels}")


def check_defaults(section: str, config: Any, names: tuple[str, ...], reason: str) -> None:
    """Refuse keys of a section that differ from their defaults, but would have no effect for the reason."""
    defaults = {key.name: key.default for key in fields(config)}
    changed = [f"{section}.{name}" for name in names if getattr(config, name) != defaults[name]]
    if changed:
        raise UserError(f"{', '.join(changed)} would have no effect, since {reason}; remove one of the two")


def check_sources(key: str, sources: Any, entry: str) -> None:
    """Refuse an empty list of sources, a URL with a password, and a list or an entry with a mistyped key, which the
    parser takes for a path.

    Args:
        key: the key of the sources.
        sources: a path, a list of paths and entries, or None.
        entry: the form of an entry, for the message.
    """
    if sources == []:
        raise UserError(f"{key} is an empty list; name at least one source, or leave the key out")
    for given in sources if isinstance(sources, list) else [sources]:
        source: Any = getattr(given, "path", given)
        query = getattr(source, "query", None)
        url = source if query is None else source.url
        if query is not None and not (query and url):
            raise UserError(f"{key}: a query needs two keys, query and url; one is missing")
        if url is not None and has_password(url):
            raise UserError(f"{key}: the URL {redact(url)} has a password; {_CREDENTIALS}")
        if isinstance(source, str) and source.startswith(("[", "{")) and not Path(source).exists():
            raise UserError(
                f"{key} does not parse: {redact_text(source)}; write a path, {{query, url}}, {entry}, or a list of "
                "these"
            )


def check_encoding(key: str, encoding: str) -> None:
    """Refuse an encoding that Python does not know."""
    try:
        "".encode(encoding)
    except LookupError as error:
        raise UserError(f"{key}: unknown encoding {encoding!r}; write utf-8, cp1252 or latin-1, for example") from error
