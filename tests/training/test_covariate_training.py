"""Training of Chronos-2 with covariates; the forecasts are in tests/forecasting."""

import json
from dataclasses import replace

import pytest
from chronos import BaseChronosPipeline
from support.runs import short_config
from support.shops import HORIZON, KNOWN, SHOP, shops

from pipeline.config import DataConfig
from pipeline.core.errors import UserError
from pipeline.data.columns import Columns
from pipeline.data.source import open_source
from pipeline.train_model import ChronosTrainer

DATA = DataConfig(target="sold", past_covariates=["visits"], known_covariates=KNOWN)


def test_a_model_trained_with_covariates_is_scored_with_them_and_loaded_by_stock_chronos(tiny, tmp_path):
    past, after = shops()
    config = replace(short_config(max_steps=2, prediction_length=HORIZON, learning_rate=3e-3), data=DATA)
    trainer = ChronosTrainer(str(tiny["chronos-2"]), config=config)
    windows = trainer.prepare_training_data([open_source(past, tmp_path, Columns(variates=SHOP))])
    trainer.train_model(windows, epochs=config.training.epochs)
    trainer.save_trained_model(str(tmp_path / "out"))
    info = json.loads((tmp_path / "out" / "training_info.json").read_text())
    assert info["variates"]["known"] == KNOWN
    assert set(info["variates"]["categories"]["promo"]) == {"none", "flyer", "window"}
    assert {candidate["candidate"] for candidate in info["candidates"]} >= {"base", "step 2"}
    assert trainer.result is not None and trainer.result.selection is not None
    winner = trainer.result.selection.winner
    assert trainer.evaluate_model(windows)["WQL"] == pytest.approx(winner.scores["wql"], rel=1e-4)
    stock = BaseChronosPipeline.from_pretrained(tmp_path / "out")
    known = after[["item_id", "timestamp", *KNOWN]]
    forecast = stock.predict_df(past, future_df=known, target="sold", prediction_length=HORIZON)
    assert len(forecast) == 5 * HORIZON


def test_a_model_without_covariates_refuses_them(tiny, tmp_path):
    trainer = ChronosTrainer(str(tiny["bolt"]), config=replace(short_config(prediction_length=HORIZON), data=DATA))
    store = open_source(shops()[0], tmp_path, Columns(variates=SHOP))
    with pytest.raises(UserError, match="Chronos-2"):
        trainer.prepare_training_data([store])


def test_train_py_trains_with_covariates(run_script, tiny, tmp_path):
    shops(8)[0].to_csv(tmp_path / "past.csv", index=False)
    columns = [
        "--data.target",
        "sold",
        "--data.past_covariates",
        "[visits]",
        "--data.known_covariates",
        "[price, promo]",
    ]
    paths = ["--data.train", "past.csv", "--base_model.output_path", tiny["chronos-2"], "--training.output_path", "out"]
    settings = ["--training.max_steps", 1, "--training.prediction_length", HORIZON, "--training.context_length", 32]
    fast = ["--training.refit", "false", "--training.trainer.report_to", "none"]
    code, _, err = run_script("train", *columns, *paths, *settings, *fast)
    assert code == 0, err
    info = json.loads((tmp_path / "out" / "training_info.json").read_text())
    assert info["variates"]["past"] == ["visits"] and info["steps"] == 1
