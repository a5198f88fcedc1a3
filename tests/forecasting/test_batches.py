"""Forecasts and stores of partitions, on plain Arrow tables: equal to those of the whole table, or refused."""

import inspect
import json
import pickle
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.runs import short_config, trained
from support.series import long_frame

from pipeline.core.errors import UserError
from pipeline.data.arrow_store import open_store
from pipeline.data.partitions import store_partitions
from pipeline.data.source import open_stores
from pipeline.forecasting.batches import forecast_batches

IDS = [f"item{k}" for k in range(6)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A checkpoint that was trained on daily series of the columns shop, day and sold, horizon 16."""
    from pipeline import fine_tune

    path = tmp_path_factory.mktemp("trained") / "model"
    columns: Any = {"id_column": "shop", "timestamp_column": "day", "target": "sold"}
    short: Any = {"max_steps": 1, "batch_size": 8, "refit": False, "trainer": {"report_to": "none"}}
    fine_tune(shops(), 16, base="builtin:bolt-synth", output_path=path, **columns, **short)
    return str(path)


def shops(**options):
    return long_frame(**options).rename(columns={"item_id": "shop", "timestamp": "day", "target": "sold"})


def arrow(frame):
    return pa.Table.from_pandas(frame, preserve_index=False)


def uneven(n_series=40, seed=0):
    """Series of 3 to 400 days, some constant, in one long table."""
    rng = np.random.default_rng(seed)
    frames = []
    for k, length in enumerate(rng.integers(3, 400, n_series)):
        values = np.full(length, 7.0) if k % 9 == 0 else rng.normal(20, 5, length)
        days = pd.date_range("2022-03-01", periods=length)
        frames.append(pd.DataFrame({"shop": f"s{k:02d}", "day": days, "sold": values}))
    return pd.concat(frames, ignore_index=True)


def rows(table):
    return table.sort_by([(table.column_names[0], "ascending"), (table.column_names[1], "ascending")])


def test_columns_horizon_levels_and_frequency_are_those_of_the_training(model):
    function = forecast_batches(model)
    assert function.schema.names == ["shop", "day", "target_name", "predictions", "0.1", "0.5", "0.9"]
    assert function.ddl.startswith(
        "`shop` STRING, `day` TIMESTAMP_NTZ, `target_name` STRING, `predictions` FLOAT, `0.1`"
    )
    forecast = function(arrow(shops())).to_pandas()
    assert forecast.groupby("shop").size().to_dict() == dict.fromkeys(IDS, 16)
    assert set(forecast["day"]) == set(pd.date_range("2021-05-01", periods=16))
    assert set(forecast["target_name"]) == {"sold"}


def test_the_forecasts_of_any_partitions_are_those_of_forecast_py_to_the_last_bit(model, run_script, tmp_path):
    frame = uneven()
    pq.write_table(arrow(frame), tmp_path / "sales.parquet")
    output = tmp_path / "forecasts.parquet"
    arguments = ["--inference.model_path", model, "--inference.output_path", output]
    assert run_script("forecast", "--inference.data_path", tmp_path / "sales.parquet", *arguments)[0] == 0
    function = forecast_batches(model)
    expected = rows(pq.read_table(output).cast(function.schema))
    part = frame["shop"].str[1:].astype(int) ** 2 % 11  # 1 to 8 series
    parts = [function(arrow(group.sample(frac=1, random_state=0))) for _, group in frame.groupby(part)]
    assert len(parts) > 4 and rows(pa.concat_tables(parts)).equals(expected)


def test_spark_and_ray_may_call_it_each_in_their_way(model):
    function = pickle.loads(pickle.dumps(forecast_batches(model, horizon=3, quantiles=[0.25])))
    assert inspect.getfullargspec(function).args == ["data"]  # Spark passes the key too where there are two
    table = arrow(shops())
    (whole,) = function(iter(table.to_batches(max_chunksize=7)))
    assert pa.Table.from_batches([whole]).equals(function(table))
    assert whole.schema.names[-2:] == ["predictions", "0.25"] and len(whole) == 18
    assert list(function(iter([]))) == []
    assert function(table.slice(0, 0)).equals(function.schema.empty_table())


def test_series_of_one_row_have_the_frequency_of_the_training(model):
    table = arrow(shops()).slice(0, 1)
    assert function_days(forecast_batches(model, horizon=2), table) == ["2021-01-02", "2021-01-03"]
    assert function_days(forecast_batches(model, horizon=2, freq="W-FRI"), table) == ["2021-01-08", "2021-01-15"]


def function_days(function, table):
    return [str(day.date()) for day in function(table)["day"].to_pylist()]


def test_a_row_for_each_series_is_read_like_long_rows(model):
    function = forecast_batches(model)
    nested = shops().groupby("shop").agg(day=("day", "first"), sold=("sold", list)).reset_index()
    parts = [function(arrow(nested[index : index + 1])) for index in range(6)]
    assert pa.concat_tables(parts).equals(function(arrow(shops())))


def test_a_column_for_each_step_is_read_and_texts_in_it_are_refused(model):
    function = forecast_batches(model, wide=True)
    wide = (
        shops()
        .assign(day=lambda table: table["day"].dt.strftime("%Y-%m-%d"))
        .pivot(index="shop", columns="day", values="sold")
    )
    table = arrow(wide.reset_index())
    parts = [function(table.slice(index, 1)) for index in range(6)]
    assert pa.concat_tables(parts).equals(forecast_batches(model)(arrow(shops())))
    with pytest.raises(UserError, match="has texts"):
        function(table.set_column(3, table.column_names[3], table[3].cast(pa.string())))


def test_the_model_is_loaded_once_a_process(model, monkeypatch):
    from pipeline.forecasting import batches
    from pipeline.forecasting.forecaster import Forecaster

    loads = mock.Mock(side_effect=Forecaster.load)
    monkeypatch.setattr(Forecaster, "load", loads)
    batches._load.cache_clear()
    for horizon in (2, 3):
        forecast_batches(model, horizon=horizon)(arrow(shops()))
    assert loads.call_count == 1


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda table: table.drop_columns(["shop"]), "no column 'shop'"),
        (lambda table: table.drop_columns(["day"]), "no column 'day'"),
        (lambda table: table.set_column(2, "sold", table["sold"].cast(pa.string())), "'sold' has texts"),
        (
            lambda table: table.set_column(1, "day", pa.array(table["day"].to_pandas().dt.strftime("%d/%m/%Y"))),
            "cast them",
        ),
        (lambda table: table.set_column(1, "day", table["day"].cast(pa.timestamp("us", "UTC"))), "time zone"),
        (lambda table: table.take([0, 1, 1]), r"series item0 has timestamp 2021-01-02T00:00:00 twice"),
        (lambda table: table.set_column(2, "sold", pa.array([*[1.0] * 700, *[1e39] * 20])), r"\(series item5\)"),
    ],
)
def test_a_partition_that_is_wrong_or_would_be_read_in_its_own_way_is_refused_in_one_line(model, change, message):
    with pytest.raises(UserError, match=message) as error:
        forecast_batches(model)(change(arrow(shops())))
    assert "\n" not in str(error.value)


def test_a_series_that_is_cut_is_refused_and_a_repeated_partition_is_not(model):
    function, table = forecast_batches(model), arrow(shops())
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    assert rows(function(table)).equals(rows(function(shuffled)))
    with pytest.raises(UserError, match="series item2 is in two partitions"):
        function(table.slice(2 * 120, 60))
    assert len(forecast_batches(model)(table.slice(0, 60))) == 16  # another function has other data


@pytest.mark.parametrize(
    "model_path, options, message",
    [
        ("builtin:bolt-synth", {}, "^freq: give the frequency"),
        ("builtin:bolt-synth", {"freq": "fortnight"}, "not a pandas frequency"),
        ("builtin:bolt-synth", {"freq": "D", "horizons": 3}, "no option 'horizons'"),
        ("builtin:bolt-synth", {"freq": "D", "horizon": 0}, "^horizon must be at least 1"),
        ("builtin:bolt-synth", {"freq": "D", "cross_learning": True}, "^cross_learning"),
        ("no/such/model", {"freq": "D"}, "no checkpoint folder"),
    ],
)
def test_wrong_options_are_refused_before_the_job(model_path, options, message):
    with pytest.raises(UserError, match=message):
        forecast_batches(model_path, **options)


def test_texts_are_read_alike_in_all_partitions_with_a_sample(tmp_path):
    frame = shops().assign(day=lambda table: table["day"].dt.strftime("%d/%m/%Y"))
    frame["sold"] = frame["sold"].map("{:.2f}".format).str.replace(".", ",")
    names = {"id_column": "shop", "timestamp_column": "day", "target": "sold"}
    writer = store_partitions(tmp_path / "stores", like=frame[frame["shop"] < "item2"], **names)
    # The first twelve days alone may be of either order.
    counts = [writer(arrow(group.head(12))).to_pylist()[0] for _, group in frame.groupby("shop")]
    writer.commit(counts)
    for store in open_stores(short_config(), str(tmp_path / "stores")):
        assert (store.freq, str(store.starts[0]), len(store.target(0))) == ("D", "2021-01-01T00:00:00", 12)
        np.testing.assert_allclose(
            store.target(0), long_frame().set_index("item_id").loc[store.item_ids[0], "target"][:12], atol=0.006
        )


def test_training_reads_the_folder_of_committed_stores_and_nothing_before(nano, tmp_path):
    folder, table = tmp_path / "stores", arrow(long_frame())
    writer = store_partitions(str(folder), freq="D")
    counts = [writer(table.slice(begin * 120, n * 120)).to_pylist()[0] for begin, n in ((0, 1), (1, 2), (3, 3))]
    assert [(count["series"], count["steps"]) for count in counts] == [(1, 120), (2, 240), (3, 360)]
    assert writer(table.slice(0, 120)).to_pylist()[0] == counts[0]  # repeated, as after a failure
    assert not folder.exists()
    (writer.staging / "unused.arrow").write_bytes(b"of a failed attempt")
    assert writer.commit(counts) == folder
    stores = open_stores(short_config(), str(folder))
    assert sorted(name for store in stores for name in store.item_ids) == IDS
    trained(nano["bolt"], tmp_path / "run", data=stores, max_steps=2)
    report = json.loads((tmp_path / "run" / "training_info.json").read_text())
    assert report["formats"]["freq"] == "D"
    with pytest.raises(UserError, match="has files"):
        store_partitions(folder, freq="D")


def test_a_series_in_two_stores_is_refused(tmp_path):
    table = arrow(long_frame())
    writers = [store_partitions(tmp_path / "stores", freq="D") for _ in range(2)]  # as in two processes
    counts = [writers[0](table.slice(0, 300)).to_pylist()[0], writers[1](table.slice(300)).to_pylist()[0]]
    with pytest.raises(UserError, match="series item2 is in two partitions"):
        writers[0].commit(counts)
    assert not (tmp_path / "stores").exists()
    with pytest.raises(UserError, match="is missing"):
        writers[0].commit([])


def test_stores_keep_all_targets(tmp_path):
    frame = long_frame().assign(second=lambda table: table["target"] * 2)
    writer = store_partitions(tmp_path / "stores", freq="D", target=["target", "second"])
    store = open_store(writer(arrow(frame)).to_pylist()[0]["path"])
    assert store.variates.targets == ("target", "second")
    np.testing.assert_array_equal(store.rows(3)[1], 2 * store.rows(3)[0])
