"""Numbers in columns: decimal signs, thousands, missing values, and values that are refused."""

import random
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.source_files import FRAME, refused

from pipeline.core.errors import UserError
from pipeline.data.numbers import NumberEvidence, NumberFormat, decide_numbers, parse_numbers
from pipeline.data.rows import SourceLocation
from pipeline.data.source import open_source

NAN = np.nan


def read_columns(columns, decimal="auto", remembered=None, missing=(), cuts=()):
    """The numbers of each column, whose texts come in batches that are cut at some rows."""
    location, evidence, numbers = SourceLocation("s.csv"), {}, {}
    for name, values in columns.items():
        evidence[name] = NumberEvidence(name, missing)
        for begin, batch in batches(values, cuts):
            evidence[name].add(batch, begin + 1)
    formats = decide_numbers(evidence, decimal, remembered or {}, location)
    for name, values in columns.items():
        parts = [
            parse_numbers(batch, formats[name], np.arange(begin, begin + len(batch)) + 1, location, name, missing)
            for begin, batch in batches(values, cuts)
        ]
        numbers[name] = np.concatenate(parts).tolist()
    return numbers


def batches(values, cuts):
    column = pa.array(values, pa.string()) if isinstance(values, list) else values
    for begin, end in zip([0, *cuts], [*cuts, len(column)]):
        yield begin, column[begin:end]


def read(values, **options):
    return read_columns({"target": values}, **options)["target"]


# The decimal sign


@pytest.mark.parametrize("values, expected", [
    (["1,5", "2", "-0,25"], [1.5, 2, -0.25]),
    (["1.234,50", "950"], [1234.5, 950]),
    (["1,234.50", "950"], [1234.5, 950]),
    (["1\u00a0234,50", "12 345 678", "-1\u202f234"], [1234.5, 12345678, -1234]),
    (["1'234.50", "12\u2019345\u2019678"], [1234.5, 12345678]),
    (["12,34,567.00", "1,00,000", "1,234"], [1234567, 100000, 1234]),
    (["1.006", "1.012,5"], [1006, 1012.5]),
    (["1,006", "1,012.5"], [1006, 1012.5]),
    (["2.400", "1.201.200", "3100"], [2400, 1201200, 3100]),
    (["2,400", "1,201,200", "3100"], [2400, 1201200, 3100]),
    (["1.006", "0.125"], [1.006, 0.125]),
    (["1,006", "0,125"], [1.006, 0.125]),
    (["1.006", "1234.567"], [1.006, 1234.567]),
    (["1.006", ".5"], [1.006, 0.5]),
    (["1.006", "5."], [1.006, 5]),
    (["1,006", "12,5"], [1.006, 12.5]),
    (["1.006", "1.234e-05"], [1.006, 1.234e-05]),
    (["1,006", "1,5E+03"], [1.006, 1500]),
    (["1 234.567", "1.006"], [1234.567, 1.006]),
    (["+5", " 2.5\t", "\u00a01e3\u00a0"], [5, 2.5, 1000]),
    (["1", "999", "123456"], [1, 999, 123456]),
])  # fmt: skip
def test_numbers_of_every_locale_are_read(values, expected):
    assert read(values) == read(values[::-1])[::-1] == expected


@pytest.mark.parametrize("values", [["1.006", "950"], ["2,400", "3100"], ["950", "-1,006"], ["1.006", "12000"]])
def test_numbers_that_may_be_fractions_or_thousands_are_refused(values):
    row, text = next((row, text) for row, text in enumerate(values, 1) if len(text) > 3 and not text.isdigit())
    whole, fraction = re.sub("[.,]", "", text), text.replace(",", ".")
    with refused("s.csv", f"row {row} ", "target", fraction, whole, re.escape(text), "data.decimal"):
        read(values)


def test_the_other_columns_decide_if_they_agree():
    ambiguous = ["1.006", "2.500"]
    assert read_columns({"a": ambiguous, "b": ["12.5"]})["a"] == [1.006, 2.5]
    assert read_columns({"a": ambiguous, "b": ["12,5"]})["a"] == [1006, 2500]
    assert read_columns({"a": ambiguous, "b": ["1.201.200"]})["a"] == [1006, 2500]
    for others in ({"b": ["17"]}, {"b": ["12.5"], "c": ["12,5"]}):
        with refused(" a ", "1.006", "data.decimal"):
            read_columns({"a": ambiguous, **others})


