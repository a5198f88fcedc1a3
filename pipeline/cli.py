"""The command line: parse the configuration of a command, run it, and turn errors into exit codes."""

import inspect
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Collection, Iterator
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from signal import SIGPIPE
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from pipeline import __version__
from pipeline.commands import COMMANDS, PROGRAM, Command
from pipeline.config import Config
from pipeline.core.errors import UserError, VisibleFormatter, print_any_text, to_one_line
from pipeline.core.processes import Processes
from pipeline.core.progress import shows_bars
from pipeline.core.signals import interruptible
from pipeline.core.urls import redact_text

logger = logging.getLogger("pipeline")

_PEER_ENDED = ("Connection closed by peer", "Connection reset by peer")
"""Messages of Gloo if another process ends while this one waits for it."""
_INTERRUPTED = "interrupted; the same command continues an unfinished run"
_SWITCHES = ("help_all", "print_config")
_TYPE_NAMES = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "a text",
    "<class 'list'>": "a list, written '[a, b]'",
    "<class 'dict'>": "keys and their values",
    "<class 'NoneType'>": "null",
}


def main(command: str | None = None) -> None:
    """Run a command with the configuration of the command line, and exit.

    Exit codes: 0 done; 2 wrong input, with one line on stderr from each process that finds it; 130 or 143
    interrupted; 1 internal error, with a traceback. Log lines go to stdout, and progress bars to stderr if that is a
    terminal.

    Args:
        command: a name in `COMMANDS`; None takes it from the command line.
    """
    if not shows_bars():
        os.environ["TQDM_DISABLE"] = "1"  # for the bars of libraries
    for library in ("TRANSFORMERS", "DATASETS", "HF_HUB"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"  # for child processes
    print_any_text()
    processes, handler = Processes(), _LogHandler()
    handler.setFormatter(VisibleFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("pipeline").setLevel(logging.INFO if processes.rank == 0 else logging.ERROR)
    with interruptible(None if processes.rank else _INTERRUPTED) as signals:
        try:
            argv = sys.argv[1:]
            if command is None:
                command, argv = _split_command(argv)
            config, flags = parse_command_line(argv, command)
            COMMANDS[command].run(config, **flags)
            processes.shut_down()
        except UserError as error:
            if signals:  # a library lost the interruption, and failed by it
                raise
            # Every process prints its error: a file may be missing on one machine only.
            process = f" in process {processes.rank}" if processes.rank else ""
            print(f"error{process}: {_name_options(to_one_line(error), command)}", file=sys.stderr)
            sys.exit(2)
        except MemoryError:
            print("error: there is not enough memory; set smaller sizes, or use a larger machine", file=sys.stderr)
            sys.exit(2)
        except RuntimeError as error:
            if processes.count == 1 or not any(message in str(error) for message in _PEER_ENDED):
                raise
            message = f"process {processes.rank} stops because another process stopped; its message gives the reason"
            print(message, file=sys.stderr, flush=True)
            os._exit(1)  # an orderly exit would wait for the other process, and abort
        except BrokenPipeError:  # the program that read the output has ended
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + SIGPIPE)


def _name_options(message: str, name: str | None) -> str:
    """Return a message with the short option of a command before each key that has one."""
    options = {option.key: option.name for option in COMMANDS[name].options} if name in COMMANDS else {}
    keys = "|".join(re.escape(key) for key in options if "." in key)
    if not keys:
        return message
    return re.sub(rf"(?<![\w.-])(?:{keys})(?![\w.]\w|\w)", lambda key: f"--{options[key[0]]} ({key[0]})", message)


def _split_command(argv: list[str]) -> tuple[str, list[str]]:
    """Return the command and the other arguments. Without a command, or with --help, print the commands and exit.

    Raises:
        UserError: there is no such command.
    """
    if not argv or argv[0] in ("-h", "--help", "--version"):
        print(f"{PROGRAM} {__version__}" if argv[:1] == ["--version"] else overview())
        sys.exit(0)
    if argv[0] not in COMMANDS:
        raise UserError(f"there is no command {argv[0]!r}; use one of {', '.join(COMMANDS)}")
    return argv[0], argv[1:]


class _LogHandler(logging.Handler):
    """Prints log records to stdout, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def parse_command_line(argv: list[str], name: str) -> tuple[Config, dict[str, bool]]:
    """Return the configuration and the flag of a command line. `--help` and `--print_config` print and exit.

    Keys take precedence over short options of the same command line, these over `--config FILE`, and a file over what
    the model to forecast with, to score or to train from remembers.

    Args:
        argv: `--config FILE`, keys such as `--training.epochs 3`, and the short options of the command.
        name: the command.

    Raises:
        UserError: a key is unknown or out of range, or a file does not parse.
    """
    command = COMMANDS[name]
    if "--help" in argv or "-h" in argv:
        print(help_text(name))
        sys.exit(0)
    from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

    from pipeline.core.yaml_files import check_option

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog=f"{PROGRAM} {name}", description=inspect.getdoc(command.run), exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the keys below.")
    sections = {key.name: type(getattr(Config(), key.name)) for key in fields(Config) if key.name != "horizon"}
    parser.add_argument("--horizon", type=int | None, help="Steps to forecast, for every section.")
    for section, section_type in sections.items():
        parser.add_argument(f"--{section}", type=section_type, default=section_type())
    switches = [] if command.flag is None else [command.flag[0]]
    for switch in switches:
        parser.add_argument(f"--{switch}", action="store_true", help=command.flag and command.flag[1])
    if "--help_all" in argv or "--help-all" in argv:
        parser.print_help()
        sys.exit(0)
    known = list(_keys(Config))
    argv = _files_first(_expand_options(argv, command))
    for option in argv:
        key, _, value = option.partition("=")
        if option.startswith("--config="):
            _check_file(Path(value), known)
        elif key.startswith("--") and key != "--config":
            accepted = [*known, *_SWITCHES, *switches]
            _refuse_unknown(key.removeprefix("--").removesuffix("+"), accepted, "", [o.name for o in command.options])
    for option in argv:
        check_option(option.partition("=")[2] or option, option.partition("=")[0])
    try:
        parsed = parser.parse_args(argv)
        _check_values(parsed, Config)
        config = _to_config(parser.instantiate(parsed))
        if remembered := _remembered_keys(config, name):
            parser.set_defaults(remembered)
            config = _to_config(parser.instantiate(parser.parse_args(argv)))
    except UserError:
        raise
    except (ArgumentError, ValueError, OverflowError) as error:
        raise UserError(
            f"{redact_text(_translate_type_error(to_one_line(error)))}; see --help-all for the keys and their ranges"
        ) from error
    return config, {switch: parsed[switch] for switch in switches}


def _expand_options(argv: list[str], command: Command) -> list[str]:
    """Return the arguments with keys in place of short options, and with lists in place of commas.

    The keys of short options come first, so that a key of the same command line takes precedence.

    Raises:
        UserError: there is an argument too much.
    """
    options = {option.name: option.key for option in command.options}
    switches = {"print_config", *(command.flag or ())[:1]}
    lists = dict(list_keys(Config))
    short: list[str] = []
    others: list[str] = []
    tokens, positional = iter(argv), command.positional
    for token in tokens:
        name, equals, value = token.removeprefix("--").partition("=")
        if not token.startswith("--"):
            if positional is None:
                raise UserError(f"unexpected argument {token!r}; write lists with commas, and see --help")
            name, value, positional = positional.key, token, None
        elif name in switches:
            others.append(token)
            continue
        elif not equals:
            following = next(tokens, None)
            if following is None:
                others.append(token)  # the parser refuses it
                continue
            value = following
        key = options.get(name, name)
        expanded = [f"--{key}={_with_commas(value, lists.get(key))}"]
        if key == "horizon" and re.fullmatch("0*[1-9][0-9]{0,9}", value):
            expanded += [
                f"--{section}.prediction_length={value}" for section in ("training", "inference", "evaluation")
            ]
        (short if name != key or key == "horizon" else others).extend(expanded)
    return short + others


def _with_commas(value: str, item_type: Any) -> str:
    """Return the value of a key as a YAML list if it is one, with or without brackets.

    Args:
        item_type: as in `list_keys`; None for a key that takes no such list.
    """
    if item_type is str and value.startswith("["):
        return _with_quotes(value)
    if item_type is None or value.startswith("[") or value == "null" or (item_type is str and "," not in value):
        return value
    items = [item.strip() for item in value.split(",")]
    return f"[{', '.join(items if item_type is float else map(json.dumps, items))}]"


def _with_quotes(value: str) -> str:
    """Return a YAML list with all its items as texts, such as the number -999; any other value as it is."""
    if re.fullmatch(r"\[[^][{}'\":]*]", value):  # plain texts, of which ? is none in YAML
        items = value[1:-1].strip().removesuffix(",")
        return json.dumps([item.strip() for item in items.split(",")] if items else [])
    try:
        items = yaml.load(value, yaml.BaseLoader)
    except yaml.YAMLError:  # the parser refuses it
        return value
    return json.dumps(items) if isinstance(items, list) and all(isinstance(item, str) for item in items) else value


def list_keys(section: type, parent: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name of every key that takes a list of numbers or names, and the type of its items.

    The type is float, str for a key that takes a single name too, or Literal.
    """
    types = get_type_hints(section)
    for field in fields(section):
        hint = types[field.name]
        if isinstance(hint, type) and is_dataclass(hint):
            yield from list_keys(hint, f"{parent}{field.name}.")
        for part in (hint, *get_args(hint)):
            if get_origin(part) is list:
                (item,) = get_args(part)
                if item in (float, str):
                    yield f"{parent}{field.name}", item
                elif get_origin(item) is Literal:
                    yield f"{parent}{field.name}", Literal


def _check_values(values: Any, section: type, parent: str = "") -> None:
    """Refuse what the parser accepts for any key: null, and texts that no file or terminal takes.

    Raises:
        UserError: as described.
    """
    types = get_type_hints(section)
    for field in fields(section):
        hint, value, key = types[field.name], values[field.name], parent + field.name
        if value is None and type(None) not in get_args(hint):
            raise UserError(f"{key} must not be null; remove the key for its default")
        if isinstance(hint, type) and is_dataclass(hint):
            _check_values(value, hint, f"{key}.")
        elif not all(map(_is_plain_text, _texts(value))):
            raise UserError(f"{key} has a null character, or bytes that are not UTF-8; write another text")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (text for item in value for text in _texts(item))
    elif hasattr(value, "__dict__") or isinstance(value, dict):
        yield from _texts(list(vars(value).values() if hasattr(value, "__dict__") else value.values()))


def _is_plain_text(text: str) -> bool:
    return "\0" not in text and not re.search("[\ud800-\udfff]", text)


def _to_config(parsed: Any) -> Config:
    return Config(**{key.name: parsed[key.name] for key in fields(Config)})


def _remembered_keys(config: Config, command: str) -> dict[str, Any]:
    """Return the keys that the model to forecast with, the first trained one to score, or the base remembers."""
    if command not in ("train", "forecast", "evaluate"):
        return {}
    from pipeline.models.checkpoint import remembered_keys

    if command == "train":
        from pipeline.models.base import trained_base

        base = trained_base(config)
        return {} if base is None else remembered_keys(base, of_training=True, horizon=config.horizon is None)
    models = config.scored_models() if command == "evaluate" else [config.forecast_model()]
    horizon = config.horizon is None
    return next((keys for model in models if (keys := remembered_keys(model, horizon=horizon))), {})


def overview() -> str:
    """Return the help text of the program: its commands."""
    lines = [f"  {name:<14}{_summary(command)}" for name, command in COMMANDS.items()]
    return "\n".join(
        (f"usage: {PROGRAM} COMMAND [DATA] [options]", "", *lines, "", f"{PROGRAM} COMMAND --help shows the options.")
    )


def help_text(name: str) -> str:
    """Return the help text of a command: its short options."""
    command = COMMANDS[name]
    rows = [(f"{option.name}", option.help) for option in filter(None, [command.positional])]
    rows += [(f"--{option.name} {option.value}", option.help) for option in command.options]
    rows += [(f"--{flag}", text) for flag, text in filter(None, [command.flag])]
    rows += [
        ("--config FILE", "YAML file with any of the keys"),
        ("--KEY VALUE", "any other key, such as --chronos.device auto"),
        ("--help-all", "every key and its default"),
    ]
    argument = f" [{command.positional.name}]" if command.positional else ""
    example = ["", f"Example: {PROGRAM} {command.example}"] if command.example else []
    lines = [f"  {left:<24}{right}" for left, right in rows]
    return "\n".join((f"usage: {PROGRAM} {name}{argument} [options]", "", _summary(command), "", *lines, *example))


def _summary(command: Command) -> str:
    return (inspect.getdoc(command.run) or "").partition("\n")[0]


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
    names = list(dict.fromkeys(names))
    advice = "; write it in quotes" if names == [_TYPE_NAMES["<class 'str'>"]] else ""
    return f"{key} must be {' or '.join(names)}, got {value}{advice}"


def _files_first(argv: list[str]) -> list[str]:
    """Return the arguments with the configuration files first, so that keys win over them at any position."""
    return sorted(argv, key=lambda option: not option.startswith("--config="))


def _keys(section: type, parent: str = "") -> Iterator[str]:
    """Yield the dotted name of every key and section."""
    types = get_type_hints(section)
    for field in fields(section):
        yield parent + field.name
        if is_dataclass(types[field.name]):
            yield from _keys(types[field.name], f"{parent}{field.name}.")


def _refuse_unknown(key: str, keys: Collection[str], file: str, options: Collection[str] = ()) -> None:
    """Refuse an unknown key, and suggest the closest one. Keys below a key whose value is a mapping are accepted.

    Args:
        file: the beginning of the message, for a key in a file.
        options: short options, which are suggested first.
    """
    parents = [key[:at] for at, letter in enumerate(key) if letter == "."]
    sections = {name.rpartition(".")[0] for name in keys}
    if key in keys or any(parent in keys and parent not in sections for parent in parents):
        return
    close = [option for option in options if option.startswith(key) or key.startswith(option)]
    close = close or get_close_matches(key, options, n=1, cutoff=0.75) or get_close_matches(key, keys, n=1)
    hint = f"did you mean {close[0]}?" if close else "see --help for the keys"
    raise UserError(f"{file}unknown key {key}; {hint}")


def _check_file(path: Path, keys: Collection[str]) -> None:
    """Refuse a configuration file that cannot be read or has unknown keys, and what jsonargparse accepts silently:
    duplicate keys, and no sections.

    Raises:
        UserError: as described.
    """
    from pipeline.core.yaml_files import read_yaml

    def check(section: dict, parent: str) -> None:
        for name, value in section.items():
            _refuse_unknown(f"{parent}{name}", keys, f"{path}: ")
            if isinstance(value, dict):
                check(value, f"{parent}{name}.")

    content = read_yaml(path, "--config")
    if not isinstance(content, dict):
        raise UserError(f"{path} has no sections; write sections of keys, as in config/chronos_config.yaml")
    check(content, "")
    for name, values in content.items():
        if not isinstance(values, dict) and name != "horizon":
            raise UserError(f"{path}: section {name!r} must contain keys and values")
