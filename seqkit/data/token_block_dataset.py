"""`TokenBlockDataset`: a corpus of sentences cut into blocks of tokens, as language models are trained on.

Knows nothing of dictionaries, targets' meaning or batches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqkit.data.indexed_dataset import IndexedDataset
from seqkit.data.sequence_dataset import Sizes, TokenRows

BREAK_MODES = ("none", "complete", "complete_doc", "eos")

Places = NDArray[np.int64]


class Block(NamedTuple):
    """One block of L tokens, and its neighbours: `target[t]` follows `source[t]`, which follows `past[t]`.

    Attributes:
        source: (L,) the token before each; EOS before the first of a sentence.
        target: (L,) the tokens of the block.
        past: (L,) the token before each of `source`; at the first of a sentence, padding.
    """

    source: Tensor
    target: Tensor
    past: Tensor


class TokenBlockDataset:
    """Blocks of the tokens of `rows`, laid end to end.

    - `none`: blocks of `block_size` tokens (the last may be shorter), wherever sentences end.
    - `complete`: as many whole sentences as fit into `block_size` tokens. A sentence that is longer is a block alone.
    - `complete_doc`: as `complete`, and no block goes beyond a document. A row of `document_sep_len` tokens parts
      documents and is in no block. Blocks of a single token are left out.
    - `eos`: each sentence is a block.

    Args:
        rows: the sentences.
        sizes: (n,) their lengths.
        block_size: most tokens of a block; of no effect with `eos`.
        pad, eos: indices of symbols.
        break_mode: one of `BREAK_MODES`.
        document_sep_len: length of the rows that part documents; by default that of a lone EOS.

    Raises:
        ValueError: an unknown mode, or a block size below 1.
    """

    def __init__(
        self,
        rows: TokenRows,
        sizes: Sizes,
        block_size: int | None,
        *,
        pad: int,
        eos: int,
        break_mode: str = "none",
        document_sep_len: int = 1,
    ) -> None:
        if break_mode not in BREAK_MODES:
            raise ValueError(f"break_mode={break_mode!r} is not one of {', '.join(BREAK_MODES)}")
        if break_mode != "eos" and (block_size is None or block_size < 1):
            raise ValueError(f"block_size={block_size} must be at least 1 with break_mode={break_mode!r}")
        self.rows = rows
        self.pad = pad
        self.eos = eos
        self.break_mode = break_mode
        self._row_ends: Places = np.cumsum(sizes, dtype=np.int64)
        self._starts, ends = _slices(self._row_ends, block_size or 0, break_mode, document_sep_len)
        self.sizes: NDArray[np.int32] = (ends - self._starts).astype(np.int32)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Block:
        first, offset, last = self._place(index)
        length = int(self.sizes[index])
        # Up to two tokens before the block, as far as they are of the same sentence, then the block.
        before = min(offset, 2)
        tokens = self._read(first, last, offset - before, before + length)
        if before < 2:
            tokens = torch.cat((tokens.new_tensor([self.pad, self.eos][before:]), tokens))
        return Block(source=tokens[1 : length + 1], target=tokens[2 : length + 2], past=tokens[:length])

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on to rows that change with it."""
        hook = getattr(self.rows, "set_epoch", None)
        if callable(hook):
            hook(epoch)

    @property
    def slice_indices(self) -> Places:
        """(blocks, 2) where each block begins and ends, in tokens of the corpus."""
        return np.stack((self._starts, self._starts + self.sizes), axis=1)

    @property
    def block_to_dataset_index(self) -> Places:
        """(blocks, 3) of each block the first row, where in it the block begins, and the last row."""
        return np.array([self._place(block) for block in range(len(self))], dtype=np.int64).reshape(-1, 3)

    def _place(self, block: int) -> tuple[int, int, int]:
        if self.break_mode == "eos":
            return block, 0, block
        start = self._starts[block]
        first = int(self._row_ends.searchsorted(start, side="right"))
        last = int(self._row_ends.searchsorted(start + self.sizes[block]))
        return first, int(start - self._row_ends[first - 1]) if first else int(start), last

    def _read(self, first: int, last: int, offset: int, length: int) -> Tensor:
        """`length` tokens of the rows `first` to `last`, from `offset` in the first on."""
        if isinstance(self.rows, IndexedDataset):
            return self.rows.get_across(first, last, offset, length)
        tokens = [self.rows[row] for row in range(first, last + 1)]
        return torch.cat(tokens)[offset : offset + length]


def _slices(row_ends: Places, block_size: int, break_mode: str, document_sep_len: int) -> tuple[Places, Places]:
    """Where blocks begin and end, in tokens of the corpus."""
    row_starts = np.concatenate(([0], row_ends))[:-1]
    if break_mode == "eos":
        return row_starts, row_ends
    if break_mode == "none":
        total = int(row_ends[-1]) if len(row_ends) else 0
        starts = np.arange(0, total, block_size, dtype=np.int64)
        return starts, np.minimum(starts + block_size, total)

    # For every row, the row after the last of a block that would begin with it; blocks then are a walk along these.
    count = len(row_ends)
    rows = np.arange(count)
    after = np.searchsorted(row_ends, row_starts + block_size, side="right")
    # A block has at least one token, however long the sentence: rows without any do not fill it.
    if (row_ends == row_starts).any():
        after = np.maximum(after, np.minimum(np.searchsorted(row_ends, row_starts, side="right") + 1, count))
    else:
        after = np.maximum(after, rows + 1)
    least = 1
    if break_mode == "complete_doc":
        separators = np.flatnonzero(row_ends - row_starts == document_sep_len)
        until = np.append(separators, count)[np.searchsorted(separators, rows)]
        after = np.minimum(after, until)
        after[separators] = separators + 1
        least = 2
    begins = _walk(after.tolist())
    starts, ends = row_starts[begins], row_ends[after[begins] - 1]
    kept = ends - starts >= least
    if break_mode == "complete_doc":
        kept &= ~np.isin(begins, separators)
    return starts[kept], ends[kept]


def _walk(after: list[int]) -> Places:
    """0, `after[0]`, `after[after[0]]`, … as far as the list goes."""
    visited = []
    row, count = 0, len(after)
    while row < count:
        visited.append(row)
        row = after[row]
    return np.array(visited, dtype=np.int64)
