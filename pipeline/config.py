"""The configuration: one frozen dataclass per section, checked when it is created.

The docstring of a field is its `--help` text, and its row in docs/configuration.md.
"""

import os
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.core.checks import (
    check_above,
    check_at_least,
    check_below,
    check_between_zero_and_one,
    check_choices,
    check_defaults,
    check_encoding,
    check_fraction,
    check_levels,
    check_memory,
    check_not_empty,
    check_path_length,
    check_sources,
)
from pipeline.core.errors import UserError
from pipeline.core.files import to_serializable
from pipeline.core.series import Variates
from pipeline.core.urls import redact, redact_addresses

LAYOUT = "0.1.0"
FLOAT32_MAX = 3.4e38
"""Series are stored as float32, whose largest number is a little above this."""
FORECAST_SUFFIXES = (".parquet", ".csv", ".jsonl", ".xlsx")
"""Suffixes of the files that forecasts are written to."""
DEFAULT_HORIZON = 48
"""Steps to forecast if neither the configuration nor the model says how many."""
_MAX_MIXTURE = 1_000
"""Maximum of synthetic.mixup.max_series: every window takes as many segments."""

_MIN_WIDTH = 32
"""Width of the smallest models, the nano sizes."""

Pattern = Literal["trend", "seasonal", "noise", "promotion"]
Names = str | list[str]
"""One name, or a list of names."""


@dataclass(frozen=True)
class GeneralConfig:
    """Settings of every step."""

    version: str = LAYOUT
    """Version of the configuration format. Another version is refused."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "cpu"
    """Device of the models. auto uses a GPU if there is one."""
    seed: int = 0
    """Seed of initial weights, training windows, dropout, sampled forecasts and synthetic series."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise UserError(f"chronos.seed must be at least 0 and below 2^32, got {self.seed}")
        if self.version != LAYOUT:
            raise UserError(f"chronos.version must be {LAYOUT}, the format of this release, got {self.version}")


@dataclass(frozen=True)
class BaseModelConfig:
    """The base model that training starts from."""

    model_name: str = "amazon/chronos-bolt-base"
    """Hub ID, local folder or s3:// prefix of the base; builtin:chronos2-synth or builtin:bolt-synth for a model in the
    package; scratch:SIZE for random weights (t5-tiny, bolt-small, ...)."""
    revision: str | None = None
    """Branch, tag or commit on the Hub. null is the main branch."""
    output_path: str | None = None
    """Folder that base writes and train reads. null is base in paths.models_dir."""
    convert_format: bool = True
    """Convert other formats to a native Chronos checkpoint. false refuses them."""
    save_metadata: bool = True
    """Write model_info.json beside the weights."""


@dataclass(frozen=True)
class SqlSource:
    """The result of a SQL query, which is read at every call. Both keys are required."""

    query: str = ""
    """SELECT query, whose columns have the names of data.target and the other keys."""
    url: str = ""
    """URL of the database without a password, such as postgresql://host/database or sqlite:///file.db. ${NAME} is an
    environment variable."""

    def __str__(self) -> str:
        """Return the name of the source in messages."""
        return f"the query on {redact(self.url)}"


Source = str | SqlSource
"""A path, a URL, a name on the Hub, or a query."""


def source_name(source: Source) -> str:
    """Return the name of a source in messages and tables, without secrets."""
    return str(source) if isinstance(source, SqlSource) else redact(source)


def source_paths(sources: Any) -> list[str]:
    """Return the paths, URLs and names on the Hub of a source, a list of sources, or None, and files of SQLite."""
    given = [getattr(source, "path", source) for source in (sources if isinstance(sources, list) else [sources])]
    paths = [source.url.partition("sqlite:///")[2] if isinstance(source, SqlSource) else source for source in given]
    return [path for path in paths if path]


@dataclass(frozen=True)
class WeightedSource:
    """One of several sources of training series."""

    path: Source
    """Any source that data.train takes."""
    weight: float = 1.0
    """Share of the training windows from this source, relative to the weights of the others."""

    def __post_init__(self) -> None:
        check_above(f"data.train: the weight of {self.path}", self.weight, 0)


