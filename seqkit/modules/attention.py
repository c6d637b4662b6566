"""Multi-head attention (Vaswani et al., 2017, section 3.2).

Knows nothing of layers, positions, or what the sequences are.
Axes: B sentences, K rows per sentence, N = B·K query rows, T query length, S key length, C channels, H heads, D = C/H.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.modules.cache import MASKED
from seqkit.modules.dropout import Dropout
from seqkit.modules.linear import project_together
from seqkit.modules.packed_linear import JoinedLinear, is_product


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

    Attributes:
        joined: gives queries, keys and values (…, 3C) of the same input, where something does that faster than three
            projections; see `join_projections`.

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
        self.joined: Callable[[Tensor], Tensor] | None = None
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
        if key is None and value is None and self.joined is not None:
            queries, keys, values = self.joined(query).chunk(3, dim=-1)
        elif key is None and value is None:
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

    def forward_gathered(self, query: Tensor, places: Tensor, mask: Tensor) -> Tensor:
        """Attend from (R, C), what stands at `places` (R,) of B·S positions, to all of its own sentence; (R, C).

        `mask` (B, 1, 1, S), additive, hides the other positions.
        """
        if self.joined is not None:
            projected = self.joined(query)
        else:
            projected = torch.cat([self.q_proj(query), self.k_proj(query), self.v_proj(query)], dim=-1)
        sentences, length = mask.size(0), mask.size(3)
        everywhere = projected.new_zeros(sentences * length, projected.size(1)).index_copy_(0, places, projected)
        queries, keys, values = everywhere.view(sentences, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        context = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        result: Tensor = self.out_proj(context.transpose(1, 2).reshape(-1, self.embed_dim).index_select(0, places))
        return result

    def join_projections(self) -> None:
        """For inference: let one product give queries, keys and values, if plain layers of one size do."""
        layers = (self.q_proj, self.k_proj, self.v_proj)
        if self.k_proj.in_features == self.v_proj.in_features == self.embed_dim and all(map(is_product, layers)):
            self.joined = JoinedLinear(layers)

    def project_source(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, S, D) of a source (B, S, C)."""
        return self._heads(self.k_proj(source)), self._heads(self.v_proj(source))

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
