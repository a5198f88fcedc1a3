"""Every format gives the same series; what is wrong is refused by its row."""

import gzip
import json

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pytest
from conftest import long_frame

from pipeline.data_source import open_source
from pipeline.errors import UserError
from pipeline.formats import Columns, named_tables
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
        case "jsonl":
            path.write_text("\n".join(lines))
        case "jsonl gluonts":
            path.write_text("\n".join(map(json.dumps, gluonts_rows(frame))) + "\n")
        case "json.gz":
            with gzip.open(path, "wt") as file:
                file.write("\n".join(lines))
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


def test_columns_may_have_other_names(tmp_path):
    frame = FRAME.rename(columns={"item_id": "shop", "timestamp": "day", "target": "sold"}).assign(colour="red")
    frame.to_csv(tmp_path / "s.csv", index=False)
    store = open_source(str(tmp_path / "s.csv"), tmp_path / "c", Columns("shop", "day", "sold"))
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
