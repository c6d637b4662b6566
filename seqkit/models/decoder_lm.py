"""A language model in the field's present form (as Touvron et al., 2023, and their successors put it together).

Root-mean-square norms (Zhang and Sennrich, 2019) in front of each sublayer, rotary positions (Su et al., 2021), gated
feed-forward maps (Shazeer, 2020), grouped key-value heads (Ainslie et al., 2023), no biases. Knows nothing of losses,
search or files. Named sizes are the files `configs/model/decoder_lm_*.yaml`.
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
from seqkit.models._rotary_stack import RotaryDecoder, RotaryDecoderLayer
from seqkit.models._transformer_stack import StackOptions
from seqkit.models.base import LanguageModel, register_model
from seqkit.modules.activation import ACTIVATION_NAMES
from seqkit.modules.gated_feed_forward import GatedFeedForward
from seqkit.modules.grouped_query_attention import GroupedQueryAttention
from seqkit.modules.rms_norm import RMSNorm
from seqkit.modules.rotary_embedding import SCALINGS, RotaryEmbedding, RotaryScaling

_NEED_ORIGINAL = ("dynamic", "yarn", "llama3")


@dataclass
class DecoderLMConfig(Config):
    """Options of `decoder_lm`; the defaults are a model of 85 million parameters beside its embeddings."""

    decoder_embed_dim: int = option(768, "width of the model", low=1)
    decoder_layers: int = option(12, "number of layers", low=1)
    decoder_attention_heads: int = option(12, "query heads", low=1)
    decoder_kv_heads: int | None = option(
        None, "key-value heads, each shared by a group of query heads; default: one for each query head", low=1
    )
    decoder_head_dim: int | None = option(
        None, "width of a head, an even number; default: decoder_embed_dim / decoder_attention_heads", low=2
    )
    decoder_ffn_embed_dim: int | None = option(
        None,
        "inner width of the gated feed-forward map; default: 8/3 of the width, rounded up to a multiple of 64",
        low=1,
    )
    activation_fn: str = option("swish", "activation of the gate; swish makes it SwiGLU", choices=ACTIVATION_NAMES)
    dropout: float = option(0.0, "dropout on embeddings and on each sublayer's result", low=0.0, high=1.0)
    attention_dropout: float = option(0.0, "dropout on attention weights", low=0.0, high=1.0)
    activation_dropout: float = option(0.0, "dropout inside the feed-forward map", low=0.0, high=1.0)
    norm_eps: float = option(1e-5, "added to the mean square in norms", low=0.0)
    qk_norm: bool = option(False, "norm on each head's queries and keys, which keeps attention stable at high rates")
    share_decoder_input_output_embed: bool = option(False, "one matrix for embedding and output projection")
    rope_theta: float = option(10000.0, "base of the rotary frequencies; longer texts want a larger one", low=1.0)
    rope_scaling: str = option(
        "none",
        "how rotary positions are stretched over longer texts (dynamic: by each text's own length, in decoding by "
        "that so far)",
        choices=SCALINGS,
    )
    rope_factor: float = option(1.0, "how many times longer texts become by rope_scaling", low=1.0)
    rope_original_positions: int | None = option(
        None, "length of texts before stretching; needed for rope_scaling dynamic, yarn and llama3", low=1
    )
    rope_low_frequency_factor: float = option(
        1.0, "rope_scaling=llama3: wavelengths above rope_original_positions over this are stretched", low=0.0
    )
    rope_high_frequency_factor: float = option(
        4.0, "rope_scaling=llama3: wavelengths below rope_original_positions over this are kept", low=0.0
    )
    rope_beta_fast: float = option(
        32.0, "rope_scaling=yarn: channels that turn more often over the original length are kept", low=0.0
    )
    rope_beta_slow: float = option(
        1.0, "rope_scaling=yarn: channels that turn less often over the original length are stretched", low=0.0
    )
    rope_attention_factor: float | None = option(
        None, "rope_scaling=yarn: factor on queries and keys; default 0.1 ln(rope_factor) + 1", low=0.0
    )
    sliding_window: int | None = option(
        None, "tokens that each token sees, itself among them (Beltagy et al., 2020); default: all before it", low=1
    )
    document_mask: bool = option(
        False,
        "in blocks of several documents, attention does not cross from one to the next and positions start again; "
        "each EOS in the input begins a document",
    )
    init_std: float = option(0.02, "deviation of the normal distribution that parameters are drawn from", low=0.0)
    scale_residual_init: bool = option(
        True,
        "draw the last map of each sublayer smaller by the root of twice the number of layers (Radford et al., 2019)",
    )
    checkpoint_activations: bool = option(False, "save memory: compute each layer again in the backward pass")
    offload_activations: bool = option(
        False, "save GPU memory: checkpoint_activations, and keep what is left in main memory"
    )
    min_params_to_wrap: int = option(100_000_000, "fewest parameters that FSDP shards as a unit of their own", low=1)
    tokens_per_sample: int = option(
        1024,
        "longest text, in tokens, where max_target_positions is not given",
        low=1,
        follows="task.tokens_per_sample",
    )
    max_target_positions: int | None = option(
        None, "longest text, in tokens; default tokens_per_sample", low=1, follows="task.max_target_positions"
    )


@register_model("decoder_lm", config=DecoderLMConfig)
class DecoderLanguageModel(LanguageModel):
    """Pre-norm layers of rotary attention and gated feed-forward maps, without biases (Touvron et al., 2023).

    `model(src_tokens (B, T))` gives logits (B, T, V).
    """

    decoder: RotaryDecoder

    @classmethod
    def build(cls, config: DecoderLMConfig, task: Any) -> DecoderLanguageModel:
        """Make the model for the task's dictionaries.

        Raises:
            ConfigError: options that do not fit together, or do not fit the dictionaries; all of them at once.
        """
        source: Dictionary | None = task.source_dictionary
        target: Dictionary = task.target_dictionary
        if source is None:
            raise ConfigError("model=decoder_lm needs a task with text as its input; use task=language_modeling")
        problems = list(_problems(config, source, target))
        if problems:
            raise ConfigError(problems)
        width, heads = config.decoder_embed_dim, config.decoder_attention_heads
        head_dim = config.decoder_head_dim or width // heads
        layers = [
            RotaryDecoderLayer(
                width,
                GroupedQueryAttention(
                    width,
                    heads,
                    config.decoder_kv_heads or heads,
                    head_dim,
                    dropout=config.attention_dropout,
                    qk_norm=config.qk_norm,
                    norm_eps=config.norm_eps,
                ),
                GatedFeedForward(
                    width,
                    config.decoder_ffn_embed_dim or _default_ffn_dim(width),
                    activation_name=config.activation_fn,
                    dropout=config.activation_dropout,
                ),
                dropout=config.dropout,
                norm_eps=config.norm_eps,
            )
            for _ in range(config.decoder_layers)
        ]
        output_projection = nn.Linear(width, len(target), bias=False)
        embed_tokens = nn.Embedding(len(source), width, source.pad())
        if config.share_decoder_input_output_embed:
            output_projection.weight = embed_tokens.weight
        decoder = RotaryDecoder(
            embed_tokens,
            RotaryEmbedding(head_dim, config.rope_theta, _scaling(config)),
            layers,
            RMSNorm(width, config.norm_eps),
            output_projection,
            document_start=source.eos() if config.document_mask else None,
            window=config.sliding_window,
            max_positions=config.max_target_positions or config.tokens_per_sample,
            options=StackOptions(
                dropout=config.dropout,
                checkpoint_activations=config.checkpoint_activations,
                offload_activations=config.offload_activations,
            ),
        )
        _initialise(decoder, config)
        return cls(decoder)


def _default_ffn_dim(width: int) -> int:
    return 64 * math.ceil(8 * width / 3 / 64)


def _scaling(config: DecoderLMConfig) -> RotaryScaling:
    return RotaryScaling(
        kind=config.rope_scaling,
        factor=config.rope_factor,
        original=config.rope_original_positions or config.max_target_positions or config.tokens_per_sample,
        low_frequency_factor=config.rope_low_frequency_factor,
        high_frequency_factor=config.rope_high_frequency_factor,
        beta_fast=config.rope_beta_fast,
        beta_slow=config.rope_beta_slow,
        attention_factor=config.rope_attention_factor,
    )


def _initialise(decoder: RotaryDecoder, config: DecoderLMConfig) -> None:
    """Draw all matrices anew."""
    last_std = config.init_std / math.sqrt(2 * config.decoder_layers) if config.scale_residual_init else config.init_std
    for name, parameter in decoder.named_parameters():
        if parameter.dim() < 2:
            continue
        nn.init.normal_(
            parameter,
            mean=0.0,
            std=last_std if name.endswith(("out_proj.weight", "down_proj.weight")) else config.init_std,
        )
    nn.init.zeros_(decoder.embed_tokens.weight[decoder.padding_idx])


def _problems(config: DecoderLMConfig, source: Dictionary, target: Dictionary) -> Iterator[str]:
    """What in the options cannot be, in the user's words."""
    width, heads = config.decoder_embed_dim, config.decoder_attention_heads
    kv_heads = config.decoder_kv_heads or heads
    if heads % kv_heads:
        yield (
            f"model.decoder_kv_heads={kv_heads} does not divide model.decoder_attention_heads={heads}; "
            "each key-value head is shared by the same number of query heads"
        )
    if config.decoder_head_dim is None and width % heads:
        yield (
            f"model.decoder_embed_dim={width} is not divisible by model.decoder_attention_heads={heads}; "
            f"make it {width + heads - width % heads}, change the number of heads, or give model.decoder_head_dim"
        )
    elif (config.decoder_head_dim or width // heads) % 2:
        yield (
            f"a head's width is {config.decoder_head_dim or width // heads} (decoder_embed_dim={width}, "
            f"decoder_attention_heads={heads}); rotary positions turn pairs of channels, so it must be even"
        )
    if config.rope_scaling == "none" and config.rope_factor != 1.0:
        yield f"model.rope_factor={config.rope_factor} needs model.rope_scaling: {', '.join(SCALINGS[1:])}"
    if config.rope_scaling in _NEED_ORIGINAL and config.rope_original_positions is None:
        yield (
            f"model.rope_scaling={config.rope_scaling} needs model.rope_original_positions, the length of the texts "
            "that the model was first trained on"
        )
    if config.rope_low_frequency_factor >= config.rope_high_frequency_factor:
        yield (
            f"model.rope_low_frequency_factor={config.rope_low_frequency_factor} must be below "
            f"model.rope_high_frequency_factor={config.rope_high_frequency_factor}"
        )
    if config.rope_beta_slow >= config.rope_beta_fast:
        yield (
            f"model.rope_beta_slow={config.rope_beta_slow} must be below model.rope_beta_fast={config.rope_beta_fast}"
        )
    if config.share_decoder_input_output_embed and len(source) != len(target):
        yield (
            "model.share_decoder_input_output_embed=true needs one dictionary for input and output, but they have "
            f"{len(source)} and {len(target)} symbols"
        )
