"""The base model as a class: load it, convert it to a native Chronos checkpoint, save it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import UserError
from pipeline.models.base import BaseModel, convert, describe, load_base, save

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ChronosBaseModel:
    """A Chronos model that becomes a native checkpoint, the start of fine-tuning."""

    def __init__(
        self, model_name: str = "amazon/chronos-bolt-base", *, revision: str | None = None, seed: int = 0
    ) -> None:
        """Choose a model.

        Args:
            model_name: Hub ID, folder, s3:// prefix, `builtin:NAME` or `scratch:SIZE`.
            revision: branch, tag or commit on the Hub.
            seed: of the weights of `scratch:SIZE`.
        """
        self.model_name = model_name
        self.revision = revision
        self.seed = seed
        self._base: BaseModel | None = None

    @property
    def model(self) -> PreTrainedModel | None:
        """The model in memory; None until it is loaded."""
        return None if self._base is None else self._base.model

    def load_from_huggingface(self) -> None:
        """Load the model into memory.

        Raises:
            UserError: the model does not exist, cannot be reached, or is broken.
        """
        self._base = load_base(self.model_name, self.revision, self.seed)

    def convert_to_native_format(self) -> None:
        """Convert the loaded model to a native Chronos checkpoint; see `pipeline.models.base.convert`.

        Raises:
            UserError: no model is loaded.
        """
        self._base = convert(self._loaded())

    def save_base_model(self, output_path: str) -> None:
        """Write the checkpoint, model_info.json and a model card to a folder.

        Raises:
            UserError: no model is loaded, it is not native, or `output_path` contains other files.
        """
        save(self._loaded(), Path(output_path))

    def get_model_info(self) -> dict[str, Any]:
        """Return family, parameters, context, horizon, quantiles, dtype, source and conversions.

        Raises:
            UserError: no model is loaded.
        """
        return describe(self._loaded())

    def _loaded(self) -> BaseModel:
        if self._base is None:
            raise UserError("no model is loaded. Call load_from_huggingface first")
        return self._base
