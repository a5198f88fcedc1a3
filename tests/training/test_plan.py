from pathlib import Path

import numpy as np
import pytest
from support.runs import prepared

from pipeline.core.errors import UserError


def test_the_dry_run_prints_nine_facts_and_writes_nothing(tiny, run_script, csv, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    arguments = ["--base", "scratch:bolt-nano", csv, "--output", "out", "--training.context_length", 64]
    settings = ["--training.batch_size", 24, "--method", "lora"]
    code, out, err = run_script("train", "--dry_run", *arguments, *settings)
    assert code == 0, err
    horizon, shortage, *plan = out.splitlines()
    assert "30 steps" in horizon and "6 series" in shortage and len(plan) == 9
    for fact in ("24 windows x 1", "6 series", "3000 steps", "3000 more steps", "horizon 30", "MB", "out"):
        assert fact in "\n".join(plan)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("eval_steps, every", [(0.5, 10), (5, 5), (0.07, 2)])
def test_evaluations_may_be_a_fraction_of_the_steps(tiny, eval_steps, every):
    settings = {"eval_steps": eval_steps, "save_steps": eval_steps}
    trainer, windows = prepared(tiny["bolt"], max_steps=20, trainer=settings)
    plan = trainer.plan(windows, epochs="auto")
    assert plan.evaluated_every == every
    assert f"every {every} steps" in "\n".join(plan.lines(Path("out")))


def test_the_plan_counts_weights_and_series(tiny):
    trainer, windows = prepared(tiny["bolt"], data=np.random.default_rng(0).normal(size=(4, 200)), method="lora")
    plan = trainer.plan(windows, epochs="auto")
    assert plan.n_series == 4 and 0 < plan.n_trained < plan.n_weights
    assert plan.memory.gradients == 4 * plan.n_trained and plan.memory.weights == 4 * plan.n_weights
    without, _ = prepared(tiny["bolt"], validation_split=0.0)
    plan = without.plan(prepared(tiny["bolt"], validation_split=0.0)[1], epochs="auto")
    assert plan.evaluated_every == 0 and plan.n_trained == plan.n_weights


def test_the_plan_is_refused_as_the_run_would_be(tiny, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("cat")
    trainer, windows = prepared(tiny["bolt"], tmp_path / "photos")
    with pytest.raises(UserError, match="training.output_path.*photos"):
        trainer.plan(windows, epochs="auto")
    trainer, windows = prepared(tiny["bolt"], freeze=["*"])
    with pytest.raises(UserError, match="training.freeze"):
        trainer.plan(windows, epochs="auto")


def test_the_dry_run_with_another_base_than_the_one_in_the_default_folder_writes_nothing(run_script, csv, tmp_path):
    assert run_script("base_model", "--base_model.model_name", "scratch:bolt-nano")[0] == 0
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run_script("train", "--dry_run", "--base", "scratch:t5-nano", csv, "--training.context_length", 64)
    assert code == 0 and "t5" in out, err
    assert sorted(tmp_path.rglob("*")) == before
