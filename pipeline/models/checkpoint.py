"""Read native checkpoint folders without torch: family, context, horizon, and whether the weights are complete."""

import os
import struct
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pipeline.config import Config
from pipeline.core.errors import UserError
from pipeline.core.files import fingerprint
from pipeline.data.column_formats import ColumnFormats
from pipeline.models import model_schema, training_schema
from pipeline.models.json_objects import parse_object, read_object

Family = Literal["t5", "gpt2", "bolt", "chronos-2"]

_MAX_HEADER = 100_000_000
"""Bytes of the longest header that safetensors reads."""
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
GRAPH, EXPORT_INFO = "model.onnx", "onnx.json"
"""The weights of an exported model, and their description."""
_SCHEMAS: dict[Family, type[model_schema.ModelKeys]] = {
    "t5": model_schema.T5Model,
    "gpt2": model_schema.GPT2Model,
    "bolt": model_schema.BoltModel,
    "chronos-2": model_schema.Chronos2Model,
}


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


def is_adapter(folder: Path) -> bool:
    """Return whether a folder contains a PEFT adapter."""
    return os.path.lexists(folder / "adapter_config.json")


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the configuration of a checkpoint folder, and check its JSON and that its weight files are complete.

    Raises:
        UserError: the folder is missing, contains no Chronos model, is incomplete, or has a wrong value.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(
            f"no checkpoint folder {path}. Create it with chronos-native base or train, or name another folder"
        )
    if not os.path.lexists(path / "config.json") and is_adapter(path):
        raise UserError(
            f"{path} has a low-rank adapter; merge it into its base with chronos-native base {path} --output FOLDER"
        )
    if not os.path.lexists(path / "config.json"):
        raise UserError(
            f"{path} has no config.json and is not a checkpoint. If a training run was interrupted, continue it with "
            "chronos-native train"
        )
    config = read_config(path)
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
    if os.path.lexists(generation := path / "generation_config.json"):
        read_object(generation, model_schema.T5GenerationKeys if family == "t5" else model_schema.GenerationKeys)
    read_model_info(path)
    for file in weight_files(path):
        if file.name != GRAPH:
            check_safetensors(file)
    return Checkpoint(path, family, config)


def read_config(path: Path) -> dict[str, Any]:
    """Return config.json of a model folder, of a Chronos model or a language model.

    Raises:
        UserError: it is missing, or a value is wrong.
    """

    def choose_schema(config: dict[str, Any]) -> type[model_schema.ModelKeys]:
        family = model_family(config)
        if family is None and "chronos_config" in config:
            raise UserError(
                f"{path}/config.json: chronos_config is of no known family of Chronos models. Correct it, create or "
                "download the checkpoint again, or update chronos-native if it is of a newer release"
            )
        return model_schema.ModelKeys if family is None else _SCHEMAS[family]

    return read_object(path / "config.json", choose_schema)[0]


def read_model_info(path: Path) -> model_schema.ModelInfo | None:
    """Return model_info.json of a checkpoint folder, None if there is none.

    Raises:
        UserError: a value is wrong.
    """
    return read_object(path / MODEL_INFO, model_schema.ModelInfo)[1] if os.path.lexists(path / MODEL_INFO) else None


