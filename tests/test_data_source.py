"""Every format gives the same series; what is wrong is refused by its row."""

import gzip
import json

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from conftest import long_frame

from pipeline import formats
from pipeline.data_source import open_source
from pipeline.errors import UserError
from pipeline.formats import Columns, named_tables
from pipeline.series import Variates
from pipeline.tabular import series_of_tables

FRAME = long_frame(n_series=3, length=20).assign(target=lambda frame: frame["target"].round(3))


def gluonts_rows(frame):
    for name, one in frame.groupby("item_id", sort=False):
        target = ["NaN" if np.isnan(value) else value for value in one["target"]]
        yield {"item_id": name, "start": str(one["timestamp"].iloc[0]), "target": target}


def nested(frame):
    rows = [
        {"item_id": name, "timestamp": one["timestamp"].tolist(), "target": one["target"].tolist()}
        for name, one in frame.groupby("item_id", sort=False)
    ]
    return pa.Table.from_pylist(rows)


def write(kind, folder, frame=FRAME):
    """Write a frame in some format, and return what opens it."""
    path = folder / f"s.{kind.split()[0]}"
    lines = [json.dumps(row) for row in json.loads(frame.to_json(orient="records", date_format="iso"))]
    match kind:
        case "csv":
            frame.to_csv(path, index=False)
        case "csv semicolons":
            frame.to_csv(path, index=False, sep=";")
        case "tsv":
            frame.to_csv(path, index=False, sep="\t")
        case "csv bom":
            frame.to_csv(path, index=False, encoding="utf-8-sig")
        case "csv quoted":
            frame.to_csv(path, index=False, quoting=2)
        case "csv.gz":
            frame.to_csv(path, index=False)
        case "parquet":
            frame.to_parquet(path)
        case "parquet nested":
            pa.parquet.write_table(nested(frame), path)
        case "feather":
            pyarrow.feather.write_feather(frame, path)
        case "feather one":
            pyarrow.feather.write_feather(frame, path, version=1)
        case "arrow file" | "ipc file" | "arrow stream" | "arrow zstd":
            table = pa.Table.from_pandas(frame, preserve_index=False)
            options = pa.ipc.IpcWriteOptions(compression="zstd" if "zstd" in kind else None)
            maker = pa.ipc.new_file if "file" in kind else pa.ipc.new_stream
            with maker(str(path), table.schema, options=options) as writer:
                writer.write_table(table, max_chunksize=7)
        case "jsonl":
            path.write_text("\n".join(lines))
        case "jsonl gluonts":
            path.write_text("\n".join(map(json.dumps, gluonts_rows(frame))) + "\n")
        case "json.gz":
            with gzip.open(path, "wt") as file:
                file.write("\n".join(lines))
        case "jsonl nested":
            rows = nested(frame.assign(timestamp=frame["timestamp"].astype(str))).to_pylist()
            path.write_text("\n".join(map(json.dumps, rows)))
        case "parquetparts":
            path.mkdir()
            for part, start in enumerate(range(0, len(frame), 13)):
                frame.iloc[start : start + 13].to_parquet(path / f"part{part}.parquet")
        case "parts":
            path.mkdir()
            for part, name in enumerate(frame["item_id"].unique()):
                frame[frame["item_id"] == name].to_csv(path / f"part{part}.csv", index=False)
        case "gluonts":
            for name in ("metadata", "train", "test"):
                (path / name).mkdir(parents=True)
            (path / "metadata" / "metadata.json").write_text('{"freq": "D"}')
            rows = "\n".join(map(json.dumps, gluonts_rows(frame)))
            (path / "train" / "data.json").write_text(rows)
            (path / "test" / "data.json").write_text("never read")
        case "datasets":
            datasets.Dataset(nested(frame)).save_to_disk(path)
        case "datasets dict":
            datasets.DatasetDict({"train": datasets.Dataset(nested(frame))}).save_to_disk(path)
        case "frame":
            return frame
    return str(path)


KINDS = ["csv", "csv semicolons", "tsv", "csv bom", "csv quoted", "csv.gz", "parquet", "parquet nested", "feather"]
KINDS += ["feather one", "jsonl", "jsonl gluonts", "json.gz", "parts", "gluonts", "datasets", "datasets dict", "frame"]
KINDS += ["arrow file", "ipc file", "arrow stream", "arrow zstd", "jsonl nested", "parquetparts"]


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
        tables = named_tables(iter(parts), Columns(), "t")
        return {one.item_id: one.target.tolist() for one in series_of_tables(tables, "t", rows_in_memory=limit)}

    assert series(rows_in_memory) == series(10**6) and len(series(rows_in_memory)) == 40


