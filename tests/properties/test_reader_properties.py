"""Any series in any format are read as the grid that plain pandas builds of them."""

import csv
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.columns import Columns
from pipeline.data.frequency import timestamps
from pipeline.data.source import open_source

FREQUENCIES = ["s", "15min", "h", "3h", "D", "2D", "B", "W-WED", "SMS", "MS", "2MS", "ME", "QS-FEB", "QE-DEC", "YS-JAN"]
REGULAR = [freq for freq in FREQUENCIES if freq not in ("B", "SMS")]
"""Frequencies that follow from any three timestamps without a gap."""
ODD_IDS = ["NA", "nan", "null", "0", "00", "1.0", "-", "true", "=1+1", "a,b", "a;b", 'say "x"', "'", "a/b", "\ttab"]
ODD_IDS += [
    " a",
    "a ",
    "a",
    "A",
    "two\nlines",
    "Zürich",
    "Zu\u0308rich",
    "店",
    "\U0001f600",
    "\u202e",
    "2020-01-01",
    "\\",
]
characters = st.integers(0x20, 0x2FFFF).filter(lambda code: not 0xD800 <= code < 0xE000).map(chr)
item_ids = st.sampled_from(ODD_IDS) | st.lists(characters, min_size=1, max_size=8).map("".join)
whole_numbers = st.integers(-(10**6), 10**6).map(float)
values = whole_numbers | st.floats(-1e18, 1e18, allow_subnormal=False) | st.none()


@st.composite
def panels(draw, freqs=FREQUENCIES, with_gaps=True, ids=item_ids, min_steps=1):
    """A frequency, and a long frame of series in any order of rows; steps without a row are gaps."""
    freq = draw(st.sampled_from(freqs))
    second = draw(st.integers(0, 20 * 366 * 86400))
    begin = pd.Timestamp("2005-01-01") + pd.Timedelta(second - second % draw(st.sampled_from([1, 60, 86400])), "s")
    steps = pd.date_range(begin, periods=20, freq=freq)
    frames = []
    for item_id in draw(st.lists(ids, min_size=1, max_size=4, unique=True)):
        stamps = steps[draw(st.integers(0, 8)) :][: draw(st.integers(min_steps, 12))]
        kept = [not with_gaps or draw(st.booleans()) for _ in stamps]
        kept[0] = True
        target = np.array([draw(values) for _ in stamps], np.float64)
        frames.append(pd.DataFrame({"item_id": item_id, "timestamp": stamps, "target": target})[kept])
    frame = pd.concat(frames, ignore_index=True)
    order = draw(st.permutations(range(len(frame))))
    return freq, frame.iloc[order].reset_index(drop=True)


def grid(freq, frame):
    """The start and the values of each series, by item ID in order of appearance."""
    series = {}
    for item_id, rows in frame.groupby("item_id", sort=False):
        stamps = pd.date_range(rows["timestamp"].min(), rows["timestamp"].max(), freq=freq)
        series[item_id] = stamps[0], rows.set_index("timestamp")["target"].reindex(stamps).to_numpy(np.float32)
    return series


def check(store, expected):
    assert list(store.item_ids) == list(expected)
    for index, (start, target) in enumerate(expected.values()):
        assert store.starts[index] == start
        np.testing.assert_array_equal(store.target(index), target)


def write(kind, folder, frame, names=("item_id", "timestamp", "target")):
    """Write a long frame under other names, and return the source and the settings that it needs."""
    frame = frame.set_axis(names, axis=1)
    item_id, timestamp, target = names
    path = Path(folder) / f"s.{kind.split()[0]}"
    options: dict[str, str] = {}
    match kind:
        case "csv":
            frame.to_csv(path, index=False)
        case "csv quoted":
            frame.to_csv(path, index=False, quoting=csv.QUOTE_ALL)
        case "csv comma":
            frame.to_csv(path, index=False, sep=";", decimal=",")
        case "jsonl":
            columns = frame[item_id], frame[timestamp].astype(str), frame[target].replace(np.nan, None)
            rows = [dict(zip(names, row)) for row in zip(*columns)]
            path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
        case "parquet":
            frame.to_parquet(path)
        case "arrow":
            table = pa.Table.from_pandas(frame, preserve_index=False)
            with pa.ipc.new_file(str(path), table.schema) as writer:
                writer.write_table(table, max_chunksize=3)
        case "nested":
            lists = frame.groupby(item_id, sort=False).agg(list).reset_index()
            return pa.Table.from_pandas(lists, preserve_index=False), options
        case "frame":
            return frame, options
        case "table":
            return pa.Table.from_pandas(frame.astype({item_id: "category"})), options
    if kind.startswith("csv"):
        options["decimal"] = "," if kind == "csv comma" else "."
    return str(path), options


