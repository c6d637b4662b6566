"""Subwords by byte pair encoding with codes from subword-nmt (Sennrich et al., 2016).

Knows nothing of dictionaries; applies learnt merges, does not learn them.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.config.base import MISSING, Config, option
from seqkit.data.encoders.base import TextEncoder, register_bpe
from seqkit.data.encoders.bpe._codes import read_subword_nmt_codes
from seqkit.data.encoders.bpe._merges import WordCache, apply_merges

_END_OF_WORD = "</w>"
_EDGES = "\r\n "


@dataclass
class SubwordNmtConfig(Config):
    bpe_codes: str = option(MISSING, "file of merges that subword-nmt learnt (formats 0.1 and 0.2)")
    bpe_separator: str = option("@@", "mark at the end of each piece that the word goes on after")


@register_bpe("subword_nmt", config=SubwordNmtConfig)
class SubwordNmt(TextEncoder):
    """Splits words at single spaces into pieces; every piece but a word's last ends in the separator.

    Spaces at both ends of the line are kept, as subword-nmt keeps them.
    """

    config: SubwordNmtConfig

    def __init__(self, config: SubwordNmtConfig) -> None:
        super().__init__(config)
        self._ranks, self._version = read_subword_nmt_codes(config.bpe_codes)
        self._words = WordCache(self._encode_word)

    def encode(self, text: str) -> str:
        """Text to pieces (`"lower"` to `"low@@ er"`)."""
        inner = text.strip(_EDGES)
        encoded = " ".join([self._words[word] for word in inner.split(" ") if word])
        if len(inner) == len(text):
            return encoded
        start = len(text) - len(text.lstrip(_EDGES))
        if not inner:
            return text
        return f"{text[:start]}{encoded}{text[start + len(inner) :]}"

    def decode(self, tokens: str) -> str:
        """Pieces to text."""
        return f"{tokens} ".replace(f"{self.config.bpe_separator} ", "").rstrip()

    def _encode_word(self, word: str) -> str:
        if len(word) == 1:
            return word
        if self._version == (0, 1):
            symbols = [*word, _END_OF_WORD]
        else:
            symbols = [*word[:-1], word[-1] + _END_OF_WORD]
        pieces = apply_merges(symbols, self._ranks)
        if pieces[-1] == _END_OF_WORD:
            pieces.pop()
        else:
            pieces[-1] = pieces[-1].removesuffix(_END_OF_WORD)
        return f"{self.config.bpe_separator} ".join(pieces)
