from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from pipeline.forecasting.plots import DrawnForecast
from pipeline.training.callbacks import TensorBoardForecasts


@pytest.mark.parametrize("steps", [(0, 2), (2, 4)])
def test_every_picture_after_the_first_has_the_forecast_of_the_base(tmp_path, steps):
    """A resumed run has not scored the base, so its pictures have no forecast of the base."""
    pictures = []
    scored: dict[int, Any] = {
        step: SimpleNamespace(drawn=[DrawnForecast("A", *np.full((4, 3), float(step)))]) for step in steps
    }
    callback = TensorBoardForecasts(str(tmp_path), scored)
    callback.tb_writer = type("Writer", (), {"add_figure": lambda _, tag, figure, step: pictures.append(figure)})()
    for step in steps:
        callback.on_evaluate(TrainingArguments(str(tmp_path)), TrainerState(global_step=step), TrainerControl())
    lines = [{line.get_label(): line.get_ydata()[0] for line in picture.axes[0].lines} for picture in pictures]
    assert lines[0]["median forecast"] == steps[0] and "base median" not in lines[0]
    if 0 in steps:
        assert (lines[1]["base median"], lines[1]["fine-tuned median"]) == (0, 2)
    else:
        assert lines[1]["median forecast"] == 4 and "base median" not in lines[1]
