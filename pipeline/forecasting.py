"""Forecasts by stock Chronos pipelines: any family, any horizon, any quantile levels, from a store to a table."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from pipeline.arrow_store import Store
from pipeline.checkpoint import family_of, horizon_of, read_checkpoint
from pipeline.covariates import encoded
from pipeline.errors import UserError
from pipeline.files import check_folder, whole_file
from pipeline.frequency import UNKNOWN, timestamps
from pipeline.series import History, Panel, target_rows

if TYPE_CHECKING:
    from chronos import BaseChronosPipeline

    from pipeline.future import Future

_BATCHES_IN_MEMORY = 16
_SUFFIXES = (".parquet", ".csv", ".jsonl")
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

    @staticmethod
    def load(model: str, device: str = "cpu", seed: int = 0) -> Forecaster:
        """Load a checkpoint folder or a Hub id through `BaseChronosPipeline.from_pretrained`.

        Raises:
            UserError: there is no such model, or it is broken.
        """
        from chronos import BaseChronosPipeline

        if Path(model).exists() or model.count("/") != 1:
            read_checkpoint(model)
        try:
            return Forecaster(BaseChronosPipeline.from_pretrained(model, device_map=torch_device(device)), seed)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"cannot load the model {model}: {' '.join(str(error).split())}") from error

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

    def quantiles(
        self, histories: Sequence[History], prediction_length: int, levels: Sequence[float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Forecast one batch.

        Chronos-2 forecasts the targets of a panel together and with its covariates; the other models each target alone.

        A context whose known values are all equal is forecast as that value, and one without any as NaN. Levels between
        those a model was trained on are interpolated; levels outside them are the outermost trained one. Quantiles never
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
            known = context[~np.isnan(context)]
            if len(known) and (known == known[0]).all():
                quantiles[row], point[row] = known[0], known[0]
            elif len(known):
                varied.append(row)
        if varied and self.family == "chronos-2" and any(isinstance(history, Panel) for history in histories):
            inputs = [_prepared(history, self.context_length) for history in histories if isinstance(history, Panel)]
            of_all = self._forecast(inputs, prediction_length, np.asarray(levels))
            quantiles[varied], point[varied] = of_all[0][varied], of_all[1][varied]
        elif varied:
            tensors = [torch.from_numpy(np.array(contexts[row][-self.context_length :], np.float32)) for row in varied]
            quantiles[varied], point[varied] = self._forecast(tensors, prediction_length, np.asarray(levels))
        return quantiles, point

    def _forecast(
        self, contexts: list[Any], prediction_length: int, levels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        with warnings.catch_warnings(), _chronos_quiet(), _seeded(self.seed):
            warnings.filterwarnings("ignore", message="We recommend keeping prediction length")
            raw = self.pipeline.predict(contexts, prediction_length=prediction_length)
        if self.trained_levels is None:
            samples = raw.float().cpu().numpy()  # [n, n_samples, prediction_length]
            quantiles = np.quantile(samples, levels, axis=1).transpose(1, 2, 0)
            return np.sort(quantiles, axis=2)[:, :, _ranks(levels)], samples.mean(axis=1)
        # [n, n_trained_levels, prediction_length]; Chronos-2 gives a list of [n_targets, n_trained_levels, ...].
        stacked = torch.cat(raw) if isinstance(raw, list) else raw
        trained = np.sort(stacked.float().cpu().numpy().transpose(0, 2, 1), axis=2)
        order = np.asarray(self.trained_levels)
        return at_levels(trained, order, levels), at_levels(trained, order, np.array([0.5]))[:, :, 0]


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


def at_levels(quantiles: np.ndarray, trained: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Interpolate quantiles [..., n_trained] at ascending `trained` levels linearly at `levels`: [..., n_levels].

    Outside the trained levels it is the outermost one, as in the stock pipelines.
    """
    position = np.interp(levels, trained, np.arange(len(trained)))
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, len(trained) - 1)
    share = (position - low).astype(np.float32)
    return quantiles[..., low] * (1 - share) + quantiles[..., high] * share