def test_a_remembered_sign_decides_ambiguous_numbers_only():
    remembered = {"target": NumberFormat(",")}
    assert read(["1.006", "2.500"], remembered=remembered) == [1006, 2500]
    assert read(["1,006", "17"], remembered=remembered) == [1.006, 17]
    assert read(["1.006", "2,5"], remembered={"target": NumberFormat()}) == [1006, 2.5]
    with refused("row 2 ", "target", "2\\.5", "history", "data.decimal"):
        read(["1.006", "2.5"], remembered=remembered)
    assert read(["1.006", "2.5"], remembered=remembered, decimal=".") == [1.006, 2.5]


def test_a_table_without_fractions_keeps_the_remembered_sign():
    evidence = NumberEvidence("target")
    evidence.add(pa.array(["1", "2000"]), 1)
    remembered = {"target": NumberFormat(",")}
    assert decide_numbers({"target": evidence}, "auto", remembered, SourceLocation("s")) == remembered


@pytest.mark.parametrize("values, decimal, expected", [
    (["1.006", "950"], ".", [1.006, 950]),
    (["1.006", "950"], ",", [1006, 950]),
    (["1,006", "950"], ".", [1006, 950]),
    (["1,006", "950"], ",", [1.006, 950]),
])  # fmt: skip
def test_the_configured_sign_decides(values, decimal, expected):
    assert read(values, decimal=decimal) == expected


@pytest.mark.parametrize("values, decimal, row", [
    (["2,5", "1.5"], ",", 2),
    (["2,5", "1.234.5"], ",", 2),
    (["1.459,37", "2.5"], "auto", 2),
    (["2.5", "17", "1.459,37"], "auto", 3),
    (["1,201,200", "2,5"], "auto", 2),
    (["1,23,45", "2.5"], "auto", 1),
    (["12.34.567", "2,5"], "auto", 1),
])  # fmt: skip
def test_a_row_that_contradicts_the_sign_is_refused(values, decimal, row):
    for cuts in ((), (1,)):
        with refused("s.csv", f"row {row} ", "target", f": {re.escape(values[row - 1])};"):
            read(values, decimal=decimal, cuts=cuts)


def test_values_that_no_row_has_prove_nothing():
    """A slice or a categorical column of pandas has a dictionary with further values."""
    with refused("2,400"):
        read(pa.array(["12.5", "2,400", "3100"]).dictionary_encode()[1:])
    with refused("2,400"):
        read(["2,400", "12.5"], missing=("12.5",))


def test_formats_are_described_in_words():
    words = [NumberFormat(sign).describe() for sign in (None, ".", ",")]
    assert words == ["number", "number, decimal point", "number, decimal comma"]


def format_number(value, decimals, sign, separator, groups):
    """A number in the notation of a locale, and the value that the text has."""
    text = f"{abs(value):.{decimals}f}"
    whole, _, fraction = text.partition(".")
    head, tail = whole[:-3], whole[-3:]
    parts = [tail]
    while head:
        parts, head = [head[-groups:], *parts], head[:-groups]
    text = separator.join(parts) if separator else whole
    return ("-" if value < 0 else "") + text + (sign + fraction if fraction else ""), float(f"{value:.{decimals}f}")


@pytest.mark.parametrize("seed", range(300))
def test_numbers_of_a_random_locale_are_right_or_refused_however_they_are_batched(seed):
    draw = random.Random(seed)
    sign = draw.choice(".,")
    separator = draw.choice(["", ",."[",.".index(sign) - 1], " ", "\u00a0", "'"])
    groups = 2 if sign == "." and separator == "," and draw.random() < 0.3 else 3
    scale, decimals = draw.choice([1, 1e3, 1e5, 1e8]), draw.choice([0, 1, 2, 3, 3, None])
    pairs = [
        format_number(
            draw.uniform(-scale, scale), draw.randint(0, 4) if decimals is None else decimals, sign, separator, groups
        )
        for _ in range(12)
    ]
    texts, expected = map(list, zip(*pairs))
    cuts = sorted(draw.sample(range(1, 12), 3))
    assert read(texts, decimal=sign, cuts=cuts) == expected
    try:
        numbers = read(texts)
    except UserError as error:
        assert "data.decimal" in str(error) and any(re.fullmatch(r"-?[1-9]\d{0,2}[.,]\d{3}", text) for text in texts)
        with refused(re.escape(str(error))):
            read(texts, cuts=cuts)
    else:
        assert numbers == read(texts, cuts=cuts) == expected


# Missing and invalid values


@pytest.mark.parametrize("sign", [".", ","])
def test_words_for_missing_numbers_and_empty_cells_are_missing(sign):
    words = ["", " ", "NA", "n/a", "NaN", "-nan", "NULL", "None", "-", None]
    np.testing.assert_array_equal(read([f"1{sign}5", *words, "2"]), [1.5, *[NAN] * 10, 2])


