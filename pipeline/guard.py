"""The Hugging Face Trainer with one addition: validation scores every candidate by its real forecasts, as WQL and MASE."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from accelerate.utils import gather_object
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from pipeline.metrics import WQL_LEVELS, WindowErrors, seasonal_error, window_errors
from pipeline.windows import ValidationWindows

_BATCH = 64
logger = logging.getLogger(__name__)

Forecast = Callable[[list[np.ndarray], int], np.ndarray]
"""From n histories and a prediction_length to quantiles at `WQL_LEVELS`, [n, prediction_length, 9]."""


class GuardedTrainer(Trainer):
    """A stock Trainer whose evaluations add `eval_wql` and `eval_mase` of the model's own forecasts."""

    def __init__(
        self,
        *args: Any,
        validation: ValidationWindows | None,
        seasons: list[int],
        forecaster_of: Callable[[Any], Forecast],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.validation = validation
        self.seasons = seasons
        self.forecaster_of = forecaster_of

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        """Extend the stock loop, which gives the loss, with the scores of the forecasts."""
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        assert self.validation is not None
        wql, mase = self._scores(self.validation)
        output.metrics.update({f"{metric_key_prefix}_wql": wql, f"{metric_key_prefix}_mase": mase})
        return output

    def _scores(self, validation: ValidationWindows) -> tuple[float, float]:
        """Return WQL and MASE, each the mean over data sets; a diverged model's are infinite.

        Batch b is forecast by rank b modulo the number of ranks, so the batches, and with them the sampled forecasts of a
        token model, are the same for any number of processes.
        """
        model = self.accelerator.unwrap_model(self.model)
        forecast = self.forecaster_of(model)
        starts = range(0, len(validation), _BATCH)
        own = [start for number, start in enumerate(starts) if number % self.args.world_size == self.args.process_index]
        parts = [(start, self._batch_errors(validation, forecast, start)) for start in own]
        parts = sorted(gather_object(parts), key=lambda part: part[0])
        errors = WindowErrors.joined([part for _, part in parts])
        scores = []
        for which in np.unique(validation.windows[:, 0]):
            rows = validation.windows[:, 0] == which
            scores.append(WindowErrors(*(column[rows] for column in errors.columns())).scores())
        wql, mase = (float(np.mean([score[name] for score in scores])) for name in ("WQL", "MASE"))
        return (wql if math.isfinite(wql) else math.inf), (mase if math.isfinite(mase) else math.inf)

    def _batch_errors(self, validation: ValidationWindows, forecast: Forecast, start: int) -> WindowErrors:
        indices = range(start, min(start + _BATCH, len(validation)))
        histories = [validation.history(index) for index in indices]
        scale = [
            seasonal_error(history, self.seasons[validation.windows[index, 0]]) for index, history in zip(indices, histories)
        ]
        _, target = validation.batch(indices)
        contexts = [history[-validation.context_length :] for history in histories]
        return window_errors(target, forecast(contexts, validation.prediction_length), np.array(scale))


class Bar(ProgressCallback):
    """The Trainer's progress bar, without its lines of raw dictionaries."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Leave what is logged to `Lines`."""


class Lines(TrainerCallback):
    """One plain line for each log and evaluation."""

    def __init__(self, batch_size: int, steps_per_epoch: float) -> None:
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
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
            logger.info(
                "%s: validation WQL %.4f, MASE %.4f, loss %.4f", what, logs["eval_wql"], logs["eval_mase"], logs["eval_loss"]
            )
        elif "loss" in logs:
            assert self.begun is not None
            seconds, steps = time.monotonic() - self.begun[0], state.global_step - self.begun[1]
            left = (state.max_steps - state.global_step) * seconds / steps
            logger.info(
                "step %d of %d, epoch %.1f: loss %.4f, learning rate %.2e, %.0f windows/s, %s left",
                state.global_step,
                state.max_steps,
                state.global_step / self.steps_per_epoch,
                logs["loss"],
                logs["learning_rate"],
                steps * self.batch_size / seconds,
                time.strftime("%H:%M:%S", time.gmtime(left)),
            )
