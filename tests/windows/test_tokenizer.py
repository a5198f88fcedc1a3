"""Computed tokens against the stock tokenizer."""

import numpy as np
import pytest
import torch
from chronos import ChronosConfig
from support.tokens import TOKEN_CONFIG

from pipeline.core.errors import UserError
from pipeline.windows.tokenizer import Tokenizer


def test_tokens_equal_those_of_the_stock_tokenizer_also_at_the_boundaries():
    config = ChronosConfig(**TOKEN_CONFIG)
    stock, tokenizer = config.create_tokenizer(), Tokenizer(config)
    edges = stock.boundaries[1:-1]
    around = [edges, torch.nextafter(edges, torch.tensor(-99.0)), torch.nextafter(edges, torch.tensor(99.0))]
    generator = torch.Generator().manual_seed(0)
    rows = [part[:512] for part in around] + [part[-512:] for part in around]
    rows += list(torch.randn(20, 512, generator=generator) * torch.logspace(-12, 12, 20)[:, None])
    rows += list(torch.randn(5, 512, generator=generator).cumsum(1).round())
    values = torch.stack(rows)
    values[torch.rand(values.shape, generator=generator) < 0.1] = torch.nan
    values[-1], values[-2], values[-3, 0] = 0.0, torch.nan, 1e30
    expected, expected_known, expected_scale = stock.context_input_transform(values)
    scale = tokenizer.scale(values)
    ids, known = tokenizer.encode(values.numpy(), scale)
    np.testing.assert_array_equal(scale, expected_scale.numpy())
    np.testing.assert_array_equal(known, expected_known[:, :-1].numpy())
    np.testing.assert_array_equal(ids, expected[:, :-1].numpy())
    ones = torch.ones(len(values))
    for first in (0, 64, 448):
        horizon = values[:, first : first + 64]
        labels, _ = stock.label_input_transform(horizon, ones)
        np.testing.assert_array_equal(tokenizer.encode(horizon.numpy(), ones.numpy())[0], labels[:, :-1].numpy())


def test_another_tokenizer_is_refused_by_its_name():
    with pytest.raises(UserError, match="Words"):
        Tokenizer(ChronosConfig(**dict(TOKEN_CONFIG, tokenizer_class="Words")))
