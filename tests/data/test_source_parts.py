"""Sources whose files, blocks or batches are not alike, and names that stand elsewhere than in a column."""

import json
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.series import long_frame
from support.source_files import FRAME, csv_of, write

from pipeline.core.errors import UserError
from pipeline.core.series import Variates
from pipeline.data import formats
from pipeline.data.columns import Columns
from pipeline.data.source import open_source
from pipeline.data.tabular import series_of_tables


def series_of(store):
    return {
        name: (store.freq, store.starts[index], store.target(index).tolist())
        for index, name in enumerate(store.item_ids)
    }


def folder_of(path, *frames):
    path.mkdir()
    for number, frame in enumerate(frames):
        frame.to_parquet(path / f"{number}.parquet")
    return str(path)


def test_the_levels_of_an_index_are_columns(tmp_path):
    indexed = FRAME.set_index(["item_id", "timestamp"])
    assert series_of(open_source(indexed, tmp_path)) == series_of(open_source(FRAME, tmp_path))
    one = FRAME[FRAME["item_id"] == "item0"].drop(columns="item_id").set_index("timestamp")[::-1]
    assert open_source(one, tmp_path).target(0).tolist() == open_source(FRAME, tmp_path).target(0).tolist()


def test_a_file_without_names_is_a_series_of_its_own(tmp_path):
    for name, first in (("a", 0), ("b", 100)):
        pd.DataFrame({"target": np.arange(first, first + 5)}).to_csv(tmp_path / f"{name}.csv.gz", index=False)
    found = series_of(open_source(tmp_path, tmp_path / "cache"))
    assert {name: one[2] for name, one in found.items()} == {"a": [0, 1, 2, 3, 4], "b": [100, 101, 102, 103, 104]}


def test_files_that_change_names_change_the_names_of_their_series(tmp_path):
    for name in ("a", "b"):
        pd.DataFrame({"target": [1.0, 2.0]}).to_csv(tmp_path / f"{name}.csv", index=False)
    assert list(open_source(tmp_path, tmp_path / "cache").item_ids) == ["a", "b"]
    (tmp_path / "b.csv").rename(tmp_path / "c.csv")
    assert list(open_source(tmp_path, tmp_path / "cache").item_ids) == ["a", "c"]


def test_folders_named_by_column_and_value_are_columns(tmp_path):
    frame = long_frame(n_series=4, length=30).rename(columns={"item_id": "product"})
    frame["product"] = "a b/" + frame["product"]
    frame["store"] = np.where(frame.index < 60, "007", "8")
    frame.to_parquet(tmp_path / "sales", partition_cols=["store", "product"])
    (tmp_path / "sales" / "_SUCCESS").touch()
    (tmp_path / "sales" / "_temporary" / "store=007").mkdir(parents=True)
    frame.to_parquet(tmp_path / "sales" / "_temporary" / "store=007" / "part.parquet")
    columns = Columns(item_id=("store", "product"))
    assert series_of(open_source(tmp_path / "sales", tmp_path, columns)) == series_of(
        open_source(frame, tmp_path, columns)
    )


def test_partitions_of_other_formats_are_refused(tmp_path):
    (tmp_path / "s" / "store=1").mkdir(parents=True)
    FRAME.to_csv(tmp_path / "s" / "store=1" / "part.csv")
    with pytest.raises(UserError, match="part.csv lies in a folder with partitions"):
        open_source(tmp_path / "s", tmp_path / "cache")


def test_a_broken_file_of_a_partition_is_refused_by_name(tmp_path):
    FRAME.to_parquet(tmp_path / "s", partition_cols=["item_id"])
    file = next((tmp_path / "s" / "item_id=item1").iterdir())
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match=f"cannot read {tmp_path}/s: .*{file.name}"):
        open_source(tmp_path / "s", tmp_path / "cache")


def test_a_delta_table_is_refused_since_its_deleted_rows_lie_there_too(tmp_path):
    folder = Path(folder_of(tmp_path / "s", FRAME))
    (folder / "_delta_log").mkdir()
    with pytest.raises(UserError, match="is a Delta table"):
        open_source(folder, tmp_path / "cache")


