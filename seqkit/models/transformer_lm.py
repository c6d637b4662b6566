"""The Transformer as a language model: a decoder that stands alone (Radford et al., 2018; Baevski and Auli, 2019).

Builds the decoder of `_transformer_stack.py` from fairseq's flat options. Knows nothing of losses, search or files. The
named architectures are the files `configs/model/transformer_lm_*.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from seqkit.config.base import Config, option
from seqkit.data.dictionary import Dictionary
from seqkit.errors import ConfigError
from seqkit.models._transformer_decoder import (
    DecoderSurroundings,
    build_transformer_decoder,
    decoder_problems,
)
from seqkit.models._transformer_stack import TransformerDecoder
from seqkit.models._word_vectors import word_problems, word_vectors
from seqkit.models.base import LanguageModel, register_model
from seqkit.modules.activation import ACTIVATION_NAMES

_QUANTISATION = "models trained with quantisation noise are not in this version of seqkit"
_BASE_LAYERS = "mixture-of-experts (BASE) layers are not in this version of seqkit"
_XFORMERS = "attention is PyTorch's scaled_dot_product_attention; xFormers has no part in it"
_TPU = "TPUs are not supported"


@dataclass
class TransformerLMConfig(Config):
    """Options of the `transformer_lm`."""

    activation_fn: str = option("relu", "activation between the two feed-forward maps", choices=ACTIVATION_NAMES)
    dropout: float = option(0.1, "dropout on embeddings and on each sublayer's result", low=0.0, high=1.0)
    attention_dropout: float = option(0.0, "dropout on attention weights", low=0.0, high=1.0)
    activation_dropout: float = option(0.0, "dropout after the feed-forward activation", low=0.0, high=1.0)
    relu_dropout: float = option(0.0, "older name of activation_dropout; used where that is 0", low=0.0, high=1.0)
    decoder_embed_dim: int = option(512, "width of the model", low=1)
    decoder_output_dim: int = option(512, "width before the projection to the vocabulary", low=1)
    decoder_input_dim: int = option(512, "width of word embeddings", low=1)
    decoder_ffn_embed_dim: int = option(2048, "width between the two feed-forward maps", low=1)
    decoder_layers: int = option(6, "number of layers", low=1)
    decoder_attention_heads: int = option(8, "attention heads; must divide the width", low=1)
    decoder_normalize_before: bool = option(False, "layer norm at the entry of each sublayer (pre-norm)")
    no_decoder_final_norm: bool = option(False, "no layer norm after the last layer of a pre-norm model")
    adaptive_softmax_cutoff: str | None = option(
        None, "adaptive softmax: where its word clusters end, e.g. '20000,60000'; use criterion=adaptive_loss"
    )
    adaptive_softmax_dropout: float = option(
        0.0, "adaptive softmax: dropout on features and in its tails", low=0.0, high=1.0
    )
    adaptive_softmax_factor: float = option(
        4.0, "adaptive softmax: how much narrower each cluster is than the one before", low=1.0
    )
    no_token_positional_embeddings: bool = option(False, "no positions at all")
    share_decoder_input_output_embed: bool = option(False, "one matrix for embedding and output projection")
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
    decoder_learned_pos: bool = option(False, "learned, not sinusoidal, positions")
    layernorm_embedding: bool = option(False, "layer norm on embeddings")
    no_scale_embedding: bool = option(False, "do not multiply embeddings by the root of the width")
    checkpoint_activations: bool = option(False, "save memory: compute each layer again in the backward pass")
    offload_activations: bool = option(
        False, "save GPU memory: checkpoint_activations, and keep what is left in main memory"
    )
    decoder_layerdrop: float = option(0.0, "probability of leaving a layer out in training", low=0.0, high=1.0)
    decoder_layers_to_keep: str | None = option(
        None, "which layers of a deeper checkpoint to keep, e.g. '0,2,4'; the others are pruned"
    )
    quant_noise_pq: float = option(0.0, "quantisation noise: probability of blocks", refused=_QUANTISATION)
    quant_noise_pq_block_size: int = option(8, "of no effect without quant_noise_pq", low=1)
    quant_noise_scalar: float = option(0.0, "quantisation noise: probability of scalars", refused=_QUANTISATION)
    min_params_to_wrap: int = option(100_000_000, "fewest parameters that FSDP shards as a unit of their own", low=1)
    base_layers: int | None = option(0, "number of BASE layers", refused=_BASE_LAYERS)
    base_sublayers: int | None = option(1, "of no effect without base_layers")
    base_shuffle: int | None = option(1, "of no effect without base_layers")
    scale_fc: bool = option(False, "layer norm between the two feed-forward maps (NormFormer)")
    scale_attn: bool = option(False, "layer norm on attention's result (NormFormer)")
    scale_heads: bool = option(False, "a trained factor for each attention head (NormFormer)")
    scale_resids: bool = option(False, "a trained factor for each channel of feed-forward residuals (NormFormer)")
    decoder_xformers_att_config: str | None = option(None, "xFormers attention", refused=_XFORMERS)
    add_bos_token: bool = option(False, "texts begin with BOS", follows="task.add_bos_token")
    tokens_per_sample: int = option(
        1024,
        "longest text, in tokens, where max_target_positions is not given",
        low=1,
        follows="task.tokens_per_sample",
    )
    max_target_positions: int | None = option(
        None,
        "longest text, in tokens; default tokens_per_sample",
        low=1,
        follows="task.max_target_positions",
    )
    tpu: bool = option(False, "run on a TPU", follows="common.tpu", refused=_TPU)


@register_model("transformer_lm", config=TransformerLMConfig)
class TransformerLanguageModel(LanguageModel):
    """A stack of masked self-attention layers (Radford et al., 2018), in fairseq's many forms.

    `model(src_tokens (B, T))` gives logits (B, T, V), or with an adaptive softmax (Baevski and Auli, 2019) features
    (B, T, C); `normalized_probs` makes probabilities of either.
    """

    decoder: TransformerDecoder

    @classmethod
    def build(cls, config: TransformerLMConfig, task: Any) -> TransformerLanguageModel:
        """Make the model for the task's dictionary.

        Raises:
            ConfigError: options that do not fit together, or do not fit the dictionary; all of them at once.
        """
        source: Dictionary | None = task.source_dictionary
        target: Dictionary = task.target_dictionary
        if source is None:
            raise ConfigError("model=transformer_lm needs a task with text as its input; use task=language_modeling")
        problems = list(_problems(config, source, target))
        if problems:
            raise ConfigError(problems)
        decoder = build_transformer_decoder(
            config,
            word_vectors(config, source),
            DecoderSurroundings(
                words=len(target),
                output_dim=config.decoder_output_dim,
                max_positions=config.max_target_positions or config.tokens_per_sample,
                tied=config.share_decoder_input_output_embed,
                scale_heads=config.scale_heads,
                scale_attn=config.scale_attn,
                scale_fc=config.scale_fc,
                scale_resids=config.scale_resids,
            ),
        )
        return cls(decoder)


def _problems(config: TransformerLMConfig, source: Dictionary, target: Dictionary) -> Iterator[str]:
    """What in the options cannot be, in the user's words."""
    yield from decoder_problems(config)
    yield from word_problems(config, source, target)
