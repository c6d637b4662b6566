"""`LMContextWindowDataset`: blocks of text, each behind the text that precedes it.

Knows nothing of models or of scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqkit.data.monolingual_dataset import TextItem
from seqkit.data.sequence_dataset import SequenceDataset, Sizes


class LMContextWindowDataset(SequenceDataset):
    """Puts up to `context_window` tokens of context before what is read of each block; their targets are padding.

    So every token of a block is predicted from at least so many tokens (but for the beginning of the text), and each
    is predicted once. A window of context and block has `tokens_per_sample + context_window` tokens; of a block that
    is itself longer than `tokens_per_sample`, the context is shorter by as much.

    The context is read from the blocks before, whatever batch or process they are in.

    Args:
        dataset: the blocks, in the order of the text; its items are `TextItem`s.
        tokens_per_sample: tokens of a block.
        context_window: most tokens of context.
        pad_idx: index of padding.

    Raises:
        ValueError: no context is asked for.
    """

    def __init__(self, dataset: SequenceDataset, tokens_per_sample: int, context_window: int, pad_idx: int) -> None:
        if context_window < 1:
            raise ValueError(f"context_window={context_window} must be at least 1")
        self.dataset = dataset
        self.tokens_per_sample = tokens_per_sample
        self.context_window = context_window
        self.pad_idx = pad_idx
        blocks = dataset.sizes.astype(np.int64)
        room = np.maximum(tokens_per_sample + context_window - blocks, 0)
        context = np.minimum(np.minimum(np.cumsum(blocks) - blocks, context_window), room)
        self._sizes: Sizes = (blocks + context).astype(np.int32)
        self._read: tuple[int, Tensor] = (-1, torch.empty(0, dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def sizes(self) -> Sizes:
        """(n,) lengths of the windows (without a BOS that is put before a block)."""
        return self._sizes

    def __getitem__(self, index: int) -> TextItem:
        item = self.dataset[index]
        source, target = item["source"], item["target"]
        before = self._before(index)
        self._read = index, torch.cat((before, source))[-self.context_window :]
        room = max(self.tokens_per_sample + self.context_window - len(source), 0)
        context = before[max(len(before) - room, 0) :]
        nothing = torch.full_like(context, self.pad_idx)
        return TextItem(
            id=item["id"],
            source=torch.cat((context, source)),
            target=[torch.cat((nothing, row)) for row in target]
            if isinstance(target, list)
            else torch.cat((nothing, target)),
        )

    def _before(self, index: int) -> Tensor:
        """The last `context_window` tokens that are read before a block; what was read last is at hand."""
        last, tokens = self._read
        if index == last + 1:
            return tokens
        parts: list[Tensor] = []
        missing = self.context_window
        while missing > 0 and index > 0:
            index -= 1
            parts.append(self.dataset[index]["source"][-missing:])
            missing -= len(parts[-1])
        return torch.cat(parts[::-1]) if parts else tokens[:0]

    def collater(self, samples: Sequence[TextItem]) -> Any:
        return self.dataset.collater(samples)

    def set_epoch(self, epoch: int) -> None:
        self.dataset.set_epoch(epoch)
