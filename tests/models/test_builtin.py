"""The model inside the package: it is what its card says, it forecasts, and it is where one without the Hub starts from."""

import json
import re
import shutil

import numpy as np
import pytest
import torch

from pipeline.base_model import ChronosBaseModel
from pipeline.core.errors import UserError
from pipeline.core.files import read_json
from pipeline.core.metrics import WQL_LEVELS
from pipeline.forecasting.forecaster import Forecaster
from pipeline.models.builtin import builtin_folder, builtin_names
from tools.publish_builtin import MOST_BYTES, SAMPLE, facts_of, publish, sample_forecast

NAME = "builtin:bolt-synth"
FOLDER = builtin_folder(NAME)


def test_the_shipped_file_is_the_one_that_its_card_describes():
    card = (FOLDER / "README.md").read_text()
    told = dict(re.findall(r"^\| (.+?)\s+\| (.+?)\s+\|$", card, flags=re.MULTILINE))
    facts = facts_of(FOLDER)
    assert {key: told.get(key) for key in facts} == facts
    assert (FOLDER / "model.safetensors").stat().st_size <= MOST_BYTES
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= MOST_BYTES


def test_it_makes_the_forecast_that_is_stored_beside_it():
    stored, made = read_json(FOLDER / SAMPLE), sample_forecast(FOLDER)
    assert made["context"] == stored["context"]
    np.testing.assert_allclose(made["quantiles"], stored["quantiles"], rtol=1e-4)


def test_it_has_seen_synthetic_series_alone():
    assert read_json(FOLDER / "training_info.json")["config"]["data"]["train"] == "synthetic:bank"


def test_it_forecasts_a_season_that_it_is_shown():
    step = np.arange(260)
    series = 50 + 10 * np.sin(2 * np.pi * step / 24)
    quantiles, median = Forecaster.load(NAME).quantiles([series[:212].astype(np.float32)], 48, WQL_LEVELS)
    error, naive = np.abs(median[0] - series[212:]).mean(), np.abs(series[211] - series[212:]).mean()
    assert error < 0.2 * naive and (quantiles[0, :, 8] - quantiles[0, :, 0]).mean() < 20


def test_stock_chronos_and_the_base_model_script_take_it(tmp_path, run_script):
    from chronos import BaseChronosPipeline

    code, _, err = run_script("base_model", "--base_model.model_name", NAME)
    assert (code, err) == (0, "")
    saved = tmp_path / "data" / "models" / "base"
    assert read_json(saved / "model_info.json")["model_name"] == NAME
    context = np.array(json.loads((FOLDER / SAMPLE).read_text())["context"], np.float32)
    inside, copied = (
        BaseChronosPipeline.from_pretrained(folder).predict(torch.tensor(context), prediction_length=8)
        for folder in (FOLDER, saved)
    )
    torch.testing.assert_close(inside, copied)


def test_another_name_is_refused_and_told_what_there_is():
    assert builtin_names() == [NAME]
    with pytest.raises(UserError, match=NAME):
        ChronosBaseModel("builtin:nothing").load_from_huggingface()
    with pytest.raises(UserError, match=NAME):
        Forecaster.load("builtin:nothing")


def test_where_the_hub_cannot_be_reached_the_model_inside_is_named(run_script, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    code, _, err = run_script("base_model", "--base_model.model_name", "amazon/chronos-bolt-base")
    assert code == 2 and NAME in err


def test_publishing_gives_the_folder_again_and_refuses_real_series(tmp_path):
    checkpoint = tmp_path / "trained"
    shutil.copytree(FOLDER, checkpoint)
    again = publish(checkpoint, "bolt-synth", tmp_path)
    for name in ("config.json", "model.safetensors", "training_info.json", "README.md"):
        assert (again / name).read_bytes() == (FOLDER / name).read_bytes()
    info = read_json(checkpoint / "training_info.json")
    info["config"]["data"]["train"] = "sales.csv"
    (checkpoint / "training_info.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match="synthetic:bank alone"):
        publish(checkpoint, "other", tmp_path)
    assert not (tmp_path / "other").exists()
