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
_EARLIER = (0.9, 0.75, 0.5)
"""Further steps at which they are kept, as shares of the seen steps."""


def seen_steps(
    stores: Sequence[Store], test_length: int, seen_by_base: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Return the last seen step of some series: `item_id`, `end` as a timestamp, a hash of the values up to it, and the
    same of `earlier` steps, by which a file that ends earlier is recognized.

    Args:
        stores: the series of the training; validation steps count as seen.
        test_length: steps at the end of each series that were left out.
        seen_by_base: the entries of the base; those of steps that are not in this training are kept.
    """
    trained = [(store, {name: index for index, name in enumerate(store.item_ids)}) for store in stores if seen_by_base]
    seen = [
        dict(entry)
        for entry in seen_by_base
        if not any(_is_covered(entry, store, positions, test_length) for store, positions in trained)
    ]
    for store in stores:
        n_series = max(1, _MAX_SERIES // len(stores))
        for index in np.unique(np.linspace(0, len(store) - 1, min(n_series, len(store))).astype(int)).tolist():
            last = int(store.lengths[index]) - test_length - 1
            if last >= 0:
                earlier = [_mark(store, index, int(share * last)) for share in _EARLIER]
                seen.append({"item_id": store.item_ids[index], **_mark(store, index, last), "earlier": earlier})
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


def _is_covered(entry: Mapping[str, Any], store: Store, positions: Mapping[str, int], test_length: int) -> bool:
    """Return whether all steps of an entry are among the seen ones of a store, whose series are found by item ID."""
    series = positions.get(entry["item_id"])
    if series is None or _last_seen(entry, store, series) < 0:
        return False
    return _step_of(entry, store, series) < store.lengths[series] - test_length


def _last_seen(entry: Mapping[str, Any], store: Store, series: int) -> int:
    """Return the last seen step of a series of a store, -1 if the entry is of another series."""
    for mark in (entry, *entry.get("earlier", ())):
        step = _step_of(mark, store, series)
        if 0 <= step < store.lengths[series] and _hash(store, series, step) == mark["values"]:
            return min(_step_of(entry, store, series), int(store.lengths[series]) - 1)
    return -1


def _step_of(mark: Mapping[str, Any], store: Store, series: int) -> int:
    """Return the step of a series at a time, which may be after its end; -1 before its start."""
    end, start = np.datetime64(mark["end"], "s"), store.starts[series]
    return int(steps_between(start, np.array([end]), store.freq)[0]) if end >= start else -1


def _mark(store: Store, series: int, step: int) -> dict[str, Any]:
    end = timestamps(store.starts[series : series + 1], store.freq, np.array([[step]]))[0, 0]
    return {"end": str(end), "values": _hash(store, series, step)}


def _hash(store: Store, series: int, step: int) -> int:
    return zlib.crc32(store.target(series)[max(0, step + 1 - _COMPARED_STEPS) : step + 1].tobytes())
