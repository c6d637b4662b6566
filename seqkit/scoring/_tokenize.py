"""Splitting sentences for scoring: sacrebleu's tokenizers, then punctuation, characters and case.

Knows nothing of any figure.
"""

from __future__ import annotations

import unicodedata

from seqkit.errors import DataError

TOKENIZERS = (
    "none", "zh", "13a", "intl", "char", "ja-mecab", "ko-mecab", "spm", "flores101", "flores200", "spBLEU-1K",
)  # fmt: skip
"""The names of sacrebleu's tokenizers."""
_SPACE_MARK = "\u2581"


class SentenceTokenizer:
    """Makes a sentence into tokens with single spaces between.

    Args:
        name: one of sacrebleu's tokenizers.
        lowercase: lower-case the tokens.
        remove_punctuation: leave out tokens that are nothing but punctuation.
        character_level: make every character a token, spaces (as `▁`) too.

    Raises:
        DataError: sacrebleu cannot make that tokenizer here (a package or a model is missing).
    """

    def __init__(
        self, name: str, *, lowercase: bool = False, remove_punctuation: bool = False, character_level: bool = False
    ) -> None:
        from sacrebleu.metrics.bleu import BLEU

        try:
            self._split = BLEU(tokenize=name).tokenizer
        except (RuntimeError, ImportError, OSError) as error:
            raise DataError(f"sacrebleu's tokenizer {name!r} cannot be used here: {error}") from error
        self._lowercase = lowercase
        self._remove_punctuation = remove_punctuation
        self._character_level = character_level

    def __call__(self, sentence: str) -> str:
        tokens = str(self._split(sentence))
        if self._remove_punctuation:
            tokens = " ".join(token for token in tokens.split(" ") if not _is_punctuation(token))
        if self._character_level:
            tokens = " ".join(tokens.replace(" ", _SPACE_MARK))
        return tokens.lower() if self._lowercase else tokens


def _is_punctuation(token: str) -> bool:
    return all(unicodedata.category(character).startswith("P") for character in token)
