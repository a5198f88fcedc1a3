"""Reading of files and folders: layouts of folders, blocks of JSON Lines, and broken files."""

import json

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.series import long_frame
from support.source_files import FRAME, refused, to_dict, to_nested, write_json, write_source

from pipeline.core.errors import UserError
from pipeline.core.series import Variates
from pipeline.data.columns import Columns
from pipeline.data.source import open_source

MORE_THAN_A_BLOCK = 5000  # lines of a JSON file


def write_parts(path, *frames):
    path.mkdir()
    for number, frame in enumerate(frames):
        frame.to_parquet(path / f"{number}.parquet")
    return path


# Folders


def test_files_without_item_ids_are_series_with_the_names_of_the_files(tmp_path):
    for name, first in (("a", 0), ("b", 100)):
        pd.DataFrame({"target": np.arange(first, first + 5)}).to_csv(tmp_path / f"{name}.csv.gz", index=False)
    series = to_dict(open_source(tmp_path, tmp_path / "cache"))
    assert {name: item[2] for name, item in series.items()} == {"a": [0, 1, 2, 3, 4], "b": [100, 101, 102, 103, 104]}


def test_a_folder_with_a_file_per_day_is_one_table(tmp_path):
    days = [rows for _, rows in FRAME.groupby("timestamp")]
    folder = write_parts(tmp_path / "days", *days)
    assert to_dict(open_source(folder, tmp_path)) == to_dict(open_source(FRAME, tmp_path))


@pytest.mark.parametrize("change", [
    lambda frame: frame.assign(timestamp=frame["timestamp"].astype("M8[s]")),
    lambda frame: frame.assign(timestamp=frame["timestamp"].dt.date),
], ids=["seconds", "dates"])  # fmt: skip
def test_a_series_may_continue_in_a_file_with_another_type_of_timestamp(tmp_path, change):
    folder = write_parts(tmp_path / "parts", FRAME[:33], change(FRAME[33:]))
    assert to_dict(open_source(folder, tmp_path)) == to_dict(open_source(FRAME, tmp_path))


@pytest.mark.parametrize("missing, facts", [
    ("timestamp", ("timestamp", "row 1 of 1.parquet")), ("target", ("1.parquet", "'target'")),
])  # fmt: skip
def test_a_file_without_a_column_of_the_first_file_is_refused(tmp_path, missing, facts):
    folder = write_parts(tmp_path / "parts", FRAME[:40], FRAME[40:].drop(columns=missing))
    with refused(*facts):
        open_source(folder, tmp_path / "cache")


@pytest.mark.parametrize("other", [
    FRAME.assign(item_id=range(60)),
    FRAME.assign(timestamp=FRAME["timestamp"].astype(str), item_id="B"),
    FRAME.assign(item_id="B", target=FRAME["target"].astype(str)),
], ids=["item IDs", "timestamps", "targets"])  # fmt: skip
def test_files_with_columns_of_different_types_are_read_or_refused(tmp_path, other):
    folder = write_parts(tmp_path / "f", FRAME, other.iloc[:20])
    try:
        assert len(open_source(folder, tmp_path / "cache", freq="D")) > 3
    except UserError as error:
        assert str(folder) in str(error)


def test_folders_named_by_column_and_value_are_columns(tmp_path):
    frame = long_frame(n_series=4, length=30).rename(columns={"item_id": "product"})
    frame["product"] = "a b/" + frame["product"]
    frame["store"] = np.where(frame.index < 60, "007", "8")
    frame.to_parquet(tmp_path / "sales", partition_cols=["store", "product"])
    (tmp_path / "sales" / "_SUCCESS").touch()
    (tmp_path / "sales" / "_temporary" / "store=007").mkdir(parents=True)
    frame.to_parquet(tmp_path / "sales" / "_temporary" / "store=007" / "part.parquet")
    columns = Columns(item_id=("store", "product"))
    partitioned = open_source(tmp_path / "sales", tmp_path, columns)
    assert to_dict(partitioned) == to_dict(open_source(frame, tmp_path, columns))


def test_partitions_of_other_formats_are_refused(tmp_path):
    (tmp_path / "s" / "store=1").mkdir(parents=True)
    FRAME.to_csv(tmp_path / "s" / "store=1" / "part.csv")
    with refused("part.csv", "Parquet"):
        open_source(tmp_path / "s", tmp_path / "cache")


def test_a_broken_file_of_a_partition_is_refused_with_its_name(tmp_path):
    FRAME.to_parquet(tmp_path / "s", partition_cols=["item_id"])
    file = next((tmp_path / "s" / "item_id=item1").iterdir())
    file.write_bytes(file.read_bytes()[:-9])
    with refused(f"{tmp_path}/s", file.name):
        open_source(tmp_path / "s", tmp_path / "cache")


def test_a_delta_table_is_refused(tmp_path):
    """Some of its files contain deleted rows."""
    folder = write_parts(tmp_path / "s", FRAME)
    (folder / "_delta_log").mkdir()
    with refused(str(folder), "Delta"):
        open_source(folder, tmp_path / "cache")


@pytest.mark.parametrize("metadata, named", [('{"freq": ', "metadata.json"), ('{"freq": ["D"]}', "['D']")])
def test_invalid_gluonts_metadata_is_refused(tmp_path, metadata, named):
    source = write_source("gluonts", tmp_path)
    (tmp_path / "s.gluonts" / "metadata" / "metadata.json").write_text(metadata)
    with refused(named):
        open_source(source, tmp_path / "cache")


def test_a_broken_datasets_folder_is_refused(tmp_path):
    source = write_source("datasets", tmp_path)
    (tmp_path / "s.datasets" / "state.json").write_text("{")
    with refused("s.datasets"):
        open_source(source, tmp_path / "cache")


