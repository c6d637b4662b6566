"""A decoder layer of the Transformer at decoding time: what `TransformerDecoderLayer` does, for new tokens alone.

With few rows, finding parameters and calling modules costs as much as the arithmetic, so all that stays the same is
looked up once: for a batch, with its cache (`DecoderLayerStep`), or for a compiler, as a function of tensors alone
(`DecoderLayerFunction`). Knows nothing of stacks or of search.
Axes: B sentences, K rows per sentence, N = B·K decoder rows, T new tokens, L cached length, S source length, P slots
of the source in front of self-attention's, C channels, H heads, D = C/H.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.modules.attention import MultiheadAttention
from seqkit.modules.cache import MASKED, TransformerCache
from seqkit.modules.dropout import Dropout
from seqkit.modules.packed_linear import JoinedLinear, is_product, quick
from seqkit.modules.transformer_layer import TransformerDecoderLayer

_MULTIPLE = 16
"""What one query attends to is filled up to a multiple of this: so many numbers a processor's softmax takes at once."""


Function = Callable[[Tensor], Tensor]
SourceTensors = tuple[Tensor, Tensor, Tensor]
"""Keys (B·H, D, S'), values (B·H, S', D) and the additive mask (B·H, 1, S') of a `SourceAttentionCache`."""


