"""Training end to end on nano models: the guard, exact resume, ranks, LoRA, and the output folder."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from chronos import BaseChronosPipeline
from conftest import ROOT, long_frame
from safetensors.torch import load_file

from pipeline import train_model
from pipeline.arrow_store import store_of_arrays
from pipeline.config import Config
from pipeline.data_source import open_source
from pipeline.errors import UserError
from pipeline.run_folder import RunFolder
from pipeline.train_model import ChronosTrainer

SHORT = {"max_steps": 6, "batch_size": 8, "context_length": 48, "prediction_length": 16, "learning_rate": 1e-3}


def trained(base, output, tmp_path, train=None, **training):
    """Train on six seasonal series and save to `output`."""
    trainer = ChronosTrainer(str(base))
    config = Config()
    trainer.config = replace(config, training=replace(config.training, **{**SHORT, **training}))
    trainer.run_folder = RunFolder(output)
    trainer.run_folder.check(trainer.config.training.resume, trainer.config.training.overwrite)
    store = open_source(long_frame(), tmp_path / "cache")
    trainer.train_model(trainer.prepare_training_data([store]))
    trainer.save_trained_model(str(output))
    return trainer


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def info(folder):
    return json.loads((folder / "training_info.json").read_text())


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
    best = min(candidates, key=lambda candidate: candidate["WQL"])
    assert best["WQL"] < candidates[0]["WQL"] and best["candidate"] in trainer.verdict
    saved = trainer.evaluate_model((None, trainer_validation(trainer, tmp_path)))
    assert saved["WQL"] == pytest.approx(best["WQL"], rel=1e-5)


def best_step(candidates):
    """The checkpoint that blends are made with."""
    steps = [candidate for candidate in candidates if not candidate["candidate"].startswith("base +")]
    best = min(steps, key=lambda candidate: candidate["WQL"])["candidate"]
    return steps[-1]["candidate"] if best == "base" else best


def trainer_validation(trainer, tmp_path):
    return trainer.prepare_training_data([open_source(long_frame(), tmp_path / "cache")])[1]


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
    settings = {**SHORT, "max_steps": 1, "prediction_length": 4, "refit": False, **training}
    trainer.config = replace(config, training=replace(config.training, **settings))
    stores = [store_of_arrays(one) for one in arrays]
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
    settings = {"blends": [], "method": method, "learning_rate": {"full": 1e-3, "lora": 1e-2}[method]}
    trainer = trained(nano["bolt"], tmp_path / "out", tmp_path, **settings)
    trained(nano["bolt"], tmp_path / "all", tmp_path, validation_split=0.0, **settings)
    trained(nano["bolt"], tmp_path / "held_out", tmp_path, refit=False, **settings)
    assert "step 6 won" in trainer.verdict and "held-out steps too" in trainer.verdict
    assert same(weights(tmp_path / "out"), weights(tmp_path / "all"))
    assert not same(weights(tmp_path / "out"), weights(tmp_path / "held_out"))
    refit = info(tmp_path / "out")["refit"]
    seen = refit["scores on steps it has seen"]
    assert refit["saved"] and seen["WQL"] <= info(tmp_path / "held_out")["candidates"][-1]["WQL"]


def scored(monkeypatch, *wql):
    """Let the validation scores of one model after the other be these."""
    from pipeline.guard import GuardedTrainer

    scores = iter(wql)
    monkeypatch.setattr(GuardedTrainer, "score", lambda *_: dict.fromkeys(("loss", "wql", "mase"), next(scores)))


def test_a_second_training_ends_where_the_winner_stood_and_is_blended_as_it_was(nano, tmp_path, monkeypatch):
    scored(monkeypatch, 1.0, 0.9, 0.5, 0.8, 0.4, 0.3)  # the base, steps 2, 4, 6, a blend of step 4, the second training
    trained(nano["bolt"], tmp_path / "out", tmp_path, blends=[0.25], trainer={"eval_steps": 2})
    refit, last = info(tmp_path / "out")["refit"], RunFolder(tmp_path / "out").refit.last_checkpoint()
    assert (refit["steps"], refit["share"], refit["saved"]) == (4, 0.25, True)
    assert refit["scores on steps it has seen"]["WQL"] == 0.3
    assert last.name == "checkpoint-4"
    tuned, base, saved = weights(last), weights(nano["bolt"]), weights(tmp_path / "out")
    for name in saved:
        torch.testing.assert_close(saved[name], base[name].lerp(tuned[name], 0.25))
    assert logged(tmp_path / "out" / "refit", "learning_rate") == logged(tmp_path / "out", "learning_rate")[:4]


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


def test_a_run_that_was_moved_is_continued_with_its_best_checkpoint(nano, tmp_path, monkeypatch):
    settings = {"refit": False, "blends": []}
    scored(monkeypatch, 1.0, 0.9, 0.8, 0.4, 0.6, 0.7, 0.5)
    trained(nano["bolt"], tmp_path / "out", tmp_path, **settings)
    (tmp_path / "out" / "training_info.json").unlink()
    (tmp_path / "out").rename(tmp_path / "moved")
    trainer = trained(nano["bolt"], tmp_path / "moved", tmp_path, **settings)
    assert "step 3 is saved" in trainer.verdict
    assert same(weights(tmp_path / "moved"), weights(tmp_path / "moved" / "checkpoints" / "checkpoint-3"))


def test_checkpoints_that_no_run_owns_are_not_continued(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "out", tmp_path)
    (tmp_path / "out" / "training_info.json").unlink()
    (tmp_path / "out" / "checkpoints" / "run.json").unlink()
    trained(nano["bolt"], tmp_path / "out", tmp_path, learning_rate=2e-3)
    trained(nano["bolt"], tmp_path / "new", tmp_path, learning_rate=2e-3)
    assert same(weights(tmp_path / "out"), weights(tmp_path / "new"))


def test_a_killed_run_resumes_to_the_last_bit(nano, tmp_path, monkeypatch):
    trained(nano["bolt"], tmp_path / "whole", tmp_path)
    from pipeline.guard import GuardedTrainer

    step = GuardedTrainer.training_step
    count = {"steps": 0}

    def killed(self, *args, **kwargs):
        count["steps"] += 1
        if count["steps"] == 5:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(GuardedTrainer, "training_step", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(nano["bolt"], tmp_path / "killed", tmp_path)
    assert not (tmp_path / "killed" / "training_info.json").exists()
    # A checkpoint that was cut short is passed over for the one before it.
    torn = tmp_path / "killed" / "checkpoints" / "checkpoint-4"
    (torn / "model.safetensors").write_bytes((torn / "model.safetensors").read_bytes()[:1000])
    count["steps"] = 100
    fetched = []
    from pipeline.windows import TrainingWindows

    batch = TrainingWindows.batch
    monkeypatch.setattr(
        TrainingWindows, "batch", lambda self, indices: (fetched.extend(indices), batch(self, indices))[1]
    )
    trained(nano["bolt"], tmp_path / "killed", tmp_path)
    steps = info(tmp_path / "killed")["refit"]["steps"]
    windows = [*range(3 * SHORT["batch_size"], 6 * SHORT["batch_size"]), *range(steps * SHORT["batch_size"])]
    assert fetched == windows, "resume reads windows that it has trained on"
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    assert info(tmp_path / "whole")["candidates"] == info(tmp_path / "killed")["candidates"]


def test_the_seed_reaches_data_and_dropout_and_equal_seeds_give_equal_weights(nano, tmp_path):
    for name in ("a", "b"):
        trained(nano["bolt"], tmp_path / name, tmp_path)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    store = open_source(long_frame(), tmp_path / "cache")
    windows = []
    for seed in (0, 1):
        trainer = ChronosTrainer(str(nano["bolt"]))
        trainer.config = replace(Config(), chronos=replace(Config().chronos, seed=seed))
        windows.append(trainer.prepare_training_data([store])[0].batch(range(8))[1])
    assert not np.array_equal(*windows, equal_nan=True)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_loader_workers_change_nothing(nano, tmp_path, num_workers):
    trained(nano["bolt"], tmp_path / "none", tmp_path)
    trained(nano["bolt"], tmp_path / "some", tmp_path, trainer={"dataloader_num_workers": num_workers})
    assert same(weights(tmp_path / "none"), weights(tmp_path / "some"))


@pytest.mark.parametrize("family", ["bolt", "t5"])
def test_lora_moves_only_what_it_adapts_and_is_merged(nano, tmp_path, family):
    trainer = trained(
        nano[family], tmp_path / "out", tmp_path, method="lora", learning_rate=1e-2, max_steps=10, validation_windows=6
    )
    before, after = weights(nano[family]), weights(tmp_path / "out")
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "is saved" in trainer.verdict and any(name.endswith(".q.weight") for name in moved)
    assert not any("layer_norm" in name or name == "shared.weight" or ".wi." in name for name in moved)
    checkpoints = tmp_path / "out" / "checkpoints"
    assert list(checkpoints.glob("checkpoint-*/adapter_model.safetensors"))


def test_early_stopping_ends_a_run_that_stopped_improving(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "better", tmp_path, max_steps=60)
    trained(tmp_path / "better", tmp_path / "out", tmp_path, learning_rate=50.0, max_steps=40, patience=2)
    assert len(info(tmp_path / "out")["candidates"]) < 11


def test_a_run_killed_after_it_was_stopped_early_stays_stopped(nano, tmp_path):
    settings = {"learning_rate": 2e-2, "max_steps": 40, "patience": 1, "refit": False, "trainer": {"eval_steps": 1}}
    trained(nano["bolt"], tmp_path / "out", tmp_path, **settings)
    whole, candidates = weights(tmp_path / "out"), info(tmp_path / "out")["candidates"]
    assert 2 < len(candidates) < 41
    (tmp_path / "out" / "training_info.json").unlink()
    trained(nano["bolt"], tmp_path / "out", tmp_path, **settings)
    assert same(weights(tmp_path / "out"), whole) and info(tmp_path / "out")["candidates"] == candidates


def test_without_validation_the_last_step_is_saved_and_said(nano, tmp_path):
    trainer = trained(nano["bolt"], tmp_path / "out", tmp_path, validation_split=0.0)
    assert "nothing was compared" in trainer.verdict
    assert not same(weights(tmp_path / "out"), weights(nano["bolt"]))


def test_the_log_holds_losses_and_scores(nano, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained(nano["bolt"], tmp_path / "out", tmp_path)
    events = EventAccumulator(str(tmp_path / "out" / "logs"))
    events.Reload()
    assert {"train/loss", "train/learning_rate", "eval/loss", "eval/wql", "eval/mase"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("eval/wql")] == [0, 1, 2, 3, 4, 5, 6]


def test_a_finished_run_is_kept_unless_it_is_to_be_overwritten(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "out", tmp_path)
    before = weights(tmp_path / "out")
    with pytest.raises(UserError, match="finished run"):
        trained(nano["bolt"], tmp_path / "out", tmp_path)
    trained(nano["bolt"], tmp_path / "out", tmp_path, overwrite=True, learning_rate=1e-4)
    assert not same(before, weights(tmp_path / "out"))


def test_a_run_that_replaces_another_goes_on_after_it_was_killed(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "out", tmp_path)
    trained(nano["bolt"], tmp_path / "other", tmp_path, learning_rate=1e-4)
    again = {"overwrite": True, "learning_rate": 1e-4}
    trained(nano["bolt"], tmp_path / "out", tmp_path, **again)
    (tmp_path / "out" / "training_info.json").unlink()  # as a kill before the end leaves it
    kept = tmp_path / "out" / "checkpoints" / "checkpoint-6" / "trainer_state.json"
    written = kept.stat().st_mtime_ns
    trained(nano["bolt"], tmp_path / "out", tmp_path, **again)
    assert kept.stat().st_mtime_ns == written and same(weights(tmp_path / "out"), weights(tmp_path / "other"))
    (tmp_path / "out" / "training_info.json").unlink()
    trained(nano["bolt"], tmp_path / "out", tmp_path, **again, resume=False)
    assert kept.stat().st_mtime_ns != written


def test_the_base_is_never_deleted_by_what_is_trained_from_it(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "out", tmp_path)
    with pytest.raises(UserError, match="the base model, .*out, lies in"):
        trained(tmp_path / "out", tmp_path / "out", tmp_path, overwrite=True)
    assert BaseChronosPipeline.from_pretrained(tmp_path / "out")


def test_a_model_is_saved_over_another_where_that_is_asked_for(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "out", tmp_path)
    trainer = trained(nano["bolt"], tmp_path / "other", tmp_path, learning_rate=1e-4)
    with pytest.raises(UserError, match="training.overwrite true"):
        trainer.save_trained_model(str(tmp_path / "out"))
    trainer.config = replace(trainer.config, training=replace(trainer.config.training, overwrite=True))
    trainer.save_trained_model(str(tmp_path / "out"))
    assert same(weights(tmp_path / "out"), weights(tmp_path / "other"))
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.parametrize("change", ["config", "precision"])
def test_a_run_with_another_base_configuration_or_arithmetic_is_not_continued(nano, tmp_path, change):
    base = tmp_path / "base"
    shutil.copytree(nano["bolt"], base)
    trained(base, tmp_path / "out", tmp_path, precision="fp32")
    (tmp_path / "out" / "training_info.json").unlink()
    config = json.loads((base / "config.json").read_text())
    config |= {"dropout_rate": 0.2} if change == "config" else {}
    (base / "config.json").write_text(json.dumps(config))
    said = {"config": "differs in base model", "precision": "differs in arithmetic"}[change]
    with pytest.raises(UserError, match=said):
        trained(base, tmp_path / "out", tmp_path, precision="bf16" if change == "precision" else "fp32")


def test_an_unfinished_run_of_another_configuration_is_refused_by_the_keys_that_differ(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "out", tmp_path)
    (tmp_path / "out" / "training_info.json").unlink()
    with pytest.raises(UserError, match="training.batch_size.*training.learning_rate"):
        trained(nano["bolt"], tmp_path / "out", tmp_path, learning_rate=1e-2, batch_size=4)
    with pytest.raises(UserError, match="unfinished run"):
        trained(nano["bolt"], tmp_path / "out", tmp_path, resume=False)


def test_a_foreign_folder_is_never_replaced(nano, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("cat")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds no training run"):
            trained(nano["bolt"], tmp_path / "photos", tmp_path, overwrite=overwrite)
    assert (tmp_path / "photos" / "cat.png").read_text() == "cat"


@pytest.mark.parametrize(
    "training, said",
    [
        ({"trainer": {"learning_rate": 1.0}}, "training.learning_rate"),
        ({"trainer": {"remove_unused_columns": True}}, "cannot be set"),
        ({"trainer": {"lr": 1.0}}, "no such field"),
        ({"trainer": {"optim": "magic"}}, "magic"),
        ({"trainer": {"label_smoothing_factor": 0.1}}, "cannot be set"),
        ({"trainer": {"gradient_accumulation_steps": 3}}, "cannot be shared"),
        ({"trainer": {"eval_steps": 2, "save_steps": 3}}, "must be equal"),
        ({"blends": [1.5]}, "training.blends"),
        ({"quantiles": [0.5, 0.1]}, "must rise"),
        ({"quantiles": [0.5, 1.0]}, "between 0 and 1"),
        ({"freeze": ["encoder"], "method": "lora"}, "training.freeze"),
        ({"freeze": ["incoder"]}, "no weight is named like 'incoder'"),
        ({"freeze": ["*"]}, "leaves no weight"),
        ({"push_to_hub": "mine"}, "owner/name"),
    ],
)
def test_what_cannot_be_trained_with_is_refused_by_its_key(nano, tmp_path, training, said):
    with pytest.raises(UserError, match=said):
        trained(nano["bolt"], tmp_path / "out", tmp_path, **training)
    assert not (tmp_path / "out").exists()


def test_arguments_of_the_trainer_reach_it(nano, tmp_path):
    trained(nano["bolt"], tmp_path / "a", tmp_path, trainer={"weight_decay": 0.5, "lr_scheduler_type": "constant"})
    trained(nano["bolt"], tmp_path / "b", tmp_path)
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "b"))


def history(checkpoint):
    """What the Trainer logged until a checkpoint."""
    return json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]


def logged(output, key):
    """The values that the Trainer logged under a key, step by step."""
    return [entry[key] for entry in history(RunFolder(output).last_checkpoint()) if key in entry]


@pytest.mark.parametrize("family", ["bolt", "t5", "gpt2"])
def test_gradient_accumulation_gives_the_same_training(nano, tmp_path, family):
    base = without_dropout(nano[family], tmp_path / "base")
    settings = {"max_steps": 2, "validation_windows": 6}
    trained(base, tmp_path / "a", tmp_path, trainer={"gradient_accumulation_steps": 2}, **settings)
    trained(base, tmp_path / "b", tmp_path, **settings)
    for key in ("loss", "grad_norm", "eval_loss"):
        np.testing.assert_allclose(logged(tmp_path / "a", key), logged(tmp_path / "b", key), rtol=1e-4)


def torchrun(n_processes, cwd, *arguments, script=ROOT / "scripts" / "train.py", **more):
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT), **more)
    environment.pop("HF_HUB_OFFLINE", None)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n_processes)]
    command = [*launch, str(script), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def without_dropout(source, base):
    """A copy of a checkpoint without dropout, whose draws differ between batches and ranks."""
    shutil.copytree(source, base)
    config = json.loads((base / "config.json").read_text())
    off = {key: 0.0 for key in ("dropout_rate", "resid_pdrop", "embd_pdrop", "attn_pdrop") if key in config}
    (base / "config.json").write_text(json.dumps({**config, **off}))
    return base


@pytest.mark.parametrize("family", ["bolt", "t5"])
def test_two_processes_train_like_one(nano, tmp_path, csv, family):
    base = without_dropout(nano[family], tmp_path / "base")
    arguments = ["--base_model.output_path", base, "--data.train", csv]
    for key, value in {**SHORT, "max_steps": 3, "validation_windows": 6}.items():
        arguments += [f"--training.{key}", value]
    for n_processes in (1, 2):
        done = torchrun(n_processes, tmp_path, *arguments, "--training.output_path", tmp_path / f"out{n_processes}")
        assert done.returncode == 0, done.stderr
    one, two = info(tmp_path / "out1")["candidates"], info(tmp_path / "out2")["candidates"]
    for key in ("WQL", "MASE", "loss"):
        # A sampled forecast turns on the last bits of its logits, so those of the token model are left out.
        if family == "bolt" or key == "loss":
            np.testing.assert_allclose([c[key] for c in one], [c[key] for c in two], rtol=1e-4)
    for key in ("loss", "grad_norm"):
        losses = [logged(tmp_path / f"out{n_processes}", key) for n_processes in (1, 2)]
        np.testing.assert_allclose(*losses, rtol=1e-4)


def fsdp_environment():
    """What `accelerate launch --config_file config/accelerate/fsdp.yaml` sets."""
    content = yaml.safe_load((ROOT / "config" / "accelerate" / "fsdp.yaml").read_text())
    settings = {key.upper(): str(value) for key, value in content["fsdp_config"].items()}
    return {"ACCELERATE_USE_FSDP": "true", "ACCELERATE_USE_CPU": "true", **settings}


def test_a_sharded_model_trains_like_one_and_resumes(nano, tmp_path, csv):
    base = without_dropout(nano["bolt"], tmp_path / "base")
    arguments = ["--base_model.output_path", base, "--data.train", csv]
    for key, value in {**SHORT, "max_steps": 3, "validation_windows": 6}.items():
        arguments += [f"--training.{key}", value]
    settings = {"script": ROOT / "tests" / "fsdp_on_cpu.py", **fsdp_environment()}
    done = torchrun(1, tmp_path, *arguments, "--training.output_path", tmp_path / "one")
    assert done.returncode == 0, done.stderr
    done = torchrun(2, tmp_path, *arguments, "--training.output_path", tmp_path / "two", **settings)
    assert done.returncode == 0, done.stderr
    for key in ("loss", "grad_norm", "eval_loss", "eval_wql"):
        np.testing.assert_allclose(logged(tmp_path / "one", key), logged(tmp_path / "two", key), rtol=1e-4)
    assert [c["candidate"] for c in info(tmp_path / "one")["candidates"]] == [
        c["candidate"] for c in info(tmp_path / "two")["candidates"]
    ]
    before = weights(tmp_path / "two")
    assert BaseChronosPipeline.from_pretrained(tmp_path / "two").model_prediction_length == 64
    for name in ("training_info.json", "model.safetensors"):
        (tmp_path / "two" / name).unlink()
    shutil.rmtree(tmp_path / "two" / "checkpoints" / "checkpoint-3")
    done = torchrun(2, tmp_path, *arguments, "--training.output_path", tmp_path / "two", **settings)
    assert done.returncode == 0 and "continuing from" in done.stdout, done.stderr
    assert same(weights(tmp_path / "two"), before)


def test_ranks_that_disagree_are_refused(nano, tmp_path, csv):
    """The second process is given another learning rate, as a mixed-up multi-node launch would."""
    (tmp_path / "launch.py").write_text(
        "import os, runpy, sys\n"
        "sys.argv += ['--training.learning_rate', '1e-3' if os.environ['RANK'] == '0' else '2e-3']\n"
        f"sys.argv[0] = {str(ROOT / 'scripts' / 'train.py')!r}\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    settings = ["--training.max_steps", 2, "--training.context_length", 48, "--training.validation_windows", 6]
    arguments = ["--base_model.output_path", nano["bolt"], "--data.train", csv, *settings]
    done = torchrun(2, tmp_path, *arguments, script=tmp_path / "launch.py")
    assert done.returncode != 0 and "error: the processes disagree in rate, training.learning_rate;" in done.stderr


def test_a_second_run_in_the_same_folder_is_refused(nano, tmp_path):
    with RunFolder(tmp_path / "out").locked():
        with pytest.raises(UserError, match="another run is writing"):
            trained(nano["bolt"], tmp_path / "out", tmp_path)
    trained(nano["bolt"], tmp_path / "out", tmp_path, max_steps=1)


def test_accelerate_reads_its_configurations():
    from accelerate.commands.config.config_args import load_config_from_file

    for path in sorted((ROOT / "config" / "accelerate").glob("*.yaml")):
        assert load_config_from_file(str(path)).num_processes >= 1


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


def test_bfloat16_is_chosen_where_it_pays():
    from pipeline.training_arguments import uses_bf16

    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert uses_bf16("auto", "cpu", 256) == fast and not uses_bf16("auto", "cpu", 64)
    assert uses_bf16("bf16", "cpu", 64) and not uses_bf16("fp32", "cpu", 768)


def test_precision_is_what_was_asked_for_whatever_accelerate_was_started_with(nano, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    trainer = trained(nano["bolt"], tmp_path / "out", tmp_path, precision="fp32", max_steps=1)
    assert trainer.identity["arithmetic"] == "no on cpu"
    from accelerate.state import AcceleratorState

    assert AcceleratorState().mixed_precision == "no"


def test_an_idle_gpu_is_told_of(nano, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(train_model, "_gpu_is_there", lambda: True)
    trained(nano["bolt"], tmp_path / "out", tmp_path, max_steps=1)
    assert "while a GPU is idle; --chronos.device auto" in caplog.text


@pytest.mark.filterwarnings("default::DeprecationWarning", "default:The .grad attribute:UserWarning")
@pytest.mark.parametrize("family", ["bolt", "t5", "chronos-2"])
def test_a_compiled_model_trains_like_another_and_is_compiled_once(nano, tmp_path, family):
    short = {"max_steps": 6, "validation_windows": 6, "refit": False, "batch_size": 2, "context_length": 100}
    compiled = {"torch_compile": True, "torch_compile_backend": "eager"}
    with torch._dynamo.config.patch(error_on_recompile=True):
        one = trained(nano[family], tmp_path / "compiled", tmp_path, trainer=compiled, **short)
    two = trained(nano[family], tmp_path / "plain", tmp_path, **short)
    assert one.candidates[1].scores["loss"] == pytest.approx(two.candidates[1].scores["loss"], rel=1e-3)
    assert weights(tmp_path / "compiled").keys() == weights(tmp_path / "plain").keys()


def test_bfloat16_trains(nano, tmp_path):
    one = trained(nano["bolt"], tmp_path / "bf16", tmp_path, precision="bf16", max_steps=2)
    two = trained(nano["bolt"], tmp_path / "fp32", tmp_path, precision="fp32", max_steps=2)
    assert one.candidates[1].scores["wql"] == pytest.approx(two.candidates[1].scores["wql"], rel=0.05)
    assert not same(weights(tmp_path / "bf16"), weights(tmp_path / "fp32"))
