"""The edge of every script: read the configuration, do the work, and turn errors into exit codes."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

from pipeline.config import Config
from pipeline.core.errors import UserError, one_line
from pipeline.core.processes import Processes

_LEFT = ("Connection closed by peer", "Connection reset by peer")
"""What Gloo says where another process has ended while this one waits for it."""
_SWITCHES = ("help", "print_config")
_KINDS = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "a text",
    "<class 'list'>": "a list, written '[a, b]'",
    "<class 'dict'>": "keys and their values",
    "<class 'NoneType'>": "null",
}


def run(main: Callable[..., None], **flags: str) -> None:
    """Run a script's `main` on the configuration that the command line gives, and exit.

    `flags` are switches that the script has beside the configuration, each with its help text; `main` gets their values by
    name.

    Exit codes: 0 done; 2 the user's input is wrong, with one line on stderr, of several processes from each that finds it;
    1 our bug, with a traceback; 130 interrupted. Progress goes to stdout as plain lines, and to stderr as bars where that is
    a terminal.
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
        # Each says so: what is missing may be so for one alone.
        which = f" in process {processes.rank}" if processes.rank else ""
        print(f"error{which}: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if processes.count == 1 or not any(said in str(error) for said in _LEFT):
            raise
        print(
            f"process {processes.rank} ends, as another has: what that says is the reason", file=sys.stderr, flush=True
        )
        os._exit(1)  # an orderly end would wait for it, and abort
    except KeyboardInterrupt:
        print("interrupted; an unfinished training run is continued by the same command", file=sys.stderr)
        sys.exit(130)


class _LogHandler(logging.Handler):
    """Prints records to stdout, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def progress(iterable: Any, total: int, unit: str) -> Any:
    """Wrap an iterable in a progress bar, which shows on a terminal only."""
    from tqdm import tqdm

    return tqdm(iterable, total=total, unit=unit)


def parse_command_line(argv: list[str], description: str, flags: Mapping[str, str]) -> tuple[Config, dict[str, bool]]:
    """Read a configuration, `--config FILE` and dotted overrides such as `--training.epochs 3`, and a script's own flags.

    `--help` and `--print_config` print and exit.

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
    argv = _files_first(argv)
    keys = list(_keys(Config))
    for option, following in zip(argv, [*argv[1:], ""]):
        name, equals, value = option.partition("=")
        if name == "--config":
            _check_file(Path(value if equals else following), keys)
        elif name.startswith("--"):
            _refuse_unknown(name.removeprefix("--").removesuffix("+"), [*keys, *_SWITCHES, *flags], "")
    try:
        parsed = parser.instantiate(parser.parse_args(argv))
    except UserError:
        raise
    except (ArgumentError, ValueError) as error:
        raise UserError(f"{_in_words(one_line(error))}; see --help for the keys and their ranges") from error
    return Config(**{name: parsed[name] for name in sections}), {flag: parsed[flag] for flag in flags}


def _in_words(said: str) -> str:
    """Return what jsonargparse says of a value of the wrong type without its types; other errors as they are."""
    keys = re.findall(r'Parser key "([^"]+)"', said)
    kinds = re.findall(r"Expected a ((?:<|typing)[^>\]]*[>\]])", said)
    given = re.search(r"Given value: ?(.*)", said) or re.search(r"Got value: ?(.*)", said)
    if not (keys and kinds and given):
        return said
    key, value = keys[-1], given[1] or "''"
    if value.startswith("["):
        key, kinds = f"each of {key}", [kind for kind in kinds if kind != "<class 'NoneType'>"]
    words = [_KINDS.get(kind, kind.removeprefix("typing.Literal[").removesuffix("]")) for kind in kinds]
    return f"{key} must be {' or '.join(words)}, got {value}"


def _files_first(argv: list[str]) -> list[str]:
    """Return the same arguments with the files before all others, which win over them wherever they stand."""
    at = [i for i, option in enumerate(argv) if option == "--config" or i and argv[i - 1] == "--config"]
    at += [i for i, option in enumerate(argv) if option.startswith("--config=")]
    return [argv[i] for i in sorted(at)] + [option for i, option in enumerate(argv) if i not in at]


def _keys(section: type, parent: str = "") -> Iterator[str]:
    """Yield the dotted name of every key and section."""
    kinds = get_type_hints(section)
    for one in fields(section):
        yield parent + one.name
        if is_dataclass(kinds[one.name]):
            yield from _keys(kinds[one.name], f"{parent}{one.name}.")


def _refuse_unknown(key: str, keys: Collection[str], where: str) -> None:
    """Refuse a key that there is not, with the one that may be meant. A key that holds a mapping takes any below it."""
    parents = [key[:at] for at, letter in enumerate(key) if letter == "."]
    sections = {one.rpartition(".")[0] for one in keys}
    if key in keys or any(parent in keys and parent not in sections for parent in parents):
        return
    close = get_close_matches(key, keys, n=1)
    raise UserError(
        f"{where}there is no key {key}" + (f"; is {close[0]} meant?" if close else "; see --help for the keys")
    )


def _check_file(path: Path, keys: Collection[str]) -> None:
    """Refuse unknown keys, and what jsonargparse would pass over: a top level that is not sections of keys, a key twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for key in keys:
                if keys.count(key) > 1:
                    raise UserError(f"{path}: {key!r} stands there twice; keep one of the two")
            return super().construct_mapping(node, deep)

    def check(section: dict, parent: str) -> None:
        for name, value in section.items():
            _refuse_unknown(f"{parent}{name}", keys, f"{path}: ")
            if isinstance(value, dict):
                check(value, f"{parent}{name}.")

    if not path.is_file():
        raise UserError(f"--config: there is no file {path}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return  # the parser's own message says it better
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no sections; write them as in config/chronos_config.yaml")
    for name, values in content.items():
        _refuse_unknown(str(name), keys, f"{path}: ")
        if not isinstance(values, dict):
            raise UserError(f"{path}: section {name!r} must hold keys and their values")
    check(content, "")
