"""Conversion of values to float32: decimal separators, thousands separators, and values that are refused."""

import re

import numpy as np
import pyarrow as pa
import pytest
from support.source_files import FRAME, refused

from pipeline.core.errors import UserError
from pipeline.data.columns import Columns
from pipeline.data.numbers import DecimalDetector
from pipeline.data.source import open_source


def open_values(folder, values, columns=Columns(), delimiter=";"):
    """The target of a CSV file with these texts as values."""
    rows = "".join(f'A{delimiter}2020-01-{day:02}{delimiter}"{value}"\n' for day, value in enumerate(values, 1))
    (folder / "s.csv").write_text(f"item_id{delimiter}timestamp{delimiter}target\n{rows}")
    return open_source(folder / "s.csv", folder / "cache", columns, "D").target(0).tolist()


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
@pytest.mark.parametrize("delimiter", [";", ","])
def test_numbers_of_any_locale_are_read(tmp_path, values, decimal, expected, delimiter):
    target = open_values(tmp_path, values, Columns(decimal=decimal), delimiter)
    np.testing.assert_array_equal(target, np.array(expected, np.float32))


def test_the_delimiter_decides_if_all_numbers_have_three_decimals(tmp_path):
    assert open_values(tmp_path, ["1.006", "2.500"], delimiter=",") == np.array([1.006, 2.5], np.float32).tolist()
    with refused("s.csv", "1.006", "data.decimal"):
        open_values(tmp_path, ["1.006", "2.500"], delimiter=";")


@pytest.mark.parametrize("values", [["1.006", "950"], ["1,006", "950"], ["1,006", "2,500"], ["1.006.000", "1"]])
def test_ambiguous_numbers_are_refused_with_the_key_of_the_decimal_separator(tmp_path, values):
    with refused("s.csv", values[0], "data.decimal"):
        open_values(tmp_path, values)


@pytest.mark.parametrize("values, decimal, row", [
    (["2,5", "1.5"], ",", 2), (["1.459,37", "2.5"], "auto", 1),
])  # fmt: skip
def test_a_number_with_the_other_decimal_separator_is_refused_with_its_row(tmp_path, values, decimal, row):
    with refused("s.csv", f"row {row} ", "target", f": {values[row - 1]}", "data.decimal"):
        open_values(tmp_path, values, Columns(decimal=decimal))


def test_the_decimal_separator_is_detected_in_a_later_block():
    detector = DecimalDetector("s.csv", ";")
    blocks = [["1", "999"], ["17", None], ["1,5", "2"], ["1.006", "2"]]
    assert [detector.detect([pa.chunked_array([block])]) for block in blocks] == ["auto", "auto", ",", ","]


@pytest.mark.parametrize("first, expected", [("1234", "."), ("123", None)])
def test_numbers_of_earlier_blocks_decide_on_thousands_separators(first, expected):
    """A number of four digits without a separator shows that the others have none either."""
    detector = DecimalDetector("s.csv", ";")
    assert detector.detect([pa.chunked_array([[first, "7"]])]) == "auto"
    block = [pa.chunked_array([["12.345", "8.125"]])]
    if expected:
        assert detector.detect(block) == expected
    else:
        with refused("s.csv", "12.345", "data.decimal"):
            detector.detect(block)


def test_whole_numbers_of_any_size_are_values(tmp_path):
    store = open_source(FRAME.assign(target=2**53 + 1 + np.arange(60)), tmp_path)
    assert store.target(0)[0] == np.float32(2**53)


# Arrays


@pytest.mark.parametrize("value, fact", [(np.inf, "infinite"), (-2e18, r"1e\+18")])
def test_an_array_with_a_value_that_no_model_can_scale_is_refused(value, fact):
    data = np.ones((2, 9))
    data[1, 3] = value
    with refused("array", "series 1 ", fact):
        open_source(data)


@pytest.mark.parametrize("array", [
    np.array([["1", "2"]]), np.array([[None, 1.0]]), np.array([[True, False]]), np.array([[1j, 2.0]]),
    np.array([[1, 2]], "m8[s]"),
])  # fmt: skip
def test_an_array_without_numbers_is_refused_with_its_type(array):
    with refused("array", re.escape(str(array.dtype))):
        open_source(array)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, np.uint64])
def test_an_array_of_any_number_type_is_read(dtype):
    assert open_source(np.array([[1, 2, 100]], dtype)).target(0).tolist() == [1, 2, 100]


def test_extreme_values_and_masks_of_arrays_cause_no_numpy_warnings(recwarn):
    for array in (np.array([[1.0, np.inf]], np.float16), np.array([[1, np.iinfo(np.int64).min]])):
        with pytest.raises(UserError):
            open_source(array)
    masked = np.ma.masked_invalid(np.array([[1.0, np.inf, 3.0]]))
    np.testing.assert_array_equal(open_source(masked).target(0), np.array([1, np.nan, 3], np.float32))
    assert not recwarn.list