@dataclass(frozen=True)
class DataConfig:
    """Sources of series, and the names and formats of their columns."""

    train: Source | list[WeightedSource | SqlSource | str] | None = None
    """Training series: a CSV, Excel, Parquet, JSON Lines, Arrow or Feather file, a folder of them, a GluonTS or
    datasets folder, or a Hub name; an s3://, gs://, https:// or hf:// URL of a file, folder or glob; {query, url} for
    the result of a SQL query; synthetic:bank, synthetic:PRIOR or synthetic:panels (with covariates, for Chronos-2) for
    series generated while training; or a list of these or {path, weight}. null is the generated dummy data."""
    mixup: bool = False
    """Train on weighted sums of up to three series (TSMixup) instead of the series themselves; settings in
    synthetic.mixup."""
    freq: str | None = None
    """Pandas frequency of the series. null infers it from the timestamps."""
    id_column: Names = "item_id"
    """Column of the item ID, or a list of columns that form it together, such as [shop, product]. A file without
    this column is read as one series."""
    timestamp_column: Names = "timestamp"
    """Column of the timestamps, or a list of columns that form them together, such as [Date, Time]. Training needs
    none."""
    timestamp_format: str | None = None
    """strptime format of the timestamps, such as '%d/%m/%y'. Or a style: unix_s or unix_ms for seconds or milliseconds
    since 1970, steps for step numbers, iso_week for weeks such as 202405, excel for day numbers of Excel. null detects
    it from all values and refuses ambiguous ones."""
    target: Names = "target"
    """Column of the target values. A list of columns is forecast together, by Chronos-2."""
    past_covariates: Names = field(default_factory=list)
    """Covariates known up to the forecast start: numbers, or texts as categories. For Chronos-2."""
    known_covariates: Names = field(default_factory=list)
    """Covariates known over the horizon too, such as prices and holidays. For Chronos-2."""
    group_column: Names | None = None
    """Column of the group of each series, or a list of columns that form it together. Chronos-2 is trained on the
    series of a group together, and forecasts them together. null has no groups."""
    wide: bool = False
    """Read a wide table: one column per series, or one row per series with dates or numbers (d_1, d_2, ...) in the
    header. false reads a long table, or one row per series with a list of values."""
    decimal: Literal["auto", ".", ","] = "auto"
    """Decimal separator of numbers in texts. auto decides each column from all its values and refuses ambiguous ones.
    The other mark may separate thousands."""
    missing_values: Names = field(default_factory=list)
    """Texts that mean a missing value, such as '?', beside an empty cell and, for numbers, na, n/a, nan, null, none
    and -."""
    fill_missing: float | None = None
    """Value of missing targets, and of steps without a row, between the first and last step of a series. null keeps
    them missing."""
    duplicates: Literal["error", "first", "last", "sum", "mean"] = "error"
    """How several rows of a series with the same timestamp are merged; error refuses them. sum and mean are of the
    targets; covariates keep their first value."""
    skip_rows: int = 0
    """Lines above the header of a text file or sheet."""
    encoding: str = "utf-8"
    """Encoding of text files, such as cp1252. UTF-16 is detected by its byte order mark."""
    sheet: str | None = None
    """Sheet of an Excel workbook. null is the first visible one."""
    test_length: int | None = None
    """Steps at the end of every series that training and validation leave out, so that evaluate can score on them.
    null is horizon x evaluation.windows if `horizon` is set, else 0. 0 trains on everything."""

    def __post_init__(self) -> None:
        check_at_least("data.test_length", self.test_length, 0)
        check_at_least("data.skip_rows", self.skip_rows, 0)
        if self.fill_missing is not None and not abs(self.fill_missing) <= FLOAT32_MAX:
            raise UserError(f"data.fill_missing must be a number of at most {FLOAT32_MAX:.2g}, got {self.fill_missing}")
        check_sources("data.train", self.train, "{path, weight}")
        check_encoding("data.encoding", self.encoding)
        ids = listed(self.id_column)
        for key in ("id_column", "timestamp_column", "target", "past_covariates", "known_covariates", "group_column"):
            if (names := getattr(self, key)) is not None and "" in listed(names):
                raise UserError(f"data.{key} has an empty name; name a column")
        if not ids:
            raise UserError("data.id_column is an empty list; name columns, or leave the key out for a single series")
        if self.wide and (len(self.variates()) > 1 or self.group_column):
            raise UserError(
                "data.wide: a wide table has one target, no covariates and no groups; remove those keys, or give a "
                "long table"
            )
        if not self.timestamp_column:
            raise UserError("data.timestamp_column is empty; name a column")
        names = (*ids, *listed(self.timestamp_column), *self.variates().names)
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated or not self.target:
            raise UserError(
                "data: id_column, timestamp_column, target, past_covariates and known_covariates must be different "
                f"columns, got {', '.join(repeated) + ' more than once' if repeated else 'no target'}"
            )

    def variates(self) -> Variates:
        """Return the columns of the values by their role."""
        return Variates(
            tuple(listed(self.target)), tuple(listed(self.past_covariates)), tuple(listed(self.known_covariates))
        )

    def sources(self) -> list[WeightedSource]:
        """Return the training sources, each with its weight."""
        if self.train is None:
            return []
        sources = self.train if isinstance(self.train, list) else [self.train]
        return [source if isinstance(source, WeightedSource) else WeightedSource(source) for source in sources]


