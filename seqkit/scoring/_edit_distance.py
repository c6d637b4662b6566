"""The least number of insertions, deletions and substitutions between two sequences.

Knows nothing of words or rates.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Levenshtein distance, by whole columns of the table at once as bits of one integer (Hyyrö, 2003).

    Bit i of `rises` says that row i+1 of the present column is one more than row i, of `falls` that it is one less.
    """
    if not first:
        return len(second)
    places: dict[Hashable, int] = {}
    for row, item in enumerate(first):
        places[item] = places.get(item, 0) | 1 << row
    every = (1 << len(first)) - 1
    last = 1 << (len(first) - 1)
    rises, falls, distance = every, 0, len(first)
    for item in second:
        equal = places.get(item, 0)
        same_on_diagonal = (((equal & rises) + rises) ^ rises) | equal | falls
        rises_right = falls | (every & ~(same_on_diagonal | rises))
        falls_right = rises & same_on_diagonal
        distance += bool(rises_right & last) - bool(falls_right & last)
        rises_right = (rises_right << 1 | 1) & every
        falls_right = falls_right << 1 & every
        rises = falls_right | (every & ~(same_on_diagonal | rises_right))
        falls = rises_right & same_on_diagonal
    return distance
