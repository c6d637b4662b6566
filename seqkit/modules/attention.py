"""Multi-head attention (Vaswani et al., 2017, section 3.2), for training and for incremental decoding.

Knows nothing of layers, positions, or what the sequences are.
Axes: B sentences, K rows per sentence, N = B·K query rows, T query length, S key length, C channels, H heads, D = C/H.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.modules.cache import MASKED, SelfAttentionCache, SourceAttentionCache
from seqkit.modules.dropout import Dropout
from seqkit.modules.linear import project_together


def padding_mask_to_bias(padding_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, S) bool, True at padding, to an additive mask (B, 1, 1, S)."""
    return torch.zeros(padding_mask.shape, dtype=dtype, device=padding_mask.device).masked_fill_(padding_mask, MASKED)[
        :, None, None, :
    ]


def causal_bias(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Additive mask (T, T) that hides the future."""
    return torch.full((length, length), MASKED, dtype=dtype, device=device).triu_(1)


class MultiheadAttention(nn.Module):
    """Attention of H heads: softmax(Q K' / sqrt(D)) V, each head on its own projection of the input.

    Args:
        embed_dim: C, width of queries and of the result.
        num_heads: H; must divide C.
        kdim, vdim: width of keys and values where it is not C.
        dropout: probability of dropping an attention weight.
        bias: whether the four projections have one.

    Raises:
        ValueError: `num_heads` does not divide `embed_dim`.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        kdim: int | None = None,
        vdim: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"an attention of width {embed_dim} cannot be shared out to {num_heads} heads")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.dropout_module = Dropout(dropout)
        kdim = embed_dim if kdim is None else kdim
        vdim = embed_dim if vdim is None else vdim
        self.k_proj = nn.Linear(kdim, embed_dim, bias=bias)
        self.v_proj = nn.Linear(vdim, embed_dim, bias=bias)
        self.q_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        # Where all widths are equal: the bound that Xavier's rule gives the three as one matrix (C, 3C).
        gain = 1 / math.sqrt(2) if kdim == vdim == embed_dim else 1.0
        for projection in (self.k_proj, self.v_proj, self.q_proj):
            nn.init.xavier_uniform_(projection.weight, gain=gain)
        nn.init.xavier_uniform_(self.out_proj.weight)
        if bias:
            nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        is_causal: bool = False,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            query: (N, T, C); N is a multiple of B, and the rows of one sentence are adjacent.
            key: (B, S, kdim); None: the query itself (then N = B).
            value: (B, S, vdim); None: the key itself.
            mask: additive, shaped (B or 1, 1, T or 1, S) or (T, S).
            is_causal: hide the future; only without a mask.
            need_weights: also return the attention weights.

        Returns:
            The result (N, T, C) and the weights before dropout (N, H, T, S), or None.
        """
        if key is None and value is None:
            queries, keys, values = project_together(query, (self.q_proj, self.k_proj, self.v_proj))
        else:
            source = query if key is None else key
            queries = self.q_proj(query)
            if value is None:
                keys, values = project_together(source, (self.k_proj, self.v_proj))
            else:
                keys, values = self.k_proj(source), self.v_proj(value)
        return self._attend(
            queries, self._heads(keys), self._heads(values), mask, is_causal=is_causal, need_weights=need_weights
        )

    def project_source(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, S, D) of a source (B, S, C), contiguous: they are read at every step."""
        return self._heads(self.k_proj(source)).contiguous(), self._heads(self.v_proj(source)).contiguous()

    def forward_source(
        self,
        query: Tensor,
        source: Tensor,
        cache: SourceAttentionCache,
        *,
        mask: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from (N, T, C) to a source (B, S, C) whose keys and values are computed once, into `cache`."""
        if cache.keys is None or cache.values is None:
            cache.keys, cache.values = self.project_source(source)
        return self._attend(self.q_proj(query), cache.keys, cache.values, mask, need_weights=need_weights)

    def forward_cached(
        self, query: Tensor, cache: SelfAttentionCache, *, mask: Tensor, beam: int, start: int, max_length: int
    ) -> Tensor:
        """Attend from new positions (N, T, C) to themselves and to all earlier ones, kept in `cache`.

        `mask`: (N/K, 1, K·T, P + L·K), additive; `start`: positions cached before; the rest as in `TransformerCache`.
        """
        rows, new, channels = query.shape
        if cache.weight is None:
            projections = (self.q_proj, self.k_proj, self.v_proj)
            cache.weight = torch.cat([projection.weight for projection in projections])
            if self.k_proj.bias is not None:
                cache.bias = torch.cat([projection.bias for projection in projections])
        projected = F.linear(query, cache.weight, cache.bias).view(
            rows // beam, beam, new, 3, self.num_heads, channels // self.num_heads
        )
        keys, values = cache.append(projected[:, :, :, 1:].permute(3, 0, 1, 2, 4, 5), beam, start, max_length)
        queries = projected[:, :, :, 0].flatten(1, 2).transpose(1, 2)
        context = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        result: Tensor = self.out_proj(context.transpose(1, 2).reshape(rows, new, channels))
        return result

    def _heads(self, tensor: Tensor) -> Tensor:
        batch, length, _ = tensor.shape
        return tensor.view(batch, length, self.num_heads, -1).transpose(1, 2)

    def _attend(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        *,
        is_causal: bool = False,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        rows, length, channels = queries.shape
        sentences = keys.size(0)
        if rows % sentences:
            raise ValueError(f"{rows} query rows cannot be shared out to {sentences} sources")
        # Rows of one sentence become further queries of it, so that the source is never repeated.
        folded = queries.view(sentences, rows // sentences * length, self.num_heads, -1).transpose(1, 2)
        if mask is not None and rows > sentences and mask.size(-2) > 1:
            mask = mask.expand(-1, -1, length, -1).repeat(1, 1, rows // sentences, 1)
        if is_causal and rows > sentences:
            raise ValueError("causal attention has as many query rows as key rows")
        dropout = self.dropout_module.p if self.dropout_module.training else 0.0
        weights: Tensor | None = None
        if need_weights:
            scores = folded @ keys.transpose(-1, -2) * keys.size(-1) ** -0.5
            if is_causal:
                scores = scores + causal_bias(length, scores.dtype, scores.device)
            if mask is not None:
                scores = scores + mask
            weights = scores.softmax(-1, dtype=torch.float32)
            context = F.dropout(weights.to(values.dtype), dropout, training=dropout > 0) @ values
            weights = weights.view(sentences, self.num_heads, -1, length, keys.size(2)).transpose(1, 2).flatten(0, 1)
        else:
            context = F.scaled_dot_product_attention(
                folded, keys, values, attn_mask=mask, dropout_p=dropout, is_causal=is_causal
            )
        result: Tensor = self.out_proj(context.transpose(1, 2).reshape(rows, length, channels))
        return result, weights
