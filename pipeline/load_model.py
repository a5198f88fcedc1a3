"""`ChronosLoader`: a trained checkpoint in, forecasts and scores out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.arguments import name_arguments, with_options
from pipeline.config import Config, ExportConfig
from pipeline.core.checks import check_outputs
from pipeline.core.errors import UserError
from pipeline.data.arrow_store import Store
from pipeline.data.column_formats import ColumnFormats
from pipeline.data.source import open_configured
from pipeline.forecasting.embeddings import Pooling, embed_store
from pipeline.forecasting.files import write_predictions
from pipeline.forecasting.flags import FlagRequest, drawn_flags, flag_part, make_flag_request
from pipeline.forecasting.forecaster import Forecaster
from pipeline.forecasting.plots import beside_base, drawn_forecasts, forecast_figure
from pipeline.forecasting.request import Request, array_store, check_groups, column_names, make_request
from pipeline.forecasting.tables import forecast_array, forecast_store, predictions_table, split_parts
from pipeline.models.checkpoint import read_formats, remembered_config
from pipeline.models.export import export_model, provide_export
from pipeline.models.find import find_base
from pipeline.models.training_report import TrainingReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure


logger = logging.getLogger(__name__)
_ROWS_FOR_THREADS = 100_000
"""For fewer rows, starting threads takes longer than the conversion."""


class ChronosLoader:
    """Loads the checkpoint in a folder, forecasts with it, and scores it.

    Several threads may forecast with the same loader.
    """

    def __init__(self, model_path: str, *, config: Config | None = None) -> None:
        """Keep the settings, without loading the model.

        Args:
            model_path: a checkpoint folder, a Hub ID, an s3:// prefix or `builtin:NAME`.
            config: all settings; None takes columns, horizon and quantile levels from the training of the model, if
                it is not under an s3:// prefix.
        """
        self.model_path = model_path
        self.config = remembered_config(model_path) if config is None else config
        self.forecaster: Forecaster | None = None

    def load_trained_model(self) -> None:
        """Load the model, and wrap it in the stock pipeline of its family.

        Raises:
            UserError: there is no such model, or its checkpoint is incomplete.
        """
        general, inference = self.config.chronos, self.config.inference
        model = provide_export(self.config, self.model_path) if inference.engine == "onnx" else self.model_path
        self.forecaster = Forecaster.load(model, general.device, general.seed, inference.precision, inference.flip)

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
        request = Request.from_config(self.config.inference, self._length(prediction_length))
        store = array_store(context)
        check_groups(self.loaded().family, store, request.cross_learning, request.batch_size)
        return forecast_array(self.loaded(), store, request)

    @property
    def horizon(self) -> int:
        """Steps to forecast by default: those that the model was trained for, or 48."""
        return self.config.forecast_horizon()

    @property
    def report(self) -> TrainingReport:
        """How the model was trained, and its scores beside the base's on the validation windows.

        Raises:
            UserError: the model was not trained by this package.
        """
        return TrainingReport.read(self.model_path)

    @name_arguments
    def predict_df(
        self,
        data: Any,
        horizon: int | None = None,
        future_df: pd.DataFrame | None = None,
        quantiles: Sequence[float] | float | None = None,
    ) -> pd.DataFrame:
        """Forecast a table as a table, in the format of `BaseChronosPipeline.predict_df`.

        Args:
            data: a long table of pandas, polars or pyarrow with the columns of the training, a path, or a store.
            horizon: steps to forecast; None is the horizon of the training.
            future_df: known covariates at the steps to forecast; None takes them from inference.future_path.
            quantiles: levels, each between 0 and 1; None is inference.quantiles.

        Returns:
            item ID and timestamp under their names in `data`, `target_name`, `predictions` and a column for each level;
            a row for each step and target.

        Raises:
            UserError: no model is loaded, the table is wrong, or the model does not take a variate.
        """
        if isinstance(data, np.ndarray):
            raise UserError("data must be a table or a store of open_source; use predict for an array")
        store = self._open(data)
        config = self.config
        if quantiles is not None:
            levels = np.atleast_1d(np.asarray(quantiles)).tolist()
            config = with_options(config, {"quantiles": levels}, "inference")
        request = make_request(config, self.loaded(), store, self._length(horizon), future_df)
        table = pa.concat_tables(forecast_store(self.loaded(), store, request))
        return table.to_pandas(use_threads=len(table) > _ROWS_FOR_THREADS)

    @name_arguments
    def embed(self, data: Any, pooling: Pooling = "mean", output_path: str | None = None) -> pd.DataFrame | Path:
        """Embed every series by the encoder of the model, for search, clustering or classification.

        Args:
            data: as in `predict_df`.
            pooling: `mean` of the patches of a series, or `none` for a row for each patch.
            output_path: .parquet file to write in constant memory; None returns a DataFrame.

        Returns:
            the table, or the path of the file: item ID under its name in `data`, `target_name`, `patch` with pooling
            `none`, and `embedding`, as `pipeline.forecasting.embeddings.embed_store` describes them.

        Raises:
            UserError: no model is loaded, it has no encoder, or the table or an argument is wrong.
        """
        if pooling not in get_args(Pooling):
            raise UserError(f"pooling must be mean or none, got {pooling!r}")
        if output_path is not None and Path(output_path).suffix != ".parquet":
            raise UserError(f"output_path: {output_path} must be a .parquet file, which can contain lists")
        if output_path is not None:
            inputs = {"data": [str(data)] if isinstance(data, (str, Path)) else [], "the model": [self.model_path]}
            check_outputs(files={"output_path": Path(output_path)}, inputs=inputs)
        store = self._open(data)
        request = replace(Request.from_config(self.config.inference, 1), **column_names(self.config, store))
        tables = embed_store(self.loaded(), store, request, pooling)
        if output_path is None:
            return pa.concat_tables(tables).to_pandas()
        write_predictions(output_path, tables)
        return Path(output_path)

    @name_arguments
    def flag(
        self, data: Any, windows: int | None = None, level: float | None = None, horizon: int | None = None
    ) -> pd.DataFrame:
        """Flag anomalies: compare the last steps of each series with forecasts from the steps before them.

        Args:
            data, horizon: as in `predict_df`.
            windows: horizons at the end of each series to compare; None is inference.flag_windows.
            level: level of the interval outside which a value is an anomaly; None is inference.flag_level.

        Returns:
            item ID and timestamp under their names in `data`, `target_name`, `actual`, `predictions`, `lower`, `upper`,
            `score` and `is_anomaly`, as `pipeline.forecasting.flags` describes them; a row for each step and target.

        Raises:
            UserError: no model is loaded, the table is wrong, or no series is longer than the horizon.
        """
        store = self._open(data)
        request = self._flag_request(store, horizon, windows, level)
        parts = [flag_part(self.loaded(), store, items, request) for items in split_parts(store, request)]
        return pa.concat_tables(parts).to_pandas()

    def _flag_request(
        self, store: Store, horizon: int | None, windows: int | None = None, level: float | None = None
    ) -> FlagRequest:
        named = {"flag_windows": windows, "flag_level": level}
        named = {key: value for key, value in named.items() if value is not None}
        config = with_options(self.config, named, "inference")
        return make_flag_request(config, self.loaded(), store, self._length(horizon))

    @name_arguments
    def plot(
        self,
        data: Any,
        horizon: int | None = None,
        future_df: pd.DataFrame | None = None,
        flag_windows: int | None = None,
    ) -> Figure:
        """Draw the history and the forecasts of the first six series: median and 80% band, and the median of the base.

        Args:
            data, horizon, future_df: as in `predict_df`.
            flag_windows: draw this number of horizons at the end of each series instead, with their anomalies as
                `flag` finds them.

        Raises:
            UserError: as `predict_df` does.
        """
        store = self._open(data)
        if flag_windows is not None:
            return forecast_figure(drawn_flags(self.loaded(), store, self._flag_request(store, horizon, flag_windows)))
        request = self.request(store, self._length(horizon), future_df)
        drawn = drawn_forecasts(self.loaded(), store, request)
        if self._base is not None:
            base = self._base.with_settings(self.config.inference)
            drawn = beside_base(drawn, drawn_forecasts(base, store, request))
        return forecast_figure(drawn)

    @name_arguments
    def evaluate(self, data: Any, windows: int = 1, horizon: int | None = None) -> pd.DataFrame:
        """Score the model beside its base and seasonal naive on the last steps of each series.

        The report with intervals, pictures and more baselines is that of the command `chronos-native evaluate`.

        Args:
            data, horizon: as in `predict_df`.
            windows: rolling origins per series, one horizon apart.

        Returns:
            one row for each model: the scores of `pipeline.core.metrics.SCORES`, `series` and `windows`.

        Raises:
            UserError: no model is loaded, the table is wrong, or no series is longer than the horizon.
        """
        from pipeline.evaluation.backtest import evaluate_task, make_task, warn_about_windows
        from pipeline.evaluation.baselines import SEASONAL_NAIVE, naive_forecast
        from pipeline.evaluation.evaluate import leak_warnings

        inference, forecaster = self.config.inference, self.loaded()
        windows = with_options(self.config, {"windows": windows}, "evaluation").evaluation.windows
        task = make_task("data", self._open(data), self._length(horizon), None, windows, inference.cross_learning)
        check_groups(forecaster.family, task.store, inference.cross_learning, inference.batch_size)
        warn_about_windows(task)
        for warning in leak_warnings([self.model_path], [task]):
            logger.warning(warning.replace("data.test_length", "test_length"))
        base = None if self._base is None else self._base.with_settings(inference)
        forecasters = {"base": base, "fine-tuned" if base else "model": forecaster}
        functions = {
            SEASONAL_NAIVE: naive_forecast(task.seasonality),
            **{name: forecaster.predict_quantiles for name, forecaster in forecasters.items() if forecaster},
        }
        batch_size = inference.batch_size
        scores = {name: evaluate_task(task, function, batch_size).scores() for name, function in functions.items()}
        return pd.DataFrame(scores).T.drop(columns="seasonality").astype({"series": int, "windows": int})

    @cached_property
    def _base(self) -> Forecaster | None:
        """The base that the model was trained from; None for a model that was not trained by this package."""
        base = find_base(self.model_path)
        general, inference = self.config.chronos, self.config.inference
        if base is None:
            return None
        return Forecaster.load(str(base), general.device, general.seed, inference.precision, inference.flip)

    @name_arguments
    def export(self, output_path: str, int8: bool = False) -> Path:
        """Export a Bolt or Chronos-2 model to ONNX, and return the folder. docs/export.md shows how to use it.

        Args:
            output_path: folder of model.onnx and onnx.json.
            int8: weights as 8-bit integers, for a smaller file.

        Raises:
            UserError: the model is of another family, or the folder cannot be written.
        """
        export_model(replace(self.config, export=ExportConfig(output_path=output_path, int8=int8)), self.model_path)
        return Path(output_path)

    def evaluate_on_test_data(self, test_data: np.ndarray | pd.DataFrame | Store) -> dict:
        """Score the forecast of the last `horizon` steps of each series.

        Args:
            test_data: an array [n_series, length], a long DataFrame, or a store.

        Returns:
            the scores of `pipeline.core.metrics.SCORES`, `series`, `windows` and `seasonality`.

        Raises:
            UserError: no model is loaded, the array has another shape, or no series is longer than the horizon.
        """
        from pipeline.evaluation.backtest import evaluate_task, make_task, warn_about_windows

        inference = self.config.inference
        store = self._open(test_data if isinstance(test_data, (pd.DataFrame, Store)) else np.atleast_2d(test_data))
        task = make_task("test data", store, self.horizon, None, 1, inference.cross_learning)
        forecaster = self.loaded()
        check_groups(forecaster.family, store, inference.cross_learning, inference.batch_size)
        warn_about_windows(task)
        return evaluate_task(task, forecaster.predict_quantiles, inference.batch_size).scores()

    def save_predictions(self, predictions: np.ndarray, output_path: str) -> None:
        """Write an array of `predict` as a long table, in which item IDs and timestamps are positions.

        Args:
            output_path: a .parquet, .csv, .jsonl or .xlsx file, or a folder, then predictions.parquet in it.

        Raises:
            UserError: the array has another number of levels, or inference.quantiles lacks the median.
        """
        path = Path(output_path)
        table = predictions_table(predictions, self.config.inference.quantiles)
        write_predictions(path if path.suffix else path / "predictions.parquet", [table])

    def request(self, store: Store, prediction_length: int, future_df: pd.DataFrame | None = None) -> Request:
        """Return the request of the configuration for a store, as `forecasting.request.make_request` checks it."""
        return make_request(self.config, self.loaded(), store, self._length(prediction_length), future_df)

    def _length(self, horizon: int | None) -> int:
        if horizon is None:
            return self.horizon
        inference = with_options(self.config, {"prediction_length": horizon}, "inference").inference
        return inference.prediction_length or self.horizon

    def _open(self, series: Any) -> Store:
        return open_configured(self.config, series, formats=self._formats)

    @cached_property
    def _formats(self) -> ColumnFormats:
        return read_formats(self.model_path)

    def loaded(self) -> Forecaster:
        """Return the forecaster of the loaded model, with the settings of the configuration.

        Raises:
            UserError: no model is loaded.
        """
        if self.forecaster is None:
            raise UserError("no model is loaded; call load_trained_model first")
        return self.forecaster.with_settings(self.config.inference)
