"""The command forecast.py: forecasts of a whole source in one file, and a picture."""

from __future__ import annotations

import logging
from pathlib import Path

from pipeline.config import Config
from pipeline.core.errors import UserError
from pipeline.core.files import check_writable_file
from pipeline.core.processes import Processes
from pipeline.core.progress import progress
from pipeline.data.source import open_configured
from pipeline.forecasting.files import Parts, check_predictions_path, identity_of
from pipeline.forecasting.plots import drawn_forecasts, forecast_figure, save_figure
from pipeline.forecasting.request import make_request
from pipeline.forecasting.tables import split_parts
from pipeline.models.base import provide_base
from pipeline.models.checkpoint import read_formats
from pipeline.models.find import check_model

logger = logging.getLogger(__name__)


def forecast(config: Config) -> Path:
    """Forecast the series of inference.data_path, write the forecasts and a picture if configured, and return the file.

    Several processes share the series, and the first one writes the file.

    Raises:
        UserError: the model, the data or a path is wrong.
    """
    inference, processes, device = config.inference, Processes(), config.chronos.device
    path = _checked_output_path(config)
    model = config.forecast_model()
    is_base = inference.model_path is None and not config.trained_path().exists()
    if processes.rank:
        processes.barrier(device)  # the first process converts the source
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
    forecaster = Forecaster.load(model, device, config.chronos.seed, inference.precision)
    request = make_request(config, forecaster, store, config.forecast_horizon())
    parts = Parts(path, identity_of(model, store, request, config.chronos.seed, inference.precision))
    if processes.rank == 0:
        parts.claim()
        processes.barrier(device)
    with progress(None, -(-len(store) // processes.count), "series") as bar:
        for n_items in parts.fill(forecaster, store, request, processes.rank, processes.count):
            bar.update(n_items)
    processes.barrier(device)
    if processes.rank == 0:
        n_rows = parts.merge(len(split_parts(store, request)))
        logger.info("%d series, %d forecast steps: %s", len(store), n_rows, path)
        if inference.plot_path is not None:
            save_figure(forecast_figure(drawn_forecasts(forecaster, store, request)), inference.plot_path)
            logger.info("picture: %s", inference.plot_path)
    return path


def _checked_output_path(config: Config) -> Path:
    """Return the file of the forecasts, after checking that it and the picture can be written.

    Raises:
        UserError: a path cannot be written, or is that of an input or of the other output.
    """
    inference, path = config.inference, config.predictions_path()
    check_predictions_path(path)
    outputs = {"inference.output_path": path}
    if inference.plot_path is not None:
        outputs["inference.plot_path"] = Path(inference.plot_path)
        check_writable_file(inference.plot_path)
    taken = [Path(source) for source in (inference.data_path, inference.future_path) if isinstance(source, str)]
    for key, output in outputs.items():
        for other in taken:
            if output.resolve() == other.resolve() or (other.exists() and output.exists() and output.samefile(other)):
                raise UserError(f"{key}: {output} is another file of this forecast; choose another path")
        taken.append(output)
    return path
