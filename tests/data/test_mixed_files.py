"""Files of mixed types, headers and frequencies, and types that have no text."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from support.days import DAYS, NAN, covariate
from support.source_files import refused, write_csv

from pipeline.data.columns import Columns
from pipeline.data.source import open_source

# Mixed types, headers and frequencies


def test_typed_fractions_beside_texts_with_a_decimal_comma_keep_their_value(tmp_path):
    """A typed 1.234 is no thousand, whatever the texts of another column of a wide table show."""
    columns = {"timestamp": DAYS[:4], "a": [1.234, 2.345, 3.0, None], "b": ["1,5", "2", "3", "4"]}
    store = open_source(pa.table(columns), tmp_path, Columns(wide=True))
    np.testing.assert_array_equal(store.target(0), np.array([1.234, 2.345, 3.0, NAN], np.float32))
    assert store.target(1).tolist() == [1.5, 2, 3, 4]


@pytest.mark.parametrize("names", [("a.parquet", "b.csv"), ("b.parquet", "a.csv")])
def test_a_folder_with_typed_and_text_files_is_read_in_any_order(tmp_path, names):
    folder = tmp_path / "s"
    folder.mkdir()
    frame = pd.DataFrame({"timestamp": DAYS[:4], "target": [1.5, 2.0, NAN, 4.0]})
    frame.assign(item_id="typed").to_parquet(folder / names[0])
    frame.assign(item_id="text").to_csv(folder / names[1], index=False)
    store = open_source(folder, tmp_path / "cache")
    assert sorted(store.item_ids) == ["text", "typed"] and store.freq == "D"
    for index in range(2):
        np.testing.assert_array_equal(store.target(index), frame["target"].to_numpy(np.float32))


@pytest.mark.parametrize("prefix, is_year", [("d_", False), ("V", False), ("X", True), ("FY", True), ("", True)])
def test_numbers_in_a_header_are_years_only_after_a_prefix_of_years(tmp_path, prefix, is_year):
    """The last days of M5 are called d_1886 to d_1941."""
    path = write_csv(tmp_path, "a,1,2,3,4", header="id," + ",".join(f"{prefix}{k}" for k in range(1938, 1942)))
    store = open_source(path, tmp_path / "cache", Columns("id", wide=True))
    assert store.freq == ("YS-JAN" if is_year else "") and store.target(0).tolist() == [1, 2, 3, 4]


def test_the_order_of_dates_in_a_header_is_remembered(tmp_path):
    def write(name, start, n, order):
        dates = pd.date_range(start, periods=n).strftime(order)
        return write_csv(tmp_path, "a," + ",".join(map(str, range(n))), header=f"item_id,{','.join(dates)}", name=name)

    wide = Columns(wide=True)
    history = open_source(write("h.csv", "2024-01-01", 20, "%d/%m/%Y"), tmp_path / "cache", wide)
    later = write("later.csv", "2024-02-01", 5, "%d/%m/%Y")
    with refused("later.csv", "timestamp_format"):
        open_source(later, tmp_path / "cache", wide)
    store = open_source(later, tmp_path / "cache", wide, formats=history.formats)
    assert (store.freq, store.starts[0]) == ("D", np.datetime64("2024-02-01"))
    with refused("other.csv", "month first"):
        other = write("other.csv", "2024-02-01", 20, "%m/%d/%Y")
        open_source(other, tmp_path / "cache", wide, formats=history.formats)


@pytest.mark.parametrize("zone", ["Z", "+02:00"])
def test_dates_with_a_time_zone_in_a_header_are_remembered(tmp_path, zone):
    hours = pd.date_range("2024-01-01 05:00", periods=5, freq="h")
    header = ",".join(["item_id", *(f"{hour.isoformat()}{zone}" for hour in hours)])
    path = write_csv(tmp_path, "a,1,2,3,4,5", header=header)
    store = open_source(path, tmp_path / "cache", Columns(wide=True))
    again = open_source(path, tmp_path / "cache", Columns(wide=True), formats=store.formats)
    assert again.starts[0] == store.starts[0]
    assert store.formats.timestamp is not None and store.formats.timestamp.zone == "utc"


def test_steps_and_dates_in_the_headers_of_a_folder_are_refused(tmp_path):
    write_csv(tmp_path, "a,1,2,3", header="item_id,d_1,d_2,d_3", name="a.csv")
    write_csv(tmp_path, "b,1,2,3", header="item_id,2024-01-01,2024-01-02,2024-01-03", name="b.csv")
    with refused("dates", "b.csv"):
        open_source(tmp_path, tmp_path / "cache", Columns(wide=True))


@pytest.mark.parametrize("freqs", [["D"] * 1200 + ["h"] * 10, [None, "D"], ["D", None]])
def test_rows_with_lists_and_different_frequencies_are_refused(tmp_path, freqs):
    n = len(freqs)
    columns = {"item_id": list(map(str, range(n))), "start": ["2024-01-01"] * n, "freq": freqs, "target": [[1.0]] * n}
    pa.parquet.write_table(pa.table(columns), tmp_path / "s.parquet")
    with refused("freq"):
        open_source(tmp_path / "s.parquet", tmp_path / "cache")


def test_files_of_different_frequencies_with_lists_are_refused(tmp_path):
    header = "@attribute series_name string\n@attribute start_timestamp date\n"
    for name, freq in (("a", "hourly"), ("b", "daily")):
        text = f"{header}@frequency {freq}\n@data\n{name}:2020-01-01 00-00-00:1,2,3\n"
        (tmp_path / f"{name}.tsf").write_text(text)
    with refused("b.tsf", "'D'", "'h'"):
        open_source(tmp_path, tmp_path / "cache")


def test_rows_with_lists_have_joined_item_ids(tmp_path):
    table = pa.table({"shop": [7, 7], "item": [1, 2], "target": [[1.0, 2.0], [3.0, 4.0]]})
    assert list(open_source(table, tmp_path, Columns(("shop", "item"))).item_ids) == ["7/1", "7/2"]


def test_business_days_among_days_are_reported(tmp_path, caplog):
    frames = [pd.DataFrame({"item_id": "daily", "timestamp": DAYS, "target": 1.5})]
    frames.append(pd.DataFrame({"item_id": "weekdays", "timestamp": DAYS[DAYS.dayofweek < 5], "target": 2.5}))
    assert open_source(pd.concat(frames), tmp_path).freq == "D"
    assert "weekdays (B)" in caplog.text and "daily (" not in caplog.text


def test_milliseconds_before_2001_are_refused_with_the_key(tmp_path):
    stamps = pd.date_range("1995-01-01", periods=300, freq="MS").astype("M8[ms]").astype(np.int64)
    path = write_csv(tmp_path, *(f"{stamp},1.5" for stamp in stamps), header="timestamp,target")
    with refused("unix_ms"):
        open_source(path, tmp_path / "cache")
    store = open_source(path, tmp_path / "cache", Columns(timestamp_format="unix_ms"))
    assert (store.freq, store.starts[0]) == ("MS", np.datetime64("1995-01-01"))


# Types that have no text


@pytest.mark.parametrize("values", [
    pa.array([{"a": 1}] * 3), pa.array([[1]] * 3), pa.array([b"\xff\xfe"] * 3), pa.array([b"0" * 16] * 3, pa.uuid()),
])  # fmt: skip
def test_item_ids_without_a_text_are_refused(tmp_path, values):
    with refused("item.(ID|id)", "type"):
        open_source(pa.table({"item_id": values, "timestamp": DAYS[:3], "target": [1.0, 2.0, 3.0]}), tmp_path)


def test_intervals_as_categories_are_refused(tmp_path):
    frame = pd.DataFrame({"timestamp": DAYS, "target": 1.5, "bin": pd.cut(np.arange(90), 3)})
    with refused("bin", "type"):
        open_source(frame, tmp_path, covariate("bin"))


def test_rows_with_lists_of_polars(tmp_path):
    polars = pytest.importorskip("polars")
    frame = polars.from_pandas(pd.DataFrame({"item_id": "a", "timestamp": DAYS, "target": np.arange(90.0)}))
    store = open_source(frame.group_by("item_id").agg("timestamp", "target"), tmp_path)
    assert list(store.item_ids) == ["a"] and store.target(0).tolist() == list(range(90))


def test_an_index_of_dates_without_a_name_is_refused(tmp_path):
    index = pd.MultiIndex.from_product([["a", "b"], DAYS[:5]])
    for unnamed in (index, DAYS[:10], pd.period_range("2020-01", periods=10, freq="M")):
        with refused("index", "name"):
            open_source(pd.DataFrame({"target": 1.5}, index=unnamed), tmp_path)


@pytest.mark.parametrize("mark", ["/", "-"])
def test_financial_years_are_not_months(tmp_path, mark):
    rows = [f"{year}{mark}{(year + 1) % 100:02},{year}" for year in range(2000, 2012)]
    path = write_csv(tmp_path, *rows, header="timestamp,target")
    with refused("s.csv", f"2000{mark}01", "timestamp_format"):
        open_source(path, tmp_path / "cache")
    rows = [f"{month:%Y{mark}%m},1" for month in pd.date_range("2000-01-01", periods=30, freq="MS")]
    path = write_csv(tmp_path, *rows, header="timestamp,target", name="months.csv")
    assert open_source(path, tmp_path / "cache").freq == "MS"
