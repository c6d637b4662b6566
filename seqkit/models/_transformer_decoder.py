"""Builds the Transformer's decoder from fairseq's flat options: what `transformer` and `transformer_lm` have in common.

Knows nothing of encoders, tasks or dictionaries. Axes: C channels, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from seqkit.models._transformer_stack import (
    StackOptions,
    TokenEmbedding,
    TransformerDecoder,
    layers_to_keep_fit,
    parse_layers_to_keep,
)
from seqkit.modules.adaptive_input import AdaptiveInput, check_cutoffs
from seqkit.modules.adaptive_softmax import AdaptiveSoftmax
from seqkit.modules.embedding import xavier_linear
from seqkit.modules.positional_embedding import positional_embedding
from seqkit.modules.transformer_layer import TransformerDecoderLayer


class OutputOptions(Protocol):
    """The options of an adaptive softmax, under fairseq's names."""

    adaptive_softmax_cutoff: str | None
    adaptive_softmax_dropout: float
    adaptive_softmax_factor: float
    tie_adaptive_weights: bool
    tie_adaptive_proj: bool


class DecoderOptions(OutputOptions, Protocol):
    """The options that say what a decoder is like, under fairseq's names."""

    activation_fn: str
    dropout: float
    attention_dropout: float
    activation_dropout: float
    relu_dropout: float
    decoder_embed_dim: int
    decoder_ffn_embed_dim: int
    decoder_layers: int
    decoder_attention_heads: int
    decoder_normalize_before: bool
    decoder_learned_pos: bool
    decoder_layerdrop: float
    decoder_layers_to_keep: str | None
    no_decoder_final_norm: bool
    no_token_positional_embeddings: bool
    no_scale_embedding: bool
    layernorm_embedding: bool
    checkpoint_activations: bool
    offload_activations: bool


@dataclass(frozen=True)
class DecoderSurroundings:
    """What a decoder is built for, beside its options.

    Attributes:
        words: V of the output.
        output_dim: width before the projection to the vocabulary.
        max_positions: the longest target, in tokens.
        tied: the output projection's weight is the embedding's.
        source_dim: width of the source; None for a decoder that stands alone.
        cross_attention: attend to the source.
        cross_self_attention: self-attention reads the source too.
        scale_heads, scale_attn, scale_fc, scale_resids: see `TransformerDecoderLayer`.
    """

    words: int
    output_dim: int
    max_positions: int
    tied: bool
    source_dim: int | None = None
    cross_attention: bool = False
    cross_self_attention: bool = False
    scale_heads: bool = False
    scale_attn: bool = False
    scale_fc: bool = False
    scale_resids: bool = False


def build_transformer_decoder(
    config: DecoderOptions, embed_tokens: TokenEmbedding, around: DecoderSurroundings
) -> TransformerDecoder:
    """The decoder on an embedding. Random numbers are drawn in fairseq's order, so that a seed gives its parameters."""
    keep = parse_layers_to_keep(config.decoder_layers_to_keep)
    width = config.decoder_embed_dim
    padding_idx = embed_tokens.padding_idx
    assert padding_idx is not None
    project_in = None
    if embed_tokens.embedding_dim != width:
        project_in = xavier_linear(embed_tokens.embedding_dim, width, bias=False)
    positions = None
    if not config.no_token_positional_embeddings:
        positions = positional_embedding(around.max_positions, width, padding_idx, learned=config.decoder_learned_pos)
    layers = [
        TransformerDecoderLayer(
            width,
            config.decoder_ffn_embed_dim,
            config.decoder_attention_heads,
            source_dim=around.source_dim,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            activation_dropout=config.activation_dropout or config.relu_dropout,
            activation_name=config.activation_fn,
            normalize_before=config.decoder_normalize_before,
            cross_attention=around.cross_attention,
            cross_self_attention=around.cross_self_attention,
            scale_heads=around.scale_heads,
            scale_attn=around.scale_attn,
            scale_fc=around.scale_fc,
            scale_resids=around.scale_resids,
        )
        for _ in range(len(keep) if keep else config.decoder_layers)
    ]
    project_out = None
    if around.output_dim != width and not config.tie_adaptive_weights:
        project_out = xavier_linear(width, around.output_dim, bias=False)
    return TransformerDecoder(
        embed_tokens,
        project_in,
        positions,
        layers,
        project_out,
        build_output(config, embed_tokens, words=around.words, output_dim=around.output_dim, tied=around.tied),
        embed_dim=width,
        max_positions=around.max_positions,
        cross_self_attention=around.cross_self_attention,
        options=StackOptions(
            embed_scale=1.0 if config.no_scale_embedding else math.sqrt(width),
            dropout=config.dropout,
            layernorm_embedding=config.layernorm_embedding,
            final_norm=config.decoder_normalize_before and not config.no_decoder_final_norm,
            layerdrop=config.decoder_layerdrop,
            layers_to_keep=keep,
            checkpoint_activations=config.checkpoint_activations,
            offload_activations=config.offload_activations,
        ),
    )


