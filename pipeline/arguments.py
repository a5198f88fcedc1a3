"""Arguments of Python functions: options as keys of the configuration, and errors that name them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from functools import cache, wraps
from typing import Any, Literal, ParamSpec, TypeVar, get_origin, get_type_hints

from pipeline.config import Config
from pipeline.core.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")
_OTHER_NAMES = {
    "base_model.model_name": "base",
    "data.train": "data",
    "training.prediction_length": "horizon",
    "inference.prediction_length": "horizon",
    "evaluation.prediction_length": "horizon",
    "inference.future_path": "future_df",
}
"""Arguments that have another name than their key; any other has the last part of the key."""


def name_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that its errors name arguments, and have no second traceback."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except UserError as error:
            message = _keys().sub(lambda key: _OTHER_NAMES.get(key[0], key[0].rpartition(".")[2]), str(error))
        raise UserError(message)

    return wrapper


@cache
def _keys() -> re.Pattern[str]:
    """Return a pattern of the keys of all sections, so that a file like data.csv is none."""
    sections = {
        section.name: getattr(Config(), section.name) for section in fields(Config) if section.name != "horizon"
    }
    keys = [f"{name}.{key.name}" for name, section in sections.items() for key in fields(section)]
    return re.compile(rf"(?<![\w./])(?:{'|'.join(map(re.escape, sorted(keys, key=len, reverse=True)))})\b(?!\.)")


def _checked(name: str, value: Any, section: str) -> Any:
    """Return the value of a key in its type, such as 1.0 for '1' if it is a number.

    Raises:
        UserError: it does not have the type.
    """
    from pydantic import TypeAdapter, ValidationError

    hint = get_type_hints(type(getattr(Config(), section)))[name]
    if get_origin(hint) is Literal:
        return value  # `check_choices` names the choices
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        raise UserError(f"{section}.{name} must be {message}, got {value!r}") from None


def with_options(config: Config, options: Mapping[str, Any], *sections: str) -> Config:
    """Return a configuration with other values of keys, which are named without their section.

    Raises:
        UserError: no section has such a key, or a value is wrong.
    """
    changes: dict[str, dict[str, Any]] = {section: {} for section in sections}
    for name, value in options.items():
        section = next((section for section in sections if name in asdict(getattr(config, section))), None)
        if section is None:
            raise UserError(f"there is no option {name!r}; options are keys of {' and '.join(sections)}")
        changes[section][name] = _checked(name, list(value) if isinstance(value, tuple) else value, section)
    return replace(config, **{name: replace(getattr(config, name), **values) for name, values in changes.items()})
