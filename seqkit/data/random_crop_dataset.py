"""`RandomCropDataset`: from each row that is too long, a piece at random."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from seqkit.data.sequence_dataset import SizedTokenRows


class RandomCropDataset:
    """`length` successive tokens of each of `rows` that has more; which, depends on seed, epoch and row.

    Args:
        rows: the rows to cut.
        length: most tokens to keep.
        seed: of the random places.
    """

    def __init__(self, rows: SizedTokenRows, length: int, seed: int = 1) -> None:
        if length < 1:
            raise ValueError(f"rows cannot be cut to {length} tokens")
        self.rows = rows
        self.length = length
        self.seed = seed
        self.epoch = 0
        self.sizes = np.minimum(rows.sizes, length)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        row = self.rows[index]
        excess = len(row) - self.length
        if excess <= 0:
            return row
        # fairseq's numbers: its generator is seeded with the hash of a tuple of integers.
        rng = np.random.RandomState(int(hash((self.seed, self.epoch, index)) % 1e6))
        start = rng.randint(0, excess)
        return row[start : start + self.length]

    def set_epoch(self, epoch: int) -> None:
        """Take other pieces from now on."""
        self.epoch = epoch
