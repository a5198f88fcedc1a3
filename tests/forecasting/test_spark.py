"""Forecasts and stores on local Spark: equal to those of one table, also where a worker is killed."""

import os
import shutil
import sys

import pyarrow as pa
import pytest
from support import ROOT
from support.partitions import IDS, WORKER_PATH, expected, forecaster, frame, killed, ordered
from support.runs import short_config
from support.series import long_frame

from pipeline.data.partitions import store_partitions
from pipeline.data.source import open_stores

sql, errors = pytest.importorskip("pyspark.sql"), pytest.importorskip("pyspark.errors")
if shutil.which("java") is None:
    pytest.skip("Spark needs Java", allow_module_level=True)
SETTINGS = {
    "spark.driver.host": "127.0.0.1",
    "spark.sql.session.timeZone": "Europe/Berlin",
    "spark.ui.enabled": "false",
}


@pytest.fixture(scope="module")
def spark():
    os.environ |= {"PYSPARK_PYTHON": sys.executable, "PYTHONPATH": WORKER_PATH}
    builder = sql.SparkSession.builder.master("local[2,3]")  # a task is tried three times
    for key, value in SETTINGS.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def series(spark):
    """Daily series in long form, their rows in any order."""
    rows = spark.createDataFrame(frame().sample(frac=1, random_state=0))
    return rows.withColumn("timestamp", sql.functions.col("timestamp").cast("timestamp_ntz"))


def test_partitions_by_item_id_give_the_forecasts_of_one_table(series):
    function = forecaster()
    for n_partitions in (2, 40):  # of 40, some are empty
        forecasts = series.repartition(n_partitions, "item_id").mapInArrow(function, function.ddl)
        assert ordered(forecasts.toArrow()).equals(expected(function))


def test_groups_of_items_give_the_forecasts_of_one_table(series):
    function, few = forecaster(), "item_id < 'item11'"
    groups = series.groupBy(sql.functions.expr("pmod(xxhash64(item_id), 4)")).applyInArrow(function, function.ddl)
    assert ordered(groups.toArrow()).equals(expected(function))
    items = series.where(few).groupBy("item_id").applyInArrow(function, function.ddl).toArrow()
    assert ordered(items).equals(expected(function).filter(pa.compute.less(expected(function)["item_id"], "item11")))


def test_a_killed_worker_neither_loses_nor_doubles_rows(series, tmp_path):
    function = killed(forecaster(), tmp_path / "killed")
    forecasts = series.repartition(3, "item_id").mapInArrow(function, function.ddl).toArrow()
    assert (tmp_path / "killed").exists() and ordered(forecasts).equals(expected(forecaster()))


def test_a_wrong_row_fails_in_one_line_that_names_the_series(series):
    function = forecaster()
    wrong = series.union(series.where("item_id = 'item7'").limit(1)).repartition(3, "item_id")
    with pytest.raises(errors.PythonException, match=r"\n\S*UserError: .*series item7 has timestamp .* twice"):
        wrong.mapInArrow(function, function.ddl).toArrow()


def test_stores_of_all_partitions_are_committed_once(series, tmp_path):
    writer = store_partitions(tmp_path / "stores", freq="D")
    function = killed(writer, tmp_path / "killed")
    writer.commit(series.repartition(3, "item_id").mapInArrow(function, function.ddl).collect())
    stores = open_stores(short_config(), str(tmp_path / "stores"))
    assert sorted(name for store in stores for name in store.item_ids) == IDS
    assert (tmp_path / "killed").exists() and 1 < len(stores) <= 3


def test_the_nightly_job_of_the_guide_runs(spark, tmp_path, monkeypatch):
    guide = (ROOT / "docs" / "batch.md").read_text()
    job = guide[guide.index("# nightly.py") :].partition("```")[0]
    sales = long_frame(n_series=6, length=60).rename(columns={"item_id": "store", "timestamp": "date"})
    sales.assign(month=sales["date"].dt.strftime("%Y-%m")).to_parquet(
        tmp_path / "sales", partition_cols=["month"], coerce_timestamps="us"
    )
    arguments = ["builtin:bolt-synth", str(tmp_path / "sales"), str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["nightly.py", *arguments])
    exec(compile(job, "nightly.py", "exec"), {"__name__": "__main__"})
    counts = spark.read.parquet(arguments[-1]).groupBy("store").count().collect()
    assert [row["count"] for row in counts] == [28] * 6
