"""Files of synthetic series: equal for any number of processes and after a kill, and never partial."""

import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
from support import ROOT

from pipeline.core.errors import UserError
from pipeline.data.arrow_store import open_store
from pipeline.synthetic.bank import open_bank
from pipeline.synthetic.generate import draw_bank_series
from pipeline.synthetic.shards import write_shards


def make(keys, length=20):
    """Series that identify their key."""
    return (keys[:, None] % np.uint64(10**6) + np.arange(length, dtype=np.uint64)).astype(np.float32)


def write(folder, make=make, settings=None, n_series=1100, shard_size=300, seed=0, num_processes=1):
    sizes = {"n_series": n_series, "shard_size": shard_size, "seed": seed}
    return list(write_shards(folder, make, settings or {}, name="s", num_processes=num_processes, **sizes))


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_files_contain_all_series_in_order(tmp_path):
    assert write(tmp_path / "o") == [0, 300, 300, 300, 200]
    stores = [open_store(path) for path in sorted((tmp_path / "o").glob("*.arrow"))]
    assert [path.name for path in sorted((tmp_path / "o").glob("*.arrow"))][-1] == "s-00003-of-00004.arrow"
    assert [name for store in stores for name in store.item_ids] == [f"s-{k}" for k in range(1100)]
    write(tmp_path / "whole", shard_size=1100)
    (whole,) = [open_store(path) for path in (tmp_path / "whole").glob("*.arrow")]
    values = np.concatenate([store.target(i) for store in stores for i in range(len(store))])
    np.testing.assert_array_equal(values, np.concatenate([whole.target(i) for i in range(1100)]))
    assert len(np.unique(values.reshape(-1, 20)[:, 0])) > 1050


def test_files_are_the_same_for_any_number_of_processes(tmp_path):
    bank = partial(draw_bank_series, open_bank("bank"), 64)
    for number in (1, 2):
        assert sum(write(tmp_path / str(number), bank, n_series=300, shard_size=100, num_processes=number)) == 300
    assert content(tmp_path / "1") == content(tmp_path / "2")


def test_existing_files_are_kept_and_missing_ones_written(tmp_path):
    write(tmp_path)
    before = content(tmp_path)
    kept = (tmp_path / "s-00000-of-00004.arrow").stat().st_mtime_ns
    (tmp_path / "s-00002-of-00004.arrow").unlink()
    (tmp_path / ".s-00002-of-00004.arrow.tmp-x7").write_bytes(b"half")
    assert write(tmp_path) == [800, 300]
    assert content(tmp_path) == before
    assert (tmp_path / "s-00000-of-00004.arrow").stat().st_mtime_ns == kept


WRITE_SHARDS = """
import sys
from functools import partial
from pipeline.synthetic.bank import open_bank
from pipeline.synthetic.generate import draw_bank_series
from pipeline.synthetic.shards import write_shards
if __name__ == "__main__":
    make = partial(draw_bank_series, open_bank("fractal"), 256)
    sizes = {"n_series": 6000, "shard_size": 200, "seed": 0}
    list(write_shards(sys.argv[1], make, {}, name="s", num_processes=int(sys.argv[2]), **sizes))
"""


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_killed_run_is_continued(tmp_path, num_processes):
    folder, script = tmp_path / "o", tmp_path / "write.py"
    script.write_text(WRITE_SHARDS)
    command = [sys.executable, script, folder, num_processes]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(list(map(str, command)), env=environment, stdout=subprocess.PIPE)
    while run.poll() is None and len(list(folder.glob("*.arrow"))) < 3:
        time.sleep(0.005)
    run.kill()
    run.communicate(timeout=30)  # returns when the workers have ended too, since they share the pipe
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("*.arrow")}
    assert 3 <= len(finished) < 30
    bank = partial(draw_bank_series, open_bank("fractal"), 256)
    write(folder, bank, n_series=6000, shard_size=200)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    write(tmp_path / "whole", bank, n_series=6000, shard_size=200)
    assert content(folder) == content(tmp_path / "whole") and len(content(folder)) == 31


def test_a_folder_of_other_settings_is_refused_and_unchanged(tmp_path):
    write(tmp_path, settings={"bank": "a"})
    before = content(tmp_path)
    for other in ({"settings": {"bank": "b"}}, {"seed": 1}, {"n_series": 1000}, {"shard_size": 100}):
        with pytest.raises(UserError, match=f"{tmp_path}.*synthetic.output_path"):
            write(tmp_path, **{"settings": {"bank": "a"}, **other})
    assert content(tmp_path) == before


def test_a_full_disk_leaves_no_partial_file(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(UserError, match="s-00000-of-00004.arrow"):
            write(tmp_path / "o")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [name for name in os.listdir(tmp_path / "o") if name.endswith(".arrow") or name[:2] == ".s"] == []
    write(tmp_path / "o")
    write(tmp_path / "whole")
    assert content(tmp_path / "o") == content(tmp_path / "whole")
