"""Baselines, compared with statsforecast called directly."""

import numpy as np
import pytest

from pipeline.config import Config, EvaluationConfig
from pipeline.core.errors import UserError
from pipeline.evaluation.baselines import naive_forecast, statistical_forecast
from pipeline.evaluation.evaluate import baseline_names


@pytest.mark.parametrize("name", ["AutoETS", "AutoTheta"])
def test_statistical_forecasts_are_those_of_statsforecast(name):
    from statsforecast import models

    rng = np.random.default_rng(0)
    series = 10 + 3 * np.sin(np.arange(60) * 2 * np.pi / 12) + rng.normal(0, 0.5, 60)
    gap, short = series.copy(), np.array([1.0, 2.0])
    gap[30] = np.nan
    ours = statistical_forecast(name, 12)([series, gap, short], 6)
    for row, history in ((0, series), (1, np.where(np.isnan(gap), (gap[29] + gap[31]) / 2, gap))):
        forecast = getattr(models, name)(season_length=12).forecast(y=history, h=6, level=[20, 40, 60, 80])
        low, high = ([forecast[f"{side}-{level}"] for level in (80, 60, 40, 20)] for side in ("lo", "hi"))
        expected = np.stack([*low, forecast["mean"], *reversed(high)], axis=1)
        # Intervals of drawn paths may exclude the mean, so the expected quantiles are sorted too.
        np.testing.assert_allclose(ours[row], np.sort(expected, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(ours[2], naive_forecast(12)([short], 6)[0])
    assert (np.diff(ours, axis=2) >= 0).all()


def test_installed_baselines_are_scored_unless_others_are_configured():
    assert baseline_names(Config()) == ["AutoETS", "AutoTheta"]
    assert baseline_names(Config(evaluation=EvaluationConfig(baselines=["AutoTheta"]))) == ["AutoTheta"]
    assert baseline_names(Config(evaluation=EvaluationConfig(baselines=[]))) == []


def test_a_configured_baseline_without_statsforecast_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert baseline_names(Config()) == []
    with pytest.raises(UserError, match="evaluation.baselines: AutoETS .*pip install statsforecast"):
        baseline_names(Config(evaluation=EvaluationConfig(baselines=["AutoETS"])))
