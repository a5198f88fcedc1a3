import pickle
import re
import resource
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.source_files import refused

from pipeline.core.errors import UserError
from pipeline.core.series import Series
from pipeline.data.arrow_store import NotAStore, open_store, store_from_arrays, write_store
from pipeline.data.source import open_source

SCHEMA = pa.schema([("item_id", pa.string()), ("start", pa.timestamp("s")), ("target", pa.list_(pa.float32()))])


def make_series(count=2500, freq="h"):
    rng = np.random.default_rng(0)
    for k in range(count):
        target = rng.normal(size=int(rng.integers(0 if k else 1, 30))).astype(np.float32)
        target[target > 1.5] = np.nan
        yield Series(f"item{k}", np.datetime64("2020-01-01T05:00:00", "s") + k, freq, target)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "s.arrow"
    write_store(path, make_series())
    return path


def test_series_are_read_back_as_written(path):
    store = open_store(path)
    assert (len(store), store.freq, store.item_ids[2499]) == (2500, "h", "item2499")
    for index, series in enumerate(make_series()):
        np.testing.assert_array_equal(store.target(index), series.target)
        assert store.starts[index] == series.start and store.item_ids[index] == series.item_id


def test_the_file_format_is_the_contract(path):
    reader = pa.ipc.open_stream(path.read_bytes())
    assert reader.schema.metadata == {b"freq": b"h"}
    assert reader.schema.equals(SCHEMA)
    assert [len(batch) for batch in reader] == [1024, 1024, 452]


@pytest.mark.filterwarnings("ignore:Using .json.-module:UserWarning")
def test_gluonts_reads_a_store(path):
    from gluonts.dataset.common import FileDataset

    entries = list(FileDataset(path, freq="h"))
    assert len(entries) == 2500
    for entry, series in zip(entries[:50], make_series()):
        np.testing.assert_array_equal(entry["target"], series.target)
        assert entry["start"] == pd.Period(series.start, "h") and entry["item_id"] == series.item_id


def test_datasets_reads_a_store_memory_mapped(path):
    dataset = datasets.Dataset.from_file(str(path))
    assert dataset.cache_files and len(dataset) == 2500
    for row, series in zip(dataset.select(range(50)), make_series()):
        np.testing.assert_array_equal(np.array(row["target"], np.float32), series.target)


def test_values_are_views_of_the_mapped_file(path):
    store = open_store(path)
    assert isinstance(store.values.base, np.memmap) and not store.values.flags.writeable
    assert np.shares_memory(store.target(3), store.values)


def test_a_batch_ends_after_a_maximum_of_values(tmp_path):
    write_store(tmp_path / "s.arrow", make_series(40), values_per_batch=50)
    batches = list(pa.ipc.open_stream((tmp_path / "s.arrow").read_bytes()))
    sizes = [len(batch["target"].flatten()) for batch in batches]
    assert all(50 <= size < 80 for size in sizes[:-1]) and len(sizes) > 5
    store = open_store(tmp_path / "s.arrow")
    for index, series in enumerate(make_series(40)):
        np.testing.assert_array_equal(store.target(index), series.target)
        assert store.item_ids[index] == series.item_id


def test_item_ids_support_slices_and_negative_indices(path):
    ids = open_store(path).item_ids
    assert ids[1023:1026] == ["item1023", "item1024", "item1025"] and ids[-1] == "item2499"
    with pytest.raises(IndexError):
        ids[2500]


def test_item_ids_of_any_text_and_starts_in_any_century_are_kept(tmp_path):
    series = Series(
        "Größe, \u2713\n", np.datetime64("1780-02-28T23:59:59", "s"), "", np.array([-0.0, np.nan], np.float32)
    )
    write_store(tmp_path / "s.arrow", [series])
    store = open_store(tmp_path / "s.arrow")
    assert (store.item_ids[0], store.starts[0], store.freq) == (series.item_id, series.start, "")
    assert store.target(0).tobytes() == series.target.tobytes()


def test_a_store_on_disk_is_pickled_as_its_path(path):
    pickled = pickle.dumps(open_store(path))
    assert len(pickled) < 500
    np.testing.assert_array_equal(pickle.loads(pickled).target(7), open_store(path).target(7))


def test_a_store_in_memory_is_pickled_with_its_values():
    store = pickle.loads(pickle.dumps(store_from_arrays([np.arange(3), np.arange(5)])))
    assert store.target(1).tolist() == [0, 1, 2, 3, 4] and store.item_ids == ["0", "1"]


@pytest.mark.parametrize("cut", [1, 8, 9, 500, 20_000, 10**9])
def test_a_truncated_store_is_refused(path, tmp_path, cut):
    short = tmp_path / "short.arrow"
    short.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises((UserError, NotAStore)):
        open_store(short)
    with pytest.raises(UserError):
        open_source(str(short), tmp_path / "cache")


