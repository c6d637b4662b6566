"""Putting items in order of length: stable, and quick for tens of millions of them.

Knows nothing of datasets or batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Sizes = NDArray[np.integer[Any]]

_MOST_RANKS = 1 << 16
_LARGEST_TABLE = 1 << 24


def order_by_lengths(indices: Indices, sides: Sequence[Sizes]) -> Indices:
    """`indices` by the first side's length, then the second's, and so on; equal ones as they stood.

    Looking lengths up in a random order costs far more than sorting them, since each look-up misses the cache. So the
    lengths of all sides are first made one small number each, in the order in which they lie in memory.

    Args:
        indices: (m,) items.
        sides: arrays of (n,) lengths, at least 0.
    """
    if len(indices) == 0:
        return indices
    ranks = _ranks(sides)
    if ranks is not None:
        return indices[np.argsort(ranks[indices], kind="stable")]
    for lengths in reversed(sides):
        indices = indices[np.argsort(_narrow(lengths)[indices], kind="stable")]
    return indices


def _ranks(sides: Sequence[Sizes]) -> NDArray[np.uint16] | None:
    """The place of each item's lengths among all that occur; None where these do not fit into 16 bits."""
    count = len(sides[0])
    table = 1
    for lengths in sides:
        table *= int(lengths.max()) + 1
    if table > min(_LARGEST_TABLE, max(_MOST_RANKS, 4 * count)):
        return None
    keys = np.zeros(count, dtype=np.int32)
    for lengths in sides:
        keys *= int(lengths.max()) + 1
        keys += lengths
    occurs = np.zeros(table, dtype=np.bool_)
    occurs[keys] = True
    if np.count_nonzero(occurs) > _MOST_RANKS:
        return None
    return (np.cumsum(occurs) - 1).astype(np.uint16)[keys]


def _narrow(lengths: Sizes) -> Sizes:
    """16-bit lengths where they fit: numpy has a radix sort for these, ten times as fast."""
    return lengths.astype(np.uint16) if int(lengths.max()) < 1 << 16 else lengths
