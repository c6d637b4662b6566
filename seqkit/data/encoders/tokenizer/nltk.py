"""The word tokenizer of NLTK (Penn Treebank rules after sentence splitting).

Knows nothing of subwords.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.config.base import Config
from seqkit.data.encoders.base import TextEncoder, register_tokenizer
from seqkit.errors import DataError, require_extra


@dataclass
class NltkConfig(Config):
    """No options."""


@register_tokenizer("nltk", config=NltkConfig)
class Nltk(TextEncoder):
    """Splits off punctuation and contractions; decoding changes nothing."""

    def __init__(self, config: NltkConfig) -> None:
        super().__init__(config)
        self._tokenize = require_extra("nltk.tokenize", extra="nltk", purpose="tokenizer=nltk").word_tokenize

    def encode(self, text: str) -> str:
        """Text to words.

        Raises:
            DataError: NLTK's table of sentence ends is not on this machine.
        """
        try:
            return " ".join(self._tokenize(text))
        except LookupError as error:
            raise DataError(
                "tokenizer=nltk needs NLTK's data set 'punkt_tab'; "
                "get it once with: python -m nltk.downloader punkt_tab"
            ) from error

    def decode(self, tokens: str) -> str:
        """Words to text."""
        return tokens
