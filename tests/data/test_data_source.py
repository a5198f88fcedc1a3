"""Every format gives the same series, and is converted once."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from support.series import long_frame
from support.source_files import FRAME, GOOD, KINDS, csv_of, nested, write

from pipeline.core.errors import UserError
from pipeline.core.series import Variates
from pipeline.data.columns import Columns
from pipeline.data.formats import named_tables
from pipeline.data.rows import SourceLocation
from pipeline.data.source import open_source
from pipeline.data.tabular import NotInOrder, series_in_order, series_of_tables

PLACE = SourceLocation("t")


@pytest.mark.filterwarnings("ignore:.*Feather.*:FutureWarning", "ignore:.*feather.*:DeprecationWarning")
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_series(kind, missing, tmp_path):
    frame = FRAME.copy()
    if missing:
        frame.loc[[3, 25], "target"] = np.nan
    freq = "D" if kind == "jsonl gluonts" else None
    store = open_source(write(kind, tmp_path, frame), tmp_path / "cache", freq=freq)
    assert (store.freq, list(store.item_ids)) == ("D", ["item0", "item1", "item2"])
    assert (store.starts == np.datetime64("2021-01-01")).all()
    for index, (_, one) in enumerate(frame.groupby("item_id", sort=False)):
        np.testing.assert_array_equal(store.target(index), one["target"].to_numpy(np.float32))


def test_a_path_object_is_a_path(tmp_path):
    FRAME.to_csv(tmp_path / "s.csv", index=False)
    assert len(open_source(tmp_path / "s.csv", tmp_path / "cache")) == 3


def test_an_array_keeps_its_missing_values_and_takes_a_frequency():
    data = np.array([[1.0, np.nan], [3.0, 4.0]])
    store = open_source(data, freq="h")
    np.testing.assert_array_equal(np.stack([store.target(0), store.target(1)]), data)
    assert store.freq == "h" and store.item_ids == ["0", "1"]


def test_a_frame_is_left_as_it_was(tmp_path):
    frame = FRAME.sample(frac=1, random_state=0)
    before = frame.copy(deep=True)
    open_source(frame, tmp_path)
    pd.testing.assert_frame_equal(frame, before)


def test_an_array_is_a_store_in_memory():
    store = open_source(np.arange(12.0).reshape(3, 4))
    assert store.target(2).tolist() == [8, 9, 10, 11] and store.freq == ""
    with pytest.raises(UserError, match="shape"):
        open_source(np.arange(3.0))


def test_rows_may_come_in_any_order(tmp_path):
    shuffled = FRAME.sample(frac=1, random_state=0)
    store = open_source(shuffled, tmp_path)
    assert list(store.item_ids) == list(shuffled["item_id"].unique())
    for index, name in enumerate(store.item_ids):
        expected = FRAME.loc[FRAME["item_id"] == name, "target"].to_numpy(np.float32)
        np.testing.assert_array_equal(store.target(index), expected)


def test_interleaved_rows_are_parted(tmp_path):
    interleaved = FRAME.sort_values(["timestamp", "item_id"])
    interleaved.to_csv(tmp_path / "s.csv", index=False)
    store = open_source(str(tmp_path / "s.csv"), tmp_path / "cache")
    for index, name in enumerate(["item0", "item1", "item2"]):
        expected = FRAME.loc[FRAME["item_id"] == name, "target"].to_numpy(np.float32)
        np.testing.assert_array_equal(store.target(index), expected)


def test_gaps_are_filled_as_pandas_would(tmp_path):
    frame = long_frame(n_series=4, length=60, freq="h")
    frame = frame[np.random.default_rng(0).random(len(frame)) < 0.7].sample(frac=1, random_state=0)
    store = open_source(frame, tmp_path)
    for index, name in enumerate(store.item_ids):
        expected = frame[frame["item_id"] == name].set_index("timestamp")["target"].asfreq("h")
        np.testing.assert_array_equal(store.target(index), expected.to_numpy(np.float32))
        assert store.starts[index] == expected.index[0]


def test_missing_timestamps_become_nan(tmp_path):
    store = open_source(FRAME.drop([4, 5, 47]), tmp_path)
    expected = FRAME["target"].to_numpy(np.float32).reshape(3, 20).copy()
    expected[0, [4, 5]] = expected[2, 7] = np.nan
    np.testing.assert_array_equal(np.stack([store.target(index) for index in range(3)]), expected)


@pytest.mark.parametrize("rows_in_memory", [0, 10, 59])
def test_more_rows_than_fit_in_memory_give_the_same_series(rows_in_memory):
    frame = long_frame(n_series=40, length=9).sample(frac=1, random_state=1)
    parts = [pa.Table.from_pandas(frame.iloc[start : start + 25], preserve_index=False) for start in range(0, 360, 25)]

    def series(limit):
        tables = named_tables(iter(parts), Columns(), PLACE)
        return {one.item_id: one.target.tolist() for one in series_of_tables(tables, PLACE, rows_in_memory=limit)}

    assert series(rows_in_memory) == series(10**6) and len(series(rows_in_memory)) == 40


@pytest.mark.parametrize("freq", ["h", "MS", "B", "QE-FEB", "W-THU", "2YS-JUN", "SME"])
@pytest.mark.parametrize("rows", [7, 13, 1000])
def test_rows_in_order_give_the_same_series_as_they_are_read(freq, rows):
    frame = long_frame(n_series=12, length=30, freq=freq)
    kept = frame[(np.random.default_rng(3).random(len(frame)) < 0.8) | (frame.index % 30 < 3)]
    tables = [pa.Table.from_pandas(kept.iloc[at : at + rows], preserve_index=False) for at in range(0, len(kept), rows)]
    given = freq if freq == "SME" else None  # which nobody can infer
    streamed, held = (
        [
            (one.item_id, one.start, one.freq, one.target.tolist())
            for one in read(named_tables(iter(tables), Columns(), PLACE), PLACE, given)
        ]
        for read in (series_in_order, series_of_tables)
    )
    assert repr(streamed) == repr(held) and len(held) == 12


def test_rows_out_of_order_are_told_from_those_in_order():
    names, days = ["a", "a", "b", "b"], pd.to_datetime(["2020-01-01", "2020-01-02"] * 2)
    for order in ([1, 0, 2, 3], [0, 0, 2, 3]):
        frame = pd.DataFrame({"item_id": names, "timestamp": days[order], "target": 1.0})
        table = pa.Table.from_pandas(frame, preserve_index=False)
        with pytest.raises(NotInOrder):
            list(series_in_order(named_tables(iter([table]), Columns(), PLACE), PLACE, "D"))


def test_a_series_that_goes_on_after_another_is_one_series(tmp_path):
    """Its first half stands at the head of a Parquet file, its second at the end, behind more rows than a batch has."""
    first, other = long_frame(n_series=1, length=60), long_frame(n_series=700, length=100).query("item_id != 'item0'")
    pd.concat([first[:30], other, first[30:]]).to_parquet(tmp_path / "s.parquet")
    store = open_source(tmp_path / "s.parquet", tmp_path / "cache")
    assert len(store) == 700 and store.item_ids[0] == "item0"
    np.testing.assert_array_equal(store.target(0), first["target"].to_numpy(np.float32))


@pytest.mark.parametrize("rows_in_memory", [2, 10**6])
def test_a_first_table_without_a_known_value_does_not_fix_the_type_of_the_column(rows_in_memory):
    stamps = pa.array(pd.date_range("2020-01-01", periods=5))
    tables = [
        pa.table({"item_id": [name] * 5, "timestamp": stamps, "target": values})
        for name, values in (("a", pa.nulls(5)), ("b", ["1"] * 5))
    ]
    series = series_of_tables(named_tables(iter(tables), Columns(), PLACE), PLACE, rows_in_memory=rows_in_memory)
    assert {one.item_id: np.isnan(one.target).all() for one in series} == {"a": True, "b": False}


def test_columns_may_have_other_names(tmp_path):
    frame = FRAME.rename(columns={"item_id": "shop", "timestamp": "day", "target": "sold"}).assign(colour="red")
    frame.to_csv(tmp_path / "s.csv", index=False)
    store = open_source(str(tmp_path / "s.csv"), tmp_path / "c", Columns("shop", "day", Variates(("sold",))))
    assert list(store.item_ids) == ["item0", "item1", "item2"] and store.lengths.tolist() == [20, 20, 20]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "frame"])
def test_several_columns_name_a_series_together(tmp_path, kind):
    shops, products = FRAME["item_id"].map({"item0": 7, "item1": 7, "item2": 8}), FRAME["item_id"].str[-1]
    frame = FRAME.drop(columns="item_id").assign(product=products, shop=shops)
    store = open_source(write(kind, tmp_path, frame), tmp_path / "c", Columns(("shop", "product")))
    assert list(store.item_ids) == ["7/0", "7/1", "8/2"]
    one = open_source(FRAME, tmp_path / "c")
    for index in range(3):
        np.testing.assert_array_equal(store.target(index), one.target(index))
    with pytest.raises(UserError, match=r"twice, .*data.id_column '\[a, b\]'"):
        open_source(write(kind, tmp_path, frame), tmp_path / "c", Columns("shop"))
    frame.loc[3, "product"] = None
    with pytest.raises(UserError, match="row 4 has no item_id"):
        open_source(write(kind, tmp_path, frame), tmp_path / "c", Columns(("shop", "product")))


def test_names_that_are_numbers_are_text(tmp_path):
    frame = FRAME.assign(item_id=FRAME["item_id"].str[-1].astype(int))
    frame.to_parquet(tmp_path / "s.parquet")
    assert list(open_source(str(tmp_path / "s.parquet"), tmp_path / "c").item_ids) == ["0", "1", "2"]


def test_timestamps_and_names_may_be_absent(tmp_path):
    store = open_source(FRAME[["item_id", "target"]], tmp_path)
    assert store.freq == "" and store.lengths.tolist() == [20, 20, 20]
    one = open_source(FRAME[FRAME["item_id"] == "item0"][["timestamp", "target"]], tmp_path)
    assert len(one) == 1 and one.freq == "D"


@pytest.mark.parametrize("name", ["NA", "null", "nan", "007", "", "  x"])
def test_any_text_is_a_name(tmp_path, name):
    FRAME.assign(item_id=name).iloc[:20].to_json(tmp_path / "s.jsonl", orient="records", lines=True, date_format="iso")
    assert list(open_source(tmp_path / "s.jsonl", tmp_path / "cache").item_ids) == [name]


@pytest.mark.parametrize("name", ["NA", "007"])
def test_any_text_in_a_csv_is_a_name(tmp_path, name):
    FRAME.assign(item_id=name).iloc[:20].to_csv(tmp_path / "s.csv", index=False)
    assert list(open_source(tmp_path / "s.csv", tmp_path / "cache").item_ids) == [name]


def test_a_source_is_converted_once_until_its_content_changes(tmp_path):
    path = csv_of(tmp_path, *GOOD)
    first = open_source(path, tmp_path / "cache").path
    stamp = first.stat().st_mtime_ns
    assert open_source(path, tmp_path / "cache").path == first and first.stat().st_mtime_ns == stamp
    csv_of(tmp_path, *GOOD, "A,2020-01-06,6")
    assert open_source(path, tmp_path / "cache").lengths.tolist() == [6]
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("kind", ["parquet", "parts", "gluonts", "datasets dict", "arrow file", "frame"])
def test_a_second_opening_leaves_the_converted_file_untouched(tmp_path, kind):
    source = write(kind, tmp_path)
    first, second = (open_source(source, tmp_path / "cache").path.stat() for _ in range(2))
    assert (first.st_ino, first.st_mtime_ns) == (second.st_ino, second.st_mtime_ns)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_other_columns_or_another_frequency_are_another_conversion(tmp_path):
    FRAME.assign(other=FRAME["target"] + 1).to_csv(tmp_path / "s.csv", index=False)
    options = [{}, {"columns": Columns(variates=Variates(("other",)))}, {"freq": "12h"}]
    stores = [open_source(tmp_path / "s.csv", tmp_path / "cache", **option) for option in options]
    assert len({store.path for store in stores}) == 3
    assert stores[1].target(0)[0] == pytest.approx(stores[0].target(0)[0] + 1)
    assert [store.lengths[0] for store in stores] == [20, 20, 39]


def test_a_moved_file_is_not_converted_again(tmp_path):
    FRAME.to_csv(tmp_path / "s.csv", index=False)
    first = open_source(tmp_path / "s.csv", tmp_path / "cache").path
    (tmp_path / "s.csv").rename(tmp_path / "t.csv")
    assert open_source(tmp_path / "t.csv", tmp_path / "cache").path == first


def test_a_store_is_opened_where_it_lies(tmp_path):
    FRAME.to_csv(tmp_path / "s.csv", index=False)
    made = open_source(tmp_path / "s.csv", tmp_path / "cache").path
    made.rename(tmp_path / "mine.arrow")
    assert open_source(tmp_path / "mine.arrow", tmp_path / "cache").path == tmp_path / "mine.arrow"
    assert list((tmp_path / "cache").iterdir()) == []


def test_gaps_in_nested_timestamps_become_nan_too(tmp_path):
    pa.parquet.write_table(nested(FRAME.drop([4, 5])), tmp_path / "s.parquet")
    store = open_source(str(tmp_path / "s.parquet"), tmp_path / "cache")
    assert store.freq == "D" and np.flatnonzero(np.isnan(store.target(0))).tolist() == [4, 5]
