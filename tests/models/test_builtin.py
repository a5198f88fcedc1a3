import json
import re
import shutil

import numpy as np
import pytest
import torch
from chronos import BaseChronosPipeline

from pipeline.core.errors import UserError
from pipeline.core.files import read_json
from pipeline.core.metrics import WQL_LEVELS
from pipeline.forecasting.forecaster import Forecaster
from pipeline.models.base import load_base
from pipeline.models.builtin import builtin_folder, builtin_names
from tools.publish_builtin import FORECAST_FILE, MAX_BYTES, card_rows, publish, reference_forecast

NAME = "builtin:bolt-synth"
FOLDER = builtin_folder(NAME)


def test_the_model_card_describes_the_model():
    card = dict(re.findall(r"^\| (.+?)\s+\| (.+?)\s+\|$", (FOLDER / "README.md").read_text(), flags=re.MULTILINE))
    rows = card_rows(FOLDER)
    assert {key: card.get(key) for key in rows} == rows


def test_the_folder_is_small():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= MAX_BYTES


def test_the_model_makes_its_reference_forecast():
    expected, forecast = read_json(FOLDER / FORECAST_FILE), reference_forecast(FOLDER)
    assert forecast["context"] == expected["context"]
    np.testing.assert_allclose(forecast["quantiles"], expected["quantiles"], rtol=1e-4)


def test_the_model_was_trained_on_synthetic_series_only():
    assert read_json(FOLDER / "training_info.json")["config"]["data"]["train"] == "synthetic:bank"


def test_the_model_forecasts_a_daily_season():
    step = np.arange(260)
    series = 50 + 10 * np.sin(2 * np.pi * step / 24)
    quantiles, median = Forecaster.load(NAME).quantiles([series[:212].astype(np.float32)], 48, WQL_LEVELS)
    error, naive = np.abs(median[0] - series[212:]).mean(), np.abs(series[211] - series[212:]).mean()
    assert error < 0.2 * naive and (quantiles[0, :, 8] - quantiles[0, :, 0]).mean() < 20


def test_a_base_made_from_the_model_forecasts_the_same(tmp_path, run_script):
    code, _, err = run_script("base_model", "--base_model.model_name", NAME)
    assert (code, err) == (0, "")
    saved = tmp_path / "data" / "models" / "base"
    assert read_json(saved / "model_info.json")["model_name"] == NAME
    context = torch.tensor(read_json(FOLDER / FORECAST_FILE)["context"])
    original, copied = (
        BaseChronosPipeline.from_pretrained(folder).predict(context, prediction_length=8) for folder in (FOLDER, saved)
    )
    torch.testing.assert_close(original, copied)


@pytest.mark.parametrize("load", [load_base, Forecaster.load])
def test_an_unknown_name_is_refused_with_the_known_ones(load):
    assert builtin_names() == [NAME]
    with pytest.raises(UserError, match=f"builtin:nothing.*{NAME}"):
        load("builtin:nothing")


def test_publishing_reproduces_the_folder(tmp_path):
    checkpoint = tmp_path / "trained"
    shutil.copytree(FOLDER, checkpoint)
    published = publish(checkpoint, "bolt-synth", tmp_path)
    for name in ("config.json", "model.safetensors", "training_info.json", "README.md"):
        assert (published / name).read_bytes() == (FOLDER / name).read_bytes(), name


def test_a_model_trained_on_other_series_is_not_published(tmp_path):
    checkpoint = tmp_path / "trained"
    shutil.copytree(FOLDER, checkpoint)
    info = read_json(checkpoint / "training_info.json")
    info["config"]["data"]["train"] = "sales.csv"
    (checkpoint / "training_info.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match="data.train sales.csv"):
        publish(checkpoint, "other", tmp_path)
    assert not (tmp_path / "other").exists()
