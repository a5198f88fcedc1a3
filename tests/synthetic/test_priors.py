"""Priors against the properties that their formulas imply: spectra, moments, periods, counts."""

import numpy as np
import pytest
from scipy import stats

from pipeline.synthetic.draws import Draws, make_keys
from pipeline.synthetic.priors import PRIORS

WIDTH = 400


def draw(name, n=200, width=WIDTH, seed=0, **ranges):
    stream = Draws(make_keys(seed, np.arange(n)))
    return PRIORS[name](stream, np.full((n, 1), width), width, **ranges).astype(np.float64)


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("width", [5, 60, 1500])
def test_values_are_finite_vary_and_depend_on_the_seed(name, width):
    values = draw(name, 150, width)
    assert values.shape == (150, width) and np.isfinite(values).all() and np.abs(values).max() < 1e7
    assert (np.ptp(values, axis=1) > 0).mean() > (0.5 if name == "intermittent" or width == 5 else 0.95)
    same = (values == draw(name, 150, width, seed=1)).all(axis=1)[np.ptp(values, axis=1) > 0]
    assert same.sum() <= (15 if width == 5 else 0)  # few exact repeats of five steps are different


def test_templates_without_noise_repeat_their_week_exactly():
    calm = {"noise": (1e-12, 1e-12), "drift": (1e-12, 1e-12), "period": (24, 24)}
    values = draw("templates", 300, 24 * 7 * 4, **calm)
    repeats = np.abs(values[:, 168:] - values[:, :-168]).max(axis=1) < 1e-5
    assert repeats.mean() > 0.15  # the others have daily levels, or weeks of another number of days
    weekly = values[repeats]
    daily = np.abs(weekly[:, 24:] - weekly[:, :-24]).max(axis=1) < 1e-5
    assert 0.05 < daily.mean() < 0.95


def repeated_period(values, longest):
    """Return the shortest period that each row repeats bit for bit; 0 if there is none."""
    periods = np.zeros(len(values), int)
    for period in range(longest, 0, -1):
        periods[(values[:, period:] == values[:, :-period]).all(axis=1)] = period
    return periods


def test_repeats_are_exact_at_calendar_periods_and_at_others():
    values = draw("repeats", 600, 1000)
    periods = repeated_period(values, 500)
    found = periods[periods > 1]
    plain, noiseless, no_trend = 0.5, 1 / 3, 0.75
    share = plain * noiseless * no_trend
    assert 0.9 * share < len(found) / 600 < 2 * share  # drift leaves a few, and weeks repeat as well
    assert {7, 12, 24} <= set(found) and (found % 2 == 1).mean() > 0.1 and (found > 100).mean() > 0.1


def test_repeats_are_rough_sparse_or_stepwise():
    values = draw("repeats", 1000, 1000, period=(96, 96), noise=(1e-12, 1e-12))
    cycles = values[repeated_period(values, 500) == 96][:, :96]
    change = np.diff(cycles, axis=1)
    mode = np.array([np.unique(x, return_counts=True)[1].max() for x in cycles])
    sparse, stepwise = mode > 60, ((change == 0).mean(axis=1) > 0.5) & (mode <= 60)
    roughness = (change**2).mean(axis=1) / 2  # that of white noise is its variance, 1
    shortest = draw("repeats", 1000, 300, period=(3, 3), noise=(1e-12, 1e-12))
    assert (np.ptp(shortest, axis=1) < 1e-9).mean() < 0.03  # noise clipped at all three phases; levels differ
    assert len(cycles) > 50 and sparse.mean() > 0.1 and stepwise.mean() > 0.05 and (roughness > 0.8).mean() > 0.15


def test_weeks_of_repeats_have_days_of_one_shape_and_unequal_levels():
    """The seven days are sums of three rows: shapes A and B, and the constant that is left of the mean."""
    values = draw("repeats", 1500, 24 * 7 * 5, period=(24, 24), noise=(1e-12, 1e-12))
    weekly = values[repeated_period(values, 168) == 168][:, : 24 * 7]
    ranks = [min(np.linalg.matrix_rank(np.roll(week, k).reshape(7, 24), 1e-4) for k in range(24)) for week in weekly]
    assert len(weekly) > 30 and max(ranks) == 3 and np.mean(ranks) > 2


def test_drift_blends_one_shape_into_another():
    flat, moving = (draw("repeats", 300, 960, drift=(size, size), noise=(1e-12, 1e-12)) for size in (1e-9, 2.0))
    changed = np.abs(flat - moving).max(axis=1) > 0.1
    assert abs(changed.mean() - 0.2) < 0.08
    assert repeated_period(np.round(moving[changed], 5), 480).max() == 0


