"""The Hugging Face Trainer with one addition: an evaluation scores the model by its forecasts, as WQL and MASE."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from accelerate.utils import gather_object
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from pipeline.core.batches import split_batches
from pipeline.core.errors import UserError
from pipeline.core.metrics import WQL_LEVELS, ForecastFunction, WindowErrors
from pipeline.core.processes import Processes
from pipeline.core.series import History, target_rows
from pipeline.evaluation.backtest import backtest
from pipeline.forecasting.forecaster import Forecaster
from pipeline.forecasting.plots import LEVELS_DRAWN, DrawnForecast, drawn_forecast
from pipeline.training.muon import MuonWithAdamW
from pipeline.windows.inputs import WindowDataset
from pipeline.windows.validation_windows import ValidationWindows

_N_DRAWN = 6
_UNDEFINED = {
    "wql": "all targets are 0",
    "mase": "no history is longer than a season and changes over one",
    "loss": "all contexts are constant",
}


class Scored(NamedTuple):
    """The score of a model on the validation windows."""

    scores: dict[str, float]
    """`loss`, `wql` and `mase`: infinite for a diverged model, NaN where no window defines them."""
    errors: WindowErrors
    """Errors of all windows."""
    drawn: list[DrawnForecast]
    """Forecasts of some windows, unless the model has diverged; on the first process only."""


class ScoringTrainer(Trainer):
    """A stock Trainer whose evaluation gives `loss`, and `wql` and `mase` of the model's own forecasts."""

    def __init__(
        self,
        *args: Any,
        validation: ValidationWindows | None,
        metric: str,
        flip: bool,
        muon: bool,
        **kwargs: Any,
    ) -> None:
        """Take the arguments of the Trainer, and beside them:

        Args:
            validation: the windows that models are scored on.
            metric: the score that candidates are compared by, which some window must define.
            flip: whether scored forecasts are averaged with those of the negated series.
            muon: whether the optimizer is Muon, not that of the arguments.
        """
        super().__init__(*args, **kwargs)
        self.validation = validation
        self.metric = metric
        self.flip = flip
        self.muon = muon
        # T5's forward takes any keyword, so the Trainer would leave it to T5 to divide the loss by accumulation steps
        # and processes, which T5 does not do. `compute_loss` does.
        self.model_accepts_loss_kwargs = False
        self.scored: dict[int, Scored] = {}
        """Evaluations by step, without those before the run was resumed."""
        self._clock: tuple[float, int] | None = None
        # FSDP keeps the weights of each module apart, and forecasts need them together.
        self._unsharded = None
        if self.is_fsdp_enabled:
            self._unsharded = copy.deepcopy(self.model)
            _share_embeddings(self.model)

    def score(self, model: Any) -> Scored:
        """Score a model, which must be the same on every process, on the validation windows.

        The stock loop fills the last batches with windows that it has seen. Here each window counts once, and the
        batches are the same for any number of processes.
        """
        assert self.validation is not None
        model.eval()
        # Chronos-2's loader draws random numbers, and an evaluation must not change what training draws.
        with torch.random.fork_rng(devices=[]):
            loss = self._validation_loss(self.validation, model)
            # Nothing can be sampled from a diverged token model.
            forecast = _no_forecast if math.isinf(loss) else forecast_function(model, self.args.seed, self.flip)
            drawn: dict[int, np.ndarray] = {}
            keep = partial(_keep_drawn, self.validation, drawn)
            size = self.validation.batch_size
            errors = backtest(self.validation, forecast, size, Processes(), self.args.device.type, keep)
            is_drawn = self.args.process_index == 0 and forecast is not _no_forecast
            pictures = _draw(self.validation, drawn) if is_drawn else []
        datasets, group = np.unique(self.validation.row_keys()[0], return_inverse=True)
        by_dataset = errors.scores_by(group, len(datasets))
        wql, mase = (_mean_of_defined(by_dataset[name]) for name in ("WQL", "MASE"))
        return Scored({"loss": loss, "wql": wql, "mase": mase}, errors, pictures)

    def _validation_loss(self, validation: ValidationWindows, model: Any) -> float:
        """Return the mean loss over learnable windows: infinite if a batch diverged, NaN if there is no such window."""
        batches = split_batches(range(len(validation)), validation.batch_size, validation.groups)
        parts = []
        for number in range(self.args.process_index, len(batches), self.args.world_size):
            learnable = validation.learnable(batches[number])
            parts.append((number, self._batch_loss(model, learnable) if learnable else 0.0, len(learnable)))
        _, losses, counts = zip(*sorted(gather_object(parts)))
        if not sum(counts):
            return math.nan
        return float(np.nan_to_num(np.average(losses, weights=counts), nan=math.inf, posinf=math.inf))

    def _batch_loss(self, model: Any, indices: list[int]) -> float:
        inputs = self._prepare_inputs(cast(WindowDataset, self.eval_dataset).__getitems__(indices))
        # A base that training has not prepared is scored in the same precision as the trained model.
        with torch.no_grad(), self.accelerator.autocast():
            return float(cast(torch.Tensor, self.compute_loss(model, inputs)))

    def evaluation_loop(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> EvalLoopOutput:
        """Score the model as it is.

        Raises:
            UserError: no validation window defines the score that candidates are compared by.
        """
        assert self.validation is not None
        scored = self.scored[self.state.global_step] = self.score(self.unwrapped_model())
        scores = scored.scores
        if math.isnan(scores[self.metric]):
            raise UserError(
                f"training.metric {self.metric}: no validation window defines it ({_UNDEFINED[self.metric]}); "
                "choose another metric, or hold out more with training.validation_split"
            )
        named = {f"{metric_key_prefix}_{name}": value for name, value in scores.items()}
        return EvalLoopOutput(np.empty(0), label_ids=None, metrics=named, num_samples=len(self.validation))

    def check_settings(self) -> None:
        """Make the optimizer, the schedule and the loader once, so that wrong settings are refused before training.

        Raises:
            TypeError, ValueError, ImportError, KeyError, AttributeError: of transformers or torch, for a wrong setting.
        """
        self.create_optimizer_and_scheduler(self.args.max_steps)
        self.get_train_dataloader()
        self.optimizer = self.lr_scheduler = None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and add to a training loss the windows a second since the last log."""
        if "loss" in logs:
            assert self._clock is not None
            seconds, steps = time.monotonic() - self._clock[0], self.state.global_step - self._clock[1]
            windows = steps * self.args.train_batch_size * self.args.gradient_accumulation_steps
            logs["windows_per_second"] = windows * self.args.world_size / seconds
        self.restart_clock()
        super().log(logs, start_time)

    def restart_clock(self) -> None:
        """Measure windows a second from now on."""
        self._clock = time.monotonic(), self.state.global_step

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Take a step as the stock Trainer does; the first one starts the clock."""
        if self._clock is None:
            self.restart_clock()
        return super().training_step(*args, **kwargs)

    def create_optimizer(self, *_: Any, **__: Any) -> torch.optim.Optimizer:
        """Make the optimizer of the arguments, or Muon."""
        if not self.muon:
            return super().create_optimizer()
        if self.optimizer is None:
            self.optimizer = MuonWithAdamW.of(cast(torch.nn.Module, self.model), self.args)
        return self.optimizer

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None, **_: Any
    ) -> Any:
        """Return the model's loss.

        The loss of a token model is weighted so that every token of an optimizer step counts the same, in any process
        and any accumulated batch.
        """
        assert not return_outputs
        loss = cast(torch.Tensor, super().compute_loss(model, inputs))
        if num_items_in_batch is None:
            return loss
        shares = self.args.world_size * self.current_gradient_accumulation_steps
        n_tokens = self._count_tokens([inputs])
        loss = torch.where(n_tokens.to(loss.device) > 0, loss, torch.zeros_like(loss))  # NaN without a token
        return loss * (n_tokens * shares / torch.clamp(num_items_in_batch, min=1)).to(loss.device)

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Any:
        # Private: the Trainer's own count reads `labels` alone and does not gather it unless an argument says so.
        if "labels" not in batch_samples[0]:
            return None  # the other families average over windows, and every share has as many
        return self.accelerator.gather(self._count_tokens(batch_samples).to(device)).sum()

    def _count_tokens(self, batches: list) -> torch.Tensor:
        shifted = int(self._loss_shifts_labels)
        return torch.stack([batch["labels"][:, shifted:].ne(-100).sum() for batch in batches]).sum()

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # Private, and only a message: a tied weight is saved under one of its names, which the Trainer takes for a
        # loss.
        pass

    def unwrapped_model(self) -> Any:
        """Return the model without DDP; of a sharded one a copy with all weights, on every process."""
        if self._unsharded is None:
            return self.accelerator.unwrap_model(self.model)
        options = StateDictOptions(full_state_dict=True)
        self._unsharded.load_state_dict(get_model_state_dict(cast(torch.nn.Module, self.model), options=options))
        return self._unsharded.to(self.args.device)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        # Private: under FSDP the stock way broadcasts every weight and fails on tied ones, so each process reads the
        # file.
        if self._unsharded is None:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            sharded = cast(torch.nn.Module, model or self.model)
            saved = load_file(Path(resume_from_checkpoint, "model.safetensors"))
            named = {name: saved[name] for name, _ in sharded.named_parameters()}
            options = StateDictOptions(full_state_dict=True, strict=False)
            set_model_state_dict(sharded, cast(dict, named), options=options)


