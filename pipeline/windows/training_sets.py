"""The training sets of data.train: stores and synthetic banks, each with its weight."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.config import Config, source_name
from pipeline.data.arrow_store import Store
from pipeline.data.column_formats import ColumnFormats
from pipeline.data.source import open_configured, open_stores
from pipeline.synthetic.bank import SYNTHETIC, Bank, open_bank
from pipeline.synthetic.panels import PanelBank


class TrainingSet(NamedTuple):
    """Series that training windows are drawn from, and their weight."""

    series: Store | Bank | PanelBank
    weight: float
    name: str = ""
    """Source of the series in data.train."""


def open_training_data(config: Config, formats: ColumnFormats = ColumnFormats()) -> list[TrainingSet]:
    """Open all sources of data.train, or the generated dummy data.

    A folder of stores, such as generate_data.py writes, is opened without conversion. The weight of the folder is split
    by the number of series of each store.

    Args:
        formats: what the columns of earlier series of the same kind are.

    Raises:
        UserError: a source is missing or invalid.
    """
    sources = config.data.sources()
    if not sources:
        return [TrainingSet(open_configured(config, None, formats=formats), 1.0)]
    sets: list[TrainingSet] = []
    for source in sources:
        if isinstance(source.path, str) and source.path.startswith(SYNTHETIC):
            name = source.path.removeprefix(SYNTHETIC)
            bank = open_bank("bank" if name == "panels" else name, config.synthetic.bank, ["panels"])
            sets.append(TrainingSet(PanelBank(bank) if name == "panels" else bank, source.weight))
        else:
            stores = open_stores(config, source.path, formats)
            n_series = sum(map(len, stores))
            sets += [
                TrainingSet(store, source.weight * len(store) / n_series, source_name(source.path)) for store in stores
            ]
    return sets
