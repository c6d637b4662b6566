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
from seqkit.modules.adaptive_softmax import AdaptiveSoftmax
from seqkit.modules.cache import DecoderCache
from seqkit.registry import registry

register_model = registry("model").register
register_model_architecture = registry("model").register_variant


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
        logits: (B, T, V) unnormalised scores; with `features_only`, and where the model has an adaptive softmax,
            (B, T, C) features before the projection.
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
    """Predicts each target token from those before it, at once (training) or one by one (generation).

    Attributes:
        adaptive_softmax: the distribution over words of a decoder that has no logits; `output_layer` then returns
            features as they are.
        reads_source_once: whether all that later calls need of the source is in the cache after the first: of
            `encoder_out` they only read that there is one, and how long it is.
        can_skip: whether `forward` takes `skip`, the number of leading positions whose outputs are left out, and saves
            what is computed for these alone.
    """

    can_skip: ClassVar[bool] = False
    reads_source_once: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.adaptive_softmax: AdaptiveSoftmax | None = None

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
        """Project features (…, C) to logits (…, V); see `adaptive_softmax` for decoders that have none."""

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

    def context_reach(self) -> int | None:
        """How many tokens back an output depends on; None without a bound, or where its place in the text counts."""
        return None

    def why_not_carried_on(self) -> str | None:
        """Why a cache cannot go along an endless text whose earliest tokens are forgotten; None if it can."""
        return "it numbers positions from the beginning of what it reads"


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

    @property
    def adaptive_softmax(self) -> AdaptiveSoftmax | None:
        """The decoder's adaptive softmax, where there is one: `ModelOutput.logits` are then features."""
        return None

    def normalized_probs(self, logits: Tensor, *, log_probs: bool) -> Tensor:
        """(…, V) probabilities in float32 from `ModelOutput.logits`."""
        if self.adaptive_softmax is not None:
            result = self.adaptive_softmax.log_prob(logits)
            return result if log_probs else result.exp()
        function = F.log_softmax if log_probs else F.softmax
        return function(logits.float(), dim=-1)

    def target_log_probs(self, logits: Tensor, target: Tensor) -> Tensor:
        """(…) log-probabilities in float32 of the words `target` (…) from `ModelOutput.logits`."""
        if self.adaptive_softmax is not None:
            return self.adaptive_softmax.target_log_prob(logits, target)
        return self.normalized_probs(logits, log_probs=True).gather(-1, target.unsqueeze(-1)).squeeze(-1)

    def set_num_updates(self, num_updates: int) -> None:
        """Called by the trainer before every update, for modules whose behaviour changes with it."""
        for module in self.modules():
            hook = getattr(module, "set_num_updates", None)
            if module is not self and callable(hook):
                hook(num_updates)


class EncoderDecoderModel(Model):
    """An encoder and an incremental decoder.

    Attributes:
        full_context_alignment: with `need_attention`, `forward` returns the attention of a pass in which each target
            token sees the whole target; word alignments are then made by such a pass over the finished output.
    """

    full_context_alignment: bool = False

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

    @property
    def adaptive_softmax(self) -> AdaptiveSoftmax | None:
        return self.decoder.adaptive_softmax

    def max_positions(self) -> tuple[int, int]:
        return self.encoder.max_positions(), self.decoder.max_positions()


class LanguageModel(Model):
    """A decoder alone; its `src_tokens` are the text itself.

    Attributes:
        supported_targets: what it can be trained to predict at each position: the `"future"` token, the `"past"` one,
            or the token `"self"`.
    """

    supported_targets: ClassVar[frozenset[str]] = frozenset({"future"})

    def __init__(self, decoder: IncrementalDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self, src_tokens: Tensor, src_lengths: Tensor | None = None, *, features_only: bool = False, skip: int = 0
    ) -> ModelOutput:
        """Predict the next token at each position of (B, T) from the `skip`-th on; logits (B, T - skip, V)."""
        if skip and self.decoder.can_skip:
            output: ModelOutput = self.decoder(src_tokens, features_only=features_only, skip=skip)
        else:
            output = self.decoder(src_tokens, features_only=features_only)
            output.logits = output.logits[:, skip:]
        return output

    def output_linear(self) -> nn.Linear | None:
        return self.decoder.output_linear()

    @property
    def adaptive_softmax(self) -> AdaptiveSoftmax | None:
        return self.decoder.adaptive_softmax

    def max_positions(self) -> int:
        return self.decoder.max_positions()


@dataclass
class RefinedOutput:
    """Whole outputs on their way through an iterative decoder.

    Attributes:
        tokens: (N, T) int64, padded; the beginning and the end symbol are part of each.
        scores: (N, T) float32 log-probability of each token; 0 for those that were not predicted.
        attention: (N, T, S) cross-attention, where the model offers it.
        step: how many refinements there have been.
        max_step: how many there will be at most.
        history: the (N, T) tokens of each intermediate stage, the first included; None unless asked for. A model adds
            what it makes, as many stages in one refinement as it has.
    """

    tokens: Tensor
    scores: Tensor
    attention: Tensor | None = None
    step: int = 0
    max_step: int = 0
    history: list[Tensor] | None = None


class IterativeModel(Model):
    """Writes whole outputs at once and refines them step by step (non-autoregressive models).

    Attributes:
        supports_length_beam: it foretells lengths, so that several may be tried for each sentence.
    """

    supports_length_beam: ClassVar[bool] = False

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    @abstractmethod
    def first_output(self, encoder_out: EncoderOutput, src_tokens: Tensor) -> RefinedOutput:
        """What refinement begins with, for sources `src_tokens` (B, S)."""

    def try_lengths(self, first: RefinedOutput, beam: int) -> RefinedOutput:
        """`first` (B rows) with the `beam` likeliest lengths of each sentence in place of one (B·beam rows).

        Rows of one sentence are adjacent. Called only where `supports_length_beam` is set.
        """
        raise NotImplementedError(f"{type(self).__name__} sets supports_length_beam, but has no try_lengths")

    @abstractmethod
    def refine(
        self,
        output: RefinedOutput,
        encoder_out: EncoderOutput,
        *,
        eos_penalty: float,
        max_ratio: float,
        decoding_format: str | None,
    ) -> RefinedOutput:
        """The next stage of each output.

        Args:
            output: N rows.
            encoder_out: N rows, one for each output.
            eos_penalty: taken from the score of ending insertion early.
            max_ratio: outputs may have at most this many tokens for each source token.
            decoding_format: of the section `generation`.
        """


def build_model(config: Config, task: Any) -> Model:
    """Build the model that `config._name` names."""
    model: Model = registry("model").get(str(config._name)).cls.build(config, task)
    model.config = config
    return model
