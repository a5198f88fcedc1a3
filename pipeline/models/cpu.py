"""Faster layers for training on a CPU: dropout, attention, and the layer norm.

The stock dropout takes a quarter of a training step, and T5's attention another quarter (docs/design.md). Here dropout
compares random bytes, eight of them from one random number. Attention computes a few windows at a time, so that the
largest arrays of a step stay in the processor's cache. The layer norm passes through memory half as often.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from typing import Any

import torch
from chronos import Chronos2Model
from chronos.chronos2.layers import Chronos2LayerNorm
from chronos.chronos_bolt import ChronosBoltModelForForecasting
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, T5PreTrainedModel
from transformers.masking_utils import eager_mask
from transformers.models.t5.modeling_t5 import T5LayerNorm, eager_attention_forward

from pipeline.models.bolt_attention import use_bolt_attention
from pipeline.models.chronos2_attention import use_chronos2_attention

_BYTE_VALUES = 256
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt, from malloc.h."""
_KEPT_BYTES = 1 << 30
"""Freed memory below 1 GiB stays in the process: no array of a step is larger. The price is a larger resident size."""
_WEIGHTS_IN_CACHE = 1 << 20
"""Attention weights computed at a time: 4 MB of float32, which fit into the L2 or L3 cache of most processors."""
_ATTENTION = "windowed_dropout"
"""Name of the attention function in transformers' registry."""


def use_cpu_layers(model: Any) -> None:
    """Replace layers by the ones that train fastest on a CPU; the model's forecasts stay the same up to rounding."""
    _keep_freed_memory()
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = ByteDropout
        elif type(module) in (T5LayerNorm, Chronos2LayerNorm):
            module.__class__ = RMSNorm
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    if isinstance(model, Chronos2Model):
        use_chronos2_attention(model)
    if not isinstance(model, T5PreTrainedModel):
        return
    if model.config.dropout_rate > 0:
        AttentionInterface.register(_ATTENTION, _t5_attention)
        AttentionMaskInterface.register(_ATTENTION, eager_mask)
        model.set_attn_implementation(_ATTENTION)
    else:
        # The fused attention cannot differentiate a position bias, and falls back to a slower path.
        model.set_attn_implementation("eager")
    if isinstance(model, ChronosBoltModelForForecasting):
        use_bolt_attention(model)
        model.decoder.config.use_cache = False  # the decoder has one token: each step would fill a cache for nothing


class ByteDropout(nn.Dropout):
    """Dropout whose probability is rounded to 256ths: 0.1 becomes 26 / 256."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Set random values to zero and scale the others up, in training only."""
        dropped = round(self.p * _BYTE_VALUES)
        if not self.training or dropped == 0:
            return input
        return input * _keep_mask(input.shape, dropped).to(input.dtype).mul_(_dropout_scale(dropped))


class RMSNorm(nn.Module):
    """The layer norm of T5 and Chronos-2: x / sqrt(mean(x^2) + eps) times a weight, over the last dimension."""

    weight: nn.Parameter
    variance_epsilon: float

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the scaled values, float32, in the shape of `hidden_states`."""
        return RMSNormFunction.apply(hidden_states.float(), self.weight, self.variance_epsilon)


class RMSNormFunction(torch.autograd.Function):
    """w x r with r = (mean(x^2) + eps)^(-1/2), and its gradients r (w g - n mean(w g n)) and g n, where n = x r."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> torch.Tensor:
        """Return the scaled values of x [..., d], given x, w [d] and eps."""
        x, weight, eps = inputs
        root = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normed = x * root
        ctx.save_for_backward(normed, root, weight)
        return normed * weight

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """Return the gradients of all inputs."""
        normed, root, weight = ctx.saved_tensors
        (gradient,) = gradients
        product = gradient * normed
        weight_grad = product.flatten(0, -2).sum(dim=0) if ctx.needs_input_grad[1] else None
        negative_mean = torch.matmul(product, weight).div_(-len(weight)).unsqueeze(-1)
        return torch.addcmul(gradient * weight, normed, negative_mean, out=product).mul_(root), weight_grad, None