def test_ramps_hold_after_their_end():
    calm = {"noise": (1e-9, 1e-9), "season": (1e-9, 1e-9), "changes": (1, 1), "duration": (0.2, 0.2)}
    x = draw("ramps", 400, 500, end=(0.5, 0.5), **calm)
    moved = np.abs(x[:, 249] - x[:, 0])
    assert np.abs(x[:, :140] - x[:, :1]).max() < 1e-6 and np.median(moved) > 0.3
    after = np.abs(x[:, 300:] - x[:, 300:301]).max(axis=1) / np.maximum(moved, 1e-3)
    # A quarter is 1 - exp(-4 x), which has exp(-4 x 1.5) = 0.0025 to go half a ramp after its end.
    assert abs((after < 1e-5).mean() - 0.75) < 4 * np.sqrt(3 / 16 / 400) and after.max() < 0.01
    ongoing = draw("ramps", 400, 500, end=(1.1, 1.1), **calm)
    assert (np.abs(np.diff(ongoing[:, -20:])) > 0).all(axis=1).mean() > 0.95


def test_states_change_at_their_rate():
    x = draw("states", 600, 1000, changes=(20, 20))
    noiseless = x[(np.diff(x) == 0).mean(axis=1) > 0.5]
    assert abs(len(noiseless) / 600 - 0.6) < 4 * np.sqrt(0.24 / 600)
    changes = (np.diff(noiseless) != 0).sum(axis=1)
    switched = np.isin(noiseless, (0, 1)).all(axis=1)
    assert 10 < np.median(changes) < 40 and changes.max() < 90
    assert 0.2 < switched.mean() < 0.45 and abs(noiseless[switched].mean() - 0.5) < 0.1


def test_solar_power_is_zero_at_night_and_its_peaks_follow_the_memory_of_the_weather():
    n, similarity = 800, {}
    for memory in (0.0, 0.95):
        values = draw("energy", n, 288 * 8, weather=(memory, memory))
        solar = values[((values >= 0).all(axis=1)) & ((values == 0).mean(axis=1) > 0.2)]
        assert abs(len(solar) / n - 1.5 / 9.5) < 4 * np.sqrt(0.158 * 0.842 / n)
        sunrises = ((solar[:, :-1] == 0) & (solar[:, 1:] > 0)).sum(axis=1)
        by_hour = solar[sunrises >= 90].reshape(-1, 96, 24)  # 96 days of 24 steps
        peaks = by_hour.max(axis=2)
        similarity[memory] = np.mean([np.corrcoef(x[:-1], x[1:])[0, 1] for x in peaks])
    assert similarity[0.95] > similarity[0.0] + 0.2


def test_demand_without_noise_and_weather_has_work_and_rest_days():
    n = 1500
    values = draw("energy", n, 24 * 57, noise=(1e-9, 1e-9)).round(5)
    by_hour = np.sort(values.reshape(n, 57, 24), axis=1)
    calm = values[(np.diff(by_hour, axis=1) > 0).sum(axis=1).max(axis=1) == 1]
    share = 4 / 9.5 * 6 / 11 * 0.4**2  # hourly demand without heating and cooling
    assert share - 4 * np.sqrt(share / n) < len(calm) / n < 2 * share
    changed = (calm[:, 24:] != calm[:, :-24]).mean(axis=1)
    weekly = changed > 0.2
    assert abs(weekly.mean() - 0.7) < 0.2 and abs(np.median(changed[weekly]) - 2 / 7) < 0.08
    n_rest = [min(np.unique(week.reshape(57, 24)[:, 0], return_counts=True)[1]) for week in calm[weekly]]
    assert abs(np.median(n_rest) / 57 - 2 / 7) < 0.08


def test_convexity_makes_the_tails_of_prices_heavier():
    linear, convex = (
        stats.kurtosis(draw("energy", 500, 600, convexity=(convexity, convexity)), axis=1) for convexity in (1e-6, 1.5)
    )
    increase = (convex - linear)[convex != linear]
    assert increase.min() > -3 and np.median(increase) > 2


def test_a_calendar_has_weekdays_and_closed_weekends():
    values = draw("calendar", 600, 1400, noise=(1e-9, 1e-9), yearly=(1e-9, 1e-9))
    by_weekday = np.stack([np.median(values[:, day::7], axis=1) for day in range(7)], axis=1)
    zeros = (by_weekday == 0).sum(axis=1)
    assert set(np.unique(zeros)) <= {0, 1, 2} and 0.1 < (zeros == 2).mean() < 0.35


