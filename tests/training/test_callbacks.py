import numpy as np
from transformers import TrainerControl, TrainerState, TrainingArguments

from pipeline.forecasting.plots import DrawnForecast
from pipeline.training.callbacks import TensorBoardForecasts


def test_every_picture_after_the_first_has_the_forecast_of_the_base(tmp_path):
    pictures = []
    callback = TensorBoardForecasts(str(tmp_path), lambda: [DrawnForecast("A", *np.full((4, 3), float(step)))])
    callback.tb_writer = type("Writer", (), {"add_figure": lambda _, tag, figure, step: pictures.append(figure)})()
    for step in (0, 2):
        callback.on_evaluate(TrainingArguments(str(tmp_path)), TrainerState(global_step=step), TrainerControl())
    lines = [{line.get_label(): line.get_ydata()[0] for line in picture.axes[0].lines} for picture in pictures]
    assert lines[0]["median forecast"] == 0 and "base median" not in lines[0]
    assert (lines[1]["base median"], lines[1]["fine-tuned median"]) == (0, 2)
