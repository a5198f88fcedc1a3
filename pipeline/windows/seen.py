"""The steps that a model has seen in training, so that an evaluation on the same steps is noticed."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.data.arrow_store import Store
from pipeline.data.frequency import steps_between, timestamps

_MAX_SERIES = 200
"""Series whose last seen steps are kept, spread evenly; a file of a million series is recognized by these."""
_COMPARED_STEPS = 8
"""Values by which a series is recognized, whatever other columns are read with it."""


def seen_steps(
    stores: Sequence[Store], test_length: int, seen_by_base: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Return the last seen step of some series: `item_id`, `end` as a timestamp, and a hash of the values up to it.

    Args:
        stores: the series of the training; validation steps count as seen.
        test_length: steps at the end of each series that were left out.
        seen_by_base: the entries of the base; those of steps that are not in this training are kept.
    """
    trained = [(store, {name: index for index, name in enumerate(store.item_ids)}) for store in stores if seen_by_base]
    seen = [
        dict(entry)
        for entry in seen_by_base
        if not any(
            (index := positions.get(entry["item_id"])) is not None
            and 0 <= _last_seen(entry, store, index) < store.lengths[index] - test_length
            for store, positions in trained
        )
    ]
    for store in stores:
        n_series = max(1, _MAX_SERIES // len(stores))
        for index in np.unique(np.linspace(0, len(store) - 1, min(n_series, len(store))).astype(int)).tolist():
            last = int(store.lengths[index]) - test_length - 1
            if last >= 0:
                end = timestamps(store.starts[index : index + 1], store.freq, np.array([[last]]))[0, 0]
                seen.append({"item_id": store.item_ids[index], "end": str(end), "values": _hash(store, index, last)})
    return seen


def count_seen(seen: Iterable[Mapping[str, Any]], store: Store, windows: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Return how many of the windows of the recorded series have seen steps in their horizon, and how many there are.

    Args:
        seen: the entries of `seen_steps`.
        windows: series of the store, and forecast start.
    """
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for entry in seen:
        by_id.setdefault(entry["item_id"], []).append(entry)
    n_seen = n_compared = 0
    last_by_series: dict[int, int] = {}
    for series, start in windows:
        entries = by_id.get(store.item_ids[series])
        if entries is None:
            continue
        if series not in last_by_series:
            last_by_series[series] = max(_last_seen(entry, store, series) for entry in entries)
        n_compared += 1
        n_seen += start <= last_by_series[series]
    return n_seen, n_compared


def _last_seen(entry: Mapping[str, Any], store: Store, series: int) -> int:
    """Return the last seen step of a series of a store, -1 if the entry is of another series."""
    end, start = np.datetime64(entry["end"], "s"), store.starts[series]
    step = int(steps_between(start, np.array([end]), store.freq)[0]) if end >= start else -1
    is_same = 0 <= step < store.lengths[series] and _hash(store, series, step) == entry["values"]
    return step if is_same else -1


def _hash(store: Store, series: int, step: int) -> int:
    return zlib.crc32(store.target(series)[max(0, step + 1 - _COMPARED_STEPS) : step + 1].tobytes())
