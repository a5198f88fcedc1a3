from dataclasses import replace

import numpy as np

from pipeline.synthetic.bank import default_bank
from pipeline.synthetic.effects import EFFECTS
from pipeline.synthetic.gallery import DESCRIPTIONS, draw_gallery, gallery_figure
from pipeline.synthetic.priors import PRIORS

BANK = replace(default_bank(), weights={"growth": 1.0, "sarima": 1.0}, probabilities={"missing": 0.1, "positive": 0.1})


def rows(figure):
    """Return the values of the lines of each example, by the name of its row."""
    axes = np.array(figure.axes).reshape(-1, 5)
    return {label.texts[0].get_text(): [[line.get_ydata() for line in axis.lines] for axis in examples]
            for label, *examples in axes}  # fmt: skip


def test_the_gallery_is_a_png_file(tmp_path):
    draw_gallery(BANK, 40, 0, tmp_path / "g.png")
    assert (tmp_path / "g.png").read_bytes()[:4] == b"\x89PNG"


def test_examples_of_priors_are_series_of_at_most_200_steps():
    growth = rows(gallery_figure(BANK, 1024, 3))["growth"]
    expected = default_bank().single_prior("growth").series(4, 200, 3)
    np.testing.assert_array_equal([values for (values,) in growth], expected)


def test_an_effect_is_drawn_over_series_that_it_changes():
    drawn = rows(gallery_figure(BANK, 80, 0))
    for before, after in drawn["effect: missing"]:
        assert np.isnan(after).any() and np.isfinite(before).all()
        np.testing.assert_array_equal(after[np.isfinite(after)], before[np.isfinite(after)])
    for before, after in drawn["effect: positive"]:
        assert before.min() < 0
        np.testing.assert_array_equal(after, np.maximum(before, 0))


def test_every_prior_and_effect_has_a_description():
    assert DESCRIPTIONS.keys() == {*PRIORS, *EFFECTS}
