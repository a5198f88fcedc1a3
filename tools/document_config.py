"""Write docs/configuration.md, a table per section of the configuration, from the docstrings in pipeline/config.py.

python tools/document_config.py            write the page
python tools/document_config.py --check    exit with 1 if the page is stale
"""

import argparse
import ast
import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from pipeline.config import Config

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
_TABLE_HEAD = "| key | default | meaning |\n|---|---|---|"
_HEAD = """\
# Configuration

This page is generated from the docstrings of `pipeline/config.py` by `python tools/document_config.py`. Do not edit it.

Give a key in a YAML file (`--config my.yaml`), on the command line (`--training.batch_size 64`), or both. The command
line takes precedence. `--help` prints the short options, `--help-all` all keys, and `--print_config` the
configuration. A key that does not exist is refused.

```yaml
# my.yaml
horizon: 28
data:
  train: sales.csv
```
"""


def configuration_page() -> str:
    """Return the page in Markdown: a table for each dataclass, with a row for each of its keys."""
    lines = ["", _TABLE_HEAD, *_table("", Config)]
    entries: dict[type, list[str]] = {}
    for name, section in _sections(Config):
        lines += ["", f"## {name}", "", str(inspect.getdoc(section)), "", _TABLE_HEAD, *_table(f"{name}.", section)]
        for key, hint in get_type_hints(section).items():
            for entry in [] if is_dataclass(hint) else _dataclasses_in(hint):
                names = entries.setdefault(entry, [])
                names += [] if f"{name}.{key}" in names else [f"{name}.{key}"]
    for entry, names in entries.items():
        heading = f"## Entries of {', '.join(names)}"
        lines += ["", heading, "", str(inspect.getdoc(entry)), "", _TABLE_HEAD, *_table("", entry)]
    return _HEAD + "\n".join(lines) + "\n"


def _table(prefix: str, section: type) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in _rows(prefix, section)]


def _sections(parent: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    """Yield the name and the class of every section."""
    for key, hint in get_type_hints(parent).items():
        if is_dataclass(hint):
            assert isinstance(hint, type)
            yield f"{prefix}{key}", hint
            yield from _sections(hint, f"{prefix}{key}.")


def _dataclasses_in(hint: Any) -> Iterator[type]:
    if is_dataclass(hint):
        assert isinstance(hint, type)
        yield hint
    for part in get_args(hint):
        yield from _dataclasses_in(part)


def _rows(prefix: str, section: type) -> Iterator[tuple[str, str, str]]:
    """Yield the name, the default and the meaning of each key of a section; nested sections have tables too."""
    hints, docstrings = get_type_hints(section), _docstrings(section)
    for key in fields(section):
        hint, meaning = hints[key.name], docstrings.get(key.name, "")
        if get_origin(hint) is Literal:
            meaning += f" One of {', '.join(f'`{choice}`' for choice in get_args(hint))}."
        if not is_dataclass(hint):
            yield f"`{prefix}{key.name}`", _default(key), meaning.replace("|", r"\|")


def _default(key: Field) -> str:
    """Return the default value of a key as YAML."""
    if key.default_factory is not MISSING:
        value = key.default_factory()
    elif key.default is not MISSING:
        value = key.default
    else:
        return "required"
    return "`{}`".format(yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n..."))


def _docstrings(section: type) -> dict[str, str]:
    """Return the docstring of each field of a dataclass, on one line."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(section)).body if isinstance(node, ast.ClassDef))
    return {
        key.target.id: " ".join(str(text.value.value).split())
        for key, text in pairwise(body)
        if isinstance(key, ast.AnnAssign)
        and isinstance(key.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def main(argv: Sequence[str] | None = None, path: Path = PAGE) -> int:
    """Write the page to a path, or compare it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is stale")
    page = configuration_page()
    if not parser.parse_args(argv).check:
        path.write_text(page, encoding="utf-8")
        return 0
    if path.is_file() and path.read_text(encoding="utf-8") == page:
        return 0
    print(f"{path} is stale; run: python tools/document_config.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
