"""`SequenceDataset`: what every dataset promises to batching, iterators and tasks.

Knows nothing of what an item is: that is between the dataset's `__getitem__` and its `collater`.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seqkit.data.batch_by_size import batch_by_size

Indices = NDArray[np.int64]
Sizes = NDArray[np.integer[Any]]


def longest_side(sides: Sequence[Sizes]) -> Sizes:
    """(n,) the larger of each item's lengths."""
    return functools.reduce(np.maximum, sides)


class TokenRows(Protocol):
    """Rows of token ids by number: an indexed dataset, one of its wrappers, or a list of tensors."""

    def __getitem__(self, index: int, /) -> Tensor: ...

    def __len__(self) -> int: ...


class SizedTokenRows(TokenRows, Protocol):
    """Token rows whose lengths are known without reading them."""

    @property
    def sizes(self) -> Sizes:
        """(n,) lengths."""
        ...


class SequenceDataset(ABC):
    """Base of all datasets of sequences, read by number and joined into batches."""

    supports_prefetch: bool = False
    has_fixed_shapes: bool = False
    """Whether `batch_by_size` gives batches of a few shapes, to which a multiple of sentences does not apply."""

    @abstractmethod
    def __getitem__(self, index: int) -> Any:
        """One item, as `collater` takes it."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of items."""

    @abstractmethod
    def collater(self, samples: Sequence[Any]) -> Any:
        """Join items into one batch (a `Sample`); no items make the empty dictionary."""

    @property
    @abstractmethod
    def sizes(self) -> Sizes:
        """Lengths in tokens: (n,), or (n, 2) for pairs of source and target."""

    def size(self, index: int) -> int | tuple[int, ...]:
        """Length of one item; a tuple where there are several sides. Used in reports and filtering."""
        length = self.sizes[index]
        return int(length) if np.ndim(length) == 0 else tuple(int(side) for side in length)

    def num_tokens(self, index: int) -> int:
        """Tokens that one item counts in a batch: its longest side."""
        return int(np.max(self.sizes[index]))

    def num_tokens_vec(self, indices: Indices) -> NDArray[np.int64]:
        """`num_tokens` of many items at once."""
        sides = self.side_sizes()
        if 4 * len(indices) < len(sides[0]):
            return longest_side([side[indices] for side in sides]).astype(np.int64)
        # Looked up once, not once a side: in a random order that is what costs.
        return longest_side(sides)[indices].astype(np.int64)

    def side_sizes(self) -> list[Sizes]:
        """The (n,) lengths of each side: one array, or source and target."""
        return [self.sizes] if self.sizes.ndim == 1 else list(self.sizes.T)

    def ordered_indices(self, rng: np.random.RandomState | None = None) -> Indices:
        """All items in the order in which batches are cut from them.

        Args:
            rng: source of randomness for datasets that shuffle; without it nothing is shuffled.
        """
        return np.arange(len(self), dtype=np.int64)

    def filter_by_size(self, indices: Indices, max_positions: Any) -> tuple[Indices, Indices]:
        """Part `indices` into those that fit and those that are too long, both in their order.

        Args:
            max_positions: longest length (for every side), one limit per side, or None for no limit; a limit of None
                lets any length of that side pass.
        """
        sides = self.side_sizes()
        limits = list(max_positions) if isinstance(max_positions, Sequence) else [max_positions] * len(sides)
        too_long = np.zeros(len(sides[0]), dtype=np.bool_)
        for lengths, limit in zip(sides, limits, strict=False):
            if limit is not None:
                too_long |= lengths > limit
        if not too_long.any():  # spares a look-up of every item
            return indices, indices[:0]
        left_out = too_long[indices]
        return indices[~left_out], indices[left_out]

    def batch_by_size(
        self,
        indices: Indices,
        *,
        max_tokens: int | None = None,
        max_sentences: int | None = None,
        required_batch_size_multiple: int = 1,
    ) -> list[Indices]:
        """Cut ordered indices into batches. See `seqkit.data.batch_by_size`."""
        return batch_by_size(
            indices, self.num_tokens_vec(indices), max_tokens, max_sentences, required_batch_size_multiple
        )

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch, for datasets that change with it."""

    def prefetch(self, indices: Iterable[int]) -> None:
        """Read items ahead of time (called before each epoch where `supports_prefetch`)."""
