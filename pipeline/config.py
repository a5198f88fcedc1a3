"""The configuration: one frozen dataclass a section, checked when made. The docstring of a field is its `--help` text."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from pipeline.core.errors import UserError
from pipeline.core.files import to_serializable
from pipeline.core.series import Variates

LAYOUT = "0.1.0"

Pattern = Literal["trend", "seasonal", "noise"]
Names = str | list[str]
"""One name, or a list of them."""


@dataclass(frozen=True)
class GeneralConfig:
    """What concerns every step."""

    version: str = LAYOUT
    """Version of the configuration's layout; one that this release does not read is refused."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "cpu"
    """Where models run; auto takes a GPU where there is one."""
    seed: int = 0
    """Reaches the initial weights, the training windows, dropout, the sampled forecasts and all synthetic series."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise UserError(f"chronos.seed must be at least 0 and below 2^32, got {self.seed}")
        if self.version != LAYOUT:
            raise UserError(
                f"chronos.version: this release reads configurations of version {LAYOUT}, got {self.version}"
            )


@dataclass(frozen=True)
class BaseModelConfig:
    """The model that training starts from."""

    model_name: str = "amazon/chronos-bolt-base"
    """A Hub id, a local folder, an s3:// prefix, builtin:bolt-synth for the small model inside the package, or scratch:SIZE
    for random weights (t5-tiny, bolt-small, ...)."""
    revision: str | None = None
    """Branch, tag or commit on the Hub; null is the main branch."""
    output_path: str | None = None
    """Folder the native checkpoint is written to; training starts from it. Null is base in paths.models_dir."""
    convert_format: bool = True
    """Turn what is not yet a native Chronos checkpoint into one; false refuses it instead."""
    save_metadata: bool = True
    """Write model_info.json beside the weights."""


@dataclass(frozen=True)
class WeightedSource:
    """One of several sources of series, by its path."""

    path: str
    """As data.train names it."""
    weight: float = 1.0
    """Share of the training windows drawn from it, relative to the others' weights."""

    def __post_init__(self) -> None:
        _above(f"data.train: the weight of {self.path}", self.weight, 0)


@dataclass(frozen=True)
class DataConfig:
    """Where series come from and how their columns are named."""

    train: str | list[WeightedSource | str] | None = None
    """CSV, Excel, Parquet, JSON LogCallback, Arrow or Feather file, a folder of them, a GluonTS or datasets folder, or a Hub name;
    synthetic:bank or synthetic:PRIOR for series made as they are needed; or a list of these, each a path or {path,
    weight}. Null is the generated dummy data."""
    mixup: bool = False
    """Train on sums of stretches of up to three series (TSMixup), as synthetic.mixup says, in place of the series."""
    freq: str | None = None
    """Pandas frequency of the series; null infers it from the timestamps."""
    id_column: Names = "item_id"
    """Column that names the series, or several that do so together, such as [shop, product]; a file without it is read as
    one series."""
    timestamp_column: str = "timestamp"
    """Column of the timestamps; for training it may be absent."""
    target: Names = "target"
    """Column of the values; several are forecast together, by Chronos-2."""
    past_covariates: Names = field(default_factory=list)
    """Columns that help to forecast, known up to the forecast's start; numbers, or texts as categories. For Chronos-2."""
    known_covariates: Names = field(default_factory=list)
    """Columns that are known beyond the forecast's start too, such as prices and holidays. For Chronos-2."""
    wide: bool = False
    """A table with a column a series, named by its header, or a row a series and a column a time step, whose date is in the
    header; not of JSON LogCallback. False is a row a value, or a row with a list of values a series."""
    decimal: Literal["auto", ".", ","] = "auto"
    """What fractions begin with in CSV files; auto tells it from the values. The other mark may part thousands."""
    encoding: str = "utf-8"
    """Encoding of CSV files, such as cp1252; UTF-16 with a byte order mark is known by that."""
    sheet: str | None = None
    """Sheet of Excel workbooks that holds the series; null is the first that is not hidden."""
    test_length: int = 0
    """Steps at the end of every series that neither training nor validation sees, so that evaluate.py may score them."""

    def __post_init__(self) -> None:
        _at_least("data.test_length", self.test_length, 0)
        if self.train == []:
            raise UserError("data.train is an empty list; name at least one data set, or leave it null")
        _check_paths("data.train", self.train, "{path, weight}")
        try:
            "".encode(self.encoding)
        except LookupError as error:
            raise UserError(f"data.encoding: there is no {self.encoding!r}; write utf-8, cp1252, latin-1") from error
        ids = listed(self.id_column)
        if not ids:
            raise UserError("data.id_column is an empty list; name the columns, or leave it out for a single series")
        if self.wide and len(self.variates()) > 1:
            raise UserError("data.wide: a column a series leaves no room for covariates and several targets")
        names = (*ids, self.timestamp_column, *self.variates().names)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not self.target:
            raise UserError(
                "data: id_column, timestamp_column, target, past_covariates and known_covariates name a column each, "
                f"got {', '.join(twice) + ' more than once' if twice else 'no target'}"
            )

    def variates(self) -> Variates:
        """Return the columns of the values, by what they are."""
        return Variates(
            tuple(listed(self.target)), tuple(listed(self.past_covariates)), tuple(listed(self.known_covariates))
        )

    def sources(self) -> list[WeightedSource]:
        """Return `train` as a list, every member with its weight."""
        if self.train is None:
            return []
        listed = [self.train] if isinstance(self.train, str) else self.train
        return [WeightedSource(source) if isinstance(source, str) else source for source in listed]


