import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from pipeline.training.callbacks import CheckpointCallback, EarlyStopping


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
