"""Chronos-2's group attention in fewer operations, for training on a CPU.

A series that is a group of its own attends to itself only. Results equal those of the stock layers up to rounding, and
the weights stay the same.
"""

from __future__ import annotations

from typing import cast

import torch
from chronos import Chronos2Model
from chronos.chronos2.layers import MHA, AttentionOutput, GroupSelfAttention
from chronos.chronos2.model import Chronos2Encoder
from torch import nn

from pipeline.models.bolt_attention import ZeroGradients


def use_chronos2_attention(model: Chronos2Model) -> None:
    """Replace the group attention of a model."""
    model.encoder.__class__ = _Encoder
    for block in model.encoder.block:
        cast(nn.ModuleList, block.layer)[1].__class__ = SingleGroupAttention


class _Encoder(Chronos2Encoder):
    @staticmethod
    def _construct_and_invert_group_time_mask(
        group_ids: torch.Tensor, attention_mask: torch.Tensor, floating_type: torch.dtype
    ) -> torch.Tensor | None:
        """Return the mask [time, 1, rows, rows], or None if each row is a group of its own."""
        if len(group_ids.unique()) == len(group_ids):
            return None
        return Chronos2Encoder._construct_and_invert_group_time_mask(group_ids, attention_mask, floating_type)


class SingleGroupAttention(GroupSelfAttention):
    """Group attention in which, without a mask, each row attends to itself: its weight is 1 for any query and key."""

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, output_attentions: bool = False
    ) -> AttentionOutput:
        """Return x + o(v(norm(x))) of x [rows, time, d_model]; query and key get zero gradients, as in stock."""
        if attention_mask is not None:
            return super().forward(hidden_states, attention_mask, output_attentions)
        attention: MHA = self.self_attention
        unused = [*attention.q.parameters(), *attention.k.parameters()]
        value = ZeroGradients.apply(attention.v(self.layer_norm(hidden_states)), *unused)
        if self.training and attention.dropout > 0:
            weight = nn.functional.dropout(value.new_ones(*value.shape[:2], attention.n_heads, 1), attention.dropout)
            value = (value.unflatten(-1, (attention.n_heads, -1)) * weight).flatten(-2)
        return AttentionOutput(hidden_states=hidden_states + self.dropout(attention.o(value)))