def forecast_store(
    forecaster: Forecaster,
    store: Store,
    *,
    prediction_length: int,
    levels: Sequence[float],
    context_length: int | None = None,
    batch_size: int = 64,
    target_names: Sequence[str] | None = None,
    future: Future | None = None,
) -> Iterator[pa.Table]:
    """Forecast every series of a store, in its order, and yield the long tables of some batches at a time.

    Columns: `item_id, timestamp, target_name, predictions` and one named after each level, as
    `BaseChronosPipeline.predict_df` returns. Where the frequency is unknown, `timestamp` counts steps from the first value.
    Series of like length share a batch, so that little of it is padding.

    Raises:
        UserError: the series have covariates or several targets, and the model takes none.
    """
    if len(store.variates) > 1 and forecaster.family != "chronos-2":
        raise UserError(
            f"data: {', '.join(store.variates.names[1:])} beside {store.variates.targets[0]}: covariates and several "
            f"targets are for Chronos-2, and this model is of the family {forecaster.family}"
        )
    if prediction_length > forecaster.horizon:
        logger.info(
            "the horizon of %d is beyond the model's %d: later steps are forecast from earlier forecasts",
            prediction_length,
            forecaster.horizon,
        )
    trained = forecaster.trained_levels
    if trained is not None and (min(levels) < min(trained) or max(levels) > max(trained)):
        logger.warning(
            "quantile levels outside %s ... %s, which the model was trained on, repeat the outermost one",
            min(trained),
            max(trained),
        )
    width = min(context_length or forecaster.context_length, forecaster.context_length)
    names = list(target_names or store.variates.targets)
    empty: list[str] = []
    for first in range(0, len(store), batch_size * _BATCHES_IN_MEMORY):
        indices = np.arange(first, min(first + batch_size * _BATCHES_IN_MEMORY, len(store)))
        by_length = indices[np.argsort(np.minimum(store.lengths[indices], width), kind="stable")]
        quantiles = np.empty((len(indices), len(names), prediction_length, len(levels)), np.float32)
        point = np.empty((len(indices), len(names), prediction_length), np.float32)
        for start in range(0, len(by_length), batch_size):
            batch = by_length[start : start + batch_size]
            histories = [history_of(store, index, context_length, prediction_length, future) for index in batch]
            of_batch = forecaster.quantiles(histories, prediction_length, levels)
            quantiles[batch - first], point[batch - first] = (
                part.reshape(len(batch), len(names), *part.shape[1:]) for part in of_batch
            )
        empty += [store.item_ids[int(index)] for index in indices if np.isnan(point[index - first]).all()]
        yield _table(store, indices, quantiles, point, levels, names)
    if empty:
        logger.warning("%d series without a known value were forecast as missing: %s", len(empty), named(empty))


def history_of(
    store: Store, index: int, context_length: int | None, prediction_length: int, future: Future | None
) -> History:
    """Return what a forecast of one item of a store starts from: at most `context_length` steps, None for all."""
    rows = store.rows(index)[:, -(context_length or store.lengths[index]) :]
    if len(store.variates) == 1:
        return rows[0]
    beyond = np.full((len(rows), prediction_length), np.nan, np.float32)
    if future is not None:
        beyond[-len(store.variates.known) :] = future.of(index)
    return Panel(rows, beyond, store.variates)


def _table(
    store: Store,
    indices: np.ndarray,
    quantiles: np.ndarray,
    point: np.ndarray,
    levels: Sequence[float],
    target_names: list[str],
) -> pa.Table:
    n, n_targets, prediction_length = point.shape
    steps = store.lengths[indices, None] + np.arange(prediction_length)
    stamps = steps if store.freq == UNKNOWN else timestamps(store.starts[indices], store.freq, steps)
    item_ids = pa.array([store.item_ids[int(index)] for index in indices], pa.string())
    of_target = np.tile(np.arange(n_targets).repeat(prediction_length), n)
    columns: dict[str, Any] = {
        "item_id": item_ids.take(pa.array(np.repeat(np.arange(n), n_targets * prediction_length))),
        "timestamp": np.repeat(stamps[:, None], n_targets, axis=1).ravel(),
        "target_name": pa.array(target_names).take(pa.array(of_target)),
        "predictions": point.ravel(),
    }
    for position, level in enumerate(levels):
        columns[str(level)] = quantiles[..., position].ravel()
    return pa.table(columns)


def write_predictions(path: str | Path, tables: Iterable[pa.Table]) -> int:
    """Write tables to one .parquet, .csv or .jsonl file as they come; return the number of rows.

    Raises:
        UserError: the suffix is none of the three, or the file cannot be written.
    """
    path = Path(path)
    check_predictions_path(path)
    n_rows = 0
    with whole_file(path) as temporary, contextlib.ExitStack() as stack:
        writer: Any = None
        for table in tables:
            writer = writer or stack.enter_context(_writer(path.suffix, temporary, table.schema))
            writer.write_table(table)
            n_rows += len(table)
        stack.close()
    return n_rows


def check_predictions_path(path: Path) -> None:
    """Refuse a path that forecasts cannot be written to.

    Raises:
        UserError: its suffix is of no known format, it is a folder, or cannot be written.
    """
    if path.suffix not in _SUFFIXES:
        raise UserError(f"{path}: forecasts are written as {', '.join(_SUFFIXES)}; give the file one of these suffixes")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the path of a file")
    check_folder(path.parent)


def _writer(suffix: str, path: Path, schema: pa.Schema) -> Any:
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.ParquetWriter(path, schema)
    if suffix == ".csv":
        import pyarrow.csv as csv

        return csv.CSVWriter(path, schema)
    return _JsonLinesWriter(path)


class _JsonLinesWriter(contextlib.AbstractContextManager):
    def __init__(self, path: Path) -> None:
        self._file = open(path, "w", encoding="utf-8")

    def write_table(self, table: pa.Table) -> None:
        frame = table.to_pandas()
        frame.to_json(self._file, orient="records", lines=True, date_format="iso", date_unit="s", double_precision=15)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def named(names: Sequence[str], most: int = 5) -> str:
    """Return the first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


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
        yield
    finally:
        chronos.chronos.logger.setLevel(level)
