import math

import numpy as np
import pytest

from pipeline.evaluation.comparison import Comparison
from pipeline.training.selection import (
    Candidate,
    Refit,
    Selection,
    candidates_from_log,
    checkpoint_to_keep,
    describe,
    select,
)

NAN = math.nan


def candidate(step, score, alpha=1.0, mase=None, loss=None):
    return Candidate(step, alpha, {"wql": score, "mase": mase or score, "loss": loss or score})


def candidates(*scores):
    """The base and the checkpoints of steps 1, 2, ... with the same score by every metric."""
    return [candidate(step, score, alpha=float(step > 0)) for step, score in enumerate(scores)]


def test_the_log_has_the_base_and_the_checkpoints():
    scores = {"eval_wql": 1.0, "eval_mase": 2.0, "eval_loss": 3.0}
    log = [{"step": 0, **scores}, {"step": 1, "loss": 0.5}, {"step": 2, **scores, "eval_wql": 0.9}]
    base, checkpoint = candidates_from_log(log)
    assert (base.step, base.alpha, base.name) == (0, 0.0, "base")
    assert (checkpoint.step, checkpoint.alpha, checkpoint.name) == (2, 1.0, "step 2")
    assert checkpoint.scores == {"wql": 0.9, "mase": 2.0, "loss": 3.0}
    assert checkpoint.row() == {"candidate": "step 2", "WQL": 0.9, "MASE": 2.0, "loss": 3.0}


@pytest.mark.parametrize("scores, will_refit, step", [
    ([1.0, 0.8, 0.5, 0.599], True, 3),  # 80.2% of the best gain
    ([1.0, 0.8, 0.5, 0.601], True, 2),  # 79.8% of the best gain
    ([1.0, 0.8, 0.5, 0.599], False, 2),
    ([1.0, 0.59, 0.5, 0.7], True, 2),  # earlier checkpoints give no more steps
    ([1.0, 1.1, 1.2, 1.001], True, 0),
    ([1.0, 1.0, 1.0], True, 0),
    ([math.inf, 0.5, math.inf], True, 1),
    ([1.0, math.inf, 0.9], True, 2),
])  # fmt: skip
def test_the_latest_checkpoint_with_four_fifths_of_the_best_gain_is_kept_for_retraining(scores, will_refit, step):
    assert checkpoint_to_keep(candidates(*scores), "wql", will_refit=will_refit).step == step


def test_the_kept_checkpoint_has_the_best_score_by_the_metric():
    scored = [candidate(0, 1.0), candidate(1, 0.9, mase=0.5), candidate(2, 0.5, mase=0.9)]
    assert checkpoint_to_keep(scored, "wql", will_refit=False).step == 2
    assert checkpoint_to_keep(scored, "mase", will_refit=False).step == 1


@pytest.mark.parametrize("scores, kept, blend, winner, reason", [
    ([1.0, 0.8, 0.5], 2, 0.7, (2, 1.0), "best"),
    ([1.0, 0.8, 0.5, 0.599], 3, 0.7, (3, 1.0), "longest"),
    ([1.0, 0.8, 0.5, 0.53], 3, 0.4, (3, 0.5), "best"),
    ([1.0, 0.8, 0.5, 0.59], 3, 0.58, (3, 0.5), "longest"),
    ([1.0, 1.1, 1.2], 2, 1.05, (0, 0.0), "base"),
    ([1.0, 1.0], 1, 1.0, (0, 0.0), "base"),
    ([1.0, math.inf], 1, math.inf, (0, 0.0), "base"),
])  # fmt: skip
def test_the_winner_has_the_lowest_score_of_the_base_the_kept_checkpoint_and_its_blends(
    scores, kept, blend, winner, reason
):
    scored = candidates(*scores)
    blends = [candidate(kept, blend, alpha=0.5)]
    selection = select(scored, scored[kept], blends, "wql", cap_blends=False)
    assert (selection.winner.step, selection.winner.alpha, selection.reason) == (*winner, reason)
    assert selection.candidates == [*scored, *blends]


