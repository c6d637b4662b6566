"""Byte-level BPE (Radford et al., 2019, section 2.2): text to numbers of a vocabulary, and back.

Knows nothing of where tables come from on the command line, or of dictionaries.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import regex  # type: ignore[import-untyped]

from seqkit.data.encoders._files import read_text
from seqkit.data.encoders.bpe._byte_characters import GPT2_BYTE_CHARACTERS
from seqkit.data.encoders.bpe._merges import Pair, WordCache, apply_merges
from seqkit.errors import DataError

_CHARACTER_BYTES = {character: byte for byte, character in GPT2_BYTE_CHARACTERS.items()}
_WORDS = regex.compile(
    r"'(?:[stmd]|re|ve|ll)"  # English contractions
    r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+"  # letters, digits, other signs, each with the space before
    r"|\s+(?!\S)|\s+"  # white space, the last one left to the word after it
)


def read_vocabulary(file: Path, option: str) -> dict[str, int]:
    """Pieces and their numbers, from a JSON object.

    Raises:
        DataError: not JSON, or not an object of whole numbers.
    """
    try:
        table = json.loads(read_text(file, option))
    except json.JSONDecodeError as error:
        raise DataError(f"{option}={file} is not JSON: {error}") from error
    if not isinstance(table, dict) or not all(isinstance(number, int) for number in table.values()):
        raise DataError(f"{option}={file} must be one JSON object of pieces and their whole numbers")
    return table


def read_merges(file: Path, option: str) -> dict[Pair, int]:
    """Ranks of the merges: one pair on each line below an optional `#version` line.

    Raises:
        DataError: a line that is not a pair; its number is named.
    """
    lines = read_text(file, option).split("\n")
    ranks: dict[Pair, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        items = line.split()
        if len(items) != 2:
            raise DataError(f"{option}={file}, line {number}: {line!r} is not two symbols with a space between")
        ranks.setdefault((items[0], items[1]), len(ranks))
    if not ranks:
        raise DataError(f"{option}={file} holds no merges")
    return ranks


class ByteLevelCoder:
    """Text to space-separated numbers and back; loses nothing.

    Args:
        numbers: the number of each piece.
        ranks: the rank of each merge.
        source: the vocabulary's file, for messages.
    """

    def __init__(self, numbers: Mapping[str, int], ranks: Mapping[Pair, int], source: str) -> None:
        self._numbers = numbers
        self._ranks = ranks
        self._source = source
        self._pieces = {str(number): piece for piece, number in numbers.items()}
        self._words = WordCache(self._encode_word)

    def encode(self, text: str) -> str:
        """Text to numbers."""
        return " ".join([self._words[word] for word in _WORDS.findall(text)])

    def decode(self, tokens: Sequence[str]) -> str:
        """Numbers to text. A token that is no number of the vocabulary (`<unk>`) stands for itself."""
        content = bytearray()
        for token in tokens:
            piece = self._pieces.get(token)
            if piece is None:
                content += token.encode("utf-8")
            else:
                content += bytes(_CHARACTER_BYTES[character] for character in piece)
        return content.decode("utf-8", errors="replace")

    def begins_with_space(self, token: str) -> bool:
        """Whether the piece of this number begins with a space."""
        return self.decode([token]).startswith(" ")

    def _encode_word(self, word: str) -> str:
        characters = [GPT2_BYTE_CHARACTERS[byte] for byte in word.encode("utf-8")]
        try:
            return " ".join([str(self._numbers[piece]) for piece in apply_merges(characters, self._ranks)])
        except KeyError as missing:
            raise DataError(
                f"the vocabulary {self._source} has no piece {missing.args[0]!r}; it and the merges are not a pair"
            ) from None
