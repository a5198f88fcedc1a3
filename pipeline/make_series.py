"""Synthetic series to disk: from a configuration to the files that it describes, and a picture of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.data.arrow_store import Store
from pipeline.errors import UserError
from pipeline.synthetic.bank import Bank
from pipeline.synthetic.gallery import draw_gallery
from pipeline.synthetic.mixup import Mixup
from pipeline.synthetic.shards import Make, write_shards
from pipeline.training_data.sources import open_bank, open_training_data
from pipeline.training_data.splits import pool_of, split_store


def make_series(config: Config) -> Iterator[int]:
    """Write the series of synthetic.source to its folder, and yield how many each file holds as it is done.

    Raises:
        UserError: the source is unknown, series are too short for it, or the folder is taken or cannot be written.
    """
    synthetic = config.synthetic
    make, settings = _mixing(config) if synthetic.source == "tsmixup" else _drawing(config)
    yield from write_shards(
        config.synthetic_path(),
        make,
        {"source": synthetic.source, **settings},
        name=synthetic.source,
        n_series=synthetic.n_series,
        shard_size=synthetic.shard_size,
        seed=config.chronos.seed,
        num_processes=synthetic.num_processes,
    )


def preview(config: Config) -> Path:
    """Draw a gallery of the bank, or of the one prior that is the source, one panel a prior, and return its file.

    Raises:
        UserError: the bank's file is wrong, its periods are longer than a series, or the picture cannot be written.
    """
    path = config.report_path() / "bank.png"
    source = config.synthetic.source
    bank = open_bank("bank" if source in ("dummy", "tsmixup") else source, config.synthetic.bank)
    bank.check_length(config.synthetic.length)
    draw_gallery(bank, config.synthetic.length, config.chronos.seed, path)
    return path


def _drawing(config: Config) -> tuple[Make, dict[str, Any]]:
    bank, length = open_bank(config.synthetic.source, config.synthetic.bank), config.synthetic.length
    bank.check_length(length)
    return partial(_bank_series, bank, length), {"length": length, "bank": repr(bank)}


def _mixing(config: Config) -> tuple[Make, dict[str, Any]]:
    sets = open_training_data(config)
    stores = [one.series for one in sets if isinstance(one.series, Store)]
    if len(stores) < len(sets):
        raise UserError("synthetic.source tsmixup mixes stored series; leave synthetic: sources out of data.train")
    settings = config.synthetic.mixup
    test_length = config.data.test_length
    splits = [split_store(store, 0.0, 1, 1, test_length) for store in stores]
    usable = [(split, one.weight) for split, one in zip(splits, sets) if len(split.usable)]
    if not usable:
        raise UserError("data.train: every series is constant or missing throughout; there is nothing to mix")
    weights = [weight for _, weight in usable]
    mixup = Mixup([pool_of(split) for split, _ in usable], weights, **asdict(settings))
    if mixup.longest() < settings.min_length:
        raise UserError(
            f"synthetic.mixup.min_length: no series has {settings.min_length} steps, the longest {mixup.longest()}; "
            "lower it"
        )
    identity = {
        "mixup": asdict(settings),
        "weights": weights,
        "data": [store.fingerprint for store in stores],
        "test_length": test_length,
    }
    return partial(_mixed_series, mixup), identity


def _bank_series(bank: Bank, length: int, keys: np.ndarray) -> np.ndarray:
    return bank.draw(keys, np.full(len(keys), length), length)


def _mixed_series(mixup: Mixup, keys: np.ndarray) -> list[np.ndarray]:
    lengths = mixup.draw_lengths(keys)
    values = mixup.draw(keys, lengths, int(lengths.max()))
    return [row[:length] for row, length in zip(values, lengths)]
