"""Every common spelling of a number is read as exactly the same float as Python reads."""

import re
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import UserError
from pipeline.data.numbers import MISSING, NumberEvidence, NumberFormat, decide_numbers, parse_numbers
from pipeline.data.rows import SourceLocation

LOCATION = SourceLocation("s.csv")
marks = st.sampled_from([".", ","])
floats = st.floats(-1e18, 1e18) | st.integers(-(10**9), 10**9).map(float)
decimals = st.decimals(-(10**12), 10**12, places=3) | st.decimals(-(10**7), 10**7, places=1)


def parse(texts, mark, missing=()):
    rows = np.arange(len(texts)) + 1
    return parse_numbers(pa.array(texts, pa.string()), NumberFormat(mark), rows, LOCATION, missing=missing)


@st.composite
def spellings(draw, mark):
    """A text, and the float that it means."""
    if draw(st.booleans()):
        value = draw(floats)
        form = draw(st.sampled_from(["{!r}", "{:.17g}", "{:e}", "{:.3f}", "{:E}", "{:g}"]))
        text = form.format(value)
    else:
        text = str(draw(decimals))
    value = float(text)
    if "." in text and "e" not in text.lower() and draw(st.booleans()):
        text = text.rstrip("0")  # 1. and .5 are numbers too
    if abs(value) < 1 and draw(st.booleans()):
        text = re.sub(r"^(-?)0\.(?=\d)", r"\1.", text)
    separator = draw(st.sampled_from(["", "", ".", ",", " ", "'", "\u00a0", "\u202f", "\u2019"]))
    if separator != mark and "e" not in text.lower():
        whole, point, fraction = text.partition(".")
        text = re.sub(r"(?<=\d)(?=(?:\d{3})+$)", "_", whole) + point + fraction
    if value > 0 and draw(st.booleans()):
        text = "+" + text
    space = draw(st.sampled_from(["", "", " ", "  "]))
    return space + text.replace(".", mark).replace("_", separator) + space, value


columns = marks.flatmap(lambda mark: st.tuples(st.just(mark), st.lists(spellings(mark), min_size=1, max_size=20)))
missing_texts = st.lists(st.sampled_from([None, *MISSING, "NA", "NaN", " N/A ", "NULL", "?"]), max_size=3)


@given(columns, missing_texts)
def test_spellings_of_a_number_mean_what_python_reads(column, missing):
    mark, rows = column
    texts = [text for text, _ in rows] + missing
    expected = [value for _, value in rows] + [np.nan] * len(missing)
    np.testing.assert_array_equal(parse(texts, mark, ["?"]), expected)


def detect(texts, cut=0):
    evidence = NumberEvidence("target")
    for begin, part in ((0, texts[:cut]), (cut, texts[cut:])):
        evidence.add(pa.array(part, pa.string()), begin + 1)
    return decide_numbers({"target": evidence}, "auto", {}, LOCATION)["target"].decimal


@given(columns, st.integers(0, 20))
def test_a_detected_decimal_separator_is_the_true_one_or_the_column_is_refused(column, cut):
    """It is refused only if each text that has a point or comma can be read with either."""
    mark, rows = column
    texts = [text for text, _ in rows]
    try:
        found = detect(texts, cut)
    except UserError:
        ambiguous = r"\s*[+-]?[1-9]\d{0,2}[.,]\d{3}\s*"
        assert all(re.fullmatch(ambiguous, text) or not re.search("[.,]", text) for text in texts)
    else:
        np.testing.assert_array_equal(parse(texts, found), [value for _, value in rows])


@given(marks, st.lists(st.tuples(st.integers(1, 999), st.integers(0, 999)), min_size=1), st.data())
def test_numbers_that_may_be_thousands_are_refused_until_a_row_shows_the_separator(mark, parts, data):
    texts = [f"{whole}{mark}{fraction:03}" for whole, fraction in parts]
    with pytest.raises(UserError, match="decimal"):
        detect(texts)
    position = data.draw(st.integers(0, len(texts)))
    assert detect([*texts[:position], f"0{mark}5", *texts[position:]], position) == mark


@given(st.lists(floats.map(np.float32) | st.none(), min_size=1), st.sampled_from(["f4", "f8", "texts", "decimal"]))
def test_typed_columns_and_texts_have_the_same_numbers(values, kind):
    expected = np.array([np.nan if value is None else value for value in values], np.float64)
    match kind:
        case "texts":
            column = pa.array([None if value is None else repr(float(value)) for value in values], pa.string())
        case "decimal":
            exact = [None if value is None else Decimal(float(value)).quantize(Decimal("1e-9")) for value in values]
            column = pa.array(exact, pa.decimal128(38, 9))
            expected = np.array([np.nan if value is None else float(value) for value in exact])
        case _:
            column = pa.array(values, pa.float32()).cast({"f4": pa.float32(), "f8": pa.float64()}[kind])
    parsed = parse_numbers(column, NumberFormat(), np.arange(len(column)) + 1, LOCATION)
    np.testing.assert_array_equal(parsed, expected)
