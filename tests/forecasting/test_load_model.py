"""The class ChronosLoader on arrays. tests/test_classes.py has tables and stores."""

import numpy as np
import pandas as pd
import pytest

from pipeline.config import Config, InferenceConfig
from pipeline.core.errors import UserError
from pipeline.load_model import ChronosLoader

DATA = np.sin(np.arange(120) / 4) + np.arange(3)[:, None]


@pytest.fixture
def loader(tiny):
    loader = ChronosLoader(str(tiny["bolt"]))
    loader.load_trained_model()
    return loader


def test_a_model_must_be_loaded_first(tiny):
    loader = ChronosLoader(str(tiny["bolt"]))
    for method, data in ((loader.predict, DATA), (loader.evaluate_on_test_data, DATA)):
        with pytest.raises(UserError, match="load_trained_model"):
            method(data)


def test_predictions_are_saved_as_they_are(loader, tmp_path):
    predictions = loader.predict(DATA, prediction_length=10)
    assert predictions.shape == (3, 10, 3) and predictions.dtype == np.float32
    np.testing.assert_allclose(loader.predict(DATA[0], 10)[0], predictions[0], rtol=1e-4)
    loader.save_predictions(predictions, str(tmp_path / "folder"))
    saved = pd.read_parquet(tmp_path / "folder" / "predictions.parquet")
    np.testing.assert_array_equal(saved["0.9"].to_numpy().reshape(3, 10), predictions[:, :, 2])


def test_test_data_are_scored_with_the_configured_context(loader):
    scores = loader.evaluate_on_test_data(DATA)
    assert {"MASE", "WQL", "coverage_80"} <= scores.keys() and scores["windows"] == 3
    loader.config = Config(inference=InferenceConfig(context_length=12, batch_size=2))
    short = loader.evaluate_on_test_data(DATA)
    loader.config = Config(inference=InferenceConfig(context_length=10**6))
    assert loader.evaluate_on_test_data(DATA)["WQL"] == pytest.approx(scores["WQL"])
    loader.config = Config()
    assert loader.evaluate_on_test_data(DATA[:, -12 - 48 :])["WQL"] == pytest.approx(short["WQL"])
    assert abs(short["WQL"] / scores["WQL"] - 1) > 0.01
