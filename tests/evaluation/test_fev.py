"""Tasks of fev, compared with the backtest and with stock Chronos scored by fev."""

from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.config import Config, EvaluationConfig
from pipeline.core.errors import UserError
from pipeline.data.arrow_store import store_from_arrays
from pipeline.evaluation.backtest import evaluate_task, make_task
from pipeline.evaluation.fev import score_fev_tasks
from pipeline.forecasting.forecaster import Forecaster

pytestmark = pytest.mark.skipif(find_spec("fev") is None, reason="fev is not installed")
LEVELS = [round(0.1 * k, 1) for k in range(1, 10)]
TARGETS = {"alone": ["target"], "both": ["other", "target"], "covariates": ["target"]}


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


def stock_predictions(stock, past, future, targets):
    """Return the forecasts of stock `predict_df` for one window in the format of fev."""
    import datasets

    lists = [name for name in past.column_names if name != "id"]
    long = past.to_pandas().explode(lists).rename(columns={"id": "item_id"})
    known = future.to_pandas()
    known = known.explode([name for name in known.columns if name != "id"]).rename(columns={"id": "item_id"})
    numeric = [name for name in lists if name not in ("timestamp", "promotion")]
    long = long.astype({name: float for name in numeric} | {"timestamp": "M8[ns]"})
    known = known.astype({name: float for name in numeric if name in known} | {"timestamp": "M8[ns]"})
    future_df = known if len(known.columns) > 2 else None
    table = stock.predict_df(long, future_df, target=targets, prediction_length=6, quantile_levels=LEVELS)
    columns = {"predictions": "predictions", **{str(level): str(level) for level in LEVELS}}
    result = {}
    for target in targets:
        rows = table[table["target_name"] == target].groupby("item_id", sort=False)
        result[target] = {name: [group[column].tolist() for _, group in rows] for name, column in columns.items()}
    return datasets.DatasetDict({name: datasets.Dataset.from_dict(values) for name, values in result.items()})


def test_chronos_2_forecasts_covariates_and_several_targets_as_stock_predict_df_does(uncrossed, benchmark):
    import fev
    from chronos import BaseChronosPipeline

    rows = score_fev_tasks(benchmark[0], [str(uncrossed["chronos-2"])], Config())["chronos-2"]
    stock = BaseChronosPipeline.from_pretrained(uncrossed["chronos-2"])
    errors = []
    for task in fev.Benchmark.from_yaml(benchmark[0]).tasks:
        windows = [window.get_input_data() for window in task.iter_windows()]
        targets = TARGETS[task.task_name]
        predictions = [stock_predictions(stock, past, future, targets) for past, future in windows]
        errors.append(task.evaluation_summary(predictions, model_name="stock")["test_error"])
    assert [row["test_error"] for row in rows] == pytest.approx(errors, rel=1e-4)
    assert len({round(error, 3) for error in errors}) == 3


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


def test_several_processes_are_refused(run_script, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = run_script("evaluate", "--evaluation.fev_tasks", "tasks.yaml")
    assert code == 2 and "evaluation.fev_tasks" in err and "torchrun" in err
