"""Bytes as printable characters, so that any text can be handled as a string of 256 letters.

Two tables are in use: fairseq's own (a byte keeps its Latin-1 character where that is printable, and is
else the character 256 places further) and GPT-2's (the same idea, but the remaining bytes take the
characters from 256 on without gaps). Knows nothing of subwords.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

SPACE_MARK = "\u2581"
_WHITESPACE = re.compile(r"\s+")
_PRINTABLE_BEYOND_ASCII = frozenset(range(0xA1, 0x100)) - {0xAD}


def _shifted_table() -> dict[int, str]:
    printable = _PRINTABLE_BEYOND_ASCII | frozenset(range(0x20, 0x7F))
    return {byte: chr(byte if byte in printable else 256 + byte) for byte in range(256)}


def _dense_table() -> dict[int, str]:
    printable = _PRINTABLE_BEYOND_ASCII | frozenset(range(0x21, 0x7F))
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in sorted(printable)} | {byte: chr(256 + n) for n, byte in enumerate(rest)}


BYTE_CHARACTERS: Mapping[int, str] = _shifted_table()
"""fairseq's table."""
GPT2_BYTE_CHARACTERS: Mapping[int, str] = _dense_table()
"""GPT-2's table (Radford et al., 2019)."""
_CHARACTER_BYTES = {character: byte for byte, character in BYTE_CHARACTERS.items()}


def to_byte_characters(text: str) -> str:
    """Text as the characters of its UTF-8 bytes; any run of white space becomes one space first."""
    return "".join(map(BYTE_CHARACTERS.__getitem__, _WHITESPACE.sub(" ", text).encode("utf-8")))


def from_byte_characters(characters: str) -> str:
    """The text that byte characters spell. What is not UTF-8 (or no byte character) is left out.

    A UTF-8 sequence cannot begin inside another, so leaving out the invalid bytes keeps the greatest
    possible number of characters.
    """
    known = (_CHARACTER_BYTES[character] for character in characters if character in _CHARACTER_BYTES)
    return bytes(known).decode("utf-8", errors="ignore")
