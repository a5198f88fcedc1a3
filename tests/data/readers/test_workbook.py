"""Excel workbooks: sheets, headers, dates and formulas."""

import base64
import sys
import zipfile
import zlib
from datetime import date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
from support.reading import read, read_rows
from support.source_files import refused

from pipeline.core.series import Variates
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


# Other programs' workbooks, of the columns item_id (7), timestamp and target (0, 1.5, 3)

ODS = (
    '<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" office:version="1.3"><office:body>'
    '<office:spreadsheet><table:table table:name="sales">{}</table:table></office:spreadsheet>'
    "</office:body></office:document-content>"
)


def ods_cell(value):
    match value:
        case str():
            return f'<table:table-cell office:value-type="string"><text:p>{value}</text:p></table:table-cell>'
        case date():
            return f'<table:table-cell office:value-type="date" office:date-value="{value}"/>'
    return f'<table:table-cell office:value-type="float" office:value="{value}"/>'


def write_ods(path, rows):
    cells = ("".join(map(ods_cell, row)) for row in rows)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "content.xml", ODS.format("".join(f"<table:table-row>{row}</table:table-row>" for row in cells))
        )
        archive.writestr("META-INF/manifest.xml", "<manifest/>")


@pytest.mark.parametrize("name", ["s.xls", "s.xlsb", "s.ods", "s.csv"])
def test_workbooks_of_other_formats_are_read(tmp_path, name):
    if name == "s.ods":
        rows = [HEADER, *([7, date(2024, 1, 1 + day), 1.5 * day] for day in range(3))]
        write_ods(tmp_path / name, rows)
    else:
        encoded = (Path(__file__).parent / f"sales.{'xlsb' if name == 's.xlsb' else 'xls'}.b85").read_text()
        (tmp_path / name).write_bytes(zlib.decompress(base64.b85decode(encoded.replace("\n", ""))))
    assert read_rows(tmp_path / name) == [(7, f"2024-01-0{1 + day} 00:00:00", 1.5 * day) for day in range(3)]


# Cells


@pytest.mark.parametrize("cells, expected", [
    ([1, 2.0, None, 3], [1, 2, None, 3]),
    ([1, 2.5, None], [1.0, 2.5, None]),
    ([1.234, 2015.0, "x", None], ["1.234", "2015", "x", None]),
    ([True, False, None], ["true", "false", None]),
    ([date(2024, 1, 31), datetime(2024, 2, 1, 5, 6, 7)], ["2024-01-31 00:00:00", "2024-02-01 05:06:07"]),
    ([" a ", "  ", "NA", "007"], ["a", None, "NA", "007"]),
    ([time(5, 6), timedelta(hours=30)], ["05:06:00", "1 day, 6:00:00"]),
])  # fmt: skip
def test_a_column_has_numbers_or_texts(tmp_path, cells, expected):
    rows = [["item_id", "target"], *([cell, 1] for cell in cells)]
    [table] = read(write_workbook(tmp_path / "s.xlsx", rows))[0]
    assert table["item_id"].to_pylist() == expected


def test_a_text_far_below_makes_the_whole_column_texts(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.data.readers.workbook._ROWS_PER_TABLE", 2)
    cells = [1, 2, 1.5, 2.5, None, None, "x", 3]
    tables, location = read(write_workbook(tmp_path / "s.xlsx", [["target"], *([cell, 1] for cell in cells)]))
    assert [table["target"].to_pylist() for table in tables] == [
        ["1", "2"],
        ["15e-1", "25e-1"],
        [None, None],
        ["x", "3"],
    ]
    assert location.fraction_read == 1
    tables = read(write_workbook(tmp_path / "s.xlsx", [["target"], *([cell, 1] for cell in cells[:6])]))[0]
    assert [table["target"].to_pylist() for table in tables] == [[1, 2], [1.5, 2.5], [None, None]]


def test_an_error_in_a_cell_is_a_missing_value(tmp_path):
    path = write_workbook(tmp_path / "s.xlsx", [HEADER, ["A", 1, "#N/A"], ["A", 2, 5]])
    assert openpyxl.load_workbook(path).worksheets[0]["C2"].data_type == "e"
    assert read_rows(path) == [("A", 1, None), ("A", 2, 5)]


# Headers


def test_skip_rows_counts_rows_above_the_header(tmp_path):
    path = write_workbook(tmp_path / "s.xlsx", [["Sales report"], [], ["made", "by hand"], HEADER, ["A", 1, 2]])
    assert read_rows(path, Columns(skip_rows=3)) == [("A", 1, 2)]
    with refused("s.xlsx", "line 1 ", "data.skip_rows: 3"):
        read(path)


def test_columns_without_a_name_are_called_by_their_position(tmp_path):
    path = write_workbook(tmp_path / "s.xlsx", [[None, "timestamp", None], ["A", 1, 2, 3]])
    assert read_rows(path, Columns("Unnamed: 0", variates=Variates(("timestamp",)))) == [("A", 1)]
    with refused("s.xlsx", "1 of the 4 columns", "name every column"):
        read(path)


# Damage


@pytest.mark.parametrize("cell", ["XFD1048576", "ZZZZZZ4294967295"])
def test_a_stray_cell_far_from_the_others_is_refused(tmp_path, cell):
    """calamine aborts the process, since it needs an array of all cells between them."""
    path = write_workbook(tmp_path / "s.xlsx", [HEADER, ["A", 1, 2]])
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    sheet = members["xl/worksheets/sheet1.xml"]
    stray = f'<row r="{cell.lstrip("XFDZ")}"><c r="{cell}"><v>1</v></c></row></sheetData>'
    members["xl/worksheets/sheet1.xml"] = sheet.replace(b"</sheetData>", stray.encode())
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with refused("s.xlsx", "stray"):
        read(path)
