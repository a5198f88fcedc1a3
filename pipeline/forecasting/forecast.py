"""The command forecast.py: forecasts of a whole source in one file, and a picture."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Config, source_paths
from pipeline.core.checks import check_outputs
from pipeline.core.errors import UserError
from pipeline.core.locks import locked
from pipeline.core.processes import Processes
from pipeline.core.progress import progress
from pipeline.data.arrow_store import Store
from pipeline.data.source import open_configured
from pipeline.forecasting.files import Parts, check_predictions_size, check_suffix, identity_of
from pipeline.forecasting.flags import drawn_flags, flag_part, make_flag_request
from pipeline.forecasting.plots import drawn_forecasts, forecast_figure, save_figure
from pipeline.forecasting.request import Request, make_request
from pipeline.forecasting.tables import forecast_part, split_parts
from pipeline.models.base import provide_base
from pipeline.models.checkpoint import read_formats
from pipeline.models.export import provide_export
from pipeline.models.find import check_model

if TYPE_CHECKING:
    from pipeline.forecasting.forecaster import Forecaster

logger = logging.getLogger(__name__)


def forecast(config: Config, flag: bool = False) -> Path:
    """Forecast the series of inference.data_path, write the forecasts and a picture if configured, and return the file.

    Several processes share the series, and the first one writes the file.

    Args:
        flag: flag anomalies in the last steps of the series in place of forecasting the steps after them.

    Raises:
        UserError: the model, the data or a path is wrong.
    """
    path = _checked_output_path(config, "flags" if flag else "predictions")
    with locked(path, "inference.output_path") if Processes().rank == 0 else nullcontext():
        return _forecast(config, path, flag)


def _forecast(config: Config, path: Path, flag: bool) -> Path:
    processes = Processes()
    with processes.first_alone(config.chronos.device):
        forecaster, store, request = _prepare(config, flag)
        check_predictions_size(path, store, request)
        parts = Parts(path, identity_of(forecaster, store, request, config.inference.precision))
        if processes.rank == 0:
            parts.claim()
    try:
        with progress(None, -(-len(store) // processes.count), "series") as bar:
            make = flag_part if flag else forecast_part
            for n_items in parts.fill(forecaster, store, request, processes.rank, processes.count, make):
                bar.update(n_items)
    except UserError:
        parts.remove_if_empty()
        raise
    processes.barrier(config.chronos.device)
    if processes.rank == 0:
        n_parts = len(split_parts(store, request))
        n_anomalies = sum(parts.read(number)["is_anomaly"].to_numpy().sum() for number in range(n_parts)) if flag else 0
        n_rows = parts.merge(n_parts)
        steps = f"{n_anomalies} anomalies in {n_rows} steps" if flag else f"{n_rows} forecast steps"
        logger.info("%d series, %s: %s", len(store), steps, path)
        if config.inference.plot_path is not None:
            draw: Callable = drawn_flags if flag else drawn_forecasts
            save_figure(forecast_figure(draw(forecaster, store, request)), config.inference.plot_path)
            logger.info("picture: %s", config.inference.plot_path)
    return path


def _prepare(config: Config, flag: bool) -> tuple[Forecaster, Store, Request]:
    """Return the model, the series and the settings of their forecasts.

    Raises:
        UserError: the model, the data or a setting is wrong.
    """
    model, inference = config.forecast_model(), config.inference
    if flag and inference.future_path is not None:
        raise UserError("inference.future_path has no effect with --flag, which forecasts steps of the data; remove it")
    is_base = inference.model_path is None and not config.trained_path().exists()
    # Before torch is imported, so that a wrong source is refused without waiting for it.
    if is_base:
        logger.warning(
            "there is no trained model in %s, so the base forecasts zero-shot, %d steps; train a model, or name one "
            "with inference.model_path",
            config.trained_path(),
            config.forecast_horizon(),
        )
    else:
        check_model(model)
    store = open_configured(config, inference.data_path, formats=read_formats(model))
    from pipeline.forecasting.forecaster import Forecaster

    if is_base:
        model = str(provide_base(config).path)
    if inference.engine == "onnx":
        model = provide_export(config, model)
    forecaster = Forecaster.of_config(model, config).with_min_batch()
    make = make_flag_request if flag else make_request
    return forecaster, store, make(config, forecaster, store, config.forecast_horizon())


def _checked_output_path(config: Config, name: str) -> Path:
    """Return the file of the forecasts, after checking that it and the picture can be written.

    Raises:
        UserError: a path cannot be written, or is that of an input or of the other output.
    """
    inference, path = config.inference, config.predictions_path(name)
    check_suffix(path)
    outputs = {"inference.output_path": path}
    if inference.plot_path is not None:
        outputs["inference.plot_path"] = Path(inference.plot_path)
        if outputs["inference.plot_path"].suffix.lower() != ".png":
            raise UserError(f"inference.plot_path: {inference.plot_path} is a PNG file; give it the suffix .png")
    inputs = {
        "inference.data_path": source_paths(inference.data_path or str(config.dummy_path())),
        "inference.future_path": source_paths(inference.future_path),
        "inference.model_path": [config.forecast_model()],
    }
    check_outputs(files=outputs, inputs=inputs)
    return path
