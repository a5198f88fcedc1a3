"""What spreadsheets and other programs export: decimal commas, marks between thousands, encodings, a column a series."""

import json
import re
import sys

import numpy as np
import openpyxl
import pandas as pd
import pytest

from pipeline.config import Config, DataConfig
from pipeline.core.errors import UserError
from pipeline.core.series import Variates
from pipeline.data import csv_files
from pipeline.data.columns import Columns
from pipeline.data.source import columns_of, open_source


def opened(tmp_path, values, columns=Columns(), delimiter=";"):
    rows = "".join(f'A{delimiter}2020-01-{day:02}{delimiter}"{value}"\n' for day, value in enumerate(values, 1))
    (tmp_path / "s.csv").write_text(f"item_id{delimiter}timestamp{delimiter}target\n{rows}")
    return open_source(tmp_path / "s.csv", tmp_path / "cache", columns, "D").target(0).tolist()


@pytest.mark.parametrize("values, decimal, expected", [
    (["1,5", "2", "-0,25"], "auto", [1.5, 2, -0.25]),
    (["1.006", "950", "1.012,5"], "auto", [1006, 950, 1012.5]),
    (["1,006.5", "950", "1,200"], "auto", [1006.5, 950, 1200]),
    (["1.125", "2", "4000"], "auto", [1.125, 2, 4000]),
    (["1.006", "950", "1.000.000"], ",", [1006, 950, 1e6]),
    (["1.006", "950", "2.5"], ".", [1.006, 950, 2.5]),
    (["1.006", "950"], ".", [1.006, 950]),
    (["1,006", "950"], ".", [1006, 950]),
    (["1e3", "-.5", "na"], "auto", [1000, -0.5, np.nan]),
])  # fmt: skip
def test_numbers_mean_what_their_program_means(tmp_path, values, decimal, expected):
    for delimiter in ";,":
        found = opened(tmp_path, values, Columns(decimal=decimal), delimiter)
        np.testing.assert_array_equal(np.float32(found), np.float32(expected))


def test_fractions_of_three_digits_throughout_are_told_by_what_parts_the_values(tmp_path):
    assert opened(tmp_path, ["1.006", "2.500"], delimiter=",") == np.float32([1.006, 2.5]).tolist()
    with pytest.raises(UserError, match="s.csv: 1.006.* data.decimal"):
        opened(tmp_path, ["1.006", "2.500"], delimiter=";")


@pytest.mark.parametrize("values", [["1.006", "950"], ["1,006", "950"], ["1,006", "2,500"], ["1.006.000", "1"]])
def test_what_may_be_a_fraction_or_thousands_is_asked_for(tmp_path, values):
    with pytest.raises(UserError, match="s.csv: 1.006.* data.decimal"):
        opened(tmp_path, values)


def test_a_fraction_with_the_other_mark_is_refused_by_its_row(tmp_path):
    with pytest.raises(UserError, match="row 2 has a target .*: 1.5"):
        opened(tmp_path, ["2,5", "1.5"], Columns(decimal=","))


def test_prices_with_a_comma_are_no_categories(tmp_path):
    (tmp_path / "s.csv").write_text("timestamp;target;price;campaign\n2020-01-01;1;9,5;A\n2020-01-02;2;8,25;B\n")
    data = DataConfig(known_covariates=["price", "campaign"])
    store = open_source(tmp_path / "s.csv", tmp_path / "cache", columns_of(Config(data=data)), "D")
    assert store.rows(0)[1].tolist() == [9.5, 8.25] and set(store.variates.categories) == {"campaign"}


@pytest.mark.parametrize("encoding, said", [("cp1252", "cp1252"), ("utf-16", "utf-8"), ("utf-8-sig", "utf-8")])
def test_files_in_other_encodings(tmp_path, encoding, said):
    (tmp_path / "s.csv").write_bytes("item_id;timestamp;Größe\nKöln;2020-01-01;1,5\n".encode(encoding))
    config = Config(data=DataConfig(target="Größe", encoding=said, freq="D"))
    store = open_source(tmp_path / "s.csv", tmp_path / "cache", columns_of(config), "D")
    assert (list(store.item_ids), store.target(0).tolist()) == (["Köln"], [1.5])