def streamed(frame, rows_in_memory, rows_a_table=25):
    tables = (
        pa.Table.from_pandas(frame.iloc[start : start + rows_a_table], preserve_index=False)
        for start in range(0, len(frame), rows_a_table)
    )
    series = series_of_tables(named_tables(tables, Columns(), "t"), "t", rows_in_memory=rows_in_memory)
    return {one.item_id: (one.start, one.freq, str(one.target)) for one in series}


def of_series(count, stamps):
    """Series k has the timestamps `stamps(k)`."""
    frames = [pd.DataFrame({"item_id": f"s{k}", "timestamp": stamps(k), "target": 1.0}) for k in range(count)]
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize("stamps", [
    lambda k: pd.date_range("2020-01-01", periods=30 if k == 50 else 2),
    lambda k: pd.date_range("2020-01-01", periods=20, freq="B" if k < 40 else "D"),
    lambda k: pd.date_range(f"2020-01-0{1 + k % 7}", periods=9, freq="7D"),
    lambda k: pd.date_range("2020-01-01", periods=9, freq=("QS-JAN", "QS-FEB", "QS-MAR")[k % 3]),
    lambda k: [f"{day}/1/2020" for day in range(10 if k % 2 else 1, 17 if k % 2 else 8)],
], ids=["short", "weekdays", "weeks", "quarters", "slashed"])  # fmt: skip
def test_dates_and_frequencies_are_told_from_all_series_however_many_fit_in_memory(stamps):
    frame = of_series(60, stamps)
    assert streamed(frame, 20) == streamed(frame, 10**6)


def test_mixed_time_zones_are_refused_however_many_rows_fit_in_memory():
    frame = of_series(2, lambda k: [f"2020-01-01 0{hour}:00+0{k}:00" for hour in range(5)])
    for rows_in_memory in (10**6, 3):
        with pytest.raises(UserError, match="time zone"):
            streamed(frame, rows_in_memory)


def test_rows_keep_their_numbers_where_they_do_not_fit_in_memory():
    frame = of_series(30, lambda k: pd.date_range("2020-01-01", periods=10))
    frame.loc[233, "target"] = np.inf
    with pytest.raises(UserError, match="row 234 "):
        streamed(frame, 20)


@pytest.mark.parametrize("rows_in_memory", [2, 10**6])
def test_a_first_table_without_a_known_value_does_not_fix_the_type_of_the_column(rows_in_memory):
    stamps = pa.array(pd.date_range("2020-01-01", periods=5))
    tables = [
        pa.table({"item_id": [name] * 5, "timestamp": stamps, "target": values})
        for name, values in (("a", pa.nulls(5)), ("b", ["1"] * 5))
    ]
    series = series_of_tables(named_tables(iter(tables), Columns(), "t"), "t", rows_in_memory=rows_in_memory)
    assert {one.item_id: np.isnan(one.target).all() for one in series} == {"a": True, "b": False}


def test_columns_may_have_other_names(tmp_path):
    frame = FRAME.rename(columns={"item_id": "shop", "timestamp": "day", "target": "sold"}).assign(colour="red")
    frame.to_csv(tmp_path / "s.csv", index=False)
    store = open_source(str(tmp_path / "s.csv"), tmp_path / "c", Columns("shop", "day", Variates(("sold",))))
    assert list(store.item_ids) == ["item0", "item1", "item2"] and store.lengths.tolist() == [20, 20, 20]


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


def csv_of(tmp_path, *rows, header="item_id,timestamp,target"):
    path = tmp_path / "s.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


GOOD = [f"A,2020-01-{day:02d},{day}" for day in range(1, 6)]


