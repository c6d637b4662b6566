"""The Transformer for translation and other sequence-to-sequence tasks (Vaswani et al., 2017).

Builds the stacks of `_transformer_stack.py` from fairseq's flat options. Knows nothing of losses, search or files
other than pretrained word vectors. The named architectures are the files `configs/model/*.yaml`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from seqkit.config.base import Config, option
from seqkit.data.dictionary import Dictionary
from seqkit.errors import ConfigError
from seqkit.models._transformer_decoder import (
    DecoderSurroundings,
    build_transformer_decoder,
    cutoff_problems,
    decoder_problems,
    parse_cutoffs,
)
from seqkit.models._transformer_stack import (
    StackOptions,
    TokenEmbedding,
    TransformerDecoder,
    TransformerEncoder,
    parse_layers_to_keep,
)
from seqkit.models.base import EncoderDecoderModel, register_model
from seqkit.modules.activation import ACTIVATION_NAMES
from seqkit.modules.adaptive_input import AdaptiveInput
from seqkit.modules.embedding import load_embeddings, read_embeddings, token_embedding
from seqkit.modules.positional_embedding import PositionalEmbedding, positional_embedding
from seqkit.modules.transformer_layer import TransformerEncoderLayer

logger = logging.getLogger(__name__)

_QUANTISATION = "models trained with quantisation noise are not in this version of seqkit"
_BASE_LAYERS = "mixture-of-experts (BASE) layers are not in this version of seqkit"
_XFORMERS = "attention is PyTorch's scaled_dot_product_attention; xFormers has no part in it"


@dataclass
class TransformerConfig(Config):
    """Options of the `transformer`; the defaults are the base model of Vaswani et al. (2017)."""

    activation_fn: str = option("relu", "activation between the two feed-forward maps", choices=ACTIVATION_NAMES)
    dropout: float = option(0.1, "dropout on embeddings and on each sublayer's result", low=0.0, high=1.0)
    attention_dropout: float = option(0.0, "dropout on attention weights", low=0.0, high=1.0)
    activation_dropout: float = option(0.0, "dropout after the feed-forward activation", low=0.0, high=1.0)
    relu_dropout: float = option(0.0, "older name of activation_dropout; used where that is 0", low=0.0, high=1.0)
    encoder_embed_path: str | None = option(None, "text file of pretrained source word vectors")
    encoder_embed_dim: int = option(512, "width of the encoder", low=1)
    encoder_ffn_embed_dim: int = option(2048, "width between the encoder's two feed-forward maps", low=1)
    encoder_layers: int = option(6, "number of encoder layers", low=1)
    encoder_attention_heads: int = option(8, "attention heads of the encoder; must divide its width", low=1)
    encoder_normalize_before: bool = option(False, "layer norm at the entry of each encoder sublayer (pre-norm)")
    encoder_learned_pos: bool = option(False, "learned, not sinusoidal, positions in the encoder")
    encoder_layerdrop: float = option(0.0, "probability of leaving an encoder layer out in training", low=0.0, high=1.0)
    encoder_layers_to_keep: str | None = option(
        None, "which encoder layers of a deeper checkpoint to keep, e.g. '0,2,4'; the others are pruned"
    )
    decoder_embed_path: str | None = option(None, "text file of pretrained target word vectors")
    decoder_embed_dim: int = option(
        512, "width of the decoder; the encoder's unless given", low=1, follows="model.encoder_embed_dim"
    )
    decoder_ffn_embed_dim: int = option(
        2048,
        "width between the decoder's two feed-forward maps; the encoder's unless given",
        low=1,
        follows="model.encoder_ffn_embed_dim",
    )
    decoder_layers: int = option(6, "number of decoder layers", low=1)
    decoder_attention_heads: int = option(8, "attention heads of the decoder; must divide its width", low=1)
    decoder_normalize_before: bool = option(False, "layer norm at the entry of each decoder sublayer (pre-norm)")
    decoder_learned_pos: bool = option(False, "learned, not sinusoidal, positions in the decoder")
    decoder_layerdrop: float = option(0.0, "probability of leaving a decoder layer out in training", low=0.0, high=1.0)
    decoder_layers_to_keep: str | None = option(
        None, "which decoder layers of a deeper checkpoint to keep, e.g. '0,2,4'; the others are pruned"
    )
    decoder_input_dim: int | None = option(None, "width of target embeddings; default decoder_embed_dim", low=1)
    decoder_output_dim: int | None = option(
        None, "width before the projection to the vocabulary; default decoder_embed_dim", low=1
    )
    no_decoder_final_norm: bool = option(False, "no layer norm after the last layer of a pre-norm decoder")
    no_encoder_final_norm: bool = option(
        False, "no layer norm after the last layer of a pre-norm encoder (models of early fairseq)"
    )
    share_decoder_input_output_embed: bool = option(False, "one matrix for target embedding and output projection")
    share_all_embeddings: bool = option(
        False, "one matrix for source embedding, target embedding and output projection; needs a joined dictionary"
    )
    merge_src_tgt_embed: bool = option(False, "as share_all_embeddings; the two dictionaries must be the same")
    layernorm_embedding: bool = option(False, "layer norm on embeddings")
    no_scale_embedding: bool = option(False, "do not multiply embeddings by the root of their width")
    no_token_positional_embeddings: bool = option(False, "no positions at all")
    no_cross_attention: bool = option(False, "the decoder has no attention to the source")
    cross_self_attention: bool = option(False, "the decoder's self-attention reads the source as well")
    max_source_positions: int = option(1024, "longest source, in tokens", low=1, follows="task.max_source_positions")
    max_target_positions: int = option(1024, "longest target, in tokens", low=1, follows="task.max_target_positions")
    checkpoint_activations: bool = option(False, "save memory: compute each layer again in the backward pass")
    offload_activations: bool = option(
        False, "save GPU memory: checkpoint_activations, and keep what is left in main memory"
    )
    min_params_to_wrap: int = option(100_000_000, "fewest parameters that FSDP shards as a unit of their own", low=1)
    export: bool = option(False, "of no effect: every layer norm can be exported")
    adaptive_input: bool = option(
        False, "adaptive embeddings of target words, with the cutoffs and the factor of the adaptive softmax"
    )
    adaptive_softmax_cutoff: str | None = option(
        None, "adaptive softmax: where its word clusters end, e.g. '20000,60000'; use criterion=adaptive_loss"
    )
    adaptive_softmax_dropout: float = option(
        0.0, "adaptive softmax: dropout on features and in its tails", low=0.0, high=1.0
    )
    adaptive_softmax_factor: float = option(
        4.0, "adaptive softmax: how much narrower each cluster is than the one before", low=1.0
    )
    tie_adaptive_weights: bool = option(False, "adaptive softmax shares the word vectors of the adaptive input")
    tie_adaptive_proj: bool = option(False, "adaptive softmax also shares the adaptive input's maps between widths")
    quant_noise_pq: float = option(0.0, "quantisation noise: probability of blocks", refused=_QUANTISATION)
    quant_noise_pq_block_size: int = option(8, "of no effect without quant_noise_pq", low=1)
    quant_noise_scalar: float = option(0.0, "quantisation noise: probability of scalars", refused=_QUANTISATION)
    base_layers: int = option(0, "number of BASE layers", refused=_BASE_LAYERS)
    base_sublayers: int = option(1, "of no effect without base_layers")
    base_shuffle: int = option(1, "of no effect without base_layers")
    encoder_xformers_att_config: str | None = option(None, "xFormers attention of the encoder", refused=_XFORMERS)
    decoder_xformers_att_config: str | None = option(None, "xFormers attention of the decoder", refused=_XFORMERS)
    char_inputs: bool = option(
        False, "words as sequences of characters", refused="character inputs are not in this version of seqkit"
    )


@register_model("transformer", config=TransformerConfig)
class TransformerModel(EncoderDecoderModel):
    """An encoder and a decoder of attention layers (Vaswani et al., 2017).

    `model(src_tokens (B, S), src_lengths, prev_output_tokens (B, T))` gives logits (B, T, V).
    """

    encoder: TransformerEncoder
    decoder: TransformerDecoder

    @classmethod
    def build(cls, config: TransformerConfig, task: Any) -> TransformerModel:
        """Make the model for the task's two dictionaries.

        Raises:
            ConfigError: options that do not fit together, or do not fit the dictionaries; all of them at once.
            DataError: pretrained embeddings that cannot be read.
        """
        source, target = task.source_dictionary, task.target_dictionary
        problems = list(_problems(config, source, target))
        if problems:
            raise ConfigError(problems)
        # Random numbers are drawn in this order so that a seed gives the parameters that fairseq draws from it.
        encoder_embedding = _embedding(source, config.encoder_embed_dim, config.encoder_embed_path)
        if config.share_all_embeddings or config.merge_src_tgt_embed:
            decoder_embedding: TokenEmbedding = encoder_embedding
        else:
            decoder_embedding = _decoder_embedding(config, target)
        encoder = cls.build_encoder(config, encoder_embedding)
        decoder = cls.build_decoder(config, decoder_embedding)
        return cls(encoder, decoder)

    @classmethod
    def build_encoder(cls, config: TransformerConfig, embed_tokens: nn.Embedding) -> TransformerEncoder:
        """The encoder on an embedding table."""
        assert embed_tokens.padding_idx is not None
        keep = parse_layers_to_keep(config.encoder_layers_to_keep)
        return TransformerEncoder(
            embed_tokens,
            _encoder_positions(config, embed_tokens.padding_idx),
            [
                TransformerEncoderLayer(
                    config.encoder_embed_dim,
                    config.encoder_ffn_embed_dim,
                    config.encoder_attention_heads,
                    dropout=config.dropout,
                    attention_dropout=config.attention_dropout,
                    activation_dropout=config.activation_dropout or config.relu_dropout,
                    activation_name=config.activation_fn,
                    normalize_before=config.encoder_normalize_before,
                )
                for _ in range(len(keep) if keep else config.encoder_layers)
            ],
            embed_dim=config.encoder_embed_dim,
            max_positions=config.max_source_positions,
            options=StackOptions(
                embed_scale=1.0 if config.no_scale_embedding else math.sqrt(config.encoder_embed_dim),
                dropout=config.dropout,
                layernorm_embedding=config.layernorm_embedding,
                final_norm=config.encoder_normalize_before and not config.no_encoder_final_norm,
                layerdrop=config.encoder_layerdrop,
                layers_to_keep=keep,
                checkpoint_activations=config.checkpoint_activations,
                offload_activations=config.offload_activations,
            ),
        )

    @classmethod
    def build_decoder(cls, config: TransformerConfig, embed_tokens: TokenEmbedding) -> TransformerDecoder:
        """The decoder on an embedding."""
        return build_transformer_decoder(
            config,
            embed_tokens,
            DecoderSurroundings(
                words=embed_tokens.num_embeddings,
                output_dim=config.decoder_output_dim or config.decoder_embed_dim,
                max_positions=config.max_target_positions,
                tied=config.share_decoder_input_output_embed
                or config.share_all_embeddings
                or config.merge_src_tgt_embed,
                source_dim=config.encoder_embed_dim,
                cross_attention=not config.no_cross_attention,
                cross_self_attention=config.cross_self_attention,
            ),
        )


def _problems(config: TransformerConfig, source: Dictionary | None, target: Dictionary) -> Iterator[str]:
    """What in the options cannot be, in the user's words."""
    yield from decoder_problems(config, "encoder")
    yield from decoder_problems(config)
    yield from _adaptive_problems(config, target)
    if source is None:
        yield "model=transformer needs a task with a source dictionary; this task has none"
    if config.cross_self_attention and config.encoder_embed_dim != config.decoder_embed_dim:
        yield (
            f"model.cross_self_attention=true needs encoder and decoder of one width, got "
            f"encoder_embed_dim={config.encoder_embed_dim}, decoder_embed_dim={config.decoder_embed_dim}"
        )
    input_width = config.decoder_input_dim or config.decoder_embed_dim
    output_width = config.decoder_output_dim or config.decoder_embed_dim
    name = "share_all_embeddings" if config.share_all_embeddings else "merge_src_tgt_embed"
    if config.share_all_embeddings or config.merge_src_tgt_embed:
        if source is not None and source != target:
            yield (
                f"model.{name}=true needs one dictionary for both languages, but the source has {len(source)} symbols "
                f"and the target {len(target)}, which are not the same; preprocess with --joined-dictionary"
            )
        if config.encoder_embed_dim != input_width:
            yield (
                f"model.{name}=true needs source and target embeddings of one width, got "
                f"encoder_embed_dim={config.encoder_embed_dim}, decoder_embed_dim={input_width}"
            )
        if config.decoder_embed_path and config.decoder_embed_path != config.encoder_embed_path:
            yield f"model.{name}=true takes its vectors from encoder_embed_path; leave decoder_embed_path out"
    elif not config.share_decoder_input_output_embed:
        return
    else:
        name = "share_decoder_input_output_embed"
    if output_width != input_width:
        yield (
            f"model.{name}=true needs target embedding and output projection of one width, got "
            f"decoder_input_dim={input_width}, decoder_output_dim={output_width}"
        )


