"""The bank: a weighted mixture of priors, and the effects that observing has on what they draw."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from pipeline.core.errors import UserError, one_line
from pipeline.synthetic.draws import Draws, keys_of
from pipeline.synthetic.effects import EFFECTS
from pipeline.synthetic.priors import PRIORS
from pipeline.synthetic.ranges import Bounds

Ranges = dict[str, tuple[float, float]]

WEIGHTS = {
    "trend_seasonal": 4.0,
    "templates": 5.0,
    "energy": 3.0,
    "calendar": 2.0,
    "sarima": 3.0,
    "regimes": 1.0,
    "volatility": 0.7,
    "intermittent": 1.0,
    "growth": 1.5,
    "spikes": 1.0,
    "ornstein_uhlenbeck": 1.0,
    "brownian": 1.5,
    "heavy_tails": 0.5,
    "fractal": 0.5,
    "waveforms": 1.0,
    "kernel_synth": 1.0,
}
PROBABILITIES = {
    "skew": 0.12,
    "level": 0.6,
    "outliers": 0.05,
    "censoring": 0.06,
    "positive": 0.1,
    "rounding": 0.12,
    "unit": 1.0,
    "missing": 0.05,
}
BLEND = 0.1
SYNTHETIC = "synthetic:"
"""What the name of a bank, or of one of its priors, begins with in data.train."""


@dataclass(frozen=True)
class Bank:
    """A mixture of series: which priors, how often, with which ranges, and which effects act on them."""

    weights: Mapping[str, float]
    """Share of each prior, relative to the others'."""
    probabilities: Mapping[str, float]
    """Share of the series that each effect acts on."""
    ranges: Mapping[str, Ranges]
    """Arguments of each prior and effect."""
    blend: float
    """Share of the series that are the sum of two draws, after CauKer (Xie et al., 2025)."""

    def series(self, n_series: int, length: int, seed: int) -> np.ndarray:
        """Return series, the k-th a function of (seed, k) alone: float32, [n_series, length], NaN where missing."""
        return self.draw(keys_of(seed, np.arange(n_series)), np.full(n_series, length), length)

    def draw(self, keys: np.ndarray, lengths: np.ndarray, width: int) -> np.ndarray:
        """Return one series for each key: float32, [n, width], NaN where missing.

        Row i has `lengths[i]` steps; what lies behind them has no meaning. It depends on its key, its length and the width,
        not on the other rows.
        """
        draws, column = Draws(keys), lengths.astype(np.int64)[:, None]
        values = self._drawn(draws.fork(), column, width)
        second, ratio = draws.fork(), draws.log_uniform(0.1, 1.0)
        both = np.flatnonzero(draws.chance(self.blend)[:, 0])
        if len(both):
            more = self._drawn(Draws(second.keys[both]), column[both], width)
            scale = _deviation(values[both], column[both]) / _deviation(more, column[both])
            values[both] += ratio[both] * scale * more
        for name, probability in self.probabilities.items():
            own, acts = draws.fork(), np.flatnonzero(draws.chance(probability)[:, 0])
            if len(acts):
                values[acts] = EFFECTS[name](Draws(own.keys[acts]), values[acts], column[acts], **self.ranges[name])
        return values

    def of_prior(self, name: str) -> Bank:
        """Return the bank of one of its priors, without effects.

        Raises:
            UserError: it has no such prior.
        """
        _known(name, self.weights, "prior")
        return Bank({name: 1.0}, {}, {name: self.ranges[name]}, blend=0.0)

    def check_length(self, length: int) -> None:
        """Refuse series that are too short for a season.

        Raises:
            UserError: a prior's shortest period is longer than `length`.
        """
        for name in self.weights:
            shortest = self.ranges[name].get("period", (0.0, 0.0))[0]
            if shortest > length:
                raise UserError(
                    f"{name}: period: a season of {shortest:g} steps is longer than a series of {length}; "
                    "lower the range, or make longer series"
                )

    def _drawn(self, draws: Draws, lengths: np.ndarray, width: int) -> np.ndarray:
        names = list(self.weights)
        chosen = draws.choice(np.arange(len(names)), np.array(list(self.weights.values())))[:, 0]
        own = draws.fork()
        values = np.empty((len(draws), width), np.float32)
        for number in np.unique(chosen):
            rows, name = np.flatnonzero(chosen == number), names[number]
            values[rows] = PRIORS[name](Draws(own.keys[rows]), lengths[rows], width, **self.ranges[name])
        return values


