"""Sorting of rows, in memory and through the temporary file."""

import os
import resource
import signal

import numpy as np
import pytest
from support.source_files import refused

from pipeline.data.sorting import Rows, RowSorter

ALL_IN_MEMORY = 1 << 30
ONE_ROW = 1


def make_rows(codes, stamps=None, n_values=1):
    """Rows whose values are functions of their numbers, which are those of the order given."""
    numbers = np.arange(1, len(codes) + 1)
    stamps = np.zeros(len(codes), np.int64) if stamps is None else np.asarray(stamps, np.int64)
    values = numbers[:, None] * 10.0 + np.arange(n_values)
    return Rows(np.asarray(codes, np.int32), stamps, numbers, values)


def shuffled_rows(seed, n_rows=500, n_codes=40, n_values=1, step=3600):
    """Rows of series with random lengths, with repeated timestamps."""
    rng = np.random.default_rng(seed)
    codes = np.minimum(rng.geometric(2 / n_codes, n_rows) - 1, n_codes - 1)
    codes = np.unique(codes, return_inverse=True)[1]
    return make_rows(codes, rng.integers(-20, 20, n_rows) * step, n_values=n_values)


def sort(rows, memory_limit=ALL_IN_MEMORY, folder=None, batch=50):
    """Add rows in batches, and return the partitions."""
    sorter = RowSorter(rows.values.shape[1], folder, memory_limit)
    for begin in range(0, len(rows.codes), batch):
        sorter.add(Rows(*(field[begin : begin + batch] for field in rows)))
    assert sorter.n_rows == len(rows.codes)
    partitions = list(sorter.partitions())
    assert_equal(join(partitions), join(list(sorter.partitions())))
    return partitions


def join(partitions):
    return Rows(*map(np.concatenate, zip(*partitions)))


def assert_equal(rows, expected):
    for field, expected_field, kind in zip(rows, expected, (np.int32, np.int64, np.int64, np.float64)):
        assert field.dtype == kind
        np.testing.assert_array_equal(field, expected_field)


def assert_sorted(partitions, rows):
    """Check that partitions contain the rows in the order of np.lexsort, and that none divides a series."""
    order = np.lexsort((rows.numbers, rows.stamps, rows.codes))
    assert_equal(join(partitions), Rows(*(field[order] for field in rows)))
    codes = [set(partition.codes.tolist()) for partition in partitions]
    assert sum(map(len, codes)) == len(set().union(*codes))


@pytest.mark.parametrize("memory_limit", [ALL_IN_MEMORY, 5000, 300, ONE_ROW])
@pytest.mark.parametrize("n_values", [0, 1, 5])
def test_rows_are_sorted_by_code_stamp_and_number(tmp_path, memory_limit, n_values):
    rows = shuffled_rows(n_values, n_values=n_values)
    assert_sorted(sort(rows, memory_limit, tmp_path), rows)


@pytest.mark.parametrize("memory_limit", [ALL_IN_MEMORY, 3000])
def test_rows_with_equal_stamps_keep_their_order(tmp_path, memory_limit):
    codes, stamps, _, _ = shuffled_rows(0)
    for source in (make_rows(codes, stamps // 8), make_rows(codes, stamps * 0), make_rows(np.sort(codes), stamps * 0)):
        assert_sorted(sort(source, memory_limit, tmp_path), source)


@pytest.mark.parametrize("memory_limit", [ALL_IN_MEMORY, 3000])
@pytest.mark.parametrize("unit, noise", [(1 << 53, 0), (1 << 53, 1), (1 << 45, 1), (1, 0), (0, 0)])
def test_stamps_may_be_any_integers(tmp_path, memory_limit, unit, noise):
    rng = np.random.default_rng(0)
    codes = shuffled_rows(0).codes
    stamps = rng.integers(-1000, 1000, 500) * unit + rng.integers(0, 1 + noise, 500)
    assert_sorted(sort(make_rows(codes, stamps), memory_limit, tmp_path), make_rows(codes, stamps))


@pytest.mark.parametrize("memory_limit", [ALL_IN_MEMORY, 3000])
def test_rows_of_a_series_in_one_place_are_sorted_by_stamp(tmp_path, memory_limit):
    codes = np.repeat(np.arange(50), 10)
    for stamps in (np.arange(500), -np.arange(500)):
        rows = make_rows(codes, stamps)
        assert_sorted(sort(rows, memory_limit, tmp_path), rows)


@pytest.mark.parametrize("large", [0, 7, 30])
def test_a_large_series_is_one_partition_among_small_ones(tmp_path, large):
    rng = np.random.default_rng(large)
    codes = rng.permutation(np.concatenate([np.full(900, large), np.repeat(np.arange(31), 4)]))
    rows = make_rows(codes, rng.integers(0, 1000, len(codes)))
    partitions = sort(rows, 28 * 100, tmp_path)
    assert_sorted(partitions, rows)
    n_rows = [len(partition.codes) for partition in partitions if large not in partition.codes]
    assert len(n_rows) > 1 and max(n_rows) <= 100


def test_single_series_and_series_of_one_row(tmp_path):
    for codes in (np.zeros(300), np.random.default_rng(0).permutation(300)):
        rows = make_rows(codes, np.arange(300)[::-1])
        for memory_limit in (ALL_IN_MEMORY, 1000):
            assert_sorted(sort(rows, memory_limit, tmp_path), rows)


def test_batches_may_be_empty(tmp_path):
    for memory_limit in (ALL_IN_MEMORY, ONE_ROW):
        sorter = RowSorter(1, tmp_path, memory_limit)
        sorter.add(make_rows([]))
        assert list(sorter.partitions()) == [] and sorter.n_rows == 0
        sorter.add(make_rows([1, 0]))
        sorter.add(make_rows([]))
        assert_sorted(list(sorter.partitions()), make_rows([1, 0]))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="lists the open files of the process")
def test_temporary_file_is_in_the_folder_and_disappears(tmp_path):
    folder = tmp_path / "new"
    sorter = RowSorter(1, folder, 1000)
    assert not folder.exists()
    sorter.add(shuffled_rows(0))
    next(sorter.partitions())

    def is_open():
        links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        return any(os.readlink(link).startswith(str(folder)) for link in links if os.path.islink(link))

    assert is_open() and os.listdir(folder) == []
    del sorter
    assert not is_open()


def test_rows_within_the_limit_are_not_written(tmp_path):
    path = tmp_path / "file"
    path.touch()
    assert_sorted(sort(make_rows([1, 0]), 28 * 2, path), make_rows([1, 0]))
    with refused(str(path), "not a folder"):
        sort(make_rows([1, 0, 1]), 28 * 2, path)


def test_full_disk_is_reported(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with refused("cannot write", str(tmp_path), "make room"):
            sort(shuffled_rows(0), 5000, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert os.listdir(tmp_path) == []
