"""Everyday files of the kinds that public data have: each gives the right values, or is refused with the key to set."""

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from support.days import DAYS, NAN, covariate, future, quoted, write_days
from support.source_files import refused, write_csv

from pipeline.core.series import Variates
from pipeline.data.columns import Columns
from pipeline.data.source import open_source

# Numbers


@pytest.mark.parametrize("delimiter, mark, other", [(",", ",", "."), (";", ".", ",")])
def test_thousands_in_one_column_beside_plain_numbers_in_another_are_ambiguous(tmp_path, delimiter, mark, other):
    """In thousands, 2,400 is not 2.4; the plain 3100 of another column does not say which it is."""
    rows = [f'{day:%Y-%m-%d}{delimiter}"2{mark}4{i:02}"{delimiter}{3100 + 7 * i}' for i, day in enumerate(DAYS[:40])]
    path = write_csv(tmp_path, *rows, header=delimiter.join(["timestamp", "depot_a", "depot_b"]))
    with refused("s.csv", f"2{mark}400", "decimal"):
        open_source(path, tmp_path / "cache", Columns(wide=True))
    store = open_source(path, tmp_path / "cache", Columns(wide=True, decimal=other))
    assert store.target(0)[:3].tolist() == [2400, 2401, 2402] and store.target(1)[:2].tolist() == [3100, 3107]


def test_thousands_and_plain_numbers_of_one_long_column_are_ambiguous(tmp_path):
    with refused("2,400", "decimal"):
        open_source(write_days(tmp_path, quoted(["2,400", "2,413", "3100", "3107"])), tmp_path / "cache")


def test_two_groups_of_thousands_settle_the_column(tmp_path):
    store = open_source(write_days(tmp_path, quoted(["2,400", "1,201,200", "3100"])), tmp_path / "cache")
    assert store.target(0).tolist() == [2400, 1201200, 3100]


@pytest.mark.parametrize("kind", ["csv", "parquet", "frame"])
def test_texts_of_numbers_are_read_alike_in_every_format(tmp_path, kind):
    frame = pd.DataFrame(
        {"item_id": "x", "timestamp": DAYS, "target": [f"{v:,.2f}" for v in 16000 + 37.5 * np.arange(90)]}
    )
    source = frame if kind == "frame" else tmp_path / f"s.{kind}"
    if kind == "csv":
        frame.to_csv(source, index=False)
    elif kind == "parquet":
        frame.to_parquet(source, index=False)
    store = open_source(source, tmp_path / "cache")
    np.testing.assert_array_equal(store.target(0), 16000 + 37.5 * np.arange(90))


def test_a_currency_sign_is_named(tmp_path):
    with refused("s.csv", "row 1 ", r"\$"):
        open_source(write_days(tmp_path, quoted(["$1,234.50", "$1,244.50"])), tmp_path / "cache")


def test_a_word_for_a_missing_value_is_refused_until_it_is_named(tmp_path):
    path = write_days(tmp_path, ["1.5", "?", "2.5", "3.5"])
    with refused("row 2 ", r"\?", "missing_values"):
        open_source(path, tmp_path / "cache")
    store = open_source(path, tmp_path / "cache", Columns(missing_values=("?",)))
    np.testing.assert_array_equal(store.target(0), [1.5, NAN, 2.5, 3.5])


def test_a_level_whose_variation_float32_cannot_hold_gives_a_warning(tmp_path, caplog):
    values = [2_000_000_000 + round(40 * np.sin(i)) for i in range(90)]
    open_source(write_days(tmp_path, values), tmp_path / "cache")
    assert "128" in caplog.text and "float32" in caplog.text
    caplog.clear()
    open_source(write_days(tmp_path, values, name="again.csv"), tmp_path / "cache")  # from the cache
    assert "128" in caplog.text
    caplog.clear()
    open_source(write_days(tmp_path, [16_000_000 + i % 3 for i in range(90)], name="exact.csv"), tmp_path / "cache")
    assert "float32" not in caplog.text


# Covariates


def categories_of(store):
    return dict(store.variates.categories)


