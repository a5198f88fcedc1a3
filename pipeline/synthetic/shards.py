"""Write many series to files of a fixed number of series, in several processes; a later run continues a killed one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pipeline.core.errors import UserError
from pipeline.core.files import check_writable_folder, read_json, write_json
from pipeline.core.locks import locked
from pipeline.core.processes import WorkerPool
from pipeline.core.series import Series
from pipeline.data.arrow_store import write_store
from pipeline.synthetic.draws import make_keys

FREQ = "h"
START = np.datetime64("2000-01-01T00:00:00", "s")
_SETTINGS = "_settings.json"
_BATCH_SIZE = 256
"""Series drawn at once: large enough to share the cost of Python calls, small enough to limit memory."""

MakeSeries: TypeAlias = Callable[[np.ndarray], Iterable[np.ndarray]]
"""Function from keys [n] to n series, each float32 [length]. A series depends on its key only."""


def write_shards(
    folder: str | Path,
    make: MakeSeries,
    settings: Mapping[str, Any],
    *,
    name: str,
    n_series: int,
    shard_size: int,
    seed: int,
    num_processes: int = 1,
) -> Iterator[int]:
    """Write series 0 to n_series - 1 to stores of `shard_size` series, and yield the number of series of each file.

    Series k depends on (seed, k) only, and each file is written atomically. Existing files of the same settings are
    kept; their series are yielded first, as one number.

    Args:
        folder: created if it does not exist.
        make: draws the series; pickled once for every process.
        settings: everything else that the series depend on, as JSON values.
        name: prefix of the item IDs NAME-0, NAME-1, ... and of the file names.

    Raises:
        UserError: the folder contains series of other settings, or cannot be written.
    """
    folder = Path(folder)
    check_writable_folder(folder)
    with locked(folder, "synthetic.output_path", folder / ".lock"):
        _claim_folder(folder, {**settings, "n_series": n_series, "shard_size": shard_size, "seed": seed})
        begins = range(0, n_series, shard_size)
        paths = [folder / f"{name}-{i:05d}-of-{len(begins):05d}.arrow" for i in range(len(begins))]
        shards = [
            _Shard(path, name, seed, begin, min(begin + shard_size, n_series)) for path, begin in zip(paths, begins)
        ]
        missing = [shard for shard in shards if not shard.path.is_file()]
        yield sum(len(shard) for shard in shards) - sum(len(shard) for shard in missing)
        if num_processes == 1:
            for shard in missing:
                yield shard.write(make)
            return
        with WorkerPool(min(num_processes, max(1, len(missing))), _start_worker, make) as pool:
            for future in as_completed([pool.submit(_write_shard, shard) for shard in missing]):
                yield future.result()


@dataclass(frozen=True)
class _Shard:
    """Series `begin` to `end` - 1, which are in one file."""

    path: Path
    name: str
    seed: int
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin

    def write(self, make: MakeSeries) -> int:
        write_store(self.path, self._series(make))
        return len(self)

    def _series(self, make: MakeSeries) -> Iterator[Series]:
        for first in range(self.begin, self.end, _BATCH_SIZE):
            indices = np.arange(first, min(first + _BATCH_SIZE, self.end))
            for k, target in zip(indices, make(make_keys(self.seed, indices))):
                yield Series(f"{self.name}-{k}", START, FREQ, target)


_worker_state: dict[str, MakeSeries] = {}
"""The `make` of this worker process, which is too large to be sent with every shard."""


def _start_worker(make: MakeSeries) -> None:
    _worker_state["make"] = make


def _write_shard(shard: _Shard) -> int:
    return shard.write(_worker_state["make"])


def _claim_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Save the settings in the folder."""
    file = folder / _SETTINGS
    if any(folder.glob("*.arrow")) and (not file.is_file() or read_json(file) != settings):
        raise UserError(
            f"{folder} contains series of other settings; set another synthetic.output_path or remove the folder"
        )
    write_json(file, settings)
