"""Dropout for training on a CPU, where the stock one takes a quarter of a step and its attention another.

A value is dropped where a random byte says so, eight bytes a random number; and T5's attention works on one window after the
other, so that its weights, the largest arrays of a step, stay in the processor's cache from one operation to the next.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask
from transformers.models.t5.modeling_t5 import eager_attention_forward

_BYTE = 256
_ATTENTION = "windowed_dropout"


def with_fast_dropout(model: Any) -> None:
    """Let a model drop out by random bytes, and T5's attention go window by window."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = ByteDropout
    if getattr(model.config, "dropout_rate", 0.0) > 0 and model.config.model_type == "t5":
        AttentionInterface.register(_ATTENTION, _t5_attention)
        AttentionMaskInterface.register(_ATTENTION, eager_mask)
        model.set_attn_implementation(_ATTENTION)


class ByteDropout(nn.Dropout):
    """Dropout whose probability is a whole number of 256ths: 0.1 becomes 26 / 256."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Zero a random share of the values and scale the others up, while training."""
        dropped = round(self.p * _BYTE)
        if not self.training or dropped == 0:
            return input
        return input * _kept(input.shape, dropped).to(input.dtype).mul_(_scale(dropped))


class DroppedAttention(torch.autograd.Function):
    """dropout(softmax(Q K' + bias + mask)) V, one window after the other.

    Shapes: query [n, heads, length, d], key and value [n, heads, m, d], bias [1 or n, heads, length, m], mask [1 or n, 1,
    1 or length, m]; `dropped` is the probability in 256ths.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> torch.Tensor:
        """Return the attended values, [n, heads, length, d]."""
        query, key, value, bias, mask, dropped = inputs
        n, heads, length, _ = query.shape
        out = torch.empty_like(query)
        weights = torch.empty(n, heads, length, key.shape[2], dtype=value.dtype)
        kept = torch.empty(weights.shape, dtype=torch.bool)
        for i in range(n):
            scores = torch.matmul(query[i], key[i].transpose(1, 2)) + bias[i % len(bias)]
            weights[i] = scores.add_(mask[i % len(mask)]).softmax(dim=-1)
            kept[i] = _kept(scores.shape, dropped)
            torch.matmul(weights[i] * kept[i], value[i], out=out[i])
        ctx.save_for_backward(query, key, value, weights, kept)
        ctx.scale, ctx.bias_like = _scale(dropped), torch.empty_like(bias, device="meta")
        return out.mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """Return the gradients of all inputs."""
        query, key, value, weights, kept = ctx.saved_tensors
        gradient = gradients[0].to(value.dtype) * ctx.scale
        of_query, of_key, of_value = (torch.empty_like(one) for one in (query, key, value))
        of_bias = torch.zeros_like(ctx.bias_like, device="cpu") if ctx.needs_input_grad[3] else None
        for i in range(len(query)):
            torch.matmul((weights[i] * kept[i]).transpose(1, 2), gradient[i], out=of_value[i])
            of_weights = torch.matmul(gradient[i], value[i].transpose(1, 2)).mul_(kept[i])
            # The softmax's own gradient, w (g - sum(w g)); a sum of many small numbers wants full precision.
            weighted = of_weights.to(ctx.bias_like.dtype).mul_(weights[i])
            of_full = weighted.sub_(weighted.sum(dim=-1, keepdim=True) * weights[i])
            of_scores = of_full.to(value.dtype)
            torch.matmul(of_scores, key[i], out=of_query[i])
            torch.matmul(of_scores.transpose(1, 2), query[i], out=of_key[i])
            if of_bias is not None:
                of_bias[i % len(of_bias)] += of_full
        return of_query, of_key, of_value, of_bias, None, None


def _t5_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    position_bias: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attend as T5 does, whose scores are not scaled, to [n, length, heads, d]."""
    dropped = round(dropout * _BYTE)
    if dropped == 0:
        return eager_attention_forward(
            module, query, key, value, attention_mask, position_bias=position_bias, dropout=0.0, **kwargs
        )
    assert position_bias is not None
    mask = position_bias.new_zeros(1, 1, 1, 1) if attention_mask is None else attention_mask
    attended = DroppedAttention.apply(query, key, value, position_bias, mask, dropped)
    return attended.transpose(1, 2).contiguous(), None


def _kept(shape: torch.Size, dropped: int) -> torch.Tensor:
    """Return which values are kept, at random: bool."""
    n = shape.numel()
    words = torch.empty(-(-n // 8), dtype=torch.int64).random_(-(1 << 63), (1 << 63) - 1)
    return (words.view(torch.uint8)[:n] >= dropped).view(shape)


def _scale(dropped: int) -> float:
    return _BYTE / (_BYTE - dropped)
