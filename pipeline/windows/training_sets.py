"""What data.train names: series in stores, and banks that make them, each with its weight."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.config import Config
from pipeline.data.arrow_store import Store
from pipeline.data.source import open_configured, open_stores
from pipeline.synthetic.bank import SYNTHETIC, Bank, open_bank


class TrainingSet(NamedTuple):
    """Series that training windows are drawn from, and how often."""

    series: Store | Bank
    weight: float
    name: str = ""
    """What the user calls it."""


def open_training_data(config: Config) -> list[TrainingSet]:
    """Open all that data.train names, or the generated dummy data.

    A folder of stores, such as generate_data.py writes, is opened where it lies, each file by its share of the series.

    Raises:
        UserError: a source is missing or wrong.
    """
    sources = config.data.sources()
    if not sources:
        return [TrainingSet(open_configured(config, None), 1.0)]
    sets: list[TrainingSet] = []
    for source in sources:
        if source.path.startswith(SYNTHETIC):
            sets.append(
                TrainingSet(open_bank(source.path.removeprefix(SYNTHETIC), config.synthetic.bank), source.weight)
            )
            continue
        stores = open_stores(config, source.path)
        n_series = sum(map(len, stores))
        sets += [TrainingSet(store, source.weight * len(store) / n_series, source.path) for store in stores]
    return sets
