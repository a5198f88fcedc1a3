"""Stores and cached conversions: each source has its own, and a store is read as its table would be."""

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.source_files import refused

from pipeline.config import Config, DataConfig, PathsConfig
from pipeline.core.series import Series, Variates
from pipeline.data.arrow_store import store_from_series, write_store
from pipeline.data.cache import Cache
from pipeline.data.future import open_future
from pipeline.data.source import open_configured, open_source, open_stores

DAY = np.datetime64("2024-01-01", "s")
PAIR = Variates(("sales", "visits"))


def write_partition(folder):
    folder.mkdir(parents=True)
    days = pd.date_range("2024-01-01", periods=4)
    pq.write_table(pa.table({"timestamp": days, "target": np.arange(4.0)}), folder / "x.parquet")
    return list(open_source(folder.parent, folder.parents[1] / "cache", id_column="store").item_ids)


def test_the_name_of_a_partition_is_part_of_the_key_of_its_conversion(tmp_path):
    """A folder of one file has the item ID of its name, and the next folder with the same file another."""
    assert write_partition(tmp_path / "first" / "store=7") == ["7"]
    assert write_partition(tmp_path / "second" / "store=8") == ["8"]


def test_a_month_in_a_folder_name_may_have_a_zero(tmp_path):
    folder = tmp_path / "series" / "month=01"
    folder.mkdir(parents=True)
    days = pd.date_range("2024-01-01", periods=4)
    table = pa.table({"month": [1] * 4, "timestamp": days, "target": np.arange(4.0)})
    pq.write_table(table, folder / "x.parquet")
    assert list(open_source(folder.parent, tmp_path / "cache", id_column="month").item_ids) == ["1"]
    pq.write_table(table.set_column(0, "month", [[2] * 4]), folder / "x.parquet")
    with refused("month=01", "other values"):
        open_source(folder.parent, tmp_path / "cache", id_column="month")


def write_pair(folder, name, **changes):
    values = np.arange(8, dtype=np.float32).reshape(2, 4)
    item = Series(name, DAY, "D", values, PAIR)
    write_store(folder / f"{name}.arrow", [replace(item, **changes)])


def test_a_folder_of_stores_is_one_source_of_several_variates(tmp_path):
    """What trains can also be forecast: in the shape in which `store_partitions` writes it."""
    for name in ("a", "b"):
        write_pair(tmp_path, name, group="north" if name == "a" else "south")
    config = Config(data=DataConfig(target=["sales", "visits"]), paths=PathsConfig(data_dir=str(tmp_path)))
    store = open_configured(config, str(tmp_path))
    assert (list(store.item_ids), store.variates, list(store.group_names)) == (["a", "b"], PAIR, ["north", "south"])
    np.testing.assert_array_equal(store.rows(1), [[0, 1, 2, 3], [4, 5, 6, 7]])
    assert [len(each) for each in open_stores(config, str(tmp_path))] == [1, 1]


def test_a_missing_value_that_is_no_number_does_not_concern_a_store(tmp_path):
    write_pair(tmp_path, "a")
    assert len(open_source(tmp_path / "a.arrow", tmp_path / "cache", missing_values=["?"])) == 1


@pytest.mark.parametrize("changes, problem", [
    ({"item_id": "a"}, "two series have the item ID a"),
    ({"variates": Variates(("sales", "other"))}, "other columns"),
    ({"group": "north"}, "groups"),
    ({"freq": "h"}, "frequency"),
])  # fmt: skip
def test_stores_of_a_folder_must_be_alike(tmp_path, changes, problem):
    write_pair(tmp_path, "a")
    write_pair(tmp_path, "b", **changes)
    with refused(problem):
        open_source(tmp_path, tmp_path / "cache")


def test_missing_values_are_missing_in_stores_too(tmp_path):
    write_store(tmp_path / "single.arrow", [Series("a", DAY, "D", np.array([1, -999, 3], np.float32))])
    store = open_source(tmp_path / "single.arrow", tmp_path / "cache", missing_values=["-999"])
    np.testing.assert_array_equal(store.target(0), [1, np.nan, 3])
    config = Config(data=DataConfig(missing_values=["-999"]), paths=PathsConfig(data_dir=str(tmp_path)))
    (tmp_path / "folder").mkdir()
    (tmp_path / "single.arrow").rename(tmp_path / "folder" / "single.arrow")
    (store,) = open_stores(config, str(tmp_path / "folder"))
    np.testing.assert_array_equal(store.target(0), [1, np.nan, 3])
    write_pair(tmp_path, "pair")
    with refused("pair.arrow", "several variates", "convert its table again"):
        open_source(tmp_path / "pair.arrow", tmp_path / "cache", fill_missing=0)


