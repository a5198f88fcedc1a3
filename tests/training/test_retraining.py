"""Retraining: a model that this pipeline trained is the base of the next training, on new rows."""

import json
import shutil
from typing import Any

import numpy as np
import pytest
from support.runs import info, same, weights
from support.series import long_frame, parse_config

from pipeline import fine_tune
from pipeline.config import Config
from pipeline.core.metrics import WQL_LEVELS
from pipeline.forecasting.forecaster import Forecaster
from pipeline.models.checkpoint import weights_fingerprint
from pipeline.models.training_report import TrainingReport
from pipeline.training.previous import previous_windows

COLUMNS: dict[str, Any] = {"target": "sold", "id_column": "shop", "timestamp_column": "day"}
FAST: dict[str, Any] = {"max_steps": 4, "context_length": 32, "learning_rate": 1e-2, "validation_windows": 4}
FAST |= {"batch_size": 8, "refit": False}
HORIZON = 6


def week(seed, length=80):
    """Rows of four shops, with the day first and decimal commas, which are ambiguous after the first week."""
    frame = long_frame(n_series=4, length=length, seed=seed)
    frame = frame.rename(columns={"item_id": "shop", "timestamp": "day", "target": "sold"})
    day = frame["day"].dt.strftime("%d.%m.%Y")
    n_digits = 2 if seed == 1 else 3
    return frame.assign(day=day, sold=frame["sold"].map(lambda sold: f"{sold:.{n_digits}f}".replace(".", ",")))


@pytest.fixture(scope="module")
def weeks(tiny, tmp_path_factory):
    """Folder with the rows of three weeks, and the models of the first two, each trained from the one before."""
    folder = tmp_path_factory.mktemp("weeks")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number in (1, 2, 3):
            week(number).to_csv(f"w{number}.csv", index=False)
        first: dict[str, Any] = {**COLUMNS, **FAST, "quantiles": [0.1, 0.25, 0.5, 0.75, 0.9]}
        fine_tune("w1.csv", HORIZON, base=str(tiny["bolt"]), output_path="models/w1", **first)
        fine_tune("w2.csv", base="models/w1", output_path="models/w2", **FAST)
    return folder


def test_the_base_is_the_earlier_model_and_its_settings_are_kept(weeks):
    first, second = info(weeks / "models" / "w1"), info(weeks / "models" / "w2")
    assert second["base_model"] == "models/w1"
    assert second["identity"]["base model"] == weights_fingerprint(weeks / "models" / "w1")
    assert second["horizon"] == second["identity"]["test_length"] == HORIZON
    assert second["config"]["data"] == {**first["config"]["data"], "train": "w2.csv"}
    assert second["config"]["training"]["quantiles"] == first["config"]["training"]["quantiles"]
    assert second["formats"] == first["formats"] and second["formats"]["values"]["target"]["decimal"] == ","
    assert not (weeks / "data" / "models").exists()  # no copy, which would be old next week


def wql(folder, values, flip):
    """WQL of a model on the last horizon before the test steps of each series."""
    forecaster, total = Forecaster.load(str(folder)).with_flip(flip), 0.0
    for series in values:
        end = len(series) - HORIZON
        target = series[end - HORIZON : end, None]
        quantiles, _ = forecaster.quantiles([series[: end - HORIZON]], HORIZON, WQL_LEVELS)
        levels = np.array(WQL_LEVELS)
        total += 2 * np.maximum(levels * (target - quantiles[0]), (levels - 1) * (target - quantiles[0])).sum()
    return total / sum(np.abs(series[-2 * HORIZON : -HORIZON]).sum() for series in values)


def test_forgetting_is_measured_on_the_validation_windows_of_the_earlier_training(weeks):
    old = long_frame(n_series=4, length=80, seed=1).groupby("item_id")["target"]
    values = [series.round(2).to_numpy(np.float32) for _, series in old]
    saved = info(weeks / "models" / "w2")
    new, old_wql = (wql(weeks / "models" / name, values, saved["flip"]) for name in ("w2", "w1"))
    change, found = 100 * (1 - new / old_wql), saved["forgetting"]
    assert found["reduction"] == pytest.approx(change, rel=1e-3) and found["n_series"] == 4 and abs(change) > 0.01
    report = TrainingReport.read(weeks / "models" / "w2")
    assert report.old_wql_reduction == found["reduction"]
    first = TrainingReport.read(weeks / "models" / "w1")
    assert first.old_wql_reduction is None and "old data" not in first.verdict.lower()
    size = f"{abs(change):.1f}% {'lower' if change > 0 else 'higher'}"
    assert f"Old data: WQL {size}" in report.verdict
    assert report.verdict in (weeks / "models" / "w2" / "README.md").read_text()


