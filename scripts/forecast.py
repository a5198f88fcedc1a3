"""Forecast your series with a trained model."""

import logging
from pathlib import Path

from pipeline.command import run
from pipeline.config import Config

logger = logging.getLogger("pipeline")


def main(config: Config) -> None:
    """Load the model and the series, forecast, and write the predictions and, where asked for, a picture."""
    from pipeline.data_source import open_configured
    from pipeline.files import check_folder
    from pipeline.forecasting import check_predictions_path, forecast_store, write_predictions
    from pipeline.future import open_future
    from pipeline.load_model import ChronosLoader

    inference, output = config.inference, config.predictions_path()
    check_predictions_path(output)
    if inference.plot_path is not None:
        check_folder(Path(inference.plot_path).parent)
    loader = ChronosLoader(inference.model_path or str(config.trained_path()))
    loader.config = config
    loader.load_trained_model()
    store = open_configured(config, inference.data_path)
    future = open_future(config, store)
    loader.check_categories(store, future)
    tables = forecast_store(
        loader.loaded(),
        store,
        prediction_length=inference.prediction_length,
        levels=inference.quantiles,
        context_length=inference.context_length,
        batch_size=inference.batch_size,
        target_names=config.data.variates().targets,
        future=future,
    )
    n_rows = write_predictions(output, tables)
    logger.info("%d series, %d forecast steps: %s", len(store), n_rows, output)
    if inference.plot_path is not None:
        loader.plot(store, Path(inference.plot_path), future)
        logger.info("picture: %s", inference.plot_path)


if __name__ == "__main__":
    run(main)
