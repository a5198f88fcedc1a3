"""The cache of converted sources: its size is limited, and a command empties it."""

import os

import numpy as np
import pandas as pd
import pytest
from support.series import long_frame
from support.source_files import refused

from pipeline.core.series import Series
from pipeline.data.cache import Cache
from pipeline.data.column_formats import ColumnFormats
from pipeline.data.rows import SourceLocation
from pipeline.data.source import open_source


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
    assert (cache.has("old"), cache.has("used"), cache.has("new")) == (True, False, True)
    assert {path.suffix for path in tmp_path.iterdir()} == {".arrow", ".json"} and len(list(tmp_path.iterdir())) == 4


def test_a_store_larger_than_the_cache_is_kept_until_the_next(tmp_path):
    cache = Cache(tmp_path, size=0.0005)
    write(cache, "large", 250_000, 100)
    assert cache.has("large")
    write(cache, "next", 10, 0)
    assert not cache.has("large") and cache.has("next")


def test_the_warnings_of_a_conversion_are_logged_at_each_opening(tmp_path, caplog):
    frame = long_frame(n_series=2, length=20)
    frame.loc[frame["item_id"] == "item1", "target"] = np.nan
    frame.to_csv(tmp_path / "s.csv", index=False)
    for _ in range(2):
        caplog.clear()
        open_source(tmp_path / "s.csv", tmp_path / "cache")
        assert sum("item1" in message for message in caplog.messages) == 1


def test_a_foreign_file_in_the_cache_is_refused(tmp_path):
    pd.DataFrame({"timestamp": pd.date_range("2020-01-01", periods=5), "target": 1.0}).to_csv(tmp_path / "s.csv")
    store = open_source(tmp_path / "s.csv", tmp_path / "cache")
    assert store.path is not None
    store.path.write_bytes(b"something else")
    with refused(store.path.name, "delete"):
        open_source(tmp_path / "s.csv", tmp_path / "cache")


@pytest.mark.parametrize("n_sources", [0, 2])
def test_a_command_removes_all_stores_and_names_them(run_script, tmp_path, n_sources):
    for number in range(n_sources):
        long_frame(n_series=1 + number).to_csv(tmp_path / f"{number}.csv", index=False)
        open_source(tmp_path / f"{number}.csv", tmp_path / "data" / "cache")
    stores = [path.name for path in (tmp_path / "data").glob("cache/*.arrow")]
    code, out, err = run_script("clear_cache", "--paths.data_dir", tmp_path / "data")
    assert code == 0 and not list((tmp_path / "data").glob("cache/*")) and len(stores) == n_sources
    assert all(name in out + err for name in stores) and f"{2 * n_sources} files" in out + err
