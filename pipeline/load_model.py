"""`ChronosLoader`: a trained checkpoint in, forecasts and scores out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.config import Config
from pipeline.core.errors import UserError
from pipeline.data.arrow_store import Store
from pipeline.data.source import open_configured
from pipeline.forecasting.files import write_predictions
from pipeline.forecasting.forecaster import Forecaster
from pipeline.forecasting.plots import drawn_forecasts, forecast_figure, save_figure
from pipeline.forecasting.request import Request, array_store, make_request
from pipeline.forecasting.tables import forecast_array, forecast_store, predictions_table
from pipeline.models.checkpoint import read_formats


class ChronosLoader:
    """Loads the checkpoint in a folder, forecasts with it, and scores it."""

    def __init__(self, model_path: str, *, config: Config = Config()) -> None:
        """Keep the settings, without loading the model.

        Args:
            model_path: a checkpoint folder, a Hub ID, an s3:// prefix or `builtin:NAME`.
            config: all settings.
        """
        self.model_path = model_path
        self.config = config
        self.forecaster: Forecaster | None = None

    def load_trained_model(self) -> None:
        """Load the model through `BaseChronosPipeline.from_pretrained`.

        Raises:
            UserError: there is no such model, or its checkpoint is incomplete.
        """
        general = self.config.chronos
        self.forecaster = Forecaster.load(
            self.model_path, general.device, general.seed, self.config.inference.precision
        )

    def predict(self, context: np.ndarray | Store, prediction_length: int = 48) -> np.ndarray:
        """Forecast series at the levels of inference.quantiles.

        Args:
            context: an array [batch, length] or [length], NaN for a missing value and in front of a shorter series; or
                a store, forecast with the known covariates of inference.future_path.

        Returns:
            float32, [batch, prediction_length, n_quantiles]; several targets of an item have a row each.

        Raises:
            UserError: no model is loaded, the context is not such an array, or the model does not take a variate.
        """
        if isinstance(context, Store):
            return forecast_array(self.loaded(), context, self.request(context, prediction_length))
        request = Request.from_config(self.config.inference, prediction_length)
        return forecast_array(self.loaded(), array_store(context), request)

    def predict_df(
        self, data: pd.DataFrame | Store, prediction_length: int = 48, future_df: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Forecast a table as a table, in the format of `BaseChronosPipeline.predict_df`.

        Args:
            data: a long DataFrame with the configured columns, or a store.
            future_df: known covariates at the steps to forecast; None takes them from inference.future_path.

        Returns:
            `item_id, timestamp, target_name, predictions` and a column for each level; a row for each step and target.

        Raises:
            UserError: no model is loaded, the table is wrong, or the model does not take a variate.
        """
        if not isinstance(data, (pd.DataFrame, Store)):
            raise UserError("data must be a long DataFrame or a store of open_source; use predict for an array")
        store = data if isinstance(data, Store) else self._open(data)
        request = self.request(store, prediction_length, future_df)
        return pa.concat_tables(forecast_store(self.loaded(), store, request)).to_pandas()

    def evaluate_on_test_data(self, test_data: np.ndarray | pd.DataFrame | Store) -> dict:
        """Score the forecast of the last inference.prediction_length steps of each series.

        Args:
            test_data: an array [n_series, length], a long DataFrame, or a store.

        Returns:
            the scores of `pipeline.core.metrics.SCORES`, `series`, `windows` and `seasonality`.

        Raises:
            UserError: no model is loaded, the array has another shape, or no series is longer than the horizon.
        """
        from pipeline.evaluation.backtest import evaluate_task, make_task

        inference = self.config.inference
        series = test_data if isinstance(test_data, (pd.DataFrame, Store)) else np.atleast_2d(test_data)
        store = series if isinstance(series, Store) else self._open(series)
        task = make_task("test data", store, inference.prediction_length, None, n_origins=1)
        forecaster = self.loaded().with_context_length(inference.context_length)
        return evaluate_task(task, forecaster.predict_quantiles, inference.batch_size).scores()

    def save_predictions(self, predictions: np.ndarray, output_path: str) -> None:
        """Write an array of `predict` as a long table, in which item IDs and timestamps are positions.

        Args:
            output_path: .parquet, .csv or .jsonl file, or a folder, then predictions.parquet in it.

        Raises:
            UserError: the array has another number of levels, or inference.quantiles lacks the median.
        """
        path = Path(output_path)
        table = predictions_table(predictions, self.config.inference.quantiles)
        write_predictions(path if path.suffix else path / "predictions.parquet", [table])

    def plot(self, store: Store, path: Path, request: Request) -> None:
        """Draw history, median and 80% band of the first six series of a store, their first target, to a PNG file."""
        save_figure(forecast_figure(drawn_forecasts(self.loaded(), store, request)), path)

    def request(self, store: Store, prediction_length: int, future_df: pd.DataFrame | None = None) -> Request:
        """Return the request of the configuration for a store, as `forecasting.request.make_request` checks it."""
        return make_request(self.config, self.loaded(), store, prediction_length, future_df)

    def _open(self, series: pd.DataFrame | np.ndarray) -> Store:
        return open_configured(self.config, series, formats=read_formats(self.model_path))

    def loaded(self) -> Forecaster:
        """Return the forecaster of the loaded model.

        Raises:
            UserError: no model is loaded.
        """
        if self.forecaster is None:
            raise UserError("no model is loaded; call load_trained_model first")
        return self.forecaster