@dataclass(frozen=True)
class DummyDataConfig:
    """The dummy data: synthetic series of trend, season and noise."""

    n_samples: int = 1000
    """Number of series."""
    n_series: int = 10
    """Number of distinct processes that the series are drawn from."""
    length: int = 200
    """Steps of a series."""
    patterns: list[Pattern] = field(default_factory=lambda: ["trend", "seasonal", "noise"])
    """Components that are added up: any of trend, seasonal, noise, promotion. With promotion, a covariate of that name
    is written too, and its values after the end of the series, for Chronos-2."""
    num_processes: int = 1
    """Processes that generate. The series do not depend on it."""

    def __post_init__(self) -> None:
        check_at_least("training.dummy_data.n_samples", self.n_samples, 1)
        check_at_least("training.dummy_data.n_series", self.n_series, 1)
        check_at_least("training.dummy_data.length", self.length, 2)
        check_at_least("training.dummy_data.num_processes", self.num_processes, 1)
        if not self.patterns or len(set(self.patterns)) < len(self.patterns):
            raise UserError(
                "training.dummy_data.patterns must be a list of different patterns: trend, seasonal, noise, promotion"
            )


@dataclass(frozen=True)
class MixupConfig:
    """TSMixup: weighted sums of segments of several series."""

    max_series: int = 3
    """Maximum number of series in a mixture, up to 1,000."""
    alpha: float = 1.5
    """Concentration of the Dirichlet distribution of the mixture weights. Large values make the weights equal."""
    min_length: int = 128
    """Minimum steps of a mixture, if there are series of that length."""
    max_length: int = 2048
    """Maximum steps of a mixture."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_series <= _MAX_MIXTURE:
            raise UserError(f"synthetic.mixup.max_series must be from 1 to {_MAX_MIXTURE:,}, got {self.max_series}")
        check_above("synthetic.mixup.alpha", self.alpha, 0)
        check_at_least("synthetic.mixup.min_length", self.min_length, 2)
        check_at_least("synthetic.mixup.max_length", self.max_length, self.min_length)


@dataclass(frozen=True)
class SyntheticConfig:
    """Synthetic series, written by `chronos-native generate` or drawn while training."""

    generator: str = "dummy"
    """Generator of the written series: dummy (one file, by training.dummy_data), bank, tsmixup
    (mixtures of data.train), or one prior, such as kernel_synth or sarima."""
    bank: str | None = None
    """YAML file with the priors, effects, weights and ranges of the data bank. null is the default
    bank; config/bank.yaml in the repository lists it."""
    n_series: int = 10000
    """Number of series to write."""
    length: int = 1024
    """Steps of a series. synthetic.mixup sets the lengths for tsmixup."""
    shard_size: int = 10000
    """Series per file."""
    num_processes: int = 1
    """Processes that generate. The files do not depend on it."""
    output_path: str | None = None
    """Folder of the files. null is synthetic/GENERATOR in paths.data_dir."""
    mixup: MixupConfig = field(default_factory=MixupConfig)
    """TSMixup, for data.mixup and for the generator tsmixup."""

    def __post_init__(self) -> None:
        check_at_least("synthetic.n_series", self.n_series, 1)
        check_at_least("synthetic.length", self.length, 2)
        check_at_least("synthetic.shard_size", self.shard_size, 1)
        check_at_least("synthetic.num_processes", self.num_processes, 1)


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters, for training.method lora."""

    rank: int = 8
    """Rank of each adapter."""
    alpha: int = 16
    """Adapters are scaled by alpha / rank."""
    dropout: float = 0.0
    """Dropout on the adapters' input."""

    def __post_init__(self) -> None:
        check_at_least("training.lora.rank", self.rank, 1)
        check_memory("training.lora.rank", 4 * self.rank * _MIN_WIDTH, "an adapter")  # float32
        check_above("training.lora.alpha", self.alpha, 0)
        check_fraction("training.lora.dropout", self.dropout)


