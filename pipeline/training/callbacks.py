"""What is seen while a model trains: lines, a progress bar, and pictures of validation forecasts in TensorBoard."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import ProgressCallback

from pipeline.training.selection import SCORES, log_scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)


class Bar(ProgressCallback):
    """The Trainer's progress bar, without its lines of raw dictionaries."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Leave what is logged to `LogCallback`."""


class LogCallback(TrainerCallback):
    """One plain line for each log and evaluation."""

    def __init__(self) -> None:
        self.begun: tuple[float, int] | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock."""
        self.begun = time.monotonic(), state.global_step

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict | None = None, **_: Any
    ) -> None:
        """Print training losses and validation scores."""
        if logs is None or not state.is_world_process_zero:
            return
        if "eval_wql" in logs:
            what = f"step {state.global_step}" if state.global_step else "base"
            log_scores(what, {name: logs[f"eval_{name}"] for name in SCORES})
        elif "loss" in logs:
            assert self.begun is not None
            seconds, steps = time.monotonic() - self.begun[0], state.global_step - self.begun[1]
            left = (state.max_steps - state.global_step) * seconds / steps
            logger.info(
                "step %d of %d: loss %.4f, learning rate %.2e, %.0f windows/s, %s left",
                state.global_step,
                state.max_steps,
                logs["loss"],
                logs["learning_rate"],
                logs["windows_per_second"],
                timedelta(seconds=round(left)),
            )


class TensorBoardForecasts(TensorBoardCallback):
    """TensorBoard's log of losses and scores, with a picture of some validation forecasts at every evaluation."""

    def __init__(self, logging_dir: str, pictured: Callable[[], Figure | None]) -> None:
        super().__init__()
        self.logging_dir = logging_dir
        self.pictured = pictured

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Draw what the last evaluation forecast."""
        figure = self.pictured()
        if figure is not None and self.tb_writer is not None:
            self.tb_writer.add_figure("validation forecasts", figure, state.global_step)
