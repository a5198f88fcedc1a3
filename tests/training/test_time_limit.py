"""training.time_limit: the steps that fit, from measured seconds of a step and of an evaluation."""

import json
from dataclasses import replace

import pytest
from support.runs import prepared

from pipeline.core.errors import UserError
from pipeline.training import time_limit
from pipeline.training.checkpointing import RunFolder
from pipeline.training.fit import first_phase, phase_arguments
from pipeline.training.prepare import prepare_run
from pipeline.training.time_limit import limit_steps


@pytest.fixture
def limited(tiny, tmp_path, monkeypatch):
    """Return a function that limits a run of 1,000 steps, 2 s after its start, with the clock stopped."""

    def limit(seconds, measured, refit=True):
        trainer, windows = prepared(tiny["bolt"], max_steps=1000, time_limit=seconds, refit=refit)
        run = prepare_run(trainer.config, trainer.checkpoint, windows, "auto")
        monkeypatch.setattr(time_limit, "_measure", lambda run: measured)
        monkeypatch.setattr(time_limit.time, "monotonic", lambda: 102.0)
        return limit_steps(run, RunFolder(tmp_path / "out"), begin=100.0)

    return limit


def test_steps_retraining_scores_and_saving_fit_into_the_limit(limited):
    step, scoring = 0.5, 20.0
    run = limited(200.0, (step, scoring))
    available = 200 - 2 - scoring - time_limit._SAVING * 200
    assert run.recipe.steps == int(available / (2 * time_limit._STEP_MARGIN * step)) == 149
    assert "149 steps" in run.recipe.description and "200 seconds; 1000 steps" in run.recipe.description
    assert limited(200.0, (step, scoring), refit=False).recipe.steps == 299
    assert limited(1e5, (step, scoring)).recipe.steps == 1000
    assert limited(None, None).recipe.steps == 1000


def test_a_limit_without_time_for_a_step_is_refused_with_one_that_has(limited):
    with pytest.raises(
        UserError, match="training.time_limit: 20 seconds are too few; 2 have passed.*at least 24,"
    ) as e:
        limited(20.0, (0.5, 20.0))
    assert "\n" not in str(e.value)
    assert limited(24.0, (0.5, 20.0)).recipe.steps == 1


def test_a_killed_run_keeps_the_steps_that_it_began_with(limited, tmp_path):
    run = limited(200.0, (0.5, 20.0))
    folder = RunFolder(tmp_path / "out")
    settings = run.identity(phase_arguments(run, first_phase(run, folder)))
    (tmp_path / "out/checkpoints").mkdir(parents=True)
    (tmp_path / "out/checkpoints/run.json").write_text(json.dumps(settings | {"steps": 7}))
    assert limited(200.0, (0.5, 20.0)).recipe.steps == 7
    assert limited(300.0, (0.5, 20.0)).recipe.steps > 7
    for other in ({"base model": "another"}, {"arithmetic": "bf16 on cuda"}):
        (tmp_path / "out/checkpoints/run.json").write_text(json.dumps(settings | {"steps": 7} | other))
        assert limited(200.0, (0.5, 20.0)).recipe.steps == 149


@pytest.mark.parametrize("family, optimizer", [("bolt", "adamw"), ("t5", "adamw"), ("chronos-2", "muon")])
def test_a_step_and_an_evaluation_are_measured_and_leave_the_weights_alone(tiny, tmp_path, family, optimizer):
    trainer, windows = prepared(tiny[family], refit=True, optimizer=optimizer)
    run = prepare_run(trainer.config, trainer.checkpoint, windows, "auto")
    step, scoring = time_limit._measure(run)
    assert step > 0 and scoring > 0
    arguments = phase_arguments(run, first_phase(run, RunFolder(tmp_path)))
    assert time_limit._n_evaluations(run, arguments) == 3 + 1  # base and steps 2 and 4; the retrained model
    without = replace(run, validation=None)
    assert time_limit._measure(without)[1] == 0
    assert time_limit._measure(replace(without, previous=run.validation))[1] > 0
