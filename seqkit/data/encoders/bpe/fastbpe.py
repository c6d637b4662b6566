"""Subwords by byte pair encoding with codes from fastBPE.

Knows nothing of dictionaries; applies learnt merges, does not learn them.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.config.base import MISSING, Config, option
from seqkit.data.encoders.base import TextEncoder, register_bpe
from seqkit.data.encoders.bpe._codes import read_fastbpe_codes
from seqkit.data.encoders.bpe._merges import WordCache, apply_merges

_END_OF_WORD = "</w>"
_SEPARATOR = "@@ "


@dataclass
class FastBpeConfig(Config):
    bpe_codes: str = option(MISSING, "file of merges that fastBPE learnt (pairs with their counts)")


@register_bpe("fastbpe", config=FastBpeConfig)
class FastBpe(TextEncoder):
    """Splits words at spaces into pieces; every piece but a word's last ends in `@@`."""

    config: FastBpeConfig

    def __init__(self, config: FastBpeConfig) -> None:
        super().__init__(config)
        self._ranks = read_fastbpe_codes(config.bpe_codes)
        self._words = WordCache(self._encode_word)

    def encode(self, text: str) -> str:
        """Text to pieces (`"lower"` to `"low@@ er"`)."""
        return " ".join([self._words[word] for word in text.split(" ") if word])

    def decode(self, tokens: str) -> str:
        """Pieces to text."""
        return f"{tokens} ".replace(_SEPARATOR, "").rstrip()

    def _encode_word(self, word: str) -> str:
        pieces = apply_merges([*word[:-1], word[-1] + _END_OF_WORD], self._ranks)
        pieces[-1] = pieces[-1].removesuffix(_END_OF_WORD)
        return _SEPARATOR.join(pieces)
