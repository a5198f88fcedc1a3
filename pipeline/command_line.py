"""From a command line and YAML files to a configuration."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import UserError


def parse_config(argv: list[str], description: str) -> Config:
    """Read a configuration from the command line: `--config FILE`, then dotted overrides such as `--training.epochs 3`.

    `--help` and `--print_config` print and exit.

    Raises:
        UserError: a key is unknown or out of range, or a file does not parse.
    """
    return parse_command_line(argv, description, {})[0]


def parse_command_line(argv: list[str], description: str, flags: Mapping[str, str]) -> tuple[Config, dict[str, bool]]:
    """Read a configuration, and flags that a script has beside it, such as `--preview`.

    Args:
        flags: the help text of each flag by its name.

    Raises:
        UserError: a key is unknown or out of range, or a file does not parse.
    """
    from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(description=description, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the keys below.")
    sections = {section.name: type(getattr(Config(), section.name)) for section in fields(Config)}
    for name, section in sections.items():
        parser.add_argument(f"--{name}", type=section, default=section())
    for flag, text in flags.items():
        parser.add_argument(f"--{flag}", action="store_true", help=text)
    for option, following in zip(argv, [*argv[1:], ""]):
        name, equals, value = option.partition("=")
        if name == "--config":
            _check_sections(Path(value if equals else following), sections)
    try:
        parsed = parser.instantiate(parser.parse_args(argv))
    except UserError:
        raise
    except (ArgumentError, ValueError) as error:
        raise UserError(" ".join(str(error).split()) + "; see --help for the keys and their ranges") from error
    return Config(**{name: parsed[name] for name in sections}), {flag: parsed[flag] for flag in flags}


def _check_sections(path: Path, sections: Collection[str]) -> None:
    """Refuse what jsonargparse would pass over without a word: a top level that is not sections of keys, a key twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for key in keys:
                if keys.count(key) > 1:
                    raise UserError(f"{path}: {key!r} stands there twice; keep one of the two")
            return super().construct_mapping(node, deep)

    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return  # the parser's own message says it better
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no sections; write them as in config/chronos_config.yaml")
    for name, keys in content.items():
        if name not in sections:
            raise UserError(f"{path}: there is no section {name!r}; known are {', '.join(sections)}")
        if not isinstance(keys, dict):
            raise UserError(f"{path}: section {name!r} must hold keys and their values")
