"""The encoder and decoder layers of the Transformer (Vaswani et al., 2017, section 3.1).

The decoder layer has the extra norms and scales of NormFormer (Shleifer et al., 2021) as options. `normalize_before`
puts layer norms at the entry of each sublayer (pre-norm, Xiong et al., 2020), not after the residual sum (post-norm).
Knows nothing of embeddings, of stacks, or of configs.
Axes: B sentences, N = B·K decoder rows, T target length, S source length, C channels, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqkit.modules.activation import activation
from seqkit.modules.attention import MultiheadAttention, causal_bias
from seqkit.modules.dropout import Dropout


class _TransformerLayer(nn.Module):
    """What both kinds of layer share: residual connections and the feed-forward sublayer."""

    fc1: nn.Linear
    fc2: nn.Linear
    final_layer_norm: nn.LayerNorm

    def __init__(
        self, *, dropout: float, activation_dropout: float, activation_name: str, normalize_before: bool
    ) -> None:
        super().__init__()
        self.ffn_layernorm: nn.LayerNorm | None = None
        self.w_resid: nn.Parameter | None = None
        self.normalize_before = normalize_before
        self.activation_fn = activation(activation_name)
        self.dropout_module = Dropout(dropout)
        self.activation_dropout_module = Dropout(activation_dropout)

    def _enter(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        return norm(x) if self.normalize_before else x

    def _leave(self, residual: Tensor, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        x = self.dropout_module.add(residual, x)
        return x if self.normalize_before else norm(x)

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.activation_dropout_module(self.activation_fn(self.fc1(self._enter(x, self.final_layer_norm))))
        if self.ffn_layernorm is not None:
            hidden = self.ffn_layernorm(hidden)
        residual = x if self.w_resid is None else self.w_resid * x
        return self._leave(residual, self.fc2(hidden), self.final_layer_norm)


class TransformerEncoderLayer(_TransformerLayer):
    """Self-attention, then two linear maps with an activation between them.

    Args:
        embed_dim: C.
        ffn_dim: width between the two linear maps.
        num_heads: H.
        dropout: on each sublayer's result.
        attention_dropout: on attention weights.
        activation_dropout: after the activation.
        activation_name: as of `seqkit.modules.activation`.
        normalize_before: pre-norm.
    """

    def __init__(
        self,
        embed_dim: int,
        ffn_dim: int,
        num_heads: int,
        *,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        activation_name: str = "relu",
        normalize_before: bool = False,
    ) -> None:
        super().__init__(
            dropout=dropout,
            activation_dropout=activation_dropout,
            activation_name=activation_name,
            normalize_before=normalize_before,
        )
        self.self_attn = MultiheadAttention(embed_dim, num_heads, dropout=attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(embed_dim)
        self.fc1 = nn.Linear(embed_dim, ffn_dim)
        self.fc2 = nn.Linear(ffn_dim, embed_dim)
        self.final_layer_norm = nn.LayerNorm(embed_dim)

    def forward(self, x: Tensor, mask: Tensor | None = None, places: Tensor | None = None) -> Tensor:
        """(B, S, C) to (B, S, C); `mask` is additive, (B, 1, 1, S), or None where nothing is padded.

        With `places` (R,), x is (R, C): what stands at these of the B·S positions; it is all that is computed.
        """
        normed = self._enter(x, self.self_attn_layer_norm)
        if places is None:
            attended, _ = self.self_attn(normed, mask=mask)
        else:
            assert mask is not None
            attended = self.self_attn.forward_gathered(normed, places, mask)
        x = self._leave(x, attended, self.self_attn_layer_norm)
        return self._feed_forward(x)


class TransformerDecoderLayer(_TransformerLayer):
    """Self-attention to the past, attention to the source, feed-forward.

    Args:
        source_dim: width of the source where it is not `embed_dim`.
        cross_attention: whether the layer attends to the source by a sublayer of its own.
        cross_self_attention: whether its self-attention reads the source too, in front of the target.
        scale_heads: a trained factor on the part of self-attention's result that stands where each head's did.
        scale_attn: a layer norm on self-attention's result.
        scale_fc: a layer norm between the two linear maps.
        scale_resids: a trained factor on each channel of the feed-forward sublayer's residual.

    The other arguments are those of `TransformerEncoderLayer`.
    """

    def __init__(
        self,
        embed_dim: int,
        ffn_dim: int,
        num_heads: int,
        *,
        source_dim: int | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        activation_name: str = "relu",
        normalize_before: bool = False,
        cross_attention: bool = True,
        cross_self_attention: bool = False,
        scale_heads: bool = False,
        scale_attn: bool = False,
        scale_fc: bool = False,
        scale_resids: bool = False,
    ) -> None:
        super().__init__(
            dropout=dropout,
            activation_dropout=activation_dropout,
            activation_name=activation_name,
            normalize_before=normalize_before,
        )
        self.cross_self_attention = cross_self_attention
        self.self_attn = MultiheadAttention(embed_dim, num_heads, dropout=attention_dropout)
        self.attn_ln = nn.LayerNorm(embed_dim) if scale_attn else None
        self.c_attn = nn.Parameter(torch.ones(num_heads)) if scale_heads else None
        self.self_attn_layer_norm = nn.LayerNorm(embed_dim)
        self.encoder_attn: MultiheadAttention | None = None
        if cross_attention:
            self.encoder_attn = MultiheadAttention(
                embed_dim, num_heads, kdim=source_dim, vdim=source_dim, dropout=attention_dropout
            )
            self.encoder_attn_layer_norm = nn.LayerNorm(embed_dim)
        if scale_fc:
            self.ffn_layernorm = nn.LayerNorm(ffn_dim)
        if scale_resids:
            self.w_resid = nn.Parameter(torch.ones(embed_dim))
        self.fc1 = nn.Linear(embed_dim, ffn_dim)
        self.fc2 = nn.Linear(ffn_dim, embed_dim)
        self.final_layer_norm = nn.LayerNorm(embed_dim)

    def forward(
        self,
        x: Tensor,
        source: Tensor | None = None,
        *,
        self_mask: Tensor | None = None,
        source_mask: Tensor | None = None,
        need_weights: bool = False,
        skip: int = 0,
    ) -> tuple[Tensor, Tensor | None]:
        """All target positions at once.

        Args:
            x: (N, T, C).
            source: (B, S, source_dim); with `cross_self_attention` also B = N.
            self_mask: additive, (N, 1, T, T), or (N, 1, T, S + T) with `cross_self_attention`; it hides the future
                too. None: only the future is hidden.
            source_mask: additive, (B, 1, 1, S).
            need_weights: also return the weights of the attention to the source.
            skip: leading positions that are attended to, but of which nothing is returned; not with
                `cross_self_attention`.

        Returns:
            (N, T - skip, C) and the weights (N, H, T - skip, S) or None.
        """
        normed = self._enter(x, self.self_attn_layer_norm)
        key = torch.cat((source, normed), dim=1) if self.cross_self_attention and source is not None else None
        if skip:
            mask = causal_bias(x.size(1), x.dtype, x.device) if self_mask is None else self_mask
            attended, _ = self.self_attn(normed[:, skip:], normed, mask=mask[..., skip:, :])
            x = x[:, skip:]
        else:
            attended, _ = self.self_attn(normed, key, mask=self_mask, is_causal=self_mask is None)
        x = self._leave(x, self.scaled(attended), self.self_attn_layer_norm)
        weights: Tensor | None = None
        if self.encoder_attn is not None and source is not None:
            attended, weights = self.encoder_attn(
                self._enter(x, self.encoder_attn_layer_norm), source, mask=source_mask, need_weights=need_weights
            )
            x = self._leave(x, attended, self.encoder_attn_layer_norm)
        return self._feed_forward(x), weights

    def scaled(self, attended: Tensor) -> Tensor:
        """The result (N, T, C) of self-attention with NormFormer's factors and norm."""
        if self.c_attn is not None:
            heads = attended.view(*attended.shape[:-1], self.c_attn.numel(), -1)
            attended = (heads * self.c_attn.unsqueeze(-1)).flatten(-2)
        return attended if self.attn_ln is None else self.attn_ln(attended)
