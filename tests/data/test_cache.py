"""The cache of converted sources: its size is limited, and a command empties it."""

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from support.series import long_frame

from pipeline.core.files import fingerprint
from pipeline.core.series import Series
from pipeline.data.arrow_store import write_store
from pipeline.data.cache import Cache
from pipeline.data.column_formats import ColumnFormats
from pipeline.data.rows import SourceLocation
from pipeline.data.source import open_source

EPOCH = np.datetime64(0, "s")


def write(cache, key, n_values, age):
    """Add a store that was last used `age` seconds ago."""
    series = [Series("A", np.datetime64("2020-01-01", "s"), "D", np.zeros(n_values, np.float32))]
    cache.write(key, series, ColumnFormats(), SourceLocation(key))
    for file in cache.folder.glob(f"{key}.*"):
        os.utime(file, (file.stat().st_atime - age, file.stat().st_mtime - age))


def test_the_stores_that_were_not_used_longest_are_removed(tmp_path):
    cache = Cache(tmp_path, size=0.0025)  # 2.5 MB, where a store has 1 MB
    write(cache, "old", 250_000, 300)
    write(cache, "used", 250_000, 200)
    cache.open("old")  # now the latest
    write(cache, "new", 250_000, 0)
    assert [cache.open(key) is not None for key in ("old", "used", "new")] == [True, False, True]
    assert {path.suffix for path in tmp_path.iterdir()} == {".arrow", ".json"} and len(list(tmp_path.iterdir())) == 4


def test_a_store_larger_than_the_cache_is_kept_until_the_next(tmp_path):
    cache = Cache(tmp_path, size=0.0005)
    write(cache, "large", 250_000, 100)
    assert cache.open("large")
    write(cache, "next", 10, 0)
    assert not cache.open("large") and cache.open("next")


def test_the_warnings_of_a_conversion_are_logged_at_each_opening(tmp_path, caplog):
    frame = long_frame(n_series=2, length=20)
    frame.loc[frame["item_id"] == "item1", "target"] = np.nan
    frame.to_csv(tmp_path / "s.csv", index=False)
    for _ in range(2):
        caplog.clear()
        open_source(tmp_path / "s.csv", tmp_path / "cache")
        assert sum("item1" in message for message in caplog.messages) == 1


def replace_by_folder(file):
    file.unlink()
    (file / "below").mkdir(parents=True)


def replace_by_pipe(file):
    file.unlink()
    os.mkfifo(file)


def replace_by_link(file):
    """Replace a file by a link to a copy of it."""
    copy = file.with_name("copy")
    file.rename(copy)
    file.symlink_to(copy)


def change_value(file):
    """Change a value in a store, which stays a store."""
    content = bytearray(file.read_bytes())
    place = content.index(np.float32(7.0).tobytes())
    content[place : place + 4] = np.float32(8.0).tobytes()
    file.write_bytes(content)


def change_record(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("suffix, damage", [
    (".arrow", change_value),
    (".arrow", lambda file: write_store(file, [Series("item0", EPOCH, "h", np.arange(20, dtype=np.float32))])),
    (".arrow", lambda file: file.write_bytes(b"")),
    (".arrow", lambda file: file.write_bytes(b"something else")),
    (".arrow", lambda file: os.truncate(file, 500)),
    (".arrow", Path.unlink),
    (".arrow", replace_by_folder),
    (".arrow", replace_by_link),
    (".arrow", replace_by_pipe),
    (".json", lambda file: file.write_bytes(b"\xff")),
    (".json", lambda file: file.write_text("[" * 100_000)),
    (".json", lambda file: file.write_text("[]")),
    (".json", lambda file: file.write_text("{}")),
    (".json", lambda file: change_record(file, key="0" * 24)),
    (".json", lambda file: change_record(file, store=None)),
    (".json", lambda file: change_record(file, warnings=3)),
    (".json", Path.unlink),
    (".json", replace_by_folder),
    (".json", replace_by_pipe),
])  # fmt: skip
def test_a_store_that_was_changed_is_made_again(tmp_path, caplog, suffix, damage):
    frame = long_frame(n_series=1, length=20).assign(target=np.arange(20.0))
    frame.to_csv(tmp_path / "s.csv", index=False)
    store = open_source(tmp_path / "s.csv", tmp_path / "cache")
    assert store.path is not None
    damage(store.path.with_suffix(suffix))
    caplog.clear()
    caplog.set_level("INFO")
    for n_conversions in (1, 0):
        again = open_source(tmp_path / "s.csv", tmp_path / "cache")
        assert (again.freq, again.target(0).tolist()) == (store.freq, frame["target"].tolist())
        assert sum("converting" in message for message in caplog.messages) == n_conversions
        caplog.clear()
    assert store.path.is_file() and not store.path.is_symlink()


def test_a_store_is_hashed_once(tmp_path, monkeypatch):
    long_frame().to_csv(tmp_path / "s.csv", index=False)
    for _ in range(2):
        store = open_source(tmp_path / "s.csv", tmp_path / "cache")
        assert store.path is not None and store.fingerprint == fingerprint([store.path])
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.data.arrow_store.fingerprint", None)
            assert store.fingerprint


@pytest.mark.parametrize("mode, expected", [(None, 0o700), (0o755, 0o700), (0o1777, 0o1777)])
def test_only_the_owner_can_read_the_cache(tmp_path, mode, expected):
    long_frame().to_csv(tmp_path / "s.csv", index=False)
    if mode is not None:
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache").chmod(mode)
    open_source(tmp_path / "s.csv", tmp_path / "cache")
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == expected


def test_other_things_in_the_cache_are_left_in_place(tmp_path):
    cache = Cache(tmp_path / "cache", size=1e-9)
    write(cache, "first", 10, 100)
    (cache.folder / "folder.arrow").mkdir()
    os.mkfifo(cache.folder / "pipe.arrow")
    (cache.folder / "dead.arrow").symlink_to("nothing")
    write(cache, "second", 10, 0)
    assert cache.open("second") and not cache.open("first") and len(list(cache.folder.iterdir())) == 5
    cache.clear()
    assert [path.name for path in cache.folder.iterdir()] == ["folder.arrow"]


@pytest.mark.parametrize("n_sources", [0, 2])
def test_a_command_removes_all_stores_and_names_them(run_script, tmp_path, n_sources):
    for number in range(n_sources):
        long_frame(n_series=1 + number).to_csv(tmp_path / f"{number}.csv", index=False)
        open_source(tmp_path / f"{number}.csv", tmp_path / "data" / "cache")
    stores = [path.name for path in (tmp_path / "data").glob("cache/*.arrow")]
    code, out, err = run_script("clear_cache", "--paths.data_dir", tmp_path / "data")
    assert code == 0 and not list((tmp_path / "data").glob("cache/*")) and len(stores) == n_sources
    assert all(name in out + err for name in stores) and f"{2 * n_sources} files" in out + err
