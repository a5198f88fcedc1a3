"""Samplers that draw synthetic series and panels during training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.core.files import fingerprint
from pipeline.core.series import TARGET, UNIVARIATE
from pipeline.data.arrow_store import Store
from pipeline.data.covariates import smoothed_means
from pipeline.synthetic.bank import Bank
from pipeline.synthetic.draws import Draws, hash_words
from pipeline.synthetic.panels import Panels, draw_panels
from pipeline.windows.gather import last_windows
from pipeline.windows.samplers import Together, TogetherSampler

_CONTEXT_LENGTH, _LAYOUT, _FIRST_PANEL = 2, 3, 1 << 32
"""Counters that are hashed with the key of a batch. They give its context length, its layout, and the key of its first
panel; panel i has the counter `_FIRST_PANEL` + i."""
_FULL_CONTEXT_SHARE = 1 / 3
"""Share of the synthetic batches with the full context length. Set by hand: a larger one costs time, a smaller one
teaches less about long contexts."""


class SyntheticSampler:
    """Windows of synthetic series: each is the last part of a newly drawn series.

    A third of the batches have the full context length. The others have a context length that is log-uniform between
    `min_past` and the full one. It is the same for the whole batch, so that `TrainingWindows` can cut the padding off.
    """

    n_series = n_steps = 0
    variates = UNIVARIATE

    def __init__(self, bank: Bank, min_past: int) -> None:
        self.bank, self.min_past = bank, min_past

    @property
    def fingerprint(self) -> str:
        """Hash of the bank."""
        return fingerprint([], self.bank)

    @property
    def stores(self) -> list[Store]:
        """An empty list."""
        return []

    def draw(
        self, keys: np.ndarray, batch_keys: np.ndarray, context_length: int, prediction_length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw one window for each key, as `Sampler.draw` does."""
        width = context_length + prediction_length
        lengths = self._context_lengths(batch_keys, context_length) + prediction_length
        values = np.empty((len(keys), width), np.float32)
        for rows, drawn_width in _by_width(lengths, width):
            values[rows, :drawn_width] = self.bank.draw(keys[rows], lengths[rows], drawn_width)
        return last_windows(values, lengths, self.min_past, context_length, prediction_length)

    def _context_lengths(self, batch_keys: np.ndarray, full: int) -> np.ndarray:
        """Draw the context length of each window's batch, in steps: int64, [n]."""
        draws = Draws(hash_words(batch_keys, _CONTEXT_LENGTH))
        shortest = min(self.min_past, full)
        short = draws.log_uniform(shortest, full + 1).astype(np.int64).clip(shortest, full)
        return np.where(draws.chance(_FULL_CONTEXT_SHARE), full, short)[:, 0]

    def include_holdout(self) -> SyntheticSampler:
        """Return this sampler: synthetic series have no holdout."""
        return self


class PanelSampler(SyntheticSampler, TogetherSampler):
    """Batches of single synthetic series, and batches of synthetic panels.

    All panels of a batch have the same number of rows, but the last one is cut off where the batch ends. Every row is a
    window. Half of the batches have a horizon that is uniform between 1 and the full one, so that short horizons are
    trained too. No horizon is longer than the context of its batch.
    """

    panel_share = 0.4
    """Share of the batches with panels."""
    max_variates = 6

    @property
    def fingerprint(self) -> str:
        """Hash of the bank and the settings of the panels."""
        return fingerprint([], self.bank, "panels", self.panel_share, self.max_variates)

    def draw_together(
        self, keys: np.ndarray, batch_keys: np.ndarray, slots: np.ndarray, context_length: int, prediction_length: int
    ) -> Together:
        """Draw one window for each slot of a batch, as `TogetherSampler.draw_together` does.

        Values after the horizon of the batch are NaN in every row.
        """
        draws = Draws(hash_words(batch_keys, _LAYOUT))
        is_panel = draws.chance(self.panel_share)[:, 0]
        several = np.where(draws.chance(0.25), 2, draws.log_uniform(2, self.max_variates + 1).astype(np.int64))
        n_variates = np.where(is_panel, several[:, 0], 1)
        horizon = np.where(draws.chance(0.5), 1 + np.floor(draws.uniform() * prediction_length), prediction_length)
        horizon = np.minimum(horizon, self._context_lengths(batch_keys, context_length)[:, None])
        context = np.empty((len(keys), context_length), np.float32)
        target = np.empty((len(keys), prediction_length), np.float32)
        roles = np.full(len(keys), TARGET)
        for size in np.unique(n_variates):
            rows = np.flatnonzero(n_variates == size)
            if size == 1:
                context[rows], target[rows] = self.draw(keys[rows], batch_keys[rows], context_length, prediction_length)
            else:
                drawn = self._draw_panels(batch_keys[rows], slots[rows], size, context_length, prediction_length)
                context[rows], target[rows], roles[rows] = drawn
        target[np.arange(prediction_length) >= horizon] = np.nan
        return Together(context, target, np.where(is_panel, slots // n_variates, -1), roles)

    def _draw_panels(
        self, batch_keys: np.ndarray, slots: np.ndarray, n_variates: int, context_length: int, prediction_length: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return context, target and role of the panel row in each slot."""
        keys = hash_words(batch_keys, _FIRST_PANEL + slots // n_variates)
        _, first, panel = np.unique(keys, return_index=True, return_inverse=True)
        lengths = self._context_lengths(batch_keys[first], context_length) + prediction_length
        width = context_length + prediction_length
        values = np.empty((len(first), n_variates, width), np.float32)
        roles = np.empty((len(first), n_variates), np.int64)
        for chosen, drawn_width in _by_width(lengths, width):
            drawn = draw_panels(self.bank, keys[first[chosen]], lengths[chosen], drawn_width, n_variates)
            is_past = np.arange(drawn_width) < (lengths[chosen] - prediction_length)[:, None]
            values[chosen, :, :drawn_width] = encode_panel_categories(drawn, is_past)
            roles[chosen] = drawn.roles
        row = slots % n_variates
        windows = last_windows(values[panel, row], lengths[panel], self.min_past, context_length, prediction_length)
        return *windows, roles[panel, row]


def encode_panel_categories(panels: Panels, is_past: np.ndarray) -> np.ndarray:
    """Replace categories by smoothed means of the past target, as `encode_categories` does, in panels with one target.

    With several targets, categories stay integers. Returns values [n, n_variates, width].

    Args:
        is_past: whether a step is before the forecast start, bool, [n, width].
    """
    values = panels.values.copy()
    has_one_target = (panels.roles == TARGET).sum(axis=1, keepdims=True) == 1
    panel, row = np.nonzero(has_one_target & (panels.n_categories > 0))
    codes = values[panel, row].astype(np.int64)
    target = np.where(is_past[panel], values[panel, 0], np.nan)
    means = smoothed_means(codes, target, int(panels.n_categories.max(initial=0)))
    values[panel, row] = np.take_along_axis(means, codes, axis=1)
    return values


def _by_width(lengths: np.ndarray, width: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield positions and width of the series of at most a quarter of the width, then those of the others.

    The bank draws all rows of a call at one width, so two calls are faster.
    """
    is_short = lengths <= width // 4
    for rows, drawn_width in ((np.flatnonzero(is_short), width // 4), (np.flatnonzero(~is_short), width)):
        if len(rows):
            yield rows, drawn_width
