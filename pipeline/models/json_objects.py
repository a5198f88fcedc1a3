"""Reading of JSON objects that must fit a schema: foreign input, so a wrong key or value is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from pipeline.core.errors import UserError

_MAX_BYTES = 1 << 28
"""Largest JSON file that is read: 256 MiB, a hundred times the training_info.json of a long run."""
_MAX_SHOWN = 60
"""Characters of a wrong value in a message."""
_ADVICE = "Correct it, or create or download the checkpoint again"


class Part(BaseModel):
    """A JSON object whose values have exactly the declared types; further keys are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=(), defer_build=True)


S = TypeVar("S", bound=BaseModel)
Name = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f]+$")]
Length = Annotated[int, Field(ge=1, le=1 << 24)]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Level = Annotated[float, Field(gt=0, lt=1)]


def read_object(file: Path, schema: type[S] | Callable[[dict[str, Any]], type[S]]) -> tuple[dict[str, Any], S]:
    """Read a JSON object.

    Args:
        schema: what the object must fit, or a function that returns it for the object.

    Returns:
        the whole object, and the values of the schema.

    Raises:
        UserError: the file cannot be read, is no JSON object, or does not fit the schema.
    """
    try:
        if not file.is_file():
            raise UserError(f"{file} is not an ordinary file. {_ADVICE}")
        if file.stat().st_size > _MAX_BYTES:
            raise UserError(
                f"{file} is larger than {_MAX_BYTES >> 20} MiB, too large for a checkpoint's JSON. {_ADVICE}"
            )
        text = file.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    return parse_object(str(file), text, schema)


def parse_object(
    label: str, text: bytes, schema: type[S] | Callable[[dict[str, Any]], type[S]]
) -> tuple[dict[str, Any], S]:
    """Parse a JSON object as `read_object` does; `label` names it in messages."""
    content: Any = {}
    try:
        # First by pydantic, whose parser bounds the depth and the numbers.
        RootModel[dict[str, Any]].model_validate_json(text)
        content = json.loads(text, object_pairs_hook=_without_duplicates)
        chosen = cast(type[S], schema if isinstance(schema, type) else schema(content))
        return content, chosen.model_validate_json(text)
    except UserError:
        raise
    except ValidationError as error:
        raise UserError(f"{label}{_describe(error, content)}") from error
    except ValueError as error:
        raise UserError(f"{label} is not valid JSON: {error}. {_ADVICE}") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return content


def _describe(error: ValidationError, content: Any) -> str:
    """Return the first fault as the second half of a message."""
    fault = error.errors(include_url=False)[0]
    if fault["type"] == "json_invalid":
        return f" is not valid JSON: {fault['ctx']['error']}. {_ADVICE}"
    key, value = "", content
    for part in fault["loc"]:  # parts that are no keys name the members of a union
        if isinstance(value, dict) and part in value or isinstance(value, list) and isinstance(part, int):
            value = value[part]  # type: ignore[index]
            key += f"[{part}]" if isinstance(part, int) else f"{'.' if key else ''}{part}"
    if fault["type"] == "missing":
        return f" has no {key}{'.' if key else ''}{fault['loc'][-1]}. {_ADVICE}"
    if fault["type"] == "extra_forbidden":
        return f": the key {key} is unknown. Update chronos-native if the checkpoint is of a newer release"
    text, message = repr(value), fault["msg"].removeprefix("Value error, ")
    shown = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    if fault["type"] == "value_error" and isinstance(value, dict):
        return f": {key}{': ' if key else ''}{message}. {_ADVICE}"
    return f": {key} is {shown}: {message[0].lower()}{message[1:]}. {_ADVICE}"