def _deviation(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    inside = np.arange(values.shape[1]) < lengths
    deviation = values.std(axis=1, keepdims=True, where=inside)
    return np.where(deviation > 0, deviation, 1.0)


def default_bank() -> Bank:
    """Return the bank of config/bank.yaml."""
    return Bank(WEIGHTS, PROBABILITIES, {name: default_ranges(use) for name, use in _ALL.items()}, BLEND)


def read_bank(path: str | Path) -> Bank:
    """Read a bank from a YAML file in the form of config/bank.yaml.

    The priors and effects that it names make up the bank; ranges that it leaves out keep their defaults.

    Raises:
        UserError: the file does not parse, or names what there is not, or a value is out of its bounds.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is no valid YAML: {one_line(error)}") from error
    try:
        return _bank_of(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def open_bank(name: str, path: str | None = None) -> Bank:
    """Return the synthetic bank, as a YAML file says where one is given, or of its priors the one of that name.

    Raises:
        UserError: there is no such prior, or the file is wrong.
    """
    bank = default_bank() if path is None else read_bank(path)
    return bank if name == "bank" else bank.of_prior(name)


def default_ranges(use: Callable[..., Any]) -> Ranges:
    """Return the ranges that a prior or an effect has by default."""
    arguments = inspect.signature(use).parameters.values()
    return {one.name: one.default for one in arguments if one.kind is inspect.Parameter.KEYWORD_ONLY}


def _bank_of(content: Any) -> Bank:
    sections = _mapping(content, "the file")
    for name in sections:
        _known(name, ("blend", "priors", "effects"), "section")
    ranges: dict[str, Ranges] = {}
    weights = _shares(_mapping(sections.get("priors"), "priors"), PRIORS, "prior", "weight", float("inf"), ranges)
    effects = _shares(_mapping(sections.get("effects", {}), "effects"), EFFECTS, "effect", "probability", 1.0, ranges)
    if not sum(weights.values()) > 0:
        raise UserError("the weights of the priors sum to 0; give at least one prior a weight above 0")
    in_order = {name: effects[name] for name in EFFECTS if name in effects}
    return Bank(weights, in_order, ranges, _number(sections.get("blend", 0.0), "blend", 1.0))


def _shares(
    section: Mapping[str, Any],
    known: Mapping[str, Callable[..., Any]],
    kind: str,
    share: str,
    most: float,
    ranges: dict[str, Ranges],
) -> dict[str, float]:
    shares = {}
    for name, settings in section.items():
        _known(name, known, kind)
        given = dict(_mapping(settings, name))
        shares[name] = _number(given.pop(share, None), f"{name}: {share}", most)
        ranges[name] = default_ranges(known[name])
        hints = get_type_hints(known[name], include_extras=True)
        for key, value in given.items():
            _known(key, ranges[name], f"range of {name}")
            ranges[name][key] = _range(value, hints[key].__metadata__[0], f"{name}: {key}")
    return shares


def _range(value: Any, bounds: Bounds, what: str) -> tuple[float, float]:
    ends = value if isinstance(value, list) else []
    if len(ends) != 2 or not all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in ends):
        raise UserError(f"{what} must be [low, high], got {value}")
    low, high = ends
    if not low <= high:
        raise UserError(f"{what}: the low end must not be above the high one, got {value}")
    if not (bounds.admit(low) and bounds.admit(high)):
        raise UserError(f"{what}: both ends must be {bounds.words}, got {value}")
    return low, high


def _number(value: Any, what: str, most: float) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not 0 <= value <= most
        or value == float("inf")
    ):
        raise UserError(f"{what} must be a number of at least 0{'' if most > 1 else ' and at most 1'}, got {value}")
    return float(value)


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{what} must hold keys and their values, as in config/bank.yaml")
    return value


def _known(name: Any, known: Any, kind: str) -> None:
    if name not in known:
        raise UserError(f"there is no {kind} {name!r}; known are {', '.join(known)}")


_ALL: dict[str, Callable[..., Any]] = {**PRIORS, **EFFECTS}
