"""What data.train names: series in stores, and banks that make them, each with its weight."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pipeline.config import Config
from pipeline.data.arrow_store import NotAStore, Store, open_store
from pipeline.data.formats import source_files
from pipeline.data.source import columns_of, holding, open_configured
from pipeline.synthetic.bank import Bank, default_bank, read_bank

_SYNTHETIC = "synthetic:"


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
        if source.path.startswith(_SYNTHETIC):
            sets.append(
                TrainingSet(open_bank(source.path.removeprefix(_SYNTHETIC), config.synthetic.bank), source.weight)
            )
            continue
        stores = (_shards(source.path, config) if config.data.freq is None else []) or [
            open_configured(config, source.path)
        ]
        n_series = sum(map(len, stores))
        sets += [TrainingSet(store, source.weight * len(store) / n_series, source.path) for store in stores]
    return sets


def open_bank(name: str, path: str | None = None) -> Bank:
    """Return the synthetic bank, as a YAML file says where one is given, or of its priors the one of that name.

    Raises:
        UserError: there is no such prior, or the file is wrong.
    """
    bank = default_bank() if path is None else read_bank(path)
    return bank if name == "bank" else bank.of_prior(name)


def _shards(source: str, config: Config) -> list[Store]:
    """Return the stores of a folder of nothing else, none for any other source."""
    if not Path(source).is_dir():
        return []
    try:
        return [holding(open_store(file), columns_of(config)) for file in source_files(source)]
    except NotAStore:
        return []
