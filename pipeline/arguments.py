"""Errors of Python functions: the arguments of the caller in place of the keys of the configuration."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from functools import cache, wraps
from typing import ParamSpec, TypeVar

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