@dataclass(frozen=True)
class TrainingConfig:
    """Training of a model."""

    epochs: float | Literal["auto"] = "auto"
    """Passes over the data. In one pass the horizons of the random windows cover each training step once on average.
    auto is 10, and at least 1,000 steps (300 for Bolt and a Chronos-2 narrower than 256, 3,000 from random weights)."""
    max_steps: int | None = None
    """Optimizer steps. They replace epochs."""
    time_limit: float | None = None
    """Seconds that the run may take, from its start to the saved model. The number of steps is reduced to fit, after
    a short measurement. null sets no limit."""
    batch_size: int = 32
    """Global batch size: windows per optimizer step, over all processes."""
    learning_rate: float | Literal["auto"] = "auto"
    """Peak learning rate, which falls linearly to zero. auto is 1e-4 for T5 and GPT-2, 1e-5 for Bolt and for a
    Chronos-2 narrower than 256, 1e-6 for a wider one, and 5 to 10 times that for lora; from random weights 1e-3 (nano
    sizes 3e-3) after a warm-up over 5% of the steps."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """Optimizer. muon trains the matrices of the layers by Muon at twice the learning rate, and other weights by AdamW.
    Only the matrices decay. From random weights it needs fewer windows. It does not work with FSDP."""
    validation_split: float = 0.2
    """Fraction of every series, at its end, that candidates are scored on: at least one horizon, at most half the
    series, and no more steps than validation_windows needs. 0 holds nothing out and compares nothing."""
    validation_windows: int | None = None
    """Maximum number of validation windows, spread evenly over the holdout. null is 512, or 64 for token models,
    whose forecasts are sampled."""
    context_length: int | None = None
    """Steps of history in a training window. null is the model's context, at most 512 from random weights. A longer
    one extends the model's context."""
    prediction_length: int | None = None
    """Horizon of a training window. null is `horizon`, or else the model's horizon, at most 64 and at most a quarter
    of the median series. A longer one extends the model's horizon."""
    quantiles: list[float] | None = None
    """Quantile levels of a Bolt or Chronos-2 model, each between 0 and 1. null keeps its levels."""
    min_past: int = 4
    """Minimum steps of history in a training window."""
    drop_prob: float = 0.0
    """Maximum fraction of values that a window loses; the fraction is drawn between 0 and this. The published T5
    models used 0.2."""
    method: Literal["full", "lora"] = "full"
    """Train all weights, or low-rank adapters, which are merged when the model is saved."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Low-rank adapters, for training.method lora."""
    freeze: Names = field(default_factory=list)
    """Weights that are not trained: a name, the beginning of a name, or a pattern, such as encoder or '*.wi.*'."""
    metric: Literal["wql", "mase", "loss"] = "loss"
    """Score by which the base and the trained model are compared on the validation windows."""
    refit: bool = True
    """Retrain the winner on all data, the holdout included, for the same number of steps, and save that model unless
    it scores worse on the validation windows. It takes twice the steps. false saves the winner as it was scored."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training. auto is bfloat16 if the processor supports it and the model is large enough to gain."""
    output_path: str | None = None
    """Folder of the trained model, with logs/ inside, and checkpoints/ and refit/ while it is trained. null is trained
    in paths.models_dir."""
    resume: bool = True
    """Continue an unfinished run of the same configuration in output_path."""
    overwrite: bool = False
    """Replace a run in output_path. With resume, an unfinished run of the same configuration is continued."""
    keep_checkpoints: bool = False
    """Keep the checkpoints of a finished run, which it no longer needs."""
    push_to_hub: str | None = None
    """Hub repository, owner/name, that the trained model is uploaded to; a new one is private. null uploads nothing."""
    dummy_data: DummyDataConfig = field(default_factory=DummyDataConfig)
    """The dummy data that generate writes."""
    trainer: dict[str, Any] = field(default_factory=dict)
    """Any field of transformers.TrainingArguments, such as --training.trainer.weight_decay 0.01."""

    def __post_init__(self) -> None:
        if self.epochs != "auto":
            check_above("training.epochs", self.epochs, 0)
            check_below("training.epochs", self.epochs)
        check_at_least("training.max_steps", self.max_steps, 1)
        if self.time_limit is not None:
            check_above("training.time_limit", self.time_limit, 0)
        check_at_least("training.batch_size", self.batch_size, 1)
        if self.learning_rate != "auto":
            check_above("training.learning_rate", self.learning_rate, 0)
        check_at_least("training.validation_windows", self.validation_windows, 1)
        check_at_least("training.context_length", self.context_length, 2)  # a single value has no scale
        check_at_least("training.prediction_length", self.prediction_length, 1)
        check_at_least("training.min_past", self.min_past, 1)
        window = (self.context_length or 1) + (self.prediction_length or 1)
        need = "the windows of a step, training.batch_size x (training.context_length + training.prediction_length),"
        check_memory("training", 4 * self.batch_size * window, need)  # float32
        if self.quantiles is not None:
            check_levels("training.quantiles", self.quantiles)
            if sorted(self.quantiles) != self.quantiles:
                raise UserError(f"training.quantiles must be in ascending order, got {self.quantiles}")
        if self.method != "lora":
            names = tuple(key.name for key in fields(LoraConfig))
            check_defaults("training.lora", self.lora, names, f"training.method is {self.method}")
        if self.freeze and self.method == "lora":
            raise UserError("training.freeze: training.method lora freezes all other weights already; remove the key")
        if self.push_to_hub is not None and self.push_to_hub.count("/") != 1:
            raise UserError(f"training.push_to_hub must have the form owner/name, got {self.push_to_hub}")
        check_fraction("training.validation_split", self.validation_split)
        check_fraction("training.drop_prob", self.drop_prob)


