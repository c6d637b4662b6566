"""Word error rate: edits for each 100 reference words.

Knows nothing of subwords or token numbers: it is fed plain text.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.config.base import Config, option
from seqkit.scoring._edit_distance import edit_distance
from seqkit.scoring._tokenize import TOKENIZERS, SentenceTokenizer
from seqkit.scoring.base import Scorer, register_scoring


@dataclass
class WerConfig(Config):
    wer_tokenizer: str = option("none", "how sacrebleu splits sentences into words", choices=TOKENIZERS)
    wer_remove_punct: bool = option(False, "leave out words that are nothing but punctuation")
    wer_char_level: bool = option(False, "count characters instead of words")
    wer_lowercase: bool = option(False, "compare without regard to case")


@register_scoring("wer", config=WerConfig)
class Wer(Scorer):
    """100 * (insertions + deletions + substitutions) / reference words; 0 is best, more than 100 is possible."""

    config: WerConfig

    def __init__(self, config: WerConfig) -> None:
        super().__init__(config)
        self._tokenize = SentenceTokenizer(
            config.wer_tokenizer,
            lowercase=config.wer_lowercase,
            remove_punctuation=config.wer_remove_punct,
            character_level=config.wer_char_level,
        )
        self.reset()

    def reset(self) -> None:
        """Forget all sentences."""
        super().reset()
        self.distance = 0
        self.reference_length = 0

    def add(self, reference: str, hypothesis: str) -> None:
        """Count one sentence."""
        words = self._tokenize(reference).split()
        self.distance += edit_distance(words, self._tokenize(hypothesis).split())
        self.reference_length += len(words)

    def score(self) -> float:
        """The rate; 0 where the references hold no words."""
        return 100.0 * self.distance / self.reference_length if self.reference_length else 0.0

    def result_string(self) -> str:
        """`WER: 12.34`."""
        return f"WER: {self.score():.2f}"