def test_item_ids_that_differ_only_by_spaces_give_a_warning(tmp_path, caplog):
    rows = [f"{name},2024-01-0{day},{day}" for name in ("north", "north ", "south") for day in (1, 2, 3)]
    path = write_csv(tmp_path, *rows, header="item_id,timestamp,target", name="shops.csv")
    assert list(open_source(path, tmp_path / "cache").item_ids) == ["north", "north ", "south"]
    assert "1 item IDs" in caplog.text and ": north;" in caplog.text


def test_rows_without_item_ids_and_timestamps_are_one_series_with_a_warning(tmp_path, caplog):
    rows = [f"{store},{value}" for store in ("north", "south") for value in range(20)]
    path = write_csv(tmp_path, *rows, header="store,target", name="stores.csv")
    assert open_source(path, tmp_path / "cache").lengths.tolist() == [40]
    assert "store" in caplog.text and "data.id_column" in caplog.text
    caplog.clear()
    assert open_source(path, tmp_path / "cache", Columns(item_id="store")).lengths.tolist() == [20, 20]
    assert "data.id_column" not in caplog.text


def test_a_code_0_among_letters_is_a_category_in_the_future_too(tmp_path):
    codes = ["a" if i % 30 == 5 else "b" if i % 30 == 9 else "0" for i in range(90)]
    history = open_source(write_days(tmp_path, codes, column="holiday"), tmp_path / "cache", covariate("holiday"))
    assert categories_of(history) == {"holiday": ("0", "a", "b")}
    for zero in (0, 0.0, "0"):
        ahead = pd.DataFrame({"timestamp": pd.date_range("2024-03-31", periods=7), "holiday": zero})
        table = open_source(ahead, tmp_path, future("holiday"), "D", history.formats)
        assert categories_of(table) == {"holiday": ("0",)}


def test_the_word_none_is_a_category_wherever_the_first_other_word_is(tmp_path):
    """The other word may be in a later block of the file."""
    n = 120_000
    frame = pd.DataFrame(
        {"timestamp": pd.date_range("2000-01-01", periods=n, freq="h"), "target": 1.5, "promo": "none"}
    )
    frame.loc[n - 3 :, "promo"] = "flyer"
    frame.to_csv(tmp_path / "s.csv", index=False)
    store = open_source(tmp_path / "s.csv", tmp_path / "cache", covariate("promo"))
    assert categories_of(store) == {"promo": ("none", "flyer")}
    assert store.rows(0)[1].tolist() == [0] * (n - 3) + [1] * 3


@pytest.mark.parametrize("words", [("none", "flyer"), ("na", "flyer"), ("-", "flyer"), ("none", "none")])
def test_words_for_missing_numbers_are_categories_among_categories(tmp_path, words):
    path = write_days(tmp_path, [words[i % 2] for i in range(10)], column="promo")
    store = open_source(path, tmp_path / "cache", covariate("promo"))
    assert categories_of(store) == {"promo": tuple(dict.fromkeys(words))}


def test_an_empty_cell_of_a_category_is_missing(tmp_path):
    path = write_days(tmp_path, ["a", "", "b", "a"], column="promo")
    store = open_source(path, tmp_path / "cache", covariate("promo"))
    np.testing.assert_array_equal(store.rows(0)[1], [0, NAN, 1, 0])


@pytest.mark.parametrize("ahead", [[True, False], ["True", "False"], ["TRUE", "FALSE"], [1, 0], [1.0, 0.0], ["1", "0"]])
@pytest.mark.parametrize("past", ["true false", "True False", "typed"])
def test_booleans_are_the_same_however_they_are_written(tmp_path, past, ahead):
    frame = pd.DataFrame({"timestamp": DAYS, "target": 1.5, "open": [i % 7 != 6 for i in range(90)]})
    if past != "typed":
        frame["open"] = frame["open"].map(dict(zip([True, False], past.split())))
    history = open_source(frame, tmp_path, covariate("open"))
    assert categories_of(history) == {"open": ("false", "true")}
    assert history.rows(0)[1, :8].tolist() == [1] * 6 + [0, 1]
    values = [ahead[i == 6] for i in range(7)]
    table = pd.DataFrame({"timestamp": pd.date_range("2024-03-31", periods=7), "open": values})
    opened = open_source(table, tmp_path, future("open"), "D", history.formats)
    assert categories_of(opened) == {"open": ("false", "true")} and opened.rows(0)[0].tolist() == [1] * 6 + [0]