@dataclass(frozen=True)
class DummyDataConfig:
    """The synthetic series of trend, season and noise."""

    n_samples: int = 1000
    """Number of series written."""
    n_series: int = 10
    """Number of distinct generating processes that the series are paths of."""
    length: int = 200
    """Steps in a series."""
    patterns: list[Pattern] = field(default_factory=lambda: ["trend", "seasonal", "noise"])
    """What a series is the sum of: any of trend, seasonal, noise."""
    num_processes: int = 1
    """Processes that generate; the series are the same for any number."""

    def __post_init__(self) -> None:
        _at_least("training.dummy_data.n_samples", self.n_samples, 1)
        _at_least("training.dummy_data.n_series", self.n_series, 1)
        _at_least("training.dummy_data.length", self.length, 2)
        _at_least("training.dummy_data.num_processes", self.num_processes, 1)
        if not self.patterns or len(set(self.patterns)) < len(self.patterns):
            raise UserError("training.dummy_data.patterns must name at least one pattern, and each once")


@dataclass(frozen=True)
class MixupConfig:
    """TSMixup: sums of stretches of several series."""

    max_series: int = 3
    """A sum has between one and so many series."""
    alpha: float = 1.5
    """Concentration of the Dirichlet distribution of their weights in a sum; large values make the weights alike."""
    min_length: int = 128
    """Fewest steps in a sum, where there are series of that length."""
    max_length: int = 2048
    """Most steps in a sum."""

    def __post_init__(self) -> None:
        _at_least("synthetic.mixup.max_series", self.max_series, 1)
        _above("synthetic.mixup.alpha", self.alpha, 0)
        _at_least("synthetic.mixup.min_length", self.min_length, 2)
        _at_least("synthetic.mixup.max_length", self.max_length, self.min_length)


