"""BLEU by sacrebleu (Post, 2018), the figure to compare with other people's.

Knows nothing of subwords or token numbers: it is fed plain text.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.config.base import Config, option
from seqkit.scoring._sacrebleu_metric import SacrebleuMetric
from seqkit.scoring._tokenize import TOKENIZERS, SentenceTokenizer
from seqkit.scoring.base import register_scoring


@dataclass
class SacrebleuConfig(Config):
    sacrebleu_tokenizer: str = option("13a", "how sacrebleu splits sentences into tokens", choices=TOKENIZERS)
    sacrebleu_lowercase: bool = option(False, "compare without regard to case")
    sacrebleu_char_level: bool = option(False, "count n-grams of characters instead of tokens")


@register_scoring("sacrebleu", config=SacrebleuConfig)
class Sacrebleu(SacrebleuMetric):
    """Corpus BLEU of order 4 with sacrebleu's exponential smoothing; single sentences by their effective order."""

    config: SacrebleuConfig

    def __init__(self, config: SacrebleuConfig) -> None:
        from sacrebleu.metrics.bleu import BLEU

        super().__init__(
            config,
            BLEU(tokenize="none", force=True),
            sentence_metric=BLEU(tokenize="none", force=True, effective_order=True),
        )
        self._tokenize = SentenceTokenizer(
            config.sacrebleu_tokenizer,
            lowercase=config.sacrebleu_lowercase,
            character_level=config.sacrebleu_char_level,
        )

    def prepared(self, sentence: str) -> str:
        """The sentence's tokens."""
        return self._tokenize(sentence)
