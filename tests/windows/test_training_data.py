"""What each family's model is fed, against the reference done one window at a time."""

import dataclasses

import numpy as np
import pytest
import torch
from chronos import ChronosConfig
from gluonts.transform import LastValueImputation

from pipeline.core.errors import UserError
from pipeline.models.checkpoint import read_checkpoint
from pipeline.models.create import scratch_model
from pipeline.models.load import read_model
from pipeline.windows.inputs import inputs_of
from pipeline.windows.tokens import Tokens

NAN = float("nan")
CONTEXT = torch.tensor(
    [
        [NAN, NAN, 1.0, 2.0, 4.0, 3.0, NAN, 5.0],
        [5.0, 1.0, 2.0, 9.0, 4.0, 3.0, 2.0, 6.0],
        [NAN, NAN, NAN, NAN, NAN, NAN, 3.0, 1.0],
        [-5.0, 500.0, 2.0, NAN, NAN, 3.0, 2.0, 0.0],
    ]
)
TARGET = torch.tensor([[1.0, 2.0, NAN], [4.0, 5.0, 6.0], [NAN, 2.0, 2.0], [9999.0, NAN, NAN]])


def tokenizer(config, prediction_length):
    return ChronosConfig(**dict(config, prediction_length=prediction_length)).create_tokenizer()


def test_seq2seq_inputs_are_those_of_the_stock_tokenizer_window_by_window(nano):
    config = read_checkpoint(nano["t5"]).config["chronos_config"]
    inputs = inputs_of("t5", config, 3)(CONTEXT.clone(), TARGET.clone())
    stock = tokenizer(config, 3)
    for row in range(len(CONTEXT)):
        ids, mask, scale = stock.context_input_transform(CONTEXT[row : row + 1])
        labels, known = stock.label_input_transform(TARGET[row : row + 1], scale)
        labels[~known] = -100
        assert torch.equal(inputs["input_ids"][row], ids[0]) and torch.equal(inputs["attention_mask"][row], mask[0])
        assert torch.equal(inputs["labels"][row], labels[0])
    assert inputs["labels"].shape == (4, 4) and (inputs["labels"][:, -1] == config["eos_token_id"]).all()


def test_causal_inputs_are_shifted_to_the_left_filled_and_masked(nano):
    config = read_checkpoint(nano["gpt2"]).config["chronos_config"]
    inputs = inputs_of("gpt2", config, 3)(CONTEXT.clone(), TARGET.clone())
    stock, impute = tokenizer(config, 3), LastValueImputation()
    for row in range(len(CONTEXT)):
        window = torch.cat([CONTEXT[row], TARGET[row]])
        begin = int((~window.isnan()).int().argmax())
        filled = torch.from_numpy(impute(window[begin:].numpy().copy()))
        ids, _, scale = stock.context_input_transform(filled[None, :-3])
        horizon, _ = stock.label_input_transform(filled[None, -3:], scale)
        expected = torch.cat([ids[0], horizon[0]])
        length = len(expected)
        assert torch.equal(inputs["input_ids"][row, :length], expected)
        assert (inputs["input_ids"][row, length:] == config["pad_token_id"]).all()
        assert inputs["attention_mask"][row].tolist() == [True] * length + [False] * begin
        known = torch.cat([~window[begin:].isnan(), torch.tensor([True])])
        assert torch.equal(inputs["labels"][row, :length], torch.where(known, expected, -100))
        assert (inputs["labels"][row, length:] == -100).all()


@pytest.mark.parametrize("family", ["t5", "bolt", "chronos-2"])
def test_padding_changes_no_loss(nano, family):
    model = read_model(nano[family]).eval()
    make = inputs_of(family, read_checkpoint(nano[family]).config["chronos_config"], 3)
    padded = torch.cat([torch.full((4, 32), NAN), CONTEXT], dim=1)
    with torch.no_grad():
        losses = [model(**make(context.clone(), TARGET.clone())).loss.item() for context in (CONTEXT, padded)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and np.isfinite(losses[0])


def test_a_masked_target_adds_nothing_to_the_loss_of_bolt(nano):
    model = read_model(nano["bolt"]).eval()
    make = inputs_of("bolt", read_checkpoint(nano["bolt"]).config["chronos_config"], 3)
    with torch.no_grad():
        whole = model(**make(CONTEXT[:2].clone(), TARGET[:2].clone())).loss
        masked = torch.cat([TARGET[:2], torch.full((2, 3), NAN)])
        more = model(**make(torch.cat([CONTEXT[:2]] * 2), masked)).loss
    torch.testing.assert_close(more, whole / 2)


def test_computed_tokens_are_those_that_the_stock_tokenizer_finds():
    config = ChronosConfig(**scratch_model("t5-nano", 0).config.chronos_config)
    stock, ours = config.create_tokenizer(), Tokens(config)
    edges = stock.boundaries[1:-1]
    beside = [edges, torch.nextafter(edges, torch.tensor(-99.0)), torch.nextafter(edges, torch.tensor(99.0))]
    generator = torch.Generator().manual_seed(0)
    rows = [part[:512] for part in beside] + [part[-512:] for part in beside]
    rows += list(torch.randn(20, 512, generator=generator) * torch.logspace(-12, 12, 20)[:, None])
    rows += list(torch.randn(5, 512, generator=generator).cumsum(1).round())
    values = torch.stack(rows)
    values[torch.rand(values.shape, generator=generator) < 0.1] = torch.nan
    values[-1], values[-2], values[-3, 0] = 0.0, torch.nan, 1e30
    expected, known, scale = stock.context_input_transform(values)
    ids, ours_known = ours.of(values.numpy(), ours.scale(values))
    assert np.array_equal(ours.scale(values), scale.numpy()) and np.array_equal(ours_known, known[:, :-1].numpy())
    assert np.array_equal(ids, expected[:, :-1].numpy())
    ones = torch.ones(len(values))
    for first in (0, 64, 448):
        labels, _ = stock.label_input_transform(values[:, first : first + 64], ones)
        assert np.array_equal(ours.of(values[:, first : first + 64].numpy(), ones.numpy())[0], labels[:, :-1].numpy())


def test_another_tokenizer_is_refused():
    config = ChronosConfig(**scratch_model("t5-nano", 0).config.chronos_config)
    with pytest.raises(UserError, match="Words"):
        Tokens(dataclasses.replace(config, tokenizer_class="Words"))
