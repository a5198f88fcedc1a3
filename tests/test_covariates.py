"""Chronos-2 with covariates and several targets: its own pipeline's numbers, and training that learns from them."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from chronos import BaseChronosPipeline
from chronos.chronos2 import preprocess
from chronos.chronos2.dataset import Chronos2Dataset

from pipeline.config import Config, PathsConfig
from pipeline.core.errors import UserError
from pipeline.core.series import Panel, Variates
from pipeline.data.arrow_store import open_store
from pipeline.data.columns import Columns
from pipeline.data.covariates import encoded
from pipeline.data.future import Future
from pipeline.data.source import open_source
from pipeline.forecasting.files import Request, forecast_store
from pipeline.forecasting.forecaster import Forecaster
from pipeline.load_model import ChronosLoader
from pipeline.models.load import read_model
from pipeline.train_model import ChronosTrainer
from pipeline.windows.inputs import inputs_of
from pipeline.windows.sampling import SeriesSampler, TrainingWindows, ValidationWindows
from pipeline.windows.splits import split_store

HORIZON = 8
LEVELS = [0.1, 0.5, 0.9]
KNOWN = ["price", "promo"]
SHOP = Variates(("sold",), ("visits",), ("price", "promo"))


def shops(n_series=5, length=80, seed=0):
    """Return a long table of sales that follow a price and a promotion, and its continuation."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(n_series):
        n = length + 3 * k + HORIZON
        price = rng.choice([1.0, 2.0, 4.0], n)
        promo = rng.choice(["none", "flyer", "window"], n)
        sold = 20 + k - 3 * price + 8 * (promo == "flyer") + rng.normal(0, 0.3, n)
        frames.append(
            pd.DataFrame(
                {
                    "item_id": f"shop{k}",
                    "timestamp": pd.date_range("2024-01-01", periods=n, freq="D"),
                    "sold": sold,
                    "visits": sold * 3 + rng.normal(0, 1, n),
                    "price": price,
                    "promo": promo,
                }
            )
        )
    frame = pd.concat(frames, ignore_index=True)
    future = frame.groupby("item_id").cumcount(ascending=False) < HORIZON
    return frame[~future].reset_index(drop=True), frame[future].reset_index(drop=True)


@pytest.fixture
def opened(tmp_path):
    past, future = shops()
    store = open_source(past, tmp_path, Columns(variates=SHOP))
    columns = Columns(variates=Variates((), (), tuple(KNOWN)))
    table = open_source(future[["item_id", "timestamp", *KNOWN]], tmp_path, columns, freq="D")
    return store, Future(table, store, HORIZON, "future"), past, future


def test_a_table_with_covariates_is_a_store_of_as_many_rows_an_item(opened):
    store, _, past, _ = opened
    assert len(store) == 5 and list(store.item_ids) == [f"shop{k}" for k in range(5)]
    assert store.item_ids[-1] == "shop4" and store.item_ids[1:3] == ["shop1", "shop2"]
    assert store.variates.names == ("sold", "visits", "price", "promo")
    for index, (_, group) in enumerate(past.groupby("item_id")):
        rows = store.rows(index)
        np.testing.assert_array_equal(rows[:3], group[["sold", "visits", "price"]].to_numpy(np.float32).T)
        categories = store.variates.categories["promo"]
        assert [categories[int(code)] for code in rows[3]] == list(group["promo"])
        np.testing.assert_array_equal(store.target(index), rows[0])
    again = open_store(store.path)
    assert again.variates == store.variates and again.lengths.tolist() == store.lengths.tolist()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_every_format_carries_covariates(tmp_path, suffix):
    past, _ = shops(2)
    path = tmp_path / f"shops.{suffix}"
    shuffled = past.sample(frac=1, random_state=0)
    match suffix:
        case "csv":
            shuffled.to_csv(path, index=False)
        case "jsonl":
            shuffled.to_json(path, orient="records", lines=True, date_format="iso")
        case _:
            shuffled.to_parquet(path)
    store = open_source(path, tmp_path / "cache", Columns(variates=SHOP))
    for index, item in enumerate(store.item_ids):
        group = past[past["item_id"] == item]
        np.testing.assert_allclose(store.rows(index)[:3], group[["sold", "visits", "price"]].to_numpy().T, rtol=1e-6)
        categories = store.variates.categories["promo"]
        assert [categories[int(code)] for code in store.rows(index)[3]] == list(group["promo"])


