"""Forecasts and stores on local Ray: equal to those of one table, also where a worker is killed."""

import pyarrow as pa
import pytest
from support.partitions import IDS, WORKER_PATH, expected, forecaster, frame, killed, ordered
from support.runs import short_config

from pipeline.data.partitions import store_partitions
from pipeline.data.source import open_stores

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of Ray about itself


@pytest.fixture(scope="module")
def series():
    """Daily series in long form, their rows in any order."""
    environment = {"env_vars": {"PYTHONPATH": WORKER_PATH}}
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, runtime_env=environment)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield ray.data.from_pandas(frame().sample(frac=1, random_state=0))
    ray.shutdown()


def collected(dataset):
    return ordered(pa.concat_tables(ray.get(dataset.to_arrow_refs())))


def test_partitions_by_item_id_give_the_forecasts_of_one_table_also_after_a_kill(series, tmp_path):
    for function in (forecaster(), killed(forecaster(), tmp_path / "killed")):
        forecasts = series.repartition(3, keys=["item_id"]).map_batches(function, batch_format="pyarrow")
        assert collected(forecasts).equals(expected(forecaster()))
    assert (tmp_path / "killed").exists()


def test_groups_and_rows_of_lists_give_the_forecasts_of_one_table(series):
    function = forecaster()
    few = ray.data.from_pandas(frame().query("item_id < 'item11'"))
    forecasts = few.groupby("item_id").map_groups(function, batch_format="pyarrow")
    assert collected(forecasts).equals(
        expected(function).filter(pa.compute.less(expected(function)["item_id"], "item11"))
    )
    nested = frame().groupby("item_id").agg(start=("timestamp", "first"), target=("target", list)).reset_index()
    lists = ray.data.from_pandas(nested).repartition(4)
    assert collected(lists.map_batches(function, batch_format="pyarrow", batch_size=5)).equals(expected(function))


def test_a_batch_that_cuts_series_fails_in_one_line_that_names_one(series):
    with pytest.raises(ray.exceptions.RayTaskError, match=r"series item\d+ is in two partitions or batches"):
        series.map_batches(forecaster(), batch_format="pyarrow", batch_size=500).materialize()


def test_stores_of_all_partitions_are_committed(series, tmp_path):
    writer = store_partitions(tmp_path / "stores", freq="D")
    rows = series.repartition(3, keys=["item_id"]).map_batches(writer, batch_format="pyarrow").take_all()
    stores = open_stores(short_config(), str(writer.commit(rows)))
    assert sorted(name for store in stores for name in store.item_ids) == IDS