@dataclass(frozen=True)
class InferenceConfig:
    """Forecasts."""

    model_path: str | None = None
    """Checkpoint folder or Hub ID of the model, or builtin:chronos2-synth. null is the trained model,
    training.output_path."""
    data_path: Source | None = None
    """Series to forecast: any source that data.train takes, except synthetic ones. null is the generated dummy data."""
    future_path: Source | None = None
    """Table of data.known_covariates at the steps to forecast, in any long format. Required if there are known
    covariates."""
    prediction_length: int | None = None
    """Steps to forecast. null is `horizon`, or else the horizon that the model was trained for, or 48. It may exceed
    the model's horizon."""
    context_length: int | None = None
    """Steps of history that the model sees. null is as many as it can take."""
    quantiles: list[float] = field(default_factory=lambda: [0.1, 0.5, 0.9])
    """Quantile levels to forecast, each between 0 and 1."""
    non_negative: bool = False
    """Raise negative forecasts to zero for series without a negative value in the last inference.context_length
    steps."""
    batch_size: int = 64
    """Series per forward pass, in forecasts and evaluations."""
    cross_learning: bool = False
    """Let Chronos-2 forecast the series of a batch together, as parts of one data set. The forecasts then depend on
    batch_size; about 100 is recommended. Series with data.group_column are forecast group by group in any case."""
    flip: bool | Literal["auto"] = "auto"
    """Average each forecast with the mirrored forecast of the negated series, in twice the time. auto does so if it
    lowered WQL (MASE with training.metric mase) by 0.5% on the validation windows of the model's training."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the model. auto is that of the checkpoint's weights. bf16 rounds forecasts to three digits."""
    engine: Literal["torch", "onnx"] = "torch"
    """Library that computes the forecasts. onnx exports the model to export.output_path if it is not there, and runs on
    the CPU. A model that was exported always uses onnx."""
    output_path: str | None = None
    """File of the forecasts (.parquet, .csv, .jsonl or .xlsx), or a folder, which gets predictions.parquet, or
    flags.parquet with --flag. null is paths.predictions_dir."""
    plot_path: str | None = None
    """PNG file with history, median and 80% band of some series. null draws none."""
    flag_level: float = 0.99
    """With --flag, level of the central interval outside which an actual value is an anomaly."""
    flag_windows: int = 1
    """With --flag, number of horizons at the end of each series that are compared, each with a forecast from the steps
    before it."""

    def __post_init__(self) -> None:
        check_sources("inference.data_path", self.data_path, "{query, url}")
        check_sources("inference.future_path", self.future_path, "{query, url}")
        check_at_least("inference.prediction_length", self.prediction_length, 1)
        check_at_least("inference.context_length", self.context_length, 1)
        check_at_least("inference.batch_size", self.batch_size, 1)
        if self.flip not in (True, False, "auto"):
            raise UserError(f"inference.flip must be true, false or auto, got {self.flip!r}")
        check_levels("inference.quantiles", self.quantiles)
        check_between_zero_and_one("inference.flag_level", [self.flag_level])
        check_at_least("inference.flag_windows", self.flag_windows, 1)


