"""Load models of every family, and adapters, from folders."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import UserError, first_few, to_one_line
from pipeline.core.progress import quiet_transformers
from pipeline.models import model_schema
from pipeline.models.checkpoint import Family, is_adapter, is_export, model_family, read_checkpoint, read_config
from pipeline.models.find import find_model
from pipeline.models.json_objects import read_object

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_MAX_REASON = 200
"""Characters of another library's message, which may contain a value of any length."""


def conversions_needed(folder: Path) -> list[str]:
    """Return the reasons why a model folder is not a native checkpoint, an empty list if it is one."""
    if is_adapter(folder):
        return ["it is an adapter without its base"]
    config = read_config(folder)
    reasons = []
    if model_family(config) is None:
        reasons.append(f"it is a plain {config['model_type']} model without chronos_config")
    for key in ("chronos_pipeline_class", "architectures"):
        if not config.get(key):
            reasons.append(f"config.json has no {key}")
    if not any(folder.glob("*.safetensors")):
        reasons.append("its weights are pickled")
    return reasons


@quiet_transformers()
def read_model(folder: str | Path) -> PreTrainedModel:
    """Load the model in a folder in the precision that it was saved with. Every command loads models here.

    A PEFT adapter is merged into its base. Pickled weights are read with `weights_only`, so that they cannot run code.

    Raises:
        UserError: the folder contains no model, a model of an unknown type, or a broken one: a value of its JSON is
            wrong, or its weights and its configuration do not have the same tensors of the same shapes.
    """
    folder = Path(folder)
    if is_export(folder):
        raise UserError(f"{folder} is an exported model, which only forecasts. Name the checkpoint")
    if is_adapter(folder):
        return _read_adapter(folder)
    if not os.path.lexists(folder / "config.json"):
        raise UserError(f"{folder} has no config.json and is not a model. Choose another folder")
    config = read_config(folder)
    family = model_family(config)
    if family and any(folder.glob("*.safetensors")):
        read_checkpoint(folder)
    for index in folder.glob("*.index.json"):
        read_object(index, model_schema.WeightIndex)
    model_type = model_class(family or config["model_type"], folder)
    # Bolt lets its patch embeddings be missing, and fills them with random values.
    model_type._keys_to_ignore_on_load_missing = None
    load: Any = partial(model_type.from_pretrained, folder, dtype="auto", output_loading_info=True)
    with _one_line_errors(f"cannot load the model in {folder}", "Create or download it again"):
        # First on the device meta, where tensors have no values: a wrong size takes no memory.
        _check_tensors(folder, load(device_map="meta", ignore_mismatched_sizes=True)[1])
        model = load()[0]
    if family in ("bolt", "chronos-2"):
        # PEFT asks for the input embeddings, and transformers does not find them under this name.
        model._input_embed_layer = "shared"
    return model


def _check_tensors(folder: Path, report: dict[str, set[Any]]) -> None:
    """Refuse weights that are not exactly those of the configuration, apart from those that transformers drops.

    Raises:
        UserError: tensors are missing, unexpected or of another shape.
    """
    shapes = [
        f"{name} ({list(stored)} instead of {list(needed)})" for name, stored, needed in report["mismatched_keys"]
    ]
    faults = {
        "lacks": report["missing_keys"],
        "has unexpected": report["unexpected_keys"],
        "has misshapen": shapes,
    }
    if texts := [f"{verb} {len(names)}: {first_few(sorted(names), 3)}" for verb, names in faults.items() if names]:
        raise UserError(
            f"the weights in {folder} are not those of its config.json. Of the tensors it {'; it '.join(texts)}. "
            "Create or download it again"
        )


@contextmanager
def _one_line_errors(problem: str, advice: str) -> Iterator[None]:
    """Raise a UserError for any error of the block: a foreign checkpoint can set off every kind in the libraries."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {to_one_line(error)}"[:_MAX_REASON]
        raise UserError(f"{problem}: {reason}. {advice}") from error


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

    _, settings = read_object(folder / "adapter_config.json", model_schema.AdapterKeys)
    base = settings.base_model_name_or_path
    advice = "Correct base_model_name_or_path in its adapter_config.json"
    with _one_line_errors(f"cannot merge the adapter in {folder} into {base}", advice):
        base_folder = folder / base if (folder / base).is_dir() else find_model(base, settings.revision)
        if is_adapter(base_folder):
            raise UserError(f"the base of the adapter in {folder} is an adapter itself, {base}. {advice}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on missing weights, which are counted below
            adapted = PeftModel.from_pretrained(read_model(base_folder), folder)
        stored, expected = load_peft_weights(str(folder)).keys(), get_peft_model_state_dict(adapted).keys()
        if stored != expected:
            raise UserError(
                f"the adapter in {folder} does not fit {base}: {len(expected - stored)} of its {len(expected)} weights "
                f"are missing, and {len(stored - expected)} are of another model. {advice}"
            )
        return adapted.merge_and_unload()
