"""The bank: rows that depend on nothing else, weights and probabilities, and the YAML file."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from support import ROOT

from pipeline.core.errors import UserError
from pipeline.synthetic.bank import Bank, default_bank, open_bank, read_bank
from pipeline.synthetic.draws import make_keys
from pipeline.synthetic.priors import PRIORS

CONFIG = ROOT / "config" / "bank.yaml"
WIDTH = 400


@pytest.mark.parametrize("name", [*PRIORS, "bank"])
def test_a_series_of_the_bank_does_not_depend_on_the_others(name):
    bank = default_bank() if name == "bank" else default_bank().single_prior(name)
    keys, lengths = make_keys(5, np.arange(60)), np.random.default_rng(0).integers(5, WIDTH + 1, 60)
    together = bank.draw(keys, lengths, WIDTH)
    for i in range(0, 60, 7):
        np.testing.assert_array_equal(bank.draw(keys[i : i + 1], lengths[i : i + 1], WIDTH)[0], together[i])


def test_a_single_prior_has_the_ranges_of_its_bank(tmp_path):
    (tmp_path / "bank.yaml").write_text("priors: {sarima: {weight: 2, period: [7, 7]}, growth: {weight: 0}}")
    bank = open_bank("sarima", str(tmp_path / "bank.yaml"))
    assert (bank.weights, bank.ranges["sarima"]["period"], bank.blend) == ({"sarima": 1.0}, (7, 7), 0.0)
    assert open_bank("sarima") == default_bank().single_prior("sarima") != bank


def test_priors_are_drawn_by_their_weights():
    """Intermittent series are recognized by their whole numbers, which a fractal does not have."""
    bank = replace(
        default_bank().single_prior("intermittent"), weights={"intermittent": 1.0, "fractal": 3.0, "growth": 0.0}
    )
    values = replace(bank, ranges={"intermittent": {}, "fractal": {}}).series(3000, 64, 0)
    share = (values == np.round(values)).all(axis=1).mean()
    assert abs(share - 0.25) < 4 * np.sqrt(0.1875 / 3000)


def test_an_effect_acts_on_its_share_of_the_series():
    bank = replace(
        default_bank().single_prior("fractal"), probabilities={"missing": 0.3}, ranges={"fractal": {}, "missing": {}}
    )
    share = np.isnan(bank.series(3000, 100, 0)).any(axis=1).mean()
    assert 0.2 < share < 0.3 + 4 * np.sqrt(0.21 / 3000)
    untouched = default_bank().single_prior("fractal").series(3000, 100, 0)
    clean = ~np.isnan(bank.series(3000, 100, 0)).any(axis=1)
    np.testing.assert_array_equal(bank.series(3000, 100, 0)[clean], untouched[clean])


@pytest.mark.parametrize("name", ["fractal", "energy", "growth"])
def test_a_blend_adds_a_draw_with_a_standard_deviation_of_a_tenth_to_all_of_the_first(name):
    alone, both = default_bank().single_prior(name), replace(default_bank().single_prior(name), blend=1.0)
    added = both.series(300, 500, 0) - alone.series(300, 500, 0)
    ratio = added.std(axis=1) / alone.series(300, 500, 0).std(axis=1)
    assert (ratio > 0.099).all() and (ratio < 1.001).all() and ratio.std() > 0.1


def test_the_shipped_file_is_the_default_bank():
    assert read_bank(CONFIG) == default_bank()


def test_a_file_replaces_the_bank_and_keeps_default_ranges(tmp_path):
    path = tmp_path / "bank.yaml"
    path.write_text(
        "priors: {sarima: {weight: 2, period: [7, 7]}, growth: {weight: 0}}\neffects: {unit: {probability: 0.5}}"
    )
    bank = read_bank(path)
    assert bank.weights == {"sarima": 2.0, "growth": 0.0} and bank.probabilities == {"unit": 0.5} and bank.blend == 0
    assert bank.ranges["sarima"]["period"] == (7, 7) and bank.ranges["sarima"]["root"] == (0.1, 0.97)
    assert np.isfinite(bank.series(20, 50, 0)).all()


@pytest.mark.parametrize(
    "change, fact",
    [
        (lambda c: c["priors"].update(arima={"weight": 1}), "'arima'"),
        (lambda c: c["effects"].update(hum={"probability": 1}), "'hum'"),
        (lambda c: c.update(prior={}), "'prior'"),
        (lambda c: c["priors"]["sarima"].update(roots=[0, 1]), "sarima 'roots'"),
        (lambda c: [settings.update(weight=0) for settings in c["priors"].values()], "priors: .* 0"),
        (lambda c: c.update(priors={}), "priors: .* 0"),
        (lambda c: c["priors"]["sarima"].update(weight=-1), "sarima: weight .*-1"),
        (lambda c: c["priors"]["sarima"].update(weight=True), "sarima: weight .*True"),
        (lambda c: c["priors"]["sarima"].update(weight=float("inf")), "sarima: weight .*inf"),
        (lambda c: c["priors"]["sarima"].pop("weight"), "sarima: weight .*None"),
        (lambda c: c["priors"]["sarima"].update(root=[0.2, 1.0]), r"sarima: root.* below 1.*\[0.2, 1.0\]"),
        (lambda c: c["priors"]["sarima"].update(root=[0.9, 0.2]), r"sarima: root .*\[0.9, 0.2\]"),
        (lambda c: c["priors"]["sarima"].update(root=0.5), r"sarima: root .*\[low, high\].* 0.5"),
        (lambda c: c["priors"]["sarima"].update(root=[0.5, float("nan")]), r"sarima: root .*\[0.5, nan\]"),
        (lambda c: c["priors"]["sarima"].update(period=[0, 5]), r"sarima: period.* 2 .*\[0, 5\]"),
        (lambda c: c["priors"]["regimes"].update(changes=[1.5, 2]), r"regimes: changes.* whole .*\[1.5, 2\]"),
        (lambda c: c["priors"]["regimes"].update(noise=[0, 2]), r"regimes: noise.* above 0.*\[0, 2\]"),
        (lambda c: c["effects"]["missing"].update(share=[5, 30]), r"missing: share.* below 1.*\[5, 30\]"),
        (lambda c: c["effects"]["outliers"].update(share=[0.1, 1]), r"outliers: share.* below 1.*\[0.1, 1\]"),
        (lambda c: c["effects"]["missing"].update(probability=1.5), "missing: probability .* 1, .*1.5"),
        (lambda c: c.update(blend=-0.1), "blend .*-0.1"),
        (lambda c: c.update(priors=[1]), "priors "),
        (lambda c: c["priors"].update(sarima=3), "sarima .* 3"),
    ],
)
def test_an_invalid_entry_is_refused_with_the_file_and_the_key(tmp_path, change, fact):
    content = yaml.safe_load(CONFIG.read_text())
    change(content)
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=f"wrong.yaml: .*{fact}"):
        read_bank(path)


@pytest.mark.parametrize("name, text", [("invalid.yaml", "priors: {"), ("absent.yaml", None)])
def test_an_unreadable_file_is_refused_by_name(tmp_path, name, text):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=name):
        read_bank(tmp_path / name)


def test_a_period_longer_than_the_series_is_refused():
    bank = Bank({"sarima": 1.0}, {}, {"sarima": {"period": (100, 200)}}, 0.0)
    bank.check_length(100)
    with pytest.raises(UserError, match="sarima: period: .*100.*99"):
        bank.check_length(99)


def test_a_series_that_is_too_large_for_a_model_is_refused():
    bank = default_bank().single_prior("calendar")
    bank.ranges["calendar"]["noise"] = (50.0, 100.0)  # the standard deviation of a logarithm
    with pytest.raises(UserError, match="synthetic.bank.*1e\\+18"):
        bank.series(20, 100, 0)
