"""The bank: a weighted mixture of priors, with effects of observation on the drawn series."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from pipeline.core.errors import UserError
from pipeline.data.numbers import MAX_MAGNITUDE
from pipeline.synthetic.draws import Draws, make_keys
from pipeline.synthetic.effects import EFFECTS
from pipeline.synthetic.priors import PRIORS
from pipeline.synthetic.ranges import Bounds

Ranges = dict[str, tuple[float, float]]
"""Range of each parameter of a prior or an effect, by its name."""

SYNTHETIC = "synthetic:"
"""Prefix of the synthetic sources in data.train: synthetic:bank, synthetic:panels or synthetic:PRIOR."""

# The weights, probabilities and the share of blends were set by hand. docs/synthetic-data.md compares the statistics of
# the bank with those of real series.
WEIGHTS = {
    "trend_seasonal": 4.0,
    "repeats": 6.0,
    "templates": 5.0,
    "energy": 3.0,
    "calendar": 2.0,
    "sarima": 3.0,
    "regimes": 1.0,
    "ramps": 2.0,
    "states": 0.7,
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
    "counts": 0.06,
    "rounding": 0.12,
    "unit": 1.0,
    "missing": 0.05,
}
BLEND = 0.1
_LARGEST = 1e30
"""Largest number in a bank; powers of it, and sums of a few, still fit into the range of floating-point numbers."""


@dataclass(frozen=True)
class Bank:
    """A mixture of series: the weights and ranges of its priors, and the effects that act on the series."""

    # The names of the fields are in the settings of generated folders, which a later run compares.
    weights: Mapping[str, float]
    """Weight of each prior, relative to the others."""
    probabilities: Mapping[str, float]
    """Share of the series that each effect acts on, in the order in which the effects act."""
    ranges: Mapping[str, Ranges]
    """Ranges of the parameters of each prior and effect."""
    blend: float
    """Share of the series that are the sum of two draws, after CauKer (Xie et al., 2025)."""

    def series(self, n_series: int, length: int, seed: int) -> np.ndarray:
        """Draw series; the k-th depends on (seed, k) only: float32, [n_series, length], NaN if missing."""
        return self.draw(make_keys(seed, np.arange(n_series)), np.full(n_series, length), length)

    def draw(self, keys: np.ndarray, lengths: np.ndarray, width: int) -> np.ndarray:
        """Draw one series for each key.

        A row depends on its key, its length and the width, not on the other rows.

        Args:
            keys: uint64, [n].
            lengths: steps of each series, integers [n].
            width: columns of the result, at least the greatest length.

        Returns:
            float32, [n, width], NaN if missing. Values after a row's length have no meaning.

        Raises:
            UserError: a value is too large for a model, because of the ranges.
        """
        draws, column = Draws(keys), lengths.astype(np.int64)[:, None]
        values = self._draw_priors(draws.fork(), column, width)
        second, ratio = draws.fork(), draws.log_uniform(0.1, 1.0)
        blended = np.flatnonzero(draws.chance(self.blend)[:, 0])
        if len(blended):
            added = self._draw_priors(Draws(second.keys[blended]), column[blended], width)
            scale = _deviation(values[blended], column[blended]) / _deviation(added, column[blended])
            values[blended] += ratio[blended] * scale * added
        values = self.observe(draws, values, column)
        if (np.abs(values, where=np.arange(width) < column, out=np.zeros_like(values)) > MAX_MAGNITUDE).any():
            raise UserError(f"synthetic.bank: a series has a value beyond {MAX_MAGNITUDE:g}; lower the ranges")
        return values

    def observe(self, draws: Draws, values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Let the effects act on series [n, width] in place; lengths [n, 1]. Return the series."""
        for name, probability in self.probabilities.items():
            stream, rows = draws.fork(), np.flatnonzero(draws.chance(probability)[:, 0])
            if len(rows):
                effect = EFFECTS[name]
                values[rows] = effect(Draws(stream.keys[rows]), values[rows], lengths[rows], **self.ranges[name])
        return values

    def single_prior(self, name: str) -> Bank:
        """Return a bank of one prior with this bank's ranges, without effects."""
        return Bank({name: 1.0}, {}, {name: self.ranges[name]}, blend=0.0)

    def check_length(self, length: int) -> None:
        """Check that series of `length` steps are long enough for the seasons.

        Raises:
            UserError: the shortest period of a prior is longer than `length`.
        """
        for name in self.weights:
            shortest = self.ranges[name].get("period", (0.0, 0.0))[0]
            if shortest > length:
                raise UserError(
                    f"{name}: period: the shortest season, {shortest:g} steps, is longer than a series of {length}; "
                    "lower the range or make the series longer"
                )

    def _draw_priors(self, draws: Draws, lengths: np.ndarray, width: int) -> np.ndarray:
        names = list(self.weights)
        chosen = draws.choice(np.arange(len(names)), np.array(list(self.weights.values())))[:, 0]
        streams = draws.fork()
        values = np.empty((len(draws), width), np.float32)
        for index in np.unique(chosen):
            rows, name = np.flatnonzero(chosen == index), names[index]
            with np.errstate(over="ignore"):  # `draw` refuses infinite values
                values[rows] = PRIORS[name](Draws(streams.keys[rows]), lengths[rows], width, **self.ranges[name])
        return values


