"""Pictures of forecasts."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.dates import num2date

from pipeline.core.series import Series
from pipeline.data.arrow_store import store_from_arrays, store_from_series
from pipeline.forecasting.plots import DrawnForecast, beside_base, drawn_forecast, forecast_figure, save_figure

NAN = np.nan
VALUES = np.arange(40, dtype=np.float32)
QUANTILES = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])


def line(axis, label):
    """Return x and y of the line with a label: [2, n]."""
    return next(line.get_xydata().T for line in axis.lines if line.get_label() == label)


def test_isolated_values_and_horizons_of_one_step_are_visible():
    forecast = DrawnForecast("A", np.array([3, NAN, NAN, 4]), *np.array([[5.0], [4.0], [6.0]]))
    axis = forecast_figure([forecast]).axes[0]
    points = [np.asarray(line.get_xydata()).tolist() for line in axis.lines if line.get_linestyle() == "None"]
    assert points == [[[-3, 3], [0, 4]], [[1, 5]]]
    band = axis.collections[0].get_paths()[0].get_extents()
    assert (band.x0, band.x1, band.y0, band.y1) == (0.5, 1.5, 4, 6)


def test_a_name_may_contain_dollar_signs(tmp_path):
    values = np.random.default_rng(0).normal(5, 1, (4, 6))
    save_figure(forecast_figure([DrawnForecast("price_$_in_$", *values)]), tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 5000


@pytest.mark.parametrize("freq, alias", [("ME", "ME"), ("B", "B"), ("15min", "15min")])
def test_the_axis_has_the_timestamps_of_the_series(freq, alias):
    stamps = pd.date_range("2023-01-31 00:00", periods=43, freq=alias)
    store = store_from_series([Series("A", stamps[0].to_datetime64().astype("M8[s]"), freq, VALUES)])
    axis = forecast_figure([drawn_forecast(store, 0, 40, QUANTILES)]).axes[0]
    drawn = np.concatenate([line(axis, "history")[0], line(axis, "median forecast")[0]])
    shown = [pd.Timestamp(stamp).tz_localize(None).round("s") for stamp in num2date(drawn)]
    assert shown == list(stamps[40 - 24 :])
    assert line(axis, "history")[1].tolist() == list(range(16, 40))


@pytest.mark.parametrize("freq, starts", [("", "2020-01-01"), ("h", "NaT")])
def test_series_without_dates_have_steps_on_the_axis(freq, starts):
    store = replace(store_from_arrays([VALUES], freq), starts=np.array([starts], "M8[s]"))
    axis = forecast_figure([drawn_forecast(store, 0, 40, QUANTILES)]).axes[0]
    assert line(axis, "median forecast").tolist() == [[1, 2, 3], [4, 5, 6]]


def test_the_base_is_beside_the_fine_tuned_model_and_the_actual_values():
    store = store_from_arrays([VALUES], "D")
    tuned, base = (drawn_forecast(store, 0, 30, scale * QUANTILES, VALUES[30:33]) for scale in (1, 10))
    axis = forecast_figure(beside_base([tuned], [base])).axes[0]
    shown = {label: line(axis, label)[1].tolist() for label in ("base median", "fine-tuned median", "actual")}
    assert shown == {"base median": [40, 50, 60], "fine-tuned median": [4, 5, 6], "actual": [30, 31, 32]}