@dataclass(frozen=True)
class SyntheticConfig:
    """The synthetic data bank, written by generate_data.py or made while training."""

    source: str = "dummy"
    """What generate_data.py writes: dummy (one file, by training.dummy_data), bank, tsmixup (of data.train), or one
    prior, such as kernel_synth or sarima."""
    bank: str | None = None
    """YAML file of priors, effects, their weights and ranges, of synthetic:bank and of each prior alone; null is the bank of
    config/bank.yaml."""
    n_series: int = 10000
    """Number of series written."""
    length: int = 1024
    """Steps in a series; for tsmixup synthetic.mixup says it."""
    shard_size: int = 10000
    """Series in a file."""
    num_processes: int = 1
    """Processes that generate; the files are the same for any number."""
    output_path: str | None = None
    """Folder of the files. Null is synthetic/SOURCE in paths.data_dir."""
    mixup: MixupConfig = field(default_factory=MixupConfig)
    """TSMixup, for data.mixup and for the source tsmixup."""

    def __post_init__(self) -> None:
        _at_least("synthetic.n_series", self.n_series, 1)
        _at_least("synthetic.length", self.length, 2)
        _at_least("synthetic.shard_size", self.shard_size, 1)
        _at_least("synthetic.num_processes", self.num_processes, 1)

    def check_source(self) -> None:
        """Refuse keys that the source to write does not go by.

        Raises:
            UserError: one is given.
        """
        if self.source == "dummy":
            names = ("n_series", "length", "shard_size", "num_processes", "output_path")
            _refuse_given(
                "synthetic", self, names, "training.dummy_data describes the series of synthetic.source dummy"
            )
        if self.source == "tsmixup":
            _refuse_given("synthetic", self, ("length",), "synthetic.mixup describes the series of tsmixup")


