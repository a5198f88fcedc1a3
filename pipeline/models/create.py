"""Create Chronos models with random weights, and convert plain language models to Chronos token models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pipeline.core.errors import UserError
from pipeline.models.checkpoint import PIPELINE_CLASSES, Family
from pipeline.models.load import model_class

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Shape:
    """Size of a transformer."""

    d_model: int
    d_ff: int
    layers: int
    heads: int

    @property
    def is_small(self) -> bool:
        """True for widths below those that the Chronos authors published, such as nano and micro."""
        return self.d_model < 256


_SHAPES = {
    "nano": Shape(64, 256, 2, 4),
    "micro": Shape(128, 512, 4, 4),
    "tiny": Shape(256, 1024, 4, 4),
    "mini": Shape(384, 1536, 4, 8),
    "small": Shape(512, 2048, 6, 8),
    "base": Shape(768, 3072, 12, 12),
    "large": Shape(1024, 4096, 24, 16),
}
"""The published sizes of T5, tiny to large; nano is for tests and demos, and a laptop can pretrain a micro."""
SCRATCH_SIZES = (
    *(f"t5-{size}" for size in _SHAPES),
    "gpt2-nano",
    "gpt2",
    *(f"bolt-{size}" for size in _SHAPES if size != "large"),
    "chronos-2-nano",
    "chronos-2-micro",
    "chronos-2",
)
_TOKEN_MODEL: dict[str, Any] = {
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
_CHRONOS_CONFIGS: dict[Family, dict[str, Any]] = {
    "t5": {**_TOKEN_MODEL, "model_type": "seq2seq"},
    "gpt2": {**_TOKEN_MODEL, "model_type": "causal"},
    "bolt": {
        "context_length": 2048,
        "prediction_length": 64,
        "input_patch_size": 16,
        "input_patch_stride": 16,
        "quantiles": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
        "use_reg_token": True,
    },
    "chronos-2": {
        "context_length": 8192,
        "input_patch_size": 16,
        "input_patch_stride": 16,
        "output_patch_size": 16,
        "max_output_patches": 64,
        "quantiles": [0.01, *(round(0.05 * k, 2) for k in range(1, 20)), 0.99],
        "time_encoding_scale": 8192,
        "use_arcsinh": True,
        "use_reg_token": True,
    },
}
"""`chronos_config` of the published checkpoints of each family."""
_MICRO_LENGTHS = {"context_length": 1024, "time_encoding_scale": 1024, "max_output_patches": 4}
"""What a micro of Chronos-2 has in place of the published lengths, which it has no time to learn."""


def convert_to_token_model(model: PreTrainedModel) -> None:
    """Give a T5 or GPT-2 language model the vocabulary and the special tokens of a Chronos token model, in place.

    Raises:
        UserError: a GPT-2 model has too few positions for the context and the horizon.
    """
    chronos = dict(_CHRONOS_CONFIGS["t5" if model.config.is_encoder_decoder else "gpt2"])
    needed = chronos["context_length"] + chronos["prediction_length"] + 1
    positions = getattr(model.config, "n_positions", None)
    if chronos["model_type"] == "causal" and positions < needed:
        raise UserError(
            f"n_positions of the model is {positions}: a context of {chronos['context_length']} and a horizon of "
            f"{chronos['prediction_length']} need {needed}. Choose a model with more positions"
        )
    model.resize_token_embeddings(chronos["n_tokens"], mean_resizing=False)
    for config in (model.config, model.generation_config):
        config.pad_token_id, config.eos_token_id = chronos["pad_token_id"], chronos["eos_token_id"]
        config.bos_token_id = None
        if model.config.is_encoder_decoder:
            config.decoder_start_token_id = chronos["pad_token_id"]
    model.config.chronos_config = chronos


def scratch_model(size: str, seed: int) -> PreTrainedModel:
    """Return a model of one of `SCRATCH_SIZES` with random weights, deterministic given the seed.

    Raises:
        UserError: the size is unknown.
    """
    if size not in SCRATCH_SIZES:
        raise UserError(f"base_model.model_name: unknown size scratch:{size}. The sizes are {', '.join(SCRATCH_SIZES)}")
    family, scale = (size, "base") if size in ("gpt2", "chronos-2") else size.rsplit("-", 1)
    lengths = _MICRO_LENGTHS if size == "chronos-2-micro" else {}
    return random_model(cast(Family, family), _SHAPES[scale], seed, **lengths)


def random_model(family: Family, shape: Shape, seed: int, **chronos_config: Any) -> PreTrainedModel:
    """Return a model of any shape with random weights, deterministic given the seed.

    Args:
        family: the Chronos family.
        shape: the size; GPT-2 has d_ff = 4 d_model whatever the shape says.
        seed: of the weights; the global random state is left alone.
        **chronos_config: entries that replace those of the published checkpoints, such as `context_length`.
    """
    import torch
    import transformers

    config = _model_config(family, shape, {**_CHRONOS_CONFIGS[family], **chronos_config})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(family, Path(family))(config)
    model.config.architectures = [type(model).__name__]
    if family in ("t5", "gpt2"):
        model.generation_config = transformers.GenerationConfig.from_model_config(model.config)
    return model


def _model_config(family: Family, shape: Shape, chronos: dict[str, Any]) -> PretrainedConfig:
    import transformers
    from chronos.chronos2.config import Chronos2CoreConfig

    chronos_keys: dict[str, Any] = {"chronos_config": chronos, "chronos_pipeline_class": PIPELINE_CLASSES[family]}
    if family == "gpt2":
        return transformers.GPT2Config(
            n_embd=shape.d_model,
            n_layer=shape.layers,
            n_head=shape.heads,
            vocab_size=chronos["n_tokens"],
            bos_token_id=None,
            eos_token_id=chronos["eos_token_id"],
            pad_token_id=chronos["pad_token_id"],
            tie_word_embeddings=False,
            **chronos_keys,
        )
    sizes: dict[str, Any] = {
        "d_model": shape.d_model,
        "d_ff": shape.d_ff,
        # Published checkpoints have 64 values per head, even if all heads together are wider than d_model.
        "d_kv": shape.d_model // shape.heads if shape.is_small else 64,
        "num_layers": shape.layers,
        "num_heads": shape.heads,
    }
    # The published models were trained from 0.05 with dropout 0.1. Measured on two data sets, a nano model of T5 from
    # 0.3 without dropout reaches about half the WQL in the same steps (docs/design.md).
    sizes |= {"initializer_factor": 0.3, "dropout_rate": 0.0} if shape.is_small else {}
    if family == "chronos-2":
        return Chronos2CoreConfig(**sizes, **chronos_keys)
    t5_keys: dict[str, Any] = {
        "initializer_factor": 0.05,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
        "vocab_size": 2 if family == "bolt" else chronos["n_tokens"],  # Bolt embeds the pad and the REG token only
    }
    return transformers.T5Config(**{**t5_keys, **sizes}, **chronos_keys)