@pytest.mark.parametrize("row, said", [
    ("A,2020-01-03,9", "rows 3 and 6"),
    ("A,2020-01-06,x", "row 6 has a target that is no number: x"),
    ("A,2020-01-06,inf", "row 6 has an infinite target"),
    ("A,2020-01-06,1e39", "row 6 has a target too large"),
    ("A,,6", "row 6 has no timestamp"),
    (",2020-01-06,6", "row 6 has no item_id"),
    ("A,2020-01-06T00:00:00+02:00,6", "row 6 is in another time zone"),
    ("A,2020-01-06T12:00:00,6", "row 6, series A"),
    ("A,tomorrow,6", "row 6 has a timestamp that is no date"),
    ("A,2020-01-06T00:00:00.5,6", "row 6 has a timestamp finer than a second"),
    ("A,9999-01-06,6", "mistyped|no date"),
])  # fmt: skip
def test_a_wrong_row_is_refused_by_its_number(tmp_path, row, said):
    with pytest.raises(UserError, match=said):
        open_source(csv_of(tmp_path, *GOOD, row), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "feather", "frame", "parquetparts"])
@pytest.mark.parametrize("wrong, said", [
    ({"target": np.inf}, "row 46 has an infinite target"),
    ({"target": 1e300}, "row 46 has a target too large"),
    ({"item_id": None}, "row 46 has no item_id"),
    ({"timestamp": pd.NaT}, "row 46 has no timestamp"),
    ({"timestamp": pd.Timestamp("2021-01-02")}, "twice, in rows 42 and 46"),
    ({"timestamp": pd.Timestamp("2021-01-06 12:00")}, "row 46, series item2: timestamp 2021-01-06T12:00:00"),
])  # fmt: skip
def test_a_wrong_row_of_any_format_is_refused_by_its_number(tmp_path, monkeypatch, kind, wrong, said):
    monkeypatch.setattr(formats, "_ROWS", 32)
    frame = FRAME.copy()
    for column, value in wrong.items():
        frame.loc[45, column] = value
    if kind == "jsonl" and "target" in wrong:
        path = tmp_path / "s.jsonl"
        rows = frame.assign(timestamp=frame["timestamp"].astype(str)).to_dict("records")
        path.write_text("\n".join(map(json.dumps, rows)))
        source = str(path)
    else:
        source = write(kind, tmp_path, frame)
    with pytest.raises(UserError, match=said):
        open_source(source, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("target, said", [
    ([1, "inf"], "row 2 has an infinite target"),
    ([1, "x"], "no number"),
    (None, "target"),
    ([[1], [2]], "no number"),
])  # fmt: skip
def test_a_wrong_nested_row_is_refused(tmp_path, target, said):
    rows = [
        {"item_id": "A", "start": "2020-01-01", "target": [1, 2]},
        {"item_id": "B", "start": "2020-01-01", "target": target},
    ]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=said):
        open_source(tmp_path / "s.jsonl", tmp_path / "cache", freq="D")


@pytest.mark.parametrize("rows", [
    [{"item_id": None, "target": [1, 2]}, {"item_id": "B", "target": [3, 4]}],
    [{"item_id": "A", "target": [1, 2]}, {"target": [3, 4]}],
])  # fmt: skip
def test_a_nested_row_without_its_name_is_refused_and_leaves_no_store(tmp_path, rows):
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for _ in range(2):
        with pytest.raises(UserError, match="item_id"):
            open_source(tmp_path / "s.jsonl", tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize(
    "lacking, said", [("timestamp", "row 1 has no timestamp"), ("item_id", "row 1 has no item_id")]
)
def test_a_first_json_line_that_lacks_a_field_does_not_hide_it_in_the_others(tmp_path, lacking, said):
    rows = [{"item_id": "A", "timestamp": f"2020-01-0{day}", "target": day} for day in range(1, 6)]
    del rows[0][lacking]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=said):
        open_source(tmp_path / "s.jsonl", tmp_path / "cache")


def test_a_first_json_line_without_a_value_is_a_missing_value(tmp_path):
    rows = [{"item_id": "A", "timestamp": f"2020-01-0{day}", "target": day} for day in range(1, 6)]
    del rows[0]["target"]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store = open_source(tmp_path / "s.jsonl", tmp_path / "cache")
    np.testing.assert_array_equal(store.target(0), [np.nan, 2, 3, 4, 5])


@pytest.mark.parametrize("content", ["", "\n", "item_id,timestamp,target", "item_id,timestamp,target\n"])
def test_a_file_without_rows_is_refused(tmp_path, content):
    (tmp_path / "s.csv").write_text(content)
    with pytest.raises(UserError, match="s.csv"):
        open_source(tmp_path / "s.csv", tmp_path / "cache")


