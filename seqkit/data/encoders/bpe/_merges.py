"""Byte pair encoding (Sennrich et al., 2016, section 3.2): applying a list of learnt merges to one word.

Knows nothing of files, of words in sentences, or of how the pieces are marked.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence

Pair = tuple[str, str]


def apply_merges(symbols: Sequence[str], ranks: Mapping[Pair, int]) -> list[str]:
    """Merge neighbours, the pair of lowest rank first, until no neighbours are a known pair.

    All occurrences of a pair are merged, from the left, before the next pair is looked for. Takes
    O(n log n) for n symbols, so that a text without spaces costs no more than one with.

    Args:
        symbols: the word's smallest pieces.
        ranks: each learnt pair's place in the list of merges.
    """
    pieces: list[str | None] = list(symbols)
    end = len(pieces)
    following = list(range(1, end + 1))
    previous = list(range(-1, end - 1))
    queue = [
        (rank, place) for place, pair in enumerate(itertools.pairwise(symbols)) if (rank := ranks.get(pair)) is not None
    ]
    heapq.heapify(queue)

    def rank_at(place: int) -> int | None:
        left, right = pieces[place], following[place]
        if left is None or right == end:
            return None
        return ranks.get((left, pieces[right] or ""))

    while queue:
        rank = queue[0][0]
        merged: list[int] = []
        while queue and queue[0][0] == rank:
            place = heapq.heappop(queue)[1]
            if rank_at(place) != rank:  # a merge on the way took one of the two
                continue
            right = following[place]
            pieces[place] = f"{pieces[place]}{pieces[right]}"
            pieces[right] = None
            following[place] = following[right]
            if following[place] != end:
                previous[following[place]] = place
            merged.append(place)
        for place in merged:
            for start in {previous[place], place} - {-1}:
                new_rank = rank_at(start)
                if new_rank is not None:
                    heapq.heappush(queue, (new_rank, start))
    return [piece for piece in pieces if piece is not None]


class WordCache(dict[str, str]):
    """Remembers what `encode` gives for each word; forgets everything when it has grown to `most` words.

    Words of natural text repeat so often that most are looked up, not computed; the bound keeps memory
    constant in the size of the corpus.
    """

    def __init__(self, encode: Callable[[str], str], most: int = 200_000) -> None:
        super().__init__()
        self._encode = encode
        self._most = most

    def __missing__(self, word: str) -> str:
        if len(self) >= self._most:
            self.clear()
        self[word] = pieces = self._encode(word)
        return pieces

    def __reduce__(self) -> tuple[type[WordCache], tuple[Callable[[str], str], int]]:
        """Workers get an empty cache."""
        return type(self), (self._encode, self._most)
