"""Forecasts of a whole store in a file: made and kept in parts, by any number of processes, continued after a stop."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.core.errors import UserError, first_few
from pipeline.core.files import atomic_write, check_file, read_json, write_json
from pipeline.core.series import History, Panel
from pipeline.data.arrow_store import Store
from pipeline.data.frequency import UNKNOWN, timestamps
from pipeline.data.future import Future
from pipeline.forecasting.forecaster import Forecaster, refuse_no_numbers

_SUFFIXES = (".parquet", ".csv", ".jsonl")
_ITEMS_PER_PART = 4096
_VALUES_PER_PART = 1 << 23
_SETTINGS = "settings.json"
_LOOKED_AT = 10_000
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What is asked of a forecaster."""

    prediction_length: int
    levels: Sequence[float]
    context_length: int | None = None
    """Steps of history that it may see; None for all."""
    batch_size: int = 64
    """Items at once."""
    target_names: Sequence[str] | None = None
    """What the targets are called in the table; None calls them as the store does."""
    future: Future | None = None
    """Known covariates at the steps to forecast."""

    def __post_init__(self) -> None:
        if self.prediction_length < 1:
            raise UserError(f"prediction_length must be at least 1, got {self.prediction_length}")

    def items_per_part(self) -> int:
        """Return how many items are forecast between two writes: a bounded number of values."""
        return max(1, min(_ITEMS_PER_PART, _VALUES_PER_PART // (self.prediction_length * (len(self.levels) + 1))))


def forecast_store(forecaster: Forecaster, store: Store, request: Request) -> Iterator[pa.Table]:
    """Forecast every item of a store, in its order, and yield long tables of some thousand items each.

    Columns: `item_id, timestamp, target_name, predictions` and one named after each level, as
    `BaseChronosPipeline.predict_df` returns. Where the frequency is unknown, `timestamp` counts steps from the first value.
    Items of like length share a batch, so that little of it is padding. What the model cannot do is for `check_request` to
    refuse before.
    """
    for part in parts_of(store, request):
        yield forecast_part(forecaster, store, part, request)


def check_request(forecaster: Forecaster, store: Store, request: Request) -> None:
    """Refuse what the model cannot do, and say what it does beyond what it was trained for.

    Raises:
        UserError: the series have covariates or several targets, and the model takes none.
    """
    if len(store.variates) > 1 and forecaster.family != "chronos-2":
        raise UserError(
            f"data: {', '.join(store.variates.names[1:])} beside {store.variates.targets[0]}: covariates and several "
            f"targets are for Chronos-2, and this model is a {forecaster.family} one; give one target alone"
        )
    _tell_of_early_ends(store, request.prediction_length)
    if request.prediction_length > forecaster.horizon:
        logger.info(
            "the horizon of %d is beyond the model's %d: later steps are forecast from earlier forecasts",
            request.prediction_length,
            forecaster.horizon,
        )
    beyond = forecaster.beyond_training(request.levels)
    if beyond:
        logger.warning(
            "quantile levels %s lie outside those the model was trained on: they are extrapolated by a normal tail",
            ", ".join(map(str, beyond)),
        )


def _tell_of_early_ends(store: Store, prediction_length: int) -> None:
    """Say how many of the first ten thousand series end before those that go on, by more than is forecast."""
    if store.freq == UNKNOWN:
        return
    first, lengths = store.starts[:_LOOKED_AT], store.lengths[:_LOOKED_AT]
    ahead = timestamps(first, store.freq, lengths[:, None] + [[-1, prediction_length - 1]])
    ended = ahead[:, 1] < ahead[:, 0].max()
    if ended.any():
        at = int(ended.argmax())
        logger.warning(
            "%d series end so long before the others that their forecasts, from their own ends on, lie in the past; the "
            "first is %s, which ends at %s; leave out what is no longer observed",
            np.count_nonzero(ended),
            store.item_ids[at],
            ahead[at, 0],
        )


def parts_of(store: Store, request: Request) -> list[range]:
    """Return the items of each part, in order."""
    size = request.items_per_part()
    return [range(first, min(first + size, len(store))) for first in range(0, len(store), size)]


def forecast_part(forecaster: Forecaster, store: Store, items: range, request: Request) -> pa.Table:
    """Forecast some consecutive items of a store.

    Raises:
        UserError: a single item does not fit into memory, or the model is broken.
    """
    names = list(request.target_names or store.variates.targets)
    indices = np.arange(items.start, items.stop)
    width = min(request.context_length or forecaster.context_length, forecaster.context_length)
    by_length = indices[np.argsort(np.minimum(store.lengths[indices], width), kind="stable")]
    quantiles = np.empty((len(indices), len(names), request.prediction_length, len(request.levels)), np.float32)
    point = np.empty((len(indices), len(names), request.prediction_length), np.float32)
    for first in range(0, len(by_length), request.batch_size):
        batch = by_length[first : first + request.batch_size]
        histories = [history_of(store, int(index), request) for index in batch]
        of_batch = forecaster.quantiles(histories, request.prediction_length, request.levels)
        refuse_no_numbers(histories, of_batch[1], [store.item_ids[int(index)] for index in batch])
        quantiles[batch - items.start], point[batch - items.start] = (
            part.reshape(len(batch), len(names), *part.shape[1:]) for part in of_batch
        )
    store.release_pages()
    empty = [store.item_ids[int(index)] for index in indices if np.isnan(point[index - items.start]).all()]
    if empty:
        logger.warning("%d series without a known value were forecast as missing: %s", len(empty), first_few(empty))
    return _table(store, indices, quantiles, point, request.levels, names)


def history_of(store: Store, index: int, request: Request) -> History:
    """Return what the forecast of one item of a store starts from."""
    rows = store.rows(index)[:, -(request.context_length or max(1, store.lengths[index])) :]
    if len(store.variates) == 1:
        return rows[0]
    beyond = np.full((len(rows), request.prediction_length), np.nan, np.float32)
    if request.future is not None:
        beyond[-len(store.variates.known) :] = request.future.of(index)
    return Panel(rows, beyond, store.variates)


class Parts:
    """The forecasts of a store on their way into one file: a folder beside it, a file a part.

    What stands there from an earlier run with the same model, data and settings is kept; of other ones it is removed.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        check_predictions_path(path)
        self.path = path
        self.folder = path.parent / f".{path.name}.parts"
        self.identity = identity

    def claim(self) -> None:
        """Make the folder ready; for the first process, before the others begin.

        Raises:
            UserError: it cannot be written.
        """
        settings = self.folder / _SETTINGS
        if self.folder.is_dir() and not (settings.is_file() and read_json(settings) == self.identity):
            shutil.rmtree(self.folder)
        if not settings.is_file():
            write_json(settings, self.identity)

    def fill(
        self, forecaster: Forecaster, store: Store, request: Request, rank: int = 0, n_ranks: int = 1
    ) -> Iterator[int]:
        """Forecast the parts that are not there yet and fall to this process; yield how many items each has.

        Raises:
            UserError: a part cannot be written.
        """
        for number, items in enumerate(parts_of(store, request)):
            if number % n_ranks != rank:
                continue
            file = self._file(number)
            if not file.is_file():
                table = forecast_part(forecaster, store, items, request)
                with atomic_write(file) as temporary, pa.ipc.new_stream(str(temporary), table.schema) as writer:
                    writer.write_table(table)
            yield len(items)

    def merge(self, n_parts: int) -> int:
        """Write all parts to the one file, remove them, and return the number of rows.

        Raises:
            UserError: the file cannot be written.
        """
        n_rows = write_predictions(self.path, (self._read(number) for number in range(n_parts)))
        shutil.rmtree(self.folder)
        return n_rows

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.arrow"

    def _read(self, number: int) -> pa.Table:
        with pa.OSFile(str(self._file(number))) as source, pa.ipc.open_stream(source) as reader:
            return reader.read_all()


def identity_of(model: str, store: Store, request: Request, seed: int, precision: str) -> dict[str, Any]:
    """Return what the forecasts depend on, cheaply: files by size and time of change."""
    files = sorted(file for file in Path(model).glob("*") if file.is_file()) if Path(model).is_dir() else []
    settings = dataclasses.asdict(dataclasses.replace(request, future=None, batch_size=0))
    return {
        "model": [str(Path(model).resolve()) if files else model, *map(_stamp, files)],
        "data": _stamp(store.path) if store.path else len(store),
        "future": None if request.future is None else request.future.fingerprint(),
        "settings": {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()},
        "seed": seed,
        "precision": precision,
    }


def _stamp(file: Path) -> str:
    return f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}"


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
    with atomic_write(path) as temporary, contextlib.ExitStack() as stack:
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
    check_file(path)


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