class DropoutAttention(torch.autograd.Function):
    """dropout(softmax(Q K' + bias + mask)) V, a few windows at a time.

    Args:
        query: [n, heads, length, d].
        key, value: [n, heads, m, d].
        bias: [1 or n, heads, length, m].
        mask: [1 or n, 1, 1 or length, m].
        dropped: dropout probability in 256ths.
        weights_at_once: number of attention weights computed at a time, rounded to whole windows, at least one window.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> torch.Tensor:
        """Return the attended values, [n, heads, length, d]."""
        query, key, value, bias, mask, dropped, weights_at_once = inputs
        out = torch.empty_like(query)
        weights = torch.empty(*query.shape[:3], key.shape[2], dtype=value.dtype)
        kept = torch.empty(weights.shape, dtype=torch.bool)
        ctx.windows_at_once = max(1, weights_at_once // weights[0].numel())
        for windows in _slices(len(weights), ctx.windows_at_once):
            scores = torch.matmul(query[windows], key[windows].transpose(2, 3)) + _select(bias, windows)
            weights[windows] = scores.add_(_select(mask, windows)).softmax(dim=-1)
            kept[windows] = _keep_mask(scores.shape, dropped)
            out[windows] = torch.matmul(weights[windows] * kept[windows], value[windows])
        ctx.save_for_backward(query, key, value, weights, kept)
        ctx.scale, ctx.bias_like = _dropout_scale(dropped), torch.empty_like(bias, device="meta")
        return out.mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """Return the gradients of all inputs."""
        query, key, value, weights, kept = ctx.saved_tensors
        gradient = gradients[0].to(value.dtype) * ctx.scale
        query_grad, key_grad, value_grad = (torch.empty_like(tensor) for tensor in (query, key, value))
        bias_grad = torch.zeros_like(ctx.bias_like, device="cpu") if ctx.needs_input_grad[3] else None
        for windows in _slices(len(weights), ctx.windows_at_once):
            value_grad[windows] = torch.matmul((weights[windows] * kept[windows]).transpose(2, 3), gradient[windows])
            weights_grad = torch.matmul(gradient[windows], value[windows].transpose(2, 3)).mul_(kept[windows])
            # The gradient of the softmax is w (g - sum(w g)). The sum of many small numbers needs full precision.
            weighted = weights_grad.to(ctx.bias_like.dtype).mul_(weights[windows])
            full_scores_grad = weighted.sub_(weighted.sum(dim=-1, keepdim=True) * weights[windows])
            scores_grad = full_scores_grad.to(value.dtype)
            query_grad[windows] = torch.matmul(scores_grad, key[windows])
            key_grad[windows] = torch.matmul(scores_grad.transpose(2, 3), query[windows])
            if bias_grad is not None:
                target = _select(bias_grad, windows)
                target += full_scores_grad.sum_to_size(target.shape)
        return query_grad, key_grad, value_grad, bias_grad, None, None, None


def _keep_freed_memory() -> None:
    """Keep freed memory in the process: the system would zero the pages of the next array."""
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        for parameter in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            library.mallopt(parameter, _KEPT_BYTES)


def _slices(length: int, step: int) -> Iterator[slice]:
    yield from (slice(first, first + step) for first in range(0, length, step))


def _select(tensor: torch.Tensor, windows: slice) -> torch.Tensor:
    """Return the windows of a tensor [n, ...], or all of a tensor [1, ...] that is the same for every window."""
    return tensor if len(tensor) == 1 else tensor[windows]


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
    """Return the attended values [n, length, heads, d] and no weights; T5 does not scale its scores."""
    dropped = round(dropout * _BYTE_VALUES)
    if dropped == 0:
        return eager_attention_forward(
            module, query, key, value, attention_mask, position_bias=position_bias, dropout=0.0, **kwargs
        )
    assert position_bias is not None
    mask = position_bias.new_zeros(1, 1, 1, 1) if attention_mask is None else attention_mask
    attended = DropoutAttention.apply(query, key, value, position_bias, mask, dropped, _WEIGHTS_IN_CACHE)
    return attended.transpose(1, 2).contiguous(), None


def _keep_mask(shape: torch.Size, dropped: int) -> torch.Tensor:
    """Return a random bool mask, False with probability `dropped` / 256."""
    n = shape.numel()
    words = torch.empty(-(-n // 8), dtype=torch.int64).random_(-(1 << 63), (1 << 63) - 1)
    return (words.view(torch.uint8)[:n] >= dropped).view(shape)


def _dropout_scale(dropped: int) -> float:
    return _BYTE_VALUES / (_BYTE_VALUES - dropped)