def parse_cutoffs(text: str) -> list[int]:
    """The numbers of fairseq's `'20000,60000'`."""
    return [int(part) for part in text.strip("[]() ").split(",")]


def decoder_problems(config: DecoderOptions, side: str = "decoder") -> Iterator[str]:
    """What in one side's options cannot be, in the user's words."""
    width: int = getattr(config, f"{side}_embed_dim")
    heads: int = getattr(config, f"{side}_attention_heads")
    if width % heads:
        yield (
            f"model.{side}_embed_dim={width} is not divisible by model.{side}_attention_heads={heads}; "
            f"make it {width + heads - width % heads}, or change the number of heads"
        )
    keep: str | None = getattr(config, f"{side}_layers_to_keep")
    layers: int = getattr(config, f"{side}_layers")
    if keep and not layers_to_keep_fit(keep, layers):
        yield (
            f"model.{side}_layers_to_keep={keep!r} is not a rising list of layers between 0 and {layers - 1}; "
            "write it like '0,2,4'"
        )


def cutoff_problems(option: str, text: str | None, words: int) -> Iterator[str]:
    """What is wrong with the cutoffs that an option gives for a vocabulary of `words` words."""
    if text is None:
        return
    try:
        check_cutoffs(parse_cutoffs(text), words)
    except ValueError:
        yield (
            f"model.{option}={text!r} does not cut the vocabulary of {words} words into clusters; write rising numbers "
            f"between 1 and {words - 1}, such as '{max(words // 10, 1)},{max(words // 2, 2)}'"
        )


def build_output(
    config: OutputOptions, embed_tokens: TokenEmbedding, *, words: int, output_dim: int, tied: bool
) -> nn.Linear | AdaptiveSoftmax:
    """What turns features (…, output_dim) into `words` words: a projection (`tied`: on the embedding), or adaptive."""
    if config.adaptive_softmax_cutoff is not None:
        shared = embed_tokens if config.tie_adaptive_weights else None
        assert shared is None or isinstance(shared, AdaptiveInput)
        return AdaptiveSoftmax(
            words,
            output_dim,
            parse_cutoffs(config.adaptive_softmax_cutoff),
            dropout=config.adaptive_softmax_dropout,
            factor=config.adaptive_softmax_factor,
            adaptive_inputs=shared,
            tie_proj=config.tie_adaptive_proj,
        )
    if tied:
        assert isinstance(embed_tokens, nn.Embedding)
        projection = nn.Linear(output_dim, embed_tokens.num_embeddings, bias=False)
        projection.weight = embed_tokens.weight
        return projection
    projection = nn.Linear(output_dim, words, bias=False)
    nn.init.normal_(projection.weight, mean=0, std=output_dim**-0.5)
    return projection
