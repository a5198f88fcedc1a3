"""The models inside the package, pretrained by this project on synthetic series alone: `builtin:NAME`."""

from pathlib import Path

from pipeline.core.errors import UserError

PREFIX = "builtin:"
_HERE = Path(__file__).parent


def builtin_names() -> list[str]:
    """Return what models there are."""
    return sorted(f"{PREFIX}{file.parent.name}" for file in _HERE.glob("*/config.json"))


def builtin_folder(name: str) -> Path:
    """Return the checkpoint folder of `builtin:NAME`.

    Raises:
        UserError: there is no such model.
    """
    if name not in builtin_names():
        raise UserError(f"there is no model {name} inside; there is {', '.join(builtin_names())}")
    return _HERE / name.removeprefix(PREFIX)
