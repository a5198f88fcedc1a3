"""Forecasts of series that see each other, compared with stock Chronos-2."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from chronos import BaseChronosPipeline
from support.groups import GROUPS, grouped_frame, save_coupled_model
from support.shops import HORIZON, KNOWN, open_known, shops

from pipeline.config import Config, DataConfig, InferenceConfig, PathsConfig
from pipeline.core.errors import UserError
from pipeline.core.series import Panel, Variates
from pipeline.data.arrow_store import store_from_arrays
from pipeline.data.columns import Columns
from pipeline.data.source import open_source
from pipeline.forecasting.files import Parts, identity_of
from pipeline.forecasting.forecaster import Forecaster
from pipeline.forecasting.plots import drawn_forecasts
from pipeline.forecasting.request import Request
from pipeline.forecasting.tables import forecast_array, forecast_part, forecast_store, split_parts
from pipeline.load_model import ChronosLoader

LEVELS = [0.1, 0.5, 0.9]
GROUPED = Columns(group=("region",))


@pytest.fixture(scope="module")
def coupled(nano, tmp_path_factory):
    return save_coupled_model(nano["chronos-2"], tmp_path_factory.mktemp("coupled") / "model")


@pytest.fixture(scope="module")
def stock(coupled):
    return BaseChronosPipeline.from_pretrained(coupled)


@pytest.fixture(scope="module")
def frame():
    return grouped_frame()


def stock_forecasts(stock, frame, length=8, **settings):
    settings = {"prediction_length": length, "quantile_levels": LEVELS, **settings}
    return stock.predict_df(frame.drop(columns="region", errors="ignore"), **settings)


def our_forecasts(stock, store, request):
    return pd.concat([part.to_pandas() for part in forecast_store(Forecaster(stock), store, request)])


def assert_same(ours, expected, rtol=1e-6):
    pd.testing.assert_frame_equal(ours.reset_index(drop=True), expected, check_dtype=False, rtol=rtol)


@pytest.mark.parametrize("length", [8, 1030])
@pytest.mark.parametrize("batch_size", [4, 100])
@pytest.mark.filterwarnings("ignore:We recommend keeping prediction length")
def test_cross_learning_is_that_of_stock_on_the_same_batches(stock, frame, batch_size, length):
    """1,030 steps are more than the horizon of the model."""
    expected = stock_forecasts(stock, frame, length, batch_size=batch_size, cross_learning=True)
    request = Request(length, LEVELS, batch_size=batch_size, cross_learning=True)
    assert_same(our_forecasts(stock, open_source(frame), request), expected)
    alone = stock_forecasts(stock, frame, length, batch_size=batch_size)
    difference = np.abs(alone["0.1"] - expected["0.1"]).to_numpy().reshape(11, length)
    assert (difference.max(axis=1) > 0.003).all()


@pytest.mark.parametrize("targets, covariates", [(["sold"], ["visits"]), (["sold", "visits"], [])])
def test_covariates_and_several_targets_are_learned_across_as_by_stock(stock, tmp_path, targets, covariates):
    past, after = shops()
    columns = Columns(variates=Variates(tuple(targets), tuple(covariates), tuple(KNOWN)))
    store = open_source(past, tmp_path, columns)
    future = open_known(tmp_path, after, store)
    # Stock counts targets and covariates: a batch of 8 has two items of four.
    settings = {"target": targets, "future_df": after[["item_id", "timestamp", *KNOWN]], "batch_size": 8}
    expected = stock_forecasts(stock, past, HORIZON, **settings, cross_learning=True)
    request = Request(HORIZON, LEVELS, batch_size=2, cross_learning=True, future=future, target_names=targets)
    assert_same(our_forecasts(stock, store, request), expected)
    alone = stock_forecasts(stock, past, HORIZON, **settings)
    assert np.abs(alone["predictions"] - expected["predictions"]).max() > 0.01


@pytest.mark.parametrize("batch_size", [4, 7, 100])
def test_groups_are_forecast_as_by_stock_one_by_one(stock, frame, batch_size):
    """The groups have four, four and three series; batches of 7 have one or two groups."""
    store = open_source(frame, columns=GROUPED)
    ours = our_forecasts(stock, store, Request(8, LEVELS, batch_size=batch_size))
    parts = [stock_forecasts(stock, frame[frame["region"] == group], cross_learning=True) for group in GROUPS]
    assert_same(ours, pd.concat(parts, ignore_index=True), rtol=1e-4)


def test_a_group_larger_than_a_batch_is_cut_as_by_stock(stock, frame, caplog):
    store = open_source(frame.assign(region="all"), columns=GROUPED)
    expected = stock_forecasts(stock, frame, batch_size=4, cross_learning=True)
    assert_same(our_forecasts(stock, store, Request(8, LEVELS, batch_size=4)), expected)
    loader_for(stock, inference=InferenceConfig(batch_size=4)).request(store, 8)
    assert "1 groups" in caplog.text and "all" in caplog.text


def test_constant_and_empty_series_are_context_of_the_others(stock):
    rng = np.random.default_rng(0)
    series = [rng.normal(5, 1, 40), np.full(30, 700.0), np.full(20, np.nan), np.array([3.0]), rng.normal(9, 1, 25)]
    request = Request(8, LEVELS, cross_learning=True)
    ours = forecast_array(Forecaster(stock), store_from_arrays(series), request)
    inputs = [values.astype(np.float32) for values in series]
    expected, _ = stock.predict_quantiles(inputs, 8, quantile_levels=LEVELS, cross_learning=True)
    for row in (0, 4):
        np.testing.assert_allclose(ours[row], expected[row][0], rtol=1e-5)
    assert (ours[1] == 700).all() and np.isnan(ours[2]).all() and (ours[3] == 3).all()
    others = forecast_array(Forecaster(stock), store_from_arrays([series[0], series[4]]), request)
    assert np.abs(others - ours[[0, 4]]).max() > 0.01


@pytest.mark.parametrize("columns, cross_learning", [(GROUPED, False), (Columns(), True)])
def test_forecasts_depend_neither_on_parts_nor_on_processes(stock, frame, tmp_path, columns, cross_learning):
    store, forecaster = open_source(frame, columns=columns), Forecaster(stock)
    request = Request(8, LEVELS, batch_size=3, cross_learning=cross_learning)
    expected = our_forecasts(stock, store, request).reset_index(drop=True)
    small = replace(request, max_part_size=3)
    n_parts = len(split_parts(store, small))
    assert n_parts > 3
    parts = Parts(tmp_path / "forecasts.parquet", identity_of(forecaster, store, small, "auto"))
    parts.claim()
    for rank in range(2):
        assert sum(parts.fill(forecaster, store, small, rank, 2))
    parts.merge(n_parts)
    assert_same(pd.read_parquet(tmp_path / "forecasts.parquet"), expected, rtol=0)
    array = forecast_array(forecaster, store, request)
    by_item = expected.set_index("item_id")
    for index, item_id in enumerate(store.item_ids):
        np.testing.assert_array_equal(array[index], by_item.loc[item_id, [str(level) for level in LEVELS]])
    drawn = drawn_forecasts(forecaster, store, request)
    assert [panel.name for panel in drawn] == [f"s{k}" for k in range(6)]
    for panel in drawn:
        np.testing.assert_array_equal(panel.median, by_item.loc[panel.name, "0.5"])


def test_the_batch_size_is_in_the_identity_of_forecasts_that_depend_on_it(stock, frame):
    def identity(columns, **settings):
        store, request = open_source(frame, columns=columns), Request(8, LEVELS, **settings)
        return identity_of(Forecaster(stock), store, request, "auto")

    assert identity(Columns()) == identity(Columns(), batch_size=9)
    assert identity(GROUPED) != identity(GROUPED, batch_size=9)
    assert identity(Columns(), cross_learning=True) != identity(Columns(), cross_learning=True, batch_size=9)


def test_a_group_is_one_forward_pass_however_small_the_memory(stock, frame, monkeypatch):
    """A batch that does not fit is halved between groups; a group that does not fit alone is refused."""
    import torch

    store, limit = open_source(frame, columns=GROUPED), [5]
    forward = stock.model.forward

    def limited(context, **inputs):
        if len(context) > limit[0]:
            raise torch.OutOfMemoryError
        return forward(context=context, **inputs)

    expected = our_forecasts(stock, store, Request(8, LEVELS)).reset_index(drop=True)
    monkeypatch.setattr(stock.model, "forward", limited)
    assert_same(our_forecasts(stock, store, Request(8, LEVELS)), expected, rtol=1e-4)
    limit[0] = 3
    with pytest.raises(UserError, match="inference.batch_size"):
        our_forecasts(stock, store, Request(8, LEVELS))


def loader_for(model, **sections):
    """Return a loaded loader of a folder or of a pipeline in memory."""
    loader = ChronosLoader(str(model) if not isinstance(model, BaseChronosPipeline) else "", config=Config(**sections))
    if isinstance(model, BaseChronosPipeline):
        loader.forecaster = Forecaster(model)
    else:
        loader.load_trained_model()
    return loader


def test_the_loader_forecasts_together(stock, coupled, frame, tmp_path):
    paths = PathsConfig(str(tmp_path))
    across = loader_for(coupled, inference=InferenceConfig(cross_learning=True, batch_size=4), paths=paths)
    expected = stock_forecasts(stock, frame, batch_size=4, cross_learning=True)
    assert_same(across.predict_df(frame, 8), expected)
    array = np.stack([series["target"].to_numpy()[-20:] for _, series in frame.groupby("item_id", sort=False)])
    inputs = torch_rows(array)
    quantiles, _ = stock.predict_quantiles(inputs, 8, quantile_levels=LEVELS, batch_size=4, cross_learning=True)
    np.testing.assert_allclose(across.predict(array, 8), np.concatenate(quantiles), rtol=1e-5)
    by_group = loader_for(coupled, data=DataConfig(group_column="region"), paths=paths)
    parts = [stock_forecasts(stock, frame[frame["region"] == group], cross_learning=True) for group in GROUPS]
    assert_same(by_group.predict_df(frame, 8), pd.concat(parts, ignore_index=True), rtol=1e-4)


def torch_rows(array):
    import torch

    return [torch.from_numpy(row.astype(np.float32)) for row in array]


@pytest.mark.parametrize("sections, key", [
    ({"inference": InferenceConfig(cross_learning=True)}, "cross_learning"),
    ({"data": DataConfig(group_column="region")}, "group_column"),
])  # fmt: skip
def test_another_family_refuses_to_forecast_together(tiny, frame, tmp_path, sections, key):
    loader = loader_for(tiny["bolt"], paths=PathsConfig(str(tmp_path)), **sections)
    for call in (loader.predict_df, loader.plot, loader.evaluate, loader.evaluate_on_test_data):
        with pytest.raises(UserError, match=f"{key}: .*bolt"):
            call(frame)
    if key == "cross_learning":
        with pytest.raises(UserError, match=f"{key}: .*bolt"):
            loader.predict(np.arange(40.0).reshape(2, 20), 4)


def test_forecast_py_reads_the_groups_of_a_file(stock, coupled, frame, tmp_path, run_script):
    frame.to_csv(tmp_path / "series.csv", index=False)
    paths = [
        "--inference.model_path",
        coupled,
        "--inference.data_path",
        "series.csv",
        "--inference.output_path",
        "f.csv",
    ]
    settings = ["--horizon", 8, "--data.group_column", "region", "--inference.plot_path", "f.png"]
    code, _, err = run_script("forecast", *paths, *settings)
    assert code == 0, err
    parts = [stock_forecasts(stock, frame[frame["region"] == group], cross_learning=True) for group in GROUPS]
    ours = pd.read_csv(tmp_path / "f.csv", parse_dates=["timestamp"])
    assert_same(ours, pd.concat(parts, ignore_index=True), rtol=1e-4)
    assert (tmp_path / "f.png").stat().st_size > 1000


def test_many_small_groups_share_a_forward_pass(stock, monkeypatch):
    store = open_source(
        pd.DataFrame({"item_id": np.repeat(np.arange(80), 20), "target": np.random.default_rng(0).normal(size=1600)})
        .assign(region=lambda table: table["item_id"] // 2)
        .assign(timestamp=np.tile(pd.date_range("2024-01-01", periods=20), 80)),
        columns=GROUPED,
    )
    sizes, predict = [], stock._predict_batch

    def counted(**inputs):
        sizes.append(len(inputs["context"]))
        return predict(**inputs)

    monkeypatch.setattr(stock, "_predict_batch", counted)
    our_forecasts(stock, store, Request(8, LEVELS, batch_size=20))
    assert sizes == [20] * 4
    histories = Request(8, LEVELS).histories(store, [0, 1, 2])
    assert [history.group for history in histories if isinstance(history, Panel)] == [0, 0, 1]
    table = forecast_part(Forecaster(stock), store, split_parts(store, Request(8, LEVELS))[0], Request(8, LEVELS))
    assert table.num_rows == 80 * 8
