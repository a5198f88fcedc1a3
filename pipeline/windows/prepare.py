"""Training and validation windows of a run's training sets."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.core.errors import UserError, first_few
from pipeline.core.series import UNIVARIATE
from pipeline.data.arrow_store import Store
from pipeline.models.checkpoint import Family
from pipeline.synthetic.bank import Bank
from pipeline.synthetic.mixup import Mixup
from pipeline.synthetic.panels import PanelBank
from pipeline.windows.samplers import GroupSampler, MixupSampler, Sampler, SeriesSampler
from pipeline.windows.splits import Split, split_store, training_pool
from pipeline.windows.synthetic_samplers import PanelSampler, SyntheticSampler
from pipeline.windows.training_sets import TrainingSet
from pipeline.windows.training_windows import TrainingWindows
from pipeline.windows.validation_windows import ValidationWindows, synthetic_holdout

_VALIDATION_WINDOWS = {"t5": 64, "gpt2": 64, "bolt": 512, "chronos-2": 512}
"""Default of training.validation_windows by family. Set by hand: sampled forecasts of token models are slow, and fewer
windows make the scores noisier."""
_RECOMMENDED_SERIES, _RECOMMENDED_HORIZONS = 100, 3
"""Rule of thumb for enough training data: number of series, and their median length in horizons."""
logger = logging.getLogger(__name__)


def make_windows(
    sets: Sequence[TrainingSet], config: Config, family: Family, context_length: int, prediction_length: int
) -> tuple[TrainingWindows, ValidationWindows | None]:
    """Split series into training and validation windows; the second is None if training.validation_split is 0.

    Args:
        context_length: maximum number of steps in a context.
        prediction_length: steps of the horizon.

    Raises:
        UserError: no series can be trained on, or the variates do not fit each other or the model's family.
    """
    _check_variates(sets, config, family)
    training, seed = config.training, config.chronos.seed
    lengths: dict[str, Any] = {"context_length": context_length, "prediction_length": prediction_length}
    max_windows = training.validation_windows or _VALIDATION_WINDOWS[family]
    max_per_set = max(1, max_windows // len(sets))

    synthetic = _synthetic_samplers(sets, training.min_past, context_length + prediction_length)
    splits = _split_stores(sets, config, prediction_length, max_per_set)
    samplers, weights = zip(*_real_samplers(splits, config), *synthetic)
    windows = TrainingWindows(
        samplers, weights, drop_prob=training.drop_prob, seed=seed, batch_size=training.batch_size, **lengths
    )
    if training.validation_split == 0:
        return windows, None
    holdouts = [split for split, _ in splits]
    holdouts += [synthetic_holdout(sampler, max_per_set, seed=seed, **lengths) for sampler, _ in synthetic]
    validation = ValidationWindows(holdouts, max_windows=max_windows, **lengths, **_together(sets, config))
    if not len(validation):
        raise UserError(
            "training.validation_split: the holdout has no known value, so it cannot be scored; "
            "set training.validation_split 0"
        )
    return windows, validation


def holdout_windows(
    sets: Sequence[TrainingSet], config: Config, family: Family, context_length: int, prediction_length: int
) -> ValidationWindows:
    """Return the validation windows of `make_windows` without those of synthetic series, and without its warnings."""
    max_per_set = max(1, (config.training.validation_windows or _VALIDATION_WINDOWS[family]) // len(sets))
    stores = [entry.series for entry in sets if isinstance(entry.series, Store)]
    splits = [_split(store, config, prediction_length, max_per_set) for store in stores]
    lengths: dict[str, Any] = {"context_length": context_length, "prediction_length": prediction_length}
    return ValidationWindows(splits, max_windows=max_per_set * len(splits), **lengths, **_together(sets, config))


def data_identity(windows: TrainingWindows) -> list[dict[str, Any]]:
    """Return the hash and the share of each sampler, which a resumed run must have in common with the first one."""
    return [
        {
            "fingerprint": sampler.fingerprint,
            "share": round(float(share), 6),
            "stores": [store.fingerprint for store in sampler.stores],
        }
        for sampler, share in zip(windows.samplers, windows.shares)
    ]


def describe_shortage(lengths: np.ndarray, prediction_length: int) -> str | None:
    """Return a warning if there are fewer or shorter series than recommended, else None.

    Args:
        lengths: training steps of each series, [n].
    """
    shortages = []
    if len(lengths) < _RECOMMENDED_SERIES:
        shortages.append(f"{len(lengths)} series ({_RECOMMENDED_SERIES} or more are recommended)")
    median, recommended = float(np.median(lengths)), _RECOMMENDED_HORIZONS * prediction_length
    if median < recommended:
        shortages.append(
            f"a median of {median:g} training steps ({recommended} or more, {_RECOMMENDED_HORIZONS} horizons, "
            "are recommended)"
        )
    if not shortages:
        return None
    return f"little training data: {' and '.join(shortages)}; training may not improve on the base"


def _has_groups(sets: Sequence[TrainingSet]) -> bool:
    return any(isinstance(entry.series, Store) and entry.series.groups is not None for entry in sets)


def _together(sets: Sequence[TrainingSet], config: Config) -> dict[str, Any]:
    """Return the arguments of `ValidationWindows` by which series are forecast together as `inference` says."""
    inference = config.inference
    is_together = inference.cross_learning or _has_groups(sets)
    return {"batch_size": inference.batch_size, "cross_learning": inference.cross_learning} if is_together else {}


def _check_variates(sets: Sequence[TrainingSet], config: Config, family: Family) -> None:
    """Check that all sets have the same variates, and that the model and data.mixup support them and the groups.

    Raises:
        UserError: they do not.
    """
    variates, *others = [entry.series.variates if isinstance(entry.series, Store) else UNIVARIATE for entry in sets]
    if any(other != variates for other in others):
        raise UserError(
            "data.train: the sources differ in their targets, covariates or categories; give them in one table"
        )
    if len(variates) > 1 and family != "chronos-2":
        raise UserError(
            f"data: the series have {', '.join(variates.names[1:])} beside {variates.targets[0]}, which a {family} "
            "model cannot use. Choose a Chronos-2 base, or set data.target to one column and leave out the covariates"
        )
    if len(variates) > 1 and config.data.mixup:
        raise UserError("data.mixup: series with covariates or several targets cannot be mixed; set data.mixup false")
    if _together(sets, config) and family != "chronos-2":
        key = "inference.cross_learning" if config.inference.cross_learning else "data.group_column"
        raise UserError(f"{key}: a {family} model forecasts each series alone; leave it out, or choose another base")
    if any(isinstance(entry.series, PanelBank) for entry in sets) and family != "chronos-2":
        raise UserError(
            f"data.train: synthetic:panels: a {family} model forecasts each series alone; use synthetic:bank, or "
            "choose a Chronos-2 base"
        )
    if _has_groups(sets) and config.data.mixup:
        raise UserError("data.mixup: series with groups cannot be mixed; set data.mixup false")


def _synthetic_samplers(
    sets: Sequence[TrainingSet], min_past: int, length: int
) -> list[tuple[SyntheticSampler, float]]:
    """Return the sampler and the weight of each bank.

    Raises:
        UserError: a season of a bank is longer than a window of `length` steps.
    """
    samplers: list[tuple[SyntheticSampler, float]] = []
    for series, weight, _ in sets:
        if isinstance(series, PanelBank):
            series.bank.check_length(length)
            samplers.append((PanelSampler(series.bank, min_past), weight))
        elif isinstance(series, Bank):
            series.check_length(length)
            samplers.append((SyntheticSampler(series, min_past), weight))
    return samplers


def _split_stores(
    sets: Sequence[TrainingSet], config: Config, prediction_length: int, max_windows: int
) -> list[tuple[Split, float]]:
    """Return the split and the weight of each store, and warn if there are few series or short ones.

    Raises:
        UserError: no series of a store can be trained on.
    """
    splits = [
        (_split_and_report(series, name, config, prediction_length, max_windows), weight)
        for series, weight, name in sets
        if isinstance(series, Store)
    ]
    if splits:
        lengths = np.concatenate([split.train_ends[split.usable] for split, _ in splits])
        if warning := describe_shortage(lengths, prediction_length):
            logger.warning(warning)
    return splits


def _split(store: Store, config: Config, prediction_length: int, max_windows: int) -> Split:
    """Split a store by the keys of a configuration."""
    training, test_length = config.training, config.test_length()
    return split_store(store, training.validation_split, prediction_length, training.min_past, test_length, max_windows)


def _split_and_report(store: Store, name: str, config: Config, prediction_length: int, max_windows: int) -> Split:
    """Split a store, and warn about the series that cannot be trained on.

    Raises:
        UserError: no series can be trained on.
    """
    split = _split(store, config, prediction_length, max_windows)
    source = name or store.path or "the array"
    for reason, series in split.unusable.items():
        names = first_few([store.item_ids[index] for index in series])
        logger.warning("%s: %d of %d series are %s and are skipped: %s", source, len(series), len(store), reason, names)
    if not len(split.usable):
        reasons = "; ".join(f"{len(series)} are {reason}" for reason, series in split.unusable.items())
        raise UserError(
            f"data.train: no series of {source} can be trained on ({reasons}); give longer series that are not "
            "constant, or lower data.test_length, training.min_past or training.validation_split"
        )
    return split


def _real_samplers(splits: Sequence[tuple[Split, float]], config: Config) -> list[tuple[Sampler, float]]:
    """Return a sampler and a weight for each split, or for all splits together if data.mixup is set.

    Raises:
        UserError: data.mixup is set, and there are no series to mix.
    """
    if not config.data.mixup:
        return [
            ((SeriesSampler if split.store.groups is None else GroupSampler)(split), weight) for split, weight in splits
        ]
    if not splits:
        raise UserError("data.mixup: there are no series to mix; name some in data.train")
    members, weights = [split for split, _ in splits], [weight for _, weight in splits]
    mixup = Mixup([training_pool(split) for split in members], weights, **dataclasses.asdict(config.synthetic.mixup))
    mixup.warn_about_short_series()
    return [(MixupSampler(members, mixup), sum(weights))]
