"""The base checkpoint of a training run: where it comes from, its shape for the run, and the model that is trained."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config import TrainingConfig, listed
from pipeline.core.files import read_json
from pipeline.data.arrow_store import Store
from pipeline.models.checkpoint import MODEL_INFO, Checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MAX_DEFAULT_HORIZON = 64
"""The published Bolt and T5 models were trained for this horizon."""
_HORIZONS_PER_SERIES = 4
"""The default horizon is at most this fraction of the median series, so that most series have windows and a holdout."""
_MAX_DEFAULT_CONTEXT_FROM_SCRATCH = 512
"""The context of the published T5 models: longer ones make a step of random weights slow and teach little more."""


@dataclass(frozen=True)
class BaseCheckpoint:
    """A base checkpoint and how it is to be trained."""

    checkpoint: Checkpoint
    training: TrainingConfig

    @property
    def name(self) -> str:
        """The source of the base: a Hub id, a folder, scratch:SIZE or builtin:NAME."""
        return self._info.get("model_name", str(self.checkpoint.path))

    @property
    def hub_commit(self) -> tuple[str, str] | None:
        """Id and commit of a base that is on the Hub with the same files; None for any other base."""
        unchanged = self._info.get("commit") is not None and self._info.get("converted") == []
        return (self._info["model_name"], self._info["commit"]) if unchanged else None

    @cached_property
    def _info(self) -> dict[str, Any]:
        info_file = self.checkpoint.path / MODEL_INFO
        return read_json(info_file) if info_file.is_file() else {}

    @property
    def scratch_size(self) -> str | None:
        """The size of a base with random weights; None for a trained one."""
        return self.name.removeprefix("scratch:") if self.name.startswith("scratch:") else None

    @property
    def context_length(self) -> int:
        """Steps of history in a training window."""
        longest = self.checkpoint.context_length
        if self.scratch_size is not None:
            longest = min(longest, _MAX_DEFAULT_CONTEXT_FROM_SCRATCH)
        return self.training.context_length or longest

    def horizon(self, stores: Sequence[Store], test_length: int) -> int:
        """Return the steps of the horizon: the configured ones, or the model's own, or fewer if most series are
        short."""
        if self.training.prediction_length is not None:
            return self.training.prediction_length
        longest = min(self.checkpoint.prediction_length, _MAX_DEFAULT_HORIZON)
        if not stores:
            return longest
        median = int(np.median(np.concatenate([store.lengths - test_length for store in stores])))
        return min(longest, max(1, median // _HORIZONS_PER_SERIES))

    @cached_property
    def model(self) -> PreTrainedModel:
        """The base in the shape of the run, read once. It stays as it is: training starts from a copy.

        Raises:
            UserError: the weights are broken, or the model cannot have the configured shape.
        """
        from pipeline.models.adapt import resize, set_context_length
        from pipeline.models.load import read_model

        model = read_model(self.checkpoint.path).float()
        resize(
            model,
            self.checkpoint.family,
            context_length=self.training.context_length,
            prediction_length=self.training.prediction_length,
            quantiles=self.training.quantiles,
        )
        if self.scratch_size is not None:
            set_context_length(model, self.context_length)
        return model

    def trainable_model(self, seed: int, cpu_layers: bool) -> Any:
        """Return a copy of the base with its adapters or frozen weights, ready to be trained.

        Args:
            seed: seed of the adapters' random weights.
            cpu_layers: whether to use the layers that train fastest on a CPU.

        Raises:
            UserError: no weight is left to train, or a name in training.freeze matches none.
        """
        from transformers import set_seed

        from pipeline.models.adapt import add_adapters, freeze
        from pipeline.models.cpu import use_cpu_layers

        set_seed(seed)
        model = copy.deepcopy(self.model)
        if self.training.method == "lora":
            model = add_adapters(model, self.checkpoint.family, self.training.lora)
        freeze(model, listed(self.training.freeze))
        if cpu_layers:
            use_cpu_layers(model)
        return model