def _deviation(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    inside = np.arange(values.shape[1]) < lengths
    deviation = values.std(axis=1, keepdims=True, where=inside)
    return np.where(deviation > 0, deviation, 1.0)


def default_bank() -> Bank:
    """Return the bank of config/bank.yaml."""
    ranges = {name: default_ranges(draw) for name, draw in {**PRIORS, **EFFECTS}.items()}
    return Bank(WEIGHTS, PROBABILITIES, ranges, BLEND)


def read_bank(path: str | Path) -> Bank:
    """Read a bank from a YAML file in the form of config/bank.yaml.

    The bank consists of the priors and effects in the file. Ranges that the file leaves out keep their defaults.

    Raises:
        UserError: the file does not parse, a name in it is unknown, or a value is out of bounds.
    """
    from pipeline.core.yaml_files import read_yaml

    content = read_yaml(path, "synthetic.bank")
    try:
        return _parse_bank(content)
    except UserError as error:
        raise UserError(f"synthetic.bank: {path}: {error}") from error


def open_bank(name: str, path: str | None = None, others: Collection[str] = ()) -> Bank:
    """Return the bank of a YAML file, or the default bank; for a name other than "bank", only the prior of that name.

    Args:
        path: the YAML file.
        others: other names that the user may choose, for the message.

    Raises:
        UserError: there is no such prior, or the file is invalid.
    """
    bank = default_bank() if path is None else read_bank(path)
    if name == "bank":
        return bank
    if name not in bank.weights:
        names = ", ".join([*others, "bank"])
        raise UserError(f"there is no prior {name!r}; choose {names}, or one of the priors {', '.join(bank.weights)}")
    return bank.single_prior(name)


def default_ranges(draw: Callable[..., Any]) -> Ranges:
    """Return the default ranges of a prior or an effect: its keyword-only arguments."""
    parameters = inspect.signature(draw).parameters.values()
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _parse_bank(content: Any) -> Bank:
    _check_mapping(content, "the file")
    for name in content:
        _check_name(name, ("blend", "priors", "effects"), "section")
    _check_mapping(content.get("priors"), "priors")
    _check_mapping(content.get("effects", {}), "effects")
    priors = {
        name: _parse_entry(name, settings, PRIORS, "prior", "weight", _LARGEST)
        for name, settings in content["priors"].items()
    }
    effects = {
        name: _parse_entry(name, settings, EFFECTS, "effect", "probability", 1.0)
        for name, settings in content.get("effects", {}).items()
    }
    weights = {name: weight for name, (weight, _) in priors.items()}
    if not sum(weights.values()) > 0:
        raise UserError("priors: the weights sum to 0; give at least one prior a weight above 0")
    # Effects act in the order of EFFECTS, not in that of the file.
    probabilities = {name: effects[name][0] for name in EFFECTS if name in effects}
    ranges = {name: entry_ranges for name, (_, entry_ranges) in [*priors.items(), *effects.items()]}
    return Bank(weights, probabilities, ranges, _parse_number(content.get("blend", 0.0), "blend", 1.0))


def _parse_entry(
    name: str, settings: Any, functions: Mapping[str, Callable[..., Any]], kind: str, share_key: str, max_share: float
) -> tuple[float, Ranges]:
    """Return the weight or probability of a prior or an effect, and its ranges."""
    _check_name(name, functions, kind)
    _check_mapping(settings, name)
    share = _parse_number(settings.get(share_key), f"{name}: {share_key}", max_share)
    ranges = default_ranges(functions[name])
    hints = get_type_hints(functions[name], include_extras=True)
    for key, value in settings.items():
        if key != share_key:
            _check_name(key, ranges, f"range of {name}")
            ranges[key] = _parse_range(value, hints[key].__metadata__[0], f"{name}: {key}")
    return share, ranges


def _parse_range(value: Any, bounds: Bounds, key: str) -> tuple[float, float]:
    ends = value if isinstance(value, list) else []
    if len(ends) != 2 or not all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in ends):
        raise UserError(f"{key} must be [low, high], got {value}")
    low, high = ends
    if not low <= high:
        raise UserError(f"{key} must be [low, high] with low at most high, got {value}")
    if not all(abs(end) <= _LARGEST for end in ends):
        raise UserError(f"{key}: low and high must be {bounds.description} and at most {_LARGEST:g}, got {value}")
    if not (bounds.contains(low) and bounds.contains(high)):
        raise UserError(f"{key}: low and high must be {bounds.description}, got {value}")
    return low, high


def _parse_number(value: Any, key: str, maximum: float) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= maximum:
        raise UserError(f"{key} must be a number of at least 0 and at most {maximum:g}, got {value}")
    return float(value)


def _check_mapping(value: Any, key: str) -> None:
    if not isinstance(value, dict):
        raise UserError(f"{key} must be a mapping of keys to values, as in config/bank.yaml; got {value}")


def _check_name(name: Any, known: Collection[str], kind: str) -> None:
    if name not in known:
        raise UserError(f"there is no {kind} {name!r}; choose one of {', '.join(known)}")
