"""The encoder and decoder stacks of the Transformer family, put together from parts.

Knows nothing of configs, dictionaries or tasks: the models that use it build the parts and hand them in.
Axes: B sentences, N = B·K decoder rows, T target length, S source length, C channels, V vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seqkit.models.base import Encoder, EncoderOutput, IncrementalDecoder, ModelOutput
from seqkit.modules.adaptive_input import AdaptiveInput
from seqkit.modules.adaptive_softmax import AdaptiveSoftmax
from seqkit.modules.attention import causal_bias, padding_mask_to_bias
from seqkit.modules.cache import MASKED, DecoderCache, TransformerCache
from seqkit.modules.character_token_embedder import CharacterTokenEmbedder
from seqkit.modules.decoder_step import DecoderLayerFunction, DecoderLayerStep, SourceTensors, mask_for_step
from seqkit.modules.dropout import Dropout
from seqkit.modules.layer_drop import LayerDropList
from seqkit.modules.packed_cache import PackedCache
from seqkit.modules.positional_embedding import PositionalEmbedding, count_positions
from seqkit.modules.transformer_layer import TransformerDecoderLayer, TransformerEncoderLayer

_MOST_REAL = 0.95
"""Share of positions that are not padding above which an encoder computes them all."""

TokenEmbedding = nn.Embedding | AdaptiveInput | CharacterTokenEmbedder
"""What turns tokens into vectors: it has a `padding_idx`, an `embedding_dim` and `num_embeddings`."""


@dataclass(frozen=True)
class StackOptions:
    """What both stacks are told alike.

    Attributes:
        embed_scale: factor on token embeddings.
        dropout: on the embedded input.
        layernorm_embedding: a layer norm on the embedded input.
        final_norm: a layer norm after the last layer.
        layerdrop: probability of leaving a layer out in training.
        layers_to_keep: which layers of a deeper checkpoint these layers are, in order; None: all.
        checkpoint_activations: compute layers again in the backward pass instead of keeping their activations
            (Chen et al., 2016).
        offload_activations: the same, and the layers' inputs wait for the backward pass in main memory.
    """

    embed_scale: float = 1.0
    dropout: float = 0.0
    layernorm_embedding: bool = False
    final_norm: bool = False
    layerdrop: float = 0.0
    layers_to_keep: tuple[int, ...] | None = None
    checkpoint_activations: bool = False
    offload_activations: bool = False


class StepTensors(NamedTuple):
    """What the layers of a decoder are given for one new position of each row; see `DecoderLayerFunction.one`.

    Attributes:
        buffers, sources: one for each layer.
    """

    x: Tensor
    end: int
    mask: Tensor
    buffers: list[Tensor]
    sources: list[SourceTensors | None]


class TransformerEncoder(Encoder):
    """Token embeddings, positions, layers.

    Args:
        embed_tokens: the embedding table; its `padding_idx` is the padding symbol.
        embed_positions: None for a model that does not know the order of words.
        layers: at least one.
        embed_dim: C.
        max_positions: the longest source, in tokens.

    Attributes:
        omits_padding: whether it may leave positions that are padding out, on a CPU without gradients. Nothing reads
            their states, which are zero then; those of the others are the same.
    """

    def __init__(
        self,
        embed_tokens: nn.Embedding,
        embed_positions: PositionalEmbedding | None,
        layers: Iterable[TransformerEncoderLayer],
        *,
        embed_dim: int,
        max_positions: int,
        options: StackOptions,
    ) -> None:
        super().__init__()
        assert embed_tokens.padding_idx is not None, "the embedding of an encoder must know its padding symbol"
        self.padding_idx = embed_tokens.padding_idx
        self.embed_tokens = embed_tokens
        self.embed_positions = embed_positions
        self.layernorm_embedding = nn.LayerNorm(embed_dim) if options.layernorm_embedding else None
        self.layers = LayerDropList(layers, options.layerdrop)
        self.layer_norm = nn.LayerNorm(embed_dim) if options.final_norm else None
        self.dropout_module = Dropout(options.dropout)
        self.options = options
        self.omits_padding = False
        self._max_positions = max_positions
        _keep_layers_on_load(self, options.layers_to_keep)

    def forward(
        self, src_tokens: Tensor, src_lengths: Tensor | None = None, *, return_all_hiddens: bool = False
    ) -> EncoderOutput:
        """Encode (B, S). States at padding are finite and mean nothing."""
        padding = src_tokens.eq(self.padding_idx)
        padding_mask = padding if padding.any() else None
        embedded = self.options.embed_scale * self.embed_tokens(src_tokens)
        x = embedded
        if self.embed_positions is not None:
            positions = None if padding_mask is None else count_positions(padding_mask)
            x = x + self.embed_positions(positions, src_tokens.size(1))
        if self.layernorm_embedding is not None:
            x = self.layernorm_embedding(x)
        x = self.dropout_module(x)
        mask: Tensor | None = None
        if padding_mask is not None:
            x = x.masked_fill(padding_mask.unsqueeze(-1), 0.0)
            mask = padding_mask_to_bias(padding_mask, x.dtype)
        hidden_states = [x] if return_all_hiddens else []
        places: Tensor | None = None
        if self.omits_padding and padding_mask is not None and not return_all_hiddens:
            places = _worth_gathering(padding_mask)
        if places is not None:
            x = x.flatten(0, 1).index_select(0, places)
        for _, layer in self.layers.active():
            x = run_layer(layer, self.options, self.training, x, mask, places)
            if return_all_hiddens:
                hidden_states.append(x)
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        if places is not None:
            x = x.new_zeros(src_tokens.numel(), x.size(1)).index_copy_(0, places, x).view(*src_tokens.shape, -1)
        return EncoderOutput(states=x, padding_mask=padding_mask, embeddings=embedded, hidden_states=hidden_states)

    def max_positions(self) -> int:
        return self._max_positions


class TransformerDecoder(IncrementalDecoder):
    """Token embeddings, positions, layers, projection to the vocabulary; also the whole of a language model.

    Args:
        embed_tokens: the embedding; its `padding_idx` is the padding symbol.
        project_in: from the embedding's width to C, where they differ.
        embed_positions: None for a model that does not know the order of words.
        layers: at least one.
        project_out: from C to the width of `output`, where they differ.
        output: to the vocabulary: a projection, whose weight may be the embedding's, or an adaptive softmax.
        embed_dim: C.
        max_positions: the longest target, in tokens.
        cross_self_attention: the layers' self-attention reads the source too.
    """

    can_skip = True
    reads_source_once = True

    def __init__(
        self,
        embed_tokens: TokenEmbedding,
        project_in: nn.Linear | None,
        embed_positions: PositionalEmbedding | None,
        layers: Iterable[TransformerDecoderLayer],
        project_out: nn.Linear | None,
        output: nn.Linear | AdaptiveSoftmax,
        *,
        embed_dim: int,
        max_positions: int,
        cross_self_attention: bool = False,
        options: StackOptions,
    ) -> None:
        super().__init__()
        assert embed_tokens.padding_idx is not None, "the embedding of a decoder must know its padding symbol"
        self.padding_idx = embed_tokens.padding_idx
        self.embed_tokens = embed_tokens
        self.project_in_dim = project_in
        self.embed_positions = embed_positions
        self.layernorm_embedding = nn.LayerNorm(embed_dim) if options.layernorm_embedding else None
        layers = list(layers)
        self._heads = layers[0].self_attn.num_heads
        self.layers = LayerDropList(layers, options.layerdrop)
        self.layer_norm = nn.LayerNorm(embed_dim) if options.final_norm else None
        self.project_out_dim = project_out
        self.output_projection: nn.Linear | None = None
        if isinstance(output, AdaptiveSoftmax):
            self.adaptive_softmax = output
        else:
            self.output_projection = output
        self.dropout_module = Dropout(options.dropout)
        self.cross_self_attention = cross_self_attention
        self.options = options
        self._max_positions = max_positions
        _keep_layers_on_load(self, options.layers_to_keep)

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
        skip: int = 0,
    ) -> ModelOutput:
        """Decode; see `IncrementalDecoder.forward`.

        `skip`: without a cache, the outputs of so many leading positions are left out.
        """
        if alignment_layer is None:
            alignment_layer = len(self.layers) - 1
        elif not -len(self.layers) <= alignment_layer < len(self.layers):
            raise ValueError(f"alignment_layer={alignment_layer} is not one of the {len(self.layers)} decoder layers")
        wanted = alignment_layer % len(self.layers) if need_attention else None
        if cache is None:
            x, hidden_states, weights = self._all_positions(prev_output_tokens, encoder_out, wanted, skip)
        elif isinstance(cache, TransformerCache):
            x, hidden_states, weights = self._new_positions(prev_output_tokens, encoder_out, cache, wanted)
        else:
            raise TypeError(f"this decoder's cache is made by its new_cache; got {type(cache).__name__}")
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        if self.project_out_dim is not None:
            x = self.project_out_dim(x)
        return ModelOutput(
            logits=x if features_only else self.output_layer(x),
            attention=None if weights is None else weights[:, :alignment_heads].mean(1),
            hidden_states=hidden_states if return_all_hiddens else [],
        )

    def output_layer(self, features: Tensor) -> Tensor:
        if self.output_projection is None:
            return features
        logits: Tensor = self.output_projection(features)
        return logits

    def output_linear(self) -> nn.Linear | None:
        return self.output_projection

    def new_cache(self, rows: int, max_length: int, *, beam: int = 1) -> TransformerCache:
        device = next(self.parameters()).device
        kind = TransformerCache if self.why_not_carried_on() else PackedCache
        return kind(len(self.layers), rows, max_length, beam=beam, device=device)

    def max_positions(self) -> int:
        return self._max_positions

    def why_not_carried_on(self) -> str | None:
        return super().why_not_carried_on() if self.embed_positions is not None else None

    def _all_positions(
        self, tokens: Tensor, encoder_out: EncoderOutput | None, wanted: int | None, skip: int
    ) -> tuple[Tensor, list[Tensor], Tensor | None]:
        padding = tokens.eq(self.padding_idx)
        padded, padded_left = torch.stack((padding.any(), (padding[:, :-1] & ~padding[:, 1:]).any())).tolist()
        # Padding on the right lies in everybody's future but its own. In training, nobody looks at what comes of it.
        must_hide = padded_left or (padded and not self.training)
        x = self._embed(tokens, count_positions(padding) if padded else None, 0)
        source = None if encoder_out is None else encoder_out.states
        source_mask = _source_mask(encoder_out, x.dtype)
        self_mask: Tensor | None = None
        joint = self.cross_self_attention and source is not None
        if must_hide or joint:
            self_mask = causal_bias(tokens.size(1), x.dtype, x.device)
            if must_hide:
                self_mask = torch.clamp(self_mask + padding_mask_to_bias(padding, x.dtype), min=MASKED)
            if joint and source is not None:
                self_mask = _with_source_columns(self_mask, source_mask, source, x.size(0))
                source = source.repeat_interleave(x.size(0) // source.size(0), 0)
                if source_mask is not None:
                    source_mask = source_mask.repeat_interleave(x.size(0) // source_mask.size(0), 0)
        hidden_states = [x]
        weights: Tensor | None = None
        active = list(self.layers.active())
        for place, layer in active:

            def forward(
                x: Tensor,
                layer: nn.Module = layer,
                need_weights: bool = place == wanted,
                skip: int = skip if place == active[-1][0] else 0,
            ) -> tuple[Tensor, Tensor | None]:
                result: tuple[Tensor, Tensor | None] = layer(
                    x, source, self_mask=self_mask, source_mask=source_mask, need_weights=need_weights, skip=skip
                )
                return result

            x, layer_weights = run_layer(forward, self.options, self.training, x)
            weights = layer_weights if layer_weights is not None else weights
            hidden_states.append(x)
        return x, hidden_states, weights

    def _new_positions(
        self, tokens: Tensor, encoder_out: EncoderOutput | None, cache: TransformerCache, wanted: int | None
    ) -> tuple[Tensor, list[Tensor], Tensor | None]:
        source = None if encoder_out is None else encoder_out.states
        if not cache.steps:
            cache.dtype = next(self.parameters()).dtype
            if source is not None:
                cache.set_source(source.size(0), _source_mask(encoder_out, cache.dtype))
            for place, layer in enumerate(self.layers):
                assert isinstance(layer, TransformerDecoderLayer)
                cache.steps.append(DecoderLayerStep(layer, cache, place, source))
        x, self_mask = self._advance(tokens, source, cache)
        start = cache.stored - tokens.size(1)
        one = tokens.size(1) == 1
        hidden_states = [x]
        weights: Tensor | None = None
        for place, _ in self.layers.active():
            x, layer_weights = cache.steps[place](x, start, self_mask, place == wanted)
            weights = layer_weights if layer_weights is not None else weights
            hidden_states.append(x)
        if one:
            x, hidden_states = x.unsqueeze(1), [states.unsqueeze(1) for states in hidden_states]
        return x, hidden_states, weights

    def _advance(self, tokens: Tensor, source: Tensor | None, cache: TransformerCache) -> tuple[Tensor, Tensor]:
        """What the layers are given of new tokens: (N, T, C) or, for one, (N, C); and their mask."""
        mask, positions = cache.advance(tokens.eq(self.padding_idx), cache.dtype)
        if self.cross_self_attention and source is not None:
            mask = _with_source_columns(mask, cache.source_mask, source, mask.size(0))
        x = self._embed(tokens, positions, cache.stored - tokens.size(1))
        return (x, mask) if tokens.size(1) > 1 else (x.squeeze(1), mask_for_step(mask, self._heads))

    def next_step(self, tokens: Tensor, encoder_out: EncoderOutput | None, cache: TransformerCache) -> StepTensors:
        """What a `step_function` needs to decode one more token (N, 1) of each row; not for the first one.

        The cache takes it for decoded.
        """
        x, mask = self._advance(tokens, None if encoder_out is None else encoder_out.states, cache)
        buffers = []
        end = 0
        for layer in cache.self_attention:
            buffer, end = layer.room_for_one(cache.beam, cache.stored - 1, cache.max_length, mask.size(2))
            buffers.append(buffer)
        return StepTensors(x, end, mask, buffers, [layer.tensors() for layer in cache.source_attention])

    def step_function(
        self, has_source: bool, ready: Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Tensor]]
    ) -> Callable[[StepTensors], Tensor]:
        """What gives features (N, C) of one new position, as a function of tensors alone, for a compiler.

        Args:
            has_source: whether there is one.
            ready: makes the function to call of a module; see `seqkit.modules.packed_linear.quick`.
        """
        functions = [
            DecoderLayerFunction(layer, has_source, ready)
            for layer in self.layers
            if isinstance(layer, TransformerDecoderLayer)
        ]
        behind = [ready(module) for module in (self.layer_norm, self.project_out_dim) if module is not None]

        def step(tensors: StepTensors) -> Tensor:
            x, end, mask, buffers, sources = tensors
            for function, buffer, source in zip(functions, buffers, sources, strict=True):
                x = function.one(x, end, mask, buffer, source)
            for function_behind in behind:
                x = function_behind(x)
            return x

        return step

    def _embed(self, tokens: Tensor, positions: Tensor | None, start: int) -> Tensor:
        x = self.embed_tokens(tokens)
        if self.options.embed_scale != 1.0:
            x = self.options.embed_scale * x
        if self.project_in_dim is not None:
            x = self.project_in_dim(x)
        if self.embed_positions is not None:
            x = x + self.embed_positions(positions, tokens.size(1), start)
        if self.layernorm_embedding is not None:
            x = self.layernorm_embedding(x)
        embedded: Tensor = self.dropout_module(x)
        return embedded


def _worth_gathering(padding_mask: Tensor) -> Tensor | None:
    """Places among the (B·S) positions that are not padding, where leaving out the others saves more than it costs.

    Nothing is left out on a GPU, where the host would have to wait, or in training, where batches hold little padding.
    """
    if padding_mask.device.type != "cpu" or torch.is_grad_enabled():
        return None
    places = padding_mask.view(-1).logical_not().nonzero().squeeze(1)
    return places if places.numel() < _MOST_REAL * padding_mask.numel() else None


def _source_mask(encoder_out: EncoderOutput | None, dtype: torch.dtype) -> Tensor | None:
    if encoder_out is None or encoder_out.padding_mask is None:
        return None
    return padding_mask_to_bias(encoder_out.padding_mask, dtype)


def _with_source_columns(self_mask: Tensor, source_mask: Tensor | None, source: Tensor, groups: int) -> Tensor:
    """(groups, 1, T, S + L): the mask (…, T, L) of self-attention with the source's columns in front."""
    length = self_mask.size(-2)
    if source_mask is None:
        source_mask = self_mask.new_zeros(groups, 1, 1, source.size(1))
    columns = source_mask.repeat_interleave(groups // source_mask.size(0), 0).expand(-1, -1, length, -1)
    return torch.cat((columns, self_mask.expand(groups, 1, -1, -1)), dim=-1)


def run_layer(layer: Callable[..., Any], options: StackOptions, training: bool, *inputs: Any) -> Any:
    """Call a layer; in training, keep or compute again what its backward pass needs, as `options` say."""
    if not (training and torch.is_grad_enabled() and (options.checkpoint_activations or options.offload_activations)):
        return layer(*inputs)
    if options.offload_activations:
        return checkpoint(_Offloaded(layer, *inputs), use_reentrant=False)
    return checkpoint(layer, *inputs, use_reentrant=False)


class _Offloaded:
    """A layer with its input: called once with that, and again, for the backward pass, with a copy in main memory.

    `checkpoint` keeps what a function is called with. So it is called with nothing, and this gives the input up after
    the first call; what the second one computes is looked at by no gradient, so that a copy will do.
    """

    def __init__(self, layer: Callable[..., Any], x: Tensor, *others: Any) -> None:
        self._layer = layer
        self._others = others
        self._first: Tensor | None = x
        self._device, self._wanted = x.device, x.requires_grad
        self._kept = x.detach()
        if x.device.type == "cuda":
            pinned = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
            self._kept = pinned.copy_(self._kept, non_blocking=True)

    def __call__(self) -> Any:
        x, self._first = self._first, None
        if x is None:
            x = self._kept.to(self._device, non_blocking=True).requires_grad_(self._wanted)
        return self._layer(x, *self._others)


def parse_layers_to_keep(text: str | None) -> tuple[int, ...] | None:
    """The layers of fairseq's `'0,2,4'`; None for all."""
    return tuple(int(part) for part in text.split(",")) if text else None


def layers_to_keep_fit(text: str, layers: int) -> bool:
    """Whether `text` is a rising list of some of `layers` layers."""
    try:
        keep = parse_layers_to_keep(text) or ()
    except ValueError:
        return False
    return list(keep) == sorted(set(keep)) and all(0 <= place < layers for place in keep)


def _keep_layers_on_load(stack: nn.Module, keep: Sequence[int] | None) -> None:
    """Make `stack` take layers `keep` alone out of a deeper checkpoint, numbered anew (LayerDrop's pruning)."""
    if keep is None:
        return
    new_places = {old: new for new, old in enumerate(keep)}

    def prune(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        pattern = re.compile(re.escape(prefix) + r"layers\.(\d+)\.(.*)")
        found = {name: match for name in state if (match := pattern.fullmatch(name))}
        if len({match[1] for match in found.values()}) <= len(new_places):
            return
        taken = {name: state.pop(name) for name in found}
        for name, match in found.items():
            place = new_places.get(int(match[1]))
            if place is not None:
                state[f"{prefix}layers.{place}.{match[2]}"] = taken[name]

    stack.register_load_state_dict_pre_hook(prune)  # type: ignore[no-untyped-call]