def _adaptive_problems(config: TransformerConfig, target: Dictionary) -> Iterator[str]:
    yield from cutoff_problems("adaptive_softmax_cutoff", config.adaptive_softmax_cutoff, len(target))
    if config.adaptive_input:
        if config.adaptive_softmax_cutoff is None:
            yield "model.adaptive_input=true takes its cutoffs from model.adaptive_softmax_cutoff, which is not given"
        if config.share_all_embeddings or config.merge_src_tgt_embed or config.share_decoder_input_output_embed:
            yield (
                "model.adaptive_input=true has no table to share; leave share_all_embeddings, merge_src_tgt_embed and "
                "share_decoder_input_output_embed out (tie_adaptive_weights shares with the adaptive softmax)"
            )
        if config.decoder_embed_path:
            yield "model.decoder_embed_path cannot fill adaptive embeddings; leave it or adaptive_input out"
    for name in ("tie_adaptive_weights", "tie_adaptive_proj"):
        if getattr(config, name) and not config.adaptive_input:
            yield f"model.{name}=true needs model.adaptive_input=true"
    input_width = config.decoder_input_dim or config.decoder_embed_dim
    output_width = config.decoder_output_dim or config.decoder_embed_dim
    if config.tie_adaptive_weights and input_width != output_width:
        yield (
            "model.tie_adaptive_weights=true needs decoder_input_dim and decoder_output_dim to be equal, got "
            f"{input_width} and {output_width}"
        )


def _decoder_embedding(config: TransformerConfig, target: Dictionary) -> TokenEmbedding:
    width = config.decoder_input_dim or config.decoder_embed_dim
    if not config.adaptive_input:
        return _embedding(target, width, config.decoder_embed_path)
    assert config.adaptive_softmax_cutoff is not None
    cutoffs = parse_cutoffs(config.adaptive_softmax_cutoff)
    return AdaptiveInput(
        len(target), target.pad(), width, config.adaptive_softmax_factor, config.decoder_embed_dim, cutoffs
    )


def _embedding(dictionary: Dictionary, width: int, path: str | None) -> nn.Embedding:
    table = token_embedding(len(dictionary), width, dictionary.pad())
    if path:
        found = load_embeddings(table, dictionary.symbols, read_embeddings(path))
        logger.info("pretrained vectors for %d of %d symbols from %s", found, len(dictionary), path)
    return table


def _encoder_positions(config: TransformerConfig, padding_idx: int) -> PositionalEmbedding | None:
    if config.no_token_positional_embeddings:
        return None
    return positional_embedding(
        config.max_source_positions, config.encoder_embed_dim, padding_idx, learned=config.encoder_learned_pos
    )
