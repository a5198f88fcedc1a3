"""The model that training starts from: found anywhere, turned into a native Chronos checkpoint, saved with what it is."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import __version__
from pipeline.builtin import PREFIX, builtin_folder, builtin_names
from pipeline.checkpoint import MODEL_INFO, PIPELINE_CLASSES, Family, family_of, horizon_of, read_checkpoint
from pipeline.errors import UserError, one_line
from pipeline.files import read_json, whole_folder, write_json

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_TITLE = "# Base model: "
logger = logging.getLogger(__name__)

# d_model, d_ff, layers, heads: the published sizes, a nano for tests and demos, and a micro that a laptop can pretrain.
_T5_SIZES = {
    "nano": (64, 256, 2, 4),
    "micro": (128, 512, 4, 4),
    "tiny": (256, 1024, 4, 4),
    "mini": (384, 1536, 4, 8),
    "small": (512, 2048, 6, 8),
    "base": (768, 3072, 12, 12),
    "large": (1024, 4096, 24, 16),
}
SCRATCH_SIZES = (
    *(f"t5-{size}" for size in _T5_SIZES),
    "gpt2-nano",
    "gpt2",
    *(f"bolt-{size}" for size in _T5_SIZES if size != "large"),
    "chronos-2-nano",
    "chronos-2",
)
_TOKENS: dict[str, Any] = {
    "tokenizer_class": "MeanScaleUniformBins",
    "tokenizer_kwargs": {"low_limit": -15.0, "high_limit": 15.0},
    "context_length": 512,
    "prediction_length": 64,
    "n_tokens": 4096,
    "n_special_tokens": 2,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "use_eos_token": True,
    "num_samples": 20,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
}
_BOLT: dict[str, Any] = {
    "context_length": 2048,
    "prediction_length": 64,
    "input_patch_size": 16,
    "input_patch_stride": 16,
    "quantiles": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    "use_reg_token": True,
}
_CHRONOS_2: dict[str, Any] = {
    "context_length": 8192,
    "input_patch_size": 16,
    "input_patch_stride": 16,
    "output_patch_size": 16,
    "max_output_patches": 64,
    "quantiles": [0.01, *(round(0.05 * k, 2) for k in range(1, 20)), 0.99],
    "time_encoding_scale": 8192,
    "use_arcsinh": True,
    "use_reg_token": True,
}


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
        self._not_native: list[str] = []
        self._commit: str | None = None

    def load_from_huggingface(self) -> None:
        """Bring the model into memory, from wherever `model_name` says.

        Raises:
            UserError: there is no such model, it cannot be reached, or it is broken.
        """
        elsewhere = self.model_name.startswith(("scratch:", PREFIX, "s3://")) or Path(self.model_name).is_dir()
        if self.revision is not None and elsewhere:
            raise UserError(
                f"base_model.revision: {self.model_name} has no revisions, only a repository on the Hub has; leave it out"
            )
        if self.model_name.startswith("scratch:"):
            self.model = scratch_model(self.model_name.removeprefix("scratch:"), self.seed)
            return
        folder = locate_model(self.model_name, self.revision)
        self._commit = folder.name if folder.parent.name == "snapshots" else None
        self._not_native = not_native(folder)
        self.model = load_model(folder)

    def convert_to_native_format(self) -> None:
        """Turn the loaded model into a native Chronos checkpoint; one that is native already stays as it is.

        Pickled weights become safetensors, a plain T5 or GPT-2 language model a Chronos token model with random new
        embeddings, missing `chronos_pipeline_class` and `architectures` are filled in, an adapter is merged.
        """
        model = self._loaded()
        config = model.config
        if family_of(config.to_dict()) is None:
            _become_token_model(model)
        family = family_of(config.to_dict())
        assert family is not None
        config.chronos_pipeline_class = PIPELINE_CLASSES[family]
        config.architectures = [type(model).__name__]
        for change in self._not_native:
            logger.info("converted %s: %s", self.model_name, change)
        self._not_native = []

    def save_base_model(self, output_path: str) -> None:
        """Write the checkpoint with its model_info.json and a model card, whole or not at all.

        Raises:
            UserError: the model is not native yet, or `output_path` holds something else.
        """
        self._save(Path(output_path), with_metadata=True)

    def get_model_info(self) -> dict:
        """Return what the model is: family, parameters, context, horizon, quantiles, dtype, source, revision."""
        model = self._loaded()
        config = model.config.to_dict()
        family = family_of(config)
        chronos = config.get("chronos_config") or {}
        return {
            "model_name": self.model_name,
            "revision": self.revision,
            "commit": self._commit,
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
        if self._not_native:
            raise UserError(
                f"{self.model_name} is no native checkpoint ({'; '.join(self._not_native)}); "
                "let it be converted with base_model.convert_format true"
            )
        if not with_metadata and self.model_name.startswith("scratch:"):
            raise UserError(
                f"base_model.save_metadata false: without model_info.json training would take {self.model_name} for a model "
                "that has been trained; leave it true for random weights"
            )
        if path.is_dir() and any(path.iterdir()) and not _is_base_model(path):
            raise UserError(f"{path} is not empty and holds no base model of this pipeline; choose another output_path")
        with whole_folder(path) as folder:
            model.save_pretrained(folder)
            (folder / "README.md").write_text(_card(self.get_model_info()), encoding="utf-8")
            if with_metadata:
                write_json(folder / MODEL_INFO, self.get_model_info())
        read_checkpoint(path)

    def _loaded(self) -> PreTrainedModel:
        if self.model is None:
            raise UserError("no model is loaded yet; call load_from_huggingface first")
        return self.model


def locate_model(model_name: str, revision: str | None = None) -> Path:
    """Return the local folder of a model: one inside the package, the folder itself, or the cached copy of an s3:// prefix
    or a Hub repository.

    Raises:
        UserError: nothing is there, or it cannot be reached and is not in the cache.
    """
    if model_name.startswith(PREFIX):
        return builtin_folder(model_name)
    if Path(model_name).is_dir():
        return Path(model_name)
    if model_name.startswith("s3://"):
        return _from_s3(model_name)
    if model_name.count("/") != 1 or model_name.startswith((".", "/", "~")):
        raise UserError(f"base_model.model_name: no folder {model_name}, and it is no Hub id of the form owner/name")
    return _from_hub(model_name, revision)


def _from_s3(prefix: str) -> Path:
    try:
        from chronos.boto_utils import cache_model_from_s3

        return Path(cache_model_from_s3(prefix, force_download=False))
    except ImportError as error:
        raise UserError("loading from s3:// needs boto3; install it with: pip install boto3") from error
    except Exception as error:  # botocore's errors, without importing it
        raise UserError(f"cannot load {prefix}: {one_line(error)}") from error


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import errors, snapshot_download

    at = f" at revision {revision}" if revision else ""
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.safetensors"]))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.bin"]))
        return folder
    except errors.GatedRepoError as error:
        raise UserError(f"{name} is gated; ask for access on its page and log in with: hf auth login") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{name} has no revision {revision}; mend base_model.revision") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"no model {name} on the Hub, or it is private; mend base_model.model_name or log in"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise UserError(
            f"{name}{at} is not in the cache and the Hub cannot be reached; "
            f"check the network and HF_ENDPOINT, or start from a local folder or from {' or '.join(builtin_names())}, inside"
        ) from error
    except Exception as error:  # the errors of the client's HTTP library, which differs between its versions
        raise UserError(f"cannot download {name}{at}: {one_line(error)}; try again") from error


def not_native(folder: Path) -> list[str]:
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


def load_model(folder: str | Path) -> PreTrainedModel:
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
    model_class = _model_class(family_of(config) or config.get("model_type"), folder)
    if any(folder.glob("*.safetensors")) and family_of(config):
        read_checkpoint(folder)
    try:
        model = model_class.from_pretrained(folder, dtype="auto")
        if family_of(config) in ("bolt", "chronos-2"):
            # PEFT asks for the input embeddings, which transformers does not find under this name by itself.
            model._input_embed_layer = "shared"
        return model
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, safetensors.SafetensorError) as error:
        raise UserError(f"cannot load the model in {folder}: {one_line(error)}") from error


def _model_class(kind: Family | str | None, folder: Path) -> type[PreTrainedModel]:
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

    base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    if not base:
        raise UserError(f"{folder}/adapter_config.json names no base_model_name_or_path; the adapter's base is unknown")
    beside = folder / base
    model = load_model(beside if beside.is_dir() else locate_model(base))
    try:
        return PeftModel.from_pretrained(model, folder).merge_and_unload()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"cannot merge the adapter in {folder} into {base}: {one_line(error)}") from error


def _become_token_model(model: PreTrainedModel) -> None:
    """Give a T5 or GPT-2 language model the vocabulary and the special tokens of a Chronos token model."""
    chronos = dict(_TOKENS, model_type="seq2seq" if model.config.is_encoder_decoder else "causal")
    longest = getattr(model.config, "n_positions", None)
    if chronos["model_type"] == "causal" and longest <= chronos["context_length"] + chronos["prediction_length"]:
        raise UserError(f"the model has room for {longest} tokens; a context of 512 and a horizon of 64 need 577")
    model.resize_token_embeddings(chronos["n_tokens"], mean_resizing=False)
    for config in (model.config, model.generation_config):
        config.pad_token_id, config.eos_token_id = chronos["pad_token_id"], chronos["eos_token_id"]
        config.bos_token_id = None
        if model.config.is_encoder_decoder:
            config.decoder_start_token_id = chronos["pad_token_id"]
    model.config.chronos_config = chronos


def scratch_model(size: str, seed: int) -> PreTrainedModel:
    """Return a model of a published size, or a nano one, with random weights that follow from the seed.

    Raises:
        UserError: there is no such size.
    """
    if size not in SCRATCH_SIZES:
        raise UserError(f"base_model.model_name: no size scratch:{size}; known are {', '.join(SCRATCH_SIZES)}")
    import torch
    import transformers

    config = _scratch_config(size)
    kind = family_of(config.to_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _model_class(kind, Path(size))(config)
    model.config.architectures = [type(model).__name__]
    if kind in ("t5", "gpt2"):
        model.generation_config = transformers.GenerationConfig.from_model_config(model.config)
    return model


def _scratch_config(size: str) -> PretrainedConfig:
    import transformers
    from chronos.chronos2.config import Chronos2CoreConfig

    family, _, scale = size.rpartition("-")
    if size.startswith("gpt2"):
        shape: dict[str, Any] = {"n_embd": 64, "n_layer": 2, "n_head": 4} if scale == "nano" else {}
        causal = {"vocab_size": _TOKENS["n_tokens"], "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
        chronos = dict(_TOKENS, model_type="causal")
        return transformers.GPT2Config(**shape, **causal, **_chronos_keys("gpt2", chronos), tie_word_embeddings=False)
    if size.startswith("chronos-2"):
        shape = _shape("nano" if scale == "nano" else "base")
        return Chronos2CoreConfig(**shape, **_chronos_keys("chronos-2", _CHRONOS_2))
    small = _T5_SIZES[scale][0] <= 128
    seq2seq: dict[str, Any] = {
        # The published models were trained from 0.05 with dropout; a nano model learns several times faster from 0.3
        # without (docs/design.md), and is too small to overfit.
        "initializer_factor": 0.3 if small else 0.05,
        "dropout_rate": 0.0 if small else 0.1,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
    if family == "bolt":
        return transformers.T5Config(**_shape(scale), **seq2seq, **_chronos_keys("bolt", _BOLT), vocab_size=2)
    chronos = dict(_TOKENS, model_type="seq2seq")
    return transformers.T5Config(
        **_shape(scale), **seq2seq, **_chronos_keys("t5", chronos), vocab_size=_TOKENS["n_tokens"]
    )


def _shape(scale: str) -> dict[str, Any]:
    d_model, d_ff, layers, heads = _T5_SIZES[scale]
    return {
        "d_model": d_model,
        "d_ff": d_ff,
        "d_kv": 64 if d_model >= 256 else d_model // heads,
        "num_layers": layers,
        "num_heads": heads,
    }


def _chronos_keys(family: Family, chronos: dict[str, Any]) -> dict[str, Any]:
    return {"chronos_config": dict(chronos), "chronos_pipeline_class": PIPELINE_CLASSES[family]}


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
