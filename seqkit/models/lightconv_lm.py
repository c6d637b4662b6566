"""A language model of lightweight or dynamic convolutions (Wu et al., 2019).

Builds the decoder of `_light_convolution_stack.py` from fairseq's flat options. Knows nothing of losses, search or
files. The named architectures are the files `configs/model/lightconv_lm*.yaml`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from seqkit.config.base import Config, option
from seqkit.data.dictionary import Dictionary
from seqkit.errors import ConfigError
from seqkit.models._light_convolution_stack import (
    CONVOLUTIONS,
    LightConvolutionDecoder,
    LightConvolutionDecoderLayer,
    LightConvolutionOptions,
)
from seqkit.models._transformer_decoder import build_output
from seqkit.models._word_vectors import word_problems, word_vectors
from seqkit.models.base import LanguageModel, register_model
from seqkit.modules.embedding import xavier_linear
from seqkit.modules.positional_embedding import positional_embedding

_NORM = "the model does not train without it (as in fairseq, where it cannot be turned off)"


@dataclass
class LightConvLanguageModelConfig(Config):
    """Options of `lightconv_lm`."""

    dropout: float = option(0.1, "dropout on embeddings and on each sublayer's result", low=0.0, high=1.0)
    attention_dropout: float = option(0.0, "of no effect: there is no attention", low=0.0, high=1.0)
    relu_dropout: float = option(0.0, "dropout after the feed-forward activation", low=0.0, high=1.0)
    input_dropout: float = option(0.1, "dropout on the input of each convolution sublayer", low=0.0, high=1.0)
    weight_dropout: float = option(0.0, "dropout on kernels", low=0.0, high=1.0)
    decoder_embed_dim: int = option(512, "width of the model", low=1)
    decoder_conv_dim: int = option(
        512, "width of the convolutions; default decoder_embed_dim", low=1, follows="model.decoder_embed_dim"
    )
    decoder_output_dim: int = option(
        512,
        "width before the projection to the vocabulary; default decoder_embed_dim",
        low=1,
        follows="model.decoder_embed_dim",
    )
    decoder_input_dim: int = option(
        512, "width of word embeddings; default decoder_embed_dim", low=1, follows="model.decoder_embed_dim"
    )
    decoder_ffn_embed_dim: int = option(2048, "width between the two feed-forward maps", low=1)
    decoder_layers: int = option(6, "number of layers", low=1)
    decoder_attention_heads: int = option(8, "heads of the convolutions; must divide their width", low=1)
    decoder_kernel_size_list: list[int] = option(
        [3, 7, 15, 31, 31, 31], "kernel width of each layer; one for all of them", low=1
    )
    decoder_glu: bool = option(True, "a gated linear unit in front of each convolution")
    decoder_conv_type: str = option(
        "dynamic", "fixed kernels (lightweight), or kernels that each position predicts", choices=tuple(CONVOLUTIONS)
    )
    weight_softmax: bool = option(True, "put kernels through a softmax")
    decoder_normalize_before: bool = option(
        True, "layer norm at the entry of each sublayer (pre-norm)", bare=True, refused=_NORM
    )
    decoder_learned_pos: bool = option(False, "learned, not sinusoidal, positions")
    no_token_positional_embeddings: bool = option(False, "no positions at all")
    share_decoder_input_output_embed: bool = option(False, "one matrix for embedding and output projection")
    adaptive_softmax_cutoff: str | None = option(
        None, "adaptive softmax: where its word clusters end, e.g. '20000,60000'; use criterion=adaptive_loss"
    )
    adaptive_softmax_dropout: float = option(
        0.0, "adaptive softmax: dropout on features and in its tails", low=0.0, high=1.0
    )
    adaptive_softmax_factor: float = option(
        4.0, "adaptive softmax: how much narrower each cluster is than the one before", low=1.0
    )
    character_embeddings: bool = option(False, "make word vectors of characters, by convolutions")
    character_filters: str = option(
        "[(1, 64), (2, 128), (3, 192), (4, 256), (5, 256), (6, 256), (7, 256)]",
        "character embeddings: (width, channels) of each convolution",
    )
    character_embedding_dim: int = option(4, "character embeddings: width of a character's vector", low=1)
    char_embedder_highway_layers: int = option(2, "character embeddings: number of highway layers", low=0)
    adaptive_input: bool = option(False, "adaptive embeddings: narrower ones for rarer words")
    adaptive_input_factor: float = option(
        4.0, "adaptive embeddings: how much narrower each band of words is than the one before", low=1.0
    )
    adaptive_input_cutoff: str | None = option(
        None, "adaptive embeddings: where bands of words end, e.g. '20000,60000'"
    )
    tie_adaptive_weights: bool = option(False, "adaptive softmax shares the word vectors of the adaptive embeddings")
    tie_adaptive_proj: bool = option(False, "adaptive softmax also shares the adaptive embeddings' maps between widths")
    tokens_per_sample: int = option(
        1024,
        "longest text, in tokens, where max_target_positions is not given",
        low=1,
        follows="task.tokens_per_sample",
    )
    max_target_positions: int | None = option(
        None, "longest text, in tokens; default tokens_per_sample", low=1, follows="task.max_target_positions"
    )


@register_model("lightconv_lm", config=LightConvLanguageModelConfig)
class LightConvLanguageModel(LanguageModel):
    """Layers of lightweight or dynamic convolutions over the past (Wu et al., 2019).

    `model(src_tokens (B, T))` gives logits (B, T, V), or with an adaptive softmax features (B, T, C).
    """

    decoder: LightConvolutionDecoder

    @classmethod
    def build(cls, config: LightConvLanguageModelConfig, task: Any) -> LightConvLanguageModel:
        """Make the model for the task's dictionaries.

        Raises:
            ConfigError: options that do not fit together, or do not fit the dictionaries; all of them at once.
        """
        source: Dictionary | None = task.source_dictionary
        target: Dictionary = task.target_dictionary
        if source is None:
            raise ConfigError("model=lightconv_lm needs a task with text as its input; use task=language_modeling")
        problems = [*_problems(config), *word_problems(config, source, target)]
        if problems:
            raise ConfigError(problems)
        width, output_width = config.decoder_embed_dim, config.decoder_output_dim
        max_positions = config.max_target_positions or config.tokens_per_sample
        options = LightConvolutionOptions(
            embed_dim=width,
            conv_dim=config.decoder_conv_dim,
            ffn_dim=config.decoder_ffn_embed_dim,
            heads=config.decoder_attention_heads,
            conv_type=config.decoder_conv_type,
            glu=config.decoder_glu,
            weight_softmax=config.weight_softmax,
            normalize_before=config.decoder_normalize_before,
            dropout=config.dropout,
            input_dropout=config.input_dropout,
            relu_dropout=config.relu_dropout,
            weight_dropout=config.weight_dropout,
        )
        # Random numbers are drawn in this order so that a seed gives the parameters that fairseq draws from it.
        embed_tokens = word_vectors(config, source)
        project_in: nn.Linear | None = None
        if embed_tokens.embedding_dim != width:
            project_in = xavier_linear(embed_tokens.embedding_dim, width, bias=False)
        positions = None
        if not config.no_token_positional_embeddings:
            positions = positional_embedding(max_positions, width, source.pad(), learned=config.decoder_learned_pos)
        layers = [LightConvolutionDecoderLayer(kernel_size, options) for kernel_size in _kernel_sizes(config)]
        project_out: nn.Linear | None = None
        if output_width != width and not config.tie_adaptive_weights:
            project_out = xavier_linear(width, output_width, bias=False)
        decoder = LightConvolutionDecoder(
            embed_tokens,
            project_in,
            positions,
            layers,
            project_out,
            build_output(
                config,
                embed_tokens,
                words=len(target),
                output_dim=output_width,
                tied=config.share_decoder_input_output_embed,
            ),
            options=options,
            embed_scale=math.sqrt(width),
            max_positions=max_positions,
        )
        return cls(decoder)


def _kernel_sizes(config: LightConvLanguageModelConfig) -> list[int]:
    sizes = config.decoder_kernel_size_list
    return sizes * config.decoder_layers if len(sizes) == 1 else sizes


def _problems(config: LightConvLanguageModelConfig) -> Iterator[str]:
    """What in the options cannot be, in the user's words."""
    width, heads = config.decoder_conv_dim, config.decoder_attention_heads
    if width % heads:
        yield (
            f"model.decoder_conv_dim={width} is not divisible by model.decoder_attention_heads={heads}; "
            f"make it {width + heads - width % heads}, or change the number of heads"
        )
    if len(_kernel_sizes(config)) != config.decoder_layers:
        yield (
            f"model.decoder_kernel_size_list={config.decoder_kernel_size_list} gives "
            f"{len(config.decoder_kernel_size_list)} widths for model.decoder_layers={config.decoder_layers}; "
            "give one for each layer, or one for all"
        )
