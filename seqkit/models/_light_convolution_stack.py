"""The decoder of lightweight and dynamic convolutions, put together from parts (Wu et al., 2019).

Knows nothing of configs, dictionaries or tasks. Axes: N rows, T target length, C width, K kernel width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.models._transformer_stack import TokenEmbedding
from seqkit.models.base import EncoderOutput, IncrementalDecoder, ModelOutput
from seqkit.modules.adaptive_softmax import AdaptiveSoftmax
from seqkit.modules.cache import DecoderCache
from seqkit.modules.dropout import Dropout
from seqkit.modules.dynamic_convolution import DynamicConvolution
from seqkit.modules.embedding import xavier_linear
from seqkit.modules.lightweight_convolution import LightweightConvolution
from seqkit.modules.positional_embedding import PositionalEmbedding
from seqkit.modules.state_cache import StateCache

CONVOLUTIONS: dict[str, type[LightweightConvolution] | type[DynamicConvolution]] = {
    "lightweight": LightweightConvolution,
    "dynamic": DynamicConvolution,
}


@dataclass(frozen=True)
class LightConvolutionOptions:
    """What all layers of a stack are told alike.

    Attributes:
        embed_dim: C.
        conv_dim: width of the convolution.
        ffn_dim: width between the two feed-forward maps.
        heads: of the convolution; must divide `conv_dim`.
        conv_type: a key of `CONVOLUTIONS`.
        glu: a gated linear unit (Dauphin et al., 2017) in front of the convolution.
        weight_softmax: kernels are put through a softmax.
        normalize_before: layer norm at the entry of each sublayer, not after the residual sum.
        dropout: on each sublayer's result.
        input_dropout: on the convolution sublayer's input.
        relu_dropout: after the feed-forward activation.
        weight_dropout: on kernels.
    """

    embed_dim: int
    conv_dim: int
    ffn_dim: int
    heads: int
    conv_type: str = "dynamic"
    glu: bool = True
    weight_softmax: bool = True
    normalize_before: bool = False
    dropout: float = 0.0
    input_dropout: float = 0.0
    relu_dropout: float = 0.0
    weight_dropout: float = 0.0


class LightConvolutionDecoderLayer(nn.Module):
    """A convolution over the past, then two linear maps with a ReLU between them.

    Args:
        kernel_size: K.
        options: the rest.
    """

    def __init__(self, kernel_size: int, options: LightConvolutionOptions) -> None:
        super().__init__()
        self.normalize_before = options.normalize_before
        self.linear1 = xavier_linear(options.embed_dim, options.conv_dim * (2 if options.glu else 1))
        self.glu = options.glu
        self.conv = CONVOLUTIONS[options.conv_type](
            options.conv_dim,
            kernel_size,
            padding_left=kernel_size - 1,
            num_heads=options.heads,
            weight_dropout=options.weight_dropout,
            weight_softmax=options.weight_softmax,
        )
        self.linear2 = xavier_linear(options.conv_dim, options.embed_dim)
        self.conv_layer_norm = nn.LayerNorm(options.embed_dim)
        self.fc1 = xavier_linear(options.embed_dim, options.ffn_dim)
        self.fc2 = xavier_linear(options.ffn_dim, options.embed_dim)
        self.final_layer_norm = nn.LayerNorm(options.embed_dim)
        self.dropout_module = Dropout(options.dropout)
        self.input_dropout_module = Dropout(options.input_dropout)
        self.relu_dropout_module = Dropout(options.relu_dropout)

    def forward(self, x: Tensor, earlier: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """One layer.

        Args:
            x: (N, T, C).
            earlier: (N, K - 1, conv_dim), what the layer returned for the positions before; None: there are none,
                and none will be asked for.

        Returns:
            (N, T, C), and the convolution's last inputs (N, K - 1, conv_dim) where `earlier` was given.
        """
        hidden = self.linear1(self.input_dropout_module(self._enter(x, self.conv_layer_norm)))
        if self.glu:
            hidden = F.glu(hidden, dim=-1)
        latest: Tensor | None = None
        if earlier is not None:
            reach = self.conv.kernel_size - 1
            latest = torch.cat((earlier, hidden), dim=1)[:, hidden.size(1) :]
            assert latest.size(1) == reach
        hidden = self.conv(hidden, earlier)
        x = self._leave(x, self.linear2(hidden), self.conv_layer_norm)
        hidden = self.relu_dropout_module(F.relu(self.fc1(self._enter(x, self.final_layer_norm))))
        return self._leave(x, self.fc2(hidden), self.final_layer_norm), latest

    def _enter(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        return norm(x) if self.normalize_before else x

    def _leave(self, residual: Tensor, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        x = residual + self.dropout_module(x)
        return x if self.normalize_before else norm(x)


class LightConvolutionDecoder(IncrementalDecoder):
    """Word vectors, positions, layers, projection to the vocabulary.

    Args:
        embed_tokens: the embedding; its `padding_idx` is the padding symbol.
        project_in: from the embedding's width to C, where they differ.
        embed_positions: None for none.
        layers: at least one.
        project_out: from C to the width of `output`, where they differ.
        output: to the vocabulary.
        options: those of the layers.
        embed_scale: factor on word vectors.
        max_positions: the longest target, in tokens.
    """

    def __init__(
        self,
        embed_tokens: TokenEmbedding,
        project_in: nn.Linear | None,
        embed_positions: PositionalEmbedding | None,
        layers: Iterable[LightConvolutionDecoderLayer],
        project_out: nn.Linear | None,
        output: nn.Linear | AdaptiveSoftmax,
        *,
        options: LightConvolutionOptions,
        embed_scale: float,
        max_positions: int,
    ) -> None:
        super().__init__()
        assert embed_tokens.padding_idx is not None, "the embedding of a decoder must know its padding symbol"
        self.padding_idx = embed_tokens.padding_idx
        self.embed_tokens = embed_tokens
        self.project_in_dim = project_in
        self.embed_positions = embed_positions
        self.layers = nn.ModuleList(layers)
        self.project_out_dim = project_out
        self.output_projection: nn.Linear | None = None
        if isinstance(output, AdaptiveSoftmax):
            self.adaptive_softmax = output
        else:
            self.output_projection = output
        self.dropout_module = Dropout(options.dropout)
        self.embed_scale = embed_scale
        self.conv_dim = options.conv_dim
        self._max_positions = max_positions

    def forward(
        self,
        prev_output_tokens: Tensor,
        encoder_out: EncoderOutput | None = None,
        *,
        cache: DecoderCache | None = None,
        features_only: bool = False,
        return_all_hiddens: bool = False,
        **_attention: Any,
    ) -> ModelOutput:
        """Decode; see `IncrementalDecoder.forward`. There is no attention."""
        if cache is not None and not isinstance(cache, StateCache):
            raise TypeError(f"this decoder's cache is made by its new_cache; got {type(cache).__name__}")
        x = self._embed(prev_output_tokens, cache)
        hidden_states = [x]
        for place, layer in enumerate(self.layers):
            assert isinstance(layer, LightConvolutionDecoderLayer)
            earlier: Tensor | None = None
            if cache is not None:
                earlier = cache.states.get(f"inputs.{place}")
                if earlier is None:
                    earlier = x.new_zeros(x.size(0), layer.conv.kernel_size - 1, self.conv_dim)
            x, latest = layer(x, earlier)
            if cache is not None and latest is not None:
                cache.states[f"inputs.{place}"] = latest
            hidden_states.append(x)
        if self.project_out_dim is not None:
            x = self.project_out_dim(x)
        return ModelOutput(
            logits=x if features_only else self.output_layer(x),
            hidden_states=hidden_states if return_all_hiddens else [],
        )

    def output_layer(self, features: Tensor) -> Tensor:
        if self.output_projection is None:
            return features
        logits: Tensor = self.output_projection(features)
        return logits

    def output_linear(self) -> nn.Linear | None:
        return self.output_projection

    def new_cache(self, rows: int, max_length: int, *, beam: int = 1) -> StateCache:
        return StateCache(rows, max_length, beam=beam)

    def max_positions(self) -> int:
        return self._max_positions

    def context_reach(self) -> int | None:
        if self.why_not_carried_on():
            return None
        layers = (layer for layer in self.layers if isinstance(layer, LightConvolutionDecoderLayer))
        return sum(layer.conv.kernel_size - 1 for layer in layers)

    def why_not_carried_on(self) -> str | None:
        return super().why_not_carried_on() if self.embed_positions is not None else None

    def _embed(self, tokens: Tensor, cache: StateCache | None) -> Tensor:
        x = self.embed_scale * self.embed_tokens(tokens)
        if self.project_in_dim is not None:
            x = self.project_in_dim(x)
        start = 0
        if cache is not None:
            start = cache.length
            cache.advance(*tokens.shape)
        if self.embed_positions is not None:
            x = x + self.embed_positions(self._positions(tokens, cache), tokens.size(1), start)
        embedded: Tensor = self.dropout_module(x)
        return embedded

    def _positions(self, tokens: Tensor, cache: StateCache | None) -> Tensor | None:
        """(N, T) numbers of the positions, counted over what is not padding; None where nothing is padded."""
        padding = tokens.eq(self.padding_idx)
        if cache is None and not padding.any():
            return None
        counts = (~padding).cumsum(1)
        if cache is not None:
            if "count" in cache.states:
                counts = counts + cache.states["count"]
            cache.states["count"] = counts[:, -1:]
        return counts.masked_fill(padding, 0)