@dataclass(frozen=True)
class ExportConfig:
    """Export of a Bolt or Chronos-2 model to ONNX."""

    model_path: str | None = None
    """Checkpoint folder or Hub ID of the model. null is inference.model_path, or else the trained model."""
    output_path: str | None = None
    """Folder of model.onnx and onnx.json. null is onnx in paths.models_dir."""
    int8: bool = False
    """Store weights as 8-bit integers, in less than a third of the size. docs/export.md shows the loss of accuracy."""


@dataclass(frozen=True)
class EvaluationSet:
    """One data set to score on."""

    path: Source
    """Any source that data.train takes, except synthetic ones."""
    name: str | None = None
    """Name in the tables. null is the file name, or query."""
    freq: str | None = None
    """Pandas frequency. null is data.freq, or inferred."""
    prediction_length: int | None = None
    """Steps of the horizon. null is evaluation.prediction_length."""
    seasonality: int | None = None
    """Season length in steps, for seasonal naive, MASE and RMSSE. null follows from the frequency."""

    def __post_init__(self) -> None:
        check_at_least(f"evaluation.data_path: prediction_length of {self.path}", self.prediction_length, 1)
        check_at_least(f"evaluation.data_path: seasonality of {self.path}", self.seasonality, 1)


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation of models, and its reports."""

    data_path: Source | list[EvaluationSet | SqlSource | str] | None = None
    """Series to score on: a source, a list of sources or {path, name, freq, prediction_length, seasonality}, or a JSON
    file with such a list. null is inference.data_path, or the generated dummy data."""
    models: Names | None = None
    """Checkpoint folders, Hub IDs or builtin:NAME, scored beside seasonal naive. null is the base and the
    trained model."""
    fev_tasks: str | None = None
    """YAML file or URL of a fev benchmark. Its tasks are scored instead of data_path, by fev's metrics, with a
    result file per model for fev's leaderboards."""
    baselines: list[Literal["AutoETS", "AutoTheta"]] | None = None
    """Models of statsforecast, fitted to each series and scored too. null is both if statsforecast is installed. []
    is none."""
    windows: int = 1
    """Rolling origins per series, one horizon apart. 1 scores the last window only."""
    prediction_length: int | None = None
    """Steps of the horizon. null is `horizon`, or else inference.prediction_length."""
    report_path: str | None = None
    """Folder of the report (docs/evaluation.md lists its files). null is reports in paths.data_dir."""

    def __post_init__(self) -> None:
        check_at_least("evaluation.windows", self.windows, 1)
        check_at_least("evaluation.prediction_length", self.prediction_length, 1)
        if self.fev_tasks is not None:
            names = ("data_path", "windows", "prediction_length", "baselines")
            check_defaults("evaluation", self, names, "evaluation.fev_tasks sets them")
        check_sources("evaluation.data_path", self.data_path, "{path, name, freq, prediction_length, seasonality}")
        for name in ("models", "baselines"):
            values = listed(getattr(self, name) or [])
            if len(set(values)) < len(values):
                raise UserError(f"evaluation.{name} has a name twice: {', '.join(values)}; name each once")


@dataclass(frozen=True)
class PathsConfig:
    """Folders of the other defaults."""

    data_dir: str = "data"
    """Parent of cache/ (converted series), synthetic/ and reports/."""
    models_dir: str = "data/models"
    """Parent of base/, trained/ and onnx/."""
    cache_size: float = 50.0
    """Maximum size of cache/ in GB. Beyond it, the stores that were not used longest are removed."""
    predictions_dir: str = "data/predictions"
    """Parent of the forecasts."""
    dummy_data_dir: str = "data/dummy"
    """Folder of dummy.arrow and dummy_future.parquet, which generate writes."""

    def __post_init__(self) -> None:
        check_above("paths.cache_size", self.cache_size, 0)


