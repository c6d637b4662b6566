"""Matching n-grams of token numbers, as fairseq does it or exactly.

fairseq compares n-grams by a 64-bit FNV-1a hash (Fowler, Noll and Vo) of their numbers' four bytes, which it
reads as signed. A byte of 128 or more then sets all upper bits of the hash, so that now and then two
different n-grams have the same hash and count as a match. Figures that are to equal fairseq's need that.
Knows nothing of BLEU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

_OFFSET = 0xCBF29CE484222325
_PRIME = 0x100000001B3
_ALL_BITS = (1 << 64) - 1
_PRIME_TO_THE_FOURTH = pow(_PRIME, 4, 1 << 64)


def exact_ngrams(tokens: Sequence[int], longest: int) -> list[Counter[Hashable]]:
    """For n = 1 to `longest`: how often each n-gram occurs."""
    return [
        Counter(tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)) for n in range(1, longest + 1)
    ]


def hashed_ngrams(tokens: Sequence[int], longest: int) -> list[Counter[Hashable]]:
    """For n = 1 to `longest`: how often each hash of an n-gram occurs. Tokens are 32-bit numbers."""
    hashes: list[list[Hashable]] = [[] for _ in range(longest)]
    for start in range(len(tokens)):
        value = _OFFSET
        for length, token in enumerate(tokens[start : start + longest]):
            if 0 <= token < 128:  # one byte that is not zero, and no sign: the four steps are one product
                value = (value ^ token) * _PRIME_TO_THE_FOURTH & _ALL_BITS
            else:
                for byte in token.to_bytes(4, "little", signed=True):
                    signed = byte if byte < 128 else byte - 256 & _ALL_BITS
                    value = (value ^ signed) * _PRIME & _ALL_BITS
            hashes[length].append(value)
    return [Counter(of_length) for of_length in hashes]