def test_a_table_without_rows_is_refused(tmp_path):
    FRAME.iloc[:0].to_parquet(tmp_path / "s.parquet")
    for source in (tmp_path / "s.parquet", FRAME.iloc[:0]):
        with pytest.raises(UserError, match="no rows"):
            open_source(source, tmp_path / "cache")


DAYS = [np.datetime64(f"2020-01-0{day}", "us") for day in range(1, 4)]


@pytest.mark.parametrize("table", [
    pa.table({"item_id": ["A"] * 3, "timestamp": [*DAYS[:2], np.datetime64("9999-12-31", "us")], "target": [1.0, 2, 3]}),
    pa.table([["A"] * 3, DAYS, [1.0, 2, 3], [1.0, 2, 3]], names=["item_id", "timestamp", "target", "target"]),
    pa.table({"item_id": ["A"] * 3, "timestamp": [1, 2, 3], "target": [1.0, 2, 3]}),
    pa.table({"item_id": ["A"] * 3, "timestamp": DAYS, "target": [True, False, True]}),
    pa.table({"item_id": ["A"] * 3, "timestamp": DAYS, "target": [{"x": 1}] * 3}),
], ids=["year 9999", "two targets", "whole numbers as time", "truth values", "structs"])  # fmt: skip
def test_a_table_that_cannot_be_read_is_refused(tmp_path, table):
    pa.parquet.write_table(table, tmp_path / "s.parquet")
    with pytest.raises(UserError):
        open_source(tmp_path / "s.parquet", tmp_path / "cache")


@pytest.mark.parametrize("frame", [
    FRAME.set_axis(["item_id", "target", "target"], axis=1),
    FRAME.assign(target=["x", *range(59)]),
    FRAME.assign(timestamp=FRAME["timestamp"].dt.to_period("D").astype(object)),
    pd.DataFrame({"item_id": ["A"], "target": [{"x": 1}]}),
], ids=["two targets", "text among numbers", "periods", "dicts"])  # fmt: skip
def test_a_frame_that_cannot_be_read_is_refused(tmp_path, frame):
    with pytest.raises(UserError):
        open_source(frame, tmp_path)


def test_whole_numbers_of_any_size_are_values(tmp_path):
    store = open_source(FRAME.assign(target=2**53 + 1 + np.arange(60)), tmp_path)
    assert store.target(0)[0] == np.float32(2**53)


@pytest.mark.parametrize("other", [
    FRAME.assign(item_id=range(60)),
    FRAME.assign(timestamp=FRAME["timestamp"].astype(str), item_id="B"),
    FRAME.assign(item_id="B", target=FRAME["target"].astype(str)),
], ids=["names", "timestamps", "targets"])  # fmt: skip
def test_files_of_a_folder_that_do_not_fit_together_are_read_or_refused(tmp_path, other):
    (tmp_path / "f").mkdir()
    FRAME.to_parquet(tmp_path / "f" / "a.parquet")
    other.iloc[:20].to_parquet(tmp_path / "f" / "b.parquet")
    try:
        assert len(open_source(tmp_path / "f", tmp_path / "cache", freq="D")) > 3
    except UserError as error:
        assert str(tmp_path / "f") in str(error)


@pytest.mark.parametrize("kind", ["csv.gz", "json.gz", "parquet", "feather", "arrow file", "arrow zstd"])
@pytest.mark.parametrize("cut", [1, 8, 300])
def test_a_file_of_any_format_that_is_cut_short_is_refused(tmp_path, kind, cut):
    source = write(kind, tmp_path)
    with open(source, "rb+") as file:
        file.truncate(file.seek(0, 2) - cut)
    with pytest.raises(UserError, match=source):
        open_source(source, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("name", ["s.csv.gz", "s.jsonl.gz", "s.parquet", "s.feather", "s.jsonl", "s.arrow"])
def test_a_file_that_is_not_what_its_suffix_says_is_refused(tmp_path, name):
    (tmp_path / name).write_text("item_id,timestamp,target\nA,2020-01-01,1\n")
    with pytest.raises(UserError, match=name):
        open_source(tmp_path / name, tmp_path / "cache")


def test_gluonts_metadata_that_is_half_written_is_refused(tmp_path):
    source = write("gluonts", tmp_path)
    (tmp_path / "s.gluonts" / "metadata" / "metadata.json").write_text('{"freq": ')
    with pytest.raises(UserError, match="metadata.json"):
        open_source(source, tmp_path / "cache")


def test_a_datasets_folder_that_is_half_written_is_refused(tmp_path):
    source = write("datasets", tmp_path)
    (tmp_path / "s.datasets" / "state.json").write_text("{")
    with pytest.raises(UserError, match="s.datasets"):
        open_source(source, tmp_path / "cache")


def test_a_dict_of_splits_without_training_is_refused_by_those_there_are(tmp_path):
    datasets.DatasetDict({"test": datasets.Dataset(nested(FRAME))}).save_to_disk(tmp_path / "s")
    with pytest.raises(UserError, match="only test"):
        open_source(tmp_path / "s", tmp_path / "cache")


@pytest.mark.parametrize("name", ["none.csv", "none/at/all", "table.xls", "empty"])
def test_a_source_that_is_not_there_or_of_no_known_format_is_refused(tmp_path, name):
    (tmp_path / "table.xls").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=name):
        open_source(tmp_path / name, tmp_path / "cache")


