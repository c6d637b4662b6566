"""`FittingBlocksDataset`: blocks of text of which none is longer than a model takes.

Knows nothing of models, of how blocks were cut first, or of their context.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqkit.data.length_order import order_by_lengths
from seqkit.data.monolingual_dataset import MonolingualDataset, TextItem
from seqkit.data.sequence_dataset import Indices, SequenceDataset, Sizes


class FittingBlocksDataset(SequenceDataset):
    """The blocks of a dataset, where those that are too long are cut into pieces, or left out.

    All pieces of a block have its id.

    Args:
        dataset: the blocks.
        longest: most tokens of a block (a BOS before it is not counted).
        leave_out: leave blocks out that are longer, instead of cutting them.

    Attributes:
        too_long: how many blocks are longer.
        tokens_too_long: how many tokens these have.
    """

    def __init__(self, dataset: MonolingualDataset, longest: int, *, leave_out: bool = False) -> None:
        self.dataset = dataset
        self.longest = longest
        blocks = dataset.sizes.astype(np.int64)
        beyond = blocks > longest
        self.too_long = int(np.count_nonzero(beyond))
        self.tokens_too_long = int(blocks[beyond].sum())
        counts = -(-blocks // longest)
        if leave_out:
            counts[beyond] = 0
        self._firsts: NDArray[np.int64] = np.cumsum(counts) - counts
        self._counts: NDArray[np.int64] = counts
        self._blocks: NDArray[np.int64] = np.repeat(np.arange(len(blocks)), counts)
        self._starts: NDArray[np.int64] = (np.arange(len(self._blocks)) - self._firsts[self._blocks]) * longest
        self._sizes: Sizes = np.minimum(blocks[self._blocks] - self._starts, longest).astype(np.int32)

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def sizes(self) -> Sizes:
        """(n,) lengths of the pieces (without a BOS that is put before them)."""
        return self._sizes

    def __getitem__(self, index: int) -> TextItem:
        block, start, size = int(self._blocks[index]), int(self._starts[index]), int(self._sizes[index])
        item = self.dataset[block]
        if self._counts[block] == 1:
            return item
        added = len(item["source"]) - int(self.dataset.sizes[block])

        def piece(row: Tensor) -> Tensor:
            return torch.cat((row[:added], row[added + start : added + start + size]))

        target = item["target"]
        return TextItem(
            id=item["id"],
            source=piece(item["source"]),
            target=[piece(row) for row in target] if isinstance(target, list) else piece(target),
        )

    def collater(self, samples: Sequence[TextItem]) -> Any:
        return self.dataset.collater(samples)

    def ordered_indices(self, rng: np.random.RandomState | None = None) -> Indices:
        """The pieces by length, otherwise in the order of the blocks."""
        order = self.dataset.ordered_indices(rng)
        counts = self._counts[order]
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        return order_by_lengths(np.repeat(self._firsts[order], counts) + within, [self.sizes])

    def set_epoch(self, epoch: int) -> None:
        self.dataset.set_epoch(epoch)
