"""The commands of `chronos-native` and of the scripts: what each runs, and its short options."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.config import Config
from pipeline.core.urls import redact_text

PROGRAM = "chronos-native"
logger = logging.getLogger("pipeline")


@dataclass(frozen=True)
class Option:
    """A short name of a key on the command line of one command."""

    name: str
    key: str
    """Key of the configuration."""
    value: str
    """Name of the value in `--help`."""
    help: str


@dataclass(frozen=True)
class Command:
    """A command: a function of the configuration, and its short options."""

    run: Callable[..., None]
    """Called with the configuration, and with the value of the flag by name if there is one. Its docstring is shown by
    `--help`."""
    options: tuple[Option, ...]
    positional: Option | None = None
    """The argument without a name."""
    flag: tuple[str, str] | None = None
    """Name and help text of a switch."""
    example: str = ""


def train(config: Config, dry_run: bool) -> None:
    """Fine-tune the base model on your series; if that does not lower the loss on held-out steps, save the base."""
    from pipeline.training.plan import print_plan
    from pipeline.training.run import run_training

    if dry_run:
        return print_plan(config)
    result = run_training(config)
    logger.info("checkpoint: %s\n%s", config.trained_path(), result.verdict)


def forecast(config: Config, flag: bool) -> None:
    """Forecast the steps after the end of your series, with the trained model, or with the base if there is none."""
    from pipeline.forecasting.forecast import forecast

    forecast(config, flag)


def evaluate(config: Config) -> None:
    """Score the base, the trained model and baselines on the last steps of your series, and write a report."""
    from pipeline.evaluation.evaluate import evaluate

    arguments = sys.argv[2 if "evaluate" in sys.argv[1:2] else 1 :]
    evaluate(config, shlex.join([PROGRAM, "evaluate", *map(redact_text, arguments)]))


def generate(config: Config, preview: bool) -> None:
    """Generate synthetic series: patterns for a first try, the data bank, or mixtures of your own series."""
    from pipeline.synthetic.generate import generate

    generate(config, preview)


def base(config: Config) -> None:
    """Load a base model, and save it as a native Chronos checkpoint."""
    from pipeline.models.base import make_base

    info = make_base(config)
    name, architecture, parameters = info["model_name"], info["architecture"], info["parameters"]
    logger.info("%s: %s, %d parameters: %s", name, architecture, parameters, config.base_path())


def export(config: Config) -> None:
    """Export a Bolt or Chronos-2 model to ONNX: one file that forecasts without torch."""
    from pipeline.models.export import export_model

    export_model(config, config.export.model_path or config.forecast_model())


def clear_cache(config: Config) -> None:
    """Remove the converted series in the cache, and say what was removed."""
    from pipeline.data.cache import Cache

    removed, n_bytes = Cache(config.cache_path()).clear()
    logger.info("removed %d files (%.1f MB): %s", removed, n_bytes / 1e6, config.cache_path())


_HORIZON = Option("horizon", "horizon", "STEPS", "steps to forecast")
_TARGET = Option("target", "data.target", "COLUMN", "column of the values; several with commas, for Chronos-2")
_ID = Option("id", "data.id_column", "COLUMN", "column of the item ID that tells the series apart; several with commas")
_TIME = Option("time", "data.timestamp_column", "COLUMN", "column of the timestamps")
_KNOWN = Option("known", "data.known_covariates", "COLUMNS", "covariates known in the future, for Chronos-2")
_PAST = Option("past", "data.past_covariates", "COLUMNS", "covariates known in the past only, for Chronos-2")
_BASE = Option("base", "base_model.model_name", "MODEL", "base model: a Hub ID, a folder, builtin:chronos2-synth, ...")
_FREQ = Option("freq", "data.freq", "ALIAS", "frequency, such as h, D or MS; inferred from the timestamps by default")

COMMANDS: dict[str, Command] = {
    "train": Command(
        train,
        (
            _HORIZON,
            _TARGET,
            _ID,
            _TIME,
            _KNOWN,
            _PAST,
            _BASE,
            Option("method", "training.method", "full|lora", "train all weights, or low-rank adapters"),
            Option("time_limit", "training.time_limit", "SECONDS", "time that the run may take"),
            Option("output", "training.output_path", "FOLDER", "folder of the trained model"),
        ),
        Option(
            "DATA", "data.train", "", "your series: a file, folder, URL or Hub data set; by default, generated ones"
        ),
        ("dry_run", "print what the run would do, and do nothing"),
        "train sales.csv --horizon 28 --target sales --id store --time date --base builtin:chronos2-synth",
    ),
    "forecast": Command(
        forecast,
        (
            Option("model", "inference.model_path", "MODEL", "the model; by default, the trained one"),
            Option("horizon", "horizon", "STEPS", "steps to forecast; by default, those that it was trained for"),
            Option("future", "inference.future_path", "FILE", "known covariates at the steps to forecast"),
            Option("quantiles", "inference.quantiles", "LEVELS", "quantile levels, such as 0.1,0.5,0.9"),
            _TARGET,
            _ID,
            _TIME,
            _KNOWN,
            _PAST,
            Option("engine", "inference.engine", "torch|onnx", "library that computes the forecasts"),
            Option("plot", "inference.plot_path", "PNG", "picture of the first forecasts"),
            Option("output", "inference.output_path", "FILE", "file of the forecasts: .parquet, .csv, .jsonl or .xlsx"),
        ),
        Option("DATA", "inference.data_path", "", "your series, in any form that train reads"),
        ("flag", "flag anomalies: compare the last steps of each series with a forecast from the steps before"),
        "forecast sales.csv --output forecasts.csv",
    ),
    "evaluate": Command(
        evaluate,
        (
            Option(
                "models", "evaluation.models", "MODELS", "models to score; by default, the base and the trained one"
            ),
            Option(
                "windows", "evaluation.windows", "N", "forecast origins per series, one horizon apart; 1 by default"
            ),
            Option("horizon", "horizon", "STEPS", "steps to score; by default, those that the model was trained for"),
            Option("baselines", "evaluation.baselines", "NAMES", "of AutoETS and AutoTheta; [] for none"),
            _TARGET,
            _ID,
            _TIME,
            _KNOWN,
            _PAST,
            _FREQ,
            Option("output", "evaluation.report_path", "FOLDER", "folder of the report"),
        ),
        Option("DATA", "evaluation.data_path", "", "series that have the steps to score at their end"),
        example="evaluate sales.csv --windows 3",
    ),
    "generate": Command(
        generate,
        (
            Option("series", "synthetic.n_series", "N", "number of series"),
            Option("length", "synthetic.length", "STEPS", "steps of a series"),
            Option("bank", "synthetic.bank", "YAML", "priors, effects and their ranges"),
            Option("seed", "chronos.seed", "N", "seed of the series"),
            Option("output", "synthetic.output_path", "FOLDER", "folder of the files"),
        ),
        Option("GENERATOR", "synthetic.generator", "", "dummy (the default), bank, tsmixup, or one prior"),
        ("preview", "draw the priors and effects of the bank instead of writing series"),
        "generate bank --series 1000 --length 512",
    ),
    "base": Command(
        base,
        (
            Option("revision", "base_model.revision", "REVISION", "branch, tag or commit on the Hub"),
            Option("output", "base_model.output_path", "FOLDER", "folder of the checkpoint"),
        ),
        Option("MODEL", "base_model.model_name", "", "Hub ID, folder, s3:// prefix, builtin:NAME or scratch:SIZE"),
        example="base amazon/chronos-bolt-small",
    ),
    "export": Command(
        export,
        (
            Option("int8", "export.int8", "true", "weights as 8-bit integers, for a smaller file"),
            Option("output", "export.output_path", "FOLDER", "folder of model.onnx and onnx.json"),
        ),
        Option("MODEL", "export.model_path", "", "folder, Hub ID or builtin:NAME; by default, the trained model"),
        example="export data/models/trained --output sales-onnx",
    ),
    "clear-cache": Command(clear_cache, (Option("data", "paths.data_dir", "FOLDER", "folder with cache/ inside"),)),
}
