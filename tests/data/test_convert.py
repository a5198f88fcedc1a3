"""Rows of tables become sorted series on a grid, in memory or through files; invalid rows are refused."""

import re
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from support.series import long_frame
from support.source_files import FRAME, VALID_ROWS, refused, to_dict, write_csv, write_json, write_source

from pipeline.config import Config, DataConfig
from pipeline.core.errors import UserError
from pipeline.data import convert as conversion
from pipeline.data.columns import Columns
from pipeline.data.convert import convert
from pipeline.data.rows import SourceLocation
from pipeline.data.source import columns_from_config, open_source


def to_tables(frame, rows_per_table):
    return (
        pa.Table.from_pandas(frame.iloc[start : start + rows_per_table], preserve_index=False)
        for start in range(0, len(frame), rows_per_table)
    )


def series_of(tables, freq=None):
    """The start, frequency and values of each series, by item ID."""
    series = convert(tables, Columns(), SourceLocation("t"), freq)[1]
    return {item.item_id: (item.start, item.freq, str(item.target)) for item in series}


@pytest.fixture
def on_disk(monkeypatch):
    """Nothing stays in memory."""
    monkeypatch.setattr(conversion, "RowSorter", partial(conversion.RowSorter, memory_limit=600))
    monkeypatch.setattr(conversion, "Spool", partial(conversion.Spool, bytes_in_memory=600))


def frame_of(count, stamps):
    """Series k has the timestamps `stamps(k)`."""
    frames = [pd.DataFrame({"item_id": f"s{k}", "timestamp": stamps(k), "target": 1.0}) for k in range(count)]
    return pd.concat(frames, ignore_index=True)


# Order and gaps


def test_rows_may_have_any_order(tmp_path):
    shuffled = FRAME.sample(frac=1, random_state=0)
    store = open_source(shuffled, tmp_path)
    assert list(store.item_ids) == list(shuffled["item_id"].unique())
    for index, name in enumerate(store.item_ids):
        expected = FRAME.loc[FRAME["item_id"] == name, "target"].to_numpy(np.float32)
        np.testing.assert_array_equal(store.target(index), expected)


def test_interleaved_series_are_separated(tmp_path):
    FRAME.sort_values(["timestamp", "item_id"]).to_csv(tmp_path / "s.csv", index=False)
    assert to_dict(open_source(tmp_path / "s.csv", tmp_path / "c")) == to_dict(open_source(FRAME, tmp_path / "c"))


def test_a_series_that_continues_after_others_is_one_series(tmp_path):
    """A Parquet file has its first half in the first batch, and its second half in a later one."""
    first, other = long_frame(n_series=1, length=60), long_frame(n_series=700, length=100).query("item_id != 'item0'")
    pd.concat([first[:30], other, first[30:]]).to_parquet(tmp_path / "s.parquet")
    store = open_source(tmp_path / "s.parquet", tmp_path / "cache")
    assert len(store) == 700 and store.item_ids[0] == "item0"
    np.testing.assert_array_equal(store.target(0), first["target"].to_numpy(np.float32))


def test_gaps_are_filled_as_in_pandas(tmp_path):
    frame = long_frame(n_series=4, length=60, freq="h")
    frame = frame[np.random.default_rng(0).random(len(frame)) < 0.7].sample(frac=1, random_state=0)
    store = open_source(frame, tmp_path)
    for index, name in enumerate(store.item_ids):
        expected = frame[frame["item_id"] == name].set_index("timestamp")["target"].asfreq("h")
        np.testing.assert_array_equal(store.target(index), expected.to_numpy(np.float32))
        assert store.starts[index] == expected.index[0]


