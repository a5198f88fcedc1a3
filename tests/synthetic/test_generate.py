"""The files that `generate` writes for each generator. The script itself is tested with training."""

import numpy as np
import pandas as pd
import pytest
from support.series import long_frame, parse_config

from pipeline.core.errors import UserError
from pipeline.data.arrow_store import open_store
from pipeline.synthetic.bank import open_bank
from pipeline.synthetic.generate import generate
from pipeline.synthetic.patterns import promotions

SIZES = ["--synthetic.n_series", "5", "--synthetic.shard_size", "3", "--synthetic.length", "30"]


@pytest.mark.parametrize("generator, series", [("bank", open_bank("bank")), ("sarima", open_bank("sarima"))])
def test_a_folder_contains_the_series_of_the_bank_or_a_prior(tmp_path, monkeypatch, generator, series):
    monkeypatch.chdir(tmp_path)
    folder = generate(parse_config(["--synthetic.generator", generator, *SIZES]))
    assert str(folder) == f"data/synthetic/{generator}"
    stores = [open_store(path) for path in sorted(folder.glob("*.arrow"))]
    assert [len(store) for store in stores] == [3, 2]
    targets = [store.target(i).tobytes() for store in stores for i in range(len(store))]
    assert targets == [row.tobytes() for row in series.series(5, 30, seed=0)]


def test_the_dummy_series_are_one_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = generate(parse_config(["--training.dummy_data.n_samples", "4", "--training.dummy_data.length", "20"]))
    store = open_store(path)
    assert str(path) == "data/dummy/dummy.arrow" and store.lengths.tolist() == [20] * 4


def test_promotions_after_the_series_are_a_future_table(run_script, tmp_path, tiny):
    options = ["--training.dummy_data.n_samples", 4, "--training.dummy_data.length", 200, "--horizon", 30]
    promoted = [*options, "--training.dummy_data.patterns", "[seasonal, promotion]"]
    assert run_script("generate_data", *promoted)[0] == 0
    path = tmp_path / "data/dummy/dummy_future.parquet"
    future = pd.read_parquet(path)
    expected = [promotions(k, 200, 230, seed=0) for k in range(4)]
    np.testing.assert_array_equal(future.promotion, np.concatenate(expected))
    given = ["--inference.model_path", tiny["chronos-2"], "--inference.future_path", path, "--horizon", 30]
    code, _, err = run_script("forecast", *given)
    assert code == 0, err
    forecasts = pd.read_parquet(tmp_path / "data/predictions/predictions.parquet")
    assert forecasts[["item_id", "timestamp"]].equals(future[["item_id", "timestamp"]].astype(forecasts.dtypes[:2]))
    assert run_script("generate_data", *options)[0] == 0 and not path.exists()


def test_mixtures_are_drawn_from_the_training_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    long_frame(n_series=3, length=40).to_csv("a.csv", index=False)
    lengths = ["--synthetic.mixup.min_length", "10", "--synthetic.n_series", "4"]
    folder = generate(parse_config(["--synthetic.generator", "tsmixup", "--data.train", "a.csv", *lengths]))
    (path,) = folder.glob("*.arrow")
    store = open_store(path)
    assert len(store) == 4 and store.lengths.min() >= 10 and store.lengths.max() <= 40


def test_an_unfinished_folder_is_continued(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = parse_config(["--synthetic.generator", "growth", *SIZES])
    folder = generate(config)
    first, second = sorted(folder.glob("*.arrow"))
    second.unlink()
    kept = first.stat().st_mtime_ns
    generate(config)
    assert first.stat().st_mtime_ns == kept and second.is_file()


@pytest.mark.parametrize("generator, key", [("dummy", "synthetic.bank"), ("tsmixup", "synthetic.bank")])
def test_a_bank_that_has_no_effect_is_refused(generator, key):
    with pytest.raises(UserError, match=key):
        generate(parse_config(["--synthetic.generator", generator, "--synthetic.bank", "bank.yaml"]))


@pytest.mark.parametrize("option", [["--data.target", "[target, visits]"], ["--data.known_covariates", "visits"]])
def test_series_of_several_variates_are_not_mixed(tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    long_frame().assign(visits=1.5).to_csv("a.csv", index=False)
    with pytest.raises(UserError, match="tsmixup.*visits"):
        generate(parse_config(["--synthetic.generator", "tsmixup", "--data.train", "a.csv", *option]))


def test_series_that_are_never_mixed_are_reported(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    frame = long_frame(n_series=4, length=40)
    short = frame["item_id"].isin(frame["item_id"].unique()[:2]) & (frame["timestamp"] > frame["timestamp"].iloc[9])
    constant = frame["item_id"] == frame["item_id"].unique()[3]
    frame.loc[constant, "target"] = 1.0
    frame[~short].to_csv("a.csv", index=False)
    frame[constant].to_csv("constant.csv", index=False)
    options = ["--synthetic.generator", "tsmixup", "--synthetic.mixup.min_length", "20", "--synthetic.n_series", "2"]
    generate(parse_config([*options, "--data.train", "a.csv"]))
    assert any("a.csv: 1 of 4 series are constant" in message for message in caplog.messages)
    assert any("2 of 3 series are shorter" in message for message in caplog.messages)
    with pytest.raises(UserError, match="every series of constant.csv"):
        generate(parse_config([*options, "--data.train", "[a.csv, constant.csv]"]))