def test_rows_missing_in_between_are_missing_in_every_variate(tmp_path):
    past, _ = shops(1)
    store = open_source(past.drop(index=[4, 5]), tmp_path, Columns(variates=SHOP))
    assert np.isnan(store.rows(0)[:, 4:6]).all() and not np.isnan(store.rows(0)[:, [3, 6]]).any()


@pytest.mark.parametrize("targets", [["sold"], ["sold", "visits"]])
def test_forecasts_with_covariates_are_those_of_stock_predict_df(uncrossed, opened, tmp_path, targets):
    store, future, past, after = opened
    if len(targets) == 2:
        store = open_source(past, tmp_path, Columns(variates=Variates(tuple(targets), (), tuple(KNOWN))))
        columns = Columns(variates=Variates((), (), tuple(KNOWN)))
        table = open_source(after[["item_id", "timestamp", *KNOWN]], tmp_path, columns, freq="D")
        future = Future(table, store, HORIZON, "future")
    stock = BaseChronosPipeline.from_pretrained(uncrossed["chronos-2"])
    expected = stock.predict_df(
        past,
        future_df=after[["item_id", "timestamp", *KNOWN]],
        target=targets,
        prediction_length=HORIZON,
        quantile_levels=LEVELS,
    )
    ours = pd.concat(
        part.to_pandas()
        for part in forecast_store(Forecaster(stock), store, Request(HORIZON, LEVELS, batch_size=2, future=future))
    )
    keys = ["item_id", "target_name", "timestamp"]
    ours, expected = ours.sort_values(keys), expected.sort_values(keys)
    assert (ours["target_name"].to_numpy() == expected["target_name"].to_numpy()).all()
    assert (ours["timestamp"].to_numpy("M8[s]") == expected["timestamp"].to_numpy("M8[s]")).all()
    np.testing.assert_allclose(ours["predictions"], expected["predictions"].astype(float), rtol=1e-4, atol=1e-4)
    without = Forecaster(stock).quantiles([store.target(0)], HORIZON, LEVELS)[1]
    assert np.abs(without[0] - ours["predictions"].to_numpy()[:HORIZON]).max() > 1e-3  # they are looked at


def test_categories_become_what_chronos_2_preprocesses_them_to():
    rng = np.random.default_rng(0)
    target = rng.normal(10, 3, 40).astype(np.float32)
    target[[3, 7]] = np.nan
    names = np.array(["b", "a", "c"])
    codes = rng.integers(0, 3, 40)
    text = names[codes].astype(object)
    text[[5, 6]] = None
    later = np.array(["a", "z", None, "c"], object)
    for n_targets in (1, 2):
        variates = Variates(("y", "x")[:n_targets], (), ("k",), {"k": tuple(names)})
        past = np.stack([*[target] * n_targets, np.where(pd.isna(text), np.nan, codes)]).astype(np.float32)
        future = np.full((n_targets + 1, 4), np.nan, np.float32)
        future[-1] = [1, -1, np.nan, 2]
        expected = preprocess.from_list_of_dicts(
            [
                {
                    "target": np.stack([target] * n_targets) if n_targets > 1 else target,
                    "past_covariates": {"k": text},
                    "future_covariates": {"k": later},
                }
            ],
            prediction_length=4,
        )[0]
        ours, beyond = encoded(past[None], future[None], variates)
        np.testing.assert_allclose(ours[0], expected["context"].numpy(), rtol=1e-5)
        np.testing.assert_allclose(beyond[0], expected["future_covariates"].numpy(), rtol=1e-5)


