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
from tools.publish_builtin import (
    EARLIER_INFO,
    FORECAST_FILE,
    MAX_BYTES,
    SYNTHETIC_SOURCES,
    card_rows,
    publish,
    reference_forecast,
    trainings,
)

NAMES = ["builtin:bolt-synth", "builtin:chronos2-synth"]


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def folder(name):
    return builtin_folder(name)


def test_the_model_card_describes_the_model(folder):
    card = dict(re.findall(r"^\| (.+?)\s+\| (.+?)\s+\|$", (folder / "README.md").read_text(), flags=re.MULTILINE))
    rows = card_rows(folder)
    assert {key: card.get(key) for key in rows} == rows


def test_the_folder_is_small(folder):
    assert sum(file.stat().st_size for file in folder.iterdir()) <= MAX_BYTES


def test_the_model_makes_its_reference_forecast(folder):
    expected, forecast = read_json(folder / FORECAST_FILE), reference_forecast(folder)
    assert forecast["context"] == expected["context"]
    np.testing.assert_allclose(forecast["quantiles"], expected["quantiles"], rtol=1e-4)


def test_the_model_was_trained_on_synthetic_series_only(folder):
    infos = trainings(folder)
    assert all(info["config"]["data"]["train"] in SYNTHETIC_SOURCES for info in infos)
    bases = [info["base_model"] for info in infos]
    outputs = [info["config"]["training"]["output_path"] for info in infos]
    assert bases[0].startswith("scratch:") and bases[1:] == outputs[:-1]


def test_the_model_forecasts_a_daily_season(name):
    step = np.arange(260)
    series = 50 + 10 * np.sin(2 * np.pi * step / 24)
    quantiles, median = Forecaster.load(name).quantiles([series[:212].astype(np.float32)], 48, WQL_LEVELS)
    error, naive = np.abs(median[0] - series[212:]).mean(), np.abs(series[211] - series[212:]).mean()
    assert error < 0.2 * naive and (quantiles[0, :, 8] - quantiles[0, :, 0]).mean() < 20


def test_a_base_made_from_the_model_forecasts_the_same(tmp_path, run_script, name, folder):
    code, _, err = run_script("base_model", "--base_model.model_name", name)
    assert (code, err) == (0, "")
    saved = tmp_path / "data" / "models" / "base"
    assert read_json(saved / "model_info.json")["model_name"] == name
    context = torch.tensor(read_json(folder / FORECAST_FILE)["context"])
    original, copied = (
        BaseChronosPipeline.from_pretrained(each).predict([context], prediction_length=8) for each in (folder, saved)
    )
    torch.testing.assert_close(original, copied)


@pytest.mark.parametrize("load", [load_base, Forecaster.load])
def test_an_unknown_name_is_refused_with_the_known_ones(load):
    assert builtin_names() == NAMES
    with pytest.raises(UserError, match=f"builtin:nothing.*{', '.join(NAMES)}"):
        load("builtin:nothing")


def test_publishing_reproduces_the_folder(tmp_path, folder):
    checkpoint = tmp_path / "trained"
    shutil.copytree(folder, checkpoint)
    published = publish(checkpoint, folder.name, tmp_path)
    assert {file.name for file in published.iterdir()} == {file.name for file in folder.iterdir()}
    for file in folder.iterdir():
        assert file.name == FORECAST_FILE or (published / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_trainings_of_a_model_are_found_in_its_bases(tmp_path):
    for number, name in enumerate(("random", "first", "second")):
        (tmp_path / name).mkdir()
        base = tmp_path / ("", "random", "first")[number]
        info = {"steps": number, "config": {"base_model": {"output_path": str(base)}}}
        if number:
            (tmp_path / name / "training_info.json").write_text(json.dumps(info))
    assert [info["steps"] for info in trainings(tmp_path / "second")] == [1, 2]


@pytest.mark.parametrize("number", [0, -1])
def test_a_model_trained_on_other_series_is_not_published(tmp_path, number):
    checkpoint = tmp_path / "trained"
    shutil.copytree(builtin_folder("builtin:chronos2-synth"), checkpoint)
    infos = trainings(checkpoint)
    infos[number]["config"]["data"]["train"] = "sales.csv"
    (checkpoint / EARLIER_INFO).write_text(json.dumps(infos[:-1]))
    (checkpoint / "training_info.json").write_text(json.dumps(infos[-1]))
    with pytest.raises(UserError, match="data.train sales.csv"):
        publish(checkpoint, "other", tmp_path)
    assert not (tmp_path / "other").exists()
