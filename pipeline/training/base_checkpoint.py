"""What training starts from: the base checkpoint, in the shape that is asked for, and with what is to be trained of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config import TrainingConfig, listed
from pipeline.core.files import read_json
from pipeline.data.arrow_store import Store
from pipeline.models.adapt import freeze, reshape, set_context_length, with_adapters
from pipeline.models.checkpoint import MODEL_INFO, Checkpoint
from pipeline.models.cpu import use_cpu_layers
from pipeline.models.load import read_model

_LONGEST_DEFAULT_HORIZON = 64
_HORIZONS_IN_A_SERIES = 4
_LONGEST_DEFAULT_CONTEXT_FROM_SCRATCH = 512


@dataclass(frozen=True)
class BaseCheckpoint:
    """A base checkpoint and how it is to be trained."""

    checkpoint: Checkpoint
    training: TrainingConfig

    @property
    def name(self) -> str:
        """Where the base comes from: a Hub id, a folder, scratch:SIZE or builtin:NAME."""
        return self._info.get("model_name", str(self.checkpoint.path))

    @property
    def on_the_hub(self) -> tuple[str, str] | None:
        """Id and commit of a base that lies on the Hub just as it lies here, None of any other."""
        info = self._info
        as_there = info.get("commit") is not None and info.get("converted") == []
        return (info["model_name"], info["commit"]) if as_there else None

    @property
    def _info(self) -> dict[str, Any]:
        info_file = self.checkpoint.path / MODEL_INFO
        return read_json(info_file) if info_file.is_file() else {}

    @property
    def scratch_size(self) -> str | None:
        """The size of a base that has random weights, None for one that has been trained."""
        return self.name.removeprefix("scratch:") if self.name.startswith("scratch:") else None

    @property
    def supports_blend_cap(self) -> bool:
        """Whether half of the way may be better than all of it where scores disagree: not from random weights, which know
        nothing, and not of token models, whose cross-entropy gains little where WQL and MASE gain much.
        """
        return self.scratch_size is None and self.checkpoint.family in ("bolt", "chronos-2")

    @property
    def context_length(self) -> int:
        """Steps of history in a training window."""
        longest = self.checkpoint.context_length
        if self.scratch_size is not None:
            longest = min(longest, _LONGEST_DEFAULT_CONTEXT_FROM_SCRATCH)
        return self.training.context_length or longest

    def horizon(self, stores: Sequence[Store], test_length: int) -> int:
        """Return the steps of the horizon: those asked for, or the model's own, or fewer where most series are too short."""
        if self.training.prediction_length is not None:
            return self.training.prediction_length
        longest = min(self.checkpoint.prediction_length, _LONGEST_DEFAULT_HORIZON)
        if not stores:
            return longest
        median = int(np.median(np.concatenate([store.lengths - test_length for store in stores])))
        return min(longest, max(1, median // _HORIZONS_IN_A_SERIES))

    def base(self) -> Any:
        """Return the model in the shape that is asked for: what training starts from, and is compared with."""
        model = read_model(self.checkpoint.path).float()
        reshape(
            model,
            self.checkpoint.family,
            context_length=self.training.context_length,
            prediction_length=self.training.prediction_length,
            quantiles=self.training.quantiles,
        )
        if self.scratch_size is not None:
            set_context_length(model, self.context_length)
        return model

    def to_train(self, cpu_layers: bool) -> Any:
        """Return the model with what is to be trained of it, with the layers that are fastest on a CPU where wanted."""
        model = self.base()
        if self.training.method == "lora":
            model = with_adapters(model, self.checkpoint.family, self.training.lora)
        freeze(model, listed(self.training.freeze))
        if cpu_layers:
            use_cpu_layers(model)
        return model
