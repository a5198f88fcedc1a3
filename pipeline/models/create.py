"""Models with random weights, and what makes a language model one of Chronos's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import UserError
from pipeline.models.checkpoint import PIPELINE_CLASSES, Family, family_of
from pipeline.models.load import model_class_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

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


def convert_to_token_model(model: PreTrainedModel) -> None:
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
    """Return a model of a published size, or of a nano or micro one, with random weights that follow from the seed.

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
        model = model_class_of(kind, Path(size))(config)
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
        # The published models were trained from 0.05 with dropout; a small one learns several times faster from 0.3
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
