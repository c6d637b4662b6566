"""Limits on the length of items, from several sides. Knows nothing of what sets them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqkit.errors import DataError


def smallest(*limits: Any) -> Any:
    """The tightest of several limits on length: numbers, pairs (one per side), or None for no limit."""
    given = [limit for limit in limits if limit is not None]
    sides = max((len(limit) for limit in given if isinstance(limit, Sequence)), default=0)
    if sides == 0:
        return min(given, default=None)
    columns = [list(limit) if isinstance(limit, Sequence) else [limit] * sides for limit in given]
    if any(len(column) != sides for column in columns):
        raise DataError(f"limits on length have different numbers of sides: {given}")
    return tuple(
        min((limit for limit in side if limit is not None), default=None) for side in zip(*columns, strict=True)
    )
