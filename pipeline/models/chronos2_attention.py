"""Chronos-2's attention in fewer operations, for training on a CPU.

Attention over time computes query, key and value in one product. Its weights and their products with the values are in
float32 within bfloat16 training too, since the backward pass of PyTorch 2.13 in bfloat16 took six times as long (Xeon
with AMX). Attention within groups compares the rows of a group, not all rows of the batch. A series that is a group of
its own attends to itself only. Results equal those of the stock layers up to rounding, and the weights stay the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from chronos import Chronos2Model
from chronos.chronos2.layers import MHA, AttentionOutput, GroupSelfAttention
from chronos.chronos2.model import Chronos2Encoder
from torch import nn

from pipeline.models.bolt_attention import ZeroGradients


def use_chronos2_attention(model: Chronos2Model) -> None:
    """Replace both attentions of a model."""
    model.encoder.__class__ = _Encoder
    for block in model.encoder.block:
        over_time, over_groups, _ = cast(nn.ModuleList, block.layer)
        over_groups.__class__ = FastGroupAttention
        over_time.self_attention.__class__ = FusedTimeAttention


class GroupLayout(NamedTuple):
    """The rows of each group of a batch."""

    rows: torch.Tensor
    """Rows of each group, filled up with row 0: int64, [groups, size]."""
    place: torch.Tensor
    """Position of each row of the batch in the flat `rows`: int64, [rows]."""
    mask: torch.Tensor
    """Additive attention mask: float, [groups, time, 1, 1, size]."""
    is_batch: bool
    """Whether `rows` are all rows of the batch in their order."""


class _Encoder(Chronos2Encoder):
    @staticmethod
    def _construct_and_invert_group_time_mask(
        group_ids: torch.Tensor, attention_mask: torch.Tensor, floating_type: torch.dtype
    ) -> GroupLayout | None:
        """Return the rows of each group, or None if each row is a group of its own.

        Args:
            group_ids: [rows].
            attention_mask: 1 where a row has values, [rows, time].
        """
        number, sizes = torch.unique(group_ids, return_inverse=True, return_counts=True)[1:]
        if len(sizes) == len(group_ids):
            return None
        order = torch.argsort(number, stable=True)
        within = torch.arange(len(order)) - (sizes.cumsum(0) - sizes)[number[order]]
        size = int(sizes.max())
        place = torch.empty_like(order).index_copy_(0, order, number[order] * size + within)
        rows, is_row = order.new_zeros(len(sizes) * size), torch.zeros(len(sizes) * size, dtype=torch.bool)
        rows[place], is_row[place] = torch.arange(len(order)), True
        # The stock layer adds the smallest number to the scores of a patch without values.
        mask = (1 - attention_mask[rows]) * torch.finfo(floating_type).min
        mask = mask.masked_fill(~is_row[:, None], -torch.inf).unflatten(0, (-1, size)).transpose(1, 2)
        is_batch = torch.equal(rows, torch.arange(len(order)))
        return GroupLayout(rows.view(-1, size), place, mask[:, :, None, None], is_batch)


class FusedTimeAttention(MHA):
    """Attention over time that computes query, key and value in one product."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        mask: torch.Tensor,
        encoder_states: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        output_attentions: bool = False,
    ) -> AttentionOutput:
        """Attend within x [rows, time, d_model], with a mask [rows, 1, 1, time]."""
        if output_attentions or encoder_states is not None or self.config._attn_implementation != "sdpa":
            return super().forward(hidden_states, mask, encoder_states, position_ids, output_attentions)
        product = _query_key_value(self, hidden_states).unflatten(-1, (3, self.n_heads, -1))
        cosine, sine = self.rope_embed(mask, position_ids)
        query, key = Rotation.apply(product[:, :, :2], cosine, sine).permute(2, 0, 3, 1, 4)
        value = product[:, :, 2].transpose(1, 2).to(mask.dtype)
        with torch.autocast(hidden_states.device.type, enabled=False):
            attended, _ = self._sdpa_attention(query, key, value, mask)
        return AttentionOutput(hidden_states=self.o(attended.transpose(1, 2).flatten(-2)))