def test_sarima_is_stable_and_has_power_at_its_season():
    values = draw("sarima", 300, 1200, period=(12, 12))
    assert np.abs(values).max() < 60
    season = [np.corrcoef(x[12:] - x[:-12], np.r_[0, np.diff(x)][12:])[0, 1] for x in values]
    assert np.isfinite(season).all()
    spectra = np.abs(np.fft.rfft(values - values.mean(axis=1, keepdims=True)))
    at_season = sum(spectra[:, 100 * k] for k in range(1, 6)) / spectra.mean(axis=1)
    beside = sum(spectra[:, 100 * k + 31] for k in range(1, 6)) / spectra.mean(axis=1)
    assert np.median(at_season) > 3 * np.median(beside)


def test_ornstein_uhlenbeck_has_the_autocorrelation_of_its_relaxation_time():
    x = draw("ornstein_uhlenbeck", 400, 1000, relaxation=(20, 20), season=(0, 0))
    flat = x[np.abs(x[:, :500].mean(axis=1) - x[:, 500:].mean(axis=1)) < 0.6]
    assert abs((flat[:, 20:] * flat[:, :-20]).mean() / (flat**2).mean() - np.exp(-1)) < 0.08


def test_brownian_motion_has_the_moments_of_its_drift_and_deviation():
    x = draw("brownian", 4000, 200, drift=(0.3, 0.3), deviation=(0.2, 0.2), season=(0, 0))
    geometric = (x > 0).all(axis=1) & (np.abs(np.log(np.maximum(x, 1e-9))[:, 0]) < 0.1)
    logs = np.where(geometric[:, None], np.log(np.maximum(x, 1e-9)), x - 1)
    expected = 0.6 * np.exp(0.02) * (1 + np.exp(0.3)) / 2 + 0.4 * (1 + 0.15)  # half of the series have no drift
    assert abs(x[:, -1].mean() - expected) < 0.03
    increments = np.diff(logs, axis=1) * np.sqrt(200)
    assert abs(np.median(increments.std(axis=1)) - 0.2) < 0.03


def test_a_third_of_the_random_walks_have_a_season():
    calm = draw("brownian", 600, 600, deviation=(1, 1), season=(0, 0))
    seasonal = draw("brownian", 600, 600, deviation=(1, 1), season=(2, 2))
    assert abs((np.abs(calm - seasonal).max(axis=1) > 0.1).mean() - 1 / 3) < 4 * np.sqrt(2 / 9 / 600)


def test_a_fractal_has_the_spectrum_of_its_exponent():
    for exponent in (0.5, 1.5):
        x = draw("fractal", 300, 2048, exponent=(exponent, exponent))
        power = (np.abs(np.fft.rfft(x * np.hanning(2048))) ** 2).mean(axis=0)
        f = np.arange(20, 500)
        assert abs(np.polyfit(np.log(f), np.log(power[f]), 1)[0] + exponent) < 0.1


def test_intermittent_demand_occurs_at_its_rate_in_whole_numbers():
    x = draw("intermittent", 400, 500, demand=(0.2, 0.2), size=(20, 20))
    assert (x == np.round(x)).all() and (x >= 0).all()
    assert 0.7 < (x == 0).mean() < 0.88 and 15 < x[x > 0].mean() < 35


def test_a_share_of_growth_curves_is_monotone():
    x = draw("growth", 300, 500, waves=(1, 1), noise=(1e-9, 1e-9))
    assert (x > 0).all()
    monotone = (np.diff(x, axis=1) >= -1e-9).all(axis=1)
    assert 0.3 < monotone.mean() < 0.95


def test_spikes_volatility_and_heavy_tails_have_excess_kurtosis():
    for name in ("spikes", "heavy_tails", "volatility"):
        assert np.median(stats.kurtosis(draw(name, 200, 1000), axis=1)) > 1


def test_regimes_have_rare_large_jumps():
    x = draw("regimes", 300, 500, noise=(1e-3, 1e-3), jump=(5, 5))
    largest = np.abs(np.diff(x, axis=1)).max(axis=1)
    assert np.median(largest) > 2 and np.median(np.abs(np.diff(x, axis=1))) < 0.5


def test_demand_beyond_any_count_is_drawn_without_an_error():
    assert np.isfinite(draw("intermittent", 20, size=(1e20, 1e20))).all()
