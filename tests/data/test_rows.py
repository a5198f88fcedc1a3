import numpy as np
import pyarrow as pa
from support.source_files import refused

from pipeline.data.rows import SourceLocation, refuse_rows


def test_a_row_is_described_by_its_number_within_its_file():
    location = SourceLocation("folder")
    assert location.describe_row(3) == "row 3"
    for file, n_rows_before in (("a.csv", 0), ("b.csv", 2), ("c.csv", 5)):
        location.start_file(file, n_rows_before)
    described = [location.describe_row(row) for row in (1, 2, 3, 5, 6)]
    assert described == ["row 1 of a.csv", "row 2 of a.csv", "row 1 of b.csv", "row 3 of b.csv", "row 1 of c.csv"]


def test_an_error_has_the_first_invalid_row_its_value_and_the_number_of_others():
    rows, values = np.array([11, 12, 13, 14]), pa.array(["a", "b", "c", "d"])
    with refused("s.csv", "row 12 ", ": b", "2 more", "; try again"):
        refuse_rows(np.array([0, 1, 1, 1], bool), rows, SourceLocation("s.csv"), "is wrong", values, "try again")
    refuse_rows(np.zeros(4, bool), rows, SourceLocation("s.csv"), "is wrong")


def test_warnings_are_kept_once():
    location = SourceLocation("s.csv")
    for _ in range(2):
        location.warn_once("7 columns")
    assert location.warnings == ["7 columns"]
