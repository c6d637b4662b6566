"""The decoder of today's language models, put together from parts: pre-norm, rotary positions, gated feed-forward.

Knows nothing of configs, dictionaries or tasks. Axes: B batch, N rows, T length, C channels, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from seqkit.models._transformer_stack import StackOptions, run_layer
from seqkit.models.base import EncoderOutput, IncrementalDecoder, ModelOutput
from seqkit.modules.cache import DecoderCache
from seqkit.modules.dropout import Dropout
from seqkit.modules.gated_feed_forward import GatedFeedForward
from seqkit.modules.grouped_query_attention import GroupedQueryAttention
from seqkit.modules.packed_cache import PackedCache
from seqkit.modules.rms_norm import RMSNorm
from seqkit.modules.rotary_embedding import RotaryEmbedding, Rotation


class RotaryDecoderLayer(nn.Module):
    """Self-attention and a gated feed-forward map, each behind a norm and added to its input.

    Args:
        embed_dim: C.
        self_attn, feed_forward: the sublayers.
        dropout: on their results.
        norm_eps: of the norms.
    """

    def __init__(
        self,
        embed_dim: int,
        self_attn: GroupedQueryAttention,
        feed_forward: GatedFeedForward,
        *,
        dropout: float = 0.0,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.self_attn_norm = RMSNorm(embed_dim, norm_eps)
        self.self_attn = self_attn
        self.feed_forward_norm = RMSNorm(embed_dim, norm_eps)
        self.feed_forward = feed_forward
        self.dropout_module = Dropout(dropout)

    def forward(self, x: Tensor, rotation: Rotation, mask: Tensor | None, skip: int = 0) -> Tensor:
        """(B, T, C) to (B, T - skip, C); the arguments are those of `GroupedQueryAttention.forward`."""
        x = x[:, skip:] + self.dropout_module(self.self_attn(self.self_attn_norm(x), rotation, mask, skip))
        return self._feed_forward(x)

    def step(
        self, x: Tensor, rotation: Rotation, cache: PackedCache, place: int, *, start: int, mask: Tensor
    ) -> Tensor:
        """New positions (N, T, C) alone; `start` are stored in the cache's layer `place`."""
        attended = self.self_attn.step(
            self.self_attn_norm(x),
            rotation,
            cache.self_attention[place],
            mask=mask,
            beam=cache.beam,
            start=start,
            max_length=cache.max_length,
        )
        return self._feed_forward(x + self.dropout_module(attended))

    def _feed_forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.dropout_module(self.feed_forward(self.feed_forward_norm(x)))
        return result


