"""Cutting an ordered list of items into batches by tokens and by sentences.

A batch costs its longest item times its number of items, since the others are padded. Knows nothing of datasets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqkit.errors import DataError

Indices = NDArray[np.int64]

_SHORT = 24
"""Below this many candidates, a plain loop finds the end of a batch faster than array operations do."""


def batch_by_size(
    indices: Iterable[int] | Indices,
    num_tokens: Iterable[int] | NDArray[np.integer[Any]],
    max_tokens: int | None = None,
    max_sentences: int | None = None,
    required_batch_size_multiple: int = 1,
) -> list[Indices]:
    """Cut items into batches, in their order.

    Each batch takes as many of the items that follow as fit; from `required_batch_size_multiple` items on, it takes
    a multiple of that number and leaves the rest to the next batch. The last batches of a list may therefore be
    smaller than the multiple.

    Args:
        indices: (n,) ids of the items.
        num_tokens: (n,) length of each item, in tokens.
        max_tokens: most tokens of a batch, padding included; None or 0 for no limit.
        max_sentences: most items of a batch; None or 0 for no limit.
        required_batch_size_multiple: sizes of batches are a multiple of it, where they reach it.

    Raises:
        DataError: an item alone is longer than `max_tokens`.
    """
    ids, tokens = _as_arrays(indices, num_tokens)
    if len(ids) == 0:
        return []
    token_limit = max_tokens if max_tokens and max_tokens > 0 else None
    sentence_limit = max_sentences if max_sentences and max_sentences > 0 else len(ids)
    if token_limit is not None:
        _refuse_longer_items(ids, tokens, token_limit)
    multiple = max(required_batch_size_multiple, 1)

    counts = np.arange(1, min(sentence_limit, token_limit or sentence_limit, len(ids)) + 1, dtype=np.int64)
    ends: list[int] = []
    start = 0
    while start < len(ids):
        most = min(sentence_limit, len(ids) - start)
        if token_limit is not None:
            most = min(most, token_limit // max(int(tokens[start]), 1))
            most = _fitting(tokens[start : start + most], token_limit, counts)
        if most >= multiple:
            most -= most % multiple
        start += most
        ends.append(start)
    return _split(ids, ends)


def batch_by_bucket(
    indices: Iterable[int] | Indices,
    num_tokens: Iterable[int] | NDArray[np.integer[Any]],
    max_tokens: int | None = None,
    max_sentences: int | None = None,
    required_batch_size_multiple: int = 1,
) -> list[Indices]:
    """Cut items whose lengths were rounded up to a few buckets into batches of a few shapes.

    A length's batches hold `max_sentences` items, or as many as `max_tokens` allows (the smaller where both are given,
    a multiple of `required_batch_size_multiple` where only tokens bind). Arguments and errors as `batch_by_size`.
    """
    ids, tokens = _as_arrays(indices, num_tokens)
    if not max_tokens and not max_sentences:
        raise DataError("task.num_batch_buckets needs dataset.max_tokens or dataset.batch_size")
    if max_tokens and len(ids):
        _refuse_longer_items(ids, tokens, max_tokens)

    def capacity(length: int) -> int:
        if not max_tokens:
            return max_sentences or 1
        size = max_tokens // max(length, 1)
        if max_sentences:
            return min(size, max_sentences)
        if size >= required_batch_size_multiple:
            size -= size % required_batch_size_multiple
        return size

    capacities = {int(length): capacity(int(length)) for length in np.unique(tokens)}
    ends: list[int] = []
    size = longest = 0
    for position, length in enumerate(tokens.tolist()):
        longest = max(longest, length)
        if size and size + 1 > capacities[longest]:
            ends.append(position)
            size, longest = 0, length
        size += 1
    if size:
        ends.append(len(ids))
    return _split(ids, ends)


def _as_arrays(
    indices: Iterable[int] | Indices,
    num_tokens: Iterable[int] | NDArray[np.integer[Any]],
) -> tuple[Indices, NDArray[np.int64]]:
    ids = indices if isinstance(indices, np.ndarray) else np.fromiter(indices, dtype=np.int64)
    tokens = num_tokens if isinstance(num_tokens, np.ndarray) else np.fromiter(num_tokens, dtype=np.int64)
    if len(ids) != len(tokens):
        raise ValueError(f"{len(ids)} ids but {len(tokens)} lengths")
    return ids.astype(np.int64, copy=False), tokens.astype(np.int64, copy=False)


def _refuse_longer_items(ids: Indices, tokens: NDArray[np.int64], max_tokens: int) -> None:
    too_long = tokens > max_tokens
    if too_long.any():
        longest = int(tokens.argmax())
        raise DataError(
            f"dataset.max_tokens={max_tokens} is smaller than the longest sentence (id {ids[longest]}, "
            f"{tokens[longest]} tokens; {int(too_long.sum())} of {len(ids)} sentences are longer); raise it or set "
            "dataset.skip_invalid_size_inputs_valid_test=true to leave such sentences out"
        )


def _fitting(tokens: NDArray[np.int64], max_tokens: int, counts: NDArray[np.int64]) -> int:
    """How many of the leading items fit into `max_tokens`, padded to the longest of them."""
    if len(tokens) > _SHORT:
        cost = np.maximum.accumulate(tokens)
        cost *= counts[: len(tokens)]
        return int(cost.searchsorted(max_tokens, side="right"))
    longest = 0
    for count, length in enumerate(tokens.tolist()):
        if length > longest:
            longest = length
        if (count + 1) * longest > max_tokens:
            return count
    return len(tokens)


def _split(ids: Indices, ends: list[int]) -> list[Indices]:
    starts = [0, *ends[:-1]]
    return [ids[start:end] for start, end in zip(starts, ends, strict=True)]
