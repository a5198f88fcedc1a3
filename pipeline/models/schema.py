"""The schema of a checkpoint's JSON: all that the pipeline reads of it, checked without torch.

A checkpoint is foreign input. A file that does not fit is refused in one line with its key and its value. Keys that the
pipeline does not read are left to the libraries that do.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast, get_type_hints

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, ValidationError, create_model
from pydantic import model_validator as check

from pipeline.config import DataConfig
from pipeline.core.errors import UserError
from pipeline.data.dates import FORMS

_MAX_BYTES = 1 << 28
"""Largest JSON file that is read: 256 MiB, a hundred times the training_info.json of a long run."""
_MAX_SHOWN = 60
"""Characters of a wrong value in a message."""
_ADVICE = "Correct it, or create or download the checkpoint again"
_REMEMBERED = (
    *("id_column", "timestamp_column", "timestamp_format", "target", "past_covariates", "known_covariates", "wide"),
    *("decimal", "missing_values", "fill_missing", "duplicates", "skip_rows", "encoding", "sheet"),
)
"""Keys of the section data that later tables of the same series share."""


class Part(BaseModel):
    """A JSON object whose values have exactly the declared types; further keys are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=(), defer_build=True)


S = TypeVar("S", bound=BaseModel)


def _check_rising(levels: list[float]) -> list[float]:
    if any(low >= high for low, high in zip(levels, levels[1:])):
        raise ValueError("levels must rise")
    return levels


Name = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f]+$")]
WeightFile = Annotated[str, Field(max_length=255, pattern=r"^[^/\\\x00-\x1f]+\.(safetensors|bin)$")]
Length = Annotated[int, Field(ge=1, le=1 << 24)]
Size = Annotated[int, Field(ge=1, le=1 << 20)]
Layers = Annotated[int, Field(ge=1, le=1000)]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Score = Annotated[float, Field(allow_inf_nan=True)]
"""A number, or NaN or an infinity, as a diverged training logs them."""
Level = Annotated[float, Field(gt=0, lt=1)]
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


class Candidate(Part):
    """A candidate, with its scores on the validation windows."""

    candidate: str
    WQL: Score
    MASE: Score
    loss: Score


class Comparison(Part):
    """The comparison of a model with its base."""

    reduction: Score
    low: Score
    high: Score
    n_better: Count
    n_series: Count


class LogEntry(Part):
    """An entry of the Trainer's log."""

    step: Count
    loss: Score = 0
    eval_wql: Score = 0
    eval_mase: Score = 0


class TrainerStateKeys(Part):
    """trainer_state.json of a Trainer's checkpoint."""

    global_step: Count
    max_steps: Count
    log_history: list[LogEntry]
    best_metric: Score | None
    best_global_step: Count | None


class Identity(Part):
    """What a run depends on."""

    weights: str | None = Field(default=None, alias="base model")
    """Hash of the base's weights."""


class StoreInfo(Part):
    """The training series of one source."""

    series: Count
    freq: str | None
    start: str = Field(alias="from")
    end: str = Field(alias="to")
    in_memory: bool = Field(alias="in memory")


def _check_timestamp(text: str) -> str:
    np.datetime64(text, "s")
    return text


class SeenStep(Part):
    """The last step of a series that the model has seen."""

    item_id: str
    end: Annotated[str, Field(min_length=4, max_length=40), AfterValidator(_check_timestamp)]
    values: Count


class VariateKeys(Part):
    """The names of the variates by role, and the categories of covariates."""

    targets: list[str] = []
    past: list[str] = []
    known: list[str] = []
    categories: dict[str, list[str]] = {}


def _check_style(style: str) -> str:
    if style not in ("timestamp", *FORMS) and not style.startswith("format:"):
        raise ValueError(f"no style of timestamps; the styles are timestamp, {', '.join(FORMS)} and format:FORMAT")
    return style


class TimeKeys(Part, extra="forbid"):
    """The format of the timestamps."""

    style: Annotated[str, AfterValidator(_check_style)]
    zone: Literal["none", "local", "utc"] = "none"


class NumberKeys(Part, extra="forbid"):
    """The format of a column of numbers."""

    decimal: Literal[".", ","] | None = None


class LabelKeys(Part, extra="forbid"):
    """The format of a column of categories or booleans."""

    kind: Literal["category", "boolean"]


