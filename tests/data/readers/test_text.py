"""CSV files with other encodings, delimiters and headers."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.reading import read, read_rows
from support.series import long_frame
from support.source_files import refused, to_dict, write_csv

from pipeline.config import Config, DataConfig
from pipeline.core.errors import UserError
from pipeline.core.series import Variates
from pipeline.data.columns import Columns
from pipeline.data.readers import read_tables
from pipeline.data.rows import SourceLocation
from pipeline.data.source import columns_from_config, open_source


def test_covariates_with_decimal_commas_are_numbers(tmp_path):
    rows = ["2020-01-01;1;9,5;A", "2020-01-02;2;8,25;B"]
    path = write_csv(tmp_path, *rows, header="timestamp;target;price;campaign")
    data = DataConfig(known_covariates=["price", "campaign"])
    store = open_source(path, tmp_path / "cache", columns_from_config(Config(data=data)), "D")
    assert store.rows(0)[1].tolist() == [9.5, 8.25] and set(store.variates.categories) == {"campaign"}


@pytest.mark.parametrize("written, configured", [("cp1252", "cp1252"), ("utf-16", "utf-8"), ("utf-8-sig", "utf-8")])
def test_other_encodings_are_read(tmp_path, written, configured):
    (tmp_path / "s.csv").write_bytes("item_id;timestamp;Größe\nKöln;2020-01-01;1,5\n".encode(written))
    config = Config(data=DataConfig(target="Größe", encoding=configured, freq="D"))
    store = open_source(tmp_path / "s.csv", tmp_path / "cache", columns_from_config(config), "D")
    assert (list(store.item_ids), store.target(0).tolist()) == (["Köln"], [1.5])


def test_a_file_in_another_encoding_is_refused_with_the_key(tmp_path):
    (tmp_path / "s.csv").write_bytes("item_id,timestamp,target\nKöln,2020-01-01,1\n".encode("cp1252"))
    with refused("s.csv", "utf-8", "data.encoding"):
        open_source(tmp_path / "s.csv", tmp_path / "cache")


@pytest.mark.parametrize("encoding", ["utf-9", "hex"])
def test_an_unknown_encoding_is_refused(encoding):
    with refused("data.encoding", encoding):
        DataConfig(encoding=encoding)


@pytest.mark.parametrize("head", ["sep=;\n", "\n\n", "\ufeffsep=;\n", "\n  \nsep=;\n\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_before_the_header_are_skipped(tmp_path, head, end):
    text = head + "item_id;timestamp;target, net\nA;2020-01-01;1,5\nA;2020-01-02;2,5\n"
    (tmp_path / "s.csv").write_bytes(text.replace("\n", end).encode())
    columns = Columns(variates=Variates(("target, net",)))
    assert open_source(tmp_path / "s.csv", tmp_path / "cache", columns, "D").target(0).tolist() == [1.5, 2.5]


def test_the_delimiter_gives_the_columns_that_are_read(tmp_path):
    (tmp_path / "s.csv").write_text("timestamp;target;Menge, Preis, Rest, Summe\n2020-01-01;1;x\n2020-01-02;2;y\n")
    store = open_source(tmp_path / "s.csv", tmp_path / "cache", freq="D")
    assert store.target(0).tolist() == [1, 2]


def test_a_separator_line_decides_on_the_delimiter(tmp_path):
    (tmp_path / "s.csv").write_text("sep=;\nitem_id;timestamp;a, b, c, d\nA;2020-01-01;1,5\n")
    columns = Columns(variates=Variates(("a, b, c, d",)))
    assert open_source(tmp_path / "s.csv", tmp_path / "cache", columns, "D").target(0).tolist() == [1.5]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_column_name_may_contain_a_line_break(tmp_path, end):
    text = 'item_id,timestamp,"sold\n(net)"\nA,2020-01-01,1.5\nA,2020-01-02,2.5\n'
    (tmp_path / "s.csv").write_bytes(text.replace("\n", end).encode())
    columns = Columns(variates=Variates(("sold\n(net)",)))
    assert open_source(tmp_path / "s.csv", tmp_path / "cache", columns, "D").target(0).tolist() == [1.5, 2.5]


def test_quoted_values_may_contain_line_breaks_and_delimiters(tmp_path):
    frame = long_frame(n_series=2, length=9).round(3)
    frame.insert(2, "Notes, and more", ["two\nlines, and; more"] * len(frame))
    frame.to_csv(tmp_path / "s.csv", index=False)
    assert to_dict(open_source(tmp_path / "s.csv", tmp_path)) == to_dict(open_source(frame, tmp_path))


def test_a_header_may_be_longer_than_64_kilobytes(tmp_path):
    names = [f"{'a series with a name of many words, ' * 9}{number}" for number in range(300)]
    stamps = pd.date_range("2020-01-01", periods=3, name="timestamp")
    pd.DataFrame(np.ones((3, len(names))), stamps, names).to_csv(tmp_path / "s.csv")
    store = open_source(tmp_path / "s.csv", tmp_path / "cache", Columns(wide=True))
    assert list(store.item_ids) == names


def test_an_empty_line_in_a_single_column_is_a_missing_value(tmp_path):
    store = open_source(write_csv(tmp_path, "1", "2", "", "4", header="target"), tmp_path / "cache")
    np.testing.assert_array_equal(store.target(0), [1, 2, np.nan, 4])


@pytest.mark.parametrize(
    "text", ["", "\n", "\n\n", "sep=,\n", "item_id,timestamp,target", "item_id,timestamp,target\n"]
)
def test_a_file_without_header_or_rows_is_refused(tmp_path, text):
    (tmp_path / "s.csv").write_text(text)
    with refused("s.csv"):
        open_source(tmp_path / "s.csv", tmp_path / "cache")


def test_a_late_contradiction_is_refused_with_its_row(tmp_path):
    rows = [f"{'A' * 1000};{day:%Y-%m-%d};1,5" for day in pd.date_range("2000-01-01", periods=5000)]  # several blocks
    path = write_csv(tmp_path, *rows, "A;2020-01-01;1.5", header="item_id;timestamp;target")
    with refused("s.csv", "row 5001 ", "data.decimal"):
        open_source(path, tmp_path / "cache")


@pytest.mark.parametrize("row, n_values", [("A,2020-01-02,2,5", 4), ("A,2020-01-02", 2)])
def test_a_row_with_more_or_fewer_values_than_columns_is_refused(tmp_path, row, n_values):
    with refused("s.csv", f"{n_values} values", "3 columns", re.escape(row)):
        open_source(write_csv(tmp_path, "A,2020-01-01,1", row), tmp_path / "cache")


# Lines above the header

REPORT = "Sales report\nmade in 2024, by hand\n\nitem_id,timestamp,target\nA,2020-01-01,1\nA,2020-01-02,\n"
ROWS = [("A", "2020-01-01", "1"), ("A", "2020-01-02", None)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_skip_rows_counts_lines_above_the_header(tmp_path, encoding, end):
    (tmp_path / "s.csv").write_bytes(REPORT.replace("\n", end).encode(encoding))
    assert read_rows(tmp_path / "s.csv", Columns(skip_rows=3)) == ROWS
    assert read_rows(tmp_path / "s.csv", Columns(skip_rows=2)) == ROWS  # an empty line is no header


def test_a_skipped_line_may_decide_on_the_delimiter_and_have_a_quote(tmp_path):
    (tmp_path / "s.csv").write_text('sep=|\nthe 5" pipe\nitem_id|timestamp|target\nA|2020-01-01|1\n')
    assert read_rows(tmp_path / "s.csv", Columns(skip_rows=2)) == [("A", "2020-01-01", "1")]


@pytest.mark.parametrize("text, n_lines", [
    (REPORT, 3),
    (REPORT.replace(",", ";"), 3),
    (REPORT.replace("made in 2024, by hand", "a,b"), 3),
    ("Report,,\n,,\nitem_id,timestamp,target\nA,2020-01-01,1\n", 2),
    ('target\nitem_id,timestamp,target\n"A, B",2020-01-01,1\n', 1),  # the first line has the target
])  # fmt: skip
def test_a_header_below_other_lines_is_proposed(tmp_path, text, n_lines):
    (tmp_path / "s.csv").write_text(text)
    with refused("s.csv", "line 1 ", f"data.skip_rows: {n_lines}"):
        read_rows(tmp_path / "s.csv")


@pytest.mark.parametrize("text, facts", [
    ("item_id,timestamp,sold\nA,2020-01-01,1\n", ("'target'",)),
    ("item_id,timestamp,target\nA,2020-01-01,1\nA,2020-01-01,1,5\n", ("4 values",)),
    (",timestamp,sold\n1,2020-01-01,1\n2,2020-01-02,1\n", ("'target'",)),
])  # fmt: skip
def test_no_other_header_is_proposed_without_evidence(tmp_path, text, facts):
    (tmp_path / "s.csv").write_text(text)
    with refused("s.csv", *facts) as raised:
        read_rows(tmp_path / "s.csv")
    assert "skip_rows" not in str(raised.value)


# Cells and sizes


def test_only_an_empty_cell_is_null(tmp_path):
    text = 'item_id,timestamp,target\nNA,null,nan\n"",N/A, \n"a ""b""",None,-\n'
    (tmp_path / "s.csv").write_text(text)
    assert read_rows(tmp_path / "s.csv") == [("NA", "null", "nan"), (None, "N/A", " "), ('a "b"', "None", "-")]


