"""A language model of long short-term memory (Hochreiter and Schmidhuber, 1997; Sundermeyer et al., 2012).

Builds the decoder of `_lstm_stack.py` from fairseq's flat options. Knows nothing of losses, search or files other than
pretrained word vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from seqkit.config.base import Config, option
from seqkit.data.dictionary import Dictionary
from seqkit.errors import ConfigError
from seqkit.models._lstm_stack import LSTMDecoder, small_embedding, small_linear
from seqkit.models._transformer_decoder import cutoff_problems, parse_cutoffs
from seqkit.models.base import LanguageModel, register_model
from seqkit.modules.adaptive_softmax import AdaptiveSoftmax
from seqkit.modules.embedding import load_embeddings, read_embeddings
from seqkit.modules.recurrent import LSTMLayer


@dataclass
class LSTMLanguageModelConfig(Config):
    """Options of `lstm_lm`."""

    dropout: float = option(0.1, "dropout where decoder_dropout_in and _out are not given", low=0.0, high=1.0)
    decoder_embed_dim: int = option(512, "width of word vectors", low=1)
    decoder_embed_path: str | None = option(None, "text file of pretrained word vectors")
    decoder_hidden_size: int = option(
        512, "width of the hidden states; default decoder_embed_dim", low=1, follows="model.decoder_embed_dim"
    )
    decoder_layers: int = option(1, "number of layers", low=1)
    decoder_out_embed_dim: int = option(512, "width before the projection to the vocabulary", low=1)
    decoder_attention: str = option("0", "of no effect: a language model has no source to attend to")
    decoder_dropout_in: float = option(0.1, "dropout on word vectors", low=0.0, high=1.0, follows="model.dropout")
    decoder_dropout_out: float = option(
        0.1, "dropout on the hidden states of each layer", low=0.0, high=1.0, follows="model.dropout"
    )
    adaptive_softmax_cutoff: str | None = option(
        "10000,50000,200000", "where the word clusters end; used with criterion=adaptive_loss alone"
    )
    criterion: str = option("cross_entropy", "adaptive_loss makes the softmax adaptive", follows="criterion._name")
    residuals: bool = option(False, "each layer but the last adds its hidden states of one step before to its output")
    share_decoder_input_output_embed: bool = option(False, "one matrix for word vectors and output projection")
    tokens_per_sample: int = option(
        1024, "the longest text where max_target_positions is not given", low=1, follows="task.tokens_per_sample"
    )
    max_target_positions: int | None = option(
        None, "longest text, in tokens; default tokens_per_sample", low=1, follows="task.max_target_positions"
    )


@register_model("lstm_lm", config=LSTMLanguageModelConfig)
class LSTMLanguageModel(LanguageModel):
    """Layers of LSTM that read a text from left to right (Sundermeyer et al., 2012).

    `model(src_tokens (B, T))` gives logits (B, T, V).
    """

    decoder: LSTMDecoder

    @classmethod
    def build(cls, config: LSTMLanguageModelConfig, task: Any) -> LSTMLanguageModel:
        """Make the model for the task's dictionaries.

        Raises:
            ConfigError: options that do not fit together, or do not fit the dictionaries; all of them at once.
            DataError: pretrained vectors that cannot be read.
        """
        words, output_words = task.source_dictionary, task.target_dictionary
        problems = list(_problems(config, words, output_words))
        if problems:
            raise ConfigError(problems)
        # Random numbers are drawn in this order so that a seed gives the parameters that fairseq draws from it.
        embed_tokens = small_embedding(len(words), config.decoder_embed_dim, words.pad())
        if config.decoder_embed_path:
            load_embeddings(embed_tokens, words.symbols, read_embeddings(config.decoder_embed_path))
        hidden, width = config.decoder_hidden_size, config.decoder_out_embed_dim
        layers = [
            LSTMLayer(hidden if place else config.decoder_embed_dim, hidden) for place in range(config.decoder_layers)
        ]
        additional_fc: nn.Linear | None = None
        output: nn.Linear | AdaptiveSoftmax | None = None
        cutoff = _cutoff(config)
        if cutoff is not None:
            output = AdaptiveSoftmax(
                len(output_words), hidden, parse_cutoffs(cutoff), dropout=config.decoder_dropout_out
            )
        else:
            if hidden != width:
                additional_fc = small_linear(hidden, width)
            if not config.share_decoder_input_output_embed:
                output = small_linear(width, len(output_words))
        decoder = LSTMDecoder(
            embed_tokens,
            layers,
            additional_fc,
            output,
            dropout_in=config.decoder_dropout_in,
            dropout_out=config.decoder_dropout_out,
            residuals=config.residuals,
            max_positions=config.max_target_positions or config.tokens_per_sample,
        )
        return cls(decoder)


def _cutoff(config: LSTMLanguageModelConfig) -> str | None:
    return config.adaptive_softmax_cutoff if config.criterion == "adaptive_loss" else None


def _problems(config: LSTMLanguageModelConfig, words: Dictionary | None, output_words: Dictionary) -> Iterator[str]:
    """What in the options cannot be, in the user's words."""
    if words is None:
        yield "model=lstm_lm needs a task with a dictionary of its input; this task has none"
    if config.share_decoder_input_output_embed:
        if words is not None and words != output_words:
            yield (
                "model.share_decoder_input_output_embed=true needs one dictionary for input and output, but they have "
                f"{len(words)} and {len(output_words)} symbols"
            )
        if config.decoder_embed_dim != config.decoder_out_embed_dim:
            yield (
                "model.share_decoder_input_output_embed=true needs word vectors and output of one width, got "
                f"decoder_embed_dim={config.decoder_embed_dim}, decoder_out_embed_dim={config.decoder_out_embed_dim}"
            )
    yield from cutoff_problems("adaptive_softmax_cutoff", _cutoff(config), len(output_words))
