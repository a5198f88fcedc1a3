"""A trained checkpoint reloaded through stock Chronos: forecast, score, save."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.config import Config
from pipeline.core.errors import UserError, first_few
from pipeline.core.series import History
from pipeline.data.arrow_store import Store
from pipeline.data.future import Future, open_future
from pipeline.data.numbers import float32_of_array
from pipeline.data.source import open_configured
from pipeline.forecasting.files import Request, check_request, forecast_store, history_of, write_predictions
from pipeline.forecasting.forecaster import Forecaster
from pipeline.forecasting.plots import DrawnForecast, forecast_figure, save_figure
from pipeline.models.checkpoint import training_info

_PANELS = 6
logger = logging.getLogger(__name__)


class ChronosLoader:
    """Loads the checkpoint in a folder and forecasts with it."""

    config = Config()
    """All settings: a script puts its own here; chronos, data and inference are read."""

    def __init__(self, model_path: str) -> None:
        self.model_path = model_path
        self.forecaster: Forecaster | None = None

    def load_trained_model(self) -> None:
        """Load the model through `BaseChronosPipeline.from_pretrained`.

        Raises:
            UserError: the folder holds no whole Chronos checkpoint.
        """
        general, precision = self.config.chronos, self.config.inference.precision
        self.forecaster = Forecaster.load(self.model_path, general.device, general.seed, precision)

    def predict(self, context: np.ndarray | Store, prediction_length: int = 48) -> np.ndarray:
        """Forecast a batch of series at the levels of inference.quantiles, from inference.context_length steps of history.

        Args:
            context: [batch, length] or [length], NaN where a value is missing or a shorter series is padded; or a store, as
                `open_source` gives it, whose items are forecast in its order, known covariates from inference.future_path.

        Returns:
            float32, [batch, prediction_length, n_quantiles]; of items of several targets a row for each.

        Raises:
            UserError: no model is loaded, the context is no array of numbers of one or two dimensions, or holds one too
                large, or a store has what the model does not know.
        """
        if prediction_length < 1:
            raise UserError(f"prediction_length must be at least 1, got {prediction_length}")
        inference = self.config.inference
        batch_size, levels = inference.batch_size, inference.quantiles
        histories: list[History] = []
        if isinstance(context, Store):
            request = self.request(context, prediction_length)
            histories += [history_of(context, index, request) for index in range(len(context))]
        else:
            histories += [row[-(inference.context_length or len(row)) :] for row in self._rows(context)]
        batches = [histories[start : start + batch_size] for start in range(0, len(histories), batch_size)]
        return np.concatenate([self.loaded().quantiles(batch, prediction_length, levels)[0] for batch in batches])

    def predict_df(
        self, data: pd.DataFrame | Store, prediction_length: int = 48, future_df: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Forecast a table as a table, in the form of `BaseChronosPipeline.predict_df`.

        Args:
            data: a long DataFrame with the columns that the configuration names, or a store.
            future_df: known covariates at the steps to forecast; None takes them from inference.future_path.

        Returns:
            `item_id, timestamp, target_name, predictions` and a column for each level of inference.quantiles, a row for each
            step and target.

        Raises:
            UserError: no model is loaded, the table is wrong, or it has what the model does not know.
        """
        if not isinstance(data, (pd.DataFrame, Store)):
            raise UserError("data must be a long DataFrame or what open_source gives; an array is forecast by predict")
        store = data if isinstance(data, Store) else open_configured(self.config, data)
        request = self.request(store, prediction_length, future_df)
        return pa.concat_tables(forecast_store(self.loaded(), store, request)).to_pandas()

    def request(self, store: Store, prediction_length: int, future_df: pd.DataFrame | None = None) -> Request:
        """Return what the configuration asks of a store, with the known covariates of a table or of inference.future_path.

        Raises:
            UserError: no model is loaded, the table is wrong, or the store has what the model does not know.
        """
        inference, variates, named = self.config.inference, store.variates, self.config.data.variates()
        future = open_future(self.config, store, prediction_length, future_df)
        self._check_covariates(store, future)
        request = Request(
            prediction_length=prediction_length,
            levels=inference.quantiles,
            context_length=inference.context_length,
            batch_size=inference.batch_size,
            target_names=named.targets if len(named.targets) == len(variates) == 1 else variates.targets,
            future=future,
        )
        check_request(self.loaded(), store, request)
        return request

    def _rows(self, context: np.ndarray) -> np.ndarray:
        if isinstance(context, pd.DataFrame):
            raise UserError("a DataFrame says by its columns what it holds: predict_df reads those, as data names them")
        if isinstance(context, (str, Path)):
            raise UserError(f"{context} is a path: predict takes what open_source of pipeline.data.source gives for it")
        try:
            context = np.asanyarray(context)
        except ValueError as error:
            raise UserError("series of unequal length are padded with NaN on the left, or come as a store") from error
        if context.ndim not in (1, 2):
            raise UserError(f"context must have the shape [batch, length], got {list(context.shape)}")
        return float32_of_array(np.atleast_2d(context), "context")

    def evaluate_on_test_data(self, test_data: np.ndarray | pd.DataFrame | Store) -> dict:
        """Score the forecast of the last inference.prediction_length steps of each series, from inference.context_length
        steps before them.

        Args:
            test_data: an array [n_series, length], a long DataFrame, or a store.

        Returns:
            The scores of `pipeline.core.metrics.SCORES`, `series`, `windows` and `seasonality`.

        Raises:
            UserError: no model is loaded, or the array has another shape, or no series is longer than the horizon.
        """
        from pipeline.evaluation.backtest import evaluate, make_task

        given = test_data if isinstance(test_data, (Store, pd.DataFrame)) else np.atleast_2d(test_data)
        store = given if isinstance(given, Store) else open_configured(self.config, given)
        inference = self.config.inference
        task = make_task("test data", store, inference.prediction_length, None, n_origins=1)
        forecaster = self.loaded().with_context_length(inference.context_length)
        return evaluate(task, forecaster.predict_quantiles, inference.batch_size).scores()

    def save_predictions(self, predictions: np.ndarray, output_path: str) -> None:
        """Write what `predict` gave as a long table; series are named, and steps counted, by position.

        Args:
            predictions: [batch, prediction_length, n_quantiles].
            output_path: .parquet, .csv or .jsonl file, or a folder, then predictions.parquet in it.

        Raises:
            UserError: the array does not have one column for each level of inference.quantiles, or the median is not among
                them, which is the point forecast.
        """
        levels = self.config.inference.quantiles
        if 0.5 not in levels:
            raise UserError(f"inference.quantiles {levels} hold no 0.5, which is the point forecast; add it")
        if predictions.ndim != 3 or predictions.shape[2] != len(levels):
            raise UserError(
                f"predictions must have shape [batch, prediction_length, {len(levels)}], got {predictions.shape}"
            )
        n, prediction_length, _ = predictions.shape
        columns = {
            "item_id": [str(row) for row in range(n) for _ in range(prediction_length)],
            "timestamp": np.tile(np.arange(prediction_length), n),
            "target_name": ["target"] * (n * prediction_length),
            "predictions": predictions[:, :, levels.index(0.5)].ravel(),
            **{str(level): predictions[:, :, position].ravel() for position, level in enumerate(levels)},
        }
        path = Path(output_path)
        write_predictions(path if path.suffix else path / "predictions.parquet", [pa.table(columns)])

    def _check_covariates(self, store: Store, future: Future | None) -> None:
        """Refuse categories of covariates that the model was not trained with, and say which covariates are missing.

        A model that was not trained here, or without covariates, takes any.

        Raises:
            UserError: there is such a category.
        """
        trained = training_info(self.model_path).get("variates", {})
        missing = [
            name for kind in ("past", "known") for name in trained.get(kind, ()) if name not in store.variates.names
        ]
        if missing:
            logger.warning("the model was trained with %s, and forecasts without", first_few(missing))
        for name, categories in trained.get("categories", {}).items():
            found = set(store.variates.categories.get(name, ())) | (
                future.categories.get(name, set()) if future else set()
            )
            unseen = sorted(found - set(categories))
            if unseen:
                raise UserError(
                    f"the covariate {name} holds {first_few(unseen)}, which the model was not trained with; it knows "
                    f"{first_few(categories)}; write them alike, or train with them"
                )

    def plot(self, store: Store, path: Path, request: Request) -> None:
        """Draw history, median and 80% band of the first six series of a store, their first target, to a PNG.

        Raises:
            UserError: the file cannot be written.
        """
        shown = range(min(_PANELS, len(store)))
        histories = [history_of(store, index, request) for index in shown]
        quantiles, _ = self.loaded().quantiles(histories, request.prediction_length, (0.1, 0.5, 0.9))
        quantiles = quantiles[:: len(store.variates.targets)]
        drawn = [
            DrawnForecast(store.item_ids[index], store.target(index), median=median, low=low, high=high)
            for index, (low, median, high) in zip(shown, quantiles.transpose(0, 2, 1))
        ]
        save_figure(forecast_figure(drawn), path)

    def loaded(self) -> Forecaster:
        """Return the forecaster of the loaded model.

        Raises:
            UserError: no model is loaded.
        """
        if self.forecaster is None:
            raise UserError("no model is loaded yet; call load_trained_model first")
        return self.forecaster