def test_a_file_with_a_header_only_has_no_tables(tmp_path):
    for text in ("target", "target\n", "\n\ntarget\r\n"):
        (tmp_path / "s.csv").write_text(text)
        assert read(tmp_path / "s.csv")[0] == []


def test_a_quote_that_is_not_closed_is_refused(tmp_path, monkeypatch):
    (tmp_path / "s.csv").write_text('item_id,"target\nA,1\n')
    with refused("s.csv", "quote"):
        read(tmp_path / "s.csv")
    monkeypatch.setattr("pipeline.data.readers.text._MIN_BLOCK", 1000)
    (tmp_path / "s.csv").write_text('item_id,target\n"A,1\n' + "A,1\n" * 1000)
    with refused("s.csv", "quote"):
        read(tmp_path / "s.csv")


def test_blocks_are_read_a_few_ahead_and_give_all_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.data.readers.text._MIN_BLOCK", 2000)
    rows = [(f"item {number}", str(number)) for number in range(20_000)]
    (tmp_path / "s.csv").write_text("item_id,target\n" + "".join(f"{name},{value}\n" for name, value in rows))
    location = SourceLocation("s.csv")
    tables = read_tables(str(tmp_path / "s.csv"), Columns(), location)
    first = next(tables)
    assert location.fraction_read < 0.3
    assert [*first.to_pylist(), *(row for table in tables for row in table.to_pylist())] == [
        {"item_id": name, "target": value} for name, value in rows
    ]
    assert location.fraction_read == 1


