"""Chronos-Bolt's attention in fewer operations: its decoder has one token, and its encoder three products of one input.

The results are those of the stock layers but for rounding; the weights are theirs.
"""

from __future__ import annotations

from typing import Any

import torch
from chronos.chronos_bolt import ChronosBoltModelForForecasting
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.t5.modeling_t5 import T5Attention, eager_attention_forward

Attended = tuple[torch.Tensor, torch.Tensor | None, None]
"""The values of each token, [n, length, d_model], the position bias for the next layer, and no attention weights."""


def use_short_attention(model: ChronosBoltModelForForecasting) -> None:
    """Give a model's attention the shorter forms; products that low-rank adapters act on stay apart."""
    for block in model.encoder.block:
        _become(JointProjection, block.layer[0].SelfAttention)
    for block in model.decoder.block:
        block.layer[0].SelfAttention.__class__ = OnlyToken
        _become(OneQuery, block.layer[1].EncDecAttention)


class OnlyToken(T5Attention):
    """Self-attention of one token: its weight is 1 whatever query and key are, which leaves o(v(x))."""

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> Attended:
        """Return o(v(x)) of x [n, 1, d_model]; the weights of query and key have gradients of nought, as ever."""
        without_effect = [*self.q.parameters(), *self.k.parameters()]
        if self.has_relative_attention_bias:
            without_effect += self.relative_attention_bias.parameters()
        value = NoGradient.apply(self.v(hidden_states), *without_effect)
        weight = _dropped(value.new_ones(len(value), 1, self.n_heads, 1), self)
        return self.o((value.unflatten(-1, (self.n_heads, -1)) * weight).flatten(-2)), None, None


class OneQuery(T5Attention):
    """Cross-attention from one token, softmax(q K') V with K = X W_k' and V = X W_v', as softmax((q W_k) X') X W_v'.

    Neither keys nor values are made of the encoder's tokens X, which are many.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        mask: torch.Tensor | None = None,
        key_value_states: torch.Tensor | None = None,
        *_: Any,
        **__: Any,
    ) -> Attended:
        """Attend from x [n, 1, d_model] to key_value_states [n, m, d_model], with a mask [n, 1, 1, m]."""
        assert key_value_states is not None
        of_key, of_value = (
            one.weight.unflatten(0, (self.n_heads, self.key_value_proj_dim)) for one in (self.k, self.v)
        )
        query = self.q(hidden_states).view(-1, self.n_heads, self.key_value_proj_dim).transpose(0, 1)
        scores = torch.matmul(torch.matmul(query, of_key).transpose(0, 1), key_value_states.transpose(1, 2))
        if mask is not None:
            scores = scores + mask.squeeze(1)
        weights = _dropped(scores.softmax(dim=-1), self)
        mixed = torch.matmul(weights, key_value_states).transpose(0, 1)
        value = torch.matmul(mixed, of_value.transpose(1, 2)).transpose(0, 1)
        return self.o(value.reshape(len(hidden_states), 1, -1)), None, None


class JointProjection(T5Attention):
    """Self-attention whose query, key and value come of one product."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        mask: torch.Tensor | None = None,
        key_value_states: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        *_: Any,
        **__: Any,
    ) -> Attended:
        """Attend within x [n, length, d_model], with a mask [n, 1, 1, length]."""
        joint = nn.functional.linear(hidden_states, torch.cat([self.q.weight, self.k.weight, self.v.weight]))
        query, key, value = joint.unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        if position_bias is None:
            position_bias = self.compute_bias(hidden_states.shape[1], hidden_states.shape[1])
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        dropout = self.dropout if self.training else 0.0
        attended, *_ = attend(
            self, query, key, value, mask, dropout=dropout, scaling=self.scaling, position_bias=position_bias
        )
        return self.o(attended.flatten(-2)), position_bias, None


class NoGradient(torch.autograd.Function):
    """A value that weights have no part in, and gradients of nought for them: what trains them expects some."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> torch.Tensor:
        """Return the first of the inputs."""
        value, *weights = inputs
        ctx.save_for_backward(*weights)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """Return the value's gradient, and noughts."""
        needed = ctx.needs_input_grad[1:]
        return gradients[0], *(torch.zeros_like(one) if use else None for one, use in zip(ctx.saved_tensors, needed))


def _become(form: type[T5Attention], attention: T5Attention) -> None:
    if all(type(one) is nn.Linear for one in (attention.q, attention.k, attention.v)):
        attention.__class__ = form


def _dropped(weights: torch.Tensor, attention: T5Attention) -> torch.Tensor:
    return nn.functional.dropout(weights, attention.dropout, attention.training)