def test_words_beside_booleans_are_refused_in_the_future(tmp_path):
    frame = pd.DataFrame({"timestamp": DAYS, "target": 1.5, "open": [i % 7 != 6 for i in range(90)]})
    history = open_source(frame, tmp_path, covariate("open"))
    table = pd.DataFrame(
        {"timestamp": pd.date_range("2024-03-31", periods=7), "open": ["true", "maybe"] + ["true"] * 5}
    )
    with refused("row 2 ", "open", "maybe"):
        open_source(table, tmp_path, future("open"), "D", history.formats)


@pytest.mark.parametrize("past", [["a", "b"], [1.5, 2.5], [True, False]])
def test_a_missing_future_column_has_the_type_of_the_history(tmp_path, past):
    frame = pd.DataFrame({"timestamp": DAYS, "target": 1.5, "x": [past[i % 2] for i in range(90)]})
    history = open_source(frame, tmp_path, covariate("x"))
    table = pd.DataFrame({"timestamp": pd.date_range("2024-03-31", periods=7), "x": [None] * 7})
    opened = open_source(table, tmp_path, future("x"), "D", history.formats)
    assert type(opened.formats.values["x"]) is type(history.formats.values["x"])
    assert np.isnan(opened.rows(0)).all()


def test_formats_are_kept_with_the_store(tmp_path):
    path = write_days(tmp_path, ["a", "b", "a", "a"], column="promo")
    store = open_source(path, tmp_path / "cache", covariate("promo"))
    again = open_source(store.path, tmp_path / "cache", covariate("promo"))
    assert again.formats == store.formats and again.formats.values["promo"].describe() == "category"
    assert "category of a, b" in store.formats.describe(store.variates)


# Time


def test_series_of_another_frequency_are_refused_by_name(tmp_path):
    frames = [pd.DataFrame({"item_id": f"day{k}", "timestamp": DAYS, "target": 1.5}) for k in range(5)]
    months = pd.date_range("2021-01-01", periods=36, freq="MS")
    frames.append(pd.DataFrame({"item_id": "month", "timestamp": months, "target": 2.5}))
    mixed = pd.concat(frames)
    with refused("day0", "month", "freq"):
        open_source(mixed, tmp_path)
    store = open_source(mixed, tmp_path, freq="D")  # asked for
    assert store.freq == "D" and store.lengths.tolist()[-1] == (months[-1] - months[0]).days + 1


def test_a_finer_series_is_refused_by_name(tmp_path):
    months = pd.date_range("2021-01-01", periods=36, freq="MS")
    frames = [pd.DataFrame({"item_id": f"m{k}", "timestamp": months, "target": 1.5}) for k in range(5)]
    frames.append(pd.DataFrame({"item_id": "daily", "timestamp": DAYS, "target": 2.5}))
    with refused("daily"):
        open_source(pd.concat(frames), tmp_path)


def test_gappy_series_among_regular_ones_are_not_another_frequency(tmp_path):
    """A shop that sells on some days only has gaps, not a frequency."""
    days = pd.date_range("2024-01-01", periods=300)
    rng = np.random.default_rng(0)
    frames = [pd.DataFrame({"item_id": f"s{k}", "timestamp": days, "target": 1.5}) for k in range(3)]
    frames.append(pd.DataFrame({"item_id": "gappy", "timestamp": days[rng.random(300) < 0.2], "target": 1.5}))
    assert open_source(pd.concat(frames), tmp_path).freq == "D"


