"""Many series in files of a fixed number each, over several processes, continued where an earlier run was killed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import Any, TypeAlias

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.files import check_folder, read_json, write_json
from pipeline.core.series import Series
from pipeline.data.arrow_store import write_store
from pipeline.synthetic.draws import keys_of

FREQ = "h"
START = np.datetime64("2000-01-01T00:00:00", "s")
_SETTINGS = "_settings.json"
_SERIES_AT_ONCE = 256


Make: TypeAlias = Callable[[np.ndarray], Iterable[np.ndarray]]
"""From keys [n] to n series, each float32 [length], each a function of its key alone."""


def write_shards(
    folder: str | Path,
    make: Make,
    settings: Mapping[str, Any],
    *,
    name: str,
    n_series: int,
    shard_size: int,
    seed: int,
    num_processes: int = 1,
) -> Iterator[int]:
    """Write series 0 to n_series - 1 to stores of `shard_size`, and yield how many each holds as it is done.

    Series k is a function of (seed, k) alone, and each file is written whole or not at all. Files that stand in the folder
    already are kept, where they were made with the same settings.

    Args:
        make: is pickled, once for every process.
        settings: all that the series depend on beside `n_series`, `shard_size` and `seed`, as plain values.
        name: series are named NAME-0, NAME-1, ...

    Raises:
        UserError: the folder holds series of other settings, or cannot be written.
    """
    folder = Path(folder)
    check_folder(folder)
    _claim(folder, {**settings, "n_series": n_series, "shard_size": shard_size, "seed": seed})
    begins = range(0, n_series, shard_size)
    shards = [
        _Shard(
            folder / f"{name}-{i:05d}-of-{len(begins):05d}.arrow", name, seed, begin, min(begin + shard_size, n_series)
        )
        for i, begin in enumerate(begins)
    ]
    missing = [shard for shard in shards if not shard.path.is_file()]
    yield sum(len(shard) for shard in shards) - sum(len(shard) for shard in missing)
    if num_processes == 1:
        for shard in missing:
            yield shard.write(make)
        return
    # A fork would inherit the threads of libraries that are loaded, and not all of them survive it.
    context = get_context("spawn")
    with ProcessPoolExecutor(min(num_processes, max(1, len(missing))), context, _begin, (make,)) as pool:
        try:
            for done in as_completed([pool.submit(_write, shard) for shard in missing]):
                yield done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@dataclass(frozen=True)
class _Shard:
    path: Path
    name: str
    seed: int
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin

    def write(self, make: Make) -> int:
        write_store(self.path, self._series(make))
        return len(self)

    def _series(self, make: Make) -> Iterator[Series]:
        for first in range(self.begin, self.end, _SERIES_AT_ONCE):
            numbers = np.arange(first, min(first + _SERIES_AT_ONCE, self.end))
            for k, target in zip(numbers, make(keys_of(self.seed, numbers))):
                yield Series(f"{self.name}-{k}", START, FREQ, target)


_of_process: dict[str, Make] = {}


def _begin(make: Make) -> None:
    _of_process["make"] = make
    parent = parent_process()
    assert parent is not None
    # A pool's process does not notice by itself when the one that began it is killed.
    Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(process: BaseProcess) -> None:
    process.join()
    os._exit(1)


def _write(shard: _Shard) -> int:
    return shard.write(_of_process["make"])


def _claim(folder: Path, settings: Mapping[str, Any]) -> None:
    file = folder / _SETTINGS
    if any(folder.glob("*.arrow")) and (not file.is_file() or read_json(file) != settings):
        raise UserError(f"{folder} holds series of other settings; give another synthetic.output_path, or remove it")
    write_json(file, settings)
    for left_over in folder.glob(".*.arrow.*"):
        left_over.unlink(missing_ok=True)