def test_a_store_that_the_system_refuses_to_open_is_not_called_damaged(path):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(UserError, match="Too many open files") as caught:
            open_store(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert "create it again" not in str(caught.value)


@pytest.mark.parametrize("freq", [None, "h"])
@pytest.mark.parametrize("cut", ["in the middle", "before the end mark", "in the middle, with an end mark"])
def test_a_truncated_store_is_refused_and_left_unchanged(path, tmp_path, cut, freq):
    content = path.read_bytes()
    kept = content[:-8] if cut == "before the end mark" else content[: len(content) // 2]
    short = tmp_path / "short.arrow"
    short.write_bytes(kept + content[-8:] if "with an end mark" in cut else kept)
    before = short.read_bytes()
    with pytest.raises(UserError):
        open_store(short)
    with pytest.raises(UserError):
        open_source(str(short), tmp_path / "cache", freq=freq)
    assert short.read_bytes() == before and not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("suffix", ["feather", "ipc"])
def test_a_stream_with_another_suffix_without_its_end_mark_is_refused(path, tmp_path, suffix):
    (tmp_path / f"short.{suffix}").write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError):
        open_source(str(tmp_path / f"short.{suffix}"), tmp_path / "cache")


@pytest.mark.parametrize("head", [b"", b"\xff\xff\xff", b"PAR1" * 10])
def test_a_file_that_is_not_a_stream_is_not_a_store(tmp_path, head):
    (tmp_path / "s.arrow").write_bytes(head)
    with pytest.raises(NotAStore):
        open_store(tmp_path / "s.arrow")


def test_a_stream_with_nulls_is_converted_with_nan(tmp_path):
    table = pa.table(
        {"item_id": ["a"], "start": pa.array([np.datetime64("2020-01-01", "s")]), "target": [[1.0, None, 3.0]]}
    )
    table = table.cast(SCHEMA.with_metadata({"freq": "D"}))
    with pa.ipc.new_stream(str(tmp_path / "s.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(NotAStore):
        open_store(tmp_path / "s.arrow")
    store = open_source(str(tmp_path / "s.arrow"), tmp_path / "cache")
    np.testing.assert_array_equal(store.target(0), np.array([1, np.nan, 3], np.float32))


def test_a_slice_of_a_store_is_read_with_its_own_values(path, tmp_path):
    table = pa.ipc.open_stream(path.read_bytes()).read_all().slice(1000, 100)
    with pa.ipc.new_stream(str(tmp_path / "s.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=30)
    store, whole = open_store(tmp_path / "s.arrow"), open_store(path)
    for index in range(100):
        np.testing.assert_array_equal(store.target(index), whole.target(1000 + index))


def test_a_store_without_series_is_refused(tmp_path):
    pa.ipc.new_stream(str(tmp_path / "s.arrow"), SCHEMA.with_metadata({"freq": "D"})).close()
    with refused("s.arrow"):
        open_source(str(tmp_path / "s.arrow"), tmp_path / "cache")


def rewrite(path, output, kind):
    table = pa.ipc.open_stream(path.read_bytes()).read_all()
    options = pa.ipc.IpcWriteOptions(compression="lz4" if kind == "lz4" else None)
    if kind == "wide":
        table = table.set_column(2, "target", table["target"].cast(pa.large_list(pa.float64())))
    new_writer = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with new_writer(str(output), table.schema, options=options) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("kind", ["lz4", "file", "wide"])
def test_other_arrow_files_are_converted(path, tmp_path, kind):
    rewrite(path, tmp_path / "other.arrow", kind)
    with pytest.raises(NotAStore):
        open_store(tmp_path / "other.arrow")
    store = open_source(str(tmp_path / "other.arrow"), tmp_path / "cache")
    assert store.freq == "h" and len(store) == 2500
    np.testing.assert_array_equal(store.target(11), open_store(path).target(11))


def test_series_of_two_frequencies_or_none_are_refused_and_leave_no_file(tmp_path):
    with refused("item0", "'D'", "'h'"):
        write_store(tmp_path / "s.arrow", [*make_series(2, "h"), *make_series(1, "D")])
    with refused("s.arrow"):
        write_store(tmp_path / "s.arrow", [])
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_is_kept_if_writing_fails(tmp_path):
    write_store(tmp_path / "s.arrow", make_series(3))

    def broken():
        yield from make_series(2)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_store(tmp_path / "s.arrow", broken())
    with pytest.raises(UserError):
        write_store(tmp_path / "s.arrow", [*make_series(2, "h"), *make_series(1, "D")])
    with pytest.raises(UserError):
        write_store(tmp_path / "s.arrow", [])
    assert len(open_store(tmp_path / "s.arrow")) == 3 and len(list(tmp_path.iterdir())) == 1


def test_a_store_of_an_empty_series_is_read(tmp_path):
    write_store(tmp_path / "s.arrow", [Series("a", np.datetime64(0, "s"), "D", np.empty(0, np.float32))])
    assert open_store(tmp_path / "s.arrow").lengths.tolist() == [0]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not tell the pages of a map")
def test_a_scan_reads_all_values_in_constant_memory(tmp_path):
    target = np.arange(1000, dtype=np.float32)
    write_store(
        tmp_path / "s.arrow", (Series(str(k), np.datetime64("2024-01-01", "s"), "h", target) for k in range(12_000))
    )
    store = open_store(tmp_path / "s.arrow")

    def megabytes():
        """Return the resident part of the map of the store, which has 48 MB."""
        entry = Path("/proc/self/smaps").read_text().partition(str(tmp_path / "s.arrow"))[2]
        return int(re.findall(r"Rss: +(\d+) kB", entry)[0]) / 1000

    most = 0.0
    for index in store.scan():
        assert store.target(index)[-1] == 999
        if index % 1000 == 999:
            most = max(most, megabytes())
    assert 10 < most < 30 and megabytes() < 1
    assert list(store.scan()) == list(range(12_000))