def forecast_function(model: Any, seed: int, flip: bool) -> ForecastFunction:
    """Return the function by which a model, with or without adapters, forecasts quantiles, with or without flip."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.eval()
    forecaster = Forecaster.of_model(base, seed).with_flip(flip)

    def forecast(histories: Sequence[History], prediction_length: int) -> np.ndarray:
        with _without_autocast(base):
            return forecaster.predict_quantiles(histories, prediction_length)

    return forecast


@contextmanager
def _without_autocast(model: Any) -> Iterator[None]:
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


def _share_embeddings(model: Any) -> None:
    """Make tied embeddings one module, where transformers ties their weights: FSDP shards module by module."""
    for part in ("encoder", "decoder"):
        if hasattr(model, "shared") and hasattr(getattr(model, part, None), "embed_tokens"):
            getattr(model, part).embed_tokens = model.shared


def _drawn_windows(validation: ValidationWindows) -> list[int]:
    """Return some windows, spread evenly over all, to be drawn."""
    return np.unique(np.linspace(0, len(validation) - 1, _N_DRAWN).astype(int)).tolist()


def _keep_drawn(
    validation: ValidationWindows, drawn: dict[int, np.ndarray], indices: range, quantiles: np.ndarray
) -> None:
    """Keep the forecast of the first target of each window to be drawn: [prediction_length, 9]."""
    n_targets = len(validation.variates.targets)
    for window in set(_drawn_windows(validation)) & set(indices):
        drawn[window] = quantiles[(window - indices.start) * n_targets]


def _draw(validation: ValidationWindows, drawn: dict[int, np.ndarray]) -> list[DrawnForecast]:
    """Return the panels of the forecasts that `_keep_drawn` kept."""
    chosen, n_targets = _drawn_windows(validation), len(validation.variates.targets)
    quantiles = np.stack([drawn[window] for window in chosen])
    bands = quantiles[:, :, [WQL_LEVELS.index(level) for level in LEVELS_DRAWN]].transpose(0, 2, 1)
    windows = zip(validation.windows[chosen].tolist(), bands, validation.targets(chosen)[::n_targets])
    return [
        drawn_forecast(validation.splits[dataset].store, series, start, band, target)
        for (dataset, series, start, _), band, target in windows
    ]
