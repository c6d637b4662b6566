"""Grouped-query attention, beside the sum that defines it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqkit.modules.grouped_query_attention import GroupedQueryAttention
from seqkit.modules.rotary_embedding import RotaryEmbedding


def by_definition(layer: GroupedQueryAttention, rotary: RotaryEmbedding, x: Tensor) -> Tensor:
    batch, length, _ = x.shape
    heads, groups, width = layer.num_heads, layer.num_kv_heads, layer.head_dim
    parts = layer.qkv_proj(x).view(batch, length, heads + 2 * groups, width)
    queries, keys, values = parts.split((heads, groups, groups), dim=2)
    if layer.q_norm is not None and layer.k_norm is not None:
        queries, keys = layer.q_norm(queries), layer.k_norm(keys)
    rotation = rotary(length)
    queries, keys = rotation(queries), rotation(keys)
    context = torch.zeros(batch, length, heads, width)
    for t in range(length):
        for head in range(heads):
            group = head // (heads // groups)
            scores = torch.einsum("bd,btd->bt", queries[:, t, head], keys[:, : t + 1, group]) / width**0.5
            context[:, t, head] = torch.einsum("bt,btd->bd", scores.softmax(-1), values[:, : t + 1, group])
    result: Tensor = layer.out_proj(context.flatten(2))
    return result


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("qk_norm", [True, False])
def test_heads_of_a_group_share_keys_and_values(groups: int, qk_norm: bool) -> None:
    torch.manual_seed(1)
    layer, rotary = GroupedQueryAttention(12, 4, groups, 6, qk_norm=qk_norm), RotaryEmbedding(6)
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(layer(x, rotary(5)), by_definition(layer, rotary, x))
    assert layer.qkv_proj.out_features == (4 + 2 * groups) * 6


def test_a_mask_says_who_is_seen() -> None:
    torch.manual_seed(1)
    layer, rotary = GroupedQueryAttention(8, 2, 1, 4), RotaryEmbedding(4)
    x = torch.randn(1, 4, 8)
    two = torch.eye(2, dtype=torch.bool).repeat_interleave(2, 0).repeat_interleave(2, 1)
    apart = layer(x, rotary(4), two & torch.ones(4, 4).tril().bool())
    first, second = layer(x[:, :2], rotary(2)), layer(x[:, 2:], rotary(4, torch.tensor([[2, 3]])))
    torch.testing.assert_close(apart, torch.cat((first, second), dim=1))


def test_attention_weights_are_dropped_in_training() -> None:
    torch.manual_seed(1)
    layer, rotary = GroupedQueryAttention(8, 2, 2, 4, dropout=0.5), RotaryEmbedding(4)
    x = torch.randn(1, 6, 8)
    assert not torch.allclose(layer(x, rotary(6)), layer(x, rotary(6)))
    layer.eval()
    torch.testing.assert_close(layer(x, rotary(6)), layer(x, rotary(6)))


def test_groups_must_divide_the_heads() -> None:
    with pytest.raises(ValueError, match="4 heads cannot share 3 key-value heads"):
        GroupedQueryAttention(8, 4, 3, 2)