@dataclass(frozen=True)
class LoraConfig:
    """The low-rank adapters of training.method lora."""

    rank: int = 8
    """Rank of each adapter."""
    alpha: int = 16
    """Adapters are scaled by alpha / rank."""
    dropout: float = 0.0
    """Dropout on the adapters' input."""

    def __post_init__(self) -> None:
        _at_least("training.lora.rank", self.rank, 1)
        _above("training.lora.alpha", self.alpha, 0)
        if not 0 <= self.dropout < 1:
            raise UserError(f"training.lora.dropout must be at least 0 and below 1, got {self.dropout}")


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained."""

    epochs: float | Literal["auto"] = "auto"
    """Passes over the data: windows are drawn at random places, and one pass is as many as would cover each training step
    with their horizons once. auto is 10, or as many as 1,000 steps take (3,000 from random weights)."""
    max_steps: int | None = None
    """Optimiser steps; where given, it takes the place of epochs."""
    batch_size: int = 32
    """Windows an optimiser step, over all processes together."""
    learning_rate: float | Literal["auto"] = "auto"
    """Peak learning rate, which falls linearly to zero. auto is 1e-4 for T5 and GPT-2, 1e-5 for a Bolt 768 wide and in
    proportion more for a narrower one, 1e-6 for Chronos-2, and 5 to 10 times that for lora; from random weights 1e-3, and
    3e-3 for nano sizes, after a warm-up over 5% of the steps."""
    validation_split: float = 0.2
    """Share of every series, at its end, that candidates are scored on, before any of them has seen it: at least one
    horizon, at most half the series, and no more than validation_windows windows take. 0 compares nothing."""
    validation_windows: int | None = None
    """Most windows that a candidate is scored on; where there are more, they are spread evenly. Null is 512, or 64 for
    the token models, whose forecasts are sampled."""
    context_length: int | None = None
    """Steps of history in a training window; null is the model's own context, at most 512 from random weights. A model
    trained from random weights keeps this as its context, and one whose context is shorter gets this one."""
    prediction_length: int | None = None
    """Steps of the horizon in a training window: name the one that you forecast. Null is the model's own, at most 64 and
    at most a quarter of the median series. A model whose horizon is shorter gets this one."""
    quantiles: list[float] | None = None
    """Quantile levels that a Bolt or Chronos-2 model is to forecast, each between 0 and 1; null keeps its own."""
    min_past: int = 4
    """Steps of history that a training window has at least."""
    drop_prob: float = 0.0
    """Each window loses a share of its values, drawn between 0 and this; 0.2 is what the T5 models were trained with."""
    method: Literal["full", "lora"] = "full"
    """Train all weights, or low-rank adapters that are merged when the model is saved."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """The low-rank adapters of training.method lora."""
    freeze: Names = field(default_factory=list)
    """Weights that are not trained, by name, beginning of a name, or pattern: encoder, '*.wi.*', ..."""
    metric: Literal["wql", "mase", "loss"] = "loss"
    """What candidates are compared by on the validation windows."""
    blends: list[float] = field(default_factory=lambda: [0.25, 0.5, 0.75])
    """Candidates beside the checkpoints, once training is done: weights between the base's and those of the best checkpoint,
    or the one that training.refit holds in its place, base + a (tuned - base) for each a. [] tries none."""
    refit: bool = True
    """Train the candidate that won again as it was, with the held-out steps among the others, as the newest teach most.
    More data bear more steps, so of the checkpoints with four fifths of the best one's gain over the base the one trained
    longest is compared with its blends, and half of the way to it gone at most where its WQL, MASE and loss disagree (from
    a trained Bolt or Chronos-2). What comes of it is saved where it does no worse on them. At most twice the steps; false
    saves the best itself."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto is bfloat16 where the processor has it and the model is large enough to gain."""
    patience: int | None = None
    """Stop after so many evaluations in a row that were no improvement; null trains to the end."""
    output_path: str | None = None
    """Folder of the trained checkpoint, with checkpoints/, logs/ and refit/ inside. Null is trained in paths.models_dir."""
    resume: bool = True
    """Continue an unfinished run of the same configuration found in output_path."""
    overwrite: bool = False
    """Replace a run found in output_path; with resume, one that is the same and unfinished is continued."""
    push_to_hub: str | None = None
    """Repository on the Hub, owner/name, that the trained checkpoint is uploaded to, in private; null uploads nothing."""
    dummy_data: DummyDataConfig = field(default_factory=DummyDataConfig)
    """The synthetic series that generate_data.py writes."""
    trainer: dict[str, Any] = field(default_factory=dict)
    """Any field of transformers.TrainingArguments, e.g. --training.trainer.weight_decay 0.01"""

    def __post_init__(self) -> None:
        if self.epochs != "auto":
            _above("training.epochs", self.epochs, 0)
        _at_least("training.max_steps", self.max_steps, 1)
        _at_least("training.batch_size", self.batch_size, 1)
        if self.learning_rate != "auto":
            _above("training.learning_rate", self.learning_rate, 0)
        _at_least("training.validation_windows", self.validation_windows, 1)
        _at_least("training.context_length", self.context_length, 2)  # one value has no scale
        _at_least("training.prediction_length", self.prediction_length, 1)
        _at_least("training.min_past", self.min_past, 1)
        if self.quantiles is not None:
            _check_levels("training.quantiles", self.quantiles)
            if sorted(self.quantiles) != self.quantiles:
                raise UserError(f"training.quantiles must rise, got {self.quantiles}")
        if any(not 0 < share < 1 for share in self.blends):
            raise UserError(f"training.blends must lie between 0 and 1, got {self.blends}")
        if self.method != "lora":
            names = tuple(one.name for one in fields(LoraConfig))
            _refuse_given(
                "training.lora", self.lora, names, f"training.method {self.method} trains no low-rank adapters"
            )
        if self.freeze and self.method == "lora":
            raise UserError("training.freeze: low-rank adapters freeze all else already; leave it empty")
        if self.push_to_hub is not None and self.push_to_hub.count("/") != 1:
            raise UserError(f"training.push_to_hub must have the form owner/name, got {self.push_to_hub}")
        _at_least("training.patience", self.patience, 1)
        if self.patience is not None and self.validation_split == 0:
            raise UserError(
                "training.patience goes by validation scores, of which there are none: set training.validation_split"
            )
        if not 0 <= self.validation_split < 1:
            raise UserError(f"training.validation_split must be at least 0 and below 1, got {self.validation_split}")
        if not 0 <= self.drop_prob < 1:
            raise UserError(f"training.drop_prob must be at least 0 and below 1, got {self.drop_prob}")


