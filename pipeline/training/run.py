"""A training run, read from top to bottom: prepare, score the base, train, select, retrain on all data, save.

torch and transformers are imported inside the functions, so that wrong input is refused without waiting
for these imports.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import Config, source_paths
from pipeline.core.checks import check_outputs
from pipeline.core.errors import UserError
from pipeline.core.processes import Processes
from pipeline.core.progress import quiet_transformers
from pipeline.data.source import open_configured
from pipeline.evaluation.comparison import compare
from pipeline.forecasting.plots import beside_base
from pipeline.models.base import provide_base, trained_base
from pipeline.models.checkpoint import Checkpoint, read_formats
from pipeline.models.upload import check_upload, upload
from pipeline.training.checkpointing import RunFolder
from pipeline.training.forgetting import measure_forgetting
from pipeline.training.prepare import TrainingRun, check_agreement, prepare_run, prepare_windows, warn_about_setup
from pipeline.training.result import TrainingResult
from pipeline.training.selection import MIN_FLIP_GAIN, Candidate, Refit, Selection, select
from pipeline.training.time_limit import limit_steps
from pipeline.windows.training_sets import TrainingSet, open_training_data

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from pipeline.training.trainer import Scored, ScoringTrainer

logger = logging.getLogger(__name__)


def run_training(config: Config, data: Any = None) -> TrainingResult:
    """Train as a configuration says, save the model to training.output_path, and upload it if that is configured.

    Args:
        data: a table, an array or a store in memory; None takes the series from data.train.

    Raises:
        UserError: the base, the data, a setting or the output folder is wrong.
    """
    begin = time.monotonic()
    run, folder = prepare(config, data)
    result = train(limit_steps(run, folder, begin), folder)
    save(result, folder, config.training.push_to_hub)
    return result


def prepare(config: Config, data: Any = None) -> tuple[TrainingRun, RunFolder]:
    """Return the run of a configuration and its folder; whatever is wrong is refused here, before training.

    The base is downloaded and converted if its folder does not contain it yet. Otherwise, torch is not imported.

    Args:
        data: as in `run_training`.

    Raises:
        UserError: the base, the data, a setting or the output folder is wrong.
    """
    check_outputs(
        folders={"training.output_path": config.trained_path()},
        inputs={
            "data.train": source_paths(config.data.sources()),
            "base_model.output_path": [config.base_path()],
            "base_model.model_name": [config.base_model.model_name],
            "synthetic.bank": source_paths(config.synthetic.bank),
        },
    )
    folder = RunFolder(config.trained_path())
    folder.check(config.training.resume, config.training.overwrite)
    if config.training.push_to_hub is not None:
        check_upload(config.training.push_to_hub)
    formats = read_formats(trained_base(config))
    with Processes().first_alone(config.chronos.device):
        if data is None:
            sets = open_training_data(config, formats)
        else:
            store = open_configured(config, data, formats=formats)
            if store.path is not None:
                config = replace(config, data=replace(config.data, train=str(store.path)))
            sets = [TrainingSet(store, 1.0, "the data")]
    checkpoint = provide_base(config)
    windows = prepare_windows(config, checkpoint, sets)
    return prepare_run(config, checkpoint, windows, config.training.epochs), folder


@quiet_transformers()
def train(run: TrainingRun, folder: RunFolder) -> TrainingResult:
    """Train the base, select weights by their scores on the validation windows, and retrain the winner on all data.

    Args:
        folder: the folder of checkpoints and logs; a killed run in it is continued.

    Raises:
        UserError: an argument of training.trainer is wrong, or the folder has another run.
    """
    from pipeline.training.fit import build_trainer, first_phase, fit, phase_arguments
    from pipeline.training.mlflow_run import mlflow_run

    first = first_phase(run, folder)
    arguments = phase_arguments(run, first)
    logger.info(run.recipe.description)
    warn_about_setup(run, arguments.device.type)
    identity = run.identity(arguments)
    check_agreement(identity)
    trainer = build_trainer(run, first, arguments)
    with _claimed(folder, run, identity, arguments), mlflow_run(run, arguments, folder) as tracked:
        fit(run, first, trainer)
        history = trainer.state.log_history
        model, selection, comparison, refit, drawn = trainer.unwrapped_model(), None, None, None, []
        if run.validation is not None:
            selection, winner, base = _select(run, trainer)
            model = model if selection.is_trained else _base_model(run, trainer)
            if run.config.inference.flip == "auto":
                winner, base = _choose_flip(run, trainer, model, winner, base)
            drawn = winner.drawn
            if selection.is_trained:
                drawn = beside_base(drawn, base.drawn) or drawn
                dataset, series = run.validation.row_keys()
                comparison = compare(winner.errors, base.errors, series, dataset)
        flip = trainer.flip
        del trainer
        if run.all_windows is not None and selection is not None and selection.is_trained:
            retrained, refit = _retrain_on_all_data(run, selection.winner, folder.refit)
            model = retrained if refit.saved else model
        is_trained = selection is None or selection.is_trained
        model, adapter = _merge_adapter(run, model, trained=is_trained)
        forgetting = measure_forgetting(run, model, arguments.device, flip) if is_trained else None
    return TrainingResult(
        run=run,
        model=model,
        adapter=adapter,
        selection=selection,
        comparison=comparison,
        refit=refit,
        flip=flip,
        forgetting=forgetting,
        drawn=drawn,
        history=history,
        identity=identity,
        mlflow_run=tracked,
    )


@contextlib.contextmanager
def _claimed(
    folder: RunFolder, run: TrainingRun, identity: dict[str, Any], arguments: TrainingArguments
) -> Iterator[None]:
    """Hold the lock of the folder while the block runs, after making sure that the folder is this run's.

    Raises:
        UserError: another run writes to the folder, or an unfinished run in it differs from this one.
    """
    training = run.config.training
    with contextlib.ExitStack() as lock:
        with arguments.main_process_first(local=False):
            if arguments.process_index == 0:
                lock.enter_context(folder.locked())
                folder.claim(identity, resume=training.resume, overwrite=training.overwrite)
        yield


def _select(run: TrainingRun, trainer: ScoringTrainer) -> tuple[Selection, Scored, Scored]:
    """Compare the trained model with the base.

    Returns:
        the selection, the score of the winner, and that of the base.
    """
    step = trainer.state.global_step
    base = trainer.scored.get(0) or trainer.score(_base_model(run, trainer))
    trained = trainer.scored.get(step) or trainer.score(trainer.unwrapped_model())
    selection = select(Candidate(0, base.scores), Candidate(step, trained.scores), run.config.training.metric)
    return selection, trained if selection.is_trained else base, base


def _base_model(run: TrainingRun, trainer: ScoringTrainer) -> Any:
    """Return the base as training begins with it."""
    from pipeline.training.fit import trainable_model

    return trainable_model(run, trainer.args).to(trainer.args.device)


def _choose_flip(
    run: TrainingRun, trainer: ScoringTrainer, model: Any, winner: Scored, base: Scored
) -> tuple[Scored, Scored]:
    """Score the winner with flip too, and set `trainer.flip` to whether this is better.

    Returns:
        the scores of the winner and of the base, both with flip if it is better.
    """
    metric = "mase" if run.config.training.metric == "mase" else "wql"
    trainer.flip = True
    flipped = trainer.score(model)
    with_flip, without = flipped.scores[metric], winner.scores[metric]
    logger.info("%s with flip: %.4f, without: %.4f (inference.flip)", metric.upper(), with_flip, without)
    if without and 1 - with_flip / without >= MIN_FLIP_GAIN:
        return flipped, trainer.score(_base_model(run, trainer))
    trainer.flip = False
    return winner, base


def _retrain_on_all_data(run: TrainingRun, winner: Candidate, folder: RunFolder) -> tuple[Any, Refit]:
    """Train the base for as many steps with the holdout in the data.

    Returns:
        the retrained model, and its scores on the validation windows, which it has seen.
    """
    from accelerate.utils.memory import clear_device_cache

    from pipeline.training.fit import Phase, build_trainer, fit, phase_arguments

    assert run.all_windows is not None
    logger.info("retraining on all data for %d steps", run.recipe.steps)
    clear_device_cache(garbage_collection=True)
    phase = Phase(run.all_windows, folder, scored=False)
    trainer = build_trainer(run, phase, phase_arguments(run, phase))
    fit(run, phase, trainer)
    model, metric = trainer.unwrapped_model(), run.config.training.metric
    scores = trainer.score(model).scores
    logger.info("retrained: WQL %.4f on the validation windows, which the model has seen", scores["wql"])
    return model, Refit(run.recipe.steps, scores, saved=bool(scores[metric] <= winner.scores[metric]))


def _merge_adapter(run: TrainingRun, model: Any, *, trained: bool) -> tuple[Any, tuple[Any, dict[str, Any]] | None]:
    """Return the model with its low-rank adapters merged, and the adapters if they fit the base."""
    if run.config.training.method != "lora":
        return model, None
    from pipeline.models.adapt import extract_adapter

    adapter, checkpoint = None, run.base.checkpoint
    if trained and _has_head_of(checkpoint, model):
        name, revision = run.base.hub_commit or (str(Path(checkpoint.path).resolve()), None)
        adapter = extract_adapter(model, name, revision)
    elif trained:
        logger.warning("the adapter is merged and not saved on its own: its output head does not fit the base's")
    return model.merge_and_unload(), adapter


def _has_head_of(checkpoint: Checkpoint, model: Any) -> bool:
    """Return whether a model forecasts the horizon and the levels of a checkpoint, so that adapters fit both."""
    shape = model.config.chronos_config
    longer = checkpoint.family == "bolt" and shape["prediction_length"] != checkpoint.prediction_length
    return not longer and shape.get("quantiles") == checkpoint.quantiles


@quiet_transformers()
def save(result: TrainingResult, folder: RunFolder, repository: str | None = None) -> None:
    """Write the model, with everything that is saved beside it, to the folder of the run, which finishes the run.

    Args:
        repository: upload the model to this repository of the Hub before the run is finished, so that a run that is
            killed meanwhile continues with the upload.

    Raises:
        UserError: the folder cannot be written, or the upload failed; then the model is saved.
    """
    from pipeline.training.mlflow_run import log_files
    from pipeline.training.report import write_files

    if Processes().rank:
        return
    failure = None
    with folder.publishing(result.run.config.training.keep_checkpoints) as staging:
        write_files(result, staging, folder.path)
        if repository is not None:
            try:
                logger.info("uploaded: %s", upload(staging, repository, folder.path))
            except UserError as error:
                failure = error
    if result.mlflow_run is not None:
        log_files(result, folder.path)
    if failure is not None:
        raise failure
