"""Embeddings: the encoder's vectors of every series, pooled or by patch, by the `embed` of the stock pipelines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from pipeline.core.errors import UserError
from pipeline.data.arrow_store import Store
from pipeline.data.covariates import encode_categories
from pipeline.forecasting.request import Request, check_variates

if TYPE_CHECKING:
    from pipeline.forecasting.forecaster import Forecaster

Pooling = Literal["mean", "none"]
_VALUES_PER_PART = 1 << 23
"""Maximum number of values of a part: 32 MiB of float32."""
_ITEMS_PER_PART = 4096


def embed_store(forecaster: Forecaster, store: Store, request: Request, pooling: Pooling) -> Iterator[pa.Table]:
    """Embed every item of a store, in its order, and yield a table for each part.

    A token is a patch of Bolt and Chronos-2, and a step of T5. Only tokens with a known value count: padding and gaps
    have none, and the end of sequence of T5, [REG] of Bolt and Chronos-2, and the masked future patch of Chronos-2 are
    the same symbol for every series. Several targets and the covariates of an item see each other, as in stock `embed`
    of an array of variates; the targets are embedded.

    Args:
        request: names of the columns, context length and batch size.
        pooling: mean of the tokens, or none for a row for each of them.

    Returns:
        item ID under the name of the request, `target_name`, `patch` with pooling none (the number of the token in the
        context, from 0), and `embedding`, a list of d_model values; a row for each item and target, NaN without any
        known value, or a row for each token.

    Raises:
        UserError: the model has no encoder, or does not take a variate of the data.
    """
    import torch

    model: Any = forecaster.pipeline.inner_model
    is_exported = not isinstance(model, torch.nn.Module)
    if forecaster.family == "gpt2" or is_exported:
        raise UserError(f"{forecaster.model} has no encoder to embed with; use a T5, Bolt or Chronos-2 checkpoint")
    check_variates(forecaster, store)
    if taken := {"target_name", "patch", "embedding"} & {request.id_name}:
        raise UserError(f"the table of embeddings has two columns {taken.pop()!r}; rename the column of your series")
    width: int = min(request.context_length or forecaster.context_length, forecaster.context_length)
    n_tokens = 1 if pooling == "mean" else -(-width // _patch_size(forecaster))
    values_per_item = len(store.variates.targets) * n_tokens * int(model.config.to_dict()["d_model"])
    size = max(1, min(_ITEMS_PER_PART, _VALUES_PER_PART // values_per_item))
    for first in range(0, len(store), size):
        items = np.arange(first, min(first + size, len(store)))
        tokens: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0), np.empty(0))] * len(items)
        by_length = np.argsort(np.minimum(store.lengths[items], width), kind="stable")  # keeps padding short
        for begin in range(0, len(items), request.batch_size):
            rows = by_length[begin : begin + request.batch_size].tolist()
            histories = [_history(store, int(items[row]), width) for row in rows]
            for row, embedded in zip(rows, _embed(forecaster, histories, len(store.variates.targets))):
                tokens[row] = _mean(*embedded) if pooling == "mean" else embedded
        store.release_pages()
        yield _table(store, items, tokens, request, pooling)


def _history(store: Store, item: int, width: int) -> np.ndarray:
    """Return the variates of an item with numbers for categories: float32, [n_variates, at most width]."""
    rows = store.rows(item)[None, :, -width:]
    return encode_categories(rows, rows[:, :, :0], store.variates)[0][0].astype(np.float32)


def _embed(
    forecaster: Forecaster, histories: Sequence[np.ndarray], n_targets: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the embeddings of the tokens of each item's targets, and which tokens have a known value.

    Returns:
        float32, [n_targets, n_tokens, d_model], and bool, [n_targets, n_tokens], for each item.
    """
    import torch

    pipeline: Any = forecaster.pipeline
    chronos = pipeline.inner_model.config.to_dict()["chronos_config"]
    tensors = [torch.from_numpy(history) for history in histories]
    if forecaster.family == "chronos-2":
        embedded, _ = pipeline.embed(tensors, batch_size=sum(map(len, tensors)))
        n_special = 1 + chronos["use_reg_token"]
    else:
        embedded = pipeline.embed([tensor[0] for tensor in tensors])[0][:, None]  # [n, 1, n_tokens, d_model]
        n_special = int(chronos["use_reg_token" if forecaster.family == "bolt" else "use_eos_token"])
    size, results = _patch_size(forecaster), []
    for tensor, history in zip(embedded, histories):
        padding = np.full((n_targets, -history.shape[1] % size), np.nan, np.float32)
        patches = np.concatenate([padding, history[:n_targets]], axis=1).reshape(n_targets, -1, size)
        values = tensor.float().numpy()[:n_targets, : tensor.shape[1] - n_special]
        # Shorter items of a batch are padded on the left.
        results.append((values[:, values.shape[1] - patches.shape[1] :], ~np.isnan(patches).all(axis=2)))
    return results


def _patch_size(forecaster: Forecaster) -> int:
    """Return the number of steps of a token."""
    return forecaster.pipeline.inner_model.config.to_dict()["chronos_config"].get("input_patch_size", 1)


def _mean(values: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of the known tokens of each target, NaN without any: [n_targets, 1, d_model]."""
    counts = known.sum(axis=1)[:, None]
    sums = np.where(known[..., None], values, 0).sum(axis=1)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)
    return means[:, None], np.ones((len(means), 1), bool)


def _table(
    store: Store, items: np.ndarray, tokens: list[tuple[np.ndarray, np.ndarray]], request: Request, pooling: Pooling
) -> pa.Table:
    """Return the known tokens of some items, in the format of `embed_store`."""
    targets = list(request.target_names or store.variates.targets)
    counts = np.concatenate([known.sum(axis=1) for _, known in tokens])  # [n_items x n_targets]
    vectors = np.concatenate([values[known] for values, known in tokens])
    columns: dict[str, Any] = {
        request.id_name: np.repeat([store.item_ids[item] for item in items.tolist()], len(targets)).repeat(counts),
        "target_name": np.tile(targets, len(items)).repeat(counts),
    }
    if pooling == "none":
        columns["patch"] = np.concatenate([np.nonzero(known)[1] for _, known in tokens])
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
    return pa.table(columns)