def test_time_zones_of_history_and_future_must_agree(tmp_path):
    hours = pd.date_range("2024-03-01", periods=240, freq="h")
    history = write_csv(
        tmp_path, *(f"x,{t:%Y-%m-%dT%H:%M:%S}+01:00,1.5,2" for t in hours), header="item_id,timestamp,target,temp"
    )
    store = open_source(history, tmp_path / "cache", covariate("temp"))
    assert store.starts[0] == np.datetime64("2024-02-29T23:00:00")
    ahead = pd.date_range(hours[-1], periods=25, freq="h")[1:]
    for offset, is_right in (("", False), ("+01:00", True), ("Z", True)):
        rows = [f"x,{t:%Y-%m-%d %H:%M:%S}{offset},5" for t in ahead]
        table = write_csv(tmp_path, *rows, header="item_id,timestamp,temp", name=f"f{is_right}{offset[:1]}.csv")
        if is_right:
            opened = open_source(table, tmp_path / "cache", future("temp"), "h", store.formats)
            assert opened.starts[0] == ahead[0].to_datetime64() - np.timedelta64(offset != "Z", "h")
        else:
            with refused("time zone"):
                open_source(table, tmp_path / "cache", future("temp"), "h", store.formats)


@pytest.mark.parametrize("typed", [False, True])
def test_whole_numbers_are_ordered_steps(tmp_path, typed):
    steps = [step for step in range(60, 0, -1) if step not in (20, 21)]
    frame = pd.DataFrame({"item_id": "x", "timestamp": steps, "target": [100.0 + 3 * step for step in steps]})
    source = frame
    if not typed:
        source = tmp_path / "s.csv"
        frame.to_csv(source, index=False)
    store = open_source(source, tmp_path / "cache")
    expected = 100.0 + 3 * np.arange(1, 61)
    expected[[19, 20]] = NAN
    np.testing.assert_array_equal(store.target(0), expected)
    assert (store.freq, store.starts[0].astype("M8[s]").astype(int)) == ("", 1)


def test_numbered_steps_that_are_ten_apart_are_refused(tmp_path):
    frame = pd.DataFrame({"timestamp": [10, 20, 30, 40], "target": [1.0, 2, 3, 4]})
    with refused("10 apart"):
        open_source(frame, tmp_path)


def test_ten_digits_that_may_be_a_date_are_refused(tmp_path):
    stamps = pd.date_range("2017-03-01", periods=96, freq="30min")
    rows = [f"{stamp:%y%m%d%H%M},1.5" for stamp in stamps]
    path = write_csv(tmp_path, *rows, header="timestamp,target")
    with refused("1703010000", "timestamp_format"):
        open_source(path, tmp_path / "cache")
    store = open_source(path, tmp_path / "cache", Columns(timestamp_format="%y%m%d%H%M"))
    assert (store.freq, store.starts[0]) == ("30min", np.datetime64("2017-03-01"))
    store = open_source(path, tmp_path / "cache", Columns(timestamp_format="unix_s"), "s")
    assert store.starts[0] == np.datetime64(1703010000, "s")


# Forms


def test_a_monash_file(tmp_path):
    (tmp_path / "s.tsf").write_text(
        "# a comment\n@relation demo\n@attribute series_name string\n@attribute start_timestamp date\n"
        "@frequency daily\n@horizon 7\n@missing true\n@equallength false\n@data\n"
        "T1:2020-01-01 00-00-00:1,2,3\nT2:2020-02-01 00-00-00:5,?,7,8\n"
    )
    store = open_source(tmp_path / "s.tsf", tmp_path / "cache")
    assert (store.freq, list(store.item_ids)) == ("D", ["T1", "T2"])
    assert store.starts.tolist() == [np.datetime64("2020-01-01", "s").item(), np.datetime64("2020-02-01", "s").item()]
    np.testing.assert_array_equal(store.target(1), [5, NAN, 7, 8])


@pytest.mark.parametrize("prefix", ["d_", "V", "", "F"])
def test_numbered_columns_are_steps(tmp_path, prefix):
    header = ",".join(["id", *(f"{prefix}{k}" for k in range(2, 12))])
    rows = ["a," + ",".join(str(k) for k in range(10)), "b," + ",".join(str(k) for k in range(7)) + ",,,"]
    path = write_csv(tmp_path, *rows, header=header)
    store = open_source(path, tmp_path / "cache", Columns("id", wide=True))
    assert store.freq == "" and store.lengths.tolist() == [10, 7]
    assert store.target(1).tolist() == list(range(7))


