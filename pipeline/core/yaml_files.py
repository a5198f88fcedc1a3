"""YAML of the user: of bounded size and depth, with texts as keys, and without a key that occurs twice."""

import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.core.errors import UserError, to_one_line

_MAX_BYTES = 1 << 18
"""Maximum size of a file: a list of ten thousand columns fits, and it is parsed in two seconds."""
_MAX_DEPTH = 50
"""Maximum depth of lists and mappings; those of the configuration and of a bank have four levels."""
_MAX_VALUES = 100_000
"""Maximum number of values with all aliases replaced: ten times the values of a file of the maximum size."""

_MAX_INTEGER = (1 << 63) - 1
"""Largest integer of NumPy, Arrow and torch."""


def read_yaml(path: str | Path, key: str) -> Any:
    """Read a YAML file.

    Args:
        key: the key of the configuration that names the file, for messages.

    Raises:
        UserError: there is no such file, or it is not valid YAML as `parse_yaml` takes it.
    """
    try:
        if not Path(path).is_file():
            raise UserError(f"{key}: no file {path}")
        with open(path, "rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise UserError(f"{key}: {path} is larger than {_MAX_BYTES >> 10} kB; name a YAML file of settings")
        return parse_yaml(text.decode("utf-8"), str(path))
    except OSError as error:
        raise UserError(f"{key}: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{key}: {path} is not UTF-8 text; save it as UTF-8") from error


def parse_yaml(text: str, name: str) -> Any:
    """Return the value of a YAML text.

    Args:
        name: the beginning of messages: a file or a key.

    Raises:
        UserError: the text is not valid YAML, is too deep or too large with its aliases replaced, contains itself, or
            has a key twice or a key that is not a text.
    """
    try:
        return _Loader(text, name).get_single_data()
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an impossible date, or a number of 5,000 digits
        raise UserError(f"{name} is not valid YAML: {to_one_line(error)}") from error


def check_option(text: str, name: str) -> None:
    """Refuse the value of an option as `parse_yaml` does; a value that is not YAML passes as a plain text.

    Raises:
        UserError: as described.
    """
    try:
        _Loader(text, name).get_single_data()
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except (yaml.YAMLError, ValueError):
        pass


class _Loader(yaml.SafeLoader):
    """Loads plain values, and raises UserError as `parse_yaml` says, without the name."""

    def __init__(self, text: str, name: str) -> None:
        self._depth = 0
        self._sizes: dict[int, tuple[int, int] | None] = {}
        """Number of values and depth of each node; None while they are computed."""
        super().__init__(text)
        self.name = name

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            self._measure(node)
        return node

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        _check_depth(self._depth)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _measure(self, node: yaml.Node) -> tuple[int, int]:
        """Return the number of values in a node, with aliases replaced, and its depth."""
        if isinstance(node, yaml.ScalarNode):
            return 1, 0
        if id(node) not in self._sizes:
            self._sizes[id(node)] = None
            members = node.value
            if isinstance(node, yaml.MappingNode):
                members = [member for pair in node.value for member in pair]
            measured = [self._measure(member) for member in members]
            size = 1 + sum(size for size, _ in measured)
            depth = 1 + max((depth for _, depth in measured), default=0)
            _check_depth(depth)
            if size > _MAX_VALUES:
                raise UserError(f"it has more than {_MAX_VALUES:,} values; remove some")
            self._sizes[id(node)] = size, depth
        if (found := self._sizes[id(node)]) is None:
            raise UserError("an alias is inside of what it names; remove it")
        return found

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            is_merge = key.tag == "tag:yaml.org,2002:merge"
            if key.tag != "tag:yaml.org,2002:str" and not is_merge:
                raise UserError(f"the key {_excerpt(key)} is not a text; write it in quotes")
            if key.value in seen:
                raise UserError(f"the key {key.value!r} occurs twice; remove one of the two")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value = super().construct_yaml_int(node)
        if abs(value) > _MAX_INTEGER:
            raise UserError(f"line {node.start_mark.line + 1}: the number {node.value} is too large")
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


# YAML 1.1 demands a point in a number with an exponent, so that 1e-3 would be a text.
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+\Z"), list("-+0123456789"))


def _excerpt(key: yaml.Node) -> str:
    return str(key.value) if isinstance(key, yaml.ScalarNode) else "at " + to_one_line(ValueError(key.start_mark))


def _check_depth(depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise UserError(f"it is nested more than {_MAX_DEPTH} levels deep; remove brackets")
