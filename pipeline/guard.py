"""The Hugging Face Trainer with one addition: validation scores every candidate by its real forecasts, as WQL and MASE."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from pipeline.metrics import WQL_LEVELS, WindowErrors, seasonal_error, window_errors
from pipeline.report import DrawnForecast, forecast_figure
from pipeline.run_folder import seal_checkpoint
from pipeline.training_data import WindowDataset
from pipeline.windows import ValidationWindows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BATCH = 64
_PICTURED = 6

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
        # and T5 does not. `compute_loss` does.
        self.model_accepts_loss_kwargs = False
        self.validation = validation
        self.seasons = seasons
        self.forecaster_of = forecaster_of
        self.pictured: list[DrawnForecast] = []
        self._logged_at: tuple[float, int] | None = None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and say beside a training loss how many windows a second came since the last one."""
        if "loss" in logs:
            now, step = time.monotonic(), self.state.global_step
            before, at = self._logged_at or (now, step)
            windows = (step - at) * self.args.train_batch_size * self.args.gradient_accumulation_steps
            logs["windows_per_second"] = windows * self.args.world_size / (now - before) if now > before else 0.0
        self._logged_at = time.monotonic(), self.state.global_step
        super().log(logs, start_time)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None, **_: Any
    ) -> Any:
        """Return the model's loss; of tokens, so that each counts alike over all processes and accumulated batches."""
        assert not return_outputs
        loss = cast(torch.Tensor, super().compute_loss(model, inputs))
        if num_items_in_batch is None:
            return loss
        shares = self.args.world_size * self.current_gradient_accumulation_steps
        own = self._count_tokens([inputs])
        return loss.nan_to_num() * (own * shares / torch.clamp(num_items_in_batch, min=1)).to(loss.device)

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Any:
        if "labels" not in batch_samples[0]:
            return None  # the other families average over windows, of which every share has as many
        return self.accelerator.gather(self._count_tokens(batch_samples).to(device)).sum()

    def _count_tokens(self, batches: list) -> torch.Tensor:
        shifted = int(self._loss_shifts_labels)
        return torch.stack([batch["labels"][:, shifted:].ne(-100).sum() for batch in batches]).sum()

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as the stock Trainer does."""
        self._logged_at = None
        return super().train(*args, **kwargs)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._save_checkpoint(*args, **kwargs)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            seal_checkpoint(Path(str(self.args.output_dir), f"checkpoint-{self.state.global_step}"))

    def score(self) -> dict[str, float]:
        """Score the model as it is: `eval_loss`, `eval_wql` and `eval_mase`. Nothing is logged."""
        metrics = self.evaluation_loop().metrics
        assert metrics is not None
        return metrics

    def picture(self) -> Figure | None:
        """Draw some of the forecasts of the last evaluation; None on ranks that had none of them."""
        return forecast_figure(self.pictured) if self.pictured else None

    def evaluation_loop(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> EvalLoopOutput:
        """Score the validation windows, each once, whatever the number of processes; a diverged model's are infinite.

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
            f"{metric_key_prefix}_{name}": value if math.isfinite(value) else math.inf
            for name, value in (("loss", loss), ("wql", wql), ("mase", mase))
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
        quantiles = forecast(histories, validation.prediction_length)
        if batch.start == 0:
            self.pictured = _drawn(validation, histories, target, quantiles)
        return window_errors(target, quantiles, np.array(scale))

    @staticmethod
    def _scores(validation: ValidationWindows, errors: WindowErrors) -> tuple[float, float]:
        """Return WQL and MASE, each the mean over data sets."""
        datasets = validation.windows[:, 0]
        scores = [
            WindowErrors(*(column[datasets == which] for column in errors.columns())).scores()
            for which in np.unique(datasets)
        ]
        wql, mase = (float(np.mean([score[name] for score in scores])) for name in ("WQL", "MASE"))
        return wql, mase


class BaseIsFirstBest(TrainerCallback):
    """Makes the base the candidate to beat: best checkpoint, early stopping and `best_metric` all start from its score."""

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Take the score of step 0, before anything is trained, as the best so far."""
        if state.global_step == 0:
            state.best_metric = kwargs["metrics"][f"eval_{self.metric}"]


def _drawn(
    validation: ValidationWindows, histories: Sequence[np.ndarray], target: np.ndarray, quantiles: np.ndarray
) -> list[DrawnForecast]:
    low, median, high = (WQL_LEVELS.index(level) for level in (0.1, 0.5, 0.9))
    chosen = np.linspace(0, len(histories) - 1, min(_PICTURED, len(histories))).astype(int)
    return [
        DrawnForecast(
            validation.name(i),
            histories[i],
            quantiles[i, :, median],
            quantiles[i, :, low],
            quantiles[i, :, high],
            target[i],
        )
        for i in chosen
    ]
