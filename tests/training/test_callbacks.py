import numpy as np
import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from pipeline.forecasting.plots import DrawnForecast
from pipeline.training.callbacks import CheckpointCallback, EarlyStopping, TensorBoardForecasts


@pytest.mark.parametrize("losses, is_over", [
    ([], False),
    ([1.0], False),
    ([1.0, 1.1, 1.2], False),
    ([1.0, 1.1, 1.2, 1.3], True),  # the base is best, and three evaluations have not improved on it
    ([1.0, 1.1, 0.9, 1.2, 1.3], False),
    ([1.0, 1.1, 0.9, 1.2, 1.3, 0.95], True),  # an evaluation counts only if it is the best so far
    ([1.0, 0.9, 0.9, 0.9, 0.9], True),
])  # fmt: skip
def test_training_ends_after_three_evaluations_without_a_better_score(tmp_path, losses, is_over):
    log = [{"step": step, "eval_loss": loss, "eval_wql": -step} for step, loss in enumerate(losses)]
    stopping, state, control = EarlyStopping("loss", patience=3), TrainerState(log_history=log), TrainerControl()
    stopping.on_evaluate(TrainingArguments(str(tmp_path)), state, control)
    assert stopping.is_over(state) == control.should_training_stop == is_over


@pytest.mark.parametrize("exists", [True, False])
def test_the_best_checkpoint_is_found_in_the_folder_of_the_run(tmp_path, exists):
    if exists:
        (tmp_path / "checkpoint-3").mkdir()
    state = TrainerState(best_global_step=3, best_model_checkpoint="/before/the/move/checkpoint-3")
    CheckpointCallback(after_save=lambda: None).on_train_begin(
        TrainingArguments(str(tmp_path)), state, TrainerControl()
    )
    assert state.best_model_checkpoint == (str(tmp_path / "checkpoint-3") if exists else None)


def test_every_picture_after_the_first_has_the_forecast_of_the_base(tmp_path):
    pictures = []
    callback = TensorBoardForecasts(str(tmp_path), lambda: [DrawnForecast("A", *np.full((4, 3), float(step)))])
    callback.tb_writer = type("Writer", (), {"add_figure": lambda _, tag, figure, step: pictures.append(figure)})()
    for step in (0, 2):
        callback.on_evaluate(TrainingArguments(str(tmp_path)), TrainerState(global_step=step), TrainerControl())
    lines = [{line.get_label(): line.get_ydata()[0] for line in picture.axes[0].lines} for picture in pictures]
    assert lines[0]["median forecast"] == 0 and "base median" not in lines[0]
    assert (lines[1]["base median"], lines[1]["fine-tuned median"]) == (0, 2)
