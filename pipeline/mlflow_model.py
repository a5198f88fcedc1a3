"""The model flavor for MLflow: `mlflow.pyfunc.load_model(uri).predict(df)` forecasts a DataFrame."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pipeline import load


class ForecastModel:
    """A trained checkpoint with the columns that it was trained with."""

    def __init__(self, path: str) -> None:
        """Load the checkpoint in a folder, on a GPU if there is one."""
        self._loader = load(path, device="auto")

    def predict(self, data: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
        """Forecast a long DataFrame as `ChronosLoader.predict_df` does.

        Args:
            params: `prediction_length`, for which MLflow puts in the horizon of the training.

        Raises:
            UserError: the table is wrong, or the model does not take a variate.
        """
        return self._loader.predict_df(data, params["prediction_length"])


def _load_pyfunc(path: str) -> ForecastModel:
    # MLflow calls this name.
    return ForecastModel(path)
