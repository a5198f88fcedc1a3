"""Read native checkpoint folders without torch: family, context, horizon, and whether the weights are complete."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.core.errors import UserError
from pipeline.core.files import fingerprint, read_json
from pipeline.data.column_formats import ColumnFormats

Family = Literal["t5", "gpt2", "bolt", "chronos-2"]

PIPELINE_CLASSES: dict[Family, str] = {
    "t5": "ChronosPipeline",
    "gpt2": "ChronosPipeline",
    "bolt": "ChronosBoltPipeline",
    "chronos-2": "Chronos2Pipeline",
}
"""The class of chronos-forecasting that loads a family."""
STOCK_LEVELS: dict[Family, tuple[float, ...]] = {
    "bolt": (0.5,),
    "chronos-2": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
}
"""Quantile levels that the pipeline of chronos-forecasting reads by default: its forecasts fail without them."""
MODEL_INFO, TRAINING_INFO = "model_info.json", "training_info.json"
_REMEMBERED = (
    *("id_column", "timestamp_column", "timestamp_format", "target", "past_covariates", "known_covariates", "wide"),
    *("decimal", "missing_values", "fill_missing", "duplicates", "skip_rows", "encoding", "sheet"),
)
"""Keys of the section data that later tables of the same series share."""


@dataclass(frozen=True)
class Checkpoint:
    """A native checkpoint folder and its config.json."""

    path: Path
    family: Family
    config: dict[str, Any]

    @property
    def width(self) -> int:
        """Length of a token's vector inside the model, d_model."""
        return self.config["n_embd" if self.family == "gpt2" else "d_model"]

    @property
    def context_length(self) -> int:
        """Maximum number of history steps that the model reads."""
        return self.config["chronos_config"]["context_length"]

    @property
    def prediction_length(self) -> int:
        """Number of steps that the model forecasts in one pass."""
        return model_horizon(self.config)

    @property
    def quantiles(self) -> list[float] | None:
        """Quantile levels that the model forecasts; None for a token model, which samples."""
        return self.config["chronos_config"].get("quantiles")


def model_horizon(config: dict[str, Any]) -> int:
    """Return the number of steps that a model of this configuration forecasts in one pass."""
    chronos = config["chronos_config"]
    if "prediction_length" in chronos:
        return chronos["prediction_length"]
    return chronos.get("max_output_patches", 1) * chronos["output_patch_size"]


def model_family(config: dict[str, Any]) -> Family | None:
    """Return the family of a model configuration, None if it is not a Chronos model."""
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
    """Read the configuration of a checkpoint folder and check that its weight files are complete.

    Raises:
        UserError: the folder is missing, contains no Chronos model, or is incomplete.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(
            f"no checkpoint folder {path}. Create it with chronos-native base or train, or name another folder"
        )
    if not (path / "config.json").is_file():
        raise UserError(
            f"{path} has no config.json and is not a checkpoint. If a training run was interrupted, continue it with "
            "chronos-native train"
        )
    config = read_json(path / "config.json")
    family = model_family(config)
    if family is None:
        raise UserError(
            f"{path}/config.json has no valid chronos_config: it is not a Chronos model. Convert it with "
            "chronos-native base"
        )
    pipeline_class = config.get("chronos_pipeline_class", PIPELINE_CLASSES[family])
    if pipeline_class != PIPELINE_CLASSES[family]:
        raise UserError(
            f"{path}/config.json: chronos_pipeline_class is {pipeline_class}, but its chronos_config is of "
            f"{PIPELINE_CLASSES[family]}. Correct one of the two"
        )
    for file in weight_files(path):
        check_safetensors(file)
    return Checkpoint(path, family, config)


def weight_files(path: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint folder.

    Raises:
        UserError: there is none, or a file of the index is missing.
    """
    index = path / "model.safetensors.index.json"
    names = sorted(set(read_json(index)["weight_map"].values())) if index.is_file() else ["model.safetensors"]
    for name in names:
        if not (path / name).is_file():
            raise UserError(f"{path} has no {name}: the checkpoint is incomplete. Create or download it again")
    return [path / name for name in names]


def weights_fingerprint(path: Path) -> str:
    """Return a hash of the weights and the configuration of a checkpoint folder."""
    return fingerprint([*weight_files(path), path / "config.json"])


def check_safetensors(path: Path) -> None:
    """Check that the size of a safetensors file matches its header.

    Raises:
        UserError: the file is truncated or not a safetensors file.
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
            raise ValueError(f"{size} bytes instead of {8 + header_size + end}")
    except (struct.error, ValueError, KeyError) as error:
        raise UserError(
            f"{path} is not a complete safetensors file ({error}). Create or download the checkpoint again"
        ) from error


def read_formats(model: str | Path | None) -> ColumnFormats:
    """Return the formats of the columns that a model was trained on, none for a model without training_info.json."""
    fields = read_training_info(model).get("formats") if model is not None else None
    return ColumnFormats.from_dict(fields) if fields else ColumnFormats()


def read_training_info(model: str | Path) -> dict[str, Any]:
    """Return training_info.json of a checkpoint that this pipeline trained, an empty dictionary for any other model."""
    file = Path(model, TRAINING_INFO)
    return read_json(file) if file.is_file() else {}


def remembered_keys(model: str | Path) -> dict[str, Any]:
    """Return the keys of the configuration that a model remembers from its training: columns, horizon and levels.

    Returns:
        values by dotted key, none for a model without training_info.json.
    """
    info = read_training_info(model)
    if not info:
        return {}
    data, training = info["config"]["data"], info["config"]["training"]
    keys = {f"data.{name}": data[name] for name in _REMEMBERED if name in data}
    if training["quantiles"] is not None:
        keys["inference.quantiles"] = training["quantiles"]
    return keys | {"inference.prediction_length": info.get("horizon")}
