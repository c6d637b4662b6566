"""The decoder of gated convolutional models, put together from parts (Dauphin et al., 2017; Gehring et al., 2017).

Knows nothing of configs, dictionaries or tasks. Axes: N rows, T target length, I input channels, C channels of a
layer, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.config.list_expression import list_expression
from seqkit.models.base import EncoderOutput, IncrementalDecoder, ModelOutput
from seqkit.modules.adaptive_softmax import AdaptiveSoftmax
from seqkit.modules.cache import DecoderCache
from seqkit.modules.dropout import Dropout
from seqkit.modules.state_cache import StateCache
from seqkit.modules.weight_norm import WeightNormConvolution, WeightNormLinear


@dataclass(frozen=True)
class ConvolutionSpec:
    """One layer.

    Attributes:
        channels: C, of its output.
        kernel_size: K, odd or even.
        residual: how many layers back the input that is added to its output lies; 0: none is.
    """

    channels: int
    kernel_size: int
    residual: int = 1


def parse_convolutions(text: str) -> list[ConvolutionSpec]:
    """The layers of fairseq's `"[(512, 3)] * 9 + [(1024, 1, 2)]"`: (channels, kernel width[, residual]).

    Raises:
        ValueError: the text is not such a list.
    """
    specs: list[ConvolutionSpec] = []
    for place, entry in enumerate(list_expression(text)):
        if (
            not isinstance(entry, tuple | list)
            or len(entry) not in (2, 3)
            or any(type(part) is not int for part in entry)
        ):
            raise ValueError(f"{entry!r} is not (channels, kernel width) or (channels, kernel width, residual)")
        spec = ConvolutionSpec(*entry)
        if spec.channels < 1 or spec.kernel_size < 1 or not 0 <= spec.residual <= place + 1:
            raise ValueError(
                f"{entry!r} as layer {place}: channels and kernel width are at least 1, and the residual is 0 or "
                f"reaches back at most {place + 1} layers"
            )
        specs.append(spec)
    if not specs:
        raise ValueError("there must be at least one layer")
    return specs


def gaussian_embedding(count: int, dim: int, padding_idx: int) -> nn.Embedding:
    """A table (count, dim) drawn from a normal distribution of deviation 0.1, zero at the padding symbol."""
    table = nn.Embedding(count, dim, padding_idx)
    nn.init.normal_(table.weight, 0, 0.1)
    nn.init.zeros_(table.weight[padding_idx])
    return table


class ConvolutionalDecoder(IncrementalDecoder):
    """Word vectors, gated convolutions over the past with residual connections, projection to the vocabulary.

        x' = (glu(conv(dropout(x))) + residual) · sqrt(1/2)

    Args:
        embed_tokens: the embedding table.
        specs: the layers.
        words: V.
        out_embed_dim: width before the projection to the vocabulary; an adaptive softmax has the last layer's width.
        dropout: on word vectors, on each layer's input, and before the projection.
        adaptive_softmax_cutoff: where the clusters of an adaptive softmax end; None for a plain projection.
        adaptive_softmax_dropout: in the adaptive softmax.
        max_positions: the longest target, in tokens.
    """

    def __init__(
        self,
        embed_tokens: nn.Embedding,
        specs: Sequence[ConvolutionSpec],
        words: int,
        *,
        out_embed_dim: int,
        dropout: float,
        adaptive_softmax_cutoff: Sequence[int] | None = None,
        adaptive_softmax_dropout: float = 0.0,
        max_positions: int,
    ) -> None:
        super().__init__()
        self.embed_tokens = embed_tokens
        first, last = specs[0].channels, specs[-1].channels
        self.fc1 = WeightNormLinear(embed_tokens.embedding_dim, first, dropout=dropout)
        projections: list[nn.Module] = []
        convolutions: list[nn.Module] = []
        widths = [first]
        for spec in specs:
            residual = widths[-spec.residual] if spec.residual else spec.channels
            differs = residual != spec.channels
            projections.append(WeightNormLinear(residual, spec.channels) if differs else nn.Identity())
            convolutions.append(WeightNormConvolution(widths[-1], 2 * spec.channels, spec.kernel_size, dropout=dropout))
            widths.append(spec.channels)
        self.projections = nn.ModuleList(projections)
        self.convolutions = nn.ModuleList(convolutions)
        self.fc2: WeightNormLinear | None = None
        self.fc3: WeightNormLinear | None = None
        if adaptive_softmax_cutoff is not None:
            self.adaptive_softmax = AdaptiveSoftmax(
                words, last, adaptive_softmax_cutoff, dropout=adaptive_softmax_dropout
            )
        else:
            self.fc2 = WeightNormLinear(last, out_embed_dim)
            self.fc3 = WeightNormLinear(out_embed_dim, words, dropout=dropout)
        self.dropout_module = Dropout(dropout)
        self._residuals = [spec.residual for spec in specs]
        self._reach = sum(spec.kernel_size - 1 for spec in specs)
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
        if isinstance(cache, StateCache):
            cache.advance(*prev_output_tokens.shape)
        elif cache is not None:
            raise TypeError(f"this decoder's cache is made by its new_cache; got {type(cache).__name__}")
        x = self.dropout_module(self.embed_tokens(prev_output_tokens))
        x = self.fc1(x, _weight("fc1", self.fc1, cache))
        outputs = [x]
        for place, (projection, back) in enumerate(zip(self.projections, self._residuals, strict=True)):
            residual = projection(outputs[-back]) if back else None
            x = F.glu(self._convolve(place, self.dropout_module(x), cache), dim=-1)
            if residual is not None:
                x = (x + residual) * math.sqrt(0.5)
            outputs.append(x)
        if self.fc2 is not None and self.fc3 is not None:
            x = self.dropout_module(self.fc2(x, _weight("fc2", self.fc2, cache)))
            if not features_only:
                x = self.fc3(x, _weight("fc3", self.fc3, cache))
        return ModelOutput(logits=x, hidden_states=outputs if return_all_hiddens else [])

    def output_layer(self, features: Tensor) -> Tensor:
        if self.fc3 is None:
            return features
        logits: Tensor = self.fc3(features)
        return logits

    def new_cache(self, rows: int, max_length: int, *, beam: int = 1) -> StateCache:
        return StateCache(rows, max_length, beam=beam)

    def max_positions(self) -> int:
        return self._max_positions

    def context_reach(self) -> int:
        return self._reach

    def why_not_carried_on(self) -> None:
        return None

    def _convolve(self, place: int, x: Tensor, cache: StateCache | None) -> Tensor:
        """Layer `place` over (N, T, I) and, with a cache, over the inputs before them."""
        convolution = self.convolutions[place]
        assert isinstance(convolution, WeightNormConvolution)
        weight = _weight(f"convolutions.{place}", convolution, cache)
        reach = convolution.kernel_size - 1
        if cache is not None and reach > 0:
            name = f"inputs.{place}"
            earlier = cache.states.get(name)
            if earlier is None:
                earlier = x.new_zeros(x.size(0), reach, x.size(2))
            x = torch.cat((earlier, x), dim=1)
            cache.states[name] = x[:, -reach:]
            reach = 0
        result: Tensor = convolution(x, left=reach, weight=weight)
        return result


def _weight(name: str, module: WeightNormLinear | WeightNormConvolution, cache: StateCache | None) -> Tensor:
    """A module's normalised weights; with a cache they are computed once."""
    if cache is None:
        return module.weight
    if name not in cache.constants:
        cache.constants[name] = module.weight
    return cache.constants[name]