def test_validation_windows_that_the_base_has_seen_are_counted(weeks, monkeypatch, caplog):
    monkeypatch.chdir(weeks)
    key = "validation windows seen by the base"
    assert info(weeks / "models" / "w1")[key] == [0, 0] and info(weeks / "models" / "w2")[key][0] == 0
    fine_tune("w1.csv", base="models/w1", output_path="models/again", **FAST)
    assert info(weeks / "models" / "again")[key] == [4, 4]
    assert "4 of 4 validation windows" in caplog.text
    assert "trained on 4 of 4" in (weeks / "models" / "again" / "report.md").read_text()
    seen_by_first = info(weeks / "models" / "w1")["seen"]
    assert all(entry in info(weeks / "models" / "w2")["seen"] for entry in seen_by_first)


def test_a_chain_of_commands_goes_on(weeks, run_script, tmp_path):
    shutil.copytree(weeks, tmp_path, dirs_exist_ok=True)
    options = [f"--training.{key}={json.dumps(value)}" for key, value in FAST.items()]
    code, out, err = run_script("train", "w3.csv", "--base", "models/w2", "--output", "models/w3", *options)
    assert (code, err) == (0, "") and "Old data: WQL" in out
    assert info(tmp_path / "models" / "w3")["horizon"] == HORIZON
    code, _, err = run_script("forecast", "w3.csv", "--model", "models/w3", "--output", "f.csv")
    assert (code, err) == (0, "")
    assert len((tmp_path / "f.csv").read_text().splitlines()) == 1 + 4 * HORIZON


def test_keys_of_the_command_line_take_precedence_over_the_base(weeks, monkeypatch):
    monkeypatch.chdir(weeks)
    base = ["--base", "models/w1"]
    kept = parse_config(base)
    assert (kept.training.prediction_length, kept.data.test_length) == (HORIZON, HORIZON)
    assert kept.data.variates().targets == ("sold",)
    other = parse_config([*base, "--horizon", "9", "--target", "returned"])
    assert (other.training.prediction_length, other.test_length(), other.data.target) == (9, 9, "returned")
    assert other.inference.prediction_length == other.evaluation.prediction_length == 9
    everything = parse_config([*base, "--data.test_length", "0"])
    assert (everything.training.prediction_length, everything.data.test_length) == (HORIZON, 0)
    assert parse_config(["--base", "builtin:bolt-synth"]).data == Config().data


def edit(base, **config):
    """Change the section data or training in the description of a model."""
    content = info(base)
    for section, values in config.items():
        content["config"][section] |= values
    (base / "training_info.json").write_text(json.dumps(content))


@pytest.mark.parametrize("change, reason", [
    ({"data": {"train": "nowhere.csv"}}, "nowhere.csv"),
    ({"data": {"train": "w2.csv"}}, "w2.csv has changed"),
    ({"data": {"train": "https://127.0.0.1:9/w1.csv"}}, "not a file"),
    ({"data": {"train": {"query": "select 1", "url": "sqlite:///w1.db"}}}, "not a file"),
    ({"data": {"target": "returned"}}, "returned"),
    ({"data": {"mixup": "many"}}, "wrong configuration"),
    ({"training": {"validation_split": 0.0}}, "held nothing out"),
])  # fmt: skip
def test_windows_that_are_gone_or_changed_are_not_scored(weeks, tmp_path, monkeypatch, change, reason):
    monkeypatch.chdir(weeks)
    base = shutil.copytree("models/w1", tmp_path / "base")
    windows = previous_windows(Config(), base)
    assert not isinstance(windows, str) and windows is not None and len(windows) == 4
    edit(base, **change)
    assert reason in str(previous_windows(Config(), base))


def test_data_in_memory_are_not_scored_later(weeks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(weeks / "models" / "w1", "w1")
    model = fine_tune(week(2), base="w1", output_path="w2", **FAST)
    assert "Forgetting was not measured: w1.csv" in model.report.verdict and model.report.old_wql_reduction is None
    assert "in memory" in str(previous_windows(Config(), tmp_path / "w2"))


def test_a_base_that_is_saved_again_has_forgotten_nothing(weeks, tmp_path, monkeypatch):
    monkeypatch.chdir(weeks)
    settings = {**FAST, "learning_rate": 1e38}
    model = fine_tune("w2.csv", base="models/w1", output_path=tmp_path / "out", **settings)
    assert model.report.old_wql_reduction is None and "orget" not in model.report.verdict
    assert same(weights(tmp_path / "out"), weights(weeks / "models" / "w1"))