def test_training_batches_are_those_of_chronos_2s_own_dataset(opened, nano):
    store, *_ = opened
    split = split_store(store, 0.0, HORIZON, 4)
    validation = ValidationWindows(
        [dataclasses.replace(split, train_ends=store.lengths - HORIZON)],
        context_length=1000,
        prediction_length=HORIZON,
        max_windows=99,
    )
    config = read_model(nano["chronos-2"]).config.chronos_config
    inputs = inputs_of("chronos-2", config, HORIZON, store.variates)(*map(torch.from_numpy, validation.batch(range(5))))
    prepared = []
    for index in range(5):
        history = validation.history(index)
        past, future = encoded(history.past[None], history.future[None], store.variates)
        rows = np.concatenate(
            [past[0], np.where(np.isnan(future[0]), store.rows(index)[:, -HORIZON:], future[0])], axis=1
        )
        prepared.append(
            {
                "context": torch.from_numpy(rows.astype(np.float32)),
                "future_covariates": torch.full((4, HORIZON), torch.nan),
                "n_targets": 1,
                "n_covariates": 3,
                "n_future_covariates": 2,
            }
        )
    stock = Chronos2Dataset(prepared, 1000, HORIZON, 20, config["output_patch_size"], mode="validation")
    expected = next(iter(stock))
    for key in ("context", "future_target", "future_covariates"):
        torch.testing.assert_close(inputs[key], expected[key], equal_nan=True)
    assert (inputs["group_ids"][:, None] == inputs["group_ids"]).equal(
        expected["group_ids"][:, None] == expected["group_ids"]
    )
    assert inputs["num_output_patches"] == expected["num_output_patches"]


def test_training_windows_cut_all_variates_at_the_same_steps(opened):
    store, *_ = opened
    split = split_store(store, 0.2, HORIZON, 4)
    windows = TrainingWindows(
        [SeriesSampler(split, 4)], [1.0], context_length=24, prediction_length=HORIZON, drop_prob=0.0, seed=0
    )
    context, target = windows.batch(range(20))
    assert context.shape == (80, 24) and target.shape == (80, HORIZON)
    for window in range(20):
        whole = np.concatenate([context, target], axis=1)[4 * window : 4 * window + 4]
        seen = whole[:, ~np.isnan(whole[0])]
        found = [
            index
            for index in range(len(store))
            for begin in range(store.lengths[index])
            if np.array_equal(store.rows(index)[:, begin : begin + seen.shape[1]], seen)
        ]
        assert len(found) == 1
    alone, _ = windows.batch([7])
    np.testing.assert_array_equal(alone[:, -24:], context[28:32, -alone.shape[1] :])


def test_a_series_whose_second_target_varies_is_trained_on(tmp_path):
    past, _ = shops(2)
    past.loc[past["item_id"] == "shop0", "sold"] = 1.0
    split = split_store(open_source(past, tmp_path, Columns(variates=Variates(("sold", "visits")))), 0.2, HORIZON, 4)
    assert split.usable.tolist() == [0, 1]
    alone = split_store(
        open_source(past, tmp_path, Columns(variates=Variates(("sold",), ("visits",)))), 0.2, HORIZON, 4
    )
    assert alone.usable.tolist() == [1]


def settings(tmp_path, **training):
    config = Config()
    data = dataclasses.replace(config.data, target="sold", past_covariates=["visits"], known_covariates=KNOWN)
    train = dataclasses.replace(
        config.training,
        **{"max_steps": 2, "learning_rate": 3e-3, "context_length": 48, "prediction_length": HORIZON, **training},
    )
    paths = dataclasses.replace(config.paths, data_dir=str(tmp_path / "data"))
    return dataclasses.replace(config, data=data, training=train, paths=paths)


def test_a_model_trained_with_covariates_is_scored_with_them_and_stock_chronos_loads_it(nano, tmp_path):
    past, after = shops()
    store = open_source(past, tmp_path, Columns(variates=SHOP))
    trainer = ChronosTrainer(str(nano["chronos-2"]))
    trainer.config = settings(tmp_path, refit=False)
    data = trainer.prepare_training_data([store])
    trainer.train_model(data)
    trainer.save_trained_model(str(tmp_path / "out"))
    info = json.loads((tmp_path / "out" / "training_info.json").read_text())
    assert info["variates"]["known"] == KNOWN and set(info["variates"]["categories"]["promo"]) == {
        "none",
        "flyer",
        "window",
    }
    assert {candidate["candidate"] for candidate in info["candidates"]} >= {"base", "step 2"}
    chosen = min(trainer.candidates, key=lambda candidate: candidate.scores["loss"])
    assert trainer.evaluate_model(data)["WQL"] == pytest.approx(chosen.scores["wql"], rel=1e-4)
    stock = BaseChronosPipeline.from_pretrained(tmp_path / "out")
    known = after[["item_id", "timestamp", *KNOWN]]
    forecast = stock.predict_df(past, future_df=known, target="sold", prediction_length=HORIZON)
    assert len(forecast) == 5 * HORIZON


