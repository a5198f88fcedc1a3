"""Print the oldest versions that pyproject.toml admits, as constraints for pip: python tools/oldest_versions.py"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT_FILE = Path(__file__).parents[1] / "pyproject.toml"
TOOLS = ("dev", "docs")
"""Extras of maintainers, which need no lower bounds."""


def oldest_versions(project: dict) -> dict[str, str]:
    """Return the lower bound of each requirement that has one, by name.

    Args:
        project: the table `project` of pyproject.toml.

    Raises:
        ValueError: a requirement of users has no lower bound.
    """
    oldest = {}
    for extra, requirements in {"": project["dependencies"], **project["optional-dependencies"]}.items():
        for requirement in requirements:
            if bound := re.match(r"([\w.-]+)(?:\[.*\])?>=([\w.]+)", requirement):
                oldest[bound[1]] = bound[2]
            elif extra not in TOOLS:
                raise ValueError(f"{PROJECT_FILE}: {requirement} has no lower bound; write NAME>=VERSION")
    return oldest


if __name__ == "__main__":
    versions = oldest_versions(tomllib.loads(PROJECT_FILE.read_text())["project"])
    print("\n".join(f"{name}=={version}" for name, version in versions.items()))
