"""Load a base model from anywhere, convert it to a native Chronos checkpoint, and save it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import __version__
from pipeline.config import BaseModelConfig, Config
from pipeline.core.checks import check_outputs
from pipeline.core.errors import UserError
from pipeline.core.files import atomic_folder, write_json
from pipeline.core.locks import locked
from pipeline.core.processes import Processes
from pipeline.core.progress import quiet_transformers
from pipeline.core.tables import escape_markdown
from pipeline.models.builtin import BUILTIN
from pipeline.models.checkpoint import (
    MODEL_INFO,
    PIPELINE_CLASSES,
    TRAINING_INFO,
    Checkpoint,
    model_family,
    model_horizon,
    read_checkpoint,
    read_model_info,
)
from pipeline.models.create import convert_to_token_model, scratch_model
from pipeline.models.find import S3, find_model
from pipeline.models.load import conversions_needed, read_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SCRATCH = "scratch:"
_TITLE = "# Base model: "
_KEY = "base_model.output_path"
logger = getLogger(__name__)


@dataclass(frozen=True)
class BaseModel:
    """A model in memory and its origin."""

    model: PreTrainedModel
    name: str
    """Hub ID, folder, s3:// prefix, `builtin:NAME` or `scratch:SIZE`."""
    revision: str | None = None
    """Branch, tag or commit on the Hub, as the user named it."""
    commit: str | None = None
    """Commit on the Hub; None if the model comes from elsewhere."""
    seed: int | None = None
    """Seed of random weights; None if the weights were loaded."""
    missing: tuple[str, ...] = ()
    """Conversions that a native checkpoint still needs."""
    converted: tuple[str, ...] = ()
    """Conversions that were made."""


def make_base(config: Config) -> dict[str, Any]:
    """Load, convert and save the model that the section base_model names, and return its description (`describe`).

    Raises:
        UserError: the model or the folder cannot be used.
    """
    inputs = {"base_model.model_name": [config.base_model.model_name]}
    check_outputs(folders={_KEY: config.base_path()}, inputs=inputs)
    with locked(config.base_path(), _KEY):
        return _make_base(config)


def _make_base(config: Config) -> dict[str, Any]:
    base = load_base(config.base_model.model_name, config.base_model.revision, config.chronos.seed)
    if config.base_model.convert_format:
        base = convert(base)
    save(base, config.base_path(), config.base_model.save_metadata)
    return describe(base)


def load_base(name: str, revision: str | None = None, seed: int = 0) -> BaseModel:
    """Load a model into memory.

    Args:
        name: Hub ID, folder, s3:// prefix, `builtin:NAME` or `scratch:SIZE`.
        revision: branch, tag or commit on the Hub.
        seed: of the weights of `scratch:SIZE`.

    Raises:
        UserError: the model does not exist, cannot be reached, or is broken.
    """
    if revision is not None and (name.startswith((SCRATCH, BUILTIN, S3)) or Path(name).is_dir()):
        raise UserError(f"base_model.revision: {name} has no revisions, only Hub repositories do. Remove the key")
    if name.startswith(SCRATCH):
        return BaseModel(scratch_model(name.removeprefix(SCRATCH), seed), name, seed=seed)
    folder = find_model(name, revision)
    commit = folder.name if folder.parent.name == "snapshots" else None
    return BaseModel(read_model(folder), name, revision, commit, missing=tuple(conversions_needed(folder)))


def convert(base: BaseModel) -> BaseModel:
    """Convert a model to a native Chronos checkpoint; a native one stays as it is.

    A plain T5 or GPT-2 language model becomes a Chronos token model with random embeddings for new tokens. Missing
    `chronos_pipeline_class` and `architectures` are added. Saving turns pickled weights into safetensors. The model is
    changed in place.

    Raises:
        UserError: a GPT-2 model has too few positions.
    """
    config = base.model.config
    if model_family(config.to_dict()) is None:
        convert_to_token_model(base.model)
    family = model_family(config.to_dict())
    assert family is not None
    config.chronos_pipeline_class = PIPELINE_CLASSES[family]
    config.architectures = [type(base.model).__name__]
    for reason in base.missing:
        logger.info("converted %s: %s", base.name, reason)
    return replace(base, missing=(), converted=base.converted + base.missing)


@quiet_transformers()
def save(base: BaseModel, path: Path, with_metadata: bool = True) -> None:
    """Write the checkpoint and its model card in one step, so that a failure leaves `path` as it was.

    Args:
        path: folder; an earlier base model in it is replaced.
        with_metadata: also write model_info.json.

    Raises:
        UserError: the model is not native, `path` contains other files, or random weights would lose their metadata.
    """
    if base.missing:
        raise UserError(
            f"{base.name} is not a native checkpoint ({'; '.join(base.missing)}). Set base_model.convert_format true"
        )
    if not with_metadata and base.name.startswith(SCRATCH):
        raise UserError(
            f"base_model.save_metadata false: training detects the random weights of {base.name} by model_info.json "
            "only. Set it to true"
        )
    if path.is_dir() and any(path.iterdir()) and not _is_base_model(path):
        raise UserError(f"{path} is not empty and contains no base model. Choose another base_model.output_path")
    info = describe(base)
    with atomic_folder(path) as folder:
        base.model.save_pretrained(folder)
        (folder / "README.md").write_text(_card(info), encoding="utf-8")
        if with_metadata:
            write_json(folder / MODEL_INFO, info)
    read_checkpoint(path)


