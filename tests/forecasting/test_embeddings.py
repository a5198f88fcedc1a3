"""Embeddings: those of a plain loop over the stock pipelines, whatever else is in the batch."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from chronos import BaseChronosPipeline
from support.series import long_frame
from support.shops import KNOWN, shops

from pipeline.config import Config, InferenceConfig, PathsConfig
from pipeline.core.errors import UserError
from pipeline.data.arrow_store import store_from_arrays
from pipeline.forecasting import embeddings
from pipeline.load_model import ChronosLoader

RNG = np.random.default_rng(4)
GAPS = RNG.normal(5, 2, 70).astype(np.float32)
GAPS[20:52] = np.nan
GAPS[60] = np.nan
ARRAYS = [GAPS, *(RNG.normal(0, 1, length).astype(np.float32) for length in (1, 33, 64, 200, 15))]
N_SPECIAL = {"t5": 1, "bolt": 1, "chronos-2": 2}
"""Tokens at the end of the stock embeddings that stand for no steps."""
PATCH = {"t5": 1, "bolt": 16, "chronos-2": 16}


def loader(folder, **inference) -> Any:
    model = ChronosLoader(str(folder), config=Config(inference=InferenceConfig(**inference)))
    model.load_trained_model()
    return model


def plain(stock, family, values):
    """The embeddings of the tokens with a known value of one series, alone: {token: vector}."""
    values = values[-64:]
    embedded = stock.embed([torch.tensor(values)])[0][0]
    tokens = (embedded[0] if family == "chronos-2" else embedded)[: -N_SPECIAL[family]]
    padded = [np.nan] * (-len(values) % PATCH[family]) + values.tolist()
    assert len(padded) == len(tokens) * PATCH[family]
    found = {}
    for number, token in enumerate(tokens):
        if not np.isnan(padded[number * PATCH[family] : (number + 1) * PATCH[family]]).all():
            found[number] = token.numpy()
    return found


@pytest.mark.parametrize("family", ["t5", "bolt", "chronos-2"])
def test_embeddings_are_those_of_stock_pipelines_alone(tiny, family):
    stock = BaseChronosPipeline.from_pretrained(tiny[family])
    store = store_from_arrays(ARRAYS, "D")
    by_patch, pooled = (loader(tiny[family], batch_size=4).embed(store, pooling) for pooling in ("none", "mean"))
    assert list(pooled) == ["item_id", "target_name", "embedding"] and pooled["item_id"].tolist() == list("012345")
    for number, values in enumerate(ARRAYS):
        expected = plain(stock, family, values)
        rows = by_patch[by_patch["item_id"] == str(number)]
        assert rows["patch"].tolist() == list(expected)
        found = np.stack(rows["embedding"])
        np.testing.assert_allclose(found, np.stack(list(expected.values())), rtol=1e-3, atol=1e-5)
        mean = np.mean(list(expected.values()), axis=0)
        np.testing.assert_allclose(pooled["embedding"][number], mean, rtol=1e-3, atol=1e-5)
    gap = by_patch[by_patch["item_id"] == "0"]["patch"]
    assert set(range(gap.max() + 1)) - set(gap)  # of the missing steps


def test_a_shorter_context_embeds_the_last_steps(tiny):
    short = loader(tiny["bolt"], context_length=20).embed(store_from_arrays(ARRAYS))
    cut = loader(tiny["bolt"]).embed(store_from_arrays([values[-20:] for values in ARRAYS]))
    np.testing.assert_allclose(np.stack(short["embedding"]), np.stack(cut["embedding"]), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("targets", [["sold"], ["sold", "visits"]])
def test_variates_of_an_item_see_each_other_and_targets_are_embedded(tiny, tmp_path, targets):
    past, _ = shops(3)
    covariates = [name for name in ("visits",) if name not in targets]
    data = replace(Config().data, target=targets, past_covariates=covariates, known_covariates=["price"])
    model = loader(tiny["chronos-2"])
    model.config = Config(data=data, paths=PathsConfig(str(tmp_path)))
    found = model.embed(past)
    assert found["target_name"].tolist() == 3 * targets
    stock = BaseChronosPipeline.from_pretrained(tiny["chronos-2"])
    for number, (_, rows) in enumerate(past.groupby("item_id")):
        variates = torch.tensor(rows[[*targets, *covariates, "price"]].to_numpy(np.float32).T[:, -64:])
        [expected] = stock.embed([variates])[0]
        for position in range(len(targets)):
            vector = found["embedding"][number * len(targets) + position]
            np.testing.assert_allclose(vector, expected[position, :-2].mean(0).numpy(), rtol=1e-3, atol=1e-5)
    with_words = replace(data, known_covariates=KNOWN)
    model.config = replace(model.config, data=with_words)
    assert np.isfinite(np.stack(model.embed(past)["embedding"])).all()


def test_a_file_is_written_in_parts_with_the_names_of_the_columns(tiny, tmp_path, monkeypatch):
    frame = long_frame(n_series=7).rename(columns={"item_id": "shop"})
    frame.loc[frame["shop"] == "item2", "target"] = np.nan
    model = loader(tiny["bolt"])
    model.config = replace(model.config, data=replace(model.config.data, id_column="shop"))
    expected = model.embed(frame)
    monkeypatch.setattr(embeddings, "_ITEMS_PER_PART", 3)
    path = model.embed(frame, output_path=str(tmp_path / "e.parquet"))
    assert pq.ParquetFile(path).num_row_groups == 3
    found = pd.read_parquet(path)
    assert list(found) == ["shop", "target_name", "embedding"]
    np.testing.assert_allclose(np.stack(found["embedding"]), np.stack(expected["embedding"]), rtol=1e-4, atol=1e-6)
    assert np.isnan(found["embedding"][2]).all() and np.isfinite(np.stack(found["embedding"].drop(2))).all()
    by_patch = model.embed(frame, "none")
    assert set(by_patch["shop"]) == {f"item{k}" for k in (0, 1, 3, 4, 5, 6)}


@pytest.mark.parametrize("family, arguments, fact", [
    ("gpt2", {}, "no encoder"),
    ("bolt", {"pooling": "max"}, "pooling"),
    ("bolt", {"output_path": "e.csv"}, ".parquet"),
])  # fmt: skip
def test_what_cannot_be_embedded_is_refused(tiny, family, arguments, fact):
    with pytest.raises(UserError, match=fact):
        loader(tiny[family]).embed(store_from_arrays(ARRAYS), **arguments)
