"""Training of Chronos-2 on groups of series, and validation in which series see each other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.groups import grouped_frame
from support.runs import info, last_checkpoint, same, short_config, unfinish, weights

from pipeline.config import Config, DataConfig, InferenceConfig
from pipeline.core.errors import UserError
from pipeline.evaluation.backtest import backtest
from pipeline.load_model import remembered_config
from pipeline.models.load import read_model
from pipeline.train_model import ChronosTrainer
from pipeline.training.trainer import forecast_function

GROUPED = DataConfig(group_column="region")
SETTINGS = {"batch_size": 8, "prediction_length": 4, "context_length": 32, "validation_windows": 64}


def config_of(data=DataConfig(), inference=InferenceConfig(), **training):
    return replace(short_config(**{**SETTINGS, **training}), data=data, inference=replace(inference, flip=False))


def prepared(base, config, output=None):
    trainer = ChronosTrainer(str(base), config=config, run_folder=output)
    return trainer, trainer.prepare_training_data(grouped_frame())


def trained(base, config, output):
    trainer, windows = prepared(base, config, output)
    trainer.train_model(windows, epochs=config.training.epochs)
    trainer.save_trained_model(str(output))
    return trainer


def test_a_run_on_groups_is_remembered_and_resumes_bit_for_bit(tiny, tmp_path, monkeypatch):
    seen = []
    forward = torch.nn.Module.__call__

    def recorded(module, *arguments, **inputs):
        if module.training and "future_target" in inputs and "group_ids" in inputs:
            seen.append(inputs["group_ids"].tolist())
        return forward(module, *arguments, **inputs)

    monkeypatch.setattr(torch.nn.Module, "__call__", recorded)
    config = config_of(GROUPED)
    trained(tiny["chronos-2"], config, tmp_path / "whole")
    windows = prepared(tiny["chronos-2"], config)[1][0]
    assert len(seen) == 4
    for step, ids in enumerate(seen):
        groups = windows.grouped_batch(range(8 * step, 8 * step + 8))[2]
        np.testing.assert_array_equal(np.equal.outer(ids, ids), groups[:, None] == groups)
    assert any(len(set(ids)) < 8 for ids in seen)
    trained(tiny["chronos-2"], config, tmp_path / "resumed")
    unfinish(tmp_path / "resumed")
    last = last_checkpoint(tmp_path / "resumed")
    last.rename(last.with_name("removed"))
    trained(tiny["chronos-2"], config, tmp_path / "resumed")
    assert len(seen) == 4 + 4 + 2
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "resumed"))
    assert info(tmp_path / "whole")["config"]["data"]["group_column"] == "region"
    assert remembered_config(str(tmp_path / "whole")).data.group_column == "region"
    alone = trained(tiny["chronos-2"], config_of(), tmp_path / "alone")
    assert alone.result is not None and not same(weights(tmp_path / "whole"), weights(tmp_path / "alone"))


def test_validation_forecasts_groups_together(tiny):
    _, (_, validation) = prepared(tiny["chronos-2"], config_of(GROUPED))
    assert validation is not None and validation.groups is not None
    sizes = []
    forecast = forecast_function(read_model(tiny["chronos-2"]).float(), 0, False)

    def counted(histories, length):
        sizes.append([history.group for history in histories])
        return forecast(histories, length)

    backtest(validation, counted, validation.batch_size)
    assert sum(map(len, sizes)) == len(validation) and all(None not in groups for groups in sizes)
    batches_of_group = [group for groups in sizes for group in set(groups)]
    assert len(batches_of_group) == len(set(batches_of_group)) < len(validation)


@pytest.mark.parametrize("sections", [
    {"inference": InferenceConfig(cross_learning=True, batch_size=5)}, {"data": GROUPED}
])  # fmt: skip
def test_candidates_are_scored_together_and_the_model_remembers_it(tiny, tmp_path, sections):
    config = config_of(**sections, max_steps=2)
    trainer = trained(tiny["chronos-2"], config, tmp_path / "out")
    windows = trainer.prepare_training_data(grouped_frame())
    winner = trainer.result.selection.winner
    scores = trainer.evaluate_model(windows)
    assert scores["WQL"] == pytest.approx(winner.scores["wql"], rel=1e-9)
    alone = ChronosTrainer(str(tiny["chronos-2"]), config=config_of(max_steps=2))
    alone.train_model(alone.prepare_training_data(grouped_frame()), epochs="auto")
    assert alone.result is not None and alone.result.selection is not None
    together = {entry.name: entry.scores for entry in trainer.result.selection.candidates}
    by_itself = {entry.name: entry.scores for entry in alone.result.selection.candidates}
    for score in ("wql", "loss"):
        assert together["base"][score] != pytest.approx(by_itself["base"][score], rel=1e-6)
    remembered = remembered_config(str(tmp_path / "out"))
    assert remembered.inference.cross_learning == config.inference.cross_learning
    assert remembered.inference.batch_size == config.inference.batch_size
    assert remembered.data.group_column == config.data.group_column


@pytest.mark.parametrize("sections, key", [
    ({"inference": InferenceConfig(cross_learning=True)}, "inference.cross_learning"),
    ({"data": GROUPED}, "data.group_column"),
])  # fmt: skip
def test_another_family_and_mixtures_refuse_groups(tiny, sections, key):
    with pytest.raises(UserError, match=f"{key}: .*bolt"):
        prepared(tiny["bolt"], config_of(**sections))
    with pytest.raises(UserError, match="data.mixup"):
        prepared(tiny["chronos-2"], config_of(replace(GROUPED, mixup=True)))
    assert Config().inference.cross_learning is False