@pytest.mark.parametrize("mase, loss, half, cap_blends, alpha", [
    (0.939, 0.7, 0.8, True, 1.0),  # a gain of 6.1% is more than a fifth of the 30% in loss
    (0.941, 0.7, 0.8, True, 0.5),
    (0.941, 0.7, 0.8, False, 1.0),
    (0.941, 0.7, 1.1, True, 1.0),  # no blend near the base is better than the base
    (NAN, 0.7, 0.8, True, 1.0),  # MASE is not defined
    (1.001, 0.98, 0.99, True, 0.5),
    (1.001, 0.982, 0.99, True, 1.0),  # the gains differ by 1.9%
])  # fmt: skip
def test_a_checkpoint_whose_metrics_disagree_gives_way_to_a_blend_near_the_base(mase, loss, half, cap_blends, alpha):
    base = Candidate(0, 0.0, {"wql": 1.0, "mase": NAN if np.isnan(mase) else 1.0, "loss": 1.0})
    kept = Candidate(5, 1.0, {"wql": loss, "mase": mase, "loss": loss})
    blends = [
        candidate(5, score, alpha=weight) for weight, score in ((0.25, 1.2), (0.5, half), (0.75, (loss + half) / 2))
    ]
    selection = select([base, kept], kept, blends, "loss", cap_blends=cap_blends)
    assert (selection.winner.step, selection.winner.alpha) == (5, alpha)
    assert selection.reason == ("disagree" if alpha == 0.5 else "best")


def test_the_nearest_blends_compete_by_the_metric():
    base, kept = candidate(0, 1.0, alpha=0.0), candidate(5, 0.7, mase=1.1)
    blends = [candidate(5, 0.8, alpha=0.25), candidate(5, 0.9, alpha=0.5)]
    assert select([base, kept], kept, blends, "wql", cap_blends=True).winner.alpha == 0.25


@pytest.mark.parametrize("low, high, answer", [(0.5, 9.0, "Yes"), (-9.0, -0.5, "No"), (-1.0, 9.0, "Unclear"),
                                               (NAN, NAN, "Unclear")])  # fmt: skip
def test_the_verdict_has_the_answer_and_the_numbers(low, high, answer):
    base, kept = candidates(1.0, 0.9)
    verdict = describe(Selection([base, kept], kept, "best"), Comparison(4.4, low, high, 37, 40), None, "wql")
    assert verdict.startswith(f"{answer}: WQL 4.4% lower")
    assert "37 of 40 series" in verdict and "step 1" in verdict and "10.0%" in verdict


def test_the_verdict_names_the_saved_model():
    base, kept = candidates(1.0, 0.9)
    blend = candidate(1, 0.95, alpha=0.5)
    selected = Selection([base, kept, blend], blend, "disagree")
    saved, rejected = (
        describe(selected, None, Refit(blend, blend.scores, saved=saved), "loss") for saved in (True, False)
    )
    assert "base + 0.5 (step 1 - base), by loss (5.0% lower)" in saved and "disagree" in saved and saved != rejected
    assert "The base itself" in describe(Selection([base, kept], base, "base"), None, None, "mase")
    assert "MASE" in describe(Selection([base, kept], base, "base"), None, None, "mase")
    assert "Nothing was held out" in describe(None, None, None, "wql")


def test_the_row_of_a_retrained_winner_has_its_steps_and_its_scores_on_windows_that_it_has_seen():
    winner = candidate(7, 0.5, alpha=0.25)
    assert Refit(winner, {"wql": 0.4, "mase": 0.5, "loss": 0.6}, saved=True).row() == {
        "steps": 7,
        "alpha": 0.25,
        "scores on seen windows": {"WQL": 0.4, "MASE": 0.5, "loss": 0.6},
        "saved": True,
    }