def test_train_forecast_and_evaluate_by_their_commands(run_script, nano, tmp_path):
    past, after = shops(8)
    past.to_csv(tmp_path / "past.csv", index=False)
    after[["item_id", "timestamp", *KNOWN]].to_csv(tmp_path / "future.csv", index=False)
    columns = [
        "--data.target",
        "sold",
        "--data.past_covariates",
        "[visits]",
        "--data.known_covariates",
        "[price, promo]",
    ]
    train = ["--data.train", "past.csv", "--base_model.output_path", nano["chronos-2"], "--training.max_steps", 2]
    train += ["--training.output_path", "out", "--training.prediction_length", HORIZON, "--training.context_length", 32]
    code, out, err = run_script("train", *columns, *train)
    assert code == 0, err
    ask = [
        "--inference.model_path",
        "out",
        "--inference.data_path",
        "past.csv",
        "--inference.prediction_length",
        HORIZON,
    ]
    future = ["--inference.future_path", "future.csv"]
    save = ["--inference.output_path", "p.csv", "--inference.plot_path", "p.png"]
    code, out, err = run_script("forecast", *columns, *ask, *future, *save)
    assert code == 0, err
    table = pd.read_csv("p.csv")
    assert len(table) == 8 * HORIZON and set(table["target_name"]) == {"sold"}
    models = ["--evaluation.models", f"[out, {nano['bolt']}]", "--evaluation.data_path", "past.csv"]
    code, out, err = run_script(
        "evaluate", *columns, *ask, *models, "--evaluation.baselines", "[]", "--evaluation.report_path", "scores"
    )
    assert code == 0 and "seasonal naive" in out, err
    for lacking, word in (
        ([], "future_path"),
        (["--inference.future_path", "short.csv"], "shop3"),
        (["--inference.future_path", "other.csv"], "balloon"),
        (["--inference.future_path", "lacking.csv"], "promo"),
        (["--inference.future_path", "nowhere.csv"], "nowhere.csv"),
    ):
        known = after[["item_id", "timestamp", *KNOWN]]
        known.drop(index=known.index[known["item_id"] == "shop3"][-1]).to_csv("short.csv", index=False)
        known.assign(promo="balloon").to_csv("other.csv", index=False)
        known.drop(columns="promo").to_csv("lacking.csv", index=False)
        code, _, err = run_script("forecast", *columns, *ask, *lacking, "--inference.output_path", "q.csv")
        assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and word in err, (lacking, err)
    code, _, err = run_script("forecast", *columns, *future, *ask[2:], "--inference.model_path", nano["bolt"])
    assert code == 2 and "Chronos-2" in err


def test_a_frame_is_forecast_with_the_frame_of_its_future(uncrossed, tmp_path):
    past, after = shops(3)
    loader = ChronosLoader(str(uncrossed["chronos-2"]))
    data = dataclasses.replace(Config().data, target="sold", past_covariates=["visits"], known_covariates=KNOWN)
    loader.config = Config(data=data, paths=PathsConfig(str(tmp_path)))
    loader.load_trained_model()
    future = after[["item_id", "timestamp", *KNOWN]]
    stock = BaseChronosPipeline.from_pretrained(uncrossed["chronos-2"])
    expected = stock.predict_df(past, future, target="sold", prediction_length=HORIZON, quantile_levels=LEVELS)
    found = loader.predict_df(past, HORIZON, future)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-4)
    with pytest.raises(UserError, match="the DataFrame of the future: series shop2 has no price"):
        loader.predict_df(past, HORIZON, future[:-1])