class FormatKeys(Part):
    """The formats of the columns."""

    timestamp: TimeKeys | None
    values: dict[str, LabelKeys | NumberKeys]
    freq: str | None = None


class BaseModelKeys(Part):
    """The section base_model of the configuration."""

    output_path: Name | None
    revision: Name | None


class TrainingKeys(Part):
    """The section training of the configuration."""

    quantiles: Annotated[list[Level], Field(min_length=1)] | None
    batch_size: Count
    method: str


if TYPE_CHECKING:
    DataKeys = Part
else:
    _TYPES = get_type_hints(DataConfig)
    DataKeys = create_model("DataKeys", __base__=Part, **{name: (_TYPES[name], None) for name in _REMEMBERED})


class RunKeys(Part):
    """The configuration of a run."""

    data: DataKeys
    training: TrainingKeys
    base_model: BaseModelKeys


_ABSENT: Any = None


class TrainingInfo(Part):
    """training_info.json: how a model was trained. A key may be absent, and is then None here, but not null."""

    verdict: str = _ABSENT
    base_model: Name = _ABSENT
    horizon: Length = _ABSENT
    steps: Count = Field(default=0, alias="steps trained")
    learning_rate: float = 0
    candidates: list[Candidate] = []
    comparison: Comparison | None = None
    history: list[LogEntry] = []
    identity: Identity = _ABSENT
    data: list[StoreInfo] = []
    seen: list[SeenStep] = []
    variates: VariateKeys = _ABSENT
    formats: FormatKeys = _ABSENT
    config: RunKeys = _ABSENT
    versions: dict[str, str] = {}


def read(file: Path, schema: type[S] | Callable[[dict[str, Any]], type[S]]) -> tuple[dict[str, Any], S]:
    """Read a JSON object.

    Args:
        schema: what the object must fit, or a function that returns it for the object.

    Returns:
        the whole object, and the values of the schema.

    Raises:
        UserError: the file cannot be read, is no JSON object, or does not fit the schema.
    """
    try:
        if not file.is_file():
            raise UserError(f"{file} is not an ordinary file. {_ADVICE}")
        if file.stat().st_size > _MAX_BYTES:
            raise UserError(
                f"{file} is larger than {_MAX_BYTES >> 20} MiB, too large for a checkpoint's JSON. {_ADVICE}"
            )
        text = file.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    return parse(str(file), text, schema)


def parse(label: str, text: bytes, schema: type[S] | Callable[[dict[str, Any]], type[S]]) -> tuple[dict[str, Any], S]:
    """Parse a JSON object as `read` does; `label` names it in messages."""
    content: Any = {}
    try:
        # First by pydantic, whose parser bounds the depth and the numbers.
        RootModel[dict[str, Any]].model_validate_json(text)
        content = json.loads(text, object_pairs_hook=_without_duplicates)
        chosen = cast(type[S], schema if isinstance(schema, type) else schema(content))
        return content, chosen.model_validate_json(text)
    except UserError:
        raise
    except ValidationError as error:
        raise UserError(f"{label}{_describe(error, content)}") from error
    except ValueError as error:
        raise UserError(f"{label} is not valid JSON: {error}. {_ADVICE}") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return content


def _describe(error: ValidationError, content: Any) -> str:
    """Return the first fault as the second half of a message."""
    fault = error.errors(include_url=False)[0]
    if fault["type"] == "json_invalid":
        return f" is not valid JSON: {fault['ctx']['error']}. {_ADVICE}"
    key, value = "", content
    for part in fault["loc"]:  # parts that are no keys name the members of a union
        if isinstance(value, dict) and part in value or isinstance(value, list) and isinstance(part, int):
            value = value[part]  # type: ignore[index]
            key += f"[{part}]" if isinstance(part, int) else f"{'.' if key else ''}{part}"
    if fault["type"] == "missing":
        return f" has no {key}{'.' if key else ''}{fault['loc'][-1]}. {_ADVICE}"
    if fault["type"] == "extra_forbidden":
        return f": the key {key} is unknown. Update chronos-native if the checkpoint is of a newer release"
    text, message = repr(value), fault["msg"].removeprefix("Value error, ")
    shown = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    if fault["type"] == "value_error" and isinstance(value, dict):
        return f": {key}{': ' if key else ''}{message}. {_ADVICE}"
    return f": {key} is {shown}: {message[0].lower()}{message[1:]}. {_ADVICE}"