class Rotation(torch.autograd.Function):
    """Rotary position embedding (Su et al., 2021): turn (a, b) to (a cos - b sin, b cos + a sin), halves of a head."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> torch.Tensor:
        """Return query and key [rows, time, 2, heads, d] turned by angles [1, time, d], in the type of the angles."""
        states, cosine, sine = inputs
        cosine, sine = (part.chunk(2, dim=-1)[0][:, :, None, None] for part in (cosine, sine))
        ctx.save_for_backward(cosine, sine)
        ctx.dtype = states.dtype
        return _turn(states.to(cosine.dtype), cosine, sine)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """Return the gradient, turned back."""
        cosine, sine = ctx.saved_tensors
        return _turn(gradients[0], cosine, -sine).to(ctx.dtype), None, None


def _turn(states: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    turned = torch.empty(states.shape, dtype=states.dtype)
    (first, second), (new_first, new_second) = states.chunk(2, dim=-1), turned.chunk(2, dim=-1)
    torch.mul(first, cosine, out=new_first).addcmul_(second, sine, value=-1)
    torch.mul(second, cosine, out=new_second).addcmul_(first, sine)
    return turned


class FastGroupAttention(GroupSelfAttention):
    """Group attention that compares the rows of each group only.

    A row that is a group of its own attends to itself: its weight is 1 for any query and key.
    """

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: GroupLayout | None, output_attentions: bool = False
    ) -> AttentionOutput:
        """Return x + o(attention(norm(x))) of x [rows, time, d_model]; without a mask, each row is its own group."""
        attention: MHA = self.self_attention
        normed = self.layer_norm(hidden_states)
        if attention_mask is None:
            value = _attend_to_self(attention, normed)
        else:
            value = _attend_within_groups(attention, normed, attention_mask)
        return AttentionOutput(hidden_states=hidden_states + self.dropout(attention.o(value)))


def _query_key_value(attention: MHA, hidden_states: torch.Tensor) -> torch.Tensor:
    """Return query, key and value side by side: [rows, time, 3 d]."""
    layers = attention.q, attention.k, attention.v
    if all(type(layer) is nn.Linear for layer in layers):  # none has a low-rank adapter
        return nn.functional.linear(hidden_states, torch.cat([layer.weight for layer in layers]))
    return torch.cat([layer(hidden_states) for layer in layers], dim=-1)


def _attend_to_self(attention: MHA, hidden_states: torch.Tensor) -> torch.Tensor:
    """Return v(x); query and key get zero gradients, as in the stock layer."""
    unused = [*attention.q.parameters(), *attention.k.parameters()]
    value = ZeroGradients.apply(attention.v(hidden_states), *unused)
    if attention.training and attention.dropout > 0:
        weight = nn.functional.dropout(value.new_ones(*value.shape[:2], attention.n_heads, 1), attention.dropout)
        value = (value.unflatten(-1, (attention.n_heads, -1)) * weight).flatten(-2)
    return value


def _attend_within_groups(attention: MHA, hidden_states: torch.Tensor, layout: GroupLayout) -> torch.Tensor:
    """Return the attended values [rows, time, d]."""
    product = _query_key_value(attention, hidden_states)
    if not layout.is_batch:
        product = product[layout.rows.view(-1)]
    product = product.view(*layout.rows.shape, hidden_states.shape[1], 3, attention.n_heads, -1)
    # [3, groups, time, heads, size, d]
    product = product.permute(3, 0, 2, 4, 1, 5).to(torch.float32, memory_format=torch.contiguous_format)
    query, key, value = product.unbind()
    with torch.autocast(hidden_states.device.type, enabled=False):
        scores = torch.matmul(query, key.transpose(3, 4)) + layout.mask
        weights = nn.functional.dropout(scores.softmax(dim=-1), attention.dropout, attention.training)
        attended = torch.matmul(weights, value).permute(0, 3, 1, 2, 4).flatten(-2).flatten(0, 1)
    return attended if layout.is_batch else attended[layout.place]
