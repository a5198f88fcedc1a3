"""What makes training fast on a CPU, where the stock dropout takes a quarter of a step and T5's attention another.

A value is dropped where a random byte says so, eight bytes a random number; T5's attention works on a few windows after
the other, so that its weights, the largest arrays of a step, stay in the processor's cache from one operation to the next;
and its layer norm goes through memory half as often.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from typing import Any

import torch
from chronos.chronos2.layers import Chronos2LayerNorm
from chronos.chronos_bolt import ChronosBoltModelForForecasting
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, T5PreTrainedModel
from transformers.masking_utils import eager_mask
from transformers.models.t5.modeling_t5 import T5LayerNorm, eager_attention_forward

from pipeline.models.bolt_attention import use_short_attention

_BYTE = 256
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_VALUES_IN_CACHE = 1 << 20
_ATTENTION = "windowed_dropout"


def use_cpu_layers(model: Any) -> None:
    """Give a model the layers that train fastest on a CPU; its forecasts stay as they are."""
    _keep_memory()
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = ByteDropout
        elif type(module) in (T5LayerNorm, Chronos2LayerNorm):
            module.__class__ = ScaleNorm
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not isinstance(model, T5PreTrainedModel):
        return
    if model.config.dropout_rate > 0:
        AttentionInterface.register(_ATTENTION, _t5_attention)
        AttentionMaskInterface.register(_ATTENTION, eager_mask)
        model.set_attn_implementation(_ATTENTION)
    else:
        model.set_attn_implementation("eager")  # the fused one has no gradient of a position bias, and takes detours
    if isinstance(model, ChronosBoltModelForForecasting):
        use_short_attention(model)
        model.decoder.config.use_cache = False  # a cache for one token, made anew at every step


class ByteDropout(nn.Dropout):
    """Dropout whose probability is a whole number of 256ths: 0.1 becomes 26 / 256."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Zero a random share of the values and scale the others up, while training."""
        dropped = round(self.p * _BYTE)
        if not self.training or dropped == 0:
            return input
        return input * _kept(input.shape, dropped).to(input.dtype).mul_(_scale(dropped))


class ScaleNorm(nn.Module):
    """The layer norm of T5 and Chronos-2, x / sqrt(mean(x^2) + eps) times a weight, over the last dimension."""

    weight: nn.Parameter
    variance_epsilon: float

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the scaled values, float32, of the shape of `hidden_states`."""
        return RootMeanSquareNorm.apply(hidden_states.float(), self.weight, self.variance_epsilon)


class RootMeanSquareNorm(torch.autograd.Function):
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
        of_weight = product.flatten(0, -2).sum(dim=0) if ctx.needs_input_grad[1] else None
        less = torch.matmul(product, weight).div_(-len(weight)).unsqueeze(-1)
        return torch.addcmul(gradient * weight, normed, less, out=product).mul_(root), of_weight, None


class DroppedAttention(torch.autograd.Function):
    """dropout(softmax(Q K' + bias + mask)) V, as many windows at once as the cache holds.

    Shapes: query [n, heads, length, d], key and value [n, heads, m, d], bias [1 or n, heads, length, m], mask [1 or n, 1,
    1 or length, m]; `dropped` is the probability in 256ths.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> torch.Tensor:
        """Return the attended values, [n, heads, length, d]."""
        query, key, value, bias, mask, dropped = inputs
        out = torch.empty_like(query)
        weights = torch.empty(*query.shape[:3], key.shape[2], dtype=value.dtype)
        kept = torch.empty(weights.shape, dtype=torch.bool)
        for some in _few(weights):
            scores = torch.matmul(query[some], key[some].transpose(2, 3)) + _of(bias, some)
            weights[some] = scores.add_(_of(mask, some)).softmax(dim=-1)
            kept[some] = _kept(scores.shape, dropped)
            out[some] = torch.matmul(weights[some] * kept[some], value[some])
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
        for some in _few(weights):
            of_value[some] = torch.matmul((weights[some] * kept[some]).transpose(2, 3), gradient[some])
            of_weights = torch.matmul(gradient[some], value[some].transpose(2, 3)).mul_(kept[some])
            # The softmax's own gradient, w (g - sum(w g)); a sum of many small numbers wants full precision.
            weighted = of_weights.to(ctx.bias_like.dtype).mul_(weights[some])
            of_full = weighted.sub_(weighted.sum(dim=-1, keepdim=True) * weights[some])
            of_scores = of_full.to(value.dtype)
            of_query[some] = torch.matmul(of_scores, key[some])
            of_key[some] = torch.matmul(of_scores.transpose(2, 3), query[some])
            if of_bias is not None:
                own = _of(of_bias, some)
                own += of_full.sum_to_size(own.shape)
        return of_query, of_key, of_value, of_bias, None, None


def _keep_memory() -> None:
    """Let the C library keep what it has got: it returns large arrays to the system, and has each page zeroed anew."""
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        for parameter in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            library.mallopt(parameter, 1 << 30)


def _few(weights: torch.Tensor) -> Iterator[slice]:
    """Yield the windows, as many at a time as the cache holds the attention weights of."""
    step = max(1, _VALUES_IN_CACHE // weights[0].numel())
    yield from (slice(first, first + step) for first in range(0, len(weights), step))


def _of(one_or_all: torch.Tensor, some: slice) -> torch.Tensor:
    return one_or_all if len(one_or_all) == 1 else one_or_all[some]


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