@pytest.mark.parametrize(
    "columns", [Columns(item_id="shop"), Columns(timestamp="day"), Columns(variates=Variates(("sold",)))]
)
def test_a_column_that_is_asked_for_must_be_there(tmp_path, columns):
    asked = {columns.item_id, columns.timestamp, columns.target} & {"shop", "day", "sold"}
    for kind in ("csv", "parquet", "jsonl", "feather", "frame"):
        with pytest.raises(UserError, match=f"'{asked.copy().pop()}'.*item_id, timestamp, target"):
            open_source(write(kind, tmp_path), tmp_path / "cache", columns)


def test_interleaved_series_without_names_are_refused_with_the_key_to_name_them(tmp_path):
    path = csv_of(tmp_path, "2020-01-01,1", "2020-01-02,2", "2020-01-03,2", "2020-01-01,3", header="timestamp,target")
    with pytest.raises(UserError, match="data.id_column"):
        open_source(path, tmp_path / "cache")


@pytest.mark.parametrize("header", ["item_id,timestamp,value", "a,b,c"])
def test_a_missing_column_is_named_with_those_there_are(tmp_path, header):
    with pytest.raises(UserError, match=f"'target'.*{header.split(',')[2]}"):
        open_source(csv_of(tmp_path, *GOOD, header=header), tmp_path / "cache")


@pytest.mark.parametrize("days, iso", [
    (["1/30/2020", "1/31/2020", "2/1/2020"], "2020-01-30"),
    (["30/1/2020", "31/1/2020", "1/2/2020"], "2020-01-30"),
    (["1990", "1991", "1992"], "1990-01-01"),
    (["2020-01", "2020-02", "2020-03"], "2020-01-01"),
    (["2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z", "2020-01-03T00:00:00Z"], "2020-01-01"),
    (["2020-01-01 00:00+02:00", "2020-01-02 00:00+02:00", "2020-01-03 00:00+02:00"], "2020-01-01"),
])  # fmt: skip
def test_dates_are_read_where_they_mean_one_thing(tmp_path, days, iso):
    store = open_source(csv_of(tmp_path, *(f"A,{day},{k}" for k, day in enumerate(days))), tmp_path / "cache")
    assert store.starts[0] == np.datetime64(iso) and store.target(0).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "days, wrong", [(["30/1/2020", "31/1/2020", "32/1/2020"], 3), (["2020-01-01", "1/30/2020"], 2)]
)
def test_a_day_that_no_month_has_is_refused_by_its_row(tmp_path, days, wrong):
    with pytest.raises(UserError, match=f"row {wrong} .*{days[wrong - 1]}"):
        open_source(csv_of(tmp_path, *(f"A,{day},1" for day in days)), tmp_path / "cache")


def test_a_wrong_timestamp_is_named_by_its_first_row_where_series_share_theirs(tmp_path):
    rows = [f"{name},2020-01-0{day},1" for name in "AB" for day in range(1, 6)]
    with pytest.raises(UserError, match="row 11 .*: tomorrow"):
        open_source(csv_of(tmp_path, *rows, "B,tomorrow,1"), tmp_path / "cache")


def test_dates_that_can_mean_two_days_are_refused(tmp_path):
    with pytest.raises(UserError, match="two days"):
        open_source(csv_of(tmp_path, "A,1/2/2020,1", "A,2/2/2020,1", "A,3/2/2020,1"), tmp_path / "cache")


