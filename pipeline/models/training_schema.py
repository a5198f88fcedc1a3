"""Schemas of training_info.json and of the Trainer's state: all that the pipeline reads of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import numpy as np
from pydantic import AfterValidator, Field, create_model

from pipeline.config import DataConfig
from pipeline.data.date_styles import FORMS
from pipeline.models.json_objects import Count, Length, Level, Name, Part

Score = Annotated[float, Field(allow_inf_nan=True)]
"""A number, or NaN or an infinity, as a diverged training logs them."""
_REMEMBERED = (
    *("id_column", "timestamp_column", "timestamp_format", "target", "past_covariates", "known_covariates", "wide"),
    *("decimal", "missing_values", "fill_missing", "duplicates", "skip_rows", "encoding", "sheet", "group_column"),
)
"""Keys of the section data that later tables of the same series share."""


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


class DataIdentity(Part):
    """The training series of one sampler."""

    stores: list[str] = []
    """Hash of each store."""


class Identity(Part):
    """What a run depends on."""

    weights: str | None = Field(default=None, alias="base model")
    """Hash of the base's weights."""
    test_length: Count = 0
    """Steps at the end of every series that were left out."""
    data: list[DataIdentity] = []


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


class Mark(Part):
    """The hash of the values up to a step, by which a series is recognized."""

    end: Annotated[str, Field(min_length=4, max_length=40), AfterValidator(_check_timestamp)]
    values: Count


class SeenStep(Mark):
    """The last step of a series that the model has seen, and earlier ones."""

    item_id: str
    earlier: list[Mark] = []


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


_ABSENT: Any = None


class InferenceKeys(Part):
    """The section inference of the configuration."""

    cross_learning: bool = False
    batch_size: Length = 64


class RunKeys(Part):
    """The configuration of a run."""

    data: DataKeys
    training: TrainingKeys
    base_model: BaseModelKeys
    inference: InferenceKeys = _ABSENT


class TrainingInfo(Part):
    """training_info.json: how a model was trained. A key may be absent, and is then None here, but not null."""

    verdict: str = _ABSENT
    base_model: Name = _ABSENT
    horizon: Length = _ABSENT
    steps: Count = 0
    learning_rate: float = 0
    candidates: list[Candidate] = []
    comparison: Comparison | None = None
    forgetting: Comparison | None = None
    flip: bool = False
    history: list[LogEntry] = []
    identity: Identity = _ABSENT
    data: list[StoreInfo] = []
    seen: list[SeenStep] = []
    variates: VariateKeys = _ABSENT
    formats: FormatKeys = _ABSENT
    config: RunKeys = _ABSENT
    versions: dict[str, str] = {}
