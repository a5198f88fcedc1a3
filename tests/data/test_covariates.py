"""Covariates: the rows of a store, and categories as numbers, compared with chronos-forecasting."""

import re

import numpy as np
import pandas as pd
import pytest
from support.shops import SHOP, shops

from pipeline.core.errors import UserError
from pipeline.core.series import Variates
from pipeline.data.arrow_store import open_store
from pipeline.data.columns import Columns
from pipeline.data.covariates import encode_categories
from pipeline.data.source import open_source


def open_table(table, folder, variates=SHOP):
    return open_source(table, folder, Columns(variates=variates))


def assert_rows_of_shops(store, table):
    """Compare the rows of each item with the columns of the table."""
    for index, item_id in enumerate(store.item_ids):
        group = table[table["item_id"] == item_id]
        rows = store.rows(index)
        np.testing.assert_allclose(rows[:3], group[["sold", "visits", "price"]].to_numpy().T, rtol=1e-6)
        categories = store.variates.categories["promo"]
        assert [categories[int(code)] for code in rows[3]] == list(group["promo"])


def test_an_item_has_a_row_for_each_variate(tmp_path):
    past, _ = shops()
    store = open_table(past, tmp_path)
    assert len(store) == 5 and list(store.item_ids) == [f"shop{k}" for k in range(5)]
    assert store.item_ids[-1] == "shop4" and store.item_ids[1:3] == ["shop1", "shop2"]
    assert store.variates.names == ("sold", "visits", "price", "promo")
    assert_rows_of_shops(store, past)
    assert all(np.array_equal(store.target(index), store.rows(index)[0]) for index in range(5))
    past.to_parquet(tmp_path / "past.parquet")
    reopened = open_store(open_table(tmp_path / "past.parquet", tmp_path).path)
    assert reopened.variates == store.variates and reopened.lengths.tolist() == store.lengths.tolist()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_every_format_has_covariates(tmp_path, suffix):
    past, _ = shops(2)
    path, shuffled = tmp_path / f"shops.{suffix}", past.sample(frac=1, random_state=0)
    match suffix:
        case "csv":
            shuffled.to_csv(path, index=False)
        case "jsonl":
            shuffled.to_json(path, orient="records", lines=True, date_format="iso")
        case _:
            shuffled.to_parquet(path)
    assert_rows_of_shops(open_table(path, tmp_path / "cache"), past)


def test_a_missing_row_is_missing_in_every_variate(tmp_path):
    past, _ = shops(1)
    store = open_table(past.drop(index=[4, 5]), tmp_path)
    assert np.isnan(store.rows(0)[:, 4:6]).all() and not np.isnan(store.rows(0)[:, [3, 6]]).any()


def test_an_infinite_covariate_is_refused_with_its_name_and_row(tmp_path):
    past, _ = shops(2)
    past.loc[30, "price"] = np.inf
    past.to_csv(tmp_path / "past.csv", index=False)
    with pytest.raises(UserError, match="row 31 .*price"):
        open_table(tmp_path / "past.csv", tmp_path / "cache")


def test_a_text_among_the_first_numbers_makes_a_categorical_covariate(tmp_path):
    past, _ = shops(2)
    past = past.astype({"price": object})
    past.loc[30, "price"] = "cheap"
    past.to_csv(tmp_path / "past.csv", index=False)
    store = open_table(tmp_path / "past.csv", tmp_path / "cache")
    assert set(store.variates.categories["price"]) == {"1.0", "2.0", "4.0", "cheap"}


def test_a_text_after_many_numbers_is_refused_with_its_row(tmp_path):
    n = 300_000  # more than one block of the CSV reader
    stamps = pd.date_range("2000-01-01", periods=n, freq="min").astype(str)
    rows = [f"{stamp},1,{i % 50 / 4}" for i, stamp in enumerate(stamps[:-1])] + [f"{stamps[-1]},1,cheap"]
    (tmp_path / "s.csv").write_text("\n".join(["timestamp,target,price", *rows]))
    with pytest.raises(UserError, match=f"row {n} .*price.*cheap"):
        open_table(tmp_path / "s.csv", tmp_path / "c", Variates(("target",), ("price",)))


@pytest.mark.parametrize(
    "texts", [["10%", "20%", "5%"], ["$1", "$2.50", "3"], ["10%", "", "0"], ["1 €", "2 €", "none"]]
)
def test_numbers_with_a_unit_are_no_categories(tmp_path, texts):
    rows = "".join(f"a,2024-01-0{day},{day},{text}\n" for day, text in enumerate(texts, 1))
    (tmp_path / "series.csv").write_text("item_id,timestamp,target,promo\n" + rows)
    with pytest.raises(UserError, match=re.escape(texts[0])):
        open_source(tmp_path / "series.csv", tmp_path / "cache", past_covariates="promo")


@pytest.mark.parametrize("n_targets", [1, 2])
def test_categories_are_encoded_as_chronos_2_preprocesses_them(n_targets):
    from chronos.chronos2 import preprocess

    rng = np.random.default_rng(0)
    target = rng.normal(10, 3, 40).astype(np.float32)
    target[[3, 7]] = np.nan
    names = np.array(["b", "a", "c"])
    codes = rng.integers(0, 3, 40)
    text = names[codes].astype(object)
    text[[5, 6]] = None
    later = np.array(["a", "z", None, "c"], object)
    variates = Variates(("y", "x")[:n_targets], (), ("k",), {"k": tuple(names)})
    past = np.stack([*[target] * n_targets, np.where(pd.isna(text), np.nan, codes)]).astype(np.float32)
    future = np.full((n_targets + 1, 4), np.nan, np.float32)
    future[-1] = [1, -1, np.nan, 2]
    item = {
        "target": np.stack([target] * n_targets) if n_targets > 1 else target,
        "past_covariates": {"k": text},
        "future_covariates": {"k": later},
    }
    expected = preprocess.from_list_of_dicts([item], prediction_length=4)[0]
    encoded_past, encoded_future = encode_categories(past[None], future[None], variates)
    np.testing.assert_allclose(encoded_past[0], expected["context"].numpy(), rtol=1e-5)
    np.testing.assert_allclose(encoded_future[0], expected["future_covariates"].numpy(), rtol=1e-5)
