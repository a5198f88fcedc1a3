"""Tables of names that come from data: no markup in Markdown, no formulas in CSV."""

import csv
import re

import pytest

from pipeline.core.tables import escape_markdown, markdown_table, write_csv

MARKUP = [
    "a|b",
    "`code`",
    "<script>alert(1)</script>",
    "![x](http://h/x.png)",
    "[x](javascript:x)",
    "**b**",
    "a\nb",
    "\\|",
    "\\",
    "\x1b[31m",
]


@pytest.mark.parametrize("name", MARKUP)
def test_a_cell_is_no_markup(name):
    table = markdown_table([{"name": name, "value": 1.5}], ("name", "value"))
    lines = table.splitlines()
    assert len(lines) == 3 and table.endswith("\n") and "\x1b" not in table
    assert [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines] == [3, 3, 3]
    plain = re.sub(r"\\[\\`*|\[\]]", "", lines[2].replace("&lt;", ""))
    assert not re.search(r"[<`*\[\]]", plain)


def test_escaped_text_is_read_back_by_a_markdown_parser():
    markdown = pytest.importorskip("markdown_it").MarkdownIt()
    for name in MARKUP[:-4]:
        (paragraph,) = [token for token in markdown.parse(escape_markdown(name)) if token.type == "inline"]
        assert "".join(child.content for child in paragraph.children) == name


def test_texts_are_no_formulas_and_numbers_stay_numbers(tmp_path):
    rows = [{"name": name, "value": -1.5} for name in ("=1+1", "+1", "-1", "@x", "\tx", "\rx", "a=1", "")]
    write_csv(tmp_path / "scores.csv", rows)
    with open(tmp_path / "scores.csv", newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [row["name"] for row in read] == ["'=1+1", "'+1", "'-1", "'@x", "'\tx", "'\rx", "a=1", ""]
    assert {row["value"] for row in read} == {"-1.5"}


def test_a_table_without_rows_has_its_header():
    assert markdown_table([], ("name", "value")).splitlines()[0].split() == ["|", "name", "|", "value", "|"]
