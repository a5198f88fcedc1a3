"""Tasks of fev, compared with the backtest and with stock Chronos scored by fev."""

from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import yaml
from support.groups import save_coupled_model

from pipeline.config import Config, EvaluationConfig
from pipeline.core.errors import UserError
from pipeline.data.arrow_store import store_from_arrays
from pipeline.evaluation.backtest import evaluate_task, make_task
from pipeline.evaluation.fev import _forecast_window, score_fev_tasks
from pipeline.forecasting.forecaster import Forecaster

pytestmark = pytest.mark.skipif(find_spec("fev") is None, reason="fev is not installed")
LEVELS = [round(0.1 * k, 1) for k in range(1, 10)]
TARGETS = {"alone": ["target"], "both": ["other", "target"], "covariates": ["target"]}


@pytest.fixture(scope="module")
def coupled(nano, tmp_path_factory):
    return save_coupled_model(nano["chronos-2"], tmp_path_factory.mktemp("coupled") / "model")


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """A benchmark of three tasks on eight monthly series: one target, two targets, one target with known covariates."""
    folder, patch = tmp_path_factory.mktemp("fev"), pytest.MonkeyPatch()
    patch.setenv("HF_HOME", str(folder / "hub"))
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
    pd.DataFrame(rows).to_parquet(folder / "data.parquet")
    common = {
        "dataset_path": str(folder / "data.parquet"),
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
    path = folder / "tasks.yaml"
    path.write_text(yaml.safe_dump({"tasks": tasks}))
    yield str(path), [row["target"].astype(np.float32) for row in rows]
    patch.undo()


def test_scores_of_fev_are_those_of_the_backtest(tiny, benchmark):
    path, series = benchmark
    alone, both, covariates = score_fev_tasks(path, [str(tiny["bolt"])], Config())["bolt"]
    assert [row["task_name"] for row in (alone, both, covariates)] == ["alone", "both", "covariates"]
    assert [row["num_forecasts"] for row in (alone, both, covariates)] == [16, 32, 16]
    forecast = Forecaster.load(str(tiny["bolt"])).predict_quantiles
    windows = [
        evaluate_task(make_task("t", store_from_arrays([row[:end] for row in series]), 6, 12, 1), forecast).scores()
        for end in (74, 80)
    ]
    for name in ("WQL", "MASE", "WAPE"):
        assert alone[name] == pytest.approx(np.mean([scores[name] for scores in windows]), rel=1e-5)
    assert alone["test_error"] == alone["WQL"] == covariates["WQL"] != both["WQL"]


def test_chronos_2_forecasts_as_its_wrapper_for_the_leaderboard_does(coupled, benchmark, monkeypatch):
    """Eight items of one to three rows, in batches of five rows, and in one batch, as that of the leaderboard."""
    import fev
    from chronos import BaseChronosPipeline

    stock, forecaster = BaseChronosPipeline.from_pretrained(coupled), Forecaster.load(str(coupled))
    rows = {row["task_name"]: row for row in score_fev_tasks(benchmark[0], [str(coupled)], Config())["model"]}
    errors = set()
    for task in fev.Benchmark.from_yaml(benchmark[0]).tasks:
        for batch_size in (5, 100):
            monkeypatch.setattr("pipeline.evaluation.fev._LEADERBOARD_ROWS", batch_size)
            expected, _ = stock.predict_fev(task, batch_size=batch_size, cross_learning=True)
            windows = [window.get_input_data() for window in task.iter_windows()]
            ours = [_forecast_window(task, forecaster, past, future, 64) for past, future in windows]
            for window, predictions in zip(ours, expected, strict=True):
                assert set(window) == set(TARGETS[task.task_name])
                for target in window:
                    for name in ("predictions", *map(str, LEVELS)):
                        forecasts = np.array(window[target][name])
                        np.testing.assert_allclose(forecasts, np.array(predictions[target][name]), rtol=1e-4)
        summary = task.evaluation_summary(expected, model_name="stock")
        for name in ("test_error", "WQL", "MASE", "WAPE"):
            assert rows[task.task_name][name] == pytest.approx(summary[name], rel=1e-5)
        alone, _ = stock.predict_fev(task, batch_size=100)
        errors |= {summary["test_error"], task.evaluation_summary(alone, model_name="alone")["test_error"]}
    assert len({round(error, 5) for error in errors}) == 6  # covariates, targets and other items have an effect


def test_the_script_writes_a_file_for_each_model_that_a_leaderboard_takes(tiny, benchmark, tmp_path, run_script):
    import fev

    settings = ["--evaluation.fev_tasks", benchmark[0], "--evaluation.models", f"[{tiny['bolt']}]"]
    code, out, err = run_script("evaluate", *settings)
    assert (code, err) == (0, "") and "covariates" in out
    table = pd.read_csv(tmp_path / "data" / "reports" / "fev" / "bolt.csv")
    assert {"model_name", "test_error", "dataset_fingerprint", "fev_version", "num_forecasts"} <= set(table.columns)
    naive = table.assign(model_name="naive", test_error=1.0)
    assert "bolt" in fev.leaderboard([table, naive], baseline_model="naive").index


@pytest.mark.parametrize("key", [{"windows": 2}, {"prediction_length": 8}, {"baselines": []}, {"data_path": "a.csv"}])
def test_keys_without_an_effect_on_fev_are_refused(key):
    with pytest.raises(UserError, match=f"evaluation.{next(iter(key))} .*evaluation.fev_tasks"):
        EvaluationConfig(fev_tasks="tasks.yaml", **key)


@pytest.mark.parametrize("text, fact", [
    ("tasks: [{horizon: 3}]", "dataset_path"),
    ("x: 1", "tasks"),
    ("tasks: [{dataset_path: nowhere.parquet}]", "nowhere"),
])  # fmt: skip
def test_a_wrong_benchmark_is_refused(tiny, tmp_path, text, fact):
    (tmp_path / "tasks.yaml").write_text(text)
    with pytest.raises(UserError, match=f"evaluation.fev_tasks: .*{fact}"):
        score_fev_tasks(str(tmp_path / "tasks.yaml"), [str(tiny["bolt"])], Config())


def test_wrong_models_are_refused_before_any_is_scored(tiny, benchmark, caplog):
    caplog.set_level("INFO", "pipeline")
    for models, fact in (([str(tiny["bolt"]), "nowhere"], "nowhere"), (["a/bolt", str(tiny["bolt"])], "a/bolt|bolt")):
        with pytest.raises(UserError, match=fact):
            score_fev_tasks(benchmark[0], models, Config())
    assert not [record for record in caplog.records if record.name == "pipeline.evaluation.fev"]


def test_an_empty_list_of_models_is_refused(run_script, benchmark):
    code, _, err = run_script("evaluate", "--evaluation.fev_tasks", benchmark[0], "--evaluation.models", "[]")
    assert code == 2 and "evaluation.models" in err


def test_several_processes_are_refused(run_script, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = run_script("evaluate", "--evaluation.fev_tasks", "tasks.yaml")
    assert code == 2 and "evaluation.fev_tasks" in err and "torchrun" in err
