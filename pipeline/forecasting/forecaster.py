"""Forecasts by stock Chronos pipelines: any family, any horizon, any quantile levels."""

from __future__ import annotations

import contextlib
import copy
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.special import ndtri

from pipeline.core.errors import UserError, first_few, one_line
from pipeline.core.metrics import WQL_LEVELS
from pipeline.core.processes import Processes
from pipeline.core.series import History, Panel, target_rows
from pipeline.data.covariates import encoded
from pipeline.models.checkpoint import STOCK_LEVELS, family_of, horizon_of
from pipeline.models.find import check_model, find_model

if TYPE_CHECKING:
    from chronos import BaseChronosPipeline

logger = logging.getLogger(__name__)


class Forecaster:
    """A stock Chronos pipeline behind one way of asking for quantiles."""

    def __init__(self, pipeline: BaseChronosPipeline, seed: int = 0) -> None:
        self.pipeline = pipeline
        self.seed = seed
        config = pipeline.inner_model.config.to_dict()
        self.family = family_of(config)
        self.horizon = horizon_of(config)
        self.context_length: int = config["chronos_config"]["context_length"]
        self.trained_levels: list[float] | None = config["chronos_config"].get("quantiles")
        self._at_once = sys.maxsize

    @staticmethod
    def load(model: str, device: str = "cpu", seed: int = 0, precision: str = "auto") -> Forecaster:
        """Load a model through `BaseChronosPipeline.from_pretrained`: a folder, a Hub id, an s3:// prefix or `builtin:NAME`.

        Args:
            precision: fp32 or bf16; auto is that of its weights.

        Raises:
            UserError: there is no such model, or it is broken.
        """
        from chronos import BaseChronosPipeline

        check_model(model)
        folder, where = find_model(model), torch_device(device)
        if where == "cuda":
            where = f"cuda:{Processes().local_rank}"
        try:
            dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}.get(precision, "auto")
            return Forecaster(BaseChronosPipeline.from_pretrained(str(folder), device_map=where, dtype=dtype), seed)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"cannot load the model {model}: {one_line(error)}") from error

    @staticmethod
    def of_model(model: Any, seed: int = 0) -> Forecaster:
        """Wrap a model in memory in the stock pipeline of its family."""
        from chronos import Chronos2Pipeline, ChronosBoltPipeline, ChronosConfig, ChronosPipeline
        from chronos.chronos import ChronosModel

        match family_of(model.config.to_dict()):
            case "bolt":
                return Forecaster(ChronosBoltPipeline(model), seed)
            case "chronos-2":
                return Forecaster(Chronos2Pipeline(model), seed)
            case _:
                config = ChronosConfig(**model.config.chronos_config)
                return Forecaster(ChronosPipeline(config.create_tokenizer(), ChronosModel(config, model)), seed)

    def with_context_length(self, context_length: int | None) -> Forecaster:
        """Return the same that sees no more than so many steps of a history; None leaves it to the model."""
        other = copy.copy(self)
        other.context_length = min(context_length or self.context_length, self.context_length)
        return other

    def quantiles(
        self, histories: Sequence[History], prediction_length: int, levels: Sequence[float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Forecast one batch.

        Chronos-2 forecasts the targets of a panel together and with its covariates; the other models each target alone.

        A context whose known values are all equal is forecast as that value, one without any as the last known value before
        it, and a history without any as NaN. Levels between
        those a model was trained on are interpolated; levels outside them are extrapolated (`at_levels`). Quantiles never
        cross. Sampled forecasts follow from the seed.

        Args:
            histories: of n targets, NaN where a value is missing.
            levels: each between 0 and 1.

        Returns:
            quantiles [n, prediction_length, n_levels] and point forecasts [n, prediction_length], float32: the mean of the
            samples for a token model, else the median.
        """
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
            inputs = [_prepared(history, self.context_length) for history in histories if isinstance(history, Panel)]
            with_holdout = self._forecast(inputs, prediction_length, np.asarray(levels))
            quantiles[varied], point[varied] = with_holdout[0][varied], with_holdout[1][varied]
        elif varied:
            tensors = [torch.from_numpy(np.array(contexts[row][-self.context_length :], np.float32)) for row in varied]
            quantiles[varied], point[varied] = self._forecast(tensors, prediction_length, np.asarray(levels))
        return quantiles, point

    def predict_quantiles(self, histories: Sequence[History], prediction_length: int) -> np.ndarray:
        """Forecast one batch at the levels that scores are of: [n, prediction_length, 9]."""
        return self.quantiles(histories, prediction_length, WQL_LEVELS)[0]

    def beyond_training(self, levels: Sequence[float]) -> list[float]:
        """Return the levels below the lowest and above the highest that the model was trained on."""
        trained = self.trained_levels
        return [] if trained is None else [level for level in levels if not min(trained) <= level <= max(trained)]

    def _forecast(
        self, contexts: list[Any], prediction_length: int, levels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        with contextlib.ExitStack() as around:
            if prediction_length > self.horizon:
                around.enter_context(_chronos_quiet())
            if self.trained_levels is None:
                around.enter_context(_seeded(self.seed))
            raw = self._predicted(contexts, prediction_length)
        if self.trained_levels is None:
            samples = raw.float().cpu().numpy()  # [n, n_samples, prediction_length]
            quantiles = np.quantile(samples, levels, axis=1).transpose(1, 2, 0)
            return np.sort(quantiles, axis=2)[:, :, _ranks(levels)], samples.mean(axis=1)
        # [n, n_trained_levels, prediction_length]
        trained = np.sort(raw.float().cpu().numpy().transpose(0, 2, 1), axis=2)
        order = np.asarray(self.trained_levels)
        return at_levels(trained, order, levels), at_levels(trained, order, np.array([0.5]))[:, :, 0]

    def _predicted(self, contexts: list[Any], prediction_length: int) -> torch.Tensor:
        """Return what the pipeline predicts, from as many contexts at once as fit into memory."""
        parts: list[torch.Tensor] = []
        while contexts:
            try:
                raw = self.pipeline.predict(
                    contexts[: self._at_once], prediction_length=prediction_length, **self._unrolling()
                )
            except torch.OutOfMemoryError:
                raw = None
            if raw is None:
                self._lower(min(self._at_once, len(contexts)))
                continue
            parts += raw if isinstance(raw, list) else [raw]  # Chronos-2 gives a list, [n_targets, ...] each
            contexts = contexts[self._at_once :]
        return torch.cat(parts)

    def _lower(self, tried: int) -> None:
        """Take half as many contexts at once from now on.

        Raises:
            UserError: it was one.
        """
        if tried == 1:
            raise UserError("the forecast of one series does not fit into memory; lower inference.context_length")
        self._at_once = tried // 2
        torch.cuda.empty_cache()
        logger.warning("a batch does not fit into memory: going on with %d series at once", self._at_once)

    def _unrolling(self) -> dict[str, Any]:
        """Return what Chronos-2 goes on from beyond its horizon: its own levels where it lacks those that it would take."""
        if self.family != "chronos-2" or set(STOCK_LEVELS["chronos-2"]) <= set(self.trained_levels or ()):
            return {}
        return {"unrolled_quantiles": self.trained_levels}


def _prepared(panel: Panel, context_length: int) -> dict[str, Any]:
    """Return a panel as Chronos-2's own pipeline takes it."""
    past, future = encoded(panel.past[None], panel.future[None], panel.variates)
    return {
        "context": torch.from_numpy(np.array(past[0, :, -context_length:], np.float32)),
        "future_covariates": torch.from_numpy(np.array(future[0], np.float32)),
        "n_targets": len(panel.variates.targets),
        "n_covariates": len(panel.variates.covariates),
        "n_future_covariates": len(panel.variates.known),
    }


def refuse_no_numbers(histories: Sequence[History], point: np.ndarray, names: Sequence[str]) -> None:
    """Refuse forecasts that are NaN where something is known to forecast from: the weights of the model are broken.

    Args:
        point: of every target, [n targets, prediction_length].
        names: of the histories.

    Raises:
        UserError: there are some; it names the first few.
    """
    rows = target_rows(histories)
    known = np.array([not np.isnan(row).all() for row in rows])
    broken = np.flatnonzero(known & np.isnan(point).any(axis=1)) // (len(rows) // len(histories))
    if len(broken):
        wrong = first_few([names[index] for index in dict.fromkeys(broken.tolist())])
        raise UserError(f"the model forecasts no numbers for {wrong}: its weights are broken; train it again")


def at_levels(quantiles: np.ndarray, trained: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return quantiles [..., n_trained] at ascending `trained` levels as quantiles at `levels`: [..., n_levels].

    Between two trained levels linear in the level. Outside them linear in the normal score z, as a normal distribution is:
    with the slope from the trained median, or the level nearest to it, to the outermost level. A model of one level
    gives that one.
    """
    position = np.interp(levels, trained, np.arange(len(trained)))
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, len(trained) - 1)
    share = (position - low).astype(np.float32)
    between = quantiles[..., low] * (1 - share) + quantiles[..., high] * share
    middle = int(np.abs(trained - 0.5).argmin())
    for outermost, outside in ((0, levels < trained[0]), (len(trained) - 1, levels > trained[-1])):
        if outside.any() and outermost != middle:
            scores = ndtri(trained)
            steps = (ndtri(levels[outside]) - scores[outermost]) / (scores[outermost] - scores[middle])
            reach = quantiles[..., [outermost]] - quantiles[..., [middle]]
            between[..., outside] = quantiles[..., [outermost]] + reach * steps.astype(np.float32)
    return between


def torch_device(device: str) -> str:
    """Return the torch device that `chronos.device` means.

    Raises:
        UserError: it asks for hardware that is not there.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[device]:
        raise UserError(f"chronos.device: this machine has no {device}; write auto or cpu")
    return device


def _ranks(levels: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(levels))


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _chronos_quiet() -> Iterator[None]:
    """Silence the pipelines' advice on long horizons, which this module gives once for a whole run."""
    import chronos.chronos

    level = chronos.chronos.logger.level
    chronos.chronos.logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="We recommend keeping prediction length")
            yield
    finally:
        chronos.chronos.logger.setLevel(level)
