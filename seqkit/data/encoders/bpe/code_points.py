"""Every character is a token, and each text comes back as it was: white space and line ends are spelled out.

Knows nothing of dictionaries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from seqkit.config.base import Config
from seqkit.data.encoders.base import TextEncoder, register_bpe

_SPELLED = re.compile(r"<U\+([0-9A-F]{4,6})>")


@dataclass
class CodePointsConfig(Config):
    """No options."""


@register_bpe("code_points", config=CodePointsConfig)
class CodePoints(TextEncoder):
    """`"a b\\n"` is `"a <U+0020> b <U+000A>"`.

    White space, of which no token can be made, is written by its number in Unicode, as no other character is.
    """

    def encode(self, text: str) -> str:
        """Text, of any number of lines, to characters."""
        return " ".join([f"<U+{ord(character):04X}>" if _parts_words(character) else character for character in text])

    def decode(self, tokens: str) -> str:
        """Characters to text; tokens of several characters (such as that for unknown ones) stay as they are."""
        return "".join([_character(token) for token in tokens.split(" ")])


def _parts_words(character: str) -> bool:
    return character.isspace() or not character.split()


def _character(token: str) -> str:
    spelled = _SPELLED.fullmatch(token)
    return chr(int(spelled[1], 16)) if spelled else token
