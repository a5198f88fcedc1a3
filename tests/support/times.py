"""Timestamps of a column, read from evidence to values."""

import numpy as np
import pyarrow as pa

from pipeline.data.dates import TimeEvidence, TimeFormat, parse_times
from pipeline.data.rows import SourceLocation


def read_times(values, timestamp_format=None, remembered=None, cuts=()):
    """The format of a column, and its timestamps. The column comes in batches that are cut at some rows."""
    location, column = SourceLocation("s.csv"), values if isinstance(values, pa.Array) else pa.array(values)
    evidence, rows = TimeEvidence(location, timestamp_format, remembered), np.arange(len(column)) + 1
    batches = [slice(begin, end) for begin, end in zip([0, *cuts], [*cuts, len(column)])]
    for batch in batches:
        evidence.add(column[batch], rows[batch])
    time_format = evidence.decide()
    return time_format, np.concatenate(
        [parse_times(column[part], time_format, rows[part], location) for part in batches]
    )


def assert_style(values, style, first, zone="none", **options):
    """Check the style of a column and its first timestamp."""
    time_format, times = read_times(values, **options)
    assert (time_format, times[0]) == (TimeFormat(style, zone), np.datetime64(first))