def test_time_zones_are_local_for_days_and_utc_for_hours(tmp_path):
    for freq, start in (("D", "2021-03-26"), ("h", "2021-03-27T23:00:00")):
        first = "2021-03-26" if freq == "D" else "2021-03-28 00:00"
        stamps = pd.date_range(first, periods=30, freq=freq, tz="Europe/Berlin")
        frame = pd.DataFrame({"item_id": "A", "timestamp": stamps, "target": np.arange(30.0)})
        frame.to_parquet(tmp_path / f"{freq}.parquet")
        store = open_source(str(tmp_path / f"{freq}.parquet"), tmp_path / "cache")
        assert (store.freq, store.starts[0]) == (freq, np.datetime64(start)) and store.lengths[0] == 30


def test_an_hour_that_comes_twice_in_autumn_is_two_hours(tmp_path):
    stamps = pd.date_range("2021-10-30 12:00", periods=40, freq="h", tz="Europe/Berlin")
    pd.DataFrame({"item_id": "A", "timestamp": stamps, "target": np.arange(40.0)}).to_parquet(tmp_path / "s.parquet")
    store = open_source(tmp_path / "s.parquet", tmp_path / "cache")
    assert store.starts[0] == np.datetime64("2021-10-30T10:00:00")
    np.testing.assert_array_equal(store.target(0), np.arange(40))


@pytest.mark.parametrize("freq", ["D", "W-MON", "MS"])
def test_local_midnights_across_a_change_of_the_clock_are_whole_steps(tmp_path, freq):
    stamps = pd.date_range("2021-03-01", periods=12, freq=freq, tz="Europe/Berlin")
    pd.DataFrame({"item_id": "A", "timestamp": stamps, "target": np.arange(12.0)}).to_parquet(tmp_path / "s.parquet")
    store = open_source(tmp_path / "s.parquet", tmp_path / "cache")
    assert (store.freq, store.starts[0]) == (freq, np.datetime64("2021-03-01")) and store.lengths.tolist() == [12]


def test_the_same_moments_in_another_time_zone_are_another_frame(tmp_path):
    naive = pd.DataFrame({"item_id": "A", "timestamp": pd.date_range("2020-01-01 23:00", periods=5), "target": 1.0})
    local = naive.assign(timestamp=naive["timestamp"].dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin"))
    starts = [open_source(frame, tmp_path).starts[0] for frame in (naive, local)]
    assert [str(start) for start in starts] == ["2020-01-01T23:00:00", "2020-01-02T00:00:00"]


def test_a_frequency_that_is_given_is_taken(tmp_path):
    path = csv_of(tmp_path, "A,2020-01-01,1", "A,2020-01-03,3", "A,2020-01-05,5")
    assert open_source(path, tmp_path / "cache").freq == "2D"
    store = open_source(path, tmp_path / "cache", freq="D")
    np.testing.assert_array_equal(store.target(0), [1, np.nan, 3, np.nan, 5])


def test_a_frequency_that_cannot_be_told_is_asked_for(tmp_path):
    with pytest.raises(UserError, match="data.freq"):
        open_source(csv_of(tmp_path, "A,2020-01-01,1", "B,2020-01-03,3"), tmp_path / "cache")


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


def test_two_rows_of_one_name_are_refused_in_nested_data(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text('{"item_id": "A", "target": [1, 2]}\n{"item_id": "A", "target": [3, 4]}\n')
    with pytest.raises(UserError, match="A"):
        open_source(str(path), tmp_path / "cache", freq="D")


def test_gaps_in_nested_timestamps_become_nan_too(tmp_path):
    pa.parquet.write_table(nested(FRAME.drop([4, 5])), tmp_path / "s.parquet")
    store = open_source(str(tmp_path / "s.parquet"), tmp_path / "cache")
    assert store.freq == "D" and np.flatnonzero(np.isnan(store.target(0))).tolist() == [4, 5]


def test_nested_rows_whose_lists_differ_in_length_are_refused(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text('{"timestamp": ["2020-01-01", "2020-01-02"], "target": [1, 2, 3]}\n')
    with pytest.raises(UserError, match="row 1 has not as many timestamps"):
        open_source(str(path), tmp_path / "cache")
