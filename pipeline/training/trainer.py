"""The Hugging Face Trainer with one addition: validation scores every candidate by its real forecasts, as WQL and MASE."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from accelerate.utils import gather_object
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from pipeline.core.errors import UserError
from pipeline.core.metrics import WQL_LEVELS, Forecast, WindowErrors, forecast_errors
from pipeline.core.series import History, target_rows
from pipeline.forecasting.forecaster import Forecaster
from pipeline.forecasting.plots import DrawnForecast, forecast_figure
from pipeline.training.checkpointing import seal_checkpoint
from pipeline.windows.inputs import WindowDataset
from pipeline.windows.sampling import ValidationWindows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIN_GAIN_FRACTION = 0.8
"""Share of the best checkpoint's gain over the base that the one trained longest must have where it is trained again."""
_BATCH = 64
_PICTURED = 6
_UNDEFINED = {
    "wql": "all their targets are 0",
    "mase": "no history is longer than a season and changes over one",
    "loss": "all their contexts are constant",
}


class ScoringTrainer(Trainer):
    """A stock Trainer whose evaluation gives `loss`, and `wql` and `mase` of the model's own forecasts."""

    def __init__(
        self,
        *args: Any,
        validation: ValidationWindows | None,
        scheduled_steps: int,
        trained_again: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.scheduled_steps = scheduled_steps
        self.trained_again = trained_again
        """Whether the winner will be trained again, with the held-out steps among the others."""
        # T5's forward takes any keyword, so the Trainer leaves it to divide the loss by accumulation steps and processes,
        # and T5 does not. `compute_loss` does.
        self.model_accepts_loss_kwargs = False
        self.validation = validation
        self.pictured: list[DrawnForecast] = []
        # What shards the model keeps the weights of each module apart, and forecasts need them together.
        self._unsharded = None
        self._best_is_loaded = False
        if self.is_fsdp_enabled:
            self._unsharded = copy.deepcopy(self.model)
            _share_embeddings(self.model)
        self._logged_at: tuple[float, int] | None = None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and say beside a training loss how many windows a second came since the last one."""
        if "loss" in logs:
            assert self._logged_at is not None
            seconds, steps = time.monotonic() - self._logged_at[0], self.state.global_step - self._logged_at[1]
            windows = steps * self.args.train_batch_size * self.args.gradient_accumulation_steps
            logs["windows_per_second"] = windows * self.args.world_size / seconds
        self._logged_at = time.monotonic(), self.state.global_step
        super().log(logs, start_time)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Lay out the learning rate over `scheduled_steps`, however early training is to end."""
        return super().create_scheduler(self.scheduled_steps, optimizer)

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

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Take a step as the stock Trainer does, from the first one on against the clock."""
        self._logged_at = self._logged_at or (time.monotonic(), self.state.global_step)
        return super().training_step(*args, **kwargs)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Hold, where the winner is trained again, the latest that has enough of the best one's gain over the base."""
        is_best = super()._determine_best_metric(metrics, trial)
        if not self.trained_again:
            return is_best
        key = f"eval_{self.args.metric_for_best_model}"
        base = next(entry[key] for entry in self.state.log_history if key in entry)
        score, best = metrics[key], cast(float, self.state.best_metric)
        if score < base and score <= max(best, base - MIN_GAIN_FRACTION * (base - best)):
            self.state.best_global_step = self.state.global_step
        return is_best

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._save_checkpoint(*args, **kwargs)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            seal_checkpoint(Path(str(self.args.output_dir), f"checkpoint-{self.state.global_step}"))
        self._logged_at = time.monotonic(), self.state.global_step  # it comes after a log, and is no training

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Say nothing: a tied weight is saved under one of its names, and the checkpoint is whole, or it had no seal."""

    def unwrapped_model(self) -> Any:
        """Return the model itself, without what distributes it; of a sharded one a copy with all weights, on every rank."""
        if self._unsharded is None:
            return self.accelerator.unwrap_model(self.model)
        if not self._best_is_loaded:
            options = StateDictOptions(full_state_dict=True)
            self._unsharded.load_state_dict(get_model_state_dict(cast(torch.nn.Module, self.model), options=options))
        return self._unsharded.to(self.args.device)

    def _load_best_model(self) -> None:
        if self._unsharded is None:
            super()._load_best_model()
        elif self.state.best_model_checkpoint is not None:
            self._unsharded.load_state_dict(_weights(self.state.best_model_checkpoint), strict=False)
            self._best_is_loaded = True

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self._unsharded is None:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            # Every rank reads the file itself, and each tied weight once: the stock way broadcasts, and stumbles over them.
            sharded = cast(torch.nn.Module, model or self.model)
            saved = _weights(resume_from_checkpoint)
            own = {name: saved[name] for name, _ in sharded.named_parameters()}
            set_model_state_dict(sharded, cast(dict, own), options=StateDictOptions(full_state_dict=True, strict=False))

    def score(self, model: Any) -> dict[str, float]:
        """Score a model, which must be the same on every rank: `loss`, `wql` and `mase`; a diverged one's are infinite, and
        NaN is what no validation window defines.

        The stock loop fills the ranks' last batches with windows that it has already seen. Here each validation window
        counts once, and batch b goes to rank b modulo the number of ranks: the batches, and with them a token model's
        sampled forecasts, are the same for any number.
        """
        assert self.validation is not None
        model.eval()
        forecast = forecaster_of(model, self.args.seed)
        starts = range(0, len(self.validation), _BATCH)
        batches = [range(start, min(start + _BATCH, len(self.validation))) for start in starts]
        own = batches[self.args.process_index :: self.args.world_size]
        parts = [(batch.start, *self._of_batch(self.validation, model, forecast, batch)) for batch in own]
        _, losses, counts, errors = zip(*sorted(gather_object(parts), key=lambda part: part[0]))
        wql, mase = self._scores(self.validation, WindowErrors.concatenate(errors))
        loss = float(np.average(losses, weights=counts)) if sum(counts) else math.nan
        return {"loss": loss, "wql": wql, "mase": mase}

    def picture(self) -> Figure | None:
        """Draw some of the forecasts of the last evaluation; None on ranks that had none of them."""
        return forecast_figure(self.pictured) if self.pictured else None

    def picture_of(self, model: Any) -> Figure:
        """Draw some validation forecasts of a model."""
        assert self.validation is not None
        model.eval()
        self._errors(self.validation, forecaster_of(model, self.args.seed), range(min(_BATCH, len(self.validation))))
        return forecast_figure(self.pictured)

    def evaluation_loop(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> EvalLoopOutput:
        """Score the model as it stands.

        Raises:
            UserError: no validation window defines what candidates are compared by.
        """
        assert self.validation is not None
        scores, metric = self.score(self.unwrapped_model()), str(self.args.metric_for_best_model)
        if math.isnan(scores[metric]):
            raise UserError(
                f"training.metric {metric}: none of the held-out windows defines it ({_UNDEFINED[metric]}); "
                "take another metric, or hold out more with training.validation_split"
            )
        named = {f"{metric_key_prefix}_{name}": value for name, value in scores.items()}
        return EvalLoopOutput(np.empty(0), label_ids=None, metrics=named, num_samples=len(self.validation))

    def _of_batch(
        self, validation: ValidationWindows, model: Any, forecast: Forecast, batch: range
    ) -> tuple[float, int, WindowErrors]:
        """Return the mean loss of the windows that training could have drawn, how many they are, and the errors of all."""
        learnable = validation.learnable(batch)
        loss = self._loss(model, learnable) if learnable else 0.0
        # A diverged token model cannot be sampled from, and its loss says so without an exception.
        if math.isnan(loss):
            loss, forecast = math.inf, _no_forecast
        return loss, len(learnable), self._errors(validation, forecast, batch)

    def _loss(self, model: Any, indices: list[int]) -> float:
        inputs = self._prepare_inputs(cast(WindowDataset, self.eval_dataset).__getitems__(indices))
        with torch.no_grad(), self.compute_loss_context_manager():
            return float(cast(torch.Tensor, self.compute_loss(model, inputs)))

    def _errors(self, validation: ValidationWindows, forecast: Forecast, batch: range) -> WindowErrors:
        # The model sees all the history that it can take, as it will in use, however short its training windows are.
        histories = validation.histories(batch)
        target, quantiles = validation.targets(batch), forecast(histories, validation.prediction_length)
        if batch.start == 0:
            self.pictured = _drawn(validation, target_rows(histories), target, quantiles)
        return forecast_errors(histories, target, quantiles, validation.seasons(batch))

    @staticmethod
    def _scores(validation: ValidationWindows, errors: WindowErrors) -> tuple[float, float]:
        """Return WQL and MASE, each the mean over the data sets that define it."""
        datasets = validation.windows[:, 0].repeat(len(validation.variates.targets))
        names, group = np.unique(datasets, return_inverse=True)
        scores = errors.scores_by(group, len(names))
        wql, mase = (_mean_of_defined(scores[name]) for name in ("WQL", "MASE"))
        return wql, mase


class BaseIsFirstBest(TrainerCallback):
    """Makes the base the candidate to beat: best checkpoint, early stopping and `best_metric` all start from its score."""

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Find the best checkpoint where it lies now: a run that is continued may have been moved, or have lost it."""
        best = Path(str(args.output_dir), f"checkpoint-{state.best_global_step}")
        state.best_model_checkpoint = str(best) if state.best_global_step and best.is_dir() else None

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Take the score of step 0, before anything is trained, as the best so far."""
        if state.global_step == 0:
            state.best_metric = kwargs["metrics"][f"eval_{self.metric}"]


class Patience(TrainerCallback):
    """Ends training after so many evaluations in a row that were no improvement; what has been logged says how many."""

    def __init__(self, metric: str, evaluations: int) -> None:
        self.metric = metric
        self.evaluations = evaluations

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Count from the best evaluation so far, that of the base among them."""
        if self.is_lost(state):
            control.should_training_stop = True

    def is_lost(self, state: TrainerState) -> bool:
        """Return whether training is over, by the evaluations logged: a resumed run may have nothing left to do."""
        scores = [entry[f"eval_{self.metric}"] for entry in state.log_history if f"eval_{self.metric}" in entry]
        return len(scores) > self.evaluations + scores.index(min(scores)) if scores else False


def forecaster_of(model: Any, seed: int) -> Forecast:
    """Return the function by which a model, with adapters or without, forecasts quantiles."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.eval()
    forecaster = Forecaster.of_model(base, seed)

    def forecast(histories: Sequence[History], prediction_length: int) -> np.ndarray:
        with _as_saved(base):
            return forecaster.predict_quantiles(histories, prediction_length)

    return forecast


@contextmanager
def _as_saved(model: Any) -> Iterator[None]:
    """Take away the bfloat16 that Accelerate wraps around a model's forward: the checkpoint forecasts without it."""
    wrapped = model.__dict__.pop("forward", None) if hasattr(model, "_original_forward") else None
    try:
        yield
    finally:
        if wrapped is not None:
            model.forward = wrapped


def _no_forecast(histories: Sequence[History], prediction_length: int) -> np.ndarray:
    return np.full((len(target_rows(histories)), prediction_length, len(WQL_LEVELS)), np.nan)


def _mean_of_defined(scores: np.ndarray) -> float:
    defined = scores[~np.isnan(scores)]
    return float(defined.mean()) if len(defined) else math.nan


def _weights(checkpoint: str) -> dict[str, torch.Tensor]:
    return load_file(Path(checkpoint, "model.safetensors"))


def _share_embeddings(model: Any) -> None:
    """Make tied embeddings one module, where transformers ties their weights: FSDP shards module by module."""
    for part in ("encoder", "decoder"):
        if hasattr(model, "shared") and hasattr(getattr(model, part, None), "embed_tokens"):
            getattr(model, part).embed_tokens = model.shared


def _drawn(
    validation: ValidationWindows, histories: Sequence[np.ndarray], target: np.ndarray, quantiles: np.ndarray
) -> list[DrawnForecast]:
    low, median, high = (WQL_LEVELS.index(level) for level in (0.1, 0.5, 0.9))
    chosen = np.linspace(0, len(histories) - 1, min(_PICTURED, len(histories))).astype(int)
    n_targets = len(validation.variates.targets)
    return [
        DrawnForecast(
            validation.name(i // n_targets),
            histories[i],
            quantiles[i, :, median],
            quantiles[i, :, low],
            quantiles[i, :, high],
            target[i],
        )
        for i in chosen
    ]
