"""Forecasts of the partitions of a Spark DataFrame or a Ray Dataset, as `forecast.py` makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.arguments import name_arguments, with_options
from pipeline.config import listed
from pipeline.core.errors import UserError
from pipeline.data.arrow_store import Store
from pipeline.data.frequency import UNKNOWN
from pipeline.data.partitions import PartitionFunction, Reading
from pipeline.forecasting.request import make_request
from pipeline.forecasting.tables import forecast_store
from pipeline.models.checkpoint import read_formats, remembered_config
from pipeline.models.find import check_model

if TYPE_CHECKING:
    from pipeline.forecasting.forecaster import Forecaster


@lru_cache(maxsize=1)
def _load(model: str, device: str, seed: int, precision: str, flip: bool | str) -> Forecaster:
    """Return a model, which a worker process loads once."""
    from pipeline.forecasting.forecaster import Forecaster

    return Forecaster.load(model, device, seed, precision, flip).with_min_batch()


@dataclass(frozen=True)
class PartitionForecaster(PartitionFunction):
    """Forecasts the series of each partition, and returns the table that `forecast.py` writes."""

    model: str = ""
    """A checkpoint folder, a Hub ID, an s3:// prefix or `builtin:NAME`."""

    def apply(self, store: Store) -> pa.Table:
        """Return the forecasts of a partition.

        Raises:
            UserError: the model is wrong, does not take a variate, or forecasts NaN.
        """
        config = self.reading.config
        general, inference = config.chronos, config.inference
        forecaster = _load(self.model, general.device, general.seed, inference.precision, inference.flip)
        forecaster = forecaster.with_non_negative(inference.non_negative)
        request = make_request(config, forecaster, store, config.forecast_horizon())
        return pa.concat_tables(forecast_store(forecaster, store, request))


@name_arguments
def forecast_batches(
    model_path: str,
    *,
    horizon: int | None = None,
    quantiles: Sequence[float] | None = None,
    id_column: str | Sequence[str] | None = None,
    timestamp_column: str | Sequence[str] | None = None,
    target: str | Sequence[str] | None = None,
    freq: str | None = None,
    **options: Any,
) -> PartitionForecaster:
    """Return a function that forecasts each partition of a Spark DataFrame or Ray Dataset.

    It fits `DataFrame.mapInArrow` and `GroupedData.applyInArrow` of Spark and `Dataset.map_batches` of Ray with
    `batch_format="pyarrow"`. A partition has all rows of its series, or a row for each series with a list of values.
    Columns, formats, frequency, horizon and levels are those of the training; arguments take precedence.

    Args:
        model_path: a checkpoint folder that all machines see, a Hub ID, an s3:// prefix or `builtin:NAME`.
        horizon: steps to forecast.
        quantiles: levels, each between 0 and 1.
        id_column: column of the item ID; several form it together.
        timestamp_column: column of the timestamps.
        target: column of the values; several are forecast together, by Chronos-2.
        freq: pandas alias; needed for a model that remembers none.
        options: other keys of the sections `data` and `inference`, and `device` and `seed`.

    Returns:
        the function, with the schema of its result for Arrow (`schema`) and for Spark (`ddl`).

    Raises:
        UserError: there is no such model, an option is wrong, or the frequency is unknown.
    """
    named = {
        "prediction_length": horizon,
        "quantiles": quantiles if quantiles is None else list(quantiles),
        "id_column": id_column,
        "timestamp_column": timestamp_column,
        "target": target,
        "freq": freq,
    }
    options |= {name: value for name, value in named.items() if value is not None}
    check_model(model_path)
    config = with_options(remembered_config(model_path), options, "data", "inference", "chronos")
    if config.inference.cross_learning:
        raise UserError(
            "inference.cross_learning: forecasts would depend on the partitions; set it to False, or name "
            "data.group_column, and partition by it"
        )
    if config.inference.engine != "torch":
        raise UserError("inference.engine: name the folder that chronos-native export has written as the model")
    formats = read_formats(model_path)
    reading = Reading.of(config, formats, formats.freq)
    times = pa.int64() if reading.freq == UNKNOWN else pa.timestamp("us", reading.zone)
    levels = ["predictions", *map(str, config.inference.quantiles)]
    columns = [("/".join(listed(config.data.id_column)), pa.string())]
    columns += [(" ".join(listed(config.data.timestamp_column)), times), ("target_name", pa.string())]
    schema = pa.schema([*columns, *((name, pa.float32()) for name in levels)])
    model = str(Path(model_path).absolute()) if Path(model_path).is_dir() else model_path
    return PartitionForecaster(reading, schema, model=model)
