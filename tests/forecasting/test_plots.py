"""Pictures of forecasts."""

import numpy as np

from pipeline.forecasting.plots import DrawnForecast, forecast_figure, save_figure

NAN = np.nan


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