def weight_files(path: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint folder, which transformers loads, or the graph of an exported model.

    Raises:
        UserError: there is none, or the index names a missing file, or one that is not in the folder.
    """
    if is_export(path):
        return [path / GRAPH]
    index = path / "model.safetensors.index.json"
    if os.path.lexists(path / "model.safetensors") or not os.path.lexists(index):
        names = ["model.safetensors"]
    else:
        names = sorted(set(read_object(index, model_schema.WeightIndex)[1].weight_map.values()))
    # The cache of the Hub has the files of a model in a folder for all its revisions.
    homes = (path.resolve(), path.resolve().parent.parent / "blobs")
    for name in names:
        file = path / name
        if not file.is_file():
            raise UserError(f"{path} has no {name}: the checkpoint is incomplete. Create or download it again")
        if len(names) > 1 and file.resolve().parent not in homes:
            raise UserError(f"{file} is a link to a file outside the checkpoint. Copy the file there")
    return [path / name for name in names]


def is_export(path: Path) -> bool:
    """Return whether a folder contains a model that was exported to ONNX."""
    return (path / GRAPH).is_file() and (path / EXPORT_INFO).is_file()


def weights_fingerprint(path: Path) -> str:
    """Return a hash of the weights and the configuration of a checkpoint folder."""
    return fingerprint([*weight_files(path), path / "config.json"])


def check_safetensors(path: Path) -> None:
    """Check the header of a safetensors file, and that the size of the file matches it.

    Raises:
        UserError: the file is truncated or not a safetensors file.
    """
    size = path.stat().st_size
    advice = "Create or download the checkpoint again"
    with open(path, "rb") as file:
        start = file.read(8)
        header_size = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if header_size > min(size, _MAX_HEADER):
            raise UserError(f"{path} is not a complete safetensors file: it has no header. {advice}")
        header, tensors = parse_object(f"the header of {path}", file.read(header_size), model_schema.Header)
    needed = 8 + header_size + max((tensor.data_offsets[1] for tensor in tensors.by_name().values()), default=0)
    if needed != size:
        raise UserError(f"{path} has {size} bytes instead of {needed}. {advice}")


def read_formats(model: str | Path | None) -> ColumnFormats:
    """Return the formats of the columns that a model was trained on, none for a model without training_info.json."""
    fields = read_training_info(model).get("formats") if model is not None else None
    return ColumnFormats.from_dict(fields) if fields else ColumnFormats()


def read_training_info(model: str | Path) -> dict[str, Any]:
    """Return training_info.json of a checkpoint that this pipeline trained, an empty dictionary for any other model.

    Raises:
        UserError: a value is wrong.
    """
    return training_info(model)[0]


def training_info(model: str | Path) -> tuple[dict[str, Any], training_schema.TrainingInfo]:
    """Return training_info.json as `read_training_info` does, and the same as checked values."""
    file = _find_training_info(str(model))
    return (
        read_object(file, training_schema.TrainingInfo)
        if os.path.lexists(file)
        else ({}, training_schema.TrainingInfo())
    )


def is_hub_name(model: str) -> bool:
    """Return whether a name that is no folder on this machine may be a Hub ID of the form owner/name."""
    return model.count("/") == 1 and not model.startswith((".", "/", "~")) and not Path(model).exists()


def _find_training_info(model: str) -> Path:
    """Return the path of training_info.json, which is downloaded for a Hub ID; it may not exist."""
    if is_hub_name(model):
        with suppress(Exception):  # if the model cannot be reached, loading its weights says so
            return Path(_download_training_info(model), TRAINING_INFO)
    return Path(model, TRAINING_INFO)


@lru_cache
def _download_training_info(name: str) -> str:
    """Return the local folder of training_info.json, if there is one, of a model on the Hub. It asks the Hub once."""
    from huggingface_hub import snapshot_download  # unlike hf_hub_download, it does not retry without a network

    return snapshot_download(name, allow_patterns=[TRAINING_INFO])


def remembered_keys(model: str | Path, of_training: bool = False, horizon: bool = True) -> dict[str, Any]:
    """Return the keys of the configuration that a model remembers from its training: columns, horizon and levels.

    Args:
        of_training: also the keys of a training that goes on from the model.
        horizon: whether to return the horizon, and the test steps that depend on it.

    Returns:
        values by dotted key, none for a model without training_info.json.

    Raises:
        UserError: training_info.json has a wrong value or no configuration.
    """
    content, info = training_info(model)
    if not content:
        return {}
    if info.config is None:
        raise UserError(f"{Path(model, TRAINING_INFO)} has no config. Download the checkpoint again, or train it again")
    keys = {f"data.{name}": value for name, value in info.config.data.model_dump(exclude_unset=True).items()}
    if info.config.training.quantiles is not None:
        keys["inference.quantiles"] = info.config.training.quantiles
        keys |= {"training.quantiles": info.config.training.quantiles} if of_training else {}
    together = info.config.inference
    if together is not None and (together.cross_learning or keys.get("data.group_column")):
        # Forecasts of series that see each other depend on both.
        keys |= {"inference.cross_learning": together.cross_learning, "inference.batch_size": together.batch_size}
    if of_training and horizon and info.identity is not None:
        keys |= {"training.prediction_length": info.horizon, "data.test_length": info.identity.test_length}
    return keys | ({"inference.prediction_length": info.horizon} if horizon else {})


def remembered_config(model: str | Path) -> Config:
    """Return the configuration with the columns, the horizon and the levels that a model was trained with."""
    sections: dict[str, dict[str, Any]] = {}
    for key, value in remembered_keys(model).items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    config = Config()
    return replace(config, **{name: replace(getattr(config, name), **values) for name, values in sections.items()})