def test_a_table_of_many_columns_has_a_hundred_rows(tmp_path):
    names = [f"s{number}" for number in range(5000)]
    row = ",".join(["1234567"] * len(names))
    (tmp_path / "s.csv").write_text("timestamp," + ",".join(names) + "\n" + f"2020,{row}\n" * 900)
    first, *others = read(tmp_path / "s.csv", Columns(wide=True))[0]
    assert len(first) >= 100 and len(first) + sum(map(len, others)) == 900 and first.num_columns == 5001


ROWS_WITH_NOTES = [f"A,2024-01-{day:02d},{day},note" for day in range(1, 13)]


@pytest.mark.parametrize("quoted", [{8: '"x'}, {2: '"5 inch', 5: '"6 inch'}, {2: '"5 inch', 3: '"6 inch'}])
def test_a_quote_that_swallows_rows_is_refused(tmp_path, quoted):
    rows = [row.replace("note", quoted.get(number, "note")) for number, row in enumerate(ROWS_WITH_NOTES)]
    path = Path(write_csv(tmp_path, *rows, header="item_id,timestamp,target,note"))
    for text in (path.read_text(), path.read_text().rstrip("\n"), path.read_text() + "\n"):
        path.write_text(text)
        with refused(f"row {min(quoted) + 1} ", "quote"):
            open_source(path, tmp_path / "cache")


@pytest.mark.parametrize(
    "note", ['"two\n\nlines"', '"one, two, three\nbought 3, for 5, paid 8, today"', "", '"a ""b"""']
)
def test_notes_of_several_lines_are_no_rows(tmp_path, note):
    rows = [row.replace("note", note) for row in ROWS_WITH_NOTES]
    path = write_csv(tmp_path, *rows, "", header="item_id,timestamp,target,note")
    assert open_source(path, tmp_path / "cache").target(0).tolist() == list(range(1, 13))


@pytest.mark.parametrize("row", ['2024-01-0{}, "a b", 1', '"2024-01-0{}", A, "1"'])
def test_spaces_before_quotes_are_refused(tmp_path, row):
    path = write_csv(tmp_path, *(row.format(day) for day in range(1, 6)), header="timestamp, item_id, target")
    with refused("item_id" if "a b" in row else "target", "spaces before its quotes"):
        open_source(path, tmp_path / "cache")


def test_a_row_with_more_cells_than_the_header_does_not_make_the_next_line_a_header(tmp_path):
    path = write_csv(tmp_path, *(f'"{day}","2024-01-0{day}",{day}' for day in range(1, 6)), header="timestamp,target")
    with pytest.raises(UserError, match="3 values for 2 columns") as error:
        open_source(path, tmp_path / "cache")
    assert "skip_rows" not in str(error.value)