@pytest.mark.parametrize("freq", ["h", "MS", "B", "QE-FEB", "W-THU", "2YS-JUN", "SME"])
@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize("shuffled", [False, True])
def test_rows_on_disk_give_the_same_series(freq, texts, shuffled, request):
    frame = long_frame(n_series=12, length=30, freq=freq)
    kept = frame[(np.random.default_rng(3).random(len(frame)) < 0.8) | (frame.index % 30 < 3)]
    if shuffled:
        kept = kept.sample(frac=1, random_state=0)
    if texts:
        kept = kept.assign(timestamp=kept["timestamp"].astype(str), target=kept["target"].map("{:.2f}".format))
    given = freq if freq == "SME" else None  # its steps of 14 to 17 days cannot be inferred
    in_memory = series_of(to_tables(kept, 1000), given)
    request.getfixturevalue("on_disk")
    assert series_of(to_tables(kept, 7), given) == in_memory and len(in_memory) == 12
    assert list(in_memory) == list(kept["item_id"].unique())


@pytest.mark.parametrize("stamps", [
    lambda k: pd.date_range("2020-01-01", periods=30 if k == 50 else 2),
    lambda k: pd.date_range("2020-01-01", periods=20, freq="B" if k < 40 else "D"),
    lambda k: pd.date_range(f"2020-01-0{1 + k % 7}", periods=9, freq="7D"),
    lambda k: pd.date_range("2020-01-01", periods=9, freq=("QS-JAN", "QS-FEB", "QS-MAR")[k % 3]),
    lambda k: [f"{day}/1/2020" for day in range(10 if k % 2 else 1, 17 if k % 2 else 8)],
], ids=["short", "weekdays", "weeks", "quarters", "slashed"])  # fmt: skip
def test_dates_and_frequencies_are_decided_by_all_rows_on_disk(stamps, request):
    frame = frame_of(60, stamps)
    in_memory = series_of(to_tables(frame, 1000))
    request.getfixturevalue("on_disk")
    assert series_of(to_tables(frame, 20)) == in_memory and len(in_memory) == 60


def test_different_utc_offsets_are_converted_to_utc(request):
    frame = frame_of(2, lambda k: [f"2020-01-01 0{hour}:00+0{k}:00" for hour in range(5)])
    for fixture in (None, "on_disk"):
        if fixture:
            request.getfixturevalue(fixture)
        starts = {name: str(start) for name, (start, *_) in series_of(to_tables(frame, 3)).items()}
        assert starts == {"s0": "2020-01-01T00:00:00", "s1": "2019-12-31T23:00:00"}


def test_rows_keep_their_numbers_on_disk(on_disk):
    frame = frame_of(30, lambda k: pd.date_range("2020-01-01", periods=10))
    frame.loc[233, "timestamp"] = frame.loc[231, "timestamp"]
    with refused("row 232 ", "row 234;"):
        series_of(to_tables(frame, 100))


def test_temporary_files_are_in_the_given_folder_and_have_no_name(tmp_path, monkeypatch, on_disk):
    """The system's temporary folder may be small, or in memory. A killed conversion leaves nothing."""
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    tables = to_tables(FRAME.sample(frac=1, random_state=0).assign(target="1.5"), 25)
    series = convert(tables, Columns(), SourceLocation("t"), folder=tmp_path)[1]
    next(series)
    assert not list(tmp_path.iterdir()) and len(list(series)) == 2


def test_a_table_without_values_does_not_decide_on_the_type_of_the_target(request):
    stamps = pa.array(pd.date_range("2020-01-01", periods=5))
    tables = [
        pa.table({"item_id": [name] * 5, "timestamp": stamps, "target": values})
        for name, values in (("a", pa.nulls(5)), ("b", ["1"] * 5))
    ]
    for fixture in (None, "on_disk"):
        if fixture:
            request.getfixturevalue(fixture)
        series = convert(iter(tables), Columns(), SourceLocation("t"))[1]
        assert {item.item_id: np.isnan(item.target).all() for item in series} == {"a": True, "b": False}


def test_types_that_change_from_number_to_text_are_refused():
    days = pd.date_range("2020-01-01", periods=5)
    tables = [pa.table({"timestamp": days, "target": [value] * 5}) for value in (1.5, "1.5")]
    with refused("types"):
        series_of(tables)