def test_the_targets_of_a_store_keep_their_names(run_script, nano, tmp_path):
    """Where it lies, without the table it was made of: data.target says nothing of them."""
    store = open_source(shops(2)[0], tmp_path / "cache", Columns(variates=Variates(("sold", "visits"))))
    ask = ["--inference.model_path", nano["chronos-2"], "--inference.prediction_length", 3]
    shops(2)[0].to_csv("shops.csv", index=False)
    for name, data in (("both", store.path), ("one", "shops.csv")):
        target = ["--data.target", "sold"] if name == "one" else []
        code, _, err = run_script(
            "forecast", *ask, *target, "--inference.data_path", data, "--inference.output_path", f"{name}.csv"
        )
        assert code == 0, err
    assert pd.read_csv("both.csv")["target_name"].tolist() == 2 * (3 * ["sold"] + 3 * ["visits"])
    assert set(pd.read_csv("one.csv")["target_name"]) == {"sold"}


def test_models_without_covariates_are_refused_them_in_training(nano, opened, tmp_path):
    trainer = ChronosTrainer(str(nano["bolt"]))
    trainer.config = settings(tmp_path)
    with pytest.raises(UserError, match="Chronos-2"):
        trainer.prepare_training_data([opened[0]])


def test_an_infinite_covariate_is_refused_by_its_name(tmp_path):
    past, _ = shops(2)
    past.loc[30, "price"] = np.inf
    past.to_csv(tmp_path / "past.csv", index=False)
    with pytest.raises(UserError, match="row 31 has an infinite price"):
        open_source(tmp_path / "past.csv", tmp_path / "cache", Columns(variates=SHOP))


def test_a_text_among_the_first_numbers_makes_a_column_of_categories(tmp_path):
    past, _ = shops(2)
    past = past.astype({"price": object})
    past.loc[30, "price"] = "cheap"
    past.to_csv(tmp_path / "past.csv", index=False)
    store = open_source(tmp_path / "past.csv", tmp_path / "cache", Columns(variates=SHOP))
    assert set(store.variates.categories["price"]) == {"1.0", "2.0", "4.0", "cheap"}


def test_a_text_long_after_numbers_is_refused_by_its_row(tmp_path):
    n = 300_000
    frame = pd.DataFrame(
        {"timestamp": pd.date_range("2000-01-01", periods=n, freq="min"), "target": 1.0, "price": "1.25"}
    )
    frame.loc[n - 1, "price"] = "cheap"
    frame.to_csv(tmp_path / "s.csv", index=False)
    with pytest.raises(UserError, match=f"row {n} has a price that is no number: cheap"):
        open_source(tmp_path / "s.csv", tmp_path / "c", Columns(variates=Variates(("target",), ("price",))))


def test_a_future_that_holds_the_past_too_is_read_from_where_it_counts(opened, tmp_path):
    store, future, past, after = opened
    both = pd.concat([past, after])[["item_id", "timestamp", *KNOWN]]
    columns = Columns(variates=Variates((), (), tuple(KNOWN)))
    for part in (both, both[both["timestamp"] >= "2024-02-01"]):
        longer = Future(open_source(part, tmp_path, columns, freq="D"), store, HORIZON, "future")
        for index in range(len(store)):
            np.testing.assert_array_equal(longer.of(index), future.of(index))
    shorter = past[past["timestamp"] >= "2024-02-01"]
    recent = open_source(shorter, tmp_path, Columns(variates=SHOP), freq="D")
    begins_before = Future(open_source(both, tmp_path, columns, freq="D"), recent, HORIZON, "future")
    alone = Future(open_source(after[list(both)], tmp_path, columns, freq="D"), recent, HORIZON, "future")
    for index in range(len(recent)):
        np.testing.assert_array_equal(begins_before.of(index), alone.of(index))


def test_panels_say_what_is_known_beyond_their_end(opened):
    store, *_ = opened
    split = split_store(store, 0.2, HORIZON, 4)
    validation = ValidationWindows([split], context_length=24, prediction_length=HORIZON, max_windows=10)
    panel = validation.history(0)
    assert isinstance(panel, Panel)
    _, series, start, _ = validation.windows[0]
    np.testing.assert_array_equal(panel.past, store.rows(series)[:, :start])
    np.testing.assert_array_equal(panel.future[2:], store.rows(series)[2:, start : start + HORIZON])
    assert np.isnan(panel.future[:2]).all()
