"""Chronos-Bolt's attention in fewer operations, for training on a CPU.

The decoder has one token, and the encoder's query, key and value are products of one input. Results equal those of the
stock layers up to rounding, and the weights stay the same.
"""

from __future__ import annotations

from typing import Any

import torch
from chronos.chronos_bolt import ChronosBoltModelForForecasting
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.t5.modeling_t5 import T5Attention, eager_attention_forward

AttentionOutput = tuple[torch.Tensor, torch.Tensor | None, None]
"""Values of each token [n, length, d_model], position bias for the next layer, and no attention weights."""


def use_bolt_attention(model: ChronosBoltModelForForecasting) -> None:
    """Replace the attention layers of a model; those with low-rank adapters on their products stay as they are."""
    for block in model.encoder.block:
        _replace_class(block.layer[0].SelfAttention, FusedSelfAttention)
    for block in model.decoder.block:
        block.layer[0].SelfAttention.__class__ = SingleTokenSelfAttention
        _replace_class(block.layer[1].EncDecAttention, SingleQueryCrossAttention)


class SingleTokenSelfAttention(T5Attention):
    """Self-attention of one token: its weight is 1 for any query and key, so that the result is o(v(x))."""

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> AttentionOutput:
        """Return o(v(x)) of x [n, 1, d_model]; query and key weights get zero gradients, as in the stock layer."""
        unused = [*self.q.parameters(), *self.k.parameters()]
        if self.has_relative_attention_bias:
            unused += self.relative_attention_bias.parameters()
        value = ZeroGradients.apply(self.v(hidden_states), *unused)
        weight = _dropout(value.new_ones(len(value), 1, self.n_heads, 1), self)
        return self.o((value.unflatten(-1, (self.n_heads, -1)) * weight).flatten(-2)), None, None


class SingleQueryCrossAttention(T5Attention):
    """Cross-attention from one token: softmax(q K') V with K = X W_k' and V = X W_v', as softmax((q W_k) X') X W_v'.

    This needs no key and no value for each of the many encoder tokens X.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        mask: torch.Tensor | None = None,
        key_value_states: torch.Tensor | None = None,
        *_: Any,
        **__: Any,
    ) -> AttentionOutput:
        """Attend from x [n, 1, d_model] to key_value_states [n, m, d_model], with a mask [n, 1, 1, m]."""
        assert key_value_states is not None
        key_weight, value_weight = (
            layer.weight.unflatten(0, (self.n_heads, self.key_value_proj_dim)) for layer in (self.k, self.v)
        )
        query = self.q(hidden_states).view(-1, self.n_heads, self.key_value_proj_dim).transpose(0, 1)
        scores = torch.matmul(torch.matmul(query, key_weight).transpose(0, 1), key_value_states.transpose(1, 2))
        if mask is not None:
            scores = scores + mask.squeeze(1)
        weights = _dropout(scores.softmax(dim=-1), self)
        mixed = torch.matmul(weights, key_value_states).transpose(0, 1)
        value = torch.matmul(mixed, value_weight.transpose(1, 2)).transpose(0, 1)
        return self.o(value.reshape(len(hidden_states), 1, -1)), None, None


class FusedSelfAttention(T5Attention):
    """Self-attention that computes query, key and value in one product."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        mask: torch.Tensor | None = None,
        key_value_states: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        *_: Any,
        **__: Any,
    ) -> AttentionOutput:
        """Attend within x [n, length, d_model], with a mask [n, 1, 1, length]."""
        product = nn.functional.linear(hidden_states, torch.cat([self.q.weight, self.k.weight, self.v.weight]))
        query, key, value = product.unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        if position_bias is None:
            position_bias = self.compute_bias(hidden_states.shape[1], hidden_states.shape[1])
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        dropout = self.dropout if self.training else 0.0
        attended, *_ = attend(
            self, query, key, value, mask, dropout=dropout, scaling=self.scaling, position_bias=position_bias
        )
        return self.o(attended.flatten(-2)), position_bias, None


class ZeroGradients(torch.autograd.Function):
    """Return a value unchanged, with zero gradients for weights that it does not depend on.

    Optimizers and gradient reduction between processes expect a gradient for every weight.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> torch.Tensor:
        """Return the first input; the others are the weights."""
        value, *weights = inputs
        ctx.save_for_backward(*weights)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """Return the gradient of the value, and zeros for the weights that need a gradient."""
        needed = ctx.needs_input_grad[1:]
        zeros = (torch.zeros_like(weight) if need else None for weight, need in zip(ctx.saved_tensors, needed))
        return gradients[0], *zeros


def _replace_class(attention: T5Attention, replacement: type[T5Attention]) -> None:
    if all(type(layer) is nn.Linear for layer in (attention.q, attention.k, attention.v)):
        attention.__class__ = replacement


def _dropout(weights: torch.Tensor, attention: T5Attention) -> torch.Tensor:
    return nn.functional.dropout(weights, attention.dropout, attention.training)
