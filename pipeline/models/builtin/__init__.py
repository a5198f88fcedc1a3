"""The models inside the package, `builtin:NAME`, which this project pretrained on synthetic series."""

from pathlib import Path

from pipeline.core.errors import UserError

BUILTIN = "builtin:"
_FOLDER = Path(__file__).parent


def builtin_names() -> list[str]:
    """Return the names of the models inside the package, with the prefix."""
    return sorted(f"{BUILTIN}{file.parent.name}" for file in _FOLDER.glob("*/config.json"))


def builtin_folder(name: str) -> Path:
    """Return the checkpoint folder of `builtin:NAME`.

    Raises:
        UserError: the package has no model of that name.
    """
    if name not in builtin_names():
        raise UserError(f"unknown model {name}. The package contains {', '.join(builtin_names())}")
    return _FOLDER / name.removeprefix(BUILTIN)