def test_years_in_a_header_below_other_lines(tmp_path):
    lines = ['"Statistical office"', '"Last updated","2026-01-31"', "", '"Country","Code","1990","1991","1992"']
    lines += ['"Land 1","L1","10","20","30"', '"Nowhere","NW","","",""']
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    with refused("skip_rows"):
        open_source(tmp_path / "s.csv", tmp_path / "cache", Columns("Country", wide=True))
    store = open_source(tmp_path / "s.csv", tmp_path / "cache", Columns("Country", wide=True, skip_rows=3))
    assert (store.freq, list(store.item_ids)) == ("YS-JAN", ["Land 1", "Nowhere"])
    assert store.target(0).tolist() == [10, 20, 30] and np.isnan(store.target(1)).all()


def test_date_and_time_in_two_columns(tmp_path):
    hours = pd.date_range("2024-05-20", periods=200, freq="h")
    rows = [f"{t:%d/%m/%Y};{t:%H:%M:%S};{k}" for k, t in enumerate(hours)]
    path = write_csv(tmp_path, *rows, header="Date;Time;load")
    columns = Columns(timestamp=("Date", "Time"), variates=Variates(("load",)))
    store = open_source(path, tmp_path / "cache", columns)
    assert (store.freq, store.starts[0], store.lengths[0]) == ("h", np.datetime64("2024-05-20"), 200)


def test_a_strptime_format(tmp_path):
    rows = [f"{day:%d|%m|%y},1.5" for day in DAYS]
    path = write_csv(tmp_path, *rows, header="timestamp,target")
    store = open_source(path, tmp_path / "cache", Columns(timestamp_format="%d|%m|%y"))
    assert (store.freq, store.starts[0]) == ("D", np.datetime64("2024-01-01"))


def test_blank_cells_of_a_wide_table_are_missing_values(tmp_path, caplog):
    header = ",".join(["page", *(f"{day:%Y-%m-%d}" for day in DAYS[:6])])
    path = write_csv(tmp_path, "full,1,2,3,4,5,6", "empty,,,,,,", "late,1,2,3,,,", "new,,,3,4,5,6", header=header)
    store = open_source(path, tmp_path / "cache", Columns("page", wide=True))
    assert list(store.item_ids) == ["full", "empty", "late", "new"] and store.lengths.tolist() == [6, 6, 6, 4]
    np.testing.assert_array_equal(store.target(2), [1, 2, 3, NAN, NAN, NAN])
    assert store.starts[3] == np.datetime64("2024-01-03")
    assert "empty" in caplog.text


# Item IDs and repeated rows


def test_a_forgotten_item_id_is_refused_with_the_unused_column(tmp_path):
    frames = [pd.DataFrame({"store": f"S{k}", "timestamp": DAYS, "target": 1.5}) for k in range(3)]
    pd.concat(frames).to_csv(tmp_path / "s.csv", index=False)
    with refused("store", "id_column"):
        open_source(tmp_path / "s.csv", tmp_path / "cache")


def test_a_blank_part_of_a_joined_item_id_is_an_empty_text(tmp_path):
    rows = [f"{state},{country},{day:%Y-%m-%d},1.5" for state, country in (("N", "A"), ("", "B")) for day in DAYS]
    path = write_csv(tmp_path, *rows, header="state,country,timestamp,target")
    assert list(open_source(path, tmp_path / "cache", Columns(("state", "country"))).item_ids) == ["N/A", "/B"]


