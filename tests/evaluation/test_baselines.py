"""Forecasters to beat, beside a plain walk or the library called by hand."""

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.config import Config, EvaluationConfig
from pipeline.core.errors import UserError
from pipeline.data.arrow_store import store_from_arrays
from pipeline.evaluation.backtest import evaluate, make_task
from pipeline.evaluation.baselines import naive_forecast, statistical_forecast
from pipeline.evaluation.evaluate import baselines_of
from pipeline.evaluation.fev import score_fev_tasks
from pipeline.forecasting.forecaster import Forecaster

LEVELS = [round(0.1 * k, 1) for k in range(1, 10)]


@pytest.mark.parametrize("name", ["AutoETS", "AutoTheta"])
def test_statistical_forecasts_are_those_of_the_library_called_by_hand(name):
    from statsforecast import models

    rng = np.random.default_rng(0)
    series = 10 + 3 * np.sin(np.arange(60) * 2 * np.pi / 12) + rng.normal(0, 0.5, 60)
    gap, short = series.copy(), np.array([1.0, 2.0])
    gap[30] = np.nan
    ours = statistical_forecast(name, 12)([series, gap, short], 6)
    for row, history in ((0, series), (1, np.where(np.isnan(gap), (gap[29] + gap[31]) / 2, gap))):
        found = getattr(models, name)(season_length=12).forecast(y=history, h=6, level=[20, 40, 60, 80])
        low, high = ([found[f"{side}-{level}"] for level in (80, 60, 40, 20)] for side in ("lo", "hi"))
        expected = np.stack([*low, found["mean"], *reversed(high)], axis=1)
        # A drawn interval may leave the mean outside.
        np.testing.assert_allclose(ours[row], np.sort(expected, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(ours[2], naive_forecast(12)([short], 6)[0])
    assert (np.diff(ours, axis=2) >= 0).all()


def test_baselines_are_scored_where_statsforecast_is_installed_unless_left_out():
    assert baselines_of(Config()) == ["AutoETS", "AutoTheta"]
    assert baselines_of(Config(evaluation=EvaluationConfig(baselines=["AutoTheta"]))) == ["AutoTheta"]
    assert baselines_of(Config(evaluation=EvaluationConfig(baselines=[]))) == []


def test_a_named_baseline_without_its_library_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert baselines_of(Config()) == []
    with pytest.raises(UserError, match="pip install statsforecast"):
        baselines_of(Config(evaluation=EvaluationConfig(baselines=["AutoETS"])))


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    """Eight monthly series of one length, with a covariate that is known ahead, one that is text, and a second target."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    rng = np.random.default_rng(0)
    stamps = pd.date_range("2015-01-31", periods=80, freq="ME").to_numpy()
    rows = [
        {
            "id": f"s{k}",
            "timestamp": stamps,
            "target": 10 + np.sin(np.arange(80) / 12 * 6.28) + rng.normal(0, 0.3, 80),
            "other": rng.normal(5, 1, 80),
            "price": rng.normal(size=80),
            "promotion": rng.choice(["no", "yes", "half"], 80).astype(object),
        }
        for k in range(8)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "data.parquet")
    common = {
        "dataset_path": str(tmp_path / "data.parquet"),
        "horizon": 6,
        "num_windows": 2,
        "seasonality": 12,
        "eval_metric": "WQL",
        "extra_metrics": ["MASE", "WAPE"],
        "quantile_levels": LEVELS,
    }
    tasks = [
        {**common, "task_name": "alone"},
        {**common, "task_name": "both", "target": ["target", "other"]},
        {**common, "task_name": "covariates", "known_dynamic_columns": ["price", "promotion"]},
    ]
    (tmp_path / "tasks.yaml").write_text(yaml.safe_dump({"tasks": tasks}))
    return tmp_path / "tasks.yaml", [row["target"].astype(np.float32) for row in rows]


def test_fev_scores_a_checkpoint_as_this_package_does(nano, benchmark):
    path, series = benchmark
    rows = score_fev_tasks(str(path), [str(nano["bolt"])], Config())["bolt"]
    assert [row["task_name"] for row in rows] == ["alone", "both", "covariates"]
    assert [row["num_forecasts"] for row in rows] == [16, 32, 16]
    forecaster = Forecaster.load(str(nano["bolt"]))

    def forecast(histories, length):
        return forecaster.quantiles(histories, length, LEVELS)[0]

    windows = [
        evaluate(make_task("t", store_from_arrays([one[:end] for one in series]), 6, 12, 1), forecast).scores()
        for end in (74, 80)
    ]
    for name in ("WQL", "MASE", "WAPE"):
        assert rows[0][name] == pytest.approx(np.mean([one[name] for one in windows]), rel=1e-5)
    assert rows[0]["test_error"] == rows[0]["WQL"] == rows[2]["WQL"] != rows[1]["WQL"]


def test_chronos_2_sees_the_covariates_of_fev_and_its_targets_together(nano, benchmark, monkeypatch):
    seen = []
    asked = Forecaster.quantiles
    monkeypatch.setattr(
        Forecaster, "quantiles", lambda self, some, *rest: (seen.append(some[0]), asked(self, some, *rest))[1]
    )
    rows = score_fev_tasks(str(benchmark[0]), [str(nano["chronos-2"])], Config())["chronos-2"]
    assert all(np.isfinite(row["test_error"]) for row in rows)
    alone, both, covariates = seen[0], seen[2], seen[4]
    assert alone.shape == (74 - 6,) or alone.shape == (68,)
    assert both.past.shape == (2, 68) and both.variates.targets == ("other", "target")
    assert covariates.past.shape == (3, 68) and np.isfinite(covariates.future[1:]).all()
    assert set(covariates.variates.categories["promotion"]) == {"no", "yes", "half"}


def test_the_script_writes_one_file_a_model_for_the_leaderboards(nano, benchmark, tmp_path, run_script):
    code, out, err = run_script(
        "evaluate", "--evaluation.fev_tasks", benchmark[0], "--evaluation.models", f"[{nano['bolt']}]"
    )
    assert (code, err) == (0, "") and "covariates" in out
    table = pd.read_csv(tmp_path / "data" / "reports" / "fev" / "bolt.csv")
    assert {"model_name", "test_error", "dataset_fingerprint", "fev_version", "num_forecasts"} <= set(table.columns)
    import fev

    naive = table.assign(model_name="naive", test_error=1.0)
    board = fev.leaderboard([table, naive], baseline_model="naive")
    assert "bolt" in board.index


@pytest.mark.parametrize("key", [{"windows": 2}, {"prediction_length": 8}, {"baselines": []}, {"data_path": "a.csv"}])
def test_keys_that_a_benchmark_says_itself_are_refused(key):
    with pytest.raises(
        UserError, match=f"evaluation.{next(iter(key))} would have no effect, as evaluation.fev_tasks says"
    ):
        EvaluationConfig(fev_tasks="tasks.yaml", **key)


@pytest.mark.parametrize(
    "text, said",
    [
        ("tasks: [{horizon: 3}]", "dataset_path"),
        ("x: 1", "tasks"),
        ("tasks: [{dataset_path: nowhere.parquet}]", "nowhere"),
    ],
)
def test_a_wrong_benchmark_is_refused(nano, tmp_path, text, said):
    (tmp_path / "tasks.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        score_fev_tasks(str(tmp_path / "tasks.yaml"), [str(nano["bolt"])], Config())


def test_a_missing_model_is_refused_before_any_is_scored(nano, benchmark, monkeypatch):
    monkeypatch.setattr(Forecaster, "load", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(UserError, match="no checkpoint folder nowhere"):
        score_fev_tasks(str(benchmark[0]), [str(nano["bolt"]), "nowhere"], Config())
