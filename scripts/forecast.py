"""Forecast your series with a trained model."""

import logging
from pathlib import Path

from pipeline.cli import progress, run
from pipeline.config import Config
from pipeline.core.errors import UserError
from pipeline.core.processes import Processes

logger = logging.getLogger("pipeline")


def main(config: Config) -> None:
    """Load the model and the series, forecast, and write the predictions and, where asked for, a picture."""
    from pipeline.core.files import check_file
    from pipeline.data.source import open_configured
    from pipeline.forecasting.files import Parts, check_predictions_path, identity_of, parts_of
    from pipeline.load_model import ChronosLoader

    inference, output = config.inference, config.predictions_path()
    check_predictions_path(output)
    for given in (inference.data_path, inference.future_path):
        if given is not None and Path(given).exists() and output.exists() and output.samefile(given):
            raise UserError(f"inference.output_path: {output} is what is forecast from; give another file")
    if inference.plot_path is not None:
        check_file(inference.plot_path)
    processes, device = Processes(), config.chronos.device
    model = inference.model_path or str(config.trained_path())
    loader = ChronosLoader(model)
    loader.config = config
    loader.load_trained_model()
    if processes.rank:
        processes.barrier(device)  # the first one converts the series
    store = open_configured(config, inference.data_path)
    request = loader.request(store, inference.prediction_length)
    parts = Parts(output, identity_of(model, store, request, config.chronos.seed, inference.precision))
    if processes.rank == 0:
        parts.claim()
        processes.barrier(device)
    with progress(None, -(-len(store) // processes.count), "series") as bar:
        for n_items in parts.fill(loader.loaded(), store, request, processes.rank, processes.count):
            bar.update(n_items)
    processes.barrier(device)
    if processes.rank:
        return
    n_rows = parts.merge(len(parts_of(store, request)))
    logger.info("%d series, %d forecast steps: %s", len(store), n_rows, output)
    if inference.plot_path is not None:
        loader.plot(store, Path(inference.plot_path), request)
        logger.info("picture: %s", inference.plot_path)


if __name__ == "__main__":
    run(main)
