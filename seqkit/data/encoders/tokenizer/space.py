"""Every run of white space becomes one space; nothing else is done.

Knows nothing of languages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from seqkit.config.base import Config
from seqkit.data.encoders.base import TextEncoder, register_tokenizer

_WHITESPACE = re.compile(r"\s+")


@dataclass
class SpaceConfig(Config):
    """No options."""


@register_tokenizer("space", config=SpaceConfig)
class Space(TextEncoder):
    """Words are what stands between white space; decoding changes nothing."""

    def encode(self, text: str) -> str:
        """Text to words."""
        return _WHITESPACE.sub(" ", text)

    def decode(self, tokens: str) -> str:
        """Words to text."""
        return tokens