# Categorical covariates


def test_a_text_among_many_numbers_is_an_error_and_not_a_category(tmp_path):
    columns = columns_from_config(Config(data=DataConfig(known_covariates=["price"])))
    rows = [f"2020-{1 + i // 28:02}-{1 + i % 28:02},1,{i / 4}" for i in range(50)]
    for name, text in (("s", "9.50 EUR"), ("t", "?")):
        rows[30] = rows[30].rpartition(",")[0] + f",{text}"
        path = write_csv(tmp_path, *rows, header="timestamp,target,price", name=f"{name}.csv")
        with refused("row 31 ", "price", re.escape(text)):
            open_source(path, tmp_path / "cache", columns, "D")


def test_a_few_numbers_among_texts_are_categories(tmp_path):
    columns = columns_from_config(Config(data=DataConfig(known_covariates=["size"])))
    sizes = ["S", *range(36, 44), "46"]
    rows = [f"2020-01-{1 + i:02},1,{sizes[i % 10]}" for i in range(30)]
    path = write_csv(tmp_path, *rows, header="timestamp,target,size")
    assert len(open_source(path, tmp_path / "cache", columns, "D").variates.categories["size"]) == 10


# Invalid rows


@pytest.mark.parametrize("row, facts", [
    ("A,2020-01-03,9", ("series A", "2020-01-03", "row 3 ", "row 6;", "data.id_column")),
    ("A,2020-01-06,x", ("row 6 ", "target", ": x")),
    ("A,2020-01-06,inf", ("row 6 ", "infinite")),
    ("A,2020-01-06,1e39", ("row 6 ", r"1e\+18")),
    ("A,,6", ("row 6 ", "timestamp")),
    (",2020-01-06,6", ("row 6 ", "item_id")),
    ("A,2020-01-06T00:00:00+02:00,6", ("row 6 ", "time zone")),
    ("A,2020-01-06T12:00:00,6", ("row 6, series A", "2020-01-06T12:00:00", "'D'", "data.freq")),
    ("A,tomorrow,6", ("row 6 ", "timestamp", "tomorrow")),
    ("A,2020-01-06T00:00:00.5,6", ("row 6 ", "second")),
    ("A,9999-01-06,6", ("s.csv", "A|9999-01-06")),
])  # fmt: skip
def test_an_invalid_row_is_refused_with_its_number(tmp_path, row, facts):
    with refused("s.csv", *facts):
        open_source(write_csv(tmp_path, *VALID_ROWS, row), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "feather", "frame", "parquetparts", "arrow file"])
