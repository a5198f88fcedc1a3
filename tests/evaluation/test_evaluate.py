"""The command evaluate.py: tables, warnings, and the answer whether fine-tuning helped."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import DATA, ROOT
from support.series import long_frame
from support.shops import shops

from pipeline.config import Config, EvaluationConfig, InferenceConfig, PathsConfig
from pipeline.core.errors import UserError
from pipeline.core.series import Variates
from pipeline.data.arrow_store import store_from_arrays
from pipeline.data.columns import Columns
from pipeline.data.source import open_source
from pipeline.evaluation.backtest import evaluate_task, make_task
from pipeline.evaluation.baselines import SEASONAL_NAIVE
from pipeline.evaluation.evaluate import (
    conclusions_on_fine_tuning,
    evaluate,
    fine_tuned_pairs,
    leak_warnings,
    score_models,
)
from pipeline.evaluation.tasks import open_tasks
from pipeline.models.checkpoint import weights_fingerprint
from pipeline.windows.seen import seen_steps

NO_BASELINES = ["--evaluation.baselines", "[]"]


def test_the_script_writes_tables_of_every_data_set_and_model(tiny, tmp_path, run_script):
    for name, freq in (("daily", "D"), ("hourly", "h")):
        long_frame(freq=freq).to_csv(tmp_path / f"{name}.csv", index=False)
    sets = "[daily.csv, {path: hourly.csv, prediction_length: 5, seasonality: 12}]"
    data = ["--evaluation.data_path", sets, "--evaluation.prediction_length", 8, "--evaluation.windows", 2]
    code, out, err = run_script("evaluate", *data, "--evaluation.models", f"[{tiny['bolt']}]", *NO_BASELINES)
    assert (code, err) == (0, "")
    folder = tmp_path / "data" / "reports"
    assert "seasonal naive" in out and (folder / "scores.md").read_text() in out
    tables = {file.stem: pd.read_csv(file) for file in folder.glob("*.csv")}
    assert set(tables) == {"scores", "scores_by_series", "scores_by_window"}
    scores = tables["scores"]
    assert scores["data set"].tolist() == ["daily", "daily", "hourly", "hourly", *["geometric mean of 2"] * 2]
    assert scores["seasonality"].tolist()[:4] == [7, 7, 12, 12] and scores["windows"][0] == 12
    by_series = tables["scores_by_series"].query("model == 'seasonal naive' and `data set` == 'daily'")
    assert list(by_series["item_id"]) == [f"item{k}" for k in range(6)]
    assert by_series["MASE"].mean() == pytest.approx(scores["MASE"][0])
    forecasts = pd.read_parquet(folder / "forecasts.parquet").query("`data set` == 'hourly'")
    assert forecasts.groupby("model").size().tolist() == [6 * 2 * 5] * 2
    merged = forecasts.merge(long_frame(freq="h"), on=["item_id", "timestamp"])
    assert len(merged) == len(forecasts) and np.allclose(merged["actual"], merged["target"])
    hours = (forecasts["timestamp"] - forecasts["origin"]).dt.total_seconds() / 3600
    assert hours.tolist() == [1, 2, 3, 4, 5] * 24


@pytest.mark.skipif(not DATA.is_dir(), reason="the real series of ../shared/data are not here")
def test_seasonal_naive_scores_of_the_real_sets_are_the_published_ones(tmp_path):
    evaluation = EvaluationConfig(data_path=str(DATA / "index.json"), baselines=[])
    config = Config(evaluation=evaluation, paths=PathsConfig(data_dir=str(tmp_path)))
    evaluations = score_models([], open_tasks(config), config)
    for entry in json.loads((DATA / "index.json").read_text()):
        scores = evaluations[entry["name"]][SEASONAL_NAIVE].scores()
        for name in ("MASE", "WQL"):
            assert scores[name] == pytest.approx(entry["seasonal_naive"][name], abs=1e-3)


def test_windows_that_cannot_be_scored_are_counted_in_a_warning(caplog):
    """The second series has 25 steps, so the fourth of its windows of 8 steps would have no history."""
    store = store_from_arrays([np.arange(60.0), np.arange(25.0)])
    config = Config(evaluation=EvaluationConfig(baselines=[]))
    for n_origins, expected in ((3, []), (4, [("t", 1, 8)])):
        caplog.clear()
        score_models([], [make_task("t", store, 8, 1, n_origins)], config)
        assert [record.args for record in caplog.records if record.levelname == "WARNING"] == expected


@pytest.fixture
def train(run_script, tiny, csv):
    """Train one step on the series in csv, from the tiny Chronos-Bolt, with some settings more."""

    def run(*more):
        lengths = ["--training.max_steps", 1, "--training.context_length", 32, "--training.prediction_length", 8]
        base = ["--base_model.output_path", tiny["bolt"], "--data.train", csv, "--training.validation_windows", 6]
        fast = ["--training.refit", "false", "--training.trainer.report_to", "none"]
        code, _, err = run_script("train", *base, *lengths, *fast, *more)
        assert code == 0, err

    return run


@pytest.mark.parametrize("test_length, mixup, warned", [(0, True, True), (8, False, False)])
def test_the_report_answers_first_and_warns_about_steps_that_a_model_has_seen(
    train, tiny, csv, run_script, test_length, mixup, warned
):
    train("--data.test_length", test_length, "--data.mixup", mixup, "--synthetic.mixup.min_length", 48)
    scored = ["--evaluation.data_path", csv, "--evaluation.prediction_length", 8, *NO_BASELINES]
    models = ["--evaluation.models", f"[{tiny['bolt']}, data/models/trained]"]
    code, out, err = run_script("evaluate", *scored, *models)
    assert code == 0, err
    page, scores = (Path("data", "reports", name).read_text() for name in ("report.html", "scores.md"))
    for text in (out, page, scores):
        assert ("data.test_length 8" in text) == warned
    answer = out.splitlines()[-1]
    assert "against the base on 6 series, 1 window each" in answer
    assert scores.splitlines()[0] == answer
    assert re.findall(r"<h1>(.*?)</h1>", page) == [answer]


def test_each_task_on_which_a_model_was_trained_has_a_warning(tmp_path):
    store, other = (store_from_arrays([np.arange(30.0) + k]) for k in (0, 1))
    (tmp_path / "training_info.json").write_text(json.dumps({"seen": seen_steps([store], 4)}))
    seen, unseen, elsewhere = (
        make_task("a", store, 5, 1, 1),
        make_task("b", store, 2, 1, 2),
        make_task("c", other, 5, 1, 1),
    )
    (warning,) = leak_warnings([str(tmp_path), "amazon/elsewhere"], [seen, unseen, elsewhere])
    assert str(tmp_path) in warning and "1 of 1 windows of a," in warning and "data.test_length 5" in warning


def test_a_fine_tuned_model_is_paired_with_the_scored_model_of_the_same_weights(tiny, tmp_path):
    bolt, t5, tuned = str(tiny["bolt"]), str(tiny["t5"]), tmp_path / "tuned"
    copied = str(shutil.copytree(tiny["bolt"], tmp_path / "copy"))
    shutil.copytree(tiny["bolt"], tuned)
    (tuned / "config.json").write_text("{}")
    (tuned / "training_info.json").write_text(
        json.dumps({"identity": {"base model": weights_fingerprint(tiny["bolt"])}})
    )
    assert fine_tuned_pairs([SEASONAL_NAIVE, t5, copied, str(tuned)]) == [(copied, str(tuned))]
    assert fine_tuned_pairs([t5, str(tuned)]) == fine_tuned_pairs([bolt, t5]) == []


def test_conclusions_on_several_models_name_them():
    rng = np.random.default_rng(0)
    task = make_task("t", store_from_arrays(rng.normal(5, 1, (8, 30))), 3, 1, 1)
    evaluations = {
        "t": {name: offset_evaluation(task, offset) for name, offset in (("base", 2), ("plain", 1), ("tuned", 3))}
    }
    pairs = [("base", "plain"), ("base", "tuned")]
    plain, tuned = conclusions_on_fine_tuning(evaluations, pairs, {"plain": [], "tuned": []})
    assert "Use plain." in plain and "Use base." in tuned
    (single,) = conclusions_on_fine_tuning(
        {"t": {name: evaluations["t"][name] for name in ("base", "tuned")}}, pairs[1:], {"tuned": []}
    )
    assert "Use the base." in single


def test_a_conclusion_on_seen_steps_says_so(tmp_path):
    task = make_task("t", store_from_arrays(np.random.default_rng(0).normal(5, 1, (8, 30))), 3, 1, 1)
    evaluations = {"t": {name: offset_evaluation(task, offset) for name, offset in (("base", 2), (str(tmp_path), 1))}}
    for test_length, is_seen in ((3, False), (2, True)):
        (tmp_path / "training_info.json").write_text(json.dumps({"seen": seen_steps([task.store], test_length)}))
        leaks = {str(tmp_path): leak_warnings([str(tmp_path)], [task])}
        (conclusion,) = conclusions_on_fine_tuning(evaluations, [("base", str(tmp_path))], leaks)
        assert ("seen scored steps" in conclusion) == is_seen == ("Use" not in conclusion)


def offset_evaluation(task, offset):
    """Return the evaluation of forecasts that are too high by an offset."""

    def forecast(histories, length):
        return np.repeat(task.targets(range(len(task)))[:, :, None] + offset, 9, axis=2)

    return evaluate_task(task, forecast, batch_size=len(task))


@pytest.mark.slow
def test_torchrun_evaluates_as_one_process_does(tiny, tmp_path):
    """The samples of a token model depend on the batch, and the batches are those of one process."""
    long_frame(n_series=7).to_csv(tmp_path / "s.csv", index=False)
    arguments = ["--evaluation.models", f"[{tiny['t5']}]", "--evaluation.data_path", "s.csv", *NO_BASELINES]
    settings = ["--evaluation.prediction_length", 5, "--evaluation.windows", 3, "--inference.batch_size", 4]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for launcher, folder in (([], "one"), (torchrun, "two")):
        command = [sys.executable, *launcher, ROOT / "scripts" / "evaluate.py", *arguments, *settings]
        command += ["--evaluation.report_path", folder]
        done = subprocess.run(list(map(str, command)), cwd=tmp_path, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    for name in ("scores.csv", "scores_by_series.csv", "scores_by_window.csv", "forecasts.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("name, values", [
    ("models", ["builtin:bolt-synth", "builtin:bolt-synth"]), ("baselines", ["AutoETS", "AutoETS"])
])  # fmt: skip
def test_a_name_that_is_scored_twice_is_refused(name, values):
    with pytest.raises(UserError, match=f"evaluation.{name}.*{values[0]}"):
        EvaluationConfig(**{name: values})


@pytest.mark.parametrize("family, is_used", [("bolt", False), ("chronos-2", True)])
def test_covariates_that_no_model_takes_are_reported(tiny, tmp_path, caplog, family, is_used):
    past, _ = shops(n_series=2, length=40)
    columns = Columns(variates=Variates(("sold",), ("visits",), ("price", "promo")))
    task = make_task("shops", open_source(past, tmp_path, columns), 4, 1, 1)
    score_models([str(tiny[family])], [task], Config(evaluation=EvaluationConfig(baselines=[])))
    assert any("visits, price" in message for message in caplog.messages) != is_used


def test_an_engine_that_has_no_effect_is_refused(tmp_path):
    config = Config(inference=InferenceConfig(engine="onnx"), paths=PathsConfig(data_dir=str(tmp_path)))
    with pytest.raises(UserError, match="inference.engine"):
        evaluate(config, "evaluate")