def test_an_encoding_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(UserError, match="data.encoding"):
        DataConfig(encoding="utf-9")
    with pytest.raises(UserError, match="data.encoding"):
        DataConfig(encoding="hex")
    (tmp_path / "s.csv").write_bytes("item_id,timestamp,target\nKöln,2020-01-01,1\n".encode("cp1252"))
    with pytest.raises(UserError, match="not written in utf-8.*data.encoding"):
        open_source(tmp_path / "s.csv", tmp_path / "cache")


@pytest.mark.parametrize("head", ["sep=;\n", "\n\n", "\ufeffsep=;\n", "\n  \nsep=;\n\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_before_the_header_are_passed_over(tmp_path, head, end):
    text = head + "item_id;timestamp;target, net\nA;2020-01-01;1,5\nA;2020-01-02;2,5\n"
    (tmp_path / "s.csv").write_bytes(text.replace("\n", end).encode())
    columns = Columns(variates=Variates(("target, net",)))
    assert open_source(tmp_path / "s.csv", tmp_path / "cache", columns, "D").target(0).tolist() == [1.5, 2.5]


def test_the_separator_that_is_named_wins(tmp_path):
    (tmp_path / "s.csv").write_text("sep=;\nitem_id;timestamp;a, b, c, d\nA;2020-01-01;1,5\n")
    columns = Columns(variates=Variates(("a, b, c, d",)))
    assert open_source(tmp_path / "s.csv", tmp_path / "cache", columns, "D").target(0).tolist() == [1.5]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_name_may_have_a_line_break(tmp_path, end):
    text = 'item_id,timestamp,"sold\n(net)"\nA,2020-01-01,1.5\nA,2020-01-02,2.5\n'
    (tmp_path / "s.csv").write_bytes(text.replace("\n", end).encode())
    columns = Columns(variates=Variates(("sold\n(net)",)))
    assert open_source(tmp_path / "s.csv", tmp_path / "cache", columns, "D").target(0).tolist() == [1.5, 2.5]


@pytest.mark.parametrize("text", ["\n\n", "sep=,\n"])
def test_a_file_without_a_header_is_refused(tmp_path, text):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(UserError, match="holds no header"):
        open_source(tmp_path / "s.csv", tmp_path / "cache")


def test_the_mark_of_fractions_may_come_late(tmp_path, monkeypatch):
    """Whole numbers below a thousand say nothing of it, however many."""
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", 256)
    values = [*map(str, range(100)), "1,5", *map(str, range(100)), "2,25"]
    stamps = pd.date_range("2020-01-01", periods=len(values)).date
    rows = "".join(f"A;{stamp};{value}\n" for stamp, value in zip(stamps, values))
    (tmp_path / "s.csv").write_text(f"item_id;timestamp;target\n{rows}")
    found = open_source(tmp_path / "s.csv", tmp_path / "cache", freq="D").target(0).tolist()
    assert found == [float(value.replace(",", ".")) for value in values]


def test_what_the_blocks_before_said_of_thousands_is_kept(tmp_path, monkeypatch):
    """A number of four digits without a mark says that a mark is none of thousands, however early it comes."""
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", 256)
    values = ["1234", *["7"] * 60, "12.345", "8.125"]
    stamps = pd.date_range("2020-01-01", periods=len(values)).date
    rows = "".join(f"A;{stamp};{value}\n" for stamp, value in zip(stamps, values))
    (tmp_path / "s.csv").write_text(f"item_id;timestamp;target\n{rows}")
    found = open_source(tmp_path / "s.csv", tmp_path / "cache", freq="D").target(0)
    np.testing.assert_array_equal(found, np.float32([float(value) for value in values]))
    (tmp_path / "s.csv").write_text(f"item_id;timestamp;target\n{rows}".replace("1234", "123"))
    with pytest.raises(UserError, match="12.345 may be a fraction or a thousand"):
        open_source(tmp_path / "s.csv", tmp_path / "cache", freq="D")


def test_a_header_may_be_as_wide_as_it_is(tmp_path):
    names = [f"a series with a name of many words, {number}" for number in range(3000)]
    pd.DataFrame(np.ones((3, 3000)), pd.date_range("2020-01-01", periods=3, name="timestamp"), names).to_csv(
        tmp_path / "s.csv"
    )
    store = open_source(tmp_path / "s.csv", tmp_path / "cache", Columns(wide=True))
    assert list(store.item_ids) == names


def test_columns_of_a_wide_table_that_hold_nothing_are_told_of(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", 64)
    frame = pd.DataFrame({"A": range(30), "B": np.nan, "C": [*[np.nan] * 25, *range(5)]}).rename_axis("timestamp")
    frame.index = pd.date_range("2020-01-01", periods=30, name="timestamp")
    frame.to_csv(tmp_path / "s.csv")
    store = open_source(tmp_path / "s.csv", tmp_path / "cache", Columns(wide=True))
    assert list(store.item_ids) == ["A", "C"] and caplog.text.count("1 columns hold no value and are left out: B") == 1


def test_a_column_without_a_name_goes_by_its_position(tmp_path):
    """As pandas calls it, which wrote it: the index of a frame has often none."""
    frame = pd.DataFrame({"A": [1.0, 2.0, 3.0], "B": [4.0, 5.0, 6.0]}, pd.date_range("2020-01-01", periods=3))
    frame.to_csv(tmp_path / "s.csv")
    with pytest.raises(UserError, match="has the columns Unnamed: 0, A, B"):
        open_source(tmp_path / "s.csv", tmp_path / "cache", Columns(wide=True))
    store = open_source(tmp_path / "s.csv", tmp_path / "cache", Columns(timestamp="Unnamed: 0", wide=True))
    assert (list(store.item_ids), store.target(1).tolist()) == (["A", "B"], [4, 5, 6])
    frame.rename_axis("timestamp").reset_index().to_csv(tmp_path / "t.csv")
    with pytest.raises(UserError, match="a column a series, each with a name"):
        open_source(tmp_path / "t.csv", tmp_path / "cache", Columns(wide=True))  # numbers of rows are no series


@pytest.mark.parametrize("kind", ["csv", "parquet", "frame"])
def test_a_column_a_series_is_what_melting_gives(tmp_path, kind):
    frame = pd.DataFrame(
        {"day": pd.date_range("2020-01-01", periods=40), "A": np.arange(40.0), "B": np.arange(40.0) ** 2}
    )
    frame.loc[:4, "B"] = frame.loc[38:, "A"] = np.nan
    long = frame.melt("day", var_name="item_id", value_name="target").dropna()
    source = frame
    if kind == "csv":
        frame.to_csv(tmp_path / "w.csv", index=False)
        source = tmp_path / "w.csv"
    if kind == "parquet":
        frame.to_parquet(tmp_path / "w.parquet")
        source = tmp_path / "w.parquet"
    wide = open_source(source, tmp_path / "cache", Columns(timestamp="day", wide=True))
    melted = open_source(long, tmp_path / "cache", Columns(timestamp="day"))
    assert list(wide.item_ids) == list(melted.item_ids) == ["A", "B"]
    np.testing.assert_array_equal(wide.starts, melted.starts)
    for index in range(2):
        np.testing.assert_array_equal(wide.target(index), melted.target(index))


@pytest.mark.parametrize("kind", ["csv", "parquet", "frame"])
@pytest.mark.parametrize("dates", ["%Y-%m-%d", "%d.%m.%Y", "%Y-%m-%d %H:%M:%S"])
def test_a_column_a_step_is_what_melting_gives(tmp_path, kind, dates):
    days = pd.date_range("2020-01-05", periods=40).strftime(dates)
    frame = pd.DataFrame(np.arange(120.0).reshape(3, 40) / 8, columns=days)
    frame.iloc[1, :4] = frame.iloc[2, 7] = np.nan
    frame.insert(0, "shop", ["north", "north", "south"])
    frame.insert(1, "manager", ["Ann", "Bea", "Cem"])
    frame.insert(2, "product", [1, 2, 1])
    long = frame.melt(["shop", "manager", "product"], var_name="timestamp", value_name="target").dropna()
    source = frame
    if kind == "csv":
        frame.to_csv(tmp_path / "w.csv", index=False, decimal=",", sep=";")
        source = tmp_path / "w.csv"
    if kind == "parquet":
        frame.to_parquet(tmp_path / "w.parquet")
        source = tmp_path / "w.parquet"
    across = open_source(source, tmp_path / "cache", Columns(item_id=("shop", "product"), wide=True))
    melted = open_source(long, tmp_path / "cache", Columns(item_id=("shop", "product")))
    assert sorted(across.item_ids) == sorted(melted.item_ids) == ["north/1", "north/2", "south/1"]
    for name in across.item_ids:
        here, there = list(across.item_ids).index(name), list(melted.item_ids).index(name)
        assert across.starts[here] == melted.starts[there]
        np.testing.assert_array_equal(across.target(here), melted.target(there))


def test_years_across_the_header_are_years(tmp_path):
    (tmp_path / "w.csv").write_text("item_id,code,1990,1991,1992,1993\nA,7,1,2,,4\nB,8,5,6,7,8\n")
    store = open_source(tmp_path / "w.csv", tmp_path / "cache", Columns(wide=True))
    assert (store.freq, str(store.starts[0])) == ("YS-JAN", "1990-01-01T00:00:00")
    np.testing.assert_array_equal(store.target(0), [1, 2, np.nan, 4])


def test_a_date_of_the_header_that_is_none_is_named(tmp_path):
    (tmp_path / "w.csv").write_text("item_id,2020-01-01,2020-01-32\nA,1,2\n")
    with pytest.raises(UserError, match="dates of its header: .* no date.*: 2020-01-32"):
        open_source(tmp_path / "w.csv", tmp_path / "cache", Columns(wide=True))


def test_a_wrong_value_of_a_wide_table_is_named_by_its_row(tmp_path):
    (tmp_path / "w.csv").write_text("timestamp,A,B\n2020-01-01,1,2\n2020-01-02,1,two\n2020-01-03,1,2\n")
    with pytest.raises(UserError, match="row 2 has a target that is no number: two"):
        open_source(tmp_path / "w.csv", tmp_path / "cache", Columns(wide=True))
    (tmp_path / "v.csv").write_text("item_id,2020-01-01,2020-01-02\nA,1,2\nB,1,two\n")
    with pytest.raises(UserError, match="row 2 has a target that is no number: two"):
        open_source(tmp_path / "v.csv", tmp_path / "cache", Columns(wide=True))


def test_what_is_no_wide_table_is_refused(tmp_path):
    (tmp_path / "w.csv").write_text("day,A,\n2020-01-01,1,2\n")
    several = Columns(item_id=("day", "A"), wide=True)
    for columns in (Columns(wide=True), Columns(timestamp="day", wide=True), several):
        with pytest.raises(UserError, match="data.wide wants"):
            open_source(tmp_path / "w.csv", tmp_path / "cache", columns)
    (tmp_path / "w.jsonl").write_text('{"timestamp": "2020-01-01", "A": 1}\n')
    with pytest.raises(UserError, match="data.wide is for CSV"):
        open_source(tmp_path / "w.jsonl", tmp_path / "cache", Columns(wide=True))
    with pytest.raises(UserError, match="data.wide"):
        DataConfig(wide=True, known_covariates=["price"])


def records(tmp_path, *freqs):
    lines = [
        {"item_id": str(k), "start": "2022-01-01", "freq": freq, "target": [1, 2, 3]} for k, freq in enumerate(freqs)
    ]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path / "s.jsonl"


def test_the_frequency_that_records_name_is_theirs(tmp_path):
    store = open_source(records(tmp_path, "D", "D"), tmp_path / "cache")
    assert (store.freq, str(store.starts[0])) == ("D", "2022-01-01T00:00:00")
    with pytest.raises(UserError, match="row 2 has another freq than the first, D; .*: h"):
        open_source(records(tmp_path, "D", "h"), tmp_path / "cache")


def test_rows_that_are_yet_to_come_are_told_of(tmp_path, caplog):
    frame = pd.DataFrame(
        {"timestamp": pd.date_range("2020-01-01", periods=9), "target": [1.0, 2, 3, 4, 5, 6, np.nan, np.nan, np.nan]}
    )
    open_source(frame, tmp_path / "cache")
    assert "1 series end with missing values, at most 3 steps" in caplog.text
    open_source(frame[:6], tmp_path / "cache")
    assert caplog.text.count("end with missing values") == 1


def test_series_of_mostly_missing_steps_are_told_of(tmp_path, caplog):
    """Sales are written on the days that have some, one in three of them."""
    days = pd.date_range("2020-01-01", periods=300)[np.r_[:3, 3:300:3]]
    frame = pd.DataFrame({"timestamp": days, "target": 1.0})
    open_source(frame, tmp_path / "cache", freq="D")
    assert "only 34% of the steps of 'D' have a value" in caplog.text
    open_source(frame[3:], tmp_path / "cache", freq="3D")
    assert caplog.text.count("have a value") == 1


def test_columns_that_are_named_by_no_date_are_told_of(tmp_path, caplog):
    (tmp_path / "s.csv").write_text("item_id,Jan 2024,Febr 2024,Mar 2024,Total\nA,1,2,3,6\n")
    store = open_source(tmp_path / "s.csv", tmp_path / "cache", Columns(wide=True), "MS")
    np.testing.assert_array_equal(store.target(0), [1, np.nan, 3])
    assert "columns that are named by no date are left out: Febr 2024, Total" in caplog.text
    (tmp_path / "s.csv").write_text("item_id,2024,Jan 2024,Feb 2024,Mar 2024\nA,1,2,3,6\n")
    with pytest.raises(UserError, match="its columns '2024' and 'Jan 2024' are of one time"):
        open_source(tmp_path / "s.csv", tmp_path / "cache", Columns(wide=True), "MS")


def test_a_word_among_numbers_makes_no_category_of_each(tmp_path):
    data = DataConfig(known_covariates=["price"])
    rows = [f"2020-{1 + i // 28:02}-{1 + i % 28:02},1,{i / 4}" for i in range(50)]
    for kind, word in (("s", "9.50 EUR"), ("t", "?")):
        rows[30] = rows[30].rpartition(",")[0] + f",{word}"
        (tmp_path / f"{kind}.csv").write_text("\n".join(["timestamp,target,price", *rows]))
        with pytest.raises(UserError, match=f"row 31 has a price that is no number: {re.escape(word)}"):
            open_source(tmp_path / f"{kind}.csv", tmp_path / "cache", columns_of(Config(data=data)), "D")
    sizes = ["S", *range(36, 44), "46"]  # so few numbers may be names
    rows = [f"2020-01-{1 + i:02},1,{sizes[i % 10]}" for i in range(30)]
    (tmp_path / "u.csv").write_text("\n".join(["timestamp,target,price", *rows]))
    store = open_source(tmp_path / "u.csv", tmp_path / "cache", columns_of(Config(data=data)), "D")
    assert len(store.variates.categories["price"]) == 10


@pytest.mark.parametrize("row, said", [("A,2020-01-02,2,5", "4 values"), ("A,2020-01-02", "2 values")])
def test_a_row_of_more_or_fewer_values_than_columns_is_shown(tmp_path, row, said):
    (tmp_path / "s.csv").write_text(f"item_id,timestamp,target\nA,2020-01-01,1\n{row}\n")
    with pytest.raises(UserError, match=f"s.csv: a row has {said} for 3 columns: {row};"):
        open_source(tmp_path / "s.csv", tmp_path / "cache")


def workbook(path, *sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets, 1):
        sheet = book.create_sheet(f"sheet {number}")
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_a_sheet_of_a_workbook_is_read_to_the_second_and_the_others_are_named(tmp_path, caplog):
    hours = pd.date_range("2024-03-30 05:00", periods=200, freq="h").to_pydatetime()
    rows = [
        [],
        ["item_id", "timestamp", "note", "target", None],
        *([7, hour, "a note", 0.1 * hour.hour] for hour in hours),
    ]
    rows.insert(9, [None, "  ", None])
    rows[20][3] = None
    path = workbook(tmp_path / "s.xlsx", rows, [["notes"]])
    store = open_source(path, tmp_path / "cache")
    expected = np.float32([0.1 * hour.hour for hour in hours])
    expected[17] = np.nan  # the twenty-first row: before it are an empty one, the header, and another empty one
    np.testing.assert_array_equal(store.target(0), expected)
    assert (store.item_ids[0], store.freq, store.starts[0]) == ("7", "h", np.datetime64("2024-03-30T05:00"))
    assert "the sheet 'sheet 1' is read; another, sheet 2, is named with data.sheet" in caplog.text


def test_a_sheet_is_named_and_hidden_ones_are_passed_over(tmp_path):
    days = pd.date_range("2024-01-01", periods=3, freq="D").to_pydatetime()
    one, two = ([["timestamp", "target"], *([day, value] for day in days)] for value in (1, 2))
    path = workbook(tmp_path / "s.xlsx", one, two)
    book = openpyxl.load_workbook(path)
    book.worksheets[0].sheet_state = "hidden"
    book.active = 1
    book.save(path)
    for sheet, value in ((None, 2), ("sheet 1", 1), ("sheet 2", 2)):
        columns = columns_of(Config(data=DataConfig(sheet=sheet)))
        assert open_source(path, tmp_path / "cache", columns).target(0).tolist() == [value] * 3
    with pytest.raises(UserError, match="data.sheet: .*s.xlsx has no sheet 'Sheet1', only sheet 1, sheet 2"):
        open_source(path, tmp_path / "cache", Columns(sheet="Sheet1"))


def test_a_workbook_has_a_column_a_series_or_dates_in_its_header(tmp_path):
    days = pd.date_range("2024-01-01", periods=5, freq="D").to_pydatetime()
    columns = Columns(wide=True, timestamp="Date")
    down = workbook(tmp_path / "down.xlsx", [["Date", "A", "B"], *([day, i, 2 * i] for i, day in enumerate(days))])
    across = workbook(tmp_path / "across.xlsx", [["item_id", *days], ["A", *range(5)], ["B", *range(0, 10, 2)]])
    for path in (down, across):
        store = open_source(path, tmp_path / "cache", columns)
        assert [store.target(i).tolist() for i in (0, 1)] == [[0, 1, 2, 3, 4], [0, 2, 4, 6, 8]]
        assert store.starts[0] == np.datetime64("2024-01-01")


def test_what_is_wrong_in_a_workbook_is_said(tmp_path, monkeypatch):
    header, wrong = ["item_id", "timestamp", "target"], ["A", "2024-01-02", "two"]
    for rows, said in [
        ([], "s.xlsx: the sheet is empty"),
        ([header, *(["A", f"2024-01-0{day}", "=A1"] for day in (1, 2, 3))], "s.xlsx holds no value; what formulas"),
        ([["item_id", "timestamp", "sales"]], "s.xlsx has no column 'target'"),
        ([header, ["A", "2024-01-01", 1], wrong], "s.xlsx: row 2 has a target .*: two"),
    ]:
        with pytest.raises(UserError, match=said):
            open_source(workbook(tmp_path / "s.xlsx", rows), tmp_path / "cache")
    for name in ("s.xlsx", "s.xlsx.gz"):
        (tmp_path / name).write_bytes(b"\xd0\xcf\x11\xe0 an older format, or one with a password")
        with pytest.raises(UserError, match=f"cannot read .*{name}: it is no workbook, or has a password"):
            open_source(tmp_path / name, tmp_path / "cache")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UserError, match="Excel files need openpyxl.*pip install openpyxl"):
        open_source(tmp_path / "s.xlsx", tmp_path / "cache")
