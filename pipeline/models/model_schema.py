"""Schemas of the JSON files of a model: all that the pipeline reads of them, checked without torch.

Keys that the pipeline does not read are left to the libraries that do.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic import model_validator as check

from pipeline.models.json_objects import Count, Length, Level, Name, Part


def _check_rising(levels: list[float]) -> list[float]:
    if any(low >= high for low, high in zip(levels, levels[1:])):
        raise ValueError("levels must rise")
    return levels


WeightFile = Annotated[str, Field(max_length=255, pattern=r"^[^/\\\x00-\x1f]+\.(safetensors|bin)$")]
Size = Annotated[int, Field(ge=1, le=1 << 20)]
Layers = Annotated[int, Field(ge=1, le=1000)]
Start = Annotated[int, Field(ge=0, le=0)]
"""The token that the decoder starts from: the first one, in every Chronos model."""
Token = Annotated[int, Field(ge=-1, lt=1 << 31)]
Share = Annotated[float, Field(ge=0, lt=1)]
Dtype = Literal["float32", "bfloat16", "float16", "float64"]


class ChronosKeys(Part, extra="forbid"):
    """`chronos_config`. chronos-forecasting fails on keys that it does not know, so they are refused."""

    context_length: Length


class TokenizerKeys(Part, extra="forbid"):
    """`tokenizer_kwargs` of the only tokenizer of chronos-forecasting."""

    low_limit: float
    high_limit: float


class TokenKeys(ChronosKeys):
    """`chronos_config` of a token model."""

    tokenizer_class: Literal["MeanScaleUniformBins"]
    tokenizer_kwargs: TokenizerKeys
    prediction_length: Length
    n_tokens: Size
    n_special_tokens: Size
    pad_token_id: Count
    eos_token_id: Count
    use_eos_token: bool
    model_type: Literal["causal", "seq2seq"]
    num_samples: Size
    temperature: Annotated[float, Field(gt=0)]
    top_k: Length
    top_p: Annotated[float, Field(gt=0, le=1)]

    @check(mode="after")
    def _agree(self) -> TokenKeys:
        if self.tokenizer_kwargs.low_limit >= self.tokenizer_kwargs.high_limit:
            raise ValueError("tokenizer_kwargs.low_limit must be below high_limit")
        if max(self.pad_token_id, self.eos_token_id) >= self.n_special_tokens:
            raise ValueError("pad_token_id and eos_token_id must be below n_special_tokens")
        if self.n_tokens < self.n_special_tokens + 3:
            raise ValueError("n_tokens must be at least n_special_tokens + 3")
        return self


class PatchKeys(ChronosKeys):
    """The part of `chronos_config` that Bolt and Chronos-2 share."""

    input_patch_size: Size
    input_patch_stride: Size
    quantiles: Annotated[list[Level], Field(min_length=1, max_length=1000), AfterValidator(_check_rising)]
    use_reg_token: bool = False


class BoltKeys(PatchKeys):
    """`chronos_config` of a Bolt model."""

    prediction_length: Length


class Chronos2Keys(PatchKeys):
    """`chronos_config` of a Chronos-2 model."""

    output_patch_size: Size
    max_output_patches: Size = 1
    time_encoding_scale: Length = 1
    use_arcsinh: bool = False

    @check(mode="after")
    def _agree(self) -> Chronos2Keys:
        if self.input_patch_size != self.output_patch_size:
            raise ValueError("input_patch_size and output_patch_size must be equal")
        return self


class ModelKeys(Part):
    """config.json of any model. Bounds on the sizes make a wrong digit an error, not a model beyond all memory."""

    model_type: Name
    architectures: list[Name] | None = None
    chronos_pipeline_class: Name | None = None
    dtype: Dtype | None = None
    torch_dtype: Dtype | None = None
    num_layers: Layers = 1
    num_decoder_layers: Layers | None = None
    n_layer: Layers = 1
    d_model: Size = 1
    d_kv: Size = 1
    d_ff: Size = 1
    num_heads: Size = 1
    n_embd: Size = 1
    n_head: Size = 1
    n_inner: Size | None = None
    n_positions: Length = 1024
    vocab_size: Size = 1
    pad_token_id: Token | None = None
    dropout_rate: Share = 0
    resid_pdrop: Share = 0
    embd_pdrop: Share = 0
    attn_pdrop: Share = 0
    layer_norm_epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-6
    initializer_factor: Annotated[float, Field(ge=0)] = 1
    rope_theta: Annotated[float, Field(ge=1)] = 10000
    relative_attention_num_buckets: Size = 32
    relative_attention_max_distance: Length = 128
    scale_decoder_outputs: bool = False
    attn_implementation: Literal["eager", "sdpa"] | None = None
    """transformers would download and run a kernel of another name."""
    quantization_config: None = None
    transformers_weights: None = None
    """The key names another weight file, which nothing here would check."""

    @check(mode="after")
    def _have_buckets(self) -> ModelKeys:
        if self.relative_attention_max_distance <= self.relative_attention_num_buckets // 2:
            raise ValueError("relative_attention_max_distance must exceed half of relative_attention_num_buckets")
        return self


class TokenModel(ModelKeys):
    """The part of config.json that token models share."""

    chronos_config: TokenKeys
    vocab_size: Size

    @check(mode="after")
    def _have_embeddings(self) -> TokenModel:
        if self.chronos_config.n_tokens > self.vocab_size:
            raise ValueError("chronos_config.n_tokens must be at most vocab_size")
        return self


class T5Model(TokenModel):
    """config.json of a Chronos T5 model."""

    model_type: Literal["t5"]
    d_model: Size
    decoder_start_token_id: Start


class GenerationKeys(Part):
    """generation_config.json. transformers checks its other keys."""

    pad_token_id: Token | None = None
    bos_token_id: Token | None = None
    eos_token_id: Token | list[Token] | None = None
    output_attentions: bool | None = None
    output_hidden_states: bool | None = None
    return_dict_in_generate: Literal[False] | None = None


class T5GenerationKeys(GenerationKeys):
    """generation_config.json of a T5 model."""

    decoder_start_token_id: Start


class GPT2Model(TokenModel):
    """config.json of a Chronos GPT-2 model."""

    model_type: Literal["gpt2"]
    n_embd: Size

    @check(mode="after")
    def _have_positions(self) -> GPT2Model:
        if self.chronos_config.context_length + self.chronos_config.prediction_length > self.n_positions:
            raise ValueError("chronos_config.context_length and prediction_length must fit into n_positions")
        return self


class BoltModel(ModelKeys):
    """config.json of a Bolt model."""

    model_type: Literal["t5"]
    d_model: Size
    chronos_config: BoltKeys
    decoder_start_token_id: Start


class Chronos2Model(ModelKeys):
    """config.json of a Chronos-2 model."""

    model_type: Literal["t5"]
    d_model: Size
    chronos_config: Chronos2Keys


class AdapterKeys(Part):
    """adapter_config.json."""

    base_model_name_or_path: Name
    revision: Name | None = None
    r: Size = 8
    lora_alpha: Annotated[float, Field(gt=0)] = 8
    use_rslora: bool = False
    megatron_config: None = None
    """With it, peft would import the module that another key names."""


class ModelInfo(Part):
    """model_info.json: the origin of a base."""

    model_name: str = ""
    revision: Name | None = None
    commit: Name | None = None
    converted: list[str] = []
    seed: Count | None = None
    """Seed of random weights."""


class WeightIndex(Part):
    """The index of several weight files: the file of each tensor, in the same folder."""

    weight_map: Annotated[dict[str, WeightFile], Field(min_length=1)]


class Tensor(Part):
    """A tensor in the header of a safetensors file."""

    dtype: Literal["F64", "F32", "F16", "BF16", "BOOL", "U8"]
    """Weights are floats. Language models of old versions have masks too."""
    shape: list[Count]
    data_offsets: Annotated[list[Count], Field(min_length=2, max_length=2)]


class Header(Part, extra="allow"):
    """The header of a safetensors file: metadata, and tensors by name."""

    metadata: dict[str, str] = Field(default={}, alias="__metadata__")
    __pydantic_extra__: dict[str, Tensor] = Field(init=False)

    def by_name(self) -> dict[str, Tensor]:
        """Return the tensors."""
        return self.__pydantic_extra__