class RotaryDecoder(IncrementalDecoder):
    """Token embeddings, layers, a norm, projection to the vocabulary.

    Args:
        embed_tokens: the embedding table; its `padding_idx` is the padding symbol.
        rotary: positions.
        layers: at least one.
        norm: behind the last layer.
        output_projection: to the vocabulary; its weight may be the embedding's.
        document_start: the symbol that begins a document: attention does not look back beyond it, and positions
            start again; None: the whole text is one document.
        window: how many positions a token sees, its own among them; None: all.
        max_positions: the longest text, in tokens.
        options: dropout on the embedded input; activation checkpointing.
    """

    can_skip = True

    def __init__(
        self,
        embed_tokens: nn.Embedding,
        rotary: RotaryEmbedding,
        layers: Iterable[RotaryDecoderLayer],
        norm: RMSNorm,
        output_projection: nn.Linear,
        *,
        document_start: int | None = None,
        window: int | None = None,
        max_positions: int,
        options: StackOptions,
    ) -> None:
        super().__init__()
        assert embed_tokens.padding_idx is not None, "the embedding of a decoder must know its padding symbol"
        self.padding_idx = embed_tokens.padding_idx
        self.embed_tokens = embed_tokens
        self.rotary = rotary
        self.layers = nn.ModuleList(layers)
        self.norm = norm
        self.output_projection = output_projection
        self.document_start = document_start
        self.window = window
        self.dropout_module = Dropout(options.dropout)
        self.options = options
        self._max_positions = max_positions

    def forward(
        self,
        prev_output_tokens: Tensor,
        encoder_out: EncoderOutput | None = None,
        *,
        cache: DecoderCache | None = None,
        features_only: bool = False,
        return_all_hiddens: bool = False,
        skip: int = 0,
        **_cross_attention: Any,
    ) -> ModelOutput:
        """Decode; see `IncrementalDecoder.forward`. There is no attention to a source.

        `skip`: without a cache, the outputs of so many leading positions are left out.
        """
        x = self.dropout_module(self.embed_tokens(prev_output_tokens))
        hidden_states = [x]
        if cache is None:
            rotation, mask = self._whole(prev_output_tokens)
            for place, layer in enumerate(self.layers):
                is_last = place == len(self.layers) - 1
                x = run_layer(layer, self.options, self.training, x, rotation, mask, skip if is_last else 0)
                hidden_states.append(x)
        elif isinstance(cache, PackedCache):
            tokens = prev_output_tokens
            begins = None if self.document_start is None else tokens.eq(self.document_start)
            mask, positions = cache.advance(tokens.eq(self.padding_idx), x.dtype, begins=begins)
            # What a text's length is while it is being written: that of each row by itself, whatever is beside it.
            rotation = self.rotary(cache.length, (positions - 1).clamp(min=0), positions.amax(1))
            for place, layer in enumerate(self.layers):
                assert isinstance(layer, RotaryDecoderLayer)
                start = cache.stored - tokens.size(1)
                x = layer.step(x, rotation, cache, place, start=start, mask=mask)
                hidden_states.append(x)
        else:
            raise TypeError(f"this decoder's cache is made by its new_cache; got {type(cache).__name__}")
        x = self.norm(x)
        return ModelOutput(
            logits=x if features_only else self.output_layer(x),
            hidden_states=hidden_states if return_all_hiddens else [],
        )

    def output_layer(self, features: Tensor) -> Tensor:
        logits: Tensor = self.output_projection(features)
        return logits

    def output_linear(self) -> nn.Linear:
        return self.output_projection

    def new_cache(self, rows: int, max_length: int, *, beam: int = 1) -> PackedCache:
        device = self.embed_tokens.weight.device
        return PackedCache(len(self.layers), rows, max_length, beam=beam, device=device, window=self.window)

    def max_positions(self) -> int:
        return self._max_positions

    def context_reach(self) -> int | None:
        if self.window is None or self.why_not_carried_on():
            return None
        return len(self.layers) * (self.window - 1)

    def why_not_carried_on(self) -> str | None:
        return (
            "its positions (model.rope_scaling=dynamic) change with the length of the text"
            if self.rotary.is_dynamic
            else None
        )

    def _whole(self, tokens: Tensor) -> tuple[Rotation, Tensor | None]:
        """Rotations of whole texts (B, T), and who sees whom: None, (T, T) or (B, 1, T, T) bool."""
        length = tokens.size(1)
        real = tokens.ne(self.padding_idx)
        # Padding behind a text is not seen by it anyway.
        padded_in_front = bool((~real[:, :-1] & real[:, 1:]).any())
        documents: Tensor | None = None
        positions: Tensor | None = None
        if self.document_start is not None:
            begins = tokens.eq(self.document_start)
            if bool(begins[:, 1:].any()):
                documents = begins.cumsum(1)
        mask: Tensor | None = None
        if padded_in_front or documents is not None:
            counted = real.cumsum(1) - 1
            positions = counted.clamp(min=0)
            if documents is not None:
                positions = (counted - torch.where(begins, counted, 0).cummax(1).values).clamp(min=0)
        if (self.window is not None and self.window < length) or positions is not None:
            steps = torch.arange(length, device=tokens.device)
            distance = steps.unsqueeze(1) - steps
            mask = (distance >= 0) & (distance < (self.window or length))
            if documents is not None:
                mask = mask & (documents.unsqueeze(2) == documents.unsqueeze(1))
            if padded_in_front:
                # Padding sees itself, since no row may be empty.
                mask = mask & (real.unsqueeze(1) | (distance == 0))
            if mask.dim() == 3:
                mask = mask.unsqueeze(1)
        return self.rotary(length, positions, real.sum(1) if positions is None else positions.amax(1) + 1), mask
