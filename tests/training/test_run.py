"""Runs from the base to the saved model: selection, retraining on all data, and continuation of unfinished runs."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from chronos import BaseChronosPipeline
from support.runs import info, last_checkpoint, log_history, prepared, same, trained, unfinish, weights

from pipeline.core.errors import UserError
from pipeline.train_model import ChronosTrainer
from pipeline.training.checkpointing import RunFolder

FAMILIES = ["bolt", "t5", "gpt2", "chronos-2"]
NO_WARMUP = {"warmup_steps": 0}
"""As for a base that has been trained; the tiny ones have random weights."""


@pytest.mark.parametrize("family", FAMILIES)
def test_the_saved_model_is_stock_and_scores_as_the_winner_did(tiny, tmp_path, family):
    settings = {"learning_rate": 3e-2, "prediction_length": 4}
    trainer = trained(tiny[family], tmp_path / "out", **settings)
    base, best = trainer.result.selection.candidates[0], trainer.result.selection.winner
    names = [candidate.name for candidate in trainer.result.selection.candidates]
    assert names == ["base", "step 4"]
    assert best.scores["loss"] < base.scores["loss"]
    _, windows = prepared(tiny[family], **settings)
    assert trainer.evaluate_model(windows)["WQL"] == pytest.approx(best.scores["wql"], rel=1e-5)
    pipeline = BaseChronosPipeline.from_pretrained(tmp_path / "out")
    _, mean = pipeline.predict_quantiles([torch.arange(60.0)], prediction_length=8)
    assert np.isfinite(np.asarray(mean[0])).all()


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("family", ["bolt", "t5", "chronos-2"])
def test_a_diverged_run_saves_the_base_bit_for_bit(tiny, tmp_path, family, method):
    settings = {"learning_rate": 1e38, "max_steps": 3, "prediction_length": 4}
    trainer = trained(tiny[family], tmp_path / "out", method=method, **settings)
    base, diverged = trainer.result.selection.candidates
    assert np.isfinite(list(base.scores.values())).all() and set(diverged.scores.values()) == {np.inf}
    assert not trainer.result.selection.is_trained
    assert same(weights(tmp_path / "out"), weights(tiny[family]))
    assert not (tmp_path / "out" / "adapter").exists()


@pytest.mark.parametrize("metric, rates", [("wql", (0.02, 5.0)), ("mase", (0.06, 5.0)), ("loss", (0.5, 50.0))])
def test_a_rate_far_too_high_saves_no_model_that_scores_worse_than_the_base(good_base, tmp_path, metric, rates):
    for rate in rates:
        settings = {"learning_rate": rate, "max_steps": 3, "metric": metric}
        trainer = trained(good_base, tmp_path / str(rate), **settings)
        base, best = trainer.result.selection.candidates[0], trainer.result.selection.winner
        assert best.scores[metric] <= base.scores[metric]
        saved = trainer.evaluate_model(prepared(good_base, **settings)[1])
        if metric != "loss":
            assert saved[metric.upper()] <= base.scores[metric] * (1 + 1e-6)
        if best is base:
            assert same(weights(tmp_path / str(rate)), weights(good_base))
    assert best is base, "the highest rate ruins the model"


@pytest.mark.parametrize("method, rate", [("full", 1e-2), ("lora", 3e-2)])
def test_the_winner_is_retrained_on_all_data(good_base, tmp_path, method, rate):
    """The retrained model is that of a run which holds nothing out."""
    settings = {"method": method, "learning_rate": rate, "trainer": NO_WARMUP}
    trainer = trained(good_base, tmp_path / "out", refit=True, **settings)
    trained(good_base, tmp_path / "all", validation_split=0.0, **settings)
    without = trained(good_base, tmp_path / "without", **settings)
    refit, saved = trainer.result.refit, weights(tmp_path / "out")
    assert trainer.result.selection.is_trained and refit.saved and without.result.refit is None
    assert refit.scores["loss"] <= trainer.result.selection.winner.scores["loss"]
    assert info(tmp_path / "out")["refit"]["steps"] == 4
    assert same(saved, weights(tmp_path / "all"))
    assert not same(saved, weights(tmp_path / "without"))


def test_a_retrained_model_that_scores_worse_is_not_saved(tiny, tmp_path):
    trainer = trained(tiny["bolt"], tmp_path / "out", learning_rate=3e-2, refit=True, trainer=NO_WARMUP)
    selected, refit = trainer.result.selection.winner, trainer.result.refit
    assert not refit.saved and refit.scores["loss"] > selected.scores["loss"]
    assert info(tmp_path / "out")["refit"]["saved"] is False
    assert same(weights(tmp_path / "out"), weights(tmp_path / "out" / "checkpoints" / "checkpoint-4"))


def test_without_a_holdout_the_last_step_is_saved(tiny, tmp_path):
    trainer = trained(tiny["bolt"], tmp_path / "out", validation_split=0.0, refit=True)
    result, last = trainer.result, last_checkpoint(tmp_path / "out")
    assert (result.selection, result.comparison, result.refit, result.drawn) == (None, None, None, [])
    assert info(tmp_path / "out")["candidates"] == [] and last.name == "checkpoint-4"
    assert same(weights(tmp_path / "out"), weights(last))
    assert not same(weights(tmp_path / "out"), weights(tiny["bolt"]))


def test_the_comparison_is_that_of_the_winner_with_the_base(good_base, tmp_path):
    trainer = trained(good_base, tmp_path / "out", learning_rate=1e-2, metric="wql")
    base, best = trainer.result.selection.candidates[0], trainer.result.selection.winner
    comparison = trainer.result.comparison
    assert comparison.reduction == pytest.approx(100 * (1 - best.scores["wql"] / base.scores["wql"]))
    assert comparison.low <= comparison.reduction <= comparison.high and comparison.n_series == 6
    assert info(tmp_path / "out")["comparison"]["n_better"] == comparison.n_better
    lost = trained(good_base, tmp_path / "lost", learning_rate=1e38)
    assert lost.result.comparison is None and info(tmp_path / "lost")["comparison"] is None


def test_a_second_training_replaces_the_result_of_the_first(tiny, tmp_path):
    trainer = trained(tiny["bolt"], tmp_path / "out", refit=True)
    assert trainer.result.selection and trainer.result.refit and trainer.result.comparison
    trainer.config = replace(trainer.config, training=replace(trainer.config.training, validation_split=0.0))
    trainer.run_folder = None
    data = trainer.prepare_training_data(np.random.default_rng(0).normal(size=(4, 120)))
    trainer.train_model(data, epochs="auto")
    result = trainer.result
    assert (result.selection, result.comparison, result.refit, result.drawn) == (None, None, None, [])
    trainer.config = replace(trainer.config, training=replace(trainer.config.training, trainer={"optim": "magic"}))
    with pytest.raises(UserError, match="magic"):
        trainer.train_model(data, epochs="auto")
    assert trainer.result is None
    with pytest.raises(UserError, match="train_model"):
        trainer.save_trained_model(str(tmp_path / "other"))


@pytest.mark.parametrize("family", ["bolt", "t5"])
def test_adapters_change_only_attention_and_are_merged(tiny, tmp_path, family):
    trainer = trained(tiny[family], tmp_path / "out", method="lora", learning_rate=3e-2, prediction_length=4)
    before, after = weights(tiny[family]), weights(tmp_path / "out")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys() and trainer.result.selection.is_trained
    assert any(name.endswith(".q.weight") for name in changed)
    assert not any("layer_norm" in name or name == "shared.weight" or ".wi." in name for name in changed)
    assert (last_checkpoint(tmp_path / "out") / "adapter_model.safetensors").is_file()


def test_equal_seeds_give_equal_weights(tiny, tmp_path):
    for name in ("first", "second"):
        trained(tiny["bolt"], tmp_path / name)
    assert same(weights(tmp_path / "first"), weights(tmp_path / "second"))


def test_the_seed_changes_the_windows(tiny):
    windows = []
    for seed in (0, 1):
        trainer, _ = prepared(tiny["bolt"])
        trainer.config = replace(trainer.config, chronos=replace(trainer.config.chronos, seed=seed))
        data = trainer.prepare_training_data(np.random.default_rng(0).normal(size=(4, 120)))
        windows.append(data[0].batch(range(8))[1])
    assert not np.array_equal(windows[0], windows[1], equal_nan=True)


class InterruptedWindows:
    """Training windows that record which are read, and end the run when a given one is read."""

    def __init__(self, windows, interrupt_at=None):
        self.read: list[int] = []
        original = windows.grouped_batch

        def batch(indices):
            self.read += [int(index) for index in indices]
            if interrupt_at in self.read:
                raise KeyboardInterrupt
            return original(indices)

        windows.grouped_batch = batch


def test_an_interrupted_run_reads_only_the_windows_that_it_has_not_trained_on(tiny, tmp_path):
    settings = {"max_steps": 6, "trainer": {"save_steps": 1}, "learning_rate": 1e-2}
    whole = trained(tiny["bolt"], tmp_path / "whole", **settings)
    trainer, windows = prepared(tiny["bolt"], tmp_path / "out", **settings)
    InterruptedWindows(windows[0], interrupt_at=5 * 8)
    with pytest.raises(KeyboardInterrupt):
        trainer.train_model(windows, epochs="auto")
    assert not (tmp_path / "out" / "training_info.json").exists() and trainer.result is None
    last = last_checkpoint(tmp_path / "out")
    # A checkpoint that was cut short is passed over for the one before it.
    (last / "model.safetensors").write_bytes((last / "model.safetensors").read_bytes()[:1000])
    step = int(last.name.removeprefix("checkpoint-")) - 1
    assert step > 0
    trainer, windows = prepared(tiny["bolt"], tmp_path / "out", **settings)
    recorded = InterruptedWindows(windows[0])
    trainer.train_model(windows, epochs="auto")
    trainer.save_trained_model(str(tmp_path / "out"))
    assert recorded.read == list(range(step * 8, 6 * 8))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "out"))
    assert whole.result.selection == trainer.result.selection


def test_a_run_is_continued_with_other_workers_and_another_log(tiny, tmp_path):
    trained(tiny["bolt"], tmp_path / "out")
    saved = weights(tmp_path / "out")
    unfinish(tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "checkpoints" / "checkpoint-4")
    trained(tiny["bolt"], tmp_path / "out", trainer={"dataloader_num_workers": 1, "logging_steps": 1, "run_name": "b"})
    assert same(weights(tmp_path / "out"), saved)
    trained(tiny["bolt"], tmp_path / "workers", trainer={"dataloader_num_workers": 2})
    assert same(weights(tmp_path / "workers"), saved)


def test_a_finished_run_is_replaced_only_with_overwrite(tiny, tmp_path):
    out = tmp_path / "out"
    trained(tiny["bolt"], out)
    trained(tiny["bolt"], tmp_path / "other", learning_rate=1e-4)
    with pytest.raises(UserError, match="training.overwrite true"):
        trained(tiny["bolt"], out, learning_rate=1e-4)
    replacing = {"overwrite": True, "learning_rate": 1e-4}
    trained(tiny["bolt"], out, **replacing)
    assert same(weights(out), weights(tmp_path / "other"))
    # The run that replaces another continues after a kill, unless it may not resume.
    unfinish(out)
    state = out / "checkpoints" / "checkpoint-4" / "trainer_state.json"
    written = state.stat().st_mtime_ns
    trained(tiny["bolt"], out, **replacing)
    assert state.stat().st_mtime_ns == written and same(weights(out), weights(tmp_path / "other"))
    unfinish(out)
    trained(tiny["bolt"], out, **replacing, resume=False)
    assert state.stat().st_mtime_ns != written


def test_an_unfinished_run_with_other_settings_is_refused_by_their_keys(tiny, tmp_path):
    trained(tiny["bolt"], tmp_path / "out", max_steps=2)
    unfinish(tmp_path / "out")
    with pytest.raises(UserError, match="training.batch_size.*training.learning_rate"):
        trained(tiny["bolt"], tmp_path / "out", max_steps=2, learning_rate=1e-2, batch_size=4)
    with pytest.raises(UserError, match="training.resume true"):
        trained(tiny["bolt"], tmp_path / "out", max_steps=2, resume=False)


def test_the_base_is_not_deleted_by_a_run_in_its_folder(good_base, tmp_path):
    base = shutil.copytree(good_base, tmp_path / "base")
    before = weights(base)
    with pytest.raises(UserError, match="training.output_path.*base"):
        trained(base, base, overwrite=True)
    assert same(weights(base), before)


def test_other_files_in_the_folder_of_a_run_stay_and_change_nothing(tiny, tmp_path):
    out, checkpoints = tmp_path / "out", tmp_path / "out" / "checkpoints"
    trained(tiny["bolt"], out)
    saved = weights(out)
    shutil.copytree(checkpoints / "checkpoint-4", checkpoints / "checkpoint-4 copy")
    (checkpoints / "checkpoint-4.tar").write_text("mine")
    (checkpoints / "checkpoint-4" / ".DS_Store").write_text("Finder's")
    (out / "notes.txt").write_text("mine")
    assert RunFolder(out).last_checkpoint() == checkpoints / "checkpoint-4"
    unfinish(out)
    trained(tiny["bolt"], out)
    assert same(weights(out), saved)
    checkpoints.rename(tmp_path / "elsewhere")
    checkpoints.symlink_to(tmp_path / "elsewhere")
    trained(tiny["bolt"], out, overwrite=True, max_steps=2)
    assert (out / "notes.txt").read_text() == "mine" and (tmp_path / "elsewhere" / "checkpoint-4.tar").is_file()


def test_a_trained_model_is_saved_to_other_folders(tiny, tmp_path, monkeypatch):
    trained(tiny["bolt"], tmp_path / "out", max_steps=2)
    trainer = trained(tiny["bolt"], tmp_path / "other", max_steps=2, learning_rate=1e-4)
    with pytest.raises(UserError, match="training.overwrite true"):
        trainer.save_trained_model(str(tmp_path / "out"))
    trainer.config = replace(trainer.config, training=replace(trainer.config.training, overwrite=True))
    trainer.save_trained_model(str(tmp_path / "out"))
    assert same(weights(tmp_path / "out"), weights(tmp_path / "other"))
    assert not (tmp_path / "out" / "checkpoints").exists()
    monkeypatch.chdir(tmp_path)
    trainer.config = replace(trainer.config, training=replace(trainer.config.training, overwrite=False))
    trainer.save_trained_model("other/../other")  # the run's own folder


def test_a_rank_in_the_environment_of_one_process_is_ignored(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    trained(tiny["bolt"], tmp_path / "out", max_steps=2)
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_the_folder_of_a_running_run_is_refused(tiny, tmp_path):
    with RunFolder(tmp_path / "out").locked():
        with pytest.raises(UserError, match="training.output_path.*out"):
            trained(tiny["bolt"], tmp_path / "out", max_steps=2)
    trainer = trained(tiny["bolt"], tmp_path / "out", max_steps=2)
    with RunFolder(tmp_path / "copy").locked():
        with pytest.raises(UserError, match="training.output_path.*copy"):
            trainer.save_trained_model(str(tmp_path / "copy"))


def test_a_folder_of_other_files_is_refused_before_training(tiny, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    for overwrite in (False, True):
        trainer, windows = prepared(tiny["bolt"], tmp_path, overwrite=overwrite)
        with pytest.raises(UserError, match="training.output_path"):
            trainer.train_model(windows, epochs="auto")
        assert [path.name for path in tmp_path.iterdir()] == ["README.md"] and trainer.result is None


def test_the_base_is_scored_before_training(tiny):
    trainer, windows = prepared(tiny["bolt"])
    scores = ChronosTrainer(str(tiny["bolt"])).evaluate_model(windows)
    trainer.train_model(windows, epochs="auto")
    base = trainer.result.selection.candidates[0].scores
    assert (base["wql"], base["mase"]) == (pytest.approx(scores["WQL"]), pytest.approx(scores["MASE"]))


def test_the_last_step_is_scored_whatever_the_interval(good_base, tmp_path):
    trainer = trained(good_base, tmp_path / "out", max_steps=3)
    scored = {
        entry["step"]: entry["eval_loss"]
        for entry in log_history(last_checkpoint(tmp_path / "out"))
        if "eval_loss" in entry
    }
    assert list(scored) == [0, 2, 3]
    base, last = trainer.result.selection.candidates
    assert (scored[0], scored[3]) == pytest.approx((base.scores["loss"], last.scores["loss"]), rel=1e-6)


def test_a_moved_run_is_continued(tiny, tmp_path):
    trained(tiny["bolt"], tmp_path / "out")
    saved = weights(tmp_path / "out")
    unfinish(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved" / "checkpoints" / "checkpoint-4")
    trained(tiny["bolt"], tmp_path / "moved")
    assert same(weights(tmp_path / "moved"), saved)
