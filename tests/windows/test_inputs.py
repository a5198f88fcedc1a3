"""Model inputs of each family, against the stock tokenizer on one window at a time, and against losses."""

import numpy as np
import pytest
import torch
from chronos import ChronosConfig
from gluonts.transform import LastValueImputation
from support.tokens import TOKEN_CONFIG

from pipeline.models.checkpoint import read_checkpoint
from pipeline.models.load import read_model
from pipeline.windows.inputs import input_function, pad_contexts

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


def stock_tokenizer(model_type):
    return ChronosConfig(**dict(TOKEN_CONFIG, prediction_length=3, model_type=model_type)).create_tokenizer()


def test_t5_inputs_equal_those_of_the_stock_tokenizer():
    stock = stock_tokenizer("seq2seq")
    inputs = input_function("t5", TOKEN_CONFIG, 3)(CONTEXT.clone(), TARGET.clone())
    for row in range(len(CONTEXT)):
        ids, mask, scale = stock.context_input_transform(CONTEXT[row : row + 1])
        labels, known = stock.label_input_transform(TARGET[row : row + 1], scale)
        labels[~known] = -100
        assert torch.equal(inputs["input_ids"][row], ids[0]) and torch.equal(inputs["attention_mask"][row], mask[0])
        assert torch.equal(inputs["labels"][row], labels[0])
    assert inputs["labels"].shape == (4, 4) and (inputs["labels"][:, -1] == TOKEN_CONFIG["eos_token_id"]).all()


def test_gpt2_inputs_are_filled_masked_and_padded_on_the_right():
    inputs = input_function("gpt2", TOKEN_CONFIG, 3)(CONTEXT.clone(), TARGET.clone())
    stock, impute = stock_tokenizer("causal"), LastValueImputation()
    for row in range(len(CONTEXT)):
        window = torch.cat([CONTEXT[row], TARGET[row]])
        begin = int((~window.isnan()).int().argmax())
        filled = torch.from_numpy(impute(window[begin:].numpy().copy()))
        ids, _, scale = stock.context_input_transform(filled[None, :-3])
        horizon, _ = stock.label_input_transform(filled[None, -3:], scale)
        expected = torch.cat([ids[0], horizon[0]])
        length = len(expected)
        assert torch.equal(inputs["input_ids"][row, :length], expected)
        assert (inputs["input_ids"][row, length:] == TOKEN_CONFIG["pad_token_id"]).all()
        assert inputs["attention_mask"][row].tolist() == [True] * length + [False] * begin
        known = torch.cat([~window[begin:].isnan(), torch.tensor([True])])
        assert torch.equal(inputs["labels"][row, :length], torch.where(known, expected, -100))
        assert (inputs["labels"][row, length:] == -100).all()


@pytest.mark.parametrize("family", ["t5", "gpt2"])
def test_a_window_without_a_known_target_has_no_labels(family):
    inputs = input_function(family, TOKEN_CONFIG, 3)(CONTEXT.clone(), torch.full((4, 3), NAN))
    assert (inputs["labels"] == -100).all()


@pytest.mark.parametrize("family", ["t5", "bolt", "chronos-2"])
def test_padding_does_not_change_the_loss(tiny, family):
    model = read_model(tiny[family]).eval()
    to_inputs = input_function(family, read_checkpoint(tiny[family]).config["chronos_config"], 3)
    with torch.no_grad():
        losses = [
            model(**function(CONTEXT.clone(), TARGET.clone())).loss.item()
            for function in (to_inputs, pad_contexts(40, to_inputs))
        ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and np.isfinite(losses[0])


def test_a_masked_target_adds_nothing_to_the_loss_of_bolt(tiny):
    model = read_model(tiny["bolt"]).eval()
    to_inputs = input_function("bolt", read_checkpoint(tiny["bolt"]).config["chronos_config"], 3)
    with torch.no_grad():
        loss = model(**to_inputs(CONTEXT[:2].clone(), TARGET[:2].clone())).loss
        masked = torch.cat([TARGET[:2], torch.full((2, 3), NAN)])
        half_masked_loss = model(**to_inputs(torch.cat([CONTEXT[:2]] * 2), masked)).loss
    torch.testing.assert_close(half_masked_loss, loss / 2)
