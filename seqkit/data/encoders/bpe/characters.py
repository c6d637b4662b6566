"""Every character is a token; a space is written `▁` (U+2581).

Knows nothing of dictionaries.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.config.base import Config
from seqkit.data.encoders.base import TextEncoder, register_bpe

_SPACE_MARK = "\u2581"


@dataclass
class CharactersConfig(Config):
    """No options."""


@register_bpe("characters", config=CharactersConfig)
class Characters(TextEncoder):
    """`"a cat"` is `"a ▁ c a t"`."""

    def encode(self, text: str) -> str:
        """Text to characters."""
        return " ".join(text.replace(" ", _SPACE_MARK))

    def decode(self, tokens: str) -> str:
        """Characters to text."""
        return tokens.replace(" ", "").replace(_SPACE_MARK, " ")
