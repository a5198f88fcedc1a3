"""The command line of every script: parse the configuration, run, and turn errors into exit codes."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import get_type_hints

from pipeline.config import Config
from pipeline.core.errors import UserError, to_one_line
from pipeline.core.processes import Processes
from pipeline.core.urls import redact_text

logger = logging.getLogger("pipeline")

_PEER_ENDED = ("Connection closed by peer", "Connection reset by peer")
"""Messages of Gloo if another process ends while this one waits for it."""
_SWITCHES = ("help", "print_config")
_OLD_KEYS = {"synthetic.source": "synthetic.generator"}
"""Keys of earlier versions, by their names now. They still work, with a warning."""
_TYPE_NAMES = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "a text",
    "<class 'list'>": "a list, written '[a, b]'",
    "<class 'dict'>": "keys and their values",
    "<class 'NoneType'>": "null",
}


def run(main: Callable[..., None], **flags: str) -> None:
    """Run a script's `main` with the configuration of the command line, and exit.

    Exit codes: 0 done; 2 wrong input, with one line on stderr from each process that finds it; 130 interrupted; 1
    internal error, with a traceback. Log lines go to stdout, and progress bars to stderr if that is a terminal.

    Args:
        main: called with the configuration, and with the value of each flag by name.
        flags: the help text of each flag that the script has beside the configuration.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    for library in ("TRANSFORMERS", "DATASETS", "HF_HUB"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    processes = Processes()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_LogHandler()])
    logging.getLogger("pipeline").setLevel(logging.INFO if processes.rank == 0 else logging.ERROR)
    try:
        description = (sys.modules["__main__"].__doc__ or "").strip()
        config, switches = parse_command_line(sys.argv[1:], description, flags)
        main(config, **switches)
        processes.shut_down()
    except UserError as error:
        # Every process prints its error: a file may be missing on one machine only.
        process = f" in process {processes.rank}" if processes.rank else ""
        print(f"error{process}: {to_one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if processes.count == 1 or not any(message in str(error) for message in _PEER_ENDED):
            raise
        message = f"process {processes.rank} stops because another process stopped; its message gives the reason"
        print(message, file=sys.stderr, flush=True)
        os._exit(1)  # an orderly exit would wait for the other process, and abort
    except KeyboardInterrupt:
        print("interrupted; the same command continues an unfinished training run", file=sys.stderr)
        sys.exit(130)


class _LogHandler(logging.Handler):
    """Prints log records to stdout, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def parse_command_line(argv: list[str], description: str, flags: Mapping[str, str]) -> tuple[Config, dict[str, bool]]:
    """Return the configuration and the flags of a command line. `--help` and `--print_config` print and exit.

    Args:
        argv: `--config FILE`, keys such as `--training.epochs 3`, which win over files, and flags.
        description: the text above the list of keys in `--help`.
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
    argv = _translate_old_keys(_files_first(argv), keys := list(_keys(Config)))
    for option in argv:
        name = option.partition("=")[0]
        if name.startswith("--") and name != "--config":
            _refuse_unknown(name.removeprefix("--").removesuffix("+"), [*keys, *_SWITCHES, *flags], "")
    try:
        parsed = parser.instantiate(parser.parse_args(argv))
    except UserError:
        raise
    except (ArgumentError, ValueError) as error:
        raise UserError(
            f"{redact_text(_translate_type_error(to_one_line(error)))}; see --help for the keys and their ranges"
        ) from error
    return Config(**{name: parsed[name] for name in sections}), {flag: parsed[flag] for flag in flags}


def _translate_type_error(message: str) -> str:
    """Return jsonargparse's message on a value of the wrong type in plain words; other messages as they are."""
    keys = re.findall(r'Parser key "([^"]+)"', message)
    types = re.findall(r"Expected a ((?:<|typing)[^>\]]*[>\]])", message)
    given = re.search(r"Given value: ?(.*)", message) or re.search(r"Got value: ?(.*)", message)
    if not (keys and types and given):
        return message
    key, value = keys[-1], given[1] or "''"
    if value.startswith("["):
        key, types = f"each of {key}", [name for name in types if name != "<class 'NoneType'>"]
    names = [_TYPE_NAMES.get(name, name.removeprefix("typing.Literal[").removesuffix("]")) for name in types]
    return f"{key} must be {' or '.join(names)}, got {value}"


def _files_first(argv: list[str]) -> list[str]:
    """Return the arguments with the configuration files first, so that keys win over them at any position."""
    positions = [i for i, option in enumerate(argv) if option == "--config" or i and argv[i - 1] == "--config"]
    positions += [i for i, option in enumerate(argv) if option.startswith("--config=")]
    return [argv[i] for i in sorted(positions)] + [option for i, option in enumerate(argv) if i not in positions]


def _translate_old_keys(argv: list[str], keys: Collection[str]) -> list[str]:
    """Check the configuration files among the arguments, and return the arguments with the new names of old keys.

    An old key in a file becomes an option behind the file, so that later options win over it as over the file.

    Raises:
        UserError: a file is missing or has unknown keys, or has both names of a key.
    """
    translated, used = [], set()
    for previous, argument in zip(["", *argv], argv):
        name, equals, value = argument.partition("=")
        if name.removeprefix("--") in _OLD_KEYS:
            used.add(name.removeprefix("--"))
            argument = f"--{_OLD_KEYS[name.removeprefix('--')]}{equals}{value}"
        translated.append(argument)
        if previous == "--config" or (name == "--config" and equals):
            path = Path(argument if previous == "--config" else value)
            content = _check_file(path, keys)
            for old, new in _OLD_KEYS.items():
                section, _, key = old.partition(".")
                values = content.get(section, {})
                if values.get(key) is not None:
                    if new.partition(".")[2] in values:
                        raise UserError(f"{path}: {old} is the old name of {new}; remove {old}")
                    used.add(old)
                    translated += [f"--{new}={values[key]}", f"--{old}=null"]
    for old in sorted(used):
        logger.warning("%s is now called %s; please rename the key", old, _OLD_KEYS[old])
    return translated


def _keys(section: type, parent: str = "") -> Iterator[str]:
    """Yield the dotted name of every key and section."""
    types = get_type_hints(section)
    for field in fields(section):
        yield parent + field.name
        if is_dataclass(types[field.name]):
            yield from _keys(types[field.name], f"{parent}{field.name}.")


def _refuse_unknown(key: str, keys: Collection[str], file: str) -> None:
    """Refuse an unknown key, and suggest the closest one. Keys below a key whose value is a mapping are accepted.

    Args:
        file: the beginning of the message, for a key in a file.
    """
    parents = [key[:at] for at, letter in enumerate(key) if letter == "."]
    sections = {name.rpartition(".")[0] for name in keys}
    if key in keys or any(parent in keys and parent not in sections for parent in parents):
        return
    close = get_close_matches(key, keys, n=1)
    hint = f"did you mean {close[0]}?" if close else "see --help for the keys"
    raise UserError(f"{file}unknown key {key}; {hint}")


def _check_file(path: Path, keys: Collection[str]) -> dict:
    """Refuse unknown keys in a file, and what jsonargparse accepts silently: duplicate keys, and a file without
    sections."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for key in keys:
                if keys.count(key) > 1:
                    raise UserError(f"{path}: the key {key!r} occurs twice; remove one of the two")
            return super().construct_mapping(node, deep)

    def check(section: dict, parent: str) -> None:
        for name, value in section.items():
            _refuse_unknown(f"{parent}{name}", keys, f"{path}: ")
            if isinstance(value, dict):
                check(value, f"{parent}{name}.")

    if not path.is_file():
        raise UserError(f"--config: no file {path}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}  # the parser reports the error with its line
    if not isinstance(content, dict):
        raise UserError(f"{path} has no sections; write sections of keys, as in config/chronos_config.yaml")
    for name, values in content.items():
        _refuse_unknown(str(name), keys, f"{path}: ")
        if not isinstance(values, dict):
            raise UserError(f"{path}: section {name!r} must contain keys and values")
    check(content, "")
    return content