def test_a_datasets_folder_without_a_train_split_is_refused_with_its_splits(tmp_path):
    datasets.DatasetDict({"test": datasets.Dataset(to_nested(FRAME))}).save_to_disk(tmp_path / "s")
    with refused("train", "test"):
        open_source(tmp_path / "s", tmp_path / "cache")


# Arrow


@pytest.mark.parametrize("new_writer", [pa.ipc.new_stream, pa.ipc.new_file])
def test_batches_without_rows_are_ignored(tmp_path, new_writer):
    table = pa.Table.from_pandas(FRAME, preserve_index=False)
    with new_writer(str(tmp_path / "s.arrow"), table.schema) as writer:
        for part in (table[:0], table[:25], table[:0], table[25:]):
            for batch in part.to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]:
                writer.write_batch(batch)
    assert to_dict(open_source(tmp_path / "s.arrow", tmp_path)) == to_dict(open_source(FRAME, tmp_path))


# JSON Lines


@pytest.mark.parametrize("n_rows, note", [(MORE_THAN_A_BLOCK, ""), (40, "x" * 500_000)], ids=["lines", "bytes"])
def test_a_json_field_may_be_absent_from_a_whole_block(tmp_path, n_rows, note):
    rows = [{"timestamp": str(stamp), "target": 1.0} for stamp in pd.date_range("2020-01-01", periods=n_rows, freq="h")]
    for row in rows[:10]:
        row["promo"] = 2.0
    for row in rows:
        row |= {"note": note} if note else {}
    columns = Columns(variates=Variates(past=("promo",)))
    store = open_source(write_json(tmp_path, rows), tmp_path / "cache", columns)
    np.testing.assert_array_equal(store.rows(0)[1], [2.0] * 10 + [np.nan] * (n_rows - 10))


def test_item_ids_that_are_absent_from_a_whole_block_are_refused(tmp_path):
    stamps = pd.date_range("2020-01-01", periods=2 * MORE_THAN_A_BLOCK, freq="h")
    rows = [{"item_id": "A", "timestamp": str(stamp), "target": 1.0} for stamp in stamps]
    for row in rows[MORE_THAN_A_BLOCK:]:
        del row["item_id"]
    with refused(f"row {MORE_THAN_A_BLOCK + 1} ", "item_id"):
        open_source(write_json(tmp_path, rows), tmp_path / "cache")


@pytest.mark.parametrize("weekly_first", [True, False])
def test_the_frequency_of_nested_series_is_inferred_from_all_blocks(tmp_path, weekly_first):
    daily, weekly = (
        {
            "timestamp": [str(day.date()) for day in pd.date_range("2020-01-06", periods=7, freq=freq)],
            "target": [1.0] * 7,
        }
        for freq in ("D", "W-MON")
    )
    padding = "x" * 9_000_000  # more than a block
    rows = [weekly, {**weekly, "note": padding}, daily] if weekly_first else [daily, {**daily, "note": padding}, weekly]
    store = open_source(
        write_json(tmp_path, [{"item_id": str(number), **row} for number, row in enumerate(rows)]), tmp_path / "cache"
    )
    assert store.freq == "D" and sorted(store.lengths) == ([7, 43, 43] if weekly_first else [7, 7, 43])


@pytest.mark.parametrize("missing", ["timestamp", "item_id"])
def test_a_first_json_line_without_a_required_field_is_refused(tmp_path, missing):
    rows = [{"item_id": "A", "timestamp": f"2020-01-0{day}", "target": day} for day in range(1, 6)]
    del rows[0][missing]
    with refused("row 1 ", missing):
        open_source(write_json(tmp_path, rows), tmp_path / "cache")


def test_a_first_json_line_without_a_target_is_a_missing_value(tmp_path):
    rows = [{"item_id": "A", "timestamp": f"2020-01-0{day}", "target": day} for day in range(1, 6)]
    del rows[0]["target"]
    store = open_source(write_json(tmp_path, rows), tmp_path / "cache")
    np.testing.assert_array_equal(store.target(0), [np.nan, 2, 3, 4, 5])


def test_a_string_among_lists_is_refused(tmp_path):
    rows = [{"item_id": "A", "target": [1, 2]}, {"item_id": "B", "target": "123"}]
    with refused("s.jsonl", "123"):
        open_source(write_json(tmp_path, rows), tmp_path / "cache")


@pytest.mark.parametrize("line", ['{"item_id": ', "[1, 2]", "7"])
def test_a_line_that_is_not_a_json_object_is_refused_with_its_number(tmp_path, line):
    (tmp_path / "s.jsonl").write_text(f'{json.dumps({"item_id": "A", "target": 1})}\n\n{line}\n')
    with refused("s.jsonl", "line 3"):
        open_source(tmp_path / "s.jsonl", tmp_path / "cache")


# Broken files


@pytest.mark.parametrize("kind", ["csv.gz", "json.gz", "parquet", "feather", "arrow file", "arrow zstd"])
@pytest.mark.parametrize("cut", [1, 8, 300])
def test_a_truncated_file_of_any_format_is_refused(tmp_path, kind, cut):
    source = write_source(kind, tmp_path)
    with open(source, "rb+") as file:
        file.truncate(file.seek(0, 2) - cut)
    with refused(source):
        open_source(source, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("name", ["s.csv.gz", "s.jsonl.gz", "s.parquet", "s.feather", "s.jsonl", "s.arrow"])
def test_a_file_in_another_format_than_its_suffix_is_refused(tmp_path, name):
    (tmp_path / name).write_text("item_id,timestamp,target\nA,2020-01-01,1\n")
    with refused(name):
        open_source(tmp_path / name, tmp_path / "cache")
