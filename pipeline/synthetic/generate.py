"""Synthetic series to disk: from a configuration to the files that it describes, and a picture of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.core.errors import UserError
from pipeline.data.arrow_store import Store
from pipeline.data.source import open_stores
from pipeline.data.usable import check_values, unusable_series
from pipeline.synthetic.bank import SYNTHETIC, Bank, open_bank
from pipeline.synthetic.gallery import draw_gallery
from pipeline.synthetic.mixup import Mixup, Pool
from pipeline.synthetic.shards import Make, write_shards


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
    sources: list[tuple[str | None, float]] = [(source.path, source.weight) for source in config.data.sources()] or [
        (None, 1.0)
    ]
    if any(path is not None and path.startswith(SYNTHETIC) for path, _ in sources):
        raise UserError("synthetic.source tsmixup mixes stored series; leave synthetic: sources out of data.train")
    settings = config.synthetic.mixup
    test_length = config.data.test_length
    stores, usable = [], []
    for path, weight in sources:
        opened = open_stores(config, path)
        n_series = sum(map(len, opened))
        for store in opened:
            stores.append(store)
            pool = _pool(store, test_length)
            if len(pool.lengths):
                usable.append((pool, weight * len(store) / n_series))
    if not usable:
        raise UserError("data.train: every series is constant or missing throughout; there is nothing to mix")
    weights = [weight for _, weight in usable]
    mixup = Mixup([pool for pool, _ in usable], weights, **asdict(settings))
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


def _pool(store: Store, test_length: int) -> Pool:
    ends = np.maximum(store.lengths - test_length, 0)
    check_values(store, ends)
    usable = np.flatnonzero(~np.logical_or.reduce(list(unusable_series(store, ends, 1).values())))
    return Pool.of(store, usable, ends[usable])


def _bank_series(bank: Bank, length: int, keys: np.ndarray) -> np.ndarray:
    return bank.draw(keys, np.full(len(keys), length), length)


def _mixed_series(mixup: Mixup, keys: np.ndarray) -> list[np.ndarray]:
    lengths = mixup.draw_lengths(keys)
    values = mixup.draw(keys, lengths, int(lengths.max()))
    return [row[:length] for row, length in zip(values, lengths)]