def describe(base: BaseModel) -> dict[str, Any]:
    """Return the content of model_info.json: name, family, parameters, context, horizon, quantiles and more."""
    config = base.model.config.to_dict()
    family = model_family(config)
    chronos = config.get("chronos_config") or {}
    return {
        "model_name": base.name,
        "revision": base.revision,
        "commit": base.commit,
        "converted": list(base.converted),
        "family": family,
        "architecture": type(base.model).__name__,
        "parameters": sum(parameter.numel() for parameter in base.model.parameters()),
        "context_length": chronos.get("context_length"),
        "prediction_length": model_horizon(config) if family else None,
        "quantiles": chronos.get("quantiles"),
        "dtype": str(base.model.dtype).removeprefix("torch."),
        "seed": base.seed,
        "version": __version__,
    }


def provide_base(config: Config) -> Checkpoint:
    """Return the base in base_model.output_path, after making it as `make_base` does if it is not there.

    A native checkpoint on this machine is used where it is if no folder is named: a copy would stay as it is when the
    checkpoint is replaced. If the default folder has another base, this one gets a folder of its own beside it. A
    folder without model_info.json is the user's own checkpoint. Several processes call this together; the first makes
    the base.

    Raises:
        UserError: the model or the folder cannot be used, or the folder was named and has another base.
    """
    path, processes = base_folder(config), Processes()
    name, revision = config.base_model.model_name, config.base_model.revision
    if path.is_dir() and path != Path(name):
        found = read_model_info(path)
        if found is None and _is_request(config) and trained_base(config) is None:
            logger.warning("%s has no model_info.json, so its checkpoint is taken for %s", path, name)
        elif found is not None and not _is_same_model(name, found.model_name):
            logger.info("base: %s, since it is in %s (the default is %s)", found.model_name, path, name)
    with processes.first_alone(config.chronos.device):
        if processes.rank == 0 and not path.is_dir():
            with locked(path, _KEY, wait=True):
                if not path.is_dir():
                    logger.info("base: %s, saved to %s", _label(name, revision, config.chronos.seed), path)
                    _make_base(replace(config, base_model=replace(config.base_model, output_path=str(path))))
    return read_checkpoint(path)


def base_folder(config: Config) -> Path:
    """Return the folder of the base that `provide_base` returns; it may not exist yet.

    Raises:
        UserError: the folder was named and has another base.
    """
    name, revision, path = config.base_model.model_name, config.base_model.revision, config.base_path()
    seed = config.chronos.seed if name.startswith(SCRATCH) else None
    if config.base_model.output_path is None and Path(name).is_dir() and not conversions_needed(Path(name)):
        return Path(name)
    found = read_model_info(path) if _is_request(config) else None
    is_other = found is not None and not (
        _is_same_model(name, found.model_name) and (revision, seed) == (found.revision, found.seed)
    )
    if is_other and path == Path(config.paths.models_dir, "base"):
        own = path.with_name("base-" + re.sub(r"[^\w.-]+", "-", _label(name, revision, seed)))
        return base_folder(replace(config, base_model=replace(config.base_model, output_path=str(own))))
    if found is not None and is_other:
        raise UserError(
            f"base_model.model_name is {_label(name, revision, seed)}, but {path} contains "
            f"{_label(found.model_name, found.revision, found.seed)}; set base_model.output_path to another folder"
        )
    return path


def trained_base(config: Config) -> Path | None:
    """Return the folder of the base if it is a model that this pipeline trained, else None."""
    folders = [Path(config.base_model.model_name), config.base_path()]
    return next((folder for folder in folders if (folder / TRAINING_INFO).is_file()), None)


def _is_same_model(name: str, other: str) -> bool:
    return name == other or (Path(name).is_dir() and Path(other).is_dir() and Path(name).samefile(other))


def _is_request(config: Config) -> bool:
    """Return whether a configuration names a base; the default name is no request for another one than is there."""
    return config.base_model.model_name != BaseModelConfig.model_name or config.base_model.revision is not None


def _label(name: str, revision: str | None, seed: int | None) -> str:
    """Return a model's name with its revision, or with the seed of its random weights if that is not 0."""
    seeded = f"{name} with seed {seed}" if seed and name.startswith(SCRATCH) else name
    return seeded if revision is None else f"{name} at revision {revision}"


def _is_base_model(folder: Path) -> bool:
    """Return whether a folder was written by `save`, with or without metadata."""
    card = folder / "README.md"
    return (folder / MODEL_INFO).is_file() or (
        card.is_file() and _TITLE in card.read_text(encoding="utf-8", errors="replace")
    )


def _card(info: dict[str, Any]) -> str:
    rows = "\n".join(f"| {key} | {escape_markdown(str(value))} |" for key, value in info.items() if value is not None)
    return (
        "---\nlibrary_name: chronos-forecasting\npipeline_tag: time-series-forecasting\n---\n\n"
        f"{_TITLE}{escape_markdown(info['model_name'])}\n\n"
        "A native Chronos checkpoint: the base model of a fine-tuning run.\n\n"
        f"| | |\n|---|---|\n{rows}\n\n"
        "```python\nfrom chronos import BaseChronosPipeline\n\n"
        'pipeline = BaseChronosPipeline.from_pretrained("path/of/this/folder")\n```\n'
    )
