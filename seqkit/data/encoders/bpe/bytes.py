"""Every byte of the UTF-8 text is a token, written as one printable character; a space is `▁`.

Knows nothing of dictionaries.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.config.base import Config
from seqkit.data.encoders.base import TextEncoder, register_bpe
from seqkit.data.encoders.bpe._byte_characters import SPACE_MARK, from_byte_characters, to_byte_characters


@dataclass
class BytesConfig(Config):
    """No options."""


@register_bpe("bytes", config=BytesConfig)
class Bytes(TextEncoder):
    """Runs of white space become one space; decoding leaves out bytes that are not UTF-8."""

    def encode(self, text: str) -> str:
        """Text to byte characters."""
        return " ".join(to_byte_characters(text).replace(" ", SPACE_MARK))

    def decode(self, tokens: str) -> str:
        """Byte characters to text."""
        return from_byte_characters(tokens.replace(" ", "").replace(SPACE_MARK, " "))
