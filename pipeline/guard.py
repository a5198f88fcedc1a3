"""The Hugging Face Trainer with one addition: validation scores every candidate by its real forecasts, as WQL and MASE."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ProgressCallback
from transformers.trainer_utils import EvalLoopOutput

from pipeline.metrics import WindowErrors, seasonal_error, window_errors
from pipeline.training_data import WindowDataset
from pipeline.windows import ValidationWindows

_BATCH = 64
logger = logging.getLogger(__name__)

Forecast = Callable[[list[np.ndarray], int], np.ndarray]
"""From n histories and a prediction_length to quantiles at `WQL_LEVELS`, [n, prediction_length, 9]."""


class GuardedTrainer(Trainer):
    """A stock Trainer whose evaluation gives `loss`, and `wql` and `mase` of the model's own forecasts."""

    def __init__(
        self,
        *args: Any,
        validation: ValidationWindows | None,
        seasons: list[int],
        forecaster_of: Callable[[Any], Forecast],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        # T5's forward takes any keyword, so the Trainer leaves it to divide the loss by accumulation steps and processes,
        # and T5 does not.
        self.model_accepts_loss_kwargs = False
        self.validation = validation
        self.seasons = seasons
        self.forecaster_of = forecaster_of

    def evaluation_loop(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> EvalLoopOutput:
        """Score the validation windows, each once, whatever the number of processes.

        The stock loop fills the ranks' last batches with windows that it has already seen. Here batch b goes to rank b
        modulo the number of ranks: the batches, and with them a token model's sampled forecasts, are always the same.
        """
        assert self.validation is not None
        model = self.accelerator.unwrap_model(self.model)
        model.eval()
        forecast = self.forecaster_of(model)
        starts = range(0, len(self.validation), _BATCH)
        batches = [range(start, min(start + _BATCH, len(self.validation))) for start in starts]
        own = batches[self.args.process_index :: self.args.world_size]
        parts = [
            (batch.start, self._loss(model, batch), self._errors(self.validation, forecast, batch)) for batch in own
        ]
        parts = sorted(gather_object(parts), key=lambda part: part[0])
        losses = np.array([loss for _, loss, _ in parts])
        wql, mase = self._scores(self.validation, WindowErrors.joined([errors for _, _, errors in parts]))
        loss = float(np.average(losses, weights=[len(batch) for batch in batches]))
        metrics = {
            f"{metric_key_prefix}_{name}": value for name, value in (("loss", loss), ("wql", wql), ("mase", mase))
        }
        return EvalLoopOutput(np.empty(0), label_ids=None, metrics=metrics, num_samples=len(self.validation))

    def _loss(self, model: Any, batch: range) -> float:
        inputs = self._prepare_inputs(cast(WindowDataset, self.eval_dataset).__getitems__(batch))
        with torch.no_grad(), self.compute_loss_context_manager():
            return float(cast(torch.Tensor, self.compute_loss(model, inputs)))

    def _errors(self, validation: ValidationWindows, forecast: Forecast, batch: range) -> WindowErrors:
        # The model sees all the history that it can take, as it will in use, however short its training windows are.
        histories = [validation.history(index) for index in batch]
        seasons = [self.seasons[validation.windows[index, 0]] for index in batch]
        scale = [seasonal_error(history, season) for history, season in zip(histories, seasons)]
        _, target = validation.batch(batch)
        return window_errors(target, forecast(histories, validation.prediction_length), np.array(scale))

    @staticmethod
    def _scores(validation: ValidationWindows, errors: WindowErrors) -> tuple[float, float]:
        """Return WQL and MASE, each the mean over data sets; those of a diverged model are infinite."""
        datasets = validation.windows[:, 0]
        scores = [
            WindowErrors(*(column[datasets == which] for column in errors.columns())).scores()
            for which in np.unique(datasets)
        ]
        wql, mase = (float(np.mean([score[name] for score in scores])) for name in ("WQL", "MASE"))
        return (wql if math.isfinite(wql) else math.inf), (mase if math.isfinite(mase) else math.inf)


class BaseIsFirstBest(TrainerCallback):
    """Makes the base the candidate to beat: best checkpoint, early stopping and `best_metric` all start from its score."""

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Take the score of step 0, before anything is trained, as the best so far."""
        if state.global_step == 0:
            state.best_metric = kwargs["metrics"]["eval_wql"]


class Bar(ProgressCallback):
    """The Trainer's progress bar, without its lines of raw dictionaries."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Leave what is logged to `Lines`."""


class Lines(TrainerCallback):
    """One plain line for each log and evaluation."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
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
                "%s: validation WQL %.4f, MASE %.4f, loss %.4f",
                what,
                logs["eval_wql"],
                logs["eval_mase"],
                logs["eval_loss"],
            )
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
                steps * self.batch_size / seconds,
                time.strftime("%H:%M:%S", time.gmtime(left)),
            )
