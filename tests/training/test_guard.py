"""The guard: candidates on held-out steps, the base never made worse, and the second training."""

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from chronos import BaseChronosPipeline
from support.runs import SHORT, info, logged, same, scored, trained, weights
from support.series import long_frame

from pipeline.config import Config, TrainingConfig
from pipeline.core.errors import UserError
from pipeline.data.arrow_store import store_from_arrays
from pipeline.data.source import open_source
from pipeline.models.builtin import builtin_folder
from pipeline.train_model import ChronosTrainer
from pipeline.training.checkpointing import RunFolder
from pipeline.training.selection import Refit, choose, verdict
from pipeline.training.trainer import BaseIsFirstBest


@pytest.mark.parametrize("family", ["bolt", "t5", "gpt2", "chronos-2"])
def test_a_trained_checkpoint_is_stock_and_validates_better_than_its_base(nano, tmp_path, family):
    steps = {"bolt": 6, "chronos-2": 6, "t5": 60, "gpt2": 60}[family]
    settings = {"validation_windows": 6, "max_steps": steps, "refit": False}
    trainer = trained(nano[family], tmp_path / "out", tmp_path, **settings)
    pipeline = BaseChronosPipeline.from_pretrained(tmp_path / "out")
    assert np.isfinite(np.asarray(pipeline.predict_quantiles([torch.arange(60.0)], prediction_length=8)[1][0])).all()
    candidates = info(tmp_path / "out")["candidates"]
    every = max(1, steps // 10)
    assert [candidate["candidate"] for candidate in candidates] == [
        "base",
        *(f"step {step}" for step in range(every, steps + 1, every)),
        *(f"base + {share} ({best_step(candidates)} - base)" for share in (0.25, 0.5, 0.75)),
    ]
    best = min(candidates, key=lambda candidate: candidate["loss"])
    assert best["loss"] < candidates[0]["loss"] and best["candidate"] in trainer.verdict
    saved = trainer.evaluate_model((None, trainer_validation(trainer, tmp_path)))
    assert saved["WQL"] == pytest.approx(best["WQL"], rel=1e-5)


def best_step(candidates):
    """The checkpoint that blends are made with."""
    steps = [candidate for candidate in candidates if not candidate["candidate"].startswith("base +")]
    best = min(steps, key=lambda candidate: candidate["loss"])["candidate"]
    return steps[-1]["candidate"] if best == "base" else best


def trainer_validation(trainer, tmp_path):
    return trainer.prepare_training_data([open_source(long_frame(), tmp_path / "cache")])[1]


@pytest.mark.parametrize("family", ["bolt", "t5", "chronos-2"])
def test_adapters_that_are_no_numbers_any_more_save_the_base_itself_to_the_last_bit(nano, tmp_path, family):
    settings = {"method": "lora", "learning_rate": 1e38, "max_steps": 3, "validation_windows": 6}
    trainer = trained(nano[family], tmp_path / "out", tmp_path, **settings)
    assert not np.isfinite(info(tmp_path / "out")["candidates"][-1]["WQL"])
    assert "so the base itself is saved" in trainer.verdict
    assert same(weights(tmp_path / "out"), weights(nano[family]))


def test_a_rate_far_too_high_saves_the_base_itself_to_the_last_bit(nano, tmp_path):
    better = trained(nano["bolt"], tmp_path / "better", tmp_path, max_steps=60)
    assert "is saved" in better.verdict
    ruined = trained(tmp_path / "better", tmp_path / "ruined", tmp_path, learning_rate=50.0, max_steps=4)
    assert "so the base itself is saved" in ruined.verdict
    assert same(weights(tmp_path / "ruined"), weights(tmp_path / "better"))


@pytest.mark.parametrize("family", ["bolt", "t5"])
def test_weights_that_are_no_numbers_any_more_are_infinitely_bad(nano, tmp_path, family):
    trainer = trained(nano[family], tmp_path / "out", tmp_path, learning_rate=1e38, max_steps=2, validation_windows=6)
    _, first, *others = info(tmp_path / "out")["candidates"]  # the first step's rate is 0
    assert all(one["WQL"] == one["MASE"] == one["loss"] == np.inf for one in others) and np.isfinite(first["WQL"])
    assert "so the base itself is saved" in trainer.verdict
    assert same(weights(tmp_path / "out"), weights(nano[family]))


def validated(base, arrays, **training):
    """The scores of a base, and what came of a step, on the held-out steps of several data sets."""
    trainer = ChronosTrainer(str(base))
    config = Config()
    settings = {**SHORT, "max_steps": 1, "prediction_length": 4, "refit": False, "metric": "wql", **training}
    trainer.config = replace(config, training=replace(config.training, **settings))
    stores = [store_from_arrays(one) for one in arrays]
    trainer.train_model(trainer.prepare_training_data(stores))
    return trainer.candidates[0].scores


def test_a_data_set_that_defines_no_score_leaves_the_others_theirs(nano):
    wave = 5 + np.sin(np.arange(60.0))
    ended = np.where(np.arange(60) < 40, wave, 0.0)
    alone = validated(nano["bolt"], [wave[None]], validation_split=0.2)
    beside = validated(nano["bolt"], [wave[None], ended[None]], validation_split=0.2)
    assert beside["wql"] == pytest.approx(alone["wql"], rel=1e-5)
    with pytest.raises(UserError, match="training.metric wql: .* their targets are 0"):
        validated(nano["bolt"], [ended[None]], validation_split=0.2)
    assert np.isnan(validated(nano["bolt"], [ended[None]], validation_split=0.2, metric="mase")["wql"])


def test_the_validation_loss_is_that_of_windows_that_training_could_have_drawn(nano):
    wave = 5 + np.sin(np.arange(60.0))
    idle = np.where(np.arange(60) < 59, 0.0, 1.0)  # one sale after a constant context
    alone, beside = (validated(nano["bolt"], [np.stack(rows)])["loss"] for rows in ([wave], [wave, idle]))
    assert beside == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_winner_is_trained_again_on_the_steps_that_were_held_out(nano, tmp_path, method):
    """The last step wins, so that the second training is one that holds nothing out."""
    settings = {"blends": [], "metric": "wql", "method": method, "learning_rate": {"full": 1e-3, "lora": 1e-2}[method]}
    trainer = trained(nano["bolt"], tmp_path / "out", tmp_path, **settings)
    trained(nano["bolt"], tmp_path / "all", tmp_path, validation_split=0.0, **settings)
    trained(nano["bolt"], tmp_path / "held_out", tmp_path, refit=False, **settings)
    assert "step 6 won" in trainer.verdict and "held-out steps too" in trainer.verdict
    assert same(weights(tmp_path / "out"), weights(tmp_path / "all"))
    assert not same(weights(tmp_path / "out"), weights(tmp_path / "held_out"))
    refit = info(tmp_path / "out")["refit"]
    seen = refit["scores on steps it has seen"]
    assert refit["saved"] and seen["WQL"] <= info(tmp_path / "held_out")["candidates"][-1]["WQL"]


def test_a_second_training_ends_where_the_winner_stood_and_is_blended_as_it_was(nano, tmp_path, monkeypatch):
    scored(monkeypatch, 1.0, 0.9, 0.5, 0.8, 0.3, 0.2)  # the base, steps 2, 4, 6, a blend of step 4, the second training
    trained(nano["bolt"], tmp_path / "out", tmp_path, blends=[0.25], trainer={"eval_steps": 2})
    refit, last = info(tmp_path / "out")["refit"], RunFolder(tmp_path / "out").refit.last_checkpoint()
    assert (refit["steps"], refit["share"], refit["saved"]) == (4, 0.25, True)
    assert refit["scores on steps it has seen"]["WQL"] == 0.2
    assert last.name == "checkpoint-4"
    tuned, base, saved = weights(last), weights(nano["bolt"]), weights(tmp_path / "out")
    for name in saved:
        torch.testing.assert_close(saved[name], base[name].lerp(tuned[name], 0.25))
    assert logged(tmp_path / "out" / "refit", "learning_rate") == logged(tmp_path / "out", "learning_rate")[:4]


@pytest.mark.parametrize("refit, scores, said", [  # of the base, steps 1, 2, 3, a blend of one, and the second training
    (True, [1.0, 0.8, 0.5, 0.599, 0.7, 0.4], "of step 3 won: .* Step 2 has 0.5, .* bears more steps"),
    (True, [1.0, 0.8, 0.5, 0.601, 0.7, 0.4], "of step 2 won: .* 50.0% lower. What is saved"),
    (True, [1.0, 0.8, 0.5, 0.53, 0.4, 0.3], r"blend base \+ 0.5 \(step 3 - base\) won: .* 60.0% lower. What"),
    (True, [1.0, 0.8, 0.5, 0.59, 0.58, 0.3], r"blend base \+ 0.5 \(step 3 - base\) won: .* Step 2 has 0.5,"),
    (False, [1.0, 0.8, 0.5, 0.501, 0.7], "of step 2 is saved: .* 50.0% lower.$"),
    (True, [1.0, 1.1, 1.2, 1.001, 1.05], "so the base itself is saved"),
])  # fmt: skip
def test_of_the_checkpoints_with_four_fifths_of_the_best_gain_the_longest_trained_is_compared_with_its_blends(
    nano, tmp_path, monkeypatch, refit, scores, said
):
    scored(monkeypatch, *scores)
    trainer = trained(nano["bolt"], tmp_path / "out", tmp_path, max_steps=3, blends=[0.5], refit=refit)
    assert re.search(said, trainer.verdict)


def test_a_second_training_that_comes_out_worse_is_not_saved(nano, tmp_path, monkeypatch):
    scored(monkeypatch, 1.0, 0.9, 0.5, 0.6)
    trainer = trained(nano["bolt"], tmp_path / "out", tmp_path, max_steps=2, blends=[])
    assert not info(tmp_path / "out")["refit"]["saved"] and "step 2 is saved:" in trainer.verdict
    assert "not saved" in (tmp_path / "out" / "README.md").read_text()
    assert same(weights(tmp_path / "out"), weights(RunFolder(tmp_path / "out").last_checkpoint()))


def test_what_a_second_training_cannot_do_is_refused_before_the_first(nano, tmp_path):
    with pytest.raises(UserError, match="lr_scheduler_type.*training.refit false"):
        trained(nano["bolt"], tmp_path / "out", tmp_path, trainer={"lr_scheduler_type": "reduce_lr_on_plateau"})
    assert not (tmp_path / "out").exists()


def test_a_trainer_that_trains_anew_tells_nothing_of_before(nano, tmp_path):
    trainer = trained(nano["bolt"], tmp_path / "out", tmp_path)
    assert trainer.refit is not None and trainer.candidates and trainer.drawn is not None
    trainer.config = replace(trainer.config, training=replace(trainer.config.training, validation_split=0.0))
    trainer.run_folder = None
    trainer.train_model(trainer.prepare_training_data(np.random.default_rng(0).normal(size=(4, 120))))
    assert (trainer.refit, trainer.candidates, trainer.drawn) == (None, [], None)
    assert "nothing was compared" in trainer.verdict


def test_early_stopping_ends_a_run_that_stopped_improving(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "better", tmp_path, max_steps=60)
    trained(tmp_path / "better", tmp_path / "out", tmp_path, learning_rate=50.0, max_steps=40, patience=2)
    assert len(info(tmp_path / "out")["candidates"]) < 11


def test_without_validation_the_last_step_is_saved_and_said(nano, tmp_path):
    trainer = trained(nano["bolt"], tmp_path / "out", tmp_path, validation_split=0.0)
    assert "nothing was compared" in trainer.verdict
    assert not same(weights(tmp_path / "out"), weights(nano["bolt"]))


def test_ten_rates_far_too_high_never_save_what_validates_worse_than_the_base(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "better", tmp_path, max_steps=60)
    for index, metric in enumerate(["wql", "mase", "loss", "wql", "wql", "mase", "loss", "wql", "mase", "loss"]):
        rate, output = 0.02 * 3.0**index, tmp_path / f"out{index}"
        trainer = trained(tmp_path / "better", output, tmp_path, learning_rate=rate, max_steps=3, metric=metric)
        key = metric if metric == "loss" else metric.upper()
        base = info(output)["candidates"][0][key]
        saved = trainer.evaluate_model((None, trainer_validation(trainer, tmp_path)))
        if key != "loss":
            assert saved[key] <= base * (1 + 1e-6), (rate, metric)
        best = min(info(output)["candidates"], key=lambda candidate: candidate[key])
        assert best[key] <= base and (best["candidate"] in trainer.verdict or "base itself" in trainer.verdict)


def test_candidates_are_scored_by_the_forecasts_of_what_is_saved(tmp_path):
    trainer = ChronosTrainer(str(builtin_folder("builtin:bolt-synth")))
    settings = TrainingConfig(
        max_steps=2,
        batch_size=4,
        context_length=64,
        prediction_length=8,
        precision="bf16",
        validation_windows=8,
        refit=False,
    )
    trainer.config = Config(training=settings)
    data = trainer.prepare_training_data(np.random.default_rng(0).normal(size=(6, 90)).cumsum(axis=1))
    trainer.train_model(data, epochs=1)
    base = ChronosTrainer(trainer.base_model_path).evaluate_model(data)["WQL"]
    assert trainer.candidates[0].scores["wql"] == pytest.approx(base, rel=1e-6)


def test_a_best_checkpoint_that_was_lost_leaves_the_last_step_to_choose(tmp_path):
    base, model = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    trained = model.weight.detach().clone()
    log = [
        {"step": k, "eval_wql": wql, "eval_mase": wql, "eval_loss": wql} for k, wql in ((0, 1.0), (3, 0.4), (6, 0.5))
    ]
    lost = str(tmp_path / "checkpoint-3")
    state = SimpleNamespace(log_history=log, best_global_step=3, best_model_checkpoint=lost, global_step=6)
    BaseIsFirstBest("wql").on_train_begin(SimpleNamespace(output_dir=tmp_path), state, None)
    candidates, winner = choose(SimpleNamespace(state=state), model, base, [], "wql", careful=True)
    assert (winner.step, winner.share, len(candidates)) == (6, 1.0, 3) and torch.equal(model.weight, trained)


@pytest.mark.parametrize("mase, loss, half, careful, share", [
    (0.939, 0.7, 0.8, True, 1.0),  # a gain of 6.1%, more than a fifth of the 30% in loss
    (0.941, 0.7, 0.8, True, 0.5),
    (0.941, 0.7, 0.8, False, 1.0),
    (0.941, 0.7, 1.1, True, 1.0),  # half of the way is worse than the base
    (np.nan, 0.7, 0.8, True, 1.0),
    (1.001, 0.98, 0.99, True, 0.5),
    (1.001, 0.982, 0.99, True, 1.0),  # 1.9% apart
])  # fmt: skip
def test_where_the_scores_disagree_half_of_the_way_is_gone_at_most(tmp_path, mase, loss, half, careful, share):
    base, model = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    log = [{"step": 0, "eval_wql": 1.0, "eval_mase": mase / mase, "eval_loss": 1.0}]
    log.append({"step": 5, "eval_wql": loss, "eval_mase": mase, "eval_loss": loss})
    state = SimpleNamespace(log_history=log, best_global_step=5, best_model_checkpoint=str(tmp_path), global_step=5)
    blends = iter([1.2, half, (loss + half) / 2])
    trainer = SimpleNamespace(state=state, score=lambda _: dict.fromkeys(("wql", "mase", "loss"), next(blends)))
    tuned = model.weight.detach().clone()
    candidates, winner = choose(trainer, model, base, [0.25, 0.5, 0.75], "loss", careful=careful)
    assert (winner.step, winner.share) == (5, share)
    torch.testing.assert_close(model.weight, base.weight.lerp(tuned, share))
    if careful:
        said = verdict(winner, candidates, "loss", Refit(winner, winner.scores, saved=True))
        assert ("WQL, MASE and loss disagree" in said) == (share == 0.5)


@pytest.mark.parametrize("family, model_name, refit, careful", [
    ("bolt", "builtin:bolt-synth", True, True),
    ("chronos-2", "amazon/chronos-2", True, True),
    ("bolt", "builtin:bolt-synth", False, False),
    ("bolt", "scratch:bolt-nano", True, False),  # half of the way to random weights
    ("t5", "amazon/chronos-t5-tiny", True, False),  # whose loss is of tokens
])  # fmt: skip
def test_what_is_trained_again_stays_near_a_base_whose_scores_say_how_near(
    nano, tmp_path, monkeypatch, family, model_name, refit, careful
):
    asked = []

    def spy(*args, careful, **kwargs):
        asked.append(careful)
        return choose(*args, careful=careful, **kwargs)

    monkeypatch.setattr("pipeline.training.selection.choose", spy)
    base = shutil.copytree(nano[family], tmp_path / "base")
    (base / "model_info.json").write_text(json.dumps({"model_name": model_name}))
    trainer = ChronosTrainer(str(base))
    settings = TrainingConfig(
        max_steps=1, batch_size=2, context_length=32, prediction_length=4, validation_windows=2, refit=refit
    )
    trainer.config = Config(training=settings)
    trainer.train_model(
        trainer.prepare_training_data(np.random.default_rng(0).normal(size=(2, 90)).cumsum(axis=1)), epochs=1
    )
    assert asked == [careful]
