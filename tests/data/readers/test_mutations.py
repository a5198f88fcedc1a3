"""Damaged files: each is read or refused in one line, and none crashes the interpreter."""

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[3] / "tools" / "mutate_files.py"


def test_a_damaged_file_of_any_format_is_read_or_refused():
    result = subprocess.run([sys.executable, TOOL, "200"], stdout=subprocess.PIPE, text=True)
    assert result.returncode == 0, result.stdout
    read, refused = (int(words.split()[0].replace(",", "")) for words in result.stdout.split("files were read,"))
    assert read > 500 and refused > 2000
