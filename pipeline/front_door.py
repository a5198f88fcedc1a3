"""The functions `fine_tune` and `load` of the package: arguments in, a loaded model out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pipeline.arguments import name_arguments, with_options
from pipeline.cli import list_keys, parse_command_line
from pipeline.config import Config, DataConfig, TrainingConfig
from pipeline.core.errors import UserError
from pipeline.load_model import ChronosLoader
from pipeline.models.checkpoint import remembered_config
from pipeline.training.run import run_training

_SECTIONS = {"base": ("base_model", "model_name"), "seed": ("chronos", "seed"), "device": ("chronos", "device")}
"""Section and key of the arguments that are not keys of `data` or `training`."""
_SECTIONS |= {key.name: ("data", key.name) for key in fields(DataConfig) if key.name != "train"}
_SECTIONS |= {key.name: ("training", key.name) for key in fields(TrainingConfig) if key.name != "prediction_length"}


@name_arguments
def fine_tune(data: Any, config: Config | str | Path | None, arguments: Mapping[str, Any]) -> ChronosLoader:
    """Train, save the model, and return it loaded; see `pipeline.fine_tune`.

    Args:
        arguments: `horizon`, and values of the keys in `_SECTIONS`; None leaves a key as the configuration says.

    Raises:
        UserError: an argument, the data or the base is wrong.
    """
    settings = _settings(config, {name: value for name, value in arguments.items() if value is not None})
    in_memory = None if isinstance(data, (str, Path)) else data
    if isinstance(data, (str, Path)):
        settings = replace(settings, data=replace(settings.data, train=str(data)))
    run_training(settings, in_memory)
    remembered = remembered_config(settings.trained_path())
    default, inference = Config().inference, settings.inference
    kept = {
        key.name: getattr(remembered.inference, key.name)
        for key in fields(inference)
        if key.name == "prediction_length" or getattr(inference, key.name) == getattr(default, key.name)
    }
    inference = replace(inference, **kept)
    kept_sections = {name: getattr(settings, name) for name in ("chronos", "export", "paths")}
    after = replace(remembered, inference=inference, **kept_sections)
    return load(str(settings.trained_path()), None, after)


@name_arguments
def load(path: str, device: str | None, config: Config | None) -> ChronosLoader:
    """Return a loaded model; see `pipeline.load`.

    Raises:
        UserError: there is no such model, or its checkpoint is incomplete.
    """
    config = config or remembered_config(path)
    if device is not None:
        config = with_options(config, {"device": device}, "chronos")
    loader = ChronosLoader(path, config=config)
    loader.load_trained_model()
    return loader


def _settings(config: Config | str | Path | None, arguments: Mapping[str, Any]) -> Config:
    """Return the configuration with the arguments in place of its values, checked as those of the command line are.

    Raises:
        UserError: an argument is unknown, or a value is out of range.
    """
    for name in arguments:
        if name != "horizon" and name not in _SECTIONS:
            names = ["horizon", *_SECTIONS]
            close = [other for other in names if other.startswith(name)] or get_close_matches(name, names, n=1)
            raise UserError(f"fine_tune has no argument {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
    keys = {name: ".".join(_SECTIONS.get(name, (name,))) for name in arguments}
    argv = [f"--config={config}"] if isinstance(config, (str, Path)) else []
    argv += [f"--{keys[name]}={_to_text(keys[name], value)}" for name, value in arguments.items()]
    try:
        parsed = parse_command_line(argv, "train")[0]
    except UserError as error:
        raise UserError(str(error).partition("; see --help")[0]) from None
    if not isinstance(config, Config):
        return parsed
    sections: dict[str, dict[str, Any]] = {}
    for name in arguments.keys() - {"horizon"}:
        section, key = _SECTIONS[name]
        sections.setdefault(section, {})[key] = getattr(getattr(parsed, section), key)
    if "horizon" in arguments:
        for section in ("training", "inference", "evaluation"):
            sections.setdefault(section, {})["prediction_length"] = None
    changed = {section: replace(getattr(config, section), **values) for section, values in sections.items()}
    return replace(config, horizon=arguments.get("horizon", config.horizon), **changed)


def _to_text(key: str, value: Any) -> str:
    """Return a value as an argument of the command line; a name with a comma is one name."""
    if isinstance(value, (str, Path)):
        return json.dumps([value]) if key in dict(list_keys(Config)) else str(value)
    return json.dumps(value, default=_to_plain)


def _to_plain(value: Any) -> Any:
    """Return a tuple, a set, or a value of numpy or pandas as JSON has it, any other as text."""
    if isinstance(value, (tuple, set)):
        return list(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)
