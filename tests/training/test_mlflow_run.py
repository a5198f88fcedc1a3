"""MLflow: one run for both trainings, and a model that forecasts a DataFrame. The store is a folder."""

import sys

import numpy as np
import pandas as pd
import pytest
from support.runs import trained, unfinish
from support.series import long_frame

from pipeline.core.errors import UserError
from pipeline.load_model import ChronosLoader

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow warns about its own modules
REPORTED = {"report_to": ["tensorboard", "mlflow"], "eval_steps": 2, "logging_steps": 1}


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    """A store in a folder, which newer versions of MLflow have to be allowed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        mlflow.set_tracking_uri((tmp_path_factory.mktemp("store") / "mlruns").as_uri())
        yield
    mlflow.set_tracking_uri(None)


def runs_of(name):
    return mlflow.MlflowClient().search_runs(["0"], f"run_name = '{name}'")


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """A finished run with a retraining: its folder, its trainer, and its runs in the store."""
    folder, trainer = tmp_path_factory.mktemp("tracked") / "out", {**REPORTED, "run_name": "both"}
    settings = {"refit": True, "learning_rate": 3e-2, "pictures": True}
    return folder, trained(tiny["bolt"], folder, long_frame(), trainer=trainer, **settings), runs_of("both")


def test_both_trainings_are_one_run_with_ten_parameters(finished, tiny):
    _, trainer, (run,) = finished
    assert run.info.status == "FINISHED" and run.data.tags["verdict"] == trainer.result.verdict
    assert run.data.params == {
        "data": "in memory", "number of series": "6", "base model": "scratch:bolt-nano", "horizon": "16",
        "context": "64", "steps": "4", "learning rate": "0.03", "batch size": "8", "method": "full", "seed": "0",
    }  # fmt: skip


def test_the_scores_and_losses_of_every_step_are_metrics(finished):
    _, trainer, (run,) = finished
    client, selection = mlflow.MlflowClient(), trainer.result.selection
    scores = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "score/WQL")}
    base, last = selection.candidates
    assert list(scores) == [0, 2, 4] and (scores[0], scores[4]) == (base.scores["wql"], last.scores["wql"])
    for phase in ("training", "retraining"):
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, f"{phase}/loss")]
        assert steps == list(range(1, (4 if phase == "training" else selection.winner.step) + 1))
    assert run.data.metrics["selected/WQL"] == pytest.approx(selection.winner.scores["wql"], abs=1e-4)


def test_the_report_and_its_pictures_are_artifacts(finished):
    run = finished[2][0]
    names = {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert names >= {"report.md", "training.png", "forecasts.png", "training_info.json"}


def test_the_model_forecasts_a_dataframe(finished, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])  # MLflow adds the code of the model
    folder, _, (run,) = finished
    model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    loader, data = ChronosLoader(str(folder)), long_frame()
    loader.load_trained_model()
    pd.testing.assert_frame_equal(model.predict(data), loader.predict_df(data, 16))
    assert len(model.predict(data, params={"prediction_length": 3})) == 3 * 6


def test_a_continued_training_continues_its_run(tiny, tmp_path):
    folder, trainer = tmp_path / "out", {**REPORTED, "run_name": "continued"}
    first = trained(tiny["bolt"], folder, trainer=trainer)
    unfinish(folder)
    second = trained(tiny["bolt"], folder, trainer=trainer)
    assert first.result.mlflow_run == second.result.mlflow_run and len(runs_of("continued")) == 1


def test_a_training_is_nested_in_an_open_run_and_fails_with_its_error(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.training.trainer.ScoringTrainer.score", lambda *_: np.zeros(0)[0])
    with mlflow.start_run() as outer, pytest.raises(IndexError):
        trained(tiny["bolt"], tmp_path / "out", trainer={**REPORTED, "run_name": "failed"})
    (run,) = runs_of("failed")
    assert run.info.status == "FAILED" and run.data.tags["mlflow.parentRunId"] == outer.info.run_id


def test_a_server_that_refuses_the_run_is_reported(tiny, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise mlflow.MlflowException("no access")

    monkeypatch.setattr(mlflow, "start_run", refuse)
    with pytest.raises(UserError, match="report_to: mlflow: no access"):
        trained(tiny["bolt"], tmp_path / "out", trainer=REPORTED)
