"""What every model promises: the protocols that criterions, generators and the trainer rely on.

Axes: B batch, T target length, S source length, C channels, V vocabulary, N decoder rows
(B, or B times the beam: row n then reads source row n // (N // B)). Tensors are batch-first.
Knows nothing of losses, tasks or files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.config.base import Config
from seqkit.modules.cache import DecoderCache
from seqkit.registry import registry

register_model = registry("model").register


@dataclass
class EncoderOutput:
    """What an encoder hands to its decoder.

    Attributes:
        states: (B, S, C) final states.
        padding_mask: (B, S) bool, True at padding; None where nothing is padded.
        embeddings: (B, S, C) embedded input, where the model offers it.
        hidden_states: each layer's (B, S, C) states, the embedded input first, when asked for.
        extra: whatever else a model family hands over, by name.
    """

    states: Tensor
    padding_mask: Tensor | None = None
    embeddings: Tensor | None = None
    hidden_states: list[Tensor] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def select(self, index: Tensor) -> EncoderOutput:
        """The rows `index` (B',) of every tensor: sentences that finished are dropped by it."""

        def rows(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.index_select(0, index)

        return EncoderOutput(
            states=self.states.index_select(0, index),
            padding_mask=rows(self.padding_mask),
            embeddings=rows(self.embeddings),
            hidden_states=[state.index_select(0, index) for state in self.hidden_states],
            extra={key: rows(value) if isinstance(value, Tensor) else value for key, value in self.extra.items()},
        )


@dataclass
class ModelOutput:
    """What a model returns from a forward pass.

    Attributes:
        logits: (B, T, V) unnormalised scores; with `features_only`, (B, T, C) features before the projection.
        attention: (B, T, S) cross-attention averaged over heads, only when asked for.
        hidden_states: each decoder layer's (B, T, C) states, the embedded input first, when asked for.
        extra: whatever else a model family reports, by name.
    """

    logits: Tensor
    attention: Tensor | None = None
    hidden_states: list[Tensor] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)


class Encoder(nn.Module, ABC):
    """Turns source tokens into states."""

    @abstractmethod
    def forward(
        self, src_tokens: Tensor, src_lengths: Tensor | None = None, *, return_all_hiddens: bool = False
    ) -> EncoderOutput:
        """Encode `src_tokens` (B, S)."""

    @abstractmethod
    def max_positions(self) -> int:
        """The longest source it takes, in tokens."""


class IncrementalDecoder(nn.Module, ABC):
    """Predicts each target token from those before it, at once (training) or one by one (generation)."""

    @abstractmethod
    def forward(
        self,
        prev_output_tokens: Tensor,
        encoder_out: EncoderOutput | None = None,
        *,
        cache: DecoderCache | None = None,
        features_only: bool = False,
        return_all_hiddens: bool = False,
        need_attention: bool = False,
        alignment_layer: int | None = None,
        alignment_heads: int | None = None,
    ) -> ModelOutput:
        """Decode.

        Args:
            prev_output_tokens: (N, T) tokens so far. With a `cache`, only the tokens that are new since the last
                call (T may be above 1: a forced prefix is read in one call).
            encoder_out: of B sentences; N is a multiple of B and rows of one sentence are adjacent.
            cache: from `new_cache`; it grows by T.
            features_only: leave out the projection to the vocabulary.
            need_attention: also return cross-attention weights, averaged over the heads
                (or over the first `alignment_heads`) of layer `alignment_layer` (default: the last).
        """

    @abstractmethod
    def output_layer(self, features: Tensor) -> Tensor:
        """Project features (…, C) to logits (…, V)."""

    def output_linear(self) -> nn.Linear | None:
        """The layer that `output_layer` is, where that is one linear layer and nothing else.

        A loss may then ask for features and project them itself, a few positions at a time.
        """
        return None

    @abstractmethod
    def new_cache(self, rows: int, max_length: int, *, beam: int = 1) -> DecoderCache:
        """An empty cache for `rows` hypotheses of at most `max_length` tokens.

        `beam`: how many adjacent rows make one sentence. Rows are only ever reordered within a sentence, and a
        cache that knows the beam may do that without copying; results are the same without it.
        """

    @abstractmethod
    def max_positions(self) -> int:
        """The longest target it takes, in tokens."""


class Model(nn.Module, ABC):
    """Base of all models. `model(**sample["net_input"])` returns a `ModelOutput`.

    A model is built by `build(config, task)`; the task gives it dictionaries. `config` is kept as given.
    """

    config: Config
    supports_cache: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def build(cls, config: Any, task: Any) -> Model:
        """Make the model from its config and the task's dictionaries."""

    @abstractmethod
    def max_positions(self) -> Any:
        """The longest input: a number of tokens, or a pair (source, target)."""

    def output_linear(self) -> nn.Linear | None:
        """The decoder's `output_linear`, where `forward` takes `features_only` and there is one."""
        return None

    def normalized_probs(self, logits: Tensor, *, log_probs: bool) -> Tensor:
        """(…, V) probabilities in float32 from logits."""
        function = F.log_softmax if log_probs else F.softmax
        return function(logits.float(), dim=-1)

    def set_num_updates(self, num_updates: int) -> None:
        """Called by the trainer before every update, for modules whose behaviour changes with it."""
        for module in self.modules():
            hook = getattr(module, "set_num_updates", None)
            if module is not self and callable(hook):
                hook(num_updates)


class EncoderDecoderModel(Model):
    """An encoder and an incremental decoder."""

    def __init__(self, encoder: Encoder, decoder: IncrementalDecoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor | None = None,
        prev_output_tokens: Tensor | None = None,
        *,
        features_only: bool = False,
        return_all_hiddens: bool = False,
        need_attention: bool = False,
        alignment_layer: int | None = None,
        alignment_heads: int | None = None,
    ) -> ModelOutput:
        """Encode (B, S), decode (B, T) with teacher forcing; logits (B, T, V)."""
        assert prev_output_tokens is not None, "an encoder-decoder model needs prev_output_tokens"
        encoder_out = self.encoder(src_tokens, src_lengths, return_all_hiddens=return_all_hiddens)
        output: ModelOutput = self.decoder(
            prev_output_tokens,
            encoder_out,
            features_only=features_only,
            return_all_hiddens=return_all_hiddens,
            need_attention=need_attention,
            alignment_layer=alignment_layer,
            alignment_heads=alignment_heads,
        )
        return output

    def output_linear(self) -> nn.Linear | None:
        return self.decoder.output_linear()

    def max_positions(self) -> tuple[int, int]:
        return self.encoder.max_positions(), self.decoder.max_positions()


class LanguageModel(Model):
    """A decoder alone; its `src_tokens` are the text itself."""

    def __init__(self, decoder: IncrementalDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self, src_tokens: Tensor, src_lengths: Tensor | None = None, *, features_only: bool = False
    ) -> ModelOutput:
        """Predict the next token at each position of (B, T); logits (B, T, V)."""
        output: ModelOutput = self.decoder(src_tokens, features_only=features_only)
        return output

    def output_linear(self) -> nn.Linear | None:
        return self.decoder.output_linear()

    def max_positions(self) -> int:
        return self.decoder.max_positions()


def build_model(config: Config, task: Any) -> Model:
    """Build the model that `config._name` names."""
    model: Model = registry("model").get(str(config._name)).cls.build(config, task)
    model.config = config
    return model
