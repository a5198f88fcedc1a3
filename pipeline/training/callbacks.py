"""Callbacks of the Trainer: log lines, the progress bar, TensorBoard pictures, and sealed checkpoints."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from pipeline.core.progress import progress
from pipeline.forecasting.plots import beside_base, forecast_figure
from pipeline.training.checkpointing import seal_checkpoint
from pipeline.training.selection import SCORES, Candidate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.training.trainer import Scored

_TAGS = {
    "eval_wql": "score/WQL",
    "eval_mase": "score/MASE",
    "eval_loss": "score/loss",
    "windows_per_second": "throughput/windows_per_second",
    "loss": "training/loss",
    "learning_rate": "training/learning_rate",
    "grad_norm": "training/gradient_norm",
}
"""Names of the Trainer's values in trackers, which sort them: scores first."""
logger = logging.getLogger(__name__)


def tracked_values(logs: Mapping[str, float] | None) -> dict[str, float]:
    """Return the values in a log of the Trainer that trackers show, by their names there."""
    return {_TAGS[key]: value for key, value in (logs or {}).items() if key in _TAGS}


class ProgressBar(TrainerCallback):
    """A bar with the steps, the last validation score and the time left, in a terminal or a notebook."""

    def __init__(self, phase: str) -> None:
        """Take the name of the phase, `training` or `retraining`."""
        self._phase = phase
        self._bar: Any = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Show the bar."""
        if state.is_world_process_zero:
            self._bar = progress(None, state.max_steps, "step", self._phase)
            self._bar.update(state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict | None = None, **_: Any
    ) -> None:
        """Show the validation score."""
        if self._bar is not None and logs is not None and "eval_wql" in logs:
            self._bar.set_postfix_str(f"validation WQL {logs['eval_wql']:.4f}")

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Keep the bar as it is."""
        if self._bar is not None:
            self._bar.close()


class LogCallback(TrainerCallback):
    """One line for each log of training and each evaluation."""

    def __init__(self) -> None:
        self._begin: tuple[float, int] | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock."""
        self._begin = time.monotonic(), state.global_step

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict | None = None, **_: Any
    ) -> None:
        """Log training losses and validation scores."""
        if logs is None or not state.is_world_process_zero:
            return
        if "eval_wql" in logs:
            scores = {score: logs[f"eval_{score}"] for score in SCORES}
            logger.info(Candidate(state.global_step, scores).describe())
        elif "loss" in logs:
            assert self._begin is not None
            seconds, steps = time.monotonic() - self._begin[0], state.global_step - self._begin[1]
            remaining = (state.max_steps - state.global_step) * seconds / steps
            logger.info(
                "step %d of %d: loss %.4f, learning rate %.2e, %.0f windows/s, %s left",
                state.global_step,
                state.max_steps,
                logs["loss"],
                logs["learning_rate"],
                logs["windows_per_second"],
                timedelta(seconds=round(remaining)),
            )


class TensorBoardForecasts(TensorBoardCallback):
    """TensorBoard's log of losses and scores, with a picture of some validation forecasts at every evaluation."""

    def __init__(self, logging_dir: str, scored: Mapping[int, Scored]) -> None:
        """Take the folder of the log and the evaluations by step."""
        super().__init__()
        self.logging_dir = logging_dir
        self._scored = scored

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict | None = None, **_: Any
    ) -> None:
        """Write the values of a log; only the first process has a writer."""
        if self.tb_writer is not None:
            for tag, value in tracked_values(logs).items():
                self.tb_writer.add_scalar(tag, value, state.global_step)
            self.tb_writer.flush()

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Draw forecasts of the last evaluation, beside the base's if this process has scored the base."""
        drawn, base = self._scored[state.global_step].drawn, self._scored.get(0)
        if state.global_step and base is not None:
            drawn = beside_base(drawn, base.drawn) or drawn
        if drawn and self.tb_writer is not None:
            self.tb_writer.add_figure("validation forecasts", forecast_figure(drawn), state.global_step)


class MLflowMetrics(TrainerCallback):
    """Losses and scores in the open MLflow run. The stock callback opens one for each training, with 150 parameters."""

    def __init__(self, phase: str) -> None:
        """Take the phase, `training` or `retraining`. All metrics of a retraining begin with its name."""
        self._phase = phase

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict | None = None, **_: Any
    ) -> None:
        """Log the values of a log."""
        if state.is_world_process_zero:
            import mlflow

            values = {tag: value for tag, value in tracked_values(logs).items() if math.isfinite(value)}
            if self._phase == "retraining":
                values = {f"retraining/{tag.partition('/')[2]}": value for tag, value in values.items()}
            mlflow.log_metrics(values, state.global_step)


class CheckpointCallback(TrainerCallback):
    """Seals every checkpoint once it is written."""

    def __init__(self, after_save: Callable[[], None]) -> None:
        """Take a function to call after every save."""
        self._after_save = after_save

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Seal the checkpoint when all processes have written their parts."""
        PartialState().wait_for_everyone()
        if args.should_save:
            seal_checkpoint(Path(str(args.output_dir), f"checkpoint-{state.global_step}"))
        self._after_save()