@dataclass(frozen=True)
class InferenceConfig:
    """How forecasts are made."""

    model_path: str | None = None
    """Checkpoint folder or Hub id of the model, or builtin:bolt-synth; null is the trained one, training.output_path."""
    data_path: str | None = None
    """File, folder or Hub name of the series to forecast, in any format of data.train; null is the generated dummy data."""
    future_path: str | None = None
    """Table of data.known_covariates at the steps to forecast, in any long format; needed where there are any."""
    prediction_length: int = 48
    """Steps to forecast; it may be more than the model's own horizon."""
    context_length: int | None = None
    """Steps of history the model sees; null is all that it can take."""
    quantiles: list[float] = field(default_factory=lambda: [0.1, 0.5, 0.9])
    """Quantile levels to forecast, each between 0 and 1."""
    batch_size: int = 64
    """Series a forward pass."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the model; auto is that of the checkpoint's weights. bf16 rounds forecasts to three digits."""
    output_path: str | None = None
    """File for the forecasts (.parquet, .csv or .jsonl), or a folder, then predictions.parquet in it. Null is
    paths.predictions_dir."""
    plot_path: str | None = None
    """PNG file with history, median and 80% band of some series; null draws none."""

    def __post_init__(self) -> None:
        _at_least("inference.prediction_length", self.prediction_length, 1)
        _at_least("inference.context_length", self.context_length, 1)
        _at_least("inference.batch_size", self.batch_size, 1)
        _check_levels("inference.quantiles", self.quantiles)


@dataclass(frozen=True)
class EvaluationSet:
    """One data set to score on."""

    path: str
    """File, folder or Hub name, in any format of data.train."""
    name: str | None = None
    """Its name in the tables; null is the file's name."""
    freq: str | None = None
    """Pandas frequency; null is data.freq, or inferred."""
    prediction_length: int | None = None
    """Steps of the horizon; null is evaluation.prediction_length."""
    seasonality: int | None = None
    """Steps of the season that the baseline repeats; null follows from the frequency."""

    def __post_init__(self) -> None:
        _at_least(f"evaluation.data_path: prediction_length of {self.path}", self.prediction_length, 1)
        _at_least(f"evaluation.data_path: seasonality of {self.path}", self.seasonality, 1)


@dataclass(frozen=True)
class EvaluationConfig:
    """What is scored, and where the tables go."""

    data_path: str | list[EvaluationSet | str] | None = None
    """Series to score on; a list of paths or {path, name, freq, prediction_length, seasonality}; or a JSON file that
    lists such entries. Null is inference.data_path, or the generated dummy data."""
    models: Names | None = None
    """Checkpoint folders, Hub ids or builtin:bolt-synth; seasonal naive is always scored beside them. Null is the base and
    the trained model."""
    fev_tasks: str | None = None
    """YAML file or address of a benchmark of fev: its tasks are scored in place of data_path, by fev's own metrics, and
    each model's results written as fev's leaderboards take them."""
    baselines: list[Literal["AutoETS", "AutoTheta"]] | None = None
    """Models of statsforecast, fitted to each series, to score beside them. Null is both where statsforecast is installed;
    [] is none."""
    windows: int = 1
    """How many times each series is forecast, each time from one horizon further back; 1 is its last window only."""
    prediction_length: int | None = None
    """Steps of the horizon; null is inference.prediction_length."""
    batch_size: int = 64
    """Series a forward pass."""
    report_path: str | None = None
    """Folder for report.html, scores.md and the tables in CSV; null is reports in paths.data_dir."""

    def __post_init__(self) -> None:
        _at_least("evaluation.windows", self.windows, 1)
        _at_least("evaluation.prediction_length", self.prediction_length, 1)
        _at_least("evaluation.batch_size", self.batch_size, 1)
        if self.fev_tasks is not None:
            names = ("data_path", "windows", "prediction_length", "baselines")
            _refuse_given("evaluation", self, names, "evaluation.fev_tasks says what is scored, and how")
        if self.data_path == []:
            raise UserError("evaluation.data_path is an empty list; name at least one data set, or leave it null")
        _check_paths("evaluation.data_path", self.data_path, "{path, name, freq, prediction_length, seasonality}")


