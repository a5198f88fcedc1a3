"""Excel workbooks: sheets, headers, dates and formulas."""

import sys

import numpy as np
import openpyxl
import pandas as pd
import pytest
from support.source_files import refused

from pipeline.data.columns import Columns
from pipeline.data.source import open_source

HEADER = ["item_id", "timestamp", "target"]


def write_workbook(path, *sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets, 1):
        sheet = book.create_sheet(f"sheet {number}")
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_the_first_sheet_is_read_and_others_are_named_in_a_warning(tmp_path, caplog):
    hours = pd.date_range("2024-03-30 05:00", periods=200, freq="h").to_pydatetime()
    header = ["item_id", "timestamp", "note", "target", None]
    rows = [[], header, *([7, hour, "a note", 0.1 * hour.hour] for hour in hours)]
    rows.insert(9, [None, "  ", None])
    rows[20][3] = None
    path = write_workbook(tmp_path / "s.xlsx", rows, [["notes"]])
    store = open_source(path, tmp_path / "cache")
    expected = np.array([0.1 * hour.hour for hour in hours], np.float32)
    expected[17] = np.nan  # an empty row, the header and another empty row are before it
    np.testing.assert_array_equal(store.target(0), expected)
    assert (store.item_ids[0], store.freq, store.starts[0]) == ("7", "h", np.datetime64("2024-03-30T05:00"))
    assert all(fact in caplog.text for fact in ("sheet 1", "sheet 2", "data.sheet"))


def test_a_sheet_is_chosen_by_name_and_hidden_sheets_are_skipped(tmp_path):
    days = pd.date_range("2024-01-01", periods=3, freq="D").to_pydatetime()
    sheets = ([["timestamp", "target"], *([day, value] for day in days)] for value in (1, 2))
    path = write_workbook(tmp_path / "s.xlsx", *sheets)
    book = openpyxl.load_workbook(path)
    book.worksheets[0].sheet_state = "hidden"
    book.active = 1
    book.save(path)
    for sheet, value in ((None, 2), ("sheet 1", 1), ("sheet 2", 2)):
        assert open_source(path, tmp_path / "cache", Columns(sheet=sheet)).target(0).tolist() == [value] * 3
    with refused("data.sheet", "s.xlsx", "'Sheet1'", "sheet 1, sheet 2"):
        open_source(path, tmp_path / "cache", Columns(sheet="Sheet1"))


def test_a_workbook_may_have_one_column_per_series_or_per_date(tmp_path):
    days = pd.date_range("2024-01-01", periods=5, freq="D").to_pydatetime()
    columns = Columns(wide=True, timestamp="Date")
    series = [["Date", "A", "B"], *([day, i, 2 * i] for i, day in enumerate(days))]
    dates = [["item_id", *days], ["A", *range(5)], ["B", *range(0, 10, 2)]]
    for name, rows in (("series", series), ("dates", dates)):
        store = open_source(write_workbook(tmp_path / f"{name}.xlsx", rows), tmp_path / "cache", columns)
        assert [store.target(i).tolist() for i in (0, 1)] == [[0, 1, 2, 3, 4], [0, 2, 4, 6, 8]]
        assert store.starts[0] == np.datetime64("2024-01-01")


@pytest.mark.parametrize("rows, facts", [
    ([], ()),
    ([HEADER, *(["A", f"2024-01-0{day}", "=A1"] for day in (1, 2, 3))], ("formulas",)),
    ([["item_id", "timestamp", "sales"]], ("'target'", "data.target")),
    ([HEADER, ["A", "2024-01-01", 1], ["A", "2024-01-02", "two"]], ("row 2 ", "target", ": two")),
], ids=["empty", "formulas without results", "missing column", "text"])  # fmt: skip
def test_an_invalid_sheet_is_refused(tmp_path, rows, facts):
    with refused("s.xlsx", *facts):
        open_source(write_workbook(tmp_path / "s.xlsx", rows), tmp_path / "cache")


@pytest.mark.parametrize("name", ["s.xlsx", "s.xlsx.gz"])
def test_an_encrypted_or_old_workbook_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xd0\xcf\x11\xe0 an older format, or one with a password")
    with refused(name, "password", ".xlsx"):
        open_source(tmp_path / name, tmp_path / "cache")


def test_a_workbook_without_the_library_is_refused_with_the_command_to_install_it(tmp_path, monkeypatch):
    path = write_workbook(tmp_path / "s.xlsx", [HEADER])
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with refused("s.xlsx", "pip install"):
        open_source(path, tmp_path / "cache")