@pytest.mark.parametrize("change", [
    {"start": DAY + np.timedelta64(86400, "s")},
    {"variates": Variates(("sales",), past=("visits",))},
    {"group": "north"},
])  # fmt: skip
def test_the_hash_of_a_store_in_memory_covers_all_of_it(change):
    item = Series("a", DAY, "D", np.zeros((2, 3), np.float32), PAIR)
    if "group" in change:
        item = replace(item, group="south")
    hashes = {store_from_series([series]).fingerprint for series in (item, replace(item, **change), item)}
    assert len(hashes) == 2


def test_a_store_in_use_stays_in_a_cache_that_is_too_small(tmp_path):
    """Workers open the stores of their process again."""
    stores = []
    for name in ("first", "second"):
        path = tmp_path / f"{name}.csv"
        path.write_text("timestamp,target\n" + "".join(f"2024-01-0{day},{len(name)}\n" for day in range(1, 6)))
        folder = tmp_path if name == "first" else tmp_path / "." / "other" / ".."
        config = Config(paths=PathsConfig(data_dir=str(folder), cache_size=1e-6))
        stores.append(open_configured(config, str(path)))
    assert [pickle.loads(pickle.dumps(store)).target(0)[0] for store in stores] == [5, 6]
    Cache(tmp_path / "cache").clear()


def test_a_workbook_has_the_future(tmp_path):
    days = pd.date_range("2024-01-01", periods=8)
    history = pd.DataFrame({"item_id": "a", "timestamp": days[:6], "target": np.arange(6.0), "promo": 1.0})
    data = DataConfig(known_covariates=["promo"])
    config = Config(data=data, paths=PathsConfig(data_dir=str(tmp_path)))
    future = pd.DataFrame({"item_id": "a", "timestamp": days[6:], "promo": [2.0, 3.0]})
    future.to_excel(tmp_path / "future.xlsx", index=False)
    config = replace(config, inference=replace(config.inference, future_path=str(tmp_path / "future.xlsx")))
    opened = open_future(config, open_configured(config, history), 2)
    assert opened is not None and opened.values(0)[-1].tolist() == [2, 3]


@pytest.mark.parametrize("order", [("full", "none"), ("none", "full")])
def test_a_column_without_values_in_one_file_may_come_at_any_place(tmp_path, order):
    for position, kind in enumerate(order):
        days = pd.date_range("2024-01-01", periods=4)
        price = pa.array([1.0, 2, 3, 4]) if kind == "full" else pa.nulls(4)
        columns = {"item_id": [kind] * 4, "timestamp": days, "target": np.arange(4.0), "price": price}
        pq.write_table(pa.table(columns), tmp_path / f"{position}.parquet")
    store = open_source(tmp_path, tmp_path / "cache", past_covariates=["price"])
    found = {name: store.rows(index)[1].tolist() for index, name in enumerate(store.item_ids)}
    assert found["full"] == [1, 2, 3, 4] and np.isnan(found["none"]).all()


@pytest.mark.parametrize("options, problem", [
    ({"horizonn": 3}, "no option 'horizonn'"),
    ({"test_length": 5}, "test_length has no effect"),
])  # fmt: skip
def test_options_without_effect_are_refused(options, problem):
    with refused(problem):
        open_source(pd.DataFrame({"target": [1.0, 2, 3]}), **options)


def test_a_listed_number_is_missing_in_an_array_too():
    values = np.array([[1.0, -999, 3, -1e40], [4.0, 5, -999, 7]])
    store = open_source(values, missing_values=["-999", "-1e40"])
    expected = np.where(np.isin(values, [-999, -1e40]), np.nan, values)
    for series, row in enumerate(expected):
        np.testing.assert_array_equal(store.target(series), row)
    filled = open_source(np.array([[4, 5, -999, 7]]), missing_values=["-999"], fill_missing=0)
    np.testing.assert_array_equal(filled.target(0), [4, 5, 0, 7])
    whole = open_source(np.array([[0, 1, 2, 3]]), missing_values=["0.5"])
    np.testing.assert_array_equal(whole.target(0), [0, 1, 2, 3])
    narrow = open_source(np.array([[0.1, 1, 2]], np.float32), missing_values=["0.1"])
    np.testing.assert_array_equal(narrow.target(0), [np.nan, 1, 2])
