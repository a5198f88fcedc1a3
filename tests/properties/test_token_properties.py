"""Tokens of any values equal those of Chronos's own tokenizer, and stand for the values to half a bin."""

import numpy as np
import torch
from chronos import ChronosConfig
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.tokens import TOKEN_CONFIG

from pipeline.windows.inputs import input_function
from pipeline.windows.tokenizer import Tokenizer

HORIZON = 4
numbers = (
    st.floats(-1e18, 1e18).map(np.float32)
    | st.just(np.nan)
    | st.floats(-100, 100, width=32)
    | st.integers(-9, 9).map(float)
)
rows = st.sampled_from([np.nan, 0.0, 1.0, 1e18, 1e-18, 1e-45]) | numbers


@st.composite
def configs(draw):
    """A configuration with few or many bins, between limits that need not be symmetric."""
    n_special = draw(st.integers(2, 5))
    limits = {"low_limit": draw(st.floats(-30, -1)), "high_limit": draw(st.floats(1, 30))}
    changes = {"n_tokens": n_special + draw(st.integers(4, 5000)), "n_special_tokens": n_special}
    return ChronosConfig(**{**TOKEN_CONFIG, **changes, "prediction_length": HORIZON, "tokenizer_kwargs": limits})


def arrays(length):
    """Up to six rows of arbitrary values, rows of one value among them."""
    shape = st.tuples(st.integers(1, 6), length)
    return shape.flatmap(lambda s: hnp.arrays(np.float32, s, elements=numbers, fill=rows)).map(torch.from_numpy)


def encode(config, values, scale):
    return [torch.from_numpy(part) for part in Tokenizer(config).encode(values.numpy().copy(), scale)]


@given(configs(), arrays(st.integers(1, 40)))
def test_contexts_have_the_tokens_of_the_stock_tokenizer(config, context):
    expected, known, scale = config.create_tokenizer()._input_transform(context.clone())
    found = Tokenizer.scale(context.clone())
    np.testing.assert_array_equal(found, scale)
    ids, mask = encode(config, context, found)
    assert torch.equal(ids, expected) and torch.equal(mask, known)


@given(configs(), arrays(st.just(HORIZON)), st.floats(2.0**-30, 2.0**60, width=32))
def test_horizons_have_the_labels_of_the_stock_tokenizer(config, horizon, factor):
    scale = torch.full((len(horizon),), factor)
    labels, known = config.create_tokenizer().label_input_transform(horizon.clone(), scale)
    ids, mask = encode(config, horizon, scale.numpy())
    assert torch.equal(ids, labels[:, :-1]) and torch.equal(mask, known[:, :-1])


@given(configs(), st.data())
def test_values_at_the_boundaries_of_bins_have_the_stock_tokens(config, data):
    stock = config.create_tokenizer()
    edges = stock.boundaries[1:-1]
    chosen = edges[data.draw(st.lists(st.integers(0, len(edges) - 1), min_size=1, max_size=30))]
    infinity = torch.tensor(torch.inf)
    values = torch.stack([chosen, torch.nextafter(chosen, infinity), torch.nextafter(chosen, -infinity)])
    expected, _, _ = stock._input_transform(values, torch.ones(3))
    assert torch.equal(encode(config, values, np.ones(3, np.float32))[0], expected)


@given(configs(), hnp.arrays(np.float32, (3, 20), elements=st.floats(-1e6, 1e6, width=32)).map(torch.from_numpy))
def test_the_stock_decoder_gives_values_back_to_half_a_bin(config, values):
    stock, scale = config.create_tokenizer(), Tokenizer.scale(values.clone())
    ids, _ = encode(config, values, scale)
    decoded = stock.output_transform(ids[:, None], torch.from_numpy(scale))[:, 0]
    low, high = stock.centers[[0, -1]].tolist()
    error = np.abs(decoded.numpy() - values.numpy().clip(low * scale[:, None], high * scale[:, None]))
    half_bin = (high - low) / (len(stock.centers) - 1) / 2
    assert (error <= scale[:, None] * (half_bin + 1e-5)).all()  # float32 has steps of 2e-6 at 30


@given(configs(), arrays(st.integers(2, 30)), st.data())
def test_inputs_of_a_t5_equal_the_stock_transforms(config, context, data):
    shape = len(context), HORIZON
    horizon = torch.from_numpy(data.draw(hnp.arrays(np.float32, shape, elements=numbers, fill=rows)))
    stock = config.create_tokenizer()
    ids, mask, scale = stock.context_input_transform(context.clone())
    labels, known = stock.label_input_transform(horizon.clone(), scale)
    labels[~known | ~known[:, :-1].any(dim=1, keepdim=True)] = -100  # nothing is learned from a horizon without a value
    inputs = input_function("t5", config.__dict__, HORIZON)(context.clone(), horizon.clone())
    assert torch.equal(inputs["input_ids"], ids) and torch.equal(inputs["attention_mask"], mask)
    assert torch.equal(inputs["labels"], labels)
