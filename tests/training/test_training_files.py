"""The files beside a trained model: training_info.json, config.yaml, report and model card, TensorBoard log."""

import os

import numpy as np
import pytest
import yaml
from support.runs import info, prepared, same, trained, weights
from support.series import parse_config
from transformers import SchedulerType


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """A finished run with everything that a run writes, and its trainer."""
    folder = tmp_path_factory.mktemp("finished") / "out"
    settings = {"refit": True, "learning_rate": 3e-2, "pictures": True}
    return folder, trained(tiny["bolt"], folder, trainer={"report_to": "tensorboard", "eval_steps": 2}, **settings)


def test_all_files_are_written(finished):
    folder, _ = finished
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "model.safetensors", "config.json", "training_info.json", "config.yaml", "report.md", "README.md",
        "training.png", "forecasts.png", "checkpoints", "logs", "refit",
    }  # fmt: skip


def test_training_info_has_the_result(finished):
    folder, trainer = finished
    content, result = info(folder), trainer.result
    assert content["verdict"] == result.verdict
    assert [row["candidate"] for row in content["candidates"]] == [c.name for c in result.selection.candidates]
    assert content["comparison"]["n_series"] == 6
    assert content["refit"]["steps"] == result.selection.winner.step
    assert content["steps"] == 4


def test_report_and_card_have_the_verdict_and_every_candidate(finished):
    folder, trainer = finished
    for name in ("report.md", "README.md"):
        text = (folder / name).read_text()
        assert trainer.result.verdict in text
        assert all(candidate.name in text for candidate in trainer.result.selection.candidates)
    report = (folder / "report.md").read_text()
    assert str(folder / "config.yaml") in report and "forecasts.png" in report


def test_the_log_has_losses_scores_and_pictures(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = {name: EventAccumulator(str(finished[0] / "logs" / name)).Reload() for name in ("training", "retraining")}
    tags = {name: sorted(events[name].Tags()["scalars"]) for name in events}
    speed, losses = ["throughput/windows_per_second"], ["gradient_norm", "learning_rate", "loss"]
    assert tags["retraining"] == speed + [f"training/{name}" for name in losses]
    assert tags["training"] == ["score/MASE", "score/WQL", "score/loss", *tags["retraining"]]
    base, last = finished[1].result.selection.candidates
    scores = {event.step: event.value for event in events["training"].Scalars("score/WQL")}
    assert list(scores) == [0, 2, 4]
    assert (scores[0], scores[4]) == pytest.approx((base.scores["wql"], last.scores["wql"]))
    (picture,) = events["training"].Tags()["images"]
    assert [event.step for event in events["training"].Images(picture)] == [0, 2, 4]


def test_the_saved_configuration_repeats_the_run(tiny, tmp_path):
    data = np.random.default_rng(0).normal(size=(4, 200))
    trainer, windows = prepared(tiny["bolt"], None, data, max_steps=None, validation_split=0.0)
    trainer.train_model(windows, epochs=1)
    trainer.save_trained_model(str(tmp_path / "out"))
    config = parse_config(["--config", str(tmp_path / "out" / "config.yaml")])
    assert (config.training.epochs, config.base_model.output_path) == (1, str(tiny["bolt"]))
    assert config.base_model.model_name == "scratch:bolt-nano"  # which the configuration did not name


def test_settings_that_apply_once_are_not_saved(tiny, tmp_path):
    trained(tiny["bolt"], tmp_path / "out", max_steps=1, overwrite=True, push_to_hub="someone/model")
    saved = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["training"]
    assert saved["overwrite"] is False and saved["push_to_hub"] is None


def test_numpy_numbers_and_enumerations_are_saved_as_yaml_values(tiny, tmp_path):
    levels = list(np.linspace(0.1, 0.9, 9))
    settings = {"quantiles": levels, "max_steps": np.int64(1), "learning_rate": np.float32(0.5)}
    trained(tiny["bolt"], tmp_path / "out", trainer={"lr_scheduler_type": SchedulerType.CONSTANT}, **settings)
    saved = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["training"]
    assert saved["quantiles"] == levels and saved["learning_rate"] == 0.5
    before = weights(tmp_path / "out")
    (tmp_path / "out" / "training_info.json").unlink()
    trained(tiny["bolt"], tmp_path / "out", trainer={"lr_scheduler_type": "constant"}, **settings)
    assert same(weights(tmp_path / "out"), before)


def test_the_model_card_says_that_the_retrained_model_was_not_saved(finished, tiny, tmp_path):
    from pipeline.training.report import model_card

    content = info(finished[0])
    saved, discarded = (
        model_card({**content, "refit": {**content["refit"], "saved": saved}}) for saved in (True, False)
    )
    assert saved != discarded


def test_a_finished_run_keeps_no_checkpoints_unless_asked_and_its_files_have_the_umask(tiny, tmp_path):
    old = os.umask(0o027)
    try:
        for keep in (False, True):
            folder = tmp_path / f"{keep}"
            trained(tiny["bolt"], folder, keep_checkpoints=keep, refit=True)
            assert (folder / "checkpoints").is_dir() == keep
            assert {path.stat().st_mode & 0o777 for path in folder.glob("*.*") if path.is_file()} == {0o640}
    finally:
        os.umask(old)
