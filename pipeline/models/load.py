"""Load models of every family, and adapters, from folders."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import UserError, to_one_line
from pipeline.core.files import read_json
from pipeline.core.progress import quiet_transformers
from pipeline.models.checkpoint import Family, model_family, read_checkpoint
from pipeline.models.find import find_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


def conversions_needed(folder: Path) -> list[str]:
    """Return the reasons why a model folder is not a native checkpoint, an empty list if it is one."""
    if (folder / "adapter_config.json").is_file():
        return ["it is an adapter without its base"]
    config = read_json(folder / "config.json")
    reasons = []
    if model_family(config) is None:
        reasons.append(f"it is a plain {config.get('model_type')} model without chronos_config")
    for key in ("chronos_pipeline_class", "architectures"):
        if not config.get(key):
            reasons.append(f"config.json has no {key}")
    if not any(folder.glob("*.safetensors")):
        reasons.append("its weights are pickled")
    return reasons


@quiet_transformers()
def read_model(folder: str | Path) -> PreTrainedModel:
    """Load the model in a folder in the precision that it was saved with.

    A PEFT adapter is merged into its base. Pickled weights are read with `weights_only`, so that they cannot run code.

    Raises:
        UserError: the folder contains no model, a model of an unknown type, or a broken one.
    """
    import pickle

    import safetensors

    folder = Path(folder)
    if (folder / "adapter_config.json").is_file():
        return _read_adapter(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has no config.json and is not a model. Choose another folder")
    config = read_json(folder / "config.json")
    family = model_family(config)
    load = model_class(family or config.get("model_type"), folder).from_pretrained
    if family and any(folder.glob("*.safetensors")):
        read_checkpoint(folder)
    try:
        loaded: Any = load(folder, dtype="auto", output_loading_info=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, safetensors.SafetensorError) as error:
        raise UserError(
            f"cannot load the model in {folder}: {to_one_line(error)}. Create or download it again"
        ) from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):  # transformers has filled them with random values
        raise UserError(
            f"{folder} lacks {len(missing)} of the model's weights, for example {missing[0]}. "
            "Create or download it again"
        )
    if unexpected := sorted(report["unexpected_keys"]):
        logger.warning(
            "%s: ignored %d weights that the model of config.json does not have, for example %s",
            folder, len(unexpected), unexpected[0],
        )  # fmt: skip
    if family in ("bolt", "chronos-2"):
        # PEFT asks for the input embeddings, and transformers does not find them under this name.
        model._input_embed_layer = "shared"
    return model


def model_class(family: Family | str | None, folder: Path) -> type[PreTrainedModel]:
    """Return the model class of a family, or of a model type of transformers.

    Args:
        family: the family, or `model_type` of config.json.
        folder: for the error message.

    Raises:
        UserError: Chronos has no models of that type.
    """
    import transformers

    match family:
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
    raise UserError(f"{folder}/config.json: model_type is {family}. Choose a T5, GPT-2, Bolt or Chronos-2 model")


def _read_adapter(folder: Path) -> PreTrainedModel:
    """Return the base of an adapter with the adapter merged."""
    from peft import PeftModel, get_peft_model_state_dict, load_peft_weights

    settings = read_json(folder / "adapter_config.json")
    base = settings.get("base_model_name_or_path")
    if not base:
        raise UserError(f"{folder}/adapter_config.json: base_model_name_or_path is empty. Enter the adapter's base")
    relative = folder / base
    model = read_model(relative if relative.is_dir() else find_model(base, settings.get("revision")))
    try:
        adapted = PeftModel.from_pretrained(model, folder)
        stored, expected = load_peft_weights(str(folder)).keys(), get_peft_model_state_dict(adapted).keys()
        if stored != expected:
            raise UserError(
                f"the adapter in {folder} does not fit {base}: {len(expected - stored)} of its {len(expected)} weights "
                f"are missing, and {len(stored - expected)} are of another model. Correct base_model_name_or_path in "
                "its adapter_config.json"
            )
        return adapted.merge_and_unload()
    except UserError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"cannot merge the adapter in {folder} into {base}: {to_one_line(error)}. "
            "Check base_model_name_or_path in its adapter_config.json"
        ) from error
