"""A language model of gated convolutions (Dauphin et al., 2017).

Builds the decoder of `_convolutional_stack.py` from fairseq's flat options. Knows nothing of losses, search or files.
The named architectures are the files `configs/model/fconv_lm*.yaml`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from seqkit.config.base import Config, option
from seqkit.data.dictionary import Dictionary
from seqkit.errors import ConfigError
from seqkit.models._convolutional_stack import ConvolutionalDecoder, gaussian_embedding, parse_convolutions
from seqkit.models._transformer_decoder import cutoff_problems, parse_cutoffs
from seqkit.models.base import LanguageModel, register_model


@dataclass
class FConvLanguageModelConfig(Config):
    """Options of `fconv_lm`."""

    dropout: float = option(0.1, "dropout on word vectors and on each layer's input", low=0.0, high=1.0)
    decoder_embed_dim: int = option(128, "width of word vectors and before the projection to the vocabulary", low=1)
    decoder_layers: str = option(
        "[(1268, 4)] * 13",
        "layers as (channels, kernel width) or (channels, kernel width, residual): how many layers back the input "
        "added to the output lies, 0 for none",
    )
    decoder_out_embed_dim: int | None = option(None, "of no effect: decoder_embed_dim is used")
    adaptive_softmax_cutoff: str | None = option(
        None, "where the word clusters end, e.g. '10000,50000'; used with criterion=adaptive_loss alone"
    )
    adaptive_softmax_dropout: float = option(0.0, "dropout in the adaptive softmax", low=0.0, high=1.0)
    criterion: str = option("cross_entropy", "adaptive_loss makes the softmax adaptive", follows="criterion._name")
    decoder_attention: str = option("False", "of no effect: a language model has no source to attend to")
    max_target_positions: int | None = option(
        None, "longest text, in tokens; default: any length", low=1, follows="task.max_target_positions"
    )


@register_model("fconv_lm", config=FConvLanguageModelConfig)
class FConvLanguageModel(LanguageModel):
    """Convolutions over the past with gated linear units (Dauphin et al., 2017).

    `model(src_tokens (B, T))` gives logits (B, T, V).
    """

    decoder: ConvolutionalDecoder

    @classmethod
    def build(cls, config: FConvLanguageModelConfig, task: Any) -> FConvLanguageModel:
        """Make the model for the task's dictionaries.

        Raises:
            ConfigError: options that do not fit together, or do not fit the dictionaries; all of them at once.
        """
        words, output_words = task.source_dictionary, task.target_dictionary
        problems = list(_problems(config, words, output_words))
        if problems:
            raise ConfigError(problems)
        cutoff = _cutoff(config)
        decoder = ConvolutionalDecoder(
            gaussian_embedding(len(words), config.decoder_embed_dim, words.pad()),
            parse_convolutions(config.decoder_layers),
            len(output_words),
            out_embed_dim=config.decoder_embed_dim,
            dropout=config.dropout,
            adaptive_softmax_cutoff=None if cutoff is None else parse_cutoffs(cutoff),
            adaptive_softmax_dropout=config.adaptive_softmax_dropout,
            max_positions=config.max_target_positions or sys.maxsize,
        )
        return cls(decoder)


def _cutoff(config: FConvLanguageModelConfig) -> str | None:
    return config.adaptive_softmax_cutoff if config.criterion == "adaptive_loss" else None


def _problems(config: FConvLanguageModelConfig, words: Dictionary | None, output_words: Dictionary) -> Iterator[str]:
    """What in the options cannot be, in the user's words."""
    if words is None:
        yield "model=fconv_lm needs a task with a dictionary of its input; this task has none"
    try:
        parse_convolutions(config.decoder_layers)
    except ValueError as error:
        yield f"model.decoder_layers={config.decoder_layers!r}: {error}"
    yield from cutoff_problems("adaptive_softmax_cutoff", _cutoff(config), len(output_words))
