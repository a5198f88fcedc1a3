import math

import pytest

from pipeline.evaluation.comparison import Comparison
from pipeline.training.selection import Candidate, Refit, Selection, describe, select

NAN, INF = math.nan, math.inf


def candidates(base, blend, trained):
    """The candidates of step 9 with these scores by WQL; their other scores are 1."""
    scores = {0.0: base, 0.5: blend, 1.0: trained}
    return [Candidate(9 if alpha else 0, alpha, {"wql": scores[alpha], "mase": 1.0, "loss": 1.0}) for alpha in scores]


def test_a_candidate_has_a_name_and_a_row():
    base, blend, trained = candidates(1.0, 0.75, 0.5)
    assert [each.name for each in (base, blend, trained)] == ["base", "base + 0.5 (step 9 - base)", "step 9"]
    assert trained.row() == {"candidate": "step 9", "WQL": 0.5, "MASE": 1.0, "loss": 1.0}
    assert "0.5000" in trained.describe()


@pytest.mark.parametrize("scores, alpha", [
    ((1.0, 0.9, 0.71), 0.5),  # the trained model is better by 19% of the base's score
    ((1.0, 0.9, 0.69), 1.0),
    ((2.0, 1.9, 1.51), 0.5),
    ((2.0, 1.9, 1.49), 1.0),
    ((1.0, 0.99, 1.2), 0.5),
    ((1.0, 1.0, 0.95), 0.0),
    ((1.0, 1.01, 0.85), 0.0),
    ((1.0, 1.3, 0.5), 1.0),  # from random weights, halfway may be worse
    ((1.0, 1.3, 1.1), 0.0),
    ((1.0, INF, INF), 0.0),
    ((1.0, 0.9, INF), 0.5),
    ((0.0, 0.0, 0.0), 0.0),
])  # fmt: skip
def test_the_blend_wins_unless_the_base_is_better_or_the_trained_model_far_better(scores, alpha):
    assert select(candidates(*scores), "wql").winner.alpha == alpha
    assert select(candidates(*scores), "mase").winner.alpha == 0


@pytest.mark.parametrize("low, high, answer", [(0.5, 9.0, "Yes"), (-9.0, -0.5, "No"), (-1.0, 9.0, "Unclear"),
                                               (NAN, NAN, "Unclear")])  # fmt: skip
def test_the_verdict_has_the_answer_and_the_numbers(low, high, answer):
    scored = candidates(1.0, 0.9, 0.85)
    verdict = describe(Selection(scored, scored[1]), Comparison(4.4, low, high, 37, 40), None, "wql")
    assert verdict.startswith(f"{answer}: WQL 4.4% lower")
    assert "37 of 40 series" in verdict and "step 9" in verdict and "10.0%" in verdict


def test_the_verdict_names_the_saved_model():
    scored = candidates(1.0, 0.95, 0.9)
    selected = Selection(scored, scored[1])
    saved, rejected = (
        describe(selected, None, Refit(scored[1], scored[1].scores, saved=saved), "wql") for saved in (True, False)
    )
    assert "base + 0.5 (step 9 - base), by WQL (5.0% lower)" in saved and saved != rejected
    assert "The base itself" in describe(Selection(scored, scored[0]), None, None, "mase")
    assert "MASE" in describe(Selection(scored, scored[0]), None, None, "mase")
    assert "Nothing was held out" in describe(None, None, None, "wql")


def test_the_row_of_a_retrained_winner_has_its_steps_and_its_scores_on_windows_that_it_has_seen():
    winner = candidates(1.0, 0.9, 0.8)[1]
    assert Refit(winner, {"wql": 0.4, "mase": 0.5, "loss": 0.6}, saved=True).row() == {
        "steps": 9,
        "alpha": 0.5,
        "scores on seen windows": {"WQL": 0.4, "MASE": 0.5, "loss": 0.6},
        "saved": True,
    }
