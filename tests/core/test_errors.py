"""Text of others in messages: no control characters, one line, and any encoding of the terminal."""

import io
import logging
import subprocess
import sys
import unicodedata

import pytest
from support import ROOT

from pipeline.core.errors import UserError, VisibleFormatter, to_one_line, visible

HOSTILE = [
    "\x1b[31m",
    "\x07",
    "\n",
    "\r",
    "\t",
    "\0",
    "\x9b",
    "\u2028",
    "\u202e",
    "\u2066",
    "\u200b",
    "\ufeff",
    "\udc80",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_control_character_reaches_a_terminal(text):
    for shown in (visible(f"a{text}b"), to_one_line(UserError(f"a{text}b"))):
        shown.encode("utf-8")
        assert not any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in shown)
        assert shown.startswith("a") and shown.endswith("b")


def test_escapes_are_those_of_python_and_other_text_stays():
    assert visible("\x1b[31m\n\u202e\udc80\U000e0001") == r"\x1b[31m\n\u202e\udc80\U000e0001"
    for text in ("Äpfel, 東京, עברית, 😀", r"C:\new", "a  b"):
        assert visible(text) == text


def test_a_long_message_keeps_its_begin_and_its_end():
    line = to_one_line(UserError("begin " + "x" * 10**6 + " end"))
    assert len(line) <= 2100 and line.startswith("begin ") and line.endswith(" end")


def test_a_log_line_is_split_by_its_message_only():
    record = logging.LogRecord("a", logging.INFO, "", 0, "%s: %d rows, %.1f\nnext", ("it\nem\x1b", 3, 2.5), None)
    assert VisibleFormatter().format(record) == "it\\nem\\x1b: 3 rows, 2.5\nnext"
    assert record.args == ("it\nem\x1b", 3, 2.5)  # other handlers get it unchanged


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_text_can_be_printed_in_any_encoding(encoding):
    code = "from pipeline.core.errors import print_any_text; print_any_text(); print('5 \u20ac \\udc80')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, env={"PYTHONIOENCODING": encoding}
    )
    expected = io.TextIOWrapper(buffer := io.BytesIO(), encoding, "backslashreplace", newline="\n")
    expected.write("5 \u20ac \udc80\n")
    expected.flush()
    assert (done.returncode, done.stdout) == (0, buffer.getvalue()), done.stderr