KINDS = ["csv", "csv quoted", "csv comma", "jsonl", "arrow", "table", "nested", "parquet", "frame"]


@given(panels(), st.lists(st.sampled_from(KINDS), min_size=3, max_size=3, unique=True))
def test_series_of_any_format_are_those_of_the_grid_in_pandas(panel, kinds):
    freq, frame = panel
    expected = grid(freq, frame)
    with TemporaryDirectory() as folder:
        for kind in kinds:
            source, options = write(kind, folder, frame)
            check(open_source(source, folder, freq=freq, **options), expected)


@given(panels(REGULAR, with_gaps=False, min_steps=3))
def test_a_frequency_without_gaps_is_inferred(panel):
    freq, frame = panel
    with TemporaryDirectory() as folder:
        store = open_source(write("parquet", folder, frame)[0], folder)
    for index, (start, target) in enumerate(grid(freq, frame).values()):
        np.testing.assert_array_equal(store.target(index), target)
        steps = np.arange(len(target))[None]
        stamps = pd.date_range(start, periods=len(target), freq=freq).to_numpy()
        np.testing.assert_array_equal(timestamps(store.starts[[index]], store.freq, steps)[0], stamps)


@given(panels(), st.sampled_from(["%d/%m/%Y %H:%M:%S", "%Y%m%d%H%M%S", "%I:%M:%S %p, %B %d, %Y"]))
def test_dates_may_have_any_format(panel, date_format):
    freq, frame = panel
    texts = frame.assign(timestamp=frame["timestamp"].dt.strftime(date_format))
    with TemporaryDirectory() as folder:
        source, options = write("csv", folder, texts)
        store = open_source(source, folder, freq=freq, timestamp_format=date_format, **options)
        check(store, grid(freq, frame))


names = st.sampled_from(
    ["item_id", "timestamp", "target", "start", "freq", "row", "code", "value 0", "shop, no.", "Umsatz €", "0"]
)


@given(panels(freqs=["D", "h"]), st.lists(names, min_size=3, max_size=3, unique=True), st.sampled_from(KINDS))
def test_columns_may_have_any_names(panel, chosen, kind):
    freq, frame = panel
    keys = dict(zip(("id_column", "timestamp_column", "target"), chosen))
    with TemporaryDirectory() as folder:
        source, options = write(kind, folder, frame, chosen)
        check(open_source(source, folder, freq=freq, **keys, **options), grid(freq, frame))


simple_ids = st.lists(st.sampled_from("abXY019 -_.é店"), max_size=6).map(lambda text: f"s{''.join(text).strip()}")


@given(panels(ids=simple_ids))
def test_a_wide_table_has_the_series_of_its_long_form_from_their_first_value(panel):
    freq, frame = panel
    wide = frame.pivot(index="timestamp", columns="item_id", values="target")
    wide = wide.rename_axis(columns=None)
    full = wide.reindex(pd.date_range(wide.index.min(), wide.index.max(), freq=freq))
    expected = {}
    for name, target in full.items():
        begin = target.first_valid_index() or full.index[0]
        expected[name] = begin, target[begin:].to_numpy(np.float32)
    by_step = wide.T.rename_axis("item_id").reset_index()
    by_step.columns = [str(name) for name in by_step.columns]
    with TemporaryDirectory() as folder:
        wide.reset_index().to_csv(f"{folder}/series.csv", index=False)
        for source in (f"{folder}/series.csv", wide.reset_index(), by_step):
            check(open_source(source, folder, Columns(wide=True, decimal="."), freq), expected)


@given(panels(freqs=["D"]))
def test_gluonts_and_datasets_read_a_converted_file_as_the_store_does(panel):
    import datasets
    from gluonts.dataset.common import FileDataset

    freq, frame = panel
    with TemporaryDirectory() as folder:
        source, options = write("csv quoted", folder, frame)
        path = open_source(source, folder, freq=freq, **options).path
        expected = grid(freq, frame)
        dataset = datasets.Dataset.from_file(str(path))
        for rows in (FileDataset(path, freq), dataset):
            assert [row["item_id"] for row in rows] == list(expected)
            for row, (start, target) in zip(rows, expected.values()):
                np.testing.assert_array_equal(np.asarray(row["target"], np.float32), target)
                assert pd.Period(row["start"], freq) == pd.Period(start, freq)
