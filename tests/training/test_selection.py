import math

import pytest

from pipeline.evaluation.comparison import Comparison
from pipeline.training.selection import Candidate, Refit, describe, select

NAN, INF = math.nan, math.inf


def selected(base, trained, metric="wql"):
    """The selection between the base and step 9 with these scores by WQL; their other scores are 1."""
    scores = [{"wql": wql, "mase": 1.0, "loss": 1.0} for wql in (base, trained)]
    return select(Candidate(0, scores[0]), Candidate(9, scores[1]), metric)


def test_a_candidate_has_a_name_and_a_row():
    selection = selected(1.0, 0.5)
    assert (selection.base.name, selection.trained.name) == ("base", "step 9")
    assert selection.trained.row() == {"candidate": "step 9", "WQL": 0.5, "MASE": 1.0, "loss": 1.0}


@pytest.mark.parametrize("base, trained, is_trained", [
    (1.0, 0.999, True), (1.0, 1.0, False), (1.0, 1.001, False), (1.0, INF, False), (INF, 1.0, True),
    (1.0, NAN, False), (0.0, 0.0, False),
])  # fmt: skip
def test_the_model_with_the_lower_score_wins_and_the_base_wins_a_tie(base, trained, is_trained):
    selection = selected(base, trained)
    assert selection.is_trained is is_trained
    assert selection.winner is (selection.trained if is_trained else selection.base)
    assert not selected(base, trained, "mase").is_trained


@pytest.mark.parametrize("low, high, answer", [(0.5, 9.0, "Yes"), (-9.0, -0.5, "No"), (-1.0, 9.0, "Unclear"),
                                               (NAN, NAN, "Unclear")])  # fmt: skip
def test_the_verdict_has_the_answer_and_the_numbers(low, high, answer):
    verdict = describe(selected(1.0, 0.9), Comparison(4.4, low, high, 37, 40), None, "wql")
    assert verdict.startswith(f"{answer}: WQL 4.4% lower")
    assert "37 of 40 series" in verdict and "step 9" in verdict and "10.0%" in verdict


def test_the_verdict_names_the_saved_model():
    selection = selected(1.0, 0.95)
    saved, refused = (
        describe(selection, None, Refit(9, selection.trained.scores, saved=saved), "wql") for saved in (True, False)
    )
    assert "step 9, by WQL (5.0% lower)" in saved and saved != refused
    assert "The base itself" in describe(selected(1.0, 1.1), None, None, "wql")
    assert "MASE" in describe(selected(1.0, 0.9, "mase"), None, None, "mase")
    assert "Nothing was held out" in describe(None, None, None, "wql")


def test_the_row_of_a_retrained_winner_has_its_steps_and_its_scores_on_windows_that_it_has_seen():
    assert Refit(9, {"wql": 0.4, "mase": 0.5, "loss": 0.6}, saved=True).row() == {
        "steps": 9,
        "scores on seen windows": {"WQL": 0.4, "MASE": 0.5, "loss": 0.6},
        "saved": True,
    }
