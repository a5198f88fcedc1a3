"""Generate synthetic series as a configuration describes them, or draw a picture of the bank."""

from __future__ import annotations

import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import Config, Source, SyntheticConfig, source_name, source_paths
from pipeline.core.checks import check_defaults, check_disk, check_memory, check_outputs
from pipeline.core.errors import UserError
from pipeline.core.files import atomic_write
from pipeline.core.progress import progress
from pipeline.data.arrow_store import Store, write_store
from pipeline.data.source import open_stores
from pipeline.data.usable import check_values, unusable_series
from pipeline.synthetic.bank import SYNTHETIC, Bank, open_bank
from pipeline.synthetic.gallery import draw_gallery
from pipeline.synthetic.mixup import Mixup, Pool
from pipeline.synthetic.patterns import PROMOTION, START, dummy_series, path_id, promotions
from pipeline.synthetic.shards import MakeSeries, write_shards

_BYTES_PER_STEP, _DRAWN_TOGETHER = 16, 256
"""Memory of a drawn step (float32, and one intermediate result in float64), and series in memory at a time."""
logger = logging.getLogger("pipeline")


def generate(config: Config, preview: bool = False) -> Path:
    """Write the series of synthetic.generator, with a progress bar, or draw a gallery of the bank.

    Args:
        preview: draw a PNG file with one panel per prior instead of writing series.

    Returns:
        The file of the dummy series or of the gallery, or the folder of all other series.

    Raises:
        UserError: the generator is unknown, a key has no effect on it, its series are too short, or the output cannot
            be written.
    """
    if preview:
        return _draw_preview(config)
    _check_generator(config.synthetic)
    return _write_dummy(config) if config.synthetic.generator == "dummy" else _write_shards(config)


def check_size(path: Path, n_series: int, length: int, keys: tuple[str, str]) -> None:
    """Refuse, before anything is drawn, series that do not fit into the memory or on the disk.

    Args:
        keys: the keys of the number of series and of their length.

    Raises:
        UserError: as described.
    """
    check_memory(keys[1], _BYTES_PER_STEP * min(n_series, _DRAWN_TOGETHER) * length, f"{length} steps a series")
    n_bytes = n_series * length * np.dtype(np.float32).itemsize
    n_bytes -= sum(file.stat().st_size for file in path.glob("*.arrow"))  # of a run that this one continues
    check_disk(keys[0], path, n_bytes, f"{n_series} series")


def _check_generator(synthetic: SyntheticConfig) -> None:
    """Check that no key is set that has no effect on the generator."""
    if synthetic.generator == "dummy":
        names = ("n_series", "length", "shard_size", "num_processes", "output_path", "bank")
        reason = "training.dummy_data describes the series of synthetic.generator dummy"
        advice = "set training.dummy_data in place of them, or another generator, such as synthetic.generator bank"
        check_defaults("synthetic", synthetic, names, reason, advice)
    if synthetic.generator == "tsmixup":
        reason = "synthetic.mixup describes the series of tsmixup"
        check_defaults("synthetic", synthetic, ("length",), reason, "set synthetic.mixup.max_length in its place")
        check_defaults("synthetic", synthetic, ("bank",), "tsmixup mixes the series of data.train", "remove it")


def _draw_preview(config: Config) -> Path:
    path, generator = config.report_path() / "bank.png", config.synthetic.generator
    check_outputs(
        files={"evaluation.report_path": path}, inputs={"synthetic.bank": source_paths(config.synthetic.bank)}
    )
    bank = _open_bank("bank" if generator in ("dummy", "tsmixup") else generator, config)
    bank.check_length(config.synthetic.length)
    draw_gallery(bank, config.synthetic.length, config.chronos.seed, path)
    logger.info("gallery: %s", path)
    return path


def _open_bank(name: str, config: Config) -> Bank:
    return open_bank(name, config.synthetic.bank, ["dummy", "tsmixup"])


def _write_dummy(config: Config) -> Path:
    dummy, path = config.training.dummy_data, config.dummy_path()
    future_path = path.with_name("dummy_future.parquet")
    check_outputs(files={"paths.dummy_data_dir": path})
    keys = ("training.dummy_data.n_samples", "training.dummy_data.length")
    check_size(path, dummy.n_samples, dummy.length, keys)
    series = dummy_series(
        dummy.n_samples, dummy.n_series, dummy.length, dummy.patterns, config.chronos.seed, dummy.num_processes
    )
    write_store(path, progress(series, dummy.n_samples, "series"))
    logger.info("%d series of %d steps: %s", dummy.n_samples, dummy.length, path)
    future_path.unlink(missing_ok=True)
    if PROMOTION in dummy.patterns:
        with atomic_write(future_path) as temporary:
            pq.write_table(_future_promotions(config), temporary)
        logger.info("promotions after the end of the series: %s", future_path)
    return path


def _future_promotions(config: Config) -> pa.Table:
    """Return the promotions of the dummy series over the horizon after their last step, a row per series and step."""
    dummy, horizon = config.training.dummy_data, config.forecast_horizon()
    begin, end = dummy.length, dummy.length + horizon
    values = [promotions(k, begin, end, config.chronos.seed) for k in range(dummy.n_samples)]
    times = START + np.arange(begin, end) * np.timedelta64(1, "h")
    return pa.table(
        {
            "item_id": np.repeat([path_id(k, dummy.n_series) for k in range(dummy.n_samples)], horizon),
            "timestamp": np.tile(times, dummy.n_samples),
            PROMOTION: np.concatenate(values),
        }
    )


