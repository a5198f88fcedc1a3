"""Synthetic panels: rows that depend on their key only, shares of variance, lags, and rows that do not act."""

import numpy as np
import pytest

from pipeline.synthetic.bank import Bank, default_bank
from pipeline.synthetic.draws import make_keys
from pipeline.synthetic.panels import KNOWN, PAST, TARGET, draw_panels

WHITE = Bank({"fractal": 1.0}, {}, {"fractal": {"exponent": (0.0, 0.0)}}, blend=0.0)
WIDTH, LAGS = 2000, range(-30, 65)


def draw(n, n_variates, bank=WHITE, width=WIDTH, **settings):
    return draw_panels(bank, make_keys(3, np.arange(n)), np.full(n, width), width, n_variates, **settings)


def target_of(panel):
    """Return the first target; a quarter of the panels is exponential."""
    return np.log(panel[0]) if panel[0].min() > 0 else panel[0]


def explained_by_lag(y, x):
    """Return the R^2 of regressions of y on the bins of x at each of the lags."""
    edges = np.unique(np.quantile(x, np.linspace(0, 1, 21)[1:-1]))
    bins = np.searchsorted(edges, x, side="right") if len(np.unique(x)) > 20 else np.unique(x, return_inverse=True)[1]
    shares = []
    for lag in LAGS:
        code, part = bins[64 - lag : WIDTH - 30 - lag], y[64 : WIDTH - 30]
        count = np.bincount(code)
        means = np.bincount(code, part) / np.maximum(count, 1)
        shares.append((count * (means - part.mean()) ** 2).sum() / ((part - part.mean()) ** 2).sum())
    return np.array(shares)


def explained(y, x):
    """Return the greatest R^2 over the lags."""
    return explained_by_lag(y, x).max()


@pytest.mark.parametrize("n_variates", [1, 2, 5])
def test_a_panel_does_not_depend_on_the_others(n_variates):
    keys, lengths = make_keys(5, np.arange(30)), np.random.default_rng(0).integers(12, 301, 30)
    together = draw_panels(default_bank(), keys, lengths, 300, n_variates)
    assert together.values.shape == (30, n_variates, 300) and together.values.dtype == np.float32
    for i in range(0, 30, 4):
        alone = draw_panels(default_bank(), keys[i : i + 1], lengths[i : i + 1], 300, n_variates)
        for field, expected in zip(alone, together):
            np.testing.assert_array_equal(field[0], expected[i])


def test_rows_are_targets_then_past_then_known_covariates():
    roles = draw(600, 4, width=40).roles
    assert (roles[:, 0] == TARGET).all() and (np.diff(roles) >= 0).all() and set(roles.ravel()) == {TARGET, PAST, KNOWN}
    n_targets = (roles == TARGET).sum(axis=1)
    assert abs((n_targets == 4).mean() - 0.15) < 0.05 and abs((n_targets == 1).mean() - 0.75) < 0.08
    assert (draw(50, 1, width=40).roles == TARGET).all()


def test_categories_are_positions_and_targets_are_numbers():
    panels = draw(300, 3, bank=default_bank(), width=200)
    for values, roles, numbers in zip(panels.values, panels.roles, panels.n_categories):
        assert (numbers[roles == TARGET] == 0).all()
        for row in np.flatnonzero(numbers):
            assert set(np.unique(values[row])) <= set(range(numbers[row]))
    share = (panels.n_categories[panels.roles == KNOWN] > 0).mean()
    assert abs(share - 0.2) < 0.08


@pytest.mark.parametrize("role, acts_by_itself", [(KNOWN, True), (PAST, False)])
def test_a_covariate_that_acts_explains_its_share_of_the_variance(role, acts_by_itself):
    panels = draw(300, 2, shared=(0, 0), explained=(0.5, 0.5), acting=1.0)
    chosen = np.flatnonzero(
        (panels.roles[:, 1] == role) & panels.acts[:, 1] & (np.ptp(panels.values[:, 1], axis=1) > 0)
    )
    shares = np.array([explained(target_of(panels.values[i]), panels.values[i, 1]) for i in chosen])
    assert len(chosen) > 30 and abs(np.median(shares) - 0.5) < 0.05 and (np.abs(shares - 0.5) < 0.15).mean() > 0.85
    assert (panels.acts == (panels.roles == KNOWN))[panels.roles != PAST].all()


def test_a_covariate_that_does_not_act_explains_nothing():
    panels = draw(200, 2, shared=(0, 0), acting=0.0)
    chosen = np.flatnonzero((panels.roles[:, 1] != TARGET) & (np.ptp(panels.values[:, 1], axis=1) > 0))
    shares = [explained(target_of(panels.values[i]), panels.values[i, 1]) for i in chosen]
    assert len(chosen) > 80 and np.median(shares) < 0.04 and not panels.acts.any()


def correlation(a, b):
    """Return the greatest absolute correlation over relative lags of at most 64 steps, and its lag."""
    lags = np.arange(-64, 65)
    values = [np.corrcoef(a[64:-64], b[64 + lag : WIDTH - 64 + lag])[0, 1] for lag in lags]
    best = np.abs(values).argmax()
    return abs(values[best]), lags[best]


def test_related_targets_share_a_lagged_factor():
    panels = draw(400, 2, shared=(0.8, 0.8))
    pairs = [np.log(p) if p.min() > 0 else p for p in panels.values[(panels.roles == TARGET).all(axis=1)]]
    found = np.array([correlation(*pair) for pair in pairs])
    related = found[:, 0] > 0.6
    assert abs(related.mean() - 2 / 3) < 0.12 and abs(np.median(found[related, 0]) - 0.8) < 0.02
    assert 0.4 < (found[related, 1] != 0).mean() < 0.8  # neither has a lag in 0.36 of the pairs


def test_pairs_of_random_walks_are_cointegrated():
    """Both wander, their halves have other means; the difference of two that load alike does not."""
    panels = draw(1200, 2, shared=(0.8, 0.8))
    pairs = [np.log(p) if p.min() > 0 else p for p in panels.values[(panels.roles == TARGET).all(axis=1)]]
    pairs = [(a, b) for a, b in pairs if abs(a[: WIDTH // 2].mean() - a[WIDTH // 2 :].mean()) > 0.8]
    gaps = [a - np.sign(np.corrcoef(a, b)[0, 1]) * b for a, b in pairs]
    wandering = [abs(gap[: WIDTH // 2].mean() - gap[WIDTH // 2 :].mean()) for gap in gaps]
    assert len(pairs) > 15 and np.quantile(wandering, 0.8) < 0.3


def test_a_covariate_acts_from_eight_steps_before_to_64_after_its_time():
    panels = draw(300, 2, shared=(0, 0), explained=(0.9, 0.9), acting=1.0)
    best: dict[int, list[int]] = {PAST: [], KNOWN: []}
    for values, roles, acts in zip(panels.values, panels.roles, panels.acts):
        if acts[1] and len(np.unique(values[1])) > 20:  # categories and holidays may be periodic
            shares = explained_by_lag(target_of(values), values[1])
            if shares.max() > 0.5:
                best[roles[1]].append(LAGS[shares.argmax()])
    assert -8 <= min(best[KNOWN]) < 0 and 0 == min(best[PAST]) and max(best[PAST] + best[KNOWN]) > 32
