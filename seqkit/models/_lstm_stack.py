"""The decoder of LSTM models, put together from parts.

Knows nothing of configs, dictionaries or tasks. Axes: N rows, T target length, C output width, V vocabulary, H hidden
width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.models.base import EncoderOutput, IncrementalDecoder, ModelOutput
from seqkit.modules.adaptive_softmax import AdaptiveSoftmax
from seqkit.modules.cache import DecoderCache
from seqkit.modules.dropout import Dropout
from seqkit.modules.recurrent import LSTMLayer
from seqkit.modules.state_cache import StateCache


def small_embedding(count: int, dim: int, padding_idx: int) -> nn.Embedding:
    """A table (count, dim) drawn uniformly between -0.1 and 0.1, zero at the padding symbol."""
    table = nn.Embedding(count, dim, padding_idx)
    nn.init.uniform_(table.weight, -0.1, 0.1)
    nn.init.zeros_(table.weight[padding_idx])
    return table


def small_linear(in_features: int, out_features: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer whose weights and bias are drawn uniformly between -0.1 and 0.1."""
    layer = nn.Linear(in_features, out_features, bias=bias)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -0.1, 0.1)
    return layer


class LSTMDecoder(IncrementalDecoder):
    """Token embeddings, layers of LSTM one above the other, projection to the vocabulary.

    Args:
        embed_tokens: the embedding table.
        layers: at least one; each takes the one below's hidden states.
        additional_fc: from the hidden width to that of the output, where they differ.
        output: to the vocabulary; None: the embedding's own weights.
        dropout_in: on embeddings.
        dropout_out: on the hidden states of each layer and on what goes to the output.
        residuals: each layer adds its own hidden states of one step before to what it hands on.
        max_positions: the longest target, in tokens.
    """

    def __init__(
        self,
        embed_tokens: nn.Embedding,
        layers: Iterable[LSTMLayer],
        additional_fc: nn.Linear | None,
        output: nn.Linear | AdaptiveSoftmax | None,
        *,
        dropout_in: float,
        dropout_out: float,
        residuals: bool = False,
        max_positions: int,
    ) -> None:
        super().__init__()
        self.embed_tokens = embed_tokens
        self.layers = nn.ModuleList(layers)
        self.additional_fc = additional_fc
        self.fc_out: nn.Linear | None = None
        if isinstance(output, AdaptiveSoftmax):
            self.adaptive_softmax = output
        else:
            self.fc_out = output
        self.dropout_in_module = Dropout(dropout_in)
        self.dropout_out_module = Dropout(dropout_out)
        self.residuals = residuals
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
        rows, length = prev_output_tokens.shape
        x = self.dropout_in_module(self.embed_tokens(prev_output_tokens))
        if cache is None:
            states: dict[str, Tensor] = {}
        elif isinstance(cache, StateCache):
            cache.advance(rows, length)
            states = cache.states
        else:
            raise TypeError(f"this decoder's cache is made by its new_cache; got {type(cache).__name__}")
        hidden_states = [x]
        for place, layer in enumerate(self.layers):
            assert isinstance(layer, LSTMLayer)
            zero = x.new_zeros(rows, layer.hidden_size)
            before = states.get(f"{place}.hidden", zero), states.get(f"{place}.cell", zero)
            hidden, (states[f"{place}.hidden"], states[f"{place}.cell"]) = layer.sequence(x, before)
            x = self.dropout_out_module(hidden)
            hidden_states.append(x)
            if self.residuals and place < len(self.layers) - 1:
                x = x + torch.cat((before[0].unsqueeze(1), hidden[:, :-1]), dim=1)
        if self.additional_fc is not None:
            x = self.dropout_out_module(self.additional_fc(x))
        return ModelOutput(
            logits=x if features_only else self.output_layer(x),
            hidden_states=hidden_states if return_all_hiddens else [],
        )

    def output_layer(self, features: Tensor) -> Tensor:
        if self.adaptive_softmax is not None:
            return features
        if self.fc_out is None:
            return F.linear(features, self.embed_tokens.weight)
        logits: Tensor = self.fc_out(features)
        return logits

    def output_linear(self) -> nn.Linear | None:
        return self.fc_out

    def new_cache(self, rows: int, max_length: int, *, beam: int = 1) -> StateCache:
        return StateCache(rows, max_length, beam=beam)

    def max_positions(self) -> int:
        return self._max_positions

    def why_not_carried_on(self) -> None:
        return None
