"""From series to windows: what training draws from, and what candidates are scored on."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.config import Config, MixupConfig
from pipeline.core.errors import UserError, first_few
from pipeline.core.files import fingerprint
from pipeline.core.series import UNIVARIATE
from pipeline.data.arrow_store import Store
from pipeline.models.checkpoint import Family
from pipeline.synthetic.bank import Bank
from pipeline.synthetic.mixup import Mixup
from pipeline.windows.sampling import (
    MixupSampler,
    SeriesSampler,
    Source,
    SyntheticSampler,
    TrainingWindows,
    ValidationWindows,
    held_out,
)
from pipeline.windows.splits import Split, pool_of, split_store
from pipeline.windows.training_sets import TrainingSet

_VALIDATION_WINDOWS = {"t5": 64, "gpt2": 64, "bolt": 512, "chronos-2": 512}
_ADVISED_SERIES, _ADVISED_HORIZONS = 100, 3
logger = logging.getLogger(__name__)


def training_windows(
    sets: Sequence[TrainingSet], config: Config, family: Family, context_length: int, prediction_length: int
) -> tuple[TrainingWindows, ValidationWindows | None]:
    """Part series into training and validation windows, the second None where nothing is held out.

    Raises:
        UserError: no series can be trained on, or they do not fit each other or the model's family.
    """
    training, seed = config.training, config.chronos.seed
    _check_variates(sets, config, family)
    lengths = {"context_length": context_length, "prediction_length": prediction_length}
    made = {
        i: _made(one.series, training.min_past, lengths) for i, one in enumerate(sets) if isinstance(one.series, Bank)
    }
    most = training.validation_windows or _VALIDATION_WINDOWS[family]
    share = max(1, most // len(sets))
    splits = {
        i: _split(one.series, one.name, config, lengths, share)
        for i, one in enumerate(sets)
        if isinstance(one.series, Store)
    }
    sources: list[Source] = [SeriesSampler(split, training.min_past) for split in splits.values()]
    weights = [sets[i].weight for i in splits]
    if config.data.mixup:
        if not splits:
            raise UserError("data.mixup: there are no series to mix; name some in data.train")
        pools = [pool_of(split) for split in splits.values()]
        mixup = Mixup(pools, weights, **dataclasses.asdict(config.synthetic.mixup))
        sources, weights = [MixupSampler(list(splits.values()), mixup, training.min_past)], [sum(weights)]
    if splits:
        known = np.concatenate([split.train_ends[split.usable] for split in splits.values()])
        warning = few_data(known, prediction_length)
        if warning:
            logger.warning(warning)
    windows = TrainingWindows(
        [*sources, *made.values()],
        [*weights, *(sets[i].weight for i in made)],
        drop_prob=training.drop_prob,
        seed=seed,
        batch_size=training.batch_size,
        **lengths,
    )
    if training.validation_split == 0:
        return windows, None
    held = [held_out(source, share, seed=seed, **lengths) for source in made.values()]
    validation = ValidationWindows([*splits.values(), *held], **lengths, max_windows=most)
    if not len(validation):
        raise UserError("no held-out step is known, so nothing can be validated; set training.validation_split 0")
    return windows, validation


def identity_of(windows: TrainingWindows) -> list[dict[str, Any]]:
    """Return what tells the data of one run from those of another."""
    shares = np.diff(windows.bounds, prepend=0.0)
    return [
        {"fingerprint": _fingerprint(source), "share": round(float(share), 6), "stores": _stores(source)}
        for source, share in zip(windows.sources, shares)
    ]


def _made(bank: Bank, min_past: int, lengths: dict[str, int]) -> SyntheticSampler:
    bank.check_length(sum(lengths.values()))
    return SyntheticSampler(bank, min_past)


def _split(store: Store, name: str, config: Config, lengths: dict[str, int], max_windows: int) -> Split:
    training = config.training
    split = split_store(
        store,
        training.validation_split,
        lengths["prediction_length"],
        training.min_past,
        config.data.test_length,
        max_windows,
    )
    where = name or store.path or "the array"
    for reason, series in split.unusable.items():
        names = first_few([store.item_ids[index] for index in series])
        logger.warning("%s: %d of %d series are %s and are skipped: %s", where, len(series), len(store), reason, names)
    if not len(split.usable):
        reasons = "; ".join(f"{len(series)} are {reason}" for reason, series in split.unusable.items())
        raise UserError(
            f"data.train: no series of {where} can be trained on ({reasons}); give longer series that change, "
            "or lower data.test_length, training.min_past or training.validation_split"
        )
    return split


def few_data(lengths: np.ndarray, prediction_length: int) -> str | None:
    """Say in words that there are too few series, or too short ones, to expect much; None where there are enough.

    Args:
        lengths: training steps of each series, [n].
    """
    median = float(np.median(lengths))
    said = []
    if len(lengths) < _ADVISED_SERIES:
        said.append(f"{len(lengths)} series where {_ADVISED_SERIES} or more are advised")
    advised = _ADVISED_HORIZONS * prediction_length
    if median < advised:
        said.append(f"a median of {median:g} training steps where {advised}, {_ADVISED_HORIZONS} horizons, are advised")
    return f"few data to learn from: {' and '.join(said)}; the base may well be kept" if said else None


def _check_variates(sets: Sequence[TrainingSet], config: Config, family: Family) -> None:
    of_each = [one.series.variates if isinstance(one.series, Store) else UNIVARIATE for one in sets]
    variates = of_each[0]
    if any(other != variates for other in of_each):
        raise UserError("data.train: its sources differ in targets, covariates or categories; give them as one table")
    if len(variates) > 1 and family != "chronos-2":
        raise UserError(
            f"data: {', '.join(variates.names[1:])} beside {variates.targets[0]}: covariates and several targets are "
            f"for Chronos-2, and the base is a {family} model; name one target alone, or take a Chronos-2"
        )
    if len(variates) > 1 and config.data.mixup:
        raise UserError("data.mixup: series with covariates or several targets cannot be mixed")


def _fingerprint(source: Source) -> str:
    if isinstance(source, SyntheticSampler):
        return fingerprint([], source.bank)
    if isinstance(source, MixupSampler):
        settings = [getattr(source.mixup, field.name) for field in dataclasses.fields(MixupConfig)]
        return fingerprint([], source.mixup.weights, settings, _stores(source))
    return _stores(source)[0]


def _stores(source: Source) -> list[str]:
    """Return the fingerprints of the stores whose series a source shows."""
    match source:
        case MixupSampler():
            return [split.store.fingerprint for split in source.splits]
        case SeriesSampler():
            return [source.split.store.fingerprint]
        case _:
            return []