@pytest.mark.parametrize("change", [
    lambda frame: frame.assign(timestamp=frame["timestamp"].astype("M8[s]")),
    lambda frame: frame.assign(timestamp=frame["timestamp"].dt.date),
], ids=["seconds", "dates"])  # fmt: skip
def test_a_series_may_go_on_in_a_file_with_another_kind_of_timestamp(tmp_path, change):
    folder = folder_of(tmp_path / "parts", FRAME[:33], change(FRAME[33:]))
    assert series_of(open_source(folder, tmp_path)) == series_of(open_source(FRAME, tmp_path))


@pytest.mark.parametrize(
    "lacking, said", [("timestamp", "row 1 of 1.parquet has no timestamp"), ("target", "has no column 'target'")]
)
def test_a_file_that_lacks_what_the_first_has_is_refused(tmp_path, lacking, said):
    folder = folder_of(tmp_path / "parts", FRAME[:40], FRAME[40:].drop(columns=lacking))
    with pytest.raises(UserError, match=said):
        open_source(folder, tmp_path / "cache")


@pytest.mark.parametrize("maker", [pa.ipc.new_stream, pa.ipc.new_file])
def test_a_batch_without_rows_is_passed_over(tmp_path, maker):
    table = pa.Table.from_pandas(FRAME, preserve_index=False)
    with maker(str(tmp_path / "s.arrow"), table.schema) as writer:
        for part in (table[:0], table[:25], table[:0], table[25:]):
            for batch in part.to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]:
                writer.write_batch(batch)
    assert series_of(open_source(tmp_path / "s.arrow", tmp_path)) == series_of(open_source(FRAME, tmp_path))


def test_a_text_among_lists_is_no_list_of_digits(tmp_path):
    (tmp_path / "s.jsonl").write_text('{"item_id": "A", "target": [1, 2]}\n{"item_id": "B", "target": "123"}\n')
    with pytest.raises(UserError, match="among lists is none: 123"):
        open_source(tmp_path / "s.jsonl", tmp_path / "cache")


def test_a_table_without_the_column_of_timestamps_is_told_of(tmp_path, caplog):
    """Its rows may be in any order, which nobody could tell from the forecast."""
    open_source(FRAME, tmp_path)
    assert not caplog.text
    open_source(FRAME.rename(columns={"timestamp": "date"}), tmp_path)
    assert "the DataFrame has no timestamps" in caplog.text and "data.timestamp_column" in caplog.text


def test_a_file_a_day_is_a_table(tmp_path):
    days = [one for _, one in FRAME.groupby("timestamp")]
    assert series_of(open_source(folder_of(tmp_path / "days", *days), tmp_path)) == series_of(
        open_source(FRAME, tmp_path)
    )


@pytest.mark.parametrize("block", [("_JSON_LINES", 7), ("_JSON_BYTES", 500)], ids=["lines", "bytes"])
def test_a_json_field_that_is_left_out_of_a_whole_block_is_missing_there(tmp_path, monkeypatch, block):
    monkeypatch.setattr(formats, *block)
    frame = FRAME.assign(promo=1.0)
    frame.loc[20:, "promo"] = np.nan
    path = write("jsonl", tmp_path, frame)
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    known = [{name: value for name, value in row.items() if value is not None} for row in rows]
    Path(path).write_text("\n".join(map(json.dumps, known)))
    columns = Columns(variates=Variates(past=("promo",)))
    found, whole = open_source(path, tmp_path / "cache", columns), open_source(frame, tmp_path / "cache", columns)
    for index in range(3):
        np.testing.assert_array_equal(found.rows(index), whole.rows(index))


def test_names_that_are_left_out_of_a_whole_block_are_refused_by_row(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "_JSON_LINES", 7)
    rows = [{"item_id": "A", "timestamp": f"2020-01-{day:02d}", "target": 1.0} for day in range(1, 15)]
    for row in rows[7:]:
        del row["item_id"]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match="row 8 has no item_id"):
        open_source(tmp_path / "s.jsonl", tmp_path / "cache")