@pytest.mark.parametrize("source", ["csv", "frame", "lists", "wide"])
def test_item_ids_of_several_columns_differ_if_their_values_differ(tmp_path, source):
    values = ["a/b", "a", "b", "", "/", "\\", "\\/", "a\\", "7", "x y", "\x1f"]
    pairs = [(first, second) for first in values for second in values if first or second]
    first, second = zip(*pairs)
    steps = {f"d_{step}": step * np.arange(len(pairs)) for step in (1, 2, 3)}
    table: Any = pd.DataFrame({"x": first, "y": second, **steps})
    if source != "wide":
        table = table.melt(["x", "y"], value_name="target", var_name="step").drop(columns="step")
    if source == "csv":
        table.to_csv(tmp_path / "s.csv", index=False, quoting=2)
    if source == "lists":
        table = pa.Table.from_pandas(table.groupby(["x", "y"], as_index=False, sort=False)["target"].agg(list))
    columns = Columns(("x", "y"), wide=source == "wide")
    store = open_source(tmp_path / "s.csv" if source == "csv" else table, tmp_path / "cache", columns)
    ids = {pair: item_id for pair, item_id in zip(pairs, store.item_ids)}
    assert len(set(ids.values())) == len(store) == len(pairs)
    assert ids["7", "x y"] == "7/x y" and ids["", "a"] == "/a" and ids["a/b", "\\"] == r"a\/b/\\"
    for (x, y), item_id in ids.items():  # the columns can be had again
        found = re.fullmatch(r"((?:\\.|[^/\\])*)/((?:\\.|[^/\\])*)", item_id)
        assert found is not None
        assert [re.sub(r"\\(.)", r"\1", part) for part in found.groups()] == [x, y]
    for index in range(len(pairs)):
        assert store.target(index).tolist() == [index, 2 * index, 3 * index]


@pytest.mark.parametrize("duplicates, expected", [("first", 4), ("last", 6), ("sum", 10), ("mean", 5)])
def test_repeated_rows_are_merged_as_configured(tmp_path, caplog, duplicates, expected):
    rows = ["2024-01-01,1", "2024-01-02,4", "2024-01-03,3", "2024-01-02,6"]
    path = write_csv(tmp_path, *rows, header="timestamp,target")
    with refused("2024-01-02", "row 2 ", "row 4;", "duplicates"):
        open_source(path, tmp_path / "cache")
    store = open_source(path, tmp_path / "cache", Columns(duplicates=duplicates))
    assert store.target(0).tolist() == [1, expected, 3] and "1 rows" in caplog.text


def test_gaps_are_filled_with_a_number_if_configured(tmp_path, caplog):
    path = write_csv(tmp_path, "2024-01-01,1", "2024-01-02,", "2024-01-05,3", header="timestamp,target")
    store = open_source(path, tmp_path / "cache", Columns(fill_missing=0.0), "D")
    assert store.target(0).tolist() == [1, 0, 0, 0, 3] and "3 missing values" in caplog.text


# Tables in memory


def test_tables_of_polars_and_pyarrow(tmp_path):
    polars = pytest.importorskip("polars")
    frame = pd.DataFrame({"item_id": "a", "timestamp": DAYS, "target": np.arange(90.0)})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for source in (table, polars.from_arrow(table)):
        store = open_source(source, tmp_path / "cache")
        assert store.freq == "D" and store.target(0).tolist() == list(range(90))
    assert not (tmp_path / "cache").exists()


def test_an_error_in_python_names_the_argument(tmp_path):
    frame = pd.DataFrame({"timestamp": DAYS, "sales": 1.5})
    with pytest.raises(ValueError) as error:
        open_source(frame, tmp_path, target="revenue")
    assert "data." not in str(error.value) and "id_column" in str(error.value)
    assert open_source(frame, tmp_path, target="sales").freq == "D"


def test_a_parquet_file_with_another_suffix(tmp_path):
    frame = pd.DataFrame({"item_id": "a", "timestamp": DAYS, "target": np.arange(90.0)})
    pa.parquet.write_table(pa.Table.from_pandas(frame), tmp_path / "s.csv")
    assert open_source(tmp_path / "s.csv", tmp_path / "cache").target(0).tolist() == list(range(90))


def test_json_with_texts_of_numbers(tmp_path):
    rows = [{"timestamp": str(day.date()), "target": f"{k},5"} for k, day in enumerate(DAYS)]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert open_source(tmp_path / "s.jsonl", tmp_path / "cache").target(0)[:3].tolist() == [0.5, 1.5, 2.5]