@dataclass(frozen=True)
class PathsConfig:
    """Folders that other defaults lie in."""

    data_dir: str = "data"
    """Holds cache/, the converted series, synthetic/ and reports/."""
    models_dir: str = "data/models"
    """Parent of base/ and trained/."""
    predictions_dir: str = "data/predictions"
    """Parent of forecasts."""
    dummy_data_dir: str = "data/dummy"
    """generate_data.py writes dummy.arrow here."""


@dataclass(frozen=True)
class Config:
    """The whole configuration, as config/chronos_config.yaml holds it."""

    chronos: GeneralConfig = field(default_factory=GeneralConfig)
    base_model: BaseModelConfig = field(default_factory=BaseModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)

    def base_path(self) -> Path:
        """Return the folder of the base model."""
        return Path(self.base_model.output_path or Path(self.paths.models_dir, "base"))

    def trained_path(self) -> Path:
        """Return the folder of the trained model."""
        return Path(self.training.output_path or Path(self.paths.models_dir, "trained"))

    def cache_path(self) -> Path:
        """Return the folder of converted series."""
        return Path(self.paths.data_dir, "cache")

    def dummy_path(self) -> Path:
        """Return the file of the generated dummy data."""
        return Path(self.paths.dummy_data_dir, "dummy.arrow")

    def synthetic_path(self) -> Path:
        """Return the folder of the synthetic series."""
        return Path(self.synthetic.output_path or Path(self.paths.data_dir, "synthetic", self.synthetic.source))

    def predictions_path(self) -> Path:
        """Return the file that forecasts go to."""
        path = Path(self.inference.output_path or self.paths.predictions_dir)
        return path if path.suffix else path / "predictions.parquet"

    def scored_models(self) -> list[str]:
        """Return the models that evaluate.py scores."""
        named = self.evaluation.models
        return [str(self.base_path()), str(self.trained_path())] if named is None else listed(named)

    def report_path(self) -> Path:
        """Return the folder that score tables go to."""
        return Path(self.evaluation.report_path or Path(self.paths.data_dir, "reports"))

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration as nested dictionaries of plain values."""
        return to_serializable(asdict(self))


def listed(names: Names) -> list[str]:
    """Return the names as a list, one as a list of one."""
    return [names] if isinstance(names, str) else names


def _at_least(key: str, value: float | None, least: float) -> None:
    if value is not None and not value >= least:
        raise UserError(f"{key} must be at least {least}, got {value}")


def _above(key: str, value: float, bound: float) -> None:
    if not bound < value < float("inf"):
        raise UserError(f"{key} must be above {bound}, got {value}")


def _refuse_given(section: str, given: Any, names: tuple[str, ...], why: str) -> None:
    """Refuse keys of a section that would have no effect, and say why they would have none."""
    defaults = {one.name: one.default for one in fields(given)}
    said = [f"{section}.{name}" for name in names if getattr(given, name) != defaults[name]]
    if said:
        raise UserError(f"{', '.join(said)} would have no effect, as {why}; leave out the one or the other")


def _check_paths(key: str, given: Any, entry: str) -> None:
    """Refuse what is a list or an entry of one with a mistyped key, which the parser takes for the path that it may be."""
    for one in given if isinstance(given, list) else [given]:
        if isinstance(one, str) and one.startswith(("[", "{")) and not Path(one).exists():
            raise UserError(f"{key} does not parse: {one}; it takes a path, {entry}, or a list of these")


def _check_levels(key: str, levels: list[float]) -> None:
    if not levels:
        raise UserError(f"{key} names no level; name at least one between 0 and 1")
    if any(not 0 < level < 1 for level in levels):
        raise UserError(f"{key} must lie between 0 and 1, got {levels}")
    if len(set(levels)) < len(levels):
        raise UserError(f"{key} names a level twice: {levels}")