@dataclass(frozen=True)
class Config:
    """The whole configuration, as in config/chronos_config.yaml."""

    horizon: int | None = None
    """Steps to forecast: the default of training., inference. and evaluation.prediction_length, and of
    data.test_length. On the command line it takes precedence over the keys of a file."""
    chronos: GeneralConfig = field(default_factory=GeneralConfig)
    base_model: BaseModelConfig = field(default_factory=BaseModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)

    def __post_init__(self) -> None:
        check_at_least("horizon", self.horizon, 1)
        for name in ("training", "inference", "evaluation"):
            section = getattr(self, name)
            has_tasks = name == "evaluation" and section.fev_tasks is not None  # which have their own horizons
            if section.prediction_length is None and self.horizon is not None and not has_tasks:
                object.__setattr__(self, name, replace(section, prediction_length=self.horizon))
        for section in fields(self):
            if section.name != "horizon":
                check_choices(section.name, getattr(self, section.name))
                check_not_empty(section.name, getattr(self, section.name))
        inputs = {
            "base_model.model_name": self.base_model.model_name,
            "data.train": self.data.train,
            "inference.model_path": self.inference.model_path,
            "export.model_path": self.export.model_path,
            "inference.data_path": self.inference.data_path,
            "inference.future_path": self.inference.future_path,
            "evaluation.data_path": self.evaluation.data_path,
            "evaluation.models": self.evaluation.models,
        }
        for key, sources in inputs.items():
            for path in source_paths(sources):
                check_path_length(key, path)

    def base_path(self) -> Path:
        """Return the folder of the base model."""
        return Path(self.base_model.output_path or Path(self.paths.models_dir, "base"))

    def test_length(self) -> int:
        """Return the number of steps at the end of every series that training leaves out."""
        configured = self.data.test_length
        return (self.horizon or 0) * self.evaluation.windows if configured is None else configured

    def trained_path(self) -> Path:
        """Return the folder of the trained model."""
        return Path(self.training.output_path or Path(self.paths.models_dir, "trained"))

    def forecast_model(self) -> str:
        """Return the model to forecast with."""
        return self.inference.model_path or str(self.trained_path())

    def export_path(self) -> Path:
        """Return the folder of the exported model."""
        return Path(self.export.output_path or Path(self.paths.models_dir, "onnx"))

    def forecast_horizon(self) -> int:
        """Return the number of steps to forecast; `pipeline.cli` has filled in the one that the model remembers."""
        return self.inference.prediction_length or DEFAULT_HORIZON

    def cache_path(self) -> Path:
        """Return the folder of converted series."""
        return Path(self.paths.data_dir, "cache")

    def dummy_path(self) -> Path:
        """Return the file of the generated dummy data."""
        return Path(self.paths.dummy_data_dir, "dummy.arrow")

    def synthetic_path(self) -> Path:
        """Return the folder of the synthetic series."""
        return Path(self.synthetic.output_path or Path(self.paths.data_dir, "synthetic", self.synthetic.generator))

    def predictions_path(self, name: str = "predictions") -> Path:
        """Return the file of the forecasts; in a folder, it has the given name."""
        path = Path(self.inference.output_path or self.paths.predictions_dir)
        # os.path takes names that are too long for a file.
        is_folder = not path.suffix or (path.suffix not in FORECAST_SUFFIXES and os.path.isdir(path))
        return path / f"{name}.parquet" if is_folder else path

    def scored_models(self) -> list[str]:
        """Return the models to score."""
        named = self.evaluation.models
        return [str(self.base_path()), str(self.trained_path())] if named is None else listed(named)

    def report_path(self) -> Path:
        """Return the folder of the evaluation report."""
        return Path(self.evaluation.report_path or Path(self.paths.data_dir, "reports"))

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration as nested dictionaries of YAML values, with web addresses without their queries."""
        return redact_addresses(to_serializable(asdict(self)))


def listed(names: Names) -> list[str]:
    """Return one name or a list of names as a list."""
    return [names] if isinstance(names, str) else names
