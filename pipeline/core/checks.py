"""Checks of configuration values. Each raises a UserError that names the key."""

import errno
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pipeline.core.errors import UserError
from pipeline.core.files import check_writable_file, check_writable_folder
from pipeline.core.urls import has_password, redact, redact_text

_CREDENTIALS = "give it in the environment, ~/.pgpass or ~/.netrc, or write ${NAME} for an environment variable"

_COUNT_LIMIT = 1 << 31
"""Sizes of lists in Arrow files and of many tensors are 32-bit integers."""
_MAX_NAME = 255 - len(".") - len(".tmp-12345678")
"""Bytes of a file name, of which Linux and macOS take 255, with the name of its temporary file."""


def check_at_least(key: str, value: int | None, minimum: int) -> None:
    """Refuse a count that is no whole number, below the minimum, or of 2^31 and more; None passes."""
    if value is not None and not isinstance(value, Integral):
        raise UserError(f"{key} must be a whole number, got {value!r}")
    if value is not None and value < minimum:
        raise UserError(f"{key} must be at least {minimum}, got {value}")
    if value is not None:
        check_below(key, value)


def check_below(key: str, value: float) -> None:
    """Refuse a number of 2^31 and more."""
    if value >= _COUNT_LIMIT:
        raise UserError(f"{key} must be below 2^31, got {value}")


def check_above(key: str, value: float, bound: float) -> None:
    """Refuse a value that is not above the bound, or not finite."""
    if not bound < value < float("inf"):
        raise UserError(f"{key} must be above {bound} and finite, got {value}")


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


def check_defaults(
    section: str, config: Any, names: tuple[str, ...], reason: str, advice: str = "remove one of the two"
) -> None:
    """Refuse keys of a section that differ from their defaults, but would have no effect for the reason."""
    defaults = {key.name: key.default for key in fields(config)}
    changed = [f"{section}.{name}" for name in names if getattr(config, name) != defaults[name]]
    if changed:
        raise UserError(f"{', '.join(changed)} would have no effect, since {reason}; {advice}")


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
        if isinstance(source, str) and source.startswith(("[", "{")) and not os.path.exists(source):
            raise UserError(
                f"{key} does not parse: {redact_text(source)}; write a path, {{query, url}}, {entry}, or a list of "
                "these"
            )


def check_not_empty(section: str, config: Any) -> None:
    """Refuse an empty text in a section, or in a list of it, such as the value of an unset variable of the shell."""
    for key in fields(config):
        value = getattr(config, key.name)
        if key.name != "missing_values" and "" in (value if isinstance(value, list) else [value]):
            raise UserError(f"{section}.{key.name} is an empty text; give a value, or leave the key out")


def check_choices(section: str, config: Any) -> None:
    """Refuse a value, or an element of a list, that is not among the choices of its key.

    The parser of the command line does so too.
    """
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if is_dataclass(value):
            check_choices(f"{section}.{name}", value)
        elements = [get_args(part)[0] for part in (hint, *get_args(hint)) if get_origin(part) is list]
        for kind in (hint, *elements):
            given = [value] if kind is hint else value or []
            if get_origin(kind) is Literal and (wrong := [each for each in given if each not in get_args(kind)]):
                choices = ", ".join(map(str, get_args(kind)))
                raise UserError(f"{section}.{name} must be one of {choices}, got {wrong[0]!r}")


def check_encoding(key: str, encoding: str) -> None:
    """Refuse an encoding that Python does not know."""
    try:
        "".encode(encoding)
    except (LookupError, ValueError) as error:
        raise UserError(f"{key}: unknown encoding {encoding!r}; write utf-8, cp1252 or latin-1, for example") from error


def check_path_length(key: str, path: str) -> None:
    """Refuse a path or a name on the Hub that is longer than the system's limits."""
    try:
        if "://" not in path:
            os.lstat(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(f"{key}: {path}: {error.strerror}; choose another path") from None


def check_memory(key: str, n_bytes: float, need: str) -> None:
    """Refuse, before anything is computed, what does not fit into the memory of this machine.

    Args:
        n_bytes: the memory that is needed at least.
        need: what needs it, for the message.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if n_bytes > memory:
        raise UserError(
            f"{key}: {need} takes at least {n_bytes / 1e9:,.0f} GB of memory, and this machine has {memory / 1e9:,.0f} "
            "GB; set a smaller value"
        )


def check_disk(key: str, path: Path, n_bytes: float, need: str) -> None:
    """Refuse, before anything is written, what does not fit on the disk of a path."""
    while not path.exists():
        path = path.absolute().parent
    if n_bytes > (free := shutil.disk_usage(path).free):
        raise UserError(
            f"{key}: {need} takes at least {n_bytes / 1e9:,.1f} GB, and the disk has {free / 1e9:,.1f} GB left; set a "
            "smaller value"
        )


def check_outputs(
    *, files: Mapping[str, Path] = {}, folders: Mapping[str, Path] = {}, inputs: Mapping[str, Iterable[str | Path]] = {}
) -> None:
    """Refuse, before anything is read or written, outputs that cannot be written or would replace something else.

    Links are followed. URLs among the inputs are skipped.

    Args:
        files: the files that a command writes, by their keys.
        folders: the folders that it writes, by their keys.
        inputs: the files and folders that it reads, by their keys.

    Raises:
        UserError: an output is a device, a pipe, a socket or another thing that is not replaceable, or not writable; it
            is an input, is directly in an input folder, or has an input inside; or two outputs are the same or in each
            other.
    """
    taken = [(key, Path(path)) for key, paths in inputs.items() for path in paths if "://" not in str(path)]
    for key, path in {**files, **folders}.items():
        is_file = key in files
        _check_replaceable(key, path, is_file)
        for other_key, other in taken:
            try:
                is_taken = _overlaps(path, other, is_file)
            except (OSError, ValueError):  # an input that does not exist is reported when it is read
                is_taken = False
            if is_taken:
                raise UserError(f"{key}: {path} would replace or change {other}, {other_key}; choose another path")
        taken.append((key, path))


def _check_replaceable(key: str, path: Path, is_file: bool) -> None:
    """Refuse an output that is not an ordinary new or replaceable file or folder."""
    try:
        target = Path(os.path.realpath(path))
        if any(part.is_symlink() for part in (target, *target.parents)):  # a loop stays as it is
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if len(os.fsencode(target.name)) > _MAX_NAME:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        if is_file and target.exists() and not (target.is_file() or target.is_dir()):
            raise UserError("it is a device, a pipe or a socket; give the path of a file")
        (check_writable_file if is_file else check_writable_folder)(target)
    except OSError as error:
        raise UserError(f"{key}: {path}: {error.strerror}; choose another path") from error
    except UserError as error:
        raise UserError(f"{key}: {path}: {error}") from None


def _overlaps(output: Path, other: Path, is_file: bool) -> bool:
    """Return whether writing an output would replace or change another file or folder."""
    output, other = Path(os.path.realpath(output)), Path(os.path.realpath(other))
    is_same = output == other or (output.exists() and other.exists() and output.samefile(other))
    return is_same or output.parent == other or (not is_file and other.is_relative_to(output))
