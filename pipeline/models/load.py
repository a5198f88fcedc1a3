"""Models read from folders, of any family and in any form that Chronos knows."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import UserError, one_line
from pipeline.core.files import read_json
from pipeline.models.checkpoint import Family, family_of, read_checkpoint
from pipeline.models.find import find_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


def conversions_needed(folder: Path) -> list[str]:
    """Return in words what keeps a model folder from being a native checkpoint; nothing where it is one."""
    if (folder / "adapter_config.json").is_file():
        return ["it is an adapter without its base"]
    config = read_json(folder / "config.json")
    family = family_of(config)
    reasons = []
    if family is None:
        reasons.append(f"it is a plain {config.get('model_type')} model without chronos_config")
    for key in ("chronos_pipeline_class", "architectures"):
        if not config.get(key):
            reasons.append(f"config.json has no {key}")
    if not any(folder.glob("*.safetensors")):
        reasons.append("its weights are pickled")
    return reasons


def read_model(folder: str | Path) -> PreTrainedModel:
    """Load the model in a folder by the class that its family asks for, in the precision it was saved with.

    A folder that holds a PEFT adapter gives its base with the adapter merged. Pickled weights are read with
    `weights_only`.

    Raises:
        UserError: the folder holds no model that Chronos knows, or a broken one.
    """
    import pickle

    import safetensors

    folder = Path(folder)
    if (folder / "adapter_config.json").is_file():
        return _merged_adapter(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no config.json, so it is no model")
    config = read_json(folder / "config.json")
    model_class = model_class_of(family_of(config) or config.get("model_type"), folder)
    if any(folder.glob("*.safetensors")) and family_of(config):
        read_checkpoint(folder)
    try:
        loaded: Any = model_class.from_pretrained(folder, dtype="auto", output_loading_info=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, safetensors.SafetensorError) as error:
        raise UserError(f"cannot load the model in {folder}: {one_line(error)}") from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):  # transformers has made up random ones
        raise UserError(
            f"{folder} lacks {len(missing)} of the model's weights, {missing[0]} among them; make or download it anew"
        )
    if left := sorted(report["unexpected_keys"]):
        logger.warning(
            "%s: %d weights that config.json has no place for are left out, such as %s", folder, len(left), left[0]
        )
    if family_of(config) in ("bolt", "chronos-2"):
        # PEFT asks for the input embeddings, which transformers does not find under this name by itself.
        model._input_embed_layer = "shared"
    return model


def model_class_of(kind: Family | str | None, folder: Path) -> type[PreTrainedModel]:
    """Return the class of models of a family, or of a type that transformers knows.

    Raises:
        UserError: Chronos has no models of that type.
    """
    import transformers

    match kind:
        case "t5":
            return transformers.T5ForConditionalGeneration
        case "gpt2":
            return transformers.GPT2LMHeadModel
        case "bolt":
            from chronos.chronos_bolt import ChronosBoltModelForForecasting

            return ChronosBoltModelForForecasting
        case "chronos-2":
            from chronos import Chronos2Model

            return Chronos2Model
    raise UserError(f"{folder} holds a model of type {kind}; Chronos models are T5, GPT-2, Bolt and Chronos-2")


def _merged_adapter(folder: Path) -> PreTrainedModel:
    from peft import PeftModel

    settings = read_json(folder / "adapter_config.json")
    base = settings.get("base_model_name_or_path")
    if not base:
        raise UserError(f"{folder}/adapter_config.json names no base_model_name_or_path; the adapter's base is unknown")
    beside = folder / base
    model = read_model(beside if beside.is_dir() else find_model(base, settings.get("revision")))
    try:
        return PeftModel.from_pretrained(model, folder).merge_and_unload()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"cannot merge the adapter in {folder} into {base}: {one_line(error)}") from error
