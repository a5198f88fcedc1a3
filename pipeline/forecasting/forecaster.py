"""Forecasts by stock Chronos pipelines, for any family, horizon and quantile levels."""

from __future__ import annotations

import contextlib
import copy
import logging
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from scipy.special import ndtri

from pipeline.config import Config, InferenceConfig
from pipeline.core.errors import UserError
from pipeline.core.metrics import WQL_LEVELS
from pipeline.core.processes import Processes
from pipeline.core.series import History, Panel, target_rows
from pipeline.data.covariates import encode_categories
from pipeline.models.checkpoint import STOCK_LEVELS, is_export, model_family, model_horizon, read_training_info
from pipeline.models.find import check_model, find_model
from pipeline.models.load import read_model
from pipeline.models.onnx_model import OnnxModel

if TYPE_CHECKING:
    from chronos import BaseChronosPipeline

_GLOBAL_STATE = threading.Lock()
"""Held while the random generator of torch or the warnings of Python, which all threads share, are changed."""
MIN_BATCH = 16
"""Smallest batch from which forecasts have the same bits in every larger one; measured with MKL."""
logger = logging.getLogger(__name__)


class Forecaster:
    """A stock Chronos pipeline with the same interface for every family."""

    def __init__(self, pipeline: BaseChronosPipeline, seed: int = 0, model: str | None = None) -> None:
        """Wrap a pipeline.

        Args:
            seed: seed of sampled forecasts.
            model: folder or name that the pipeline was loaded from; None for a model in memory.
        """
        self.pipeline = pipeline
        self.seed = seed
        self.model = model
        config = pipeline.inner_model.config.to_dict()
        self.family = model_family(config)
        self.horizon = model_horizon(config)
        self.context_length: int = config["chronos_config"]["context_length"]
        self.trained_levels: list[float] | None = config["chronos_config"].get("quantiles")
        self.flip = False
        """Whether forecasts are averaged with the mirrored ones of the negated series."""
        self.non_negative = False
        """Whether negative forecasts are raised to zero for histories without a negative value."""
        self.history_length: int | None = None
        """Number of last steps of a history in which `non_negative` looks for negative values; None for all."""
        self.min_batch = 1
        """Number of series to which a smaller batch is filled with copies of its last one."""
        self._max_contexts = sys.maxsize

    @staticmethod
    def load(
        model: str, device: str = "cpu", seed: int = 0, precision: str = "auto", flip: bool | str = "auto"
    ) -> Forecaster:
        """Load a model, and wrap it in the stock pipeline of its family.

        Args:
            model: a checkpoint folder, a Hub ID, an s3:// prefix or `builtin:NAME`.
            precision: fp32, bf16, or auto for that of the weights.
            flip: whether to flip, or auto for whether it helped on the validation windows of the model's training.

        Raises:
            UserError: there is no such model, or its checkpoint is broken or lacks weights.
        """
        check_model(model)
        folder, torch_name = find_model(model), torch_device(device)
        flips = read_training_info(folder).get("flip", False) if flip == "auto" else bool(flip)
        if is_export(folder):
            return _load_export(model, folder, torch_name, seed, precision).with_flip(flips)
        loaded = read_model(folder)
        if model_family(loaded.config.to_dict()) is None:
            raise UserError(f"{model} is not a Chronos model: its config.json has no chronos_config")
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}.get(precision, loaded.dtype)
        place = f"cuda:{Processes().local_rank}" if torch_name == "cuda" else torch_name
        forecaster = Forecaster.of_model(cast(Any, loaded).to(place, dtype).eval(), seed)
        forecaster.model = model
        return forecaster.with_flip(flips)

    @staticmethod
    def of_config(model: str, config: Config) -> Forecaster:
        """Load a model as `load` does, for forecasts with the settings of a configuration."""
        general, inference = config.chronos, config.inference
        forecaster = Forecaster.load(model, general.device, general.seed, inference.precision, inference.flip)
        return forecaster.with_settings(inference)

    @staticmethod
    def of_model(model: Any, seed: int = 0) -> Forecaster:
        """Wrap a model in memory in the stock pipeline of its family."""
        from chronos import Chronos2Pipeline, ChronosBoltPipeline, ChronosConfig, ChronosPipeline
        from chronos.chronos import ChronosModel

        match model_family(model.config.to_dict()):
            case "bolt":
                return Forecaster(ChronosBoltPipeline(model), seed)
            case "chronos-2":
                return Forecaster(Chronos2Pipeline(model), seed)
            case _:
                config = ChronosConfig(**model.config.chronos_config)
                return Forecaster(ChronosPipeline(config.create_tokenizer(), ChronosModel(config, model)), seed)

    @cached_property
    def trained_variates(self) -> dict[str, Any]:
        """Covariates and categories that the model was trained with; empty for a model that was trained elsewhere."""
        return {} if self.model is None else read_training_info(self.model).get("variates", {})

    def with_settings(self, inference: InferenceConfig) -> Forecaster:
        """Return a copy with the context length of a configuration, and its choice on negative forecasts.

        Without a difference, this object is returned, which has read what it was trained with.
        """
        if (inference.context_length, inference.non_negative) == (self.history_length, self.non_negative):
            return self
        return self.with_context_length(inference.context_length).with_non_negative(inference.non_negative)

    def with_context_length(self, context_length: int | None) -> Forecaster:
        """Return a copy with a shorter context, or this object if that changes nothing; None keeps that of the model.

        This object keeps the batch that fits into memory.
        """
        if context_length == self.history_length:
            return self
        shorter = copy.copy(self)
        shorter.context_length = min(context_length or self.context_length, self.context_length)
        shorter.history_length = context_length
        return shorter

    def with_min_batch(self) -> Forecaster:
        """Return a copy that fills small batches, so that the forecast of a series has the same bits in any batch.

        This is for series alone, in batches of equal width, on a CPU; large models need the same number of threads.
        """
        other = copy.copy(self)
        other.min_batch = 1 if self.trained_levels is None else MIN_BATCH  # samples depend on the batch anyway
        return other

    def with_flip(self, flip: bool) -> Forecaster:
        """Return a copy whose forecasts are averaged with the mirrored ones of the negated series, or are not."""
        other = copy.copy(self)
        other.flip = flip
        return other

    def with_non_negative(self, non_negative: bool) -> Forecaster:
        """Return a copy that raises negative forecasts to zero for histories without a negative value, or does not."""
        other = copy.copy(self)
        other.non_negative = non_negative
        return other

    def quantiles(
        self, histories: Sequence[History], prediction_length: int, levels: Sequence[float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Forecast one batch.

        Chronos-2 forecasts the targets of a panel together and with its covariates, and the panels of a group together,
        as stock does with `cross_learning`. Other models forecast each target alone.

        - A context whose known values are all equal is forecast as that value.
        - A context without a known value is forecast as the last known value before it.
        - A history without a known value is forecast as NaN.
        - Levels between the trained ones are interpolated, other levels are extrapolated (`interpolate_levels`).
        - Quantiles never cross. Sampled forecasts depend on the seed and the batch only.
        - With `flip`, a quantile is the mean of that of the series and of minus the quantile 1 - level of minus the
          series.
        - With `non_negative`, no forecast is negative if no value of its target's history is.

        Args:
            histories: histories of n targets in total, NaN for a missing value.
            levels: quantile levels, each between 0 and 1.

        Returns:
            quantiles [n, prediction_length, n_levels] and point forecasts [n, prediction_length], float32. The point
            forecast is the mean of the samples of a token model, and the median of any other.
        """
        quantiles, point = self._quantiles(histories, prediction_length, levels)
        if self.flip:
            mirrored = [round(1 - level, 12) for level in levels]  # 1 - 0.9 is not quite 0.1
            other, other_point = self._quantiles(list(map(_negated, histories)), prediction_length, mirrored)
            quantiles, point = (quantiles - other) / 2, (point - other_point) / 2
        if self.non_negative:
            rows = [
                row if self.history_length is None else row[-self.history_length :] for row in target_rows(histories)
            ]
            raised = [number for number, row in enumerate(rows) if not (row < 0).any()]
            quantiles[raised], point[raised] = np.maximum(quantiles[raised], 0), np.maximum(point[raised], 0)
        return quantiles, point

    def _quantiles(
        self, histories: Sequence[History], prediction_length: int, levels: Sequence[float]
    ) -> tuple[np.ndarray, np.ndarray]:
        contexts = target_rows(histories)
        n = len(contexts)
        quantiles = np.full((n, prediction_length, len(levels)), np.nan, np.float32)
        point = np.full((n, prediction_length), np.nan, np.float32)
        varied = []
        for row, context in enumerate(contexts):
            recent = context[-self.context_length :]
            known = recent[~np.isnan(recent)]
            if not len(known):
                known = context[~np.isnan(context)][-1:]
            if len(known) and (known == known[0]).all():
                quantiles[row], point[row] = known[0], known[0]
            elif len(known):
                varied.append(row)
        if varied and self.family == "chronos-2" and any(isinstance(history, Panel) for history in histories):
            panels = [history for history in histories if isinstance(history, Panel)]
            inputs, rows = _panel_inputs(panels, self.context_length)
            quantiles[varied], point[varied] = self._forecast(
                inputs, prediction_length, np.asarray(levels), rows[varied]
            )
        elif varied:
            tensors = [torch.from_numpy(np.array(contexts[row][-self.context_length :], np.float32)) for row in varied]
            tensors += tensors[-1:] * (self.min_batch - len(varied))
            quantiles[varied], point[varied] = self._forecast(
                tensors, prediction_length, np.asarray(levels), slice(len(varied))
            )
        return quantiles, point

    def predict_quantiles(self, histories: Sequence[History], prediction_length: int) -> np.ndarray:
        """Forecast one batch at `WQL_LEVELS`: [n, prediction_length, 9]."""
        return self.quantiles(histories, prediction_length, WQL_LEVELS)[0]

    def extrapolated_levels(self, levels: Sequence[float]) -> list[float]:
        """Return the levels below the lowest and above the highest trained level."""
        trained = self.trained_levels
        return [] if trained is None else [level for level in levels if not min(trained) <= level <= max(trained)]

    @property
    def has_single_level(self) -> bool:
        """Whether the model has one quantile level, so that its forecasts have no intervals."""
        return self.trained_levels is not None and len(self.trained_levels) == 1

    def _forecast(
        self, contexts: list[Any], prediction_length: int, levels: np.ndarray, rows: np.ndarray | slice = slice(None)
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return quantiles [n, prediction_length, n_levels] and points [n, prediction_length] of contexts that vary.

        Args:
            rows: rows of the output of the pipeline to return, [n].
        """
        with contextlib.ExitStack() as stack:
            if prediction_length > self.horizon or self.trained_levels is None:
                stack.enter_context(_GLOBAL_STATE)
            if prediction_length > self.horizon:
                stack.enter_context(_silence_horizon_advice())
            if self.trained_levels is None:
                stack.enter_context(_seeded(self.seed))
            raw = self._predict(contexts, prediction_length)[rows]
        if self.trained_levels is None:
            samples = raw.float().cpu().numpy()  # [n, n_samples, prediction_length]
            quantiles = np.quantile(samples, levels, axis=1).transpose(1, 2, 0)
            return np.sort(quantiles, axis=2)[:, :, _ranks(levels)], samples.mean(axis=1)
        # [n, n_trained_levels, prediction_length]
        trained = np.sort(raw.float().cpu().numpy().transpose(0, 2, 1), axis=2)
        order = np.asarray(self.trained_levels)
        return interpolate_levels(trained, order, levels), interpolate_levels(trained, order, np.array([0.5]))[:, :, 0]

    def _predict(self, contexts: list[Any], prediction_length: int) -> torch.Tensor:
        """Return the output of the pipeline, computed in smaller batches if the memory is too small."""
        parts: list[torch.Tensor] = []
        while contexts:
            try:
                raw = self.pipeline.predict(
                    contexts[: self._max_contexts], prediction_length=prediction_length, **self._unrolling()
                )
            except torch.OutOfMemoryError:
                raw = None
            if raw is None:
                # Not in the except block, whose traceback would keep the tensors alive.
                self._halve_batch(min(self._max_contexts, len(contexts)))
                continue
            parts += raw if isinstance(raw, list) else [raw]  # Chronos-2 returns a list, [n_targets, ...] each
            contexts = contexts[self._max_contexts :]
        return torch.cat(parts)

    def _halve_batch(self, batch_size: int) -> None:
        """Halve the number of contexts of a forward pass, for this and later batches.

        Raises:
            UserError: the batch has one context.
        """
        if batch_size == 1:
            raise UserError(
                "the forecast of one series or group does not fit into memory; lower inference.context_length, or "
                "inference.batch_size, at which groups are cut"
            )
        self._max_contexts = batch_size // 2
        torch.cuda.empty_cache()
        logger.warning("a batch does not fit into memory; continuing with %d series a batch", self._max_contexts)

    def _unrolling(self) -> dict[str, Any]:
        """Return the levels from which Chronos-2 continues beyond its horizon, if it lacks the default ones."""
        if self.family != "chronos-2" or set(STOCK_LEVELS["chronos-2"]) <= set(self.trained_levels or ()):
            return {}
        return {"unrolled_quantiles": self.trained_levels}


def _negated(history: History) -> History:
    """Return a history with the signs of its targets changed."""
    if not isinstance(history, Panel):
        return -history
    signs = np.where(np.arange(len(history.past)) < len(history.variates.targets), -1, 1).astype(np.float32)
    return history._replace(past=history.past * signs[:, None])


def _load_export(model: str, folder: Path, device: str, seed: int, precision: str) -> Forecaster:
    if device != "cpu" or precision == "bf16":
        raise UserError(f"{model} is an exported model: set chronos.device cpu and inference.precision auto")
    forecaster = Forecaster.of_model(OnnxModel(folder), seed)
    forecaster.model = model
    return forecaster


def _panel_inputs(panels: Sequence[Panel], context_length: int) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return panels as inputs of `Chronos2Pipeline.predict`, and the row of each target in its output, [n_targets].

    The panels of a group are one input of all their rows, since the rows of an input see each other. All rows count as
    targets, so that the output has a row for each.
    """
    by_group: dict[int, list[int]] = {}
    for position, panel in enumerate(panels):
        by_group.setdefault(-1 - position if panel.group is None else panel.group, []).append(position)
    inputs: list[dict[str, Any]] = []
    rows: list[range] = [range(0)] * len(panels)
    n_rows = 0
    for positions in by_group.values():
        contexts, futures = [], []
        for position in positions:
            panel = panels[position]
            past, future = encode_categories(panel.past[None], panel.future[None], panel.variates)
            contexts.append(past[0, :, -context_length:])
            futures.append(future[0])
            rows[position] = range(n_rows, n_rows + len(panel.variates.targets))
            n_rows += len(panel.variates)
        width = max(context.shape[1] for context in contexts)
        padded = [np.pad(row, ((0, 0), (width - row.shape[1], 0)), constant_values=np.nan) for row in contexts]
        inputs.append(
            {
                "context": torch.from_numpy(np.concatenate(padded).astype(np.float32)),
                "future_covariates": torch.from_numpy(np.concatenate(futures).astype(np.float32)),
                "n_targets": sum(map(len, contexts)),
                "n_covariates": 0,
                "n_future_covariates": 0,
            }
        )
    return inputs, np.concatenate(rows)


def interpolate_levels(quantiles: np.ndarray, trained: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return quantiles at other levels: [..., n_trained] to [..., n_levels].

    Between two trained levels, quantiles are linear in the level. Outside them, they are linear in the normal score z,
    as those of a normal distribution. The slope is that from the trained median, or the level nearest to it, to the
    outermost level. A model of one level returns that quantile for every level.

    Args:
        trained: ascending levels of `quantiles`.
    """
    position = np.interp(levels, trained, np.arange(len(trained)))
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, len(trained) - 1)
    weight = (position - low).astype(np.float32)
    result = quantiles[..., low] * (1 - weight) + quantiles[..., high] * weight
    middle = int(np.abs(trained - 0.5).argmin())
    for outermost, outside in ((0, levels < trained[0]), (len(trained) - 1, levels > trained[-1])):
        if outside.any() and outermost != middle:
            scores = ndtri(trained)
            steps = (ndtri(levels[outside]) - scores[outermost]) / (scores[outermost] - scores[middle])
            spread = quantiles[..., [outermost]] - quantiles[..., [middle]]
            result[..., outside] = quantiles[..., [outermost]] + spread * steps.astype(np.float32)
    return np.sort(result, axis=-1)[..., _ranks(levels)]  # sorted, since rounding can make close quantiles cross


def torch_device(device: str) -> str:
    """Return the torch device of a value of `chronos.device`.

    Raises:
        UserError: the machine has no such device.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[device]:
        raise UserError(f"chronos.device: this machine has no {device} device; set auto or cpu")
    return device


def _ranks(levels: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(levels))


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _silence_horizon_advice() -> Iterator[None]:
    """Silence the advice of the pipelines on long horizons, which `check_request` logs once for a whole run."""
    import chronos.chronos

    level = chronos.chronos.logger.level
    chronos.chronos.logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="We recommend keeping prediction length")
            yield
    finally:
        chronos.chronos.logger.setLevel(level)