@pytest.mark.parametrize("invalid, facts", [
    ({"target": np.inf}, ("row 46", "target")),
    ({"target": 1e300}, ("row 46", r"1e\+18")),
    ({"item_id": None}, ("row 46", "item_id")),
    ({"timestamp": pd.NaT}, ("row 46", "timestamp")),
    ({"timestamp": pd.Timestamp("2021-01-02")}, ("row 42", "row 46")),
    ({"timestamp": pd.Timestamp("2021-01-06 12:00")}, ("row 46", "item2", "2021-01-06T12:00:00")),
])  # fmt: skip
def test_an_invalid_row_of_any_format_is_refused_with_its_number(tmp_path, kind, invalid, facts):
    frame = FRAME.copy()
    for column, value in invalid.items():
        frame.loc[45, column] = value
    if kind == "jsonl" and "target" in invalid:  # pandas writes inf as null
        source = write_json(tmp_path, frame.assign(timestamp=frame["timestamp"].astype(str)).to_dict("records"))
    else:
        source = write_source(kind, tmp_path, frame)
    if kind == "parquetparts":  # of 13 rows each
        facts = [fact.replace("row 46", "row 7 of part3").replace("row 42", "row 3 of part3") for fact in facts]
    with refused(*facts):
        open_source(source, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("target, facts", [
    ([1, "inf"], ("row 2 ", "target")),
    ([1, "x"], ("target", "x")),
    (None, ("row 2 ", "target")),
    ([[1], [2]], ("target",)),
])  # fmt: skip
def test_an_invalid_nested_target_is_refused(tmp_path, target, facts):
    rows = [
        {"item_id": "A", "start": "2020-01-01", "target": [1, 2]},
        {"item_id": "B", "start": "2020-01-01", "target": target},
    ]
    with refused("s.jsonl", *facts):
        open_source(write_json(tmp_path, rows), tmp_path / "cache", freq="D")


@pytest.mark.parametrize("rows", [
    [{"item_id": None, "target": [1, 2]}, {"item_id": "B", "target": [3, 4]}],
    [{"item_id": "A", "target": [1, 2]}, {"target": [3, 4]}],
])  # fmt: skip
def test_a_nested_row_without_an_item_id_is_refused_at_each_opening(tmp_path, rows):
    path = write_json(tmp_path, rows)
    for _ in range(2):
        with refused("item_id"):
            open_source(path, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


def test_nested_rows_with_lists_of_different_lengths_are_refused(tmp_path):
    path = write_json(tmp_path, [{"timestamp": ["2020-01-01", "2020-01-02"], "target": [1, 2, 3]}])
    with refused("row 1 ", "timestamps"):
        open_source(path, tmp_path / "cache")


def test_nested_rows_may_have_their_frequency(tmp_path):
    rows = [{"item_id": str(k), "start": "2022-01-01", "freq": "D", "target": [1, 2, 3]} for k in range(2)]
    store = open_source(write_json(tmp_path, rows), tmp_path / "cache")
    assert (store.freq, str(store.starts[0])) == ("D", "2022-01-01T00:00:00")
    rows[1]["freq"] = "h"
    with refused("row 2 ", "freq", "D", "h"):
        open_source(write_json(tmp_path, rows), tmp_path / "cache")


def test_interleaved_series_without_item_ids_are_refused(tmp_path):
    rows = ["2020-01-01,1", "2020-01-02,2", "2020-01-03,2", "2020-01-01,3"]
    with refused("row 1 ", "row 4;", "data.duplicates"):
        open_source(write_csv(tmp_path, *rows, header="timestamp,target"), tmp_path / "cache")


def test_a_frequency_of_period_ends_for_first_days_is_explained(tmp_path):
    rows = [f"A,{stamp.date()},1" for stamp in pd.date_range("2000-01-01", periods=5, freq="QS")]
    with refused("data.freq", "QS"):
        open_source(write_csv(tmp_path, *rows), tmp_path / "cache", freq="QE")


DAYS = [np.datetime64(f"2020-01-0{day}", "us") for day in range(1, 4)]
YEAR_9999 = np.datetime64("9999-12-31", "us")


@pytest.mark.parametrize("table", [
    pa.table({"item_id": ["A"] * 3, "timestamp": [*DAYS[:2], YEAR_9999], "target": [1.0, 2, 3]}),
    pa.table([["A"] * 3, DAYS, [1.0, 2, 3], [1.0, 2, 3]], names=["item_id", "timestamp", "target", "target"]),
    pa.table({"item_id": ["A"] * 3, "timestamp": DAYS, "target": [{"x": 1}] * 3}),
], ids=["year 9999", "two targets", "structs"])  # fmt: skip
def test_a_table_with_invalid_columns_is_refused(tmp_path, table):
    pa.parquet.write_table(table, tmp_path / "s.parquet")
    with pytest.raises(UserError):
        open_source(tmp_path / "s.parquet", tmp_path / "cache")


def test_series_have_the_order_of_their_rows_whatever_the_order_of_the_categories(tmp_path):
    frame = FRAME[::-1].assign(item_id=pd.Categorical(FRAME["item_id"][::-1], ["unused", *FRAME["item_id"].unique()]))
    frame.to_parquet(tmp_path / "s.parquet")
    for source in (frame, tmp_path / "s.parquet"):
        assert list(open_source(source, tmp_path / "cache").item_ids) == ["item2", "item1", "item0"]
