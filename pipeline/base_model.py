"""The model that training starts from: found anywhere, turned into a native Chronos checkpoint, saved with what it is."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import __version__
from pipeline.config import BaseModelConfig, Config
from pipeline.core.errors import UserError
from pipeline.core.files import atomic_folder, read_json, write_json
from pipeline.models.builtin import PREFIX
from pipeline.models.checkpoint import MODEL_INFO, PIPELINE_CLASSES, family_of, horizon_of, read_checkpoint
from pipeline.models.create import convert_to_token_model, scratch_model
from pipeline.models.find import S3, find_model
from pipeline.models.load import conversions_needed, read_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TITLE = "# Base model: "
logger = logging.getLogger(__name__)


class ChronosBaseModel:
    """A Chronos model from the Hub, a folder, an s3:// prefix, inside the package (`builtin:NAME`) or `scratch:SIZE`, on its
    way to a native checkpoint."""

    revision: str | None = None
    """Branch, tag or commit on the Hub."""
    seed: int = 0
    """Seed of `scratch:` weights."""

    def __init__(self, model_name: str = "amazon/chronos-bolt-base") -> None:
        self.model_name = model_name
        self.model: PreTrainedModel | None = None
        self._conversions_needed: list[str] = []
        self._converted: list[str] = []
        self._commit: str | None = None

    def load_from_huggingface(self) -> None:
        """Bring the model into memory, from wherever `model_name` says.

        Raises:
            UserError: there is no such model, it cannot be reached, or it is broken.
        """
        elsewhere = self.model_name.startswith(("scratch:", PREFIX, S3)) or Path(self.model_name).is_dir()
        if self.revision is not None and elsewhere:
            raise UserError(
                f"base_model.revision: {self.model_name} has no revisions, only a repository on the Hub has; leave it out"
            )
        if self.model_name.startswith("scratch:"):
            self.model = scratch_model(self.model_name.removeprefix("scratch:"), self.seed)
            return
        folder = find_model(self.model_name, self.revision)
        self._commit = folder.name if folder.parent.name == "snapshots" else None
        self._conversions_needed = conversions_needed(folder)
        self.model = read_model(folder)

    def convert_to_native_format(self) -> None:
        """Turn the loaded model into a native Chronos checkpoint; one that is native already stays as it is.

        Pickled weights become safetensors, a plain T5 or GPT-2 language model a Chronos token model with random new
        embeddings, missing `chronos_pipeline_class` and `architectures` are filled in, an adapter is merged.
        """
        model = self._loaded()
        config = model.config
        if family_of(config.to_dict()) is None:
            convert_to_token_model(model)
        family = family_of(config.to_dict())
        assert family is not None
        config.chronos_pipeline_class = PIPELINE_CLASSES[family]
        config.architectures = [type(model).__name__]
        for change in self._conversions_needed:
            logger.info("converted %s: %s", self.model_name, change)
        self._converted, self._conversions_needed = self._conversions_needed, []

    def save_base_model(self, output_path: str) -> None:
        """Write the checkpoint with its model_info.json and a model card, whole or not at all.

        Raises:
            UserError: the model is not native yet, or `output_path` holds something else.
        """
        self._save(Path(output_path), with_metadata=True)

    def get_model_info(self) -> dict:
        """Return what the model is: family, parameters, context, horizon, quantiles, dtype, source, and conversions."""
        model = self._loaded()
        config = model.config.to_dict()
        family = family_of(config)
        chronos = config.get("chronos_config") or {}
        return {
            "model_name": self.model_name,
            "revision": self.revision,
            "commit": self._commit,
            "converted": self._converted,
            "family": family,
            "architecture": type(model).__name__,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "context_length": chronos.get("context_length"),
            "prediction_length": horizon_of(config) if family else None,
            "quantiles": chronos.get("quantiles"),
            "dtype": str(model.dtype).removeprefix("torch."),
            "seed": self.seed if self.model_name.startswith("scratch:") else None,
            "version": __version__,
        }

    def save_without_metadata(self, output_path: str) -> None:
        """Like `save_base_model`, without model_info.json."""
        self._save(Path(output_path), with_metadata=False)

    def _save(self, path: Path, with_metadata: bool) -> None:
        model = self._loaded()
        if self._conversions_needed:
            raise UserError(
                f"{self.model_name} is no native checkpoint ({'; '.join(self._conversions_needed)}); "
                "let it be converted with base_model.convert_format true"
            )
        if not with_metadata and self.model_name.startswith("scratch:"):
            raise UserError(
                f"base_model.save_metadata false: without model_info.json training would take {self.model_name} for a model "
                "that has been trained; leave it true for random weights"
            )
        if path.is_dir() and any(path.iterdir()) and not _is_base_model(path):
            raise UserError(f"{path} is not empty and holds no base model of this pipeline; choose another output_path")
        with atomic_folder(path) as folder:
            model.save_pretrained(folder)
            (folder / "README.md").write_text(_card(self.get_model_info()), encoding="utf-8")
            if with_metadata:
                write_json(folder / MODEL_INFO, self.get_model_info())
        read_checkpoint(path)

    def _loaded(self) -> PreTrainedModel:
        if self.model is None:
            raise UserError("no model is loaded yet; call load_from_huggingface first")
        return self.model


def check_base(config: Config) -> None:
    """Refuse to start from another base in base_model.output_path than base_model.model_name asks for.

    Raises:
        UserError: the folder holds another one.
    """
    name, revision = config.base_model.model_name, config.base_model.revision
    info_file = config.base_path() / MODEL_INFO
    if not info_file.is_file() or (name == BaseModelConfig.model_name and revision is None):
        return
    held = read_json(info_file)
    if not _is_same(name, held["model_name"]) or revision not in (None, held["revision"]):
        raise UserError(
            f"base_model: {_spelt(name, revision)} is asked for, and {config.base_path()} holds "
            f"{_spelt(held['model_name'], held['revision'])}: make it anew with scripts/base_model.py, or name another "
            "folder with base_model.output_path"
        )


def _is_same(name: str, other: str) -> bool:
    return name == other or (Path(name).is_dir() and Path(other).is_dir() and Path(name).samefile(other))


def _spelt(name: str, revision: str | None) -> str:
    return name if revision is None else f"{name} at revision {revision}"


def _is_base_model(folder: Path) -> bool:
    card = folder / "README.md"
    return (folder / MODEL_INFO).is_file() or (
        card.is_file() and _TITLE in card.read_text(encoding="utf-8", errors="replace")
    )


def _card(info: dict[str, Any]) -> str:
    rows = "\n".join(f"| {key} | {value} |" for key, value in info.items() if value is not None)
    return (
        "---\nlibrary_name: chronos-forecasting\npipeline_tag: time-series-forecasting\n---\n\n"
        f"{_TITLE}{info['model_name']}\n\nA native Chronos checkpoint, as training starts from it.\n\n"
        f"| | |\n|---|---|\n{rows}\n\n"
        "```python\nfrom chronos import BaseChronosPipeline\n\n"
        'pipeline = BaseChronosPipeline.from_pretrained("path/of/this/folder")\n```\n'
    )
