"""The model `word_dropout_transformer`, and two architectures of it.

A Transformer that forgets some of its source words in training (word dropout, Bowman et al., 2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqkit.config.base import option
from seqkit.models.base import ModelOutput, register_model, register_model_architecture
from seqkit.models.transformer import TransformerConfig, TransformerModel


@dataclass
class WordDropoutTransformerConfig(TransformerConfig):
    """Options of `WordDropoutTransformer`: those of `transformer`, and one more."""

    word_dropout: float = option(0.1, "share of source words that are unknown words in training", low=0.0, high=1.0)


@register_model("word_dropout_transformer", config=WordDropoutTransformerConfig)
class WordDropoutTransformer(TransformerModel):
    """A Transformer whose source words are each replaced by the unknown word with some probability in training."""

    word_dropout = 0.0
    unknown = 3
    first_word = 4

    @classmethod
    def build(cls, config: TransformerConfig, task: Any) -> WordDropoutTransformer:
        model = super().build(config, task)
        assert isinstance(model, cls)
        assert isinstance(config, WordDropoutTransformerConfig)
        model.word_dropout = config.word_dropout
        model.unknown = task.source_dictionary.unk()
        model.first_word = task.source_dictionary.nspecial
        return model

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor | None = None,
        prev_output_tokens: Tensor | None = None,
        **options: Any,
    ) -> ModelOutput:
        """Encode (B, S), decode (B, T); logits (B, T, V)."""
        if self.training and self.word_dropout:
            chosen = torch.rand(src_tokens.shape, device=src_tokens.device) < self.word_dropout
            src_tokens = src_tokens.masked_fill(chosen & (src_tokens >= self.first_word), self.unknown)
        return super().forward(src_tokens, src_lengths, prev_output_tokens, **options)


register_model_architecture(
    "word_dropout_transformer",
    "word_dropout_transformer_iwslt",
    encoder_ffn_embed_dim=1024,
    encoder_attention_heads=4,
    decoder_ffn_embed_dim=1024,
    decoder_attention_heads=4,
)
register_model_architecture(
    "word_dropout_transformer",
    "word_dropout_transformer_tiny",
    encoder_embed_dim=16,
    encoder_ffn_embed_dim=32,
    encoder_layers=1,
    encoder_attention_heads=2,
    decoder_embed_dim=16,
    decoder_ffn_embed_dim=32,
    decoder_layers=1,
    decoder_attention_heads=2,
)
