"""The decode callable: one model, or several whose probabilities are averaged, run one token at a time.

Knows nothing of beams' scores, of how tokens are chosen, or of when a sentence ends.
Axes: B sentences still decoded, N hypotheses (rows; N is B times the hypotheses per sentence), T tokens so far,
S source length, V vocabulary.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqkit.errors import ConfigError
from seqkit.generation.compile import CompiledSteps
from seqkit.generation.dropout import evaluating
from seqkit.models.base import EncoderDecoderModel, EncoderOutput, IncrementalDecoder, LanguageModel, Model, ModelOutput
from seqkit.modules.cache import DecoderCache, TransformerCache
from seqkit.modules.packed_linear import quick
from seqkit.modules.positional_embedding import LearnedPositionalEmbedding


class StepOutput(NamedTuple):
    """What is known after one step.

    Attributes:
        log_probs: (N, V) float32, (B, V) at the first step; valid until the next step, and free to be written into.
        attention: (N, S) cross-attention of the newest token, averaged over models; None unless asked for.
    """

    log_probs: Tensor
    attention: Tensor | None


class Ensemble:
    """Models that decode together; the probability of a token is the mean of theirs.

        log p = logsumexp_m(log p_m) - log(number of models)

    Args:
        models: encoder-decoder models or language models with one vocabulary.
        temperature: logits are divided by this; those of `language_model` are not.
        need_attention: also return cross-attention.
        retain_dropout: dropout stays active while decoding.
        retain_dropout_modules: only that of modules of classes with these names.
        language_model: its log-probabilities are added, times `language_model_weight` (shallow fusion,
            Gulcehre et al., 2015).
        compiled: steps of these models that are used where they can be; see `generation.compile`.

    Raises:
        ConfigError: a model that cannot be decoded token by token.
    """

    def __init__(
        self,
        models: Sequence[Model],
        *,
        temperature: float = 1.0,
        need_attention: bool = False,
        language_model: LanguageModel | None = None,
        language_model_weight: float = 0.0,
        retain_dropout: bool = False,
        retain_dropout_modules: Collection[str] | None = None,
        compiled: CompiledSteps | None = None,
    ) -> None:
        if not models:
            raise ConfigError("a generator needs at least one model")
        for model in [*models, *([language_model] if language_model is not None else [])]:
            if not isinstance(model, EncoderDecoderModel | LanguageModel):
                raise ConfigError(
                    f"a model of type {type(model).__name__} cannot be decoded token by token; "
                    "beam search needs an encoder-decoder model or a language model"
                )
        self.models = list(models)
        self.temperature = temperature
        self.need_attention = need_attention
        self.language_model = language_model
        self.language_model_weight = language_model_weight
        self.retain_dropout = retain_dropout
        self.retain_dropout_modules = retain_dropout_modules
        self.compiled = compiled

    @property
    def all_models(self) -> list[Model]:
        """The models and the language model beside them."""
        return self.models if self.language_model is None else [*self.models, self.language_model]

    @property
    def has_encoder(self) -> bool:
        """Whether any model reads a source."""
        return any(isinstance(model, EncoderDecoderModel) for model in self.models)

    @property
    def aligns_afterwards(self) -> bool:
        """Whether the attention of a model is to be taken from a pass over whole outputs."""
        return any(isinstance(model, EncoderDecoderModel) and model.full_context_alignment for model in self.models)

    def attention_of(self, net_input: dict[str, Any]) -> Tensor:
        """(B, T, S) cross-attention of given outputs (`prev_output_tokens`), averaged over models."""
        attentions = [model(**net_input, need_attention=True).attention for model in self.models]
        return torch.stack([attention for attention in attentions if attention is not None]).mean(dim=0)

    def max_decoder_positions(self) -> int:
        """The longest target that all models take, in tokens.

        A language model beside them only counts where it has no more positions: what it was trained on is no bound.
        """
        bounding = list(self.models)
        language_model = self.language_model
        if language_model is not None:
            learned = any(isinstance(module, LearnedPositionalEmbedding) for module in language_model.modules())
            bounding += [language_model] if learned else []
        return min(_decoder(model).max_positions() for model in bounding)

    def evaluating(self) -> contextlib.AbstractContextManager[None]:
        """All models in evaluation mode, but for the dropout that stays active, and back again."""
        return evaluating(self.all_models, retain_dropout=self.retain_dropout, retain_in=self.retain_dropout_modules)

    def start(self, net_input: dict[str, Any], *, beam: int, max_length: int) -> Decoding:
        """Encode the sentences of a batch.

        Args:
            net_input: a sample's `net_input`; `prev_output_tokens` is not read.
            beam: hypotheses for each sentence.
            max_length: most tokens that will be decoded for a sentence.
        """
        sources = {name: value for name, value in net_input.items() if name != "prev_output_tokens"}
        states = [_ModelState(model, sources, beam, max_length, self.compiled) for model in self.models]
        fused = None
        if self.language_model is not None:
            fused = _ModelState(self.language_model, sources, beam, max_length, self.compiled)
        return Decoding(self, states, fused, beam)


class Decoding:
    """One batch being decoded by an `Ensemble`, `beam` hypotheses for each sentence."""

    def __init__(self, ensemble: Ensemble, states: list[_ModelState], fused: _ModelState | None, beam: int) -> None:
        self._ensemble = ensemble
        self._beam = beam
        self._states = states
        self._fused = fused

    def step(self, tokens_NT: Tensor) -> StepOutput:
        """Log-probabilities of the token that follows `tokens_NT` (the last column is new since the last call).

        At the first step the hypotheses of a sentence are all the same, and only the first one's are computed.
        """
        ensemble = self._ensemble
        every = self._beam if tokens_NT.size(1) == 1 else 1
        outputs = [
            state.step(tokens_NT, every, ensemble.temperature, ensemble.need_attention) for state in self._states
        ]
        log_probs = outputs[0].log_probs
        if len(outputs) > 1:
            stacked = torch.stack([output.log_probs for output in outputs])
            log_probs = torch.logsumexp(stacked, dim=0).sub_(math.log(len(outputs)))
        if self._fused is not None:
            addition = self._fused.step(tokens_NT, every, temperature=1.0, need_attention=False).log_probs
            log_probs = log_probs.add_(addition, alpha=ensemble.language_model_weight)
        attentions = [output.attention for output in outputs if output.attention is not None]
        attention = None
        if attentions:
            attention = attentions[0] if len(attentions) == 1 else torch.stack(attentions).mean(dim=0)
        return StepOutput(log_probs, attention)

    def reorder(self, rows: Tensor) -> None:
        """Hypothesis i becomes what hypothesis `rows[i]` of the same sentence was; `rows` (N,)."""
        for state in self._all_states():
            state.reorder(rows)

    def select_sentences(self, sentences: Tensor) -> None:
        """Keep the sentences at the places `sentences` (B',), with all their hypotheses."""
        for state in self._all_states():
            state.select_sentences(sentences)

    def _all_states(self) -> list[_ModelState]:
        return self._states if self._fused is None else [*self._states, self._fused]


class _ModelState:
    """One model's encoder output and cache."""

    def __init__(
        self, model: Model, sources: dict[str, Any], beam: int, max_length: int, compiled: CompiledSteps | None
    ) -> None:
        self.model = model
        self.decoder = _decoder(model)
        self.encoder_out: EncoderOutput | None = None
        if isinstance(model, EncoderDecoderModel):
            self.encoder_out = model.encoder(**sources)
        # What is made here is nobody else's, so that it may be normalised where it stands.
        linear = model.output_linear() if type(model).normalized_probs is Model.normalized_probs else None
        self.projection = None if linear is None else quick(linear)
        self.cache: DecoderCache | None = None
        if model.supports_cache:
            rows = int(sources["src_tokens"].size(0)) * beam
            self.cache = self.decoder.new_cache(rows, max_length, beam=beam)
        sentences = int(sources["src_tokens"].size(0))
        step = None if compiled is None or self.cache is None else compiled.of(model)
        self.compiled = step if step is not None and step.is_for(sentences, beam) else None
        self._alone = sentences == 1

    def step(self, tokens_NT: Tensor, every: int, temperature: float, need_attention: bool) -> StepOutput:
        """Log-probabilities of every `every`-th row."""
        alike = every > 1 and isinstance(self.cache, TransformerCache) and self.cache.begins_alike
        if alike:
            tokens_NT = tokens_NT[::every]
        output = self._compiled_output(tokens_NT[:, -1:], need_attention)
        if output is None:
            output = self.decoder(
                tokens_NT if self.cache is None else tokens_NT[:, -1:],
                self.encoder_out,
                cache=self.cache,
                features_only=self.projection is not None,
                need_attention=need_attention,
            )
        newest = output.logits[:: 1 if alike else every, -1]
        if self.projection is not None:
            logits = self.projection(newest).float()
            if temperature != 1.0:
                logits.div_(temperature)
            log_probs = torch.log_softmax(logits, -1, out=logits)
        else:
            logits = newest / temperature if temperature != 1.0 else newest
            log_probs = self.model.normalized_probs(logits, log_probs=True)
        attention = None if output.attention is None else output.attention[:, -1]
        if attention is not None and alike:
            attention = attention.repeat_interleave(every, 0)
        return StepOutput(log_probs, attention)

    def _compiled_output(self, tokens_N1: Tensor, need_attention: bool) -> ModelOutput | None:
        """What the decoder gives by its compiled layers; None where it is to be called."""
        cache = self.cache
        if self.compiled is None or need_attention or not isinstance(cache, TransformerCache) or not cache.length:
            return None
        # the last sentence of several is not worth a compilation of its own
        if cache.rows == cache.beam and not self._alone:
            return None
        x = self.compiled(tokens_N1, self.encoder_out, cache).unsqueeze(1)
        return ModelOutput(logits=x if self.projection is not None else self.decoder.output_layer(x), attention=None)

    def reorder(self, rows: Tensor) -> None:
        if self.cache is not None:
            self.cache.reorder(rows)

    def select_sentences(self, sentences: Tensor) -> None:
        if self.encoder_out is not None and (self.cache is None or not self.decoder.reads_source_once):
            self.encoder_out = self.encoder_out.select(sentences)
        if self.cache is not None:
            self.cache.select_sentences(sentences)


def _decoder(model: Model) -> IncrementalDecoder:
    assert isinstance(model, EncoderDecoderModel | LanguageModel)
    return model.decoder
