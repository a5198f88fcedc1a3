"""The native checkpoint on disk: which family it is, what it forecasts, and whether it is whole. No torch needed."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.core.errors import UserError
from pipeline.core.files import read_json

Family = Literal["t5", "gpt2", "bolt", "chronos-2"]

PIPELINE_CLASSES: dict[Family, str] = {
    "t5": "ChronosPipeline",
    "gpt2": "ChronosPipeline",
    "bolt": "ChronosBoltPipeline",
    "chronos-2": "Chronos2Pipeline",
}
STOCK_LEVELS: dict[Family, tuple[float, ...]] = {
    "bolt": (0.5,),
    "chronos-2": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
}
"""Quantile levels without which a stock pipeline of the family does not forecast, unless others are named."""
MODEL_INFO, TRAINING_INFO = "model_info.json", "training_info.json"


@dataclass(frozen=True)
class Checkpoint:
    """What config.json of a native checkpoint says."""

    path: Path
    family: Family
    config: dict[str, Any]

    @property
    def width(self) -> int:
        """d_model: how many numbers a token is inside the model."""
        return self.config["n_embd" if self.family == "gpt2" else "d_model"]

    @property
    def context_length(self) -> int:
        """Steps of history that the model takes at most."""
        return self.config["chronos_config"]["context_length"]

    @property
    def prediction_length(self) -> int:
        """Steps that the model forecasts in one go."""
        return horizon_of(self.config)

    @property
    def quantiles(self) -> list[float] | None:
        """Quantile levels that the model was trained on; None for a token model, which samples."""
        return self.config["chronos_config"].get("quantiles")


def horizon_of(config: dict[str, Any]) -> int:
    """Return the steps that a model of this configuration forecasts in one go."""
    chronos = config["chronos_config"]
    if "prediction_length" in chronos:
        return chronos["prediction_length"]
    return chronos.get("max_output_patches", 1) * chronos["output_patch_size"]


def family_of(config: dict[str, Any]) -> Family | None:
    """Return the family that a model's configuration belongs to, None where it is no Chronos model."""
    chronos = config.get("chronos_config")
    if not isinstance(chronos, dict):
        return None
    if "output_patch_size" in chronos:
        return "chronos-2"
    if "input_patch_size" in chronos:
        return "bolt"
    if "tokenizer_class" in chronos:
        return "gpt2" if chronos.get("model_type") == "causal" else "t5"
    return None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the configuration of a checkpoint folder and check that its weights are whole.

    Raises:
        UserError: the folder is missing, holds no Chronos model, or was not written to its end.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"no checkpoint folder {path}; make it with scripts/base_model.py or scripts/train.py")
    if not (path / "config.json").is_file():
        raise UserError(
            f"{path} holds no config.json, so it is no checkpoint; an unfinished run is continued by train.py"
        )
    config = read_json(path / "config.json")
    family = family_of(config)
    if family is None:
        raise UserError(
            f"{path} is no Chronos model: its config.json has no chronos_config; convert it with base_model.py"
        )
    if config.get("chronos_pipeline_class", PIPELINE_CLASSES[family]) != PIPELINE_CLASSES[family]:
        raise UserError(
            f"{path}: chronos_pipeline_class {config['chronos_pipeline_class']} does not fit its chronos_config"
        )
    for file in weight_files(path):
        check_safetensors(file)
    return Checkpoint(path, family, config)


def weight_files(path: Path) -> list[Path]:
    """Return the safetensors files that a checkpoint folder consists of.

    Raises:
        UserError: there is none, or one that the index names is missing.
    """
    index = path / "model.safetensors.index.json"
    names = sorted(set(read_json(index)["weight_map"].values())) if index.is_file() else ["model.safetensors"]
    for name in names:
        if not (path / name).is_file():
            raise UserError(f"{path} holds no {name}; the checkpoint is half-written: make or download it anew")
    return [path / name for name in names]


def check_safetensors(path: Path) -> None:
    """Refuse a safetensors file whose size is not what its header says.

    Raises:
        UserError: the file is cut short or no safetensors file.
    """
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            (header_size,) = struct.unpack("<Q", file.read(8))
            if header_size > size:
                raise ValueError("header longer than the file")
            header = json.loads(file.read(header_size))
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        if 8 + header_size + end != size:
            raise ValueError(f"{size} bytes where {8 + header_size + end} belong")
    except (struct.error, ValueError, KeyError) as error:
        raise UserError(
            f"{path} is no whole safetensors file ({error}); make or download the checkpoint anew"
        ) from error


def training_info(model: str | Path) -> dict[str, Any]:
    """Return what a checkpoint that was trained here says of its training; nothing for any other model."""
    file = Path(model, TRAINING_INFO)
    return read_json(file) if file.is_file() else {}
