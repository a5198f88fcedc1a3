"""Opening of sources: every format gives the same series, and is converted once."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from support.source_files import FORMATS, FRAME, VALID_ROWS, refused, to_dict, to_nested, write_csv, write_source

from pipeline.config import Config, DataConfig, PathsConfig
from pipeline.core.errors import UserError
from pipeline.core.series import Series, Variates
from pipeline.data.arrow_store import write_store
from pipeline.data.columns import Columns
from pipeline.data.source import columns_from_config, open_source, open_stores


@pytest.fixture
def store_path(tmp_path):
    """A store of one series of nine days."""
    path = tmp_path / "s.arrow"
    write_store(path, [Series("A", np.datetime64("2020-01-01", "s"), "D", np.arange(9, dtype="f4"))])
    return path


@pytest.mark.filterwarnings("ignore:.*Feather.*:FutureWarning", "ignore:.*feather.*:DeprecationWarning")
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_series(kind, missing, tmp_path):
    frame = FRAME.copy()
    if missing:
        frame.loc[[3, 25], "target"] = np.nan
    freq = "D" if kind == "jsonl gluonts" else None
    store = open_source(write_source(kind, tmp_path, frame), tmp_path / "cache", freq=freq)
    assert (store.freq, list(store.item_ids)) == ("D", ["item0", "item1", "item2"])
    assert (store.starts == np.datetime64("2021-01-01")).all()
    for index, (_, rows) in enumerate(frame.groupby("item_id", sort=False)):
        np.testing.assert_array_equal(store.target(index), rows["target"].to_numpy(np.float32))


def test_a_path_object_is_a_path(tmp_path):
    FRAME.to_csv(tmp_path / "s.csv", index=False)
    assert len(open_source(tmp_path / "s.csv", tmp_path / "cache")) == 3


def test_columns_may_have_other_names(tmp_path):
    frame = FRAME.rename(columns={"item_id": "shop", "timestamp": "day", "target": "sold"}).assign(colour="red")
    frame.to_csv(tmp_path / "s.csv", index=False)
    store = open_source(tmp_path / "s.csv", tmp_path / "c", Columns("shop", "day", Variates(("sold",))))
    assert list(store.item_ids) == ["item0", "item1", "item2"] and store.lengths.tolist() == [20, 20, 20]


@pytest.mark.parametrize("columns, missing", [
    (Columns(item_id="shop"), "shop"),
    (Columns(item_id=("item_id", "shop")), "shop"),
    (Columns(timestamp="day"), "day"),
    (Columns(variates=Variates(("sold",))), "sold"),
])  # fmt: skip
def test_a_missing_column_is_refused_with_the_columns_of_the_table(tmp_path, columns, missing):
    for kind in ("csv", "parquet", "jsonl", "feather", "frame"):
        with refused(f"'{missing}'", "item_id, timestamp, target"):
            open_source(write_source(kind, tmp_path), tmp_path / "cache", columns)


@pytest.mark.parametrize("header", ["item_id,timestamp,value", "a,b,c"])
def test_a_missing_target_is_refused_with_its_key(tmp_path, header):
    with refused("'target'", header.split(",")[2], "data.target", "data.wide"):
        open_source(write_csv(tmp_path, *VALID_ROWS, header=header), tmp_path / "cache")


@pytest.mark.parametrize("name", ["none.csv", "none/at/all", "table.xls", "empty"])
def test_a_missing_or_unknown_source_is_refused(tmp_path, name):
    (tmp_path / "table.xls").write_text("x")
    (tmp_path / "empty").mkdir()
    with refused(name):
        open_source(tmp_path / name, tmp_path / "cache")


# Arrays


def test_an_array_is_a_store_in_memory():
    store = open_source(np.arange(12.0).reshape(3, 4))
    assert store.target(2).tolist() == [8, 9, 10, 11] and store.freq == ""


@pytest.mark.parametrize("array, shape", [(np.arange(3.0), r"\[3\]"), (np.empty((0, 3)), r"\[n_series, length\]")])
def test_an_array_of_another_shape_is_refused(array, shape):
    with refused(shape):
        open_source(array)


def test_an_array_keeps_its_missing_values_and_takes_a_frequency():
    data = np.array([[1.0, np.nan], [3.0, 4.0]])
    store = open_source(data, freq="h")
    np.testing.assert_array_equal(np.stack([store.target(0), store.target(1)]), data)
    assert store.freq == "h" and store.item_ids == ["0", "1"]


# Data frames


def test_a_frame_is_converted_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    store = open_source(FRAME.sample(frac=1, random_state=0), tmp_path / "cache")
    assert len(store) == 3 and store.path is None and not list(tmp_path.iterdir())


def test_a_frame_is_not_changed(tmp_path):
    frame = FRAME.sample(frac=1, random_state=0)
    before = frame.copy(deep=True)
    open_source(frame, tmp_path)
    pd.testing.assert_frame_equal(frame, before)


def test_the_levels_of_an_index_are_columns(tmp_path):
    indexed = FRAME.set_index(["item_id", "timestamp"])
    assert to_dict(open_source(indexed, tmp_path)) == to_dict(open_source(FRAME, tmp_path))
    single = FRAME[FRAME["item_id"] == "item0"].drop(columns="item_id").set_index("timestamp")[::-1]
    assert open_source(single, tmp_path).target(0).tolist() == open_source(FRAME, tmp_path).target(0).tolist()


def test_an_unnamed_index_is_no_column(tmp_path):
    filtered = FRAME[FRAME["item_id"] == "item1"].rename(columns={"target": "sold"})
    with pytest.raises(UserError) as refused:
        open_source(filtered, tmp_path)
    assert "'target'" in str(refused.value) and "index" not in str(refused.value)


def test_a_frame_with_an_unnamed_index_of_dates_is_refused(tmp_path):
    frame = pd.DataFrame({"target": np.arange(5.0)}, index=pd.date_range("2020-01-01", periods=5))
    with refused("data.timestamp_column"):
        open_source(frame, tmp_path)


@pytest.mark.parametrize("frame", [
    FRAME.set_axis(["item_id", "target", "target"], axis=1),
    FRAME.assign(target=["x", *range(59)]),
    FRAME.assign(timestamp=FRAME["timestamp"].dt.to_period("D").astype(object)),
    pd.DataFrame({"item_id": ["A"], "target": [{"x": 1}]}),
], ids=["two targets", "text among numbers", "periods", "dicts"])  # fmt: skip
def test_a_frame_of_other_types_is_refused(tmp_path, frame):
    with pytest.raises(UserError):
        open_source(frame, tmp_path)


def test_a_table_without_rows_is_refused(tmp_path):
    FRAME.iloc[:0].to_parquet(tmp_path / "s.parquet")
    for source, name in ((tmp_path / "s.parquet", "s.parquet"), (FRAME.iloc[:0], "DataFrame")):
        with refused(name):
            open_source(source, tmp_path / "cache")


# The cache


def test_a_source_is_converted_once_until_its_content_changes(tmp_path):
    path = write_csv(tmp_path, *VALID_ROWS)
    first = open_source(path, tmp_path / "cache")
    assert open_source(path, tmp_path / "cache").path == first.path and first.lengths.tolist() == [5]
    write_csv(tmp_path, *VALID_ROWS, "A,2020-01-06,6")
    assert open_source(path, tmp_path / "cache").lengths.tolist() == [6]
    assert len(list((tmp_path / "cache").glob("*.arrow"))) == 2


@pytest.mark.parametrize("kind", ["parquet", "parts", "gluonts", "datasets dict", "arrow file"])
def test_a_second_opening_leaves_the_converted_file_unchanged(tmp_path, kind):
    source = write_source(kind, tmp_path)
    open_source(source, tmp_path / "cache")
    [converted] = (tmp_path / "cache").glob("*.arrow")
    before = converted.stat()
    open_source(source, tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*.arrow")) == [converted]
    assert (converted.stat().st_ino, converted.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_other_columns_or_another_frequency_are_another_conversion(tmp_path):
    FRAME.assign(other=FRAME["target"] + 1).to_csv(tmp_path / "s.csv", index=False)
    options = [(Columns(), None), (Columns(variates=Variates(("other",))), None), (Columns(), "12h")]
    stores = [open_source(tmp_path / "s.csv", tmp_path / "cache", *option) for option in options]
    assert len({store.path for store in stores}) == 3
    assert stores[1].target(0)[0] == pytest.approx(stores[0].target(0)[0] + 1)
    assert [store.lengths[0] for store in stores] == [20, 20, 39]


def test_a_moved_file_is_not_converted_again(tmp_path):
    FRAME.to_csv(tmp_path / "s.csv", index=False)
    first = open_source(tmp_path / "s.csv", tmp_path / "cache").path
    (tmp_path / "s.csv").rename(tmp_path / "t.csv")
    assert open_source(tmp_path / "t.csv", tmp_path / "cache").path == first


def test_renamed_files_rename_the_series_that_have_their_names(tmp_path):
    for name in ("a", "b"):
        pd.DataFrame({"target": [1.0, 2.0]}).to_csv(tmp_path / f"{name}.csv", index=False)
    assert list(open_source(tmp_path, tmp_path / "cache").item_ids) == ["a", "b"]
    (tmp_path / "b.csv").rename(tmp_path / "c.csv")
    assert list(open_source(tmp_path, tmp_path / "cache").item_ids) == ["a", "c"]


def test_the_same_moments_in_another_time_zone_are_another_frame(tmp_path):
    naive = pd.DataFrame({"item_id": "A", "timestamp": pd.date_range("2020-01-01 23:00", periods=5), "target": 1.0})
    local = naive.assign(timestamp=naive["timestamp"].dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin"))
    starts = [open_source(frame, tmp_path).starts[0] for frame in (naive, local)]
    assert [str(start) for start in starts] == ["2020-01-01T23:00:00", "2020-01-02T00:00:00"]


def test_a_data_set_of_the_hub_is_converted_again_after_a_new_commit(tmp_path, monkeypatch):
    hub = {"commit": "first", "value": 1.0}

    def dataset_info(*_):
        if hub["commit"] is None:
            raise ConnectionError
        return SimpleNamespace(sha=hub["commit"])

    def load_dataset(*_, **__):
        return datasets.Dataset.from_dict({"item_id": ["A"], "target": [[hub["value"]] * 3]})

    import datasets

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    def first_value():
        return open_source("owner/series", tmp_path).target(0)[0]

    assert first_value() == 1
    hub["value"] = 2.0
    assert first_value() == 1  # the same commit
    hub["commit"] = "second"
    assert first_value() == 2
    hub["commit"] = None  # offline, so the copy of `datasets` is converted
    assert first_value() == 2
    hub["value"] = 3.0
    assert first_value() == 3


# Stores


def test_a_store_is_opened_without_conversion(tmp_path, store_path):
    assert open_source(store_path, tmp_path / "cache").path == store_path
    assert not (tmp_path / "cache").exists()


def test_the_single_target_of_a_store_may_have_any_name(tmp_path, store_path):
    store = open_source(store_path, tmp_path / "cache", Columns(variates=Variates(("sales",))))
    assert store.path == store_path and store.target(0).tolist() == list(range(9))


@pytest.mark.parametrize("wanted", [
    Variates(("target",), known=("price",)), Variates(("target",), past=("price",)), Variates(("target", "price")),
    Variates((), (), ("price",)),
])  # fmt: skip
def test_variates_that_a_store_lacks_are_refused(tmp_path, store_path, wanted):
    with refused("s.arrow", "target", "price"):
        open_source(store_path, tmp_path / "cache", Columns(variates=wanted))


def test_variates_that_a_folder_of_stores_lacks_are_refused(store_path):
    with refused("s.arrow", "target", "price"):
        open_stores(Config(data=DataConfig(known_covariates=["price"])), str(store_path.parent))


# Item IDs


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "frame"])
def test_several_columns_form_the_item_id(tmp_path, kind):
    shops, products = FRAME["item_id"].map({"item0": 7, "item1": 7, "item2": 8}), FRAME["item_id"].str[-1]
    frame = FRAME.drop(columns="item_id").assign(product=products, shop=shops)
    store = open_source(write_source(kind, tmp_path, frame), tmp_path / "c", Columns(("shop", "product")))
    assert list(store.item_ids) == ["7/0", "7/1", "8/2"]
    single = open_source(FRAME, tmp_path / "c")
    for index in range(3):
        np.testing.assert_array_equal(store.target(index), single.target(index))
    with refused("row ", "row ", "data.id_column"):
        open_source(write_source(kind, tmp_path, frame), tmp_path / "c", Columns("shop"))
    frame.loc[3, ["shop", "product"]] = None
    with refused("row 4 ", "item_id"):
        open_source(write_source(kind, tmp_path, frame), tmp_path / "c", Columns(("shop", "product")))


def test_item_ids_that_are_numbers_become_text(tmp_path):
    frame = FRAME.assign(item_id=FRAME["item_id"].str[-1].astype(int))
    frame.to_parquet(tmp_path / "s.parquet")
    assert list(open_source(tmp_path / "s.parquet", tmp_path / "c").item_ids) == ["0", "1", "2"]


@pytest.mark.parametrize("name", ["NA", "null", "nan", "007", "  x"])
def test_any_json_string_is_an_item_id(tmp_path, name):
    FRAME.assign(item_id=name).iloc[:20].to_json(tmp_path / "s.jsonl", orient="records", lines=True, date_format="iso")
    assert list(open_source(tmp_path / "s.jsonl", tmp_path / "cache").item_ids) == [name]


@pytest.mark.parametrize("name", ["NA", "007"])
def test_any_csv_text_is_an_item_id(tmp_path, name):
    FRAME.assign(item_id=name).iloc[:20].to_csv(tmp_path / "s.csv", index=False)
    assert list(open_source(tmp_path / "s.csv", tmp_path / "cache").item_ids) == [name]


def test_duplicate_item_ids_are_refused_in_nested_data(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text('{"item_id": "A7", "target": [1, 2]}\n{"item_id": "A7", "target": [3, 4]}\n')
    with refused("item_id", "A7"):
        open_source(str(path), tmp_path / "cache", freq="D")


def test_timestamps_and_item_ids_may_be_absent(tmp_path):
    store = open_source(FRAME[["item_id", "target"]], tmp_path)
    assert store.freq == "" and store.lengths.tolist() == [20, 20, 20]
    single = open_source(FRAME[FRAME["item_id"] == "item0"][["timestamp", "target"]], tmp_path)
    assert len(single) == 1 and single.freq == "D"


# Frequencies


def test_a_configured_frequency_is_used(tmp_path):
    path = write_csv(tmp_path, "A,2020-01-01,1", "A,2020-01-03,3", "A,2020-01-05,5")
    assert open_source(path, tmp_path / "cache").freq == "2D"
    store = open_source(path, tmp_path / "cache", freq="D")
    np.testing.assert_array_equal(store.target(0), [1, np.nan, 3, np.nan, 5])


def test_too_few_timestamps_to_infer_a_frequency_are_refused(tmp_path):
    with refused("data.freq"):
        open_source(write_csv(tmp_path, "A,2020-01-01,1", "B,2020-01-03,3"), tmp_path / "cache")


def test_gaps_in_nested_timestamps_become_nan(tmp_path):
    pa.parquet.write_table(to_nested(FRAME.drop([4, 5])), tmp_path / "s.parquet")
    store = open_source(tmp_path / "s.parquet", tmp_path / "cache")
    assert store.freq == "D" and np.flatnonzero(np.isnan(store.target(0))).tolist() == [4, 5]


# Warnings


def test_a_table_without_timestamps_gives_a_warning(tmp_path, caplog):
    """The order of its rows may be any, and the forecast would not show it."""
    open_source(FRAME, tmp_path)
    assert not caplog.text
    open_source(FRAME.rename(columns={"timestamp": "date"}), tmp_path)
    assert "DataFrame" in caplog.text and "data.timestamp_column" in caplog.text


def test_a_few_values_of_a_coarser_frequency_give_a_warning(tmp_path, caplog):
    """On a daily grid, a weekly series is missing on six days of seven, but four Mondays may be a coincidence."""
    daily = pd.date_range("2020-01-06", periods=140)
    frames = [pd.DataFrame({"item_id": name, "timestamp": daily, "target": 1.0}) for name in "ABC"]

    def warnings(*rows):
        caplog.clear()
        open_source(pd.concat([*frames, *rows]), tmp_path)
        return caplog.text

    weekly = pd.DataFrame({"item_id": "weekly", "timestamp": daily[:28:7], "target": 2.0})
    irregular = weekly.assign(timestamp=daily[[0, 4, 9, 20]])
    assert not warnings() and not warnings(irregular)
    text = warnings(weekly)
    assert all(fact in text for fact in ("'D'", "1 series", "weekly", "W-MON", "data.freq"))


def test_series_that_end_with_missing_values_give_a_warning(tmp_path, caplog):
    values = [1.0, 2, 3, 4, 5, 6, np.nan, np.nan, np.nan]
    frame = pd.DataFrame({"timestamp": pd.date_range("2020-01-01", periods=9), "target": values})
    open_source(frame[:6], tmp_path / "cache")
    assert not caplog.text
    open_source(frame, tmp_path / "cache")
    assert "1 series" in caplog.text and "3 steps" in caplog.text


def test_series_with_mostly_missing_steps_give_a_warning(tmp_path, caplog):
    """Sales may have rows only for the days with sales, here every third day."""
    days = pd.date_range("2020-01-01", periods=300)[np.r_[:3, 3:300:3]]
    frame = pd.DataFrame({"timestamp": days, "target": 1.0})
    open_source(frame[3:], tmp_path / "cache", freq="3D")
    assert not caplog.text
    open_source(frame, tmp_path / "cache", freq="D")
    assert "34%" in caplog.text and "'D'" in caplog.text and "data.freq" in caplog.text


def test_columns_come_from_the_configuration():
    data = DataConfig(id_column=["shop", "product"], target="sold", known_covariates=["price"], decimal=",", sheet="s")
    columns = columns_from_config(Config(data=data))
    assert (columns.item_ids, columns.target, columns.decimal, columns.sheet) == (("shop", "product"), "sold", ",", "s")
    assert columns.variates.known == ("price",)


# data.fill_missing on data that are a store already


def test_missing_values_of_an_array_are_filled_after_its_padding():
    nan = np.nan
    store = open_source(np.array([[nan, 1, nan, 3, nan], [1, 2, 3, 4, 5]]), fill_missing=0.0)
    np.testing.assert_array_equal(store.target(0), [nan, 1, 0, 3, 0])


def test_missing_values_of_stores_are_filled(tmp_path):
    series = Series("A", np.datetime64("2020-01-01", "s"), "D", np.array([1, np.nan, 3], "f4"))
    write_store(tmp_path / "stores" / "s.arrow", [series])
    config = Config(data=DataConfig(fill_missing=7.0), paths=PathsConfig(data_dir=str(tmp_path)))
    for source in (tmp_path / "stores", tmp_path / "stores" / "s.arrow"):
        [store] = open_stores(config, str(source))
        assert store.target(0).tolist() == [1, 7, 3]