class DecoderLayerFunction:
    """Self-attention to the past, attention to the source, feed-forward, for one new position of each row.

    Parameters must stay as they are while it is used. It keeps nothing of a batch.

    Args:
        layer: in the mode (training or evaluation) in which it will be used.
        attends_source: whether there is a source for the layer's attention to it.
        ready: makes the function to call of a module; see `quick`.
    """

    def __init__(
        self, layer: TransformerDecoderLayer, attends_source: bool, ready: Callable[[Function], Function] = quick
    ) -> None:
        self._norm_first = layer.normalize_before
        self._drop = _active(layer.dropout_module)
        attention = layer.self_attn
        self._heads, self._width = attention.num_heads, attention.embed_dim // attention.num_heads
        self._factor = self._width**-0.5
        self._drop_weights = _active(attention.dropout_module)
        self._project = _together(attention, ready)
        self._out = ready(attention.out_proj)
        self._scaled = layer.scaled if layer.c_attn is not None or layer.attn_ln is not None else None
        self._norm = ready(layer.self_attn_layer_norm)

        self._attends_source = layer.encoder_attn is not None and attends_source
        if layer.encoder_attn is not None and attends_source:
            self._cross_query = ready(layer.encoder_attn.q_proj)
            self._cross_out = ready(layer.encoder_attn.out_proj)
            self._cross_norm = ready(layer.encoder_attn_layer_norm)
            self._drop_cross_weights = _active(layer.encoder_attn.dropout_module)

        self._fc1, self._fc2 = ready(layer.fc1), ready(layer.fc2)
        # the hidden layer is nobody else's
        self._activation = torch.relu_ if layer.activation_fn is F.relu else layer.activation_fn
        self._drop_hidden = _active(layer.activation_dropout_module)
        self._hidden_norm = None if layer.ffn_layernorm is None else ready(layer.ffn_layernorm)
        self._residual_factor = layer.w_resid
        self._final_norm = ready(layer.final_layer_norm)

    def one(self, x: Tensor, end: int, mask: Tensor, buffer: Tensor, source: SourceTensors | None) -> Tensor:
        """Compute one new position of each row.

        Args:
            x: (N, C).
            end: slots of `buffer` that are filled afterwards; the last K are those of the new position.
            mask: (B·H, K, P'), as `mask_for_step` makes it; P' ≥ `end`.
            buffer: (2, B, H, at least P', D), as of `SelfAttentionCache`; keys and values are written into it.
            source: None if there is none.

        Returns:
            (N, C).
        """
        result, _ = self._layer(x, lambda normed: self._attend_buffer(normed, end, mask, buffer), source)
        return result

    def _layer(self, x: Tensor, attend: Function, source: SourceTensors | None) -> tuple[Tensor, Tensor | None]:
        """The layer around its self-attention `attend`; also the weights of the attention to the source, if any."""
        attended = attend(self._norm(x) if self._norm_first else x)
        if self._scaled is not None:
            attended = self._scaled(attended)
        x = self._add(x, attended)
        if not self._norm_first:
            x = self._norm(x)

        weights: Tensor | None = None
        if self._attends_source and source is not None:
            normed = self._cross_norm(x) if self._norm_first else x
            attended, weights = self._attend_source(normed, source)
            x = self._add(x, attended)
            if not self._norm_first:
                x = self._cross_norm(x)

        hidden = self._activation(self._fc1(self._final_norm(x) if self._norm_first else x))
        if self._drop_hidden is not None:
            hidden = self._drop_hidden(hidden)
        if self._hidden_norm is not None:
            hidden = self._hidden_norm(hidden)
        x = self._add(x if self._residual_factor is None else self._residual_factor * x, self._fc2(hidden))
        return (x if self._norm_first else self._final_norm(x)), weights

    def _attend_buffer(self, x: Tensor, end: int, mask: Tensor, buffer: Tensor) -> Tensor:
        """One new position (N, C) to itself and to all earlier ones."""
        projected = self._split(x, buffer.size(1))
        beam = mask.size(1)
        buffer.narrow(3, end - beam, beam).copy_(projected[1:])
        keys, values = buffer.view(2, mask.size(0), -1, self._width).narrow(2, 0, mask.size(2)).unbind()
        return self._attend_keys(projected[0], keys.transpose(1, 2), values, mask, x)

    def _split(self, x: Tensor, sentences: int) -> Tensor:
        """Queries, keys and values (3, B, H, K or 1, D) of one new position (N, C)."""
        return self._project(x).view(sentences, -1, 3, self._heads, self._width).permute(2, 0, 3, 1, 4)

    def _attend_keys(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, x: Tensor) -> Tensor:
        weights = torch.baddbmm(mask, queries.reshape(mask.size(0), -1, self._width), keys, alpha=self._factor).softmax(
            -1
        )
        if self._drop_weights is not None:
            weights = self._drop_weights(weights)
        context = torch.bmm(weights, values).view(queries.size(0), self._heads, -1, self._width)
        return self._out(context.transpose(1, 2).reshape(x.shape))

    def _attend_source(self, x: Tensor, source: SourceTensors) -> tuple[Tensor, Tensor]:
        """(…, C) to the source; and the weights before dropout (B·H, rows and positions of a sentence, S').

        Rows of one sentence become further queries of it, so that the source is never repeated.
        """
        keys, values, bias = source
        queries = self._cross_query(x).view(bias.size(0) // self._heads, -1, self._heads, self._width)
        sentences, count = queries.size(0), queries.size(1)
        folded = queries.transpose(1, 2).reshape(bias.size(0), count, self._width)
        weights = torch.baddbmm(bias, folded, keys, alpha=self._factor).softmax(-1)
        seen = weights if self._drop_cross_weights is None else self._drop_cross_weights(weights)
        context = torch.bmm(seen, values).view(sentences, self._heads, count, self._width)
        return self._cross_out(context.transpose(1, 2).reshape(x.shape)), weights

    def _add(self, residual: Tensor, x: Tensor) -> Tensor:
        """Their sum, in place of `x`, which a linear layer has just made."""
        return x.add_(residual) if self._drop is None else self._drop.add(residual, x)


class DecoderLayerStep(DecoderLayerFunction):
    """The same for a batch and its cache, and for any number of new positions.

    Args:
        layer: in the mode (training or evaluation) in which it will be used.
        cache: takes up new keys and values; `set_source` was called, if there is a source.
        place: which layer of the cache this is.
        source: (B, S, source_dim), or None.

    Raises:
        ValueError: the rows of the cache are not a multiple of the sources.
    """

    def __init__(
        self, layer: TransformerDecoderLayer, cache: TransformerCache, place: int, source: Tensor | None
    ) -> None:
        super().__init__(layer, source is not None)
        self._cache = cache
        self._own = cache.self_attention[place]
        self._cross = cache.source_attention[place]
        if layer.encoder_attn is not None and source is not None:
            if cache.rows % source.size(0):
                raise ValueError(f"{cache.rows} decoder rows cannot be shared out to {source.size(0)} sources")
            keys, values = layer.encoder_attn.project_source(source)
            self._cross.put(keys, values, cache.source_mask, _filled_up(source.size(1)))
            self._source_length = source.size(1)
        if layer.cross_self_attention and source is not None:
            keys, values = layer.self_attn.project_source(source)
            repeats = cache.rows // cache.beam // source.size(0)
            self._own.put_prefix(keys.repeat_interleave(repeats, 0), values.repeat_interleave(repeats, 0))

    def __call__(self, x: Tensor, start: int, mask: Tensor, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """Compute new positions.

        Args:
            x: (N, T, C), or (N, C) for one new position; at the first position also (B, C), one row of each sentence
                standing for all.
            start: positions stored before.
            mask: (N/K, 1, K·T, P + L·K), additive, as `TransformerCache.advance` returns it, with columns for the
                source in front where self-attention reads it; for (N, C) what `mask_for_step` makes of that.
            need_weights: also return the weights of the attention to the source.

        Returns:
            As `x`, and the weights (N, H, T, S) or None.
        """
        attend = self._attend_one if x.dim() == 2 else self._attend
        x, weights = self._layer(x, lambda normed: attend(normed, start, mask), self._cross.tensors())
        if weights is None or not need_weights:
            return x, None
        length = x.size(1) if x.dim() == 3 else 1
        weights = weights.view(self._cross.sentences, self._heads, -1, length, weights.size(-1))
        return x, weights[..., : self._source_length].transpose(1, 2).flatten(0, 1)

    def _attend_one(self, x: Tensor, start: int, mask: Tensor) -> Tensor:
        """One new position (N, C), or (B, C), to itself and to all earlier ones."""
        projected = self._split(x, mask.size(0) // self._heads)
        cache = self._cache
        keys, values = self._own.append_one(projected[1:], cache.beam, start, cache.max_length, mask.size(2))
        return self._attend_keys(projected[0], keys, values, mask, x)

    def _attend(self, x: Tensor, start: int, mask: Tensor) -> Tensor:
        """New positions (N, T, C) to themselves and to all earlier ones."""
        rows, new, channels = x.shape
        cache = self._cache
        projected = self._project(x).view(rows // cache.beam, cache.beam, new, 3, self._heads, self._width)
        keys_values = projected[:, :, :, 1:].permute(3, 0, 1, 2, 4, 5)
        keys, values = self._own.append(keys_values, cache.beam, start, cache.max_length)
        queries = projected[:, :, :, 0].flatten(1, 2).transpose(1, 2)
        dropout = 0.0 if self._drop_weights is None else self._drop_weights.p
        context = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=dropout)
        return self._out(context.transpose(1, 2).reshape(rows, new, channels))


def mask_for_step(mask: Tensor, heads: int) -> Tensor:
    """Of an additive mask (B, 1, K, S), what a `DecoderLayerStep` takes for one new position: (B·H, K, S').

    S' is S filled up to a multiple of 16, which makes softmax several times as fast.
    """
    sentences, _, rows, length = mask.shape
    filled = mask.new_full((sentences, heads, rows, _filled_up(length)), MASKED)
    filled.narrow(3, 0, length).copy_(mask)
    return filled.view(sentences * heads, rows, -1)


def _filled_up(length: int) -> int:
    return -(-length // _MULTIPLE) * _MULTIPLE


def _active(dropout: Dropout) -> Dropout | None:
    return dropout if dropout.training and dropout.p > 0 else None


def _together(attention: MultiheadAttention, ready: Callable[[Function], Function]) -> Function:
    """What gives queries, keys and values (…, 3C)."""
    if attention.joined is not None:
        return ready(attention.joined)
    layers: list[nn.Linear] = [attention.q_proj, attention.k_proj, attention.v_proj]
    if all(map(is_product, layers)):
        return ready(JoinedLinear(layers))
    functions = [ready(layer) for layer in layers]
    return lambda x: torch.cat([function(x) for function in functions], dim=-1)
