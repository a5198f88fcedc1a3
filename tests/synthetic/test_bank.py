"""The bank: rows that depend on nothing else, priors that are what their formulas say, and the YAML file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from pipeline.core.errors import UserError
from pipeline.synthetic import components
from pipeline.synthetic.bank import Bank, default_bank, open_bank, read_bank
from pipeline.synthetic.draws import Draws, keys_of
from pipeline.synthetic.effects import EFFECTS
from pipeline.synthetic.gallery import draw_gallery
from pipeline.synthetic.priors import PRIORS

CONFIG = Path(__file__).parents[2] / "config" / "bank.yaml"
WIDTH = 400


def stream(n, seed=0):
    return Draws(keys_of(seed, np.arange(n)))


def drawn(name, n=200, width=WIDTH, seed=0, **ranges):
    return PRIORS[name](stream(n, seed), np.full((n, 1), width), width, **ranges).astype(np.float64)


@pytest.mark.parametrize("name", [*PRIORS, "bank"])
def test_a_row_does_not_depend_on_the_others(name):
    bank = default_bank() if name == "bank" else default_bank().of_prior(name)
    keys, lengths = keys_of(5, np.arange(60)), np.random.default_rng(0).integers(5, WIDTH + 1, 60)
    together = bank.draw(keys, lengths, WIDTH)
    for i in range(0, 60, 7):
        np.testing.assert_array_equal(bank.draw(keys[i : i + 1], lengths[i : i + 1], WIDTH)[0], together[i])


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("width", [5, 60, 1500])
def test_values_are_finite_and_change(name, width):
    values = drawn(name, 150, width)
    assert values.shape == (150, width) and np.isfinite(values).all() and np.abs(values).max() < 1e7
    assert (np.ptp(values, axis=1) > 0).mean() > (0.5 if name == "intermittent" or width == 5 else 0.95)
    assert not (values == drawn(name, 150, width, seed=1)).all(axis=1)[np.ptp(values, axis=1) > 0].any()


def test_a_prior_alone_has_the_ranges_of_its_bank(tmp_path):
    (tmp_path / "bank.yaml").write_text("priors: {sarima: {weight: 2, period: [7, 7]}, growth: {weight: 0}}")
    bank = open_bank("sarima", str(tmp_path / "bank.yaml"))
    assert (bank.weights, bank.ranges["sarima"]["period"], bank.blend) == ({"sarima": 1.0}, (7, 7), 0.0)
    assert open_bank("sarima") == default_bank().of_prior("sarima") != bank


def test_priors_are_drawn_by_their_weights():
    """Priors that are told by their values: counts are whole, a fractal has unit variance and is not."""
    bank = replace(
        default_bank().of_prior("intermittent"), weights={"intermittent": 1.0, "fractal": 3.0, "growth": 0.0}
    )
    values = replace(bank, ranges={"intermittent": {}, "fractal": {}}).series(3000, 64, 0)
    share = (values == np.round(values)).all(axis=1).mean()
    assert abs(share - 0.25) < 4 * np.sqrt(0.1875 / 3000)


def test_effects_act_on_their_share():
    bank = replace(
        default_bank().of_prior("fractal"), probabilities={"missing": 0.3}, ranges={"fractal": {}, "missing": {}}
    )
    hit = np.isnan(bank.series(3000, 100, 0)).any(axis=1).mean()
    assert 0.2 < hit < 0.3 + 4 * np.sqrt(0.21 / 3000)
    untouched = default_bank().of_prior("fractal").series(3000, 100, 0)
    clean = ~np.isnan(bank.series(3000, 100, 0)).any(axis=1)
    np.testing.assert_array_equal(bank.series(3000, 100, 0)[clean], untouched[clean])


@pytest.mark.parametrize("name", ["fractal", "energy", "growth"])
def test_a_blend_adds_a_second_draw_of_at_most_the_same_variance(name):
    alone, both = default_bank().of_prior(name), replace(default_bank().of_prior(name), blend=1.0)
    added = both.series(300, 500, 0) - alone.series(300, 500, 0)
    ratio = added.std(axis=1) / alone.series(300, 500, 0).std(axis=1)
    assert (ratio > 0.099).all() and (ratio < 1.001).all() and ratio.std() > 0.1


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.95])
def test_autoregressive_noise_has_unit_variance_and_its_memory(memory):
    x = components.autoregressive(stream(400).white(1000), np.full((400, 1), memory)).astype(np.float64)
    assert abs(x[:, 0].var() - 1) < 0.3 and abs(x[:, -1].var() - 1) < 0.3
    for lag in (1, 3):
        assert abs((x[:, lag:] * x[:, :-lag]).mean() - memory**lag) < 0.05
    assert components.autoregressive(np.ones((1, 3), np.float32), np.array([[0.6]])) == pytest.approx(
        np.array([[1, 0.6 + 0.8, 0.6 * 1.4 + 0.8]])
    )


def test_a_shape_is_read_linearly_and_repeats_exactly():
    shapes = components.shape(stream(5))
    np.testing.assert_allclose(shapes.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(shapes.std(axis=1), 1, atol=1e-5)
    place = np.random.default_rng(0).random((5, 300)).astype(np.float32)
    expected = [np.interp(p, np.arange(513) / 512, [*s, s[0]]) for s, p in zip(shapes, place)]
    np.testing.assert_allclose(components.wave(shapes, place), expected, atol=1e-4)
    place = components.phase(np.arange(2000), np.full((5, 1), 168.0), np.full((5, 1), 1234.5))
    values = components.wave(shapes, place)
    np.testing.assert_array_equal(values[:, 168:], values[:, :-168])


def test_seasons_lie_in_their_range_and_show_twice():
    for low, high, length in ((2, 730, 400), (3, 30, 90), (10, 500, 64), (300, 700, 400)):
        short, long = components.seasons(stream(500), np.full((500, 1), length), (low, high))
        assert (short <= min(high, max(length / 2, min(low, length / 2)))).all() and (long >= short).all()
        assert (short >= min(low, length // 2)).all() and (len(np.unique(short)) > 2 or low > length / 2)
    short, _ = components.seasons(stream(2000), np.full((2000, 1), 1000), (2, 730), arbitrary=0.0)
    assert {24, 12, 7, 48, 4} <= set(short.ravel())


def test_segments_are_counted_by_a_plain_loop():
    segment = components.segments(stream(300), np.full((300, 1), 80), 80, (2, 5))
    steps = np.diff(segment, axis=1)
    assert (segment[:, 0] <= 1).all() and (steps >= 0).all()
    assert (segment[:, -1] >= 2).all() and (segment[:, -1] <= 5).all() and len(np.unique(segment[:, -1])) == 4


def test_slow_is_a_broken_line():
    values = components.slow(stream(200), np.full((200, 1), 120), 120, (1, 6)).astype(np.float64)
    bends = (np.abs(np.diff(values, 2, axis=1)) > 1e-3).sum(axis=1)
    assert bends.max() <= 2 * 6 and 0.4 < values[:, 0].std() < 1.6


def test_templates_repeat_their_week_exactly_where_nothing_else_moves():
    calm = {"noise": (1e-12, 1e-12), "drift": (1e-12, 1e-12), "period": (24, 24)}
    values = drawn("templates", 300, 24 * 7 * 4, **calm)
    repeats = np.abs(values[:, 168:] - values[:, :-168]).max(axis=1) < 1e-5
    assert repeats.mean() > 0.15  # the others have days of their own, or weeks of another number of days
    weekly = values[repeats]
    daily = np.abs(weekly[:, 24:] - weekly[:, :-24]).max(axis=1) < 1e-5
    assert 0.05 < daily.mean() < 0.95


def test_solar_power_rests_at_night_and_its_days_are_as_alike_as_the_weather():
    alike = {}
    for memory in (0.0, 0.95):
        values = drawn("energy", 2000, 288 * 8, weather=(memory, memory))
        solar = values[((values >= 0).all(axis=1)) & ((values == 0).mean(axis=1) > 0.2)]
        assert abs(len(solar) / 2000 - 1.5 / 9.5) < 4 * np.sqrt(0.158 * 0.842 / 2000)
        starts = ((solar[:, :-1] == 0) & (solar[:, 1:] > 0)).sum(axis=1)
        by_hour = solar[starts >= 90].reshape(-1, 96, 24)  # 96 days of 24 steps, and as many dawns
        peaks = by_hour.max(axis=2)
        alike[memory] = np.mean([np.corrcoef(x[:-1], x[1:])[0, 1] for x in peaks])
    assert alike[0.95] > alike[0.0] + 0.2


def test_demand_that_neither_noise_nor_weather_moves_has_two_kinds_of_days():
    values = drawn("energy", 4000, 24 * 57, noise=(1e-9, 1e-9)).round(5)
    by_hour = np.sort(values.reshape(4000, 57, 24), axis=1)
    calm = values[(np.diff(by_hour, axis=1) > 0).sum(axis=1).max(axis=1) == 1]
    share = 4 / 9.5 * 6 / 11 * 0.4**2  # of demand by the hour, those that neither heat nor cool
    assert share - 4 * np.sqrt(share / 4000) < len(calm) / 4000 < 2 * share
    changed = (calm[:, 24:] != calm[:, :-24]).mean(axis=1)
    weekly = changed > 0.2
    assert abs(weekly.mean() - 0.7) < 0.2 and abs(np.median(changed[weekly]) - 2 / 7) < 0.08
    at_rest = [min(np.unique(week.reshape(57, 24)[:, 0], return_counts=True)[1]) for week in calm[weekly]]
    assert abs(np.median(at_rest) / 57 - 2 / 7) < 0.08


def test_prices_bend_as_they_are_asked_to():
    straight, bent = (stats.kurtosis(drawn("energy", 500, 600, convexity=(bend, bend)), axis=1) for bend in (1e-6, 1.5))
    assert (bent - straight)[bent != straight].min() > -3 and np.median((bent - straight)[bent != straight]) > 2


def test_a_calendar_knows_weekends_and_closed_days():
    values = drawn("calendar", 600, 1400, noise=(1e-9, 1e-9), yearly=(1e-9, 1e-9))
    by_weekday = np.stack([np.median(values[:, day::7], axis=1) for day in range(7)], axis=1)
    zeros = (by_weekday == 0).sum(axis=1)
    assert set(np.unique(zeros)) <= {0, 1, 2} and 0.1 < (zeros == 2).mean() < 0.35


def test_sarima_is_stable_and_has_its_season():
    values = drawn("sarima", 300, 1200, period=(12, 12))
    assert np.abs(values).max() < 60
    season = [np.corrcoef(x[12:] - x[:-12], np.r_[0, np.diff(x)][12:])[0, 1] for x in values]
    assert np.isfinite(season).all()
    spectra = np.abs(np.fft.rfft(values - values.mean(axis=1, keepdims=True)))
    at_season = sum(spectra[:, 100 * k] for k in range(1, 6)) / spectra.mean(axis=1)
    beside = sum(spectra[:, 100 * k + 31] for k in range(1, 6)) / spectra.mean(axis=1)
    assert np.median(at_season) > 3 * np.median(beside)


def test_ornstein_uhlenbeck_forgets_at_its_rate():
    x = drawn("ornstein_uhlenbeck", 400, 1000, relaxation=(20, 20), season=(0, 0))
    flat = x[np.abs(x[:, :500].mean(axis=1) - x[:, 500:].mean(axis=1)) < 0.6]
    assert abs((flat[:, 20:] * flat[:, :-20]).mean() / (flat**2).mean() - np.exp(-1)) < 0.08


def test_brownian_motion_spreads_like_the_root_of_time():
    x = drawn("brownian", 3000, 200, drift=(0.3, 0.3), deviation=(0.2, 0.2))
    geometric = (x > 0).all(axis=1) & (np.abs(np.log(np.maximum(x, 1e-9))[:, 0]) < 0.1)
    logs = np.where(geometric[:, None], np.log(np.maximum(x, 1e-9)), x - 1)
    assert abs(x[:, -1].mean() - (0.6 * np.exp(0.3 + 0.02) + 0.4 * 1.3)) < 0.03
    increments = np.diff(logs, axis=1) * np.sqrt(200)
    assert abs(np.median(increments.std(axis=1)) - 0.2) < 0.03


def test_a_fractal_has_the_spectrum_of_its_exponent():
    for exponent in (0.5, 1.5):
        x = drawn("fractal", 300, 2048, exponent=(exponent, exponent))
        power = (np.abs(np.fft.rfft(x * np.hanning(2048))) ** 2).mean(axis=0)
        f = np.arange(20, 500)
        assert abs(np.polyfit(np.log(f), np.log(power[f]), 1)[0] + exponent) < 0.1


def test_intermittent_demand_occurs_at_its_rate_in_whole_numbers():
    x = drawn("intermittent", 400, 500, demand=(0.2, 0.2), size=(20, 20))
    assert (x == np.round(x)).all() and (x >= 0).all()
    assert 0.7 < (x == 0).mean() < 0.88 and 15 < x[x > 0].mean() < 35


def test_growth_saturates_or_rises():
    x = drawn("growth", 300, 500, waves=(1, 1), noise=(1e-9, 1e-9))
    assert (x > 0).all()
    monotone = (np.diff(x, axis=1) >= -1e-9).all(axis=1)
    assert 0.3 < monotone.mean() < 0.95


def test_spikes_and_heavy_tails_have_more_far_values_than_a_normal_distribution():
    for name in ("spikes", "heavy_tails", "volatility"):
        assert np.median(stats.kurtosis(drawn(name, 200, 1000), axis=1)) > 1


def test_regimes_shift():
    x = drawn("regimes", 300, 500, noise=(1e-3, 1e-3), jump=(5, 5))
    largest = np.abs(np.diff(x, axis=1)).max(axis=1)
    assert np.median(largest) > 2 and np.median(np.abs(np.diff(x, axis=1))) < 0.5


def affected(name, values, lengths=None, **ranges):
    n = len(values)
    lengths = np.full((n, 1), values.shape[1]) if lengths is None else lengths
    return EFFECTS[name](stream(n, 9), values, lengths, **ranges)


def test_effects_do_what_they_say():
    x = np.random.default_rng(0).normal(5, 2, (300, 400))
    skewed = affected("skew", x)
    assert (skewed > 0).all() and (stats.skew(skewed, axis=1) > stats.skew(x, axis=1)).all()
    raised = affected("level", x, height=(3, 3))
    np.testing.assert_allclose(np.abs(raised.mean(axis=1)), 3 * x.std(axis=1), rtol=1e-6)
    assert 0 < (raised.mean(axis=1) < 0).mean() < 0.15
    moved = affected("outliers", x, share=(0.01, 0.01), size=(10, 10)) != x
    assert abs(moved.mean() - 0.01) < 0.002
    cut = affected("censoring", x, bound=(1, 1))
    at = np.isclose(cut, cut.max(axis=1, keepdims=True)) | np.isclose(cut, cut.min(axis=1, keepdims=True))
    assert (np.abs(at.mean(axis=1) - stats.norm.sf(1)) < 0.08).all()
    assert (affected("positive", x) == np.maximum(x, 0)).all() and (affected("positive", x - 20) == x - 20).all()
    rounded = affected("rounding", x, resolution=(2, 2)) / (x.std(axis=1, keepdims=True) / 2)
    np.testing.assert_allclose(rounded, np.round(rounded), atol=1e-6)
    scale = affected("unit", x, scale=(0.1, 1000)) / x
    assert np.allclose(scale, scale[:, :1]) and scale.min() < 1 and scale.max() > 100
    lost = np.isnan(affected("missing", x, share=(0.2, 0.2), stretches=(2, 2)))
    pieces = (np.diff(lost.astype(int), axis=1) == 1).sum(axis=1) + lost[:, 0]
    assert abs(lost.mean() - 0.2) < 0.03 and 0.3 < (pieces <= 2).mean() < 0.7 and pieces.max() > 20


def test_effects_measure_a_row_within_its_length():
    x = np.random.default_rng(0).normal(5, 2, (40, 100))
    x[:, 50:] = 1e6
    inside = np.full((40, 1), 50)
    for name in ("skew", "level", "censoring", "rounding"):
        np.testing.assert_allclose(
            affected(name, x, inside)[:, :50], affected(name, x[:, :50]), rtol=1e-9, err_msg=name
        )


def test_the_file_holds_the_default_bank():
    assert read_bank(CONFIG) == default_bank()


def test_a_file_is_the_bank(tmp_path):
    path = tmp_path / "bank.yaml"
    path.write_text(
        "priors: {sarima: {weight: 2, period: [7, 7]}, growth: {weight: 0}}\neffects: {unit: {probability: 0.5}}"
    )
    bank = read_bank(path)
    assert bank.weights == {"sarima": 2.0, "growth": 0.0} and bank.probabilities == {"unit": 0.5} and bank.blend == 0
    assert bank.ranges["sarima"]["period"] == (7, 7) and bank.ranges["sarima"]["root"] == (0.1, 0.97)
    assert np.isfinite(bank.series(20, 50, 0)).all()


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda c: c["priors"].update(arima={"weight": 1}), "no prior 'arima'"),
        (lambda c: c["effects"].update(hum={"probability": 1}), "no effect 'hum'"),
        (lambda c: c.update(prior={}), "no section 'prior'"),
        (lambda c: c["priors"]["sarima"].update(roots=[0, 1]), "no range of sarima 'roots'"),
        (lambda c: [one.update(weight=0) for one in c["priors"].values()], "sum to 0"),
        (lambda c: c.update(priors={}), "sum to 0"),
        (lambda c: c["priors"]["sarima"].update(weight=-1), "sarima: weight"),
        (lambda c: c["priors"]["sarima"].update(weight=True), "sarima: weight"),
        (lambda c: c["priors"]["sarima"].update(weight=float("inf")), "sarima: weight"),
        (lambda c: c["priors"]["sarima"].pop("weight"), "sarima: weight"),
        (lambda c: c["priors"]["sarima"].update(root=[0.2, 1.0]), "below 1"),
        (lambda c: c["priors"]["sarima"].update(root=[0.9, 0.2]), "low end"),
        (lambda c: c["priors"]["sarima"].update(root=0.5), r"\[low, high\]"),
        (lambda c: c["priors"]["sarima"].update(root=[0.5, float("nan")]), "low end"),
        (lambda c: c["priors"]["sarima"].update(period=[0, 5]), "at least 2 steps"),
        (lambda c: c["priors"]["regimes"].update(changes=[1.5, 2]), "whole"),
        (lambda c: c["priors"]["regimes"].update(noise=[0, 2]), "above 0"),
        (lambda c: c["effects"]["missing"].update(probability=1.5), "at most 1"),
        (lambda c: c.update(blend=-0.1), "blend"),
        (lambda c: c.update(priors=[1]), "priors must hold keys"),
        (lambda c: c["priors"].update(sarima=3), "sarima must hold keys"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, change, said):
    content = yaml.safe_load(CONFIG.read_text())
    change(content)
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=f"wrong.yaml: .*{said}"):
        read_bank(path)


def test_a_file_that_does_not_parse_is_refused(tmp_path):
    (tmp_path / "b.yaml").write_text("priors: {")
    for path, said in ((tmp_path / "b.yaml", "no valid YAML"), (tmp_path / "none.yaml", "cannot read")):
        with pytest.raises(UserError, match=said):
            read_bank(path)


def test_a_period_longer_than_the_series_is_refused():
    bank = Bank({"sarima": 1.0}, {}, {"sarima": {"period": (100, 200)}}, 0.0)
    bank.check_length(100)
    with pytest.raises(UserError, match="sarima: period: a season of 100 steps"):
        bank.check_length(99)


def test_the_gallery_is_a_picture(tmp_path):
    draw_gallery(replace(default_bank(), weights={"growth": 1.0, "sarima": 1.0}), 40, 0, tmp_path / "g.png")
    assert (tmp_path / "g.png").read_bytes()[:4] == b"\x89PNG"
