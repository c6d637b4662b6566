"""Causal self-attention whose heads share keys and values in groups (Ainslie et al., 2023), with rotary positions.

Knows nothing of layers or documents. Axes: B batch, N rows, K rows per sentence, T length, L cached length, C channels,
H query heads, G key-value heads, D head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.modules.cache import SelfAttentionCache
from seqkit.modules.rms_norm import RMSNorm
from seqkit.modules.rotary_embedding import Rotation


class GroupedQueryAttention(nn.Module):
    """Self-attention without biases; H/G query heads read the same keys and values.

    Args:
        embed_dim: C.
        num_heads: H.
        num_kv_heads: G; must divide H.
        head_dim: D.
        dropout: probability of dropping an attention weight.
        qk_norm: a root-mean-square norm on each head's queries and keys (Henry et al., 2020; Dehghani et al., 2023).
        norm_eps: of that norm.

    Raises:
        ValueError: `num_kv_heads` does not divide `num_heads`.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        *,
        dropout: float = 0.0,
        qk_norm: bool = False,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if num_heads % num_kv_heads:
            raise ValueError(f"{num_heads} heads cannot share {num_kv_heads} key-value heads evenly")
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim
        self.dropout = dropout
        # Queries, keys and values of all heads, one below the other.
        self.qkv_proj = nn.Linear(embed_dim, (num_heads + 2 * num_kv_heads) * head_dim, bias=False)
        self.out_proj = nn.Linear(num_heads * head_dim, embed_dim, bias=False)
        self.q_norm = RMSNorm(head_dim, norm_eps) if qk_norm else None
        self.k_norm = RMSNorm(head_dim, norm_eps) if qk_norm else None

    def forward(self, x: Tensor, rotation: Rotation, mask: Tensor | None = None, skip: int = 0) -> Tensor:
        """Attend.

        Args:
            x: (B, T, C).
            rotation: the positions'.
            mask: bool, True where a key is seen, (T, T) or (B, 1, T, T); None: only the future is hidden.
            skip: leading positions that are seen, but do not attend themselves.

        Returns:
            (B, T - skip, C).
        """
        batch, length, _ = x.shape
        queries, keys, values = self._project(x, rotation) if not skip else self._project_after(x, rotation, skip)
        if skip:
            if mask is None:
                mask = torch.ones(length, length, dtype=torch.bool, device=x.device).tril_()
            mask = mask[..., skip:, :]
            length -= skip
        context = F.scaled_dot_product_attention(
            queries.transpose(1, 2),
            keys.transpose(1, 2),
            values.transpose(1, 2),
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=mask is None,
            enable_gqa=self.num_kv_heads < self.num_heads,
        )
        result: Tensor = self.out_proj(context.transpose(1, 2).reshape(batch, length, -1))
        return result

    def step(
        self,
        x: Tensor,
        rotation: Rotation,
        cache: SelfAttentionCache,
        *,
        mask: Tensor,
        beam: int,
        start: int,
        max_length: int,
    ) -> Tensor:
        """Attend from new positions (N, T, C) to themselves and to those in `cache`.

        `mask`: (N/K, 1, K·T, L·K), additive; `start`: positions stored before; the rest as in `TransformerCache`.
        """
        rows, new, _ = x.shape
        queries, keys, values = self._project(x, rotation)
        sentences, shared = rows // beam, self.num_heads // self.num_kv_heads
        both = keys.new_empty(2, sentences, beam, new, self.num_kv_heads, self.head_dim)
        both[0] = keys.view(both.shape[1:])
        both[1] = values.view(both.shape[1:])
        all_keys, all_values = cache.append(both, beam, start, max_length)
        # Heads of one group become further queries of it, so that keys and values are never repeated.
        grouped = queries.view(sentences, beam * new, self.num_kv_heads, shared, self.head_dim).permute(0, 2, 3, 1, 4)
        context = F.scaled_dot_product_attention(
            grouped.flatten(2, 3), all_keys, all_values, attn_mask=mask.repeat(1, 1, shared, 1) if shared > 1 else mask
        )
        context = context.view(sentences, self.num_kv_heads, shared, beam * new, self.head_dim).permute(0, 3, 1, 2, 4)
        result: Tensor = self.out_proj(context.reshape(rows, new, -1))
        return result

    def _project(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Turned queries (B, T, H, D) and keys (B, T, G, D), and values (B, T, G, D)."""
        heads = self.qkv_proj(x).view(*x.shape[:2], -1, self.head_dim)
        queries, keys, values = heads.split((self.num_heads, self.num_kv_heads, self.num_kv_heads), dim=2)
        if self.q_norm is not None and self.k_norm is not None:
            return rotation(self.q_norm(queries)), rotation(self.k_norm(keys)), values
        turned = rotation(heads[:, :, : self.num_heads + self.num_kv_heads])
        return turned[:, :, : self.num_heads], turned[:, :, self.num_heads :], values

    def _project_after(self, x: Tensor, rotation: Rotation, skip: int) -> tuple[Tensor, Tensor, Tensor]:
        """As `_project`, with the queries (B, T - skip, H, D) of the positions from the `skip`-th on."""
        weight, first_key = self.qkv_proj.weight, self.num_heads * self.head_dim
        if not weight.is_floating_point():
            queries, keys, values = self._project(x, rotation)
            return queries[:, skip:], keys, values
        queries = F.linear(x[:, skip:], weight[:first_key]).view(x.size(0), -1, self.num_heads, self.head_dim)
        keys, values = F.linear(x, weight[first_key:]).view(*x.shape[:2], -1, self.head_dim).chunk(2, dim=2)
        if self.q_norm is not None and self.k_norm is not None:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        return rotation.after(skip)(queries), rotation(keys), values