@pytest.mark.parametrize("weekly_first", [True, False])
def test_the_frequency_of_nested_series_is_told_from_all_blocks(tmp_path, monkeypatch, weekly_first):
    monkeypatch.setattr(formats, "_JSON_LINES", 2)
    daily, weekly = (
        {
            "timestamp": [str(day.date()) for day in pd.date_range("2020-01-06", periods=9, freq=freq)],
            "target": [1.0] * 9,
        }
        for freq in ("D", "W-MON")
    )
    rows = [weekly, weekly, daily, daily] if weekly_first else [daily, daily, weekly, weekly]
    lines = [json.dumps({"item_id": str(number), **row}) for number, row in enumerate(rows)]
    (tmp_path / "s.jsonl").write_text("\n".join(lines))
    store = open_source(tmp_path / "s.jsonl", tmp_path / "cache")
    assert store.freq == "D" and sorted(store.lengths) == [9, 9, 57, 57]


def test_an_empty_line_of_one_column_is_a_missing_value(tmp_path):
    store = open_source(csv_of(tmp_path, "1", "2", "", "4", header="target"), tmp_path / "cache")
    np.testing.assert_array_equal(store.target(0), [1, 2, np.nan, 4])


def test_quoted_fields_may_hold_lines_and_delimiters(tmp_path, monkeypatch):
    frame = long_frame(n_series=2, length=9).round(3)
    frame.insert(2, "Notes, and more", ["two\nlines, and; more"] * len(frame))
    frame.to_csv(tmp_path / "s.csv", index=False)
    assert series_of(open_source(tmp_path / "s.csv", tmp_path)) == series_of(open_source(frame, tmp_path))


def test_a_data_set_of_the_hub_is_converted_again_when_it_has_changed(tmp_path, monkeypatch):
    held = {"commit": "one", "value": 1.0}
    monkeypatch.setattr("pipeline.data.source.hub_commit", lambda _: held["commit"])
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda *_, **__: datasets.Dataset.from_dict({"item_id": ["A"], "target": [[held["value"]] * 3]}),
    )

    def first():
        return open_source("owner/series", tmp_path).target(0)[0]

    assert first() == 1
    held["value"] = 2.0
    assert first() == 1  # the same commit
    held["commit"] = "two"
    assert first() == 2
    held["commit"] = None  # the Hub cannot be asked
    assert first() == 2
    held["value"] = 3.0
    assert first() == 3


def test_a_series_of_another_frequency_is_told_of(tmp_path, caplog):
    """Among daily ones a weekly series is missing on six days of seven, and nobody asked for that."""
    daily = pd.date_range("2020-01-06", periods=140)
    frames = [pd.DataFrame({"item_id": name, "timestamp": daily, "target": 1.0}) for name in "ABC"]
    open_source(pd.concat(frames), tmp_path)
    assert not caplog.text
    frames.append(pd.DataFrame({"item_id": "D", "timestamp": daily[::7], "target": 2.0}))
    open_source(pd.concat(frames), tmp_path)
    assert "of 'D', the steps of 1 series" in caplog.text and "as D has one every 7 steps" in caplog.text
    caplog.clear()
    sparse = pd.DataFrame({"item_id": "E", "timestamp": daily[[0, 4, 10, 20]], "target": 2.0})
    open_source(pd.concat([*frames[:3], sparse]), tmp_path)
    assert "as E has one every 2 steps" in caplog.text
    caplog.clear()
    open_source(pd.concat([*frames[:3], sparse.assign(timestamp=daily[[0, 4, 9, 20]])]), tmp_path)
    assert not caplog.text


def test_rows_beyond_memory_are_parted_where_their_store_will_lie(tmp_path, monkeypatch):
    """The system's own folder for temporary files may be a small one, or memory itself."""
    monkeypatch.setattr("pipeline.data.source.series_of_tables", partial(series_of_tables, rows_in_memory=20))
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    store = open_source(FRAME.sample(frac=1, random_state=0), tmp_path / "cache")
    assert series_of(store) == series_of(open_source(FRAME, tmp_path / "cache"))
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".arrow", ".arrow"]