def _write_shards(config: Config) -> Path:
    synthetic, path = config.synthetic, config.synthetic_path()
    inputs = {"synthetic.bank": source_paths(synthetic.bank)}
    length, key = synthetic.length, "synthetic.length"
    if synthetic.generator == "tsmixup":
        inputs = {"data.train": source_paths(config.data.sources())}
        length, key = synthetic.mixup.min_length, "synthetic.mixup.min_length"
    check_outputs(folders={"synthetic.output_path": path}, inputs=inputs)
    check_size(path, synthetic.n_series, length, ("synthetic.n_series", key))
    make, settings = _prepare_mixup(config) if synthetic.generator == "tsmixup" else _prepare_bank(config)
    shards = write_shards(
        path,
        make,
        {"generator": synthetic.generator, **settings},
        name=synthetic.generator,
        n_series=synthetic.n_series,
        shard_size=synthetic.shard_size,
        seed=config.chronos.seed,
        num_processes=synthetic.num_processes,
    )
    with progress(None, synthetic.n_series, "series") as bar:
        for n_series in shards:
            bar.update(n_series)
    logger.info("%d series: %s", synthetic.n_series, path)
    return path


def _prepare_bank(config: Config) -> tuple[MakeSeries, dict[str, Any]]:
    """Return a function that draws series of the bank or a prior, and the settings that they depend on."""
    bank, length = _open_bank(config.synthetic.generator, config), config.synthetic.length
    bank.check_length(length)
    return partial(draw_bank_series, bank, length), {"length": length, "bank": repr(bank)}


def _prepare_mixup(config: Config) -> tuple[MakeSeries, dict[str, Any]]:
    """Return a function that draws mixtures of the series of data.train, and the settings that they depend on."""
    settings, test_length = config.synthetic.mixup, config.test_length()
    stores, pools, weights = [], [], []
    for path, source_weight in _mixup_sources(config):
        source_stores = open_stores(config, path)
        if names := next((store.variates.names for store in source_stores if len(store.variates) > 1), ()):
            raise UserError(
                f"synthetic.generator tsmixup: series of {', '.join(names)} cannot be mixed; name one column in "
                "data.target, and leave out the covariates"
            )
        n_series = sum(map(len, source_stores))
        stores += source_stores
        made = [(_make_pool(store, test_length), len(store)) for store in source_stores]
        n_usable = sum(len(pool.lengths) for pool, _ in made)
        name = "the dummy data" if path is None else source_name(path)
        if not n_usable:
            raise UserError(
                f"data.train: every series of {name} is constant or missing throughout; remove it, or add series that "
                "vary"
            )
        if n_usable < n_series:
            logger.warning(
                "%s: %d of %d series are constant or missing, and are not mixed", name, n_series - n_usable, n_series
            )
        pools += [pool for pool, _ in made if len(pool.lengths)]
        weights += [source_weight * size / n_series for pool, size in made if len(pool.lengths)]
    mixup = Mixup(pools, weights, **asdict(settings))
    if mixup.longest() < settings.min_length:
        raise UserError(
            f"synthetic.mixup.min_length: no series has {settings.min_length} steps, the longest {mixup.longest()}; "
            "set a smaller value"
        )
    mixup.warn_about_short_series()
    identity = {
        "mixup": asdict(settings),
        "weights": weights,
        "data": [store.fingerprint for store in stores],
        "test_length": test_length,
    }
    return partial(_draw_mixup_series, mixup), identity


def _mixup_sources(config: Config) -> list[tuple[Source | None, float]]:
    """Return the path, None for the dummy data, and the weight of each source of data.train."""
    sources = config.data.sources()
    if any(isinstance(source.path, str) and source.path.startswith(SYNTHETIC) for source in sources):
        raise UserError(
            "synthetic.generator tsmixup mixes stored series; "
            "remove the sources that begin with synthetic: from data.train"
        )
    return [(source.path, source.weight) for source in sources] or [(None, 1.0)]


def _make_pool(store: Store, test_length: int) -> Pool:
    """Return a pool of the usable series of a store, without their last `test_length` steps."""
    ends = np.maximum(store.lengths - test_length, 0)
    check_values(store, ends)
    usable = np.flatnonzero(~np.logical_or.reduce(list(unusable_series(store, ends, 1).values())))
    return Pool.of(store, usable, ends[usable])


def draw_bank_series(bank: Bank, length: int, keys: np.ndarray) -> np.ndarray:
    """Draw one series of `length` steps for each key: float32, [n, length]."""
    return bank.draw(keys, np.full(len(keys), length), length)


def _draw_mixup_series(mixup: Mixup, keys: np.ndarray) -> list[np.ndarray]:
    lengths = mixup.draw_lengths(keys)
    values = mixup.draw(keys, lengths, int(lengths.max()))
    return [row[:length] for row, length in zip(values, lengths)]
