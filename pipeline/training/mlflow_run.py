"""One MLflow run for a whole training run: its parameters, the scores of both trainings, the report and the model."""

from __future__ import annotations

import importlib.metadata
import math
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pipeline
from pipeline.config import source_name
from pipeline.core.errors import UserError, to_one_line
from pipeline.core.locks import temporary_folder
from pipeline.models.checkpoint import TRAINING_INFO
from pipeline.training.checkpointing import RunFolder, published_files
from pipeline.training.selection import score_columns

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from pipeline.training.prepare import TrainingRun
    from pipeline.training.result import TrainingResult

_FLAVOR = "pipeline.mlflow_model"
"""The module that loads the model. It is named, since it imports classes that this package may not import."""
_REPORTED = ("report.md", "training.png", "forecasts.png", TRAINING_INFO)


@contextmanager
def mlflow_run(run: TrainingRun, arguments: TrainingArguments, folder: RunFolder) -> Iterator[str | None]:
    """Open an MLflow run while the block runs, and yield its ID; None if training.trainer.report_to lacks mlflow.

    A training that continues a killed one continues its MLflow run. On other processes than the first there is none.

    Raises:
        UserError: the MLflow server refuses the run, or cannot be reached.
    """
    if "mlflow" not in (arguments.report_to or ()) or arguments.process_index:
        yield None
        return
    import mlflow

    id_file = folder.path / "logs" / "mlflow_run_id"
    is_continued = id_file.is_file() and any(folder.checkpoints.glob("checkpoint-*"))
    run_id = id_file.read_text() if is_continued else None
    name = arguments.run_name or run.base.name
    with _user_errors(), mlflow.start_run(run_id, run_name=name, nested=True) as opened:  # nested in a run of the user
        if run_id is None:
            mlflow.log_params(parameters(run))
            id_file.parent.mkdir(exist_ok=True)
            id_file.write_text(opened.info.run_id)
        yield opened.info.run_id


@contextmanager
def _user_errors() -> Iterator[None]:
    """Turn the errors of MLflow, such as a server that cannot be reached, into a `UserError`."""
    import mlflow

    try:
        yield
    except mlflow.MlflowException as error:
        raise UserError(
            f"training.trainer.report_to: mlflow: {to_one_line(error)}; check MLFLOW_TRACKING_URI, or remove mlflow"
        ) from None  # its message may have the password of that address


def parameters(run: TrainingRun) -> dict[str, Any]:
    """Return the settings that tell training runs apart."""
    training = run.config.training
    sources = [source_name(source.path) for source in run.config.data.sources()]
    stores = [str(store.path or "in memory") for store in run.windows.stores()]
    return {
        "data": ", ".join(sources or stores),
        "number of series": sum(sampler.n_series for sampler in run.windows.samplers),
        "base model": run.base.name,
        "horizon": run.windows.prediction_length,
        "context": run.windows.context_length,
        "steps": run.recipe.steps,
        "learning rate": run.recipe.learning_rate,
        "batch size": training.batch_size,
        "method": training.method,
        "seed": run.config.chronos.seed,
    }


def log_files(result: TrainingResult, folder: Path) -> None:
    """Add the verdict, the scores of the selected model, the report and the model to the MLflow run of a result.

    Args:
        folder: the finished checkpoint with the files beside it.

    Raises:
        UserError: the MLflow server refuses something, or cannot be reached.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec

    horizon = ParamSpec("prediction_length", "long", result.run.windows.prediction_length)
    scores = score_columns(result.selection.winner.scores) if result.selection else {}
    with (
        _user_errors(),
        mlflow.start_run(result.mlflow_run, nested=True),
        temporary_folder() as temporary,
        warnings.catch_warnings(action="ignore"),  # MLflow asks for an example, which would publish some of the data
    ):
        mlflow.set_tag("verdict", result.verdict)
        mlflow.log_metrics({f"selected/{name}": value for name, value in scores.items() if math.isfinite(value)})
        for name in _REPORTED:
            if (folder / name).is_file():
                mlflow.log_artifact(str(folder / name))
        checkpoint = temporary / "checkpoint"
        checkpoint.mkdir()
        for path in published_files(folder):
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, checkpoint / path.name)
        mlflow.pyfunc.log_model(
            name="model",
            loader_module=_FLAVOR,
            data_path=str(checkpoint),
            code_paths=[str(Path(pipeline.__file__).parent)],
            pip_requirements=_requirements(),
            signature=ModelSignature(params=ParamSchema([horizon])),
        )


def _requirements() -> list[str]:
    """Return the installed versions of the packages that this one depends on."""
    lines = [line for line in importlib.metadata.requires("chronos-native") or [] if "extra ==" not in line]
    names = [re.split(r"[^\w.-]", line)[0] for line in lines]
    # A local version such as 2.8.0+cpu is not on PyPI.
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names]