@pytest.mark.parametrize("values, expected", [
    (["1.5", "?", " ? ", "2"], [1.5, NAN, NAN, 2]),
    (["-999", "-999.00", "999", "2.5"], [NAN, NAN, 999, 2.5]),
    (["-999,0", "2,5"], [NAN, 2.5]),
    (pa.array([-999, 999]), [NAN, 999]),
    (pa.array([-999.9, 2.5], pa.float32()), [NAN, 2.5]),
])  # fmt: skip
def test_configured_texts_and_numbers_are_missing(values, expected):
    np.testing.assert_array_equal(read(values, missing=("?", "-999", "-999.9")), expected)


@pytest.mark.parametrize("text, advice", [
    ("$1,234.50", r"remove the \$"), ("12 \u20ac", "remove the \u20ac"), ("12%", "12% as 12 or 0.12"), ("(5)", "-5"),
    ("\u22125", "-5"), ("5-", "-5"), ("5 kg", "number"), ("?", "missing_values"), ("unknown", "missing_values"),
    ("0x1F", ""), ("1_000", ""), ("1e", ""), ("1 2", ""), ("0 123", ""), ("--5", ""), ("\u0661", ""), (".", ""),
])  # fmt: skip
@pytest.mark.parametrize("others", [["2.5"], ["2,5"], ["17"]])
def test_a_text_that_is_no_number_is_refused_with_its_row(text, advice, others):
    with refused("s.csv", "row 2 ", "target", f": {re.escape(text)};", advice):
        read([*others, text])


@pytest.mark.parametrize("values, fact", [
    (["1.5", "inf"], "infinite"), (["1,5", "-Infinity"], "infinite"), (["1", "1e400"], "infinite"),
    (["1.5", "2e18"], r"1e\+18"), (pa.array([1, -(2**62)]), r"1e\+18"), (pa.array([1.5, np.inf]), "infinite"),
])  # fmt: skip
def test_a_value_that_no_model_can_scale_is_refused_with_its_row(values, fact):
    with refused("s.csv", "row 2 ", fact):
        read(values)


@pytest.mark.parametrize("cuts", [(), (700,), (1400,)])
def test_an_ambiguous_number_far_below_is_found(cuts):
    values = ["17"] * 1500 + ["1.006"] * 2
    with refused("row 1501 ", "1.006", "data.decimal"):
        read(values, cuts=cuts)
    assert read([*values, "2.5"], cuts=cuts)[-3:] == [1.006, 1.006, 2.5]


def test_the_row_of_a_refused_value_is_that_of_its_file():
    location = SourceLocation("folder")
    location.start_file("a.csv", 0)
    location.start_file("b.csv", 10)
    with refused("folder", "row 3 of b.csv ", "none of"):
        parse_numbers(pa.array(["1", "none of"]), NumberFormat(), np.array([12, 13]), location)
    evidence = NumberEvidence("target")
    evidence.add(pa.array(["1", "1.006"]), np.array([7, 13]))
    with refused("folder", "row 3 of b.csv ", "1.006"):
        decide_numbers({"target": evidence}, "auto", {}, location)


# Typed columns


@pytest.mark.parametrize("values, expected", [
    (pa.array([1, None, 3]), [1, NAN, 3]),
    (pa.array([2**53 + 1], pa.uint64()), [2.0**53]),
    (pa.array([1.5, NAN, None]), [1.5, NAN, NAN]),
    (pa.array([1.5], pa.float16()), [1.5]),
    (pa.array(["1.50"]).cast(pa.decimal128(5, 2)), [1.5]),
    (pa.array([True, False, None]), [1, 0, NAN]),
    (pa.array([None, None]), [NAN, NAN]),
    (pa.array([7, 8, 7]).dictionary_encode(), [7, 8, 7]),
    (pa.array(["1,5", "2"], pa.large_string()), [1.5, 2]),
    (pa.array(["1,5", "2"], pa.string_view()), [1.5, 2]),
    (pa.array(["1,5", "2", "1,5"]).dictionary_encode(), [1.5, 2, 1.5]),
    (pa.array(["True", "false", "1"]), [1, 0, 1]),
])  # fmt: skip
def test_columns_of_numbers_of_any_type_are_read(values, expected):
    np.testing.assert_array_equal(read(values), expected)


@pytest.mark.parametrize("values", [pd.date_range("2020", periods=2), [[1], [2]], [b"1", b"2"]])
def test_a_column_of_another_type_is_refused_with_its_type(values):
    column = pa.array(values)
    with refused("s.csv", "target", re.escape(str(column.type)), "data.target"):
        read(column)


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
