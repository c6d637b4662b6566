"""Turning blocks of text into ids at the speed of C: the inner loop of preprocessing.

All per-word work is done by `str.split`, `dict.get` and numpy over blocks of many lines. Knows nothing of files.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from seqkit.data.dictionary import Dictionary

LINE_END = "\udc0a"
"""A lone surrogate, which no text decoded from UTF-8 can contain: marks line ends among the words."""
_LINE_END_ID = -1
_NOT_IN_DICTIONARY = -2


@dataclass(frozen=True)
class EncodedLines:
    """Ids of many lines.

    Attributes:
        ids: (tokens,) int64, line after line.
        sizes: (lines,) int64, tokens of each line.
        replaced: words that became unknown (a literal unknown symbol in the text is not counted).
    """

    ids: NDArray[np.int64]
    sizes: NDArray[np.int64]
    replaced: int


class LineEncoder:
    """Ids of blocks of lines, by a dictionary that does not change meanwhile.

    Args:
        dictionary: words that it does not hold become its unknown id.
        append_eos: end each line with the end-of-sentence id.
        reverse_order: last word first.
    """

    def __init__(self, dictionary: Dictionary, *, append_eos: bool = True, reverse_order: bool = False) -> None:
        self.append_eos = append_eos
        self.reverse_order = reverse_order
        self.eos = dictionary.eos()
        self.unk = dictionary.unk()
        self._ids = {**dictionary.indices, LINE_END: _LINE_END_ID}

    def encode(self, text: str) -> EncodedLines:
        """The ids of a block of lines that each end in `\\n`."""
        words = text.replace("\n", f" {LINE_END} ").split()
        found = map(self._ids.get, words, repeat(_NOT_IN_DICTIONARY))
        ids = np.fromiter(found, dtype=np.int64, count=len(words))
        unknown = ids == _NOT_IN_DICTIONARY
        ids[unknown] = self.unk
        ends = np.flatnonzero(ids == _LINE_END_ID)
        sizes = np.diff(ends, prepend=-1)
        if self.reverse_order:
            ids = ids[_reversing(ends, sizes)]
        if self.append_eos:
            ids[ends] = self.eos
        else:
            ids = np.delete(ids, ends)
            sizes -= 1
        return EncodedLines(ids, sizes, int(np.count_nonzero(unknown)))


def _reversing(ends: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions that turn each line's words around and leave the line ends in place."""
    total = int(ends[-1]) + 1 if len(ends) else 0
    places = np.arange(total)
    mirrored = np.repeat(2 * ends - sizes, sizes) - places
    mirrored[ends] = ends
    return mirrored
